"""What is written for Keras: its own names and order, every bit, and the same file each time."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from thyrojax.weights import Weights, change, names, read, write
from thyrojax.weights.types import VARIANTS, Arrays, Variant

NARROW = 0.05
ENDINGS = {"keras-h5": ".h5", "keras-weights": ".weights.h5", "keras": ".keras"}
EMPTY_GROUPS = {"keras-h5": 0, "keras-weights": 125, "keras": 133}  # the last with 8 paddings
METADATA = {"labels": ["harmlos", "bösartig"], "input_size": 384}
UNUSUAL = Variant("padded", "max", 2e-3, "(x-128)/128")
NO_AUX = "AuxLogits: left out, Keras' class has none"

New = Callable[..., Arrays]


def weights_of(arrays: Arrays, variant: Variant = VARIANTS["keras"]) -> Weights:
    return Weights(arrays, variant, "test", (), {}, Path("test"), "", NARROW, metadata=METADATA)


def assert_same(found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("options", [{}, {"classes": 7}, {"channels": 1}])
@pytest.mark.parametrize("name", ENDINGS)
def test_every_bit_comes_back_with_its_description(
    tmp_path: Path, new_arrays: New, name: str, options: dict[str, int]
) -> None:
    arrays, path = new_arrays(**options), tmp_path / f"new{ENDINGS[name]}"
    assert write(weights_of(arrays, UNUSUAL), path) == ()
    back = read(path, depth_multiplier=NARROW)
    assert_same(back.arrays, arrays)
    assert back.format == name
    assert back.variant == UNUSUAL
    assert back.metadata["labels"] == METADATA["labels"]
    assert back.metadata["source"]["format"] == "test"
    empty = {key for key, reason in back.ignored.items() if reason == "no parameters"}
    assert len(empty) == EMPTY_GROUPS[name]
    extra = {"config.json"} if name == "keras" else set()
    assert back.ignored.keys() - empty == extra


@pytest.mark.parametrize("name", ENDINGS)
def test_the_same_network_is_the_same_file(tmp_path: Path, new_arrays: New, name: str) -> None:
    contents = []
    for i in range(2):
        path = tmp_path / str(i) / f"new{ENDINGS[name]}"
        write(weights_of(new_arrays(classes=3)), path)
        contents.append(path.read_bytes())
    assert contents[0] == contents[1]


@pytest.mark.parametrize("name", ["keras-h5", "keras-weights"])
def test_scales_that_keras_class_lacks_are_folded(
    tmp_path: Path, new_arrays: New, name: str
) -> None:
    arrays, path = new_arrays(classes=2, aux=True, scales=True), tmp_path / f"new{ENDINGS[name]}"
    notes = write(weights_of(arrays), path)
    assert notes[0] == NO_AUX
    assert notes[1].startswith("BatchNorm scales of 94 units: folded")
    trunk = {key: array for key, array in arrays.items() if "AuxLogits" not in key}
    assert_same(read(path, depth_multiplier=NARROW).arrays, change.fold_scales(trunk))


def test_scales_stay_in_a_whole_model(tmp_path: Path, new_arrays: New) -> None:
    arrays, path = new_arrays(classes=2, aux=True, scales=True), tmp_path / "new.keras"
    assert write(weights_of(arrays), path) == (NO_AUX,)
    trunk = {key: array for key, array in arrays.items() if "AuxLogits" not in key}
    assert_same(read(path, depth_multiplier=NARROW).arrays, trunk)


def test_legacy_file_has_the_names_and_attributes_that_keras_looks_for(
    tmp_path: Path, new_arrays: New
) -> None:
    """As in the files that Keras' authors publish, which Keras reads in this order."""
    arrays, path = new_arrays(classes=7), tmp_path / "new.h5"
    write(weights_of(arrays), path)
    with h5py.File(path) as file:
        assert file.attrs["keras_version"].decode().startswith("2.")
        assert file.attrs["backend"] == b"tensorflow"
        layers = [name.decode() for name in file.attrs["layer_names"]]
        assert len(layers) == 2 * 94 + 1
        assert layers[10:14] == ["conv2d_8", "batch_normalization_8", "conv2d_6", "conv2d_9"]
        assert layers[-1] == "predictions"
        group = file["batch_normalization_8"]
        assert [name.decode() for name in group.attrs["weight_names"]] == [
            f"batch_normalization_8/{array}:0"
            for array in ("beta", "moving_mean", "moving_variance")
        ]
        kernel = file["conv2d_8/conv2d_8/kernel:0"]
        np.testing.assert_array_equal(kernel, arrays["params/Mixed_5b/branch3x3dbl_1/conv/kernel"])


def test_legacy_file_under_a_name_that_keras_takes_for_another_is_said(
    tmp_path: Path, new_arrays: New
) -> None:
    notes = write(weights_of(new_arrays()), tmp_path / "new.weights.h5", to="keras-h5")
    assert notes == ("name: Keras takes .weights.h5 for its newer format, so rename it to load it",)


def layers_of(path: Path) -> dict[str, dict[str, Any]]:
    with zipfile.ZipFile(path) as archive:
        model = json.loads(archive.read("config.json"))
    return {layer["name"]: layer for layer in model["config"]["layers"]}


def test_model_is_described_as_the_weights_are(tmp_path: Path, new_arrays: New) -> None:
    path = tmp_path / "new.keras"
    write(weights_of(new_arrays(classes=7, channels=1), UNUSUAL), path)
    layers = layers_of(path)
    assert layers["input_layer"]["config"]["batch_shape"] == [None, 384, 384, 1]
    assert layers["conv2d"]["config"]["filters"] == 16
    assert layers["conv2d"]["config"]["strides"] == [2, 2]
    assert layers["batch_normalization"]["config"]["epsilon"] == 2e-3
    assert not layers["batch_normalization"]["config"]["scale"]
    assert layers["predictions"]["config"]["units"] == 7
    assert layers["predictions"]["config"]["activation"] == "softmax"
    assert layers["average_pooling2d"]["config"]["padding"] == "valid"
    (node,) = layers["average_pooling2d"]["inbound_nodes"]
    assert node["args"][0]["config"]["keras_history"] == ["zero_padding2d", 0, 0]


def test_files_in_a_model_archive_are_plain(tmp_path: Path, new_arrays: New) -> None:
    path = tmp_path / "new.keras"
    write(weights_of(new_arrays()), path)
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["metadata.json", "config.json", "model.weights.h5"]
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
        about = json.loads(archive.read("metadata.json"))
    assert about["thyrojax"]["variant"]["preprocessing"] == "x/127.5-1"


def test_kernel_of_a_file_is_that_of_its_unit(tmp_path: Path, new_arrays: New) -> None:
    arrays, path = new_arrays(), tmp_path / "new.weights.h5"
    write(weights_of(arrays), path)
    with h5py.File(path) as file:
        assert file["layers/conv2d_92/vars"].attrs["name"] == "conv2d_85"
        np.testing.assert_array_equal(
            file["layers/conv2d_92/vars/0"],
            arrays[f"params/{names.UNITS[85].path}/conv/kernel"],
        )
