"""Keras 3's .weights.h5 as it is found, written by hand here, and files that are wrong."""

from __future__ import annotations

import resource
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import hostile
from thyrojax.errors import WeightsError
from thyrojax.weights import Weights, names, read
from thyrojax.weights.formats import hdf5, keras_weights
from thyrojax.weights.types import KERAS_VARIANT, Arrays

NARROW = 0.05
# Unit of each convolution and BatchNorm by its number in the file, in the first block of blocks:
# what Keras 3.15.1 wrote as `layers/conv2d_N` had this number in the layer's own name.
FIRST_BLOCK = {5: 8, 6: 6, 7: 9, 8: 5, 9: 7, 10: 10, 11: 11}

ChangeFile = Callable[[h5py.File], None]
New = Callable[..., Path]


@pytest.fixture
def arrays(new_arrays: Callable[..., Arrays]) -> Arrays:
    return new_arrays()


@pytest.fixture
def new(tmp_path: Path, arrays: Arrays) -> New:
    """Writes a narrow trunk as Keras would, with the layers' own names or without; then `change`.

    `scope` stands before `layers/`: the models that the network is within.
    """

    def write(
        change: ChangeFile | None = None, named: bool = True, scope: str = "", first: int = 0
    ) -> Path:
        path = tmp_path / "new.weights.h5"
        keras_weights.write(path, arrays, KERAS_VARIANT, {})
        with h5py.File(path, "r+") as file:
            del file.attrs["thyrojax"]
            layers = file["layers"]
            del file["vars"]
            for layer in list(layers):
                group = layers[layer]["vars"]
                if not len(group):  # not every version of Keras has them
                    del layers[layer]
                    continue
                kind, _, number = str(group.attrs["name"]).rpartition("_")
                if not number.isdigit():
                    kind, number = str(group.attrs["name"]), "0"
                if named:
                    group.attrs["name"] = f"{kind}_{int(number) + first}"
                else:
                    del group.attrs["name"]
            if scope:
                file.move("layers", "moved")
                file.require_group(scope)
                file.move("moved", f"{scope}/layers")
            if change:
                change(file)
        return path

    return write


def assert_same(weights: Weights, arrays: Arrays) -> None:
    assert weights.arrays.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(weights.arrays[name], array)


def test_kernels_stand_where_keras_has_them(new: New, arrays: Arrays) -> None:
    """Numbers written down from a file of Keras' own, not from our writer's."""
    with h5py.File(new()) as file:
        for in_file, created in FIRST_BLOCK.items():
            unit = names.UNITS[created].path
            conv, norm = (f"layers/{k}_{in_file}/vars" for k in ("conv2d", "batch_normalization"))
            np.testing.assert_array_equal(file[f"{conv}/0"], arrays[f"params/{unit}/conv/kernel"])
            np.testing.assert_array_equal(file[f"{norm}/0"], arrays[f"params/{unit}/bn/bias"])
            np.testing.assert_array_equal(file[f"{norm}/1"], arrays[f"batch_stats/{unit}/bn/mean"])
            np.testing.assert_array_equal(file[f"{norm}/2"], arrays[f"batch_stats/{unit}/bn/var"])


@pytest.mark.parametrize("named", [True, False], ids=["named", "nameless"])
@pytest.mark.parametrize("scope", ["", "layers/functional", "base"])
def test_trunk_is_found_within_any_model(new: New, arrays: Arrays, named: bool, scope: str) -> None:
    weights = read(new(named=named, scope=scope, first=94), depth_multiplier=NARROW)
    assert_same(weights, arrays)
    assert weights.format == "keras-weights"
    assert weights.variant == KERAS_VARIANT
    assert not weights.ignored


def test_scales_come_first_where_there_are_any(new: New, arrays: Arrays) -> None:
    def change(file: h5py.File) -> None:
        for layer in list(file["layers"]):
            if layer.startswith("batch"):
                group = file[f"layers/{layer}/vars"]
                for i in (2, 1, 0):
                    group.move(str(i), str(i + 1))
                group["0"] = np.full(group["1"].shape, 2, np.float32)

    weights = read(new(change), depth_multiplier=NARROW)
    assert (weights.params["Mixed_7c"]["branch_pool"]["bn"]["scale"] == 2).all()
    scales = {name: array * 2 for name, array in arrays.items() if name.endswith("bn/scale")}
    assert_same(weights, arrays | scales)


def add_classifier(file: h5py.File) -> None:
    file["layers/dense/vars/0"] = np.full((names.head_shapes(5, NARROW)[names.HEAD_KERNEL]), 0.25)
    file["layers/dense/vars/1"] = np.full(5, 0.5)


def test_classifier_is_kept_unless_it_is_to_be_dropped(new: New) -> None:
    path = new(add_classifier, scope="layers/functional")
    weights = read(path, depth_multiplier=NARROW)
    assert (weights.params["fc"]["kernel"] == 0.25).all()
    assert (weights.params["fc"]["bias"] == 0.5).all()
    assert read(path, head="drop", depth_multiplier=NARROW).ignored == dict.fromkeys(
        ["layers/dense/vars/0", "layers/dense/vars/1"], "classifier: not asked for"
    )


def test_what_stands_beside_the_trunk_is_ignored_by_name(new: New, arrays: Arrays) -> None:
    def change(file: h5py.File) -> None:
        add_classifier(file)
        file["layers/dense_1/vars/0"] = np.ones((5, 2), "f4")
        file["layers/dense_1/vars/1"] = np.ones(2, "f4")
        file["layers/p_re_lu/vars/0"] = np.ones(5, "f4")
        for i in range(4):
            file[f"layers/batch_normalization/vars/{i}"] = np.ones(5, "f4")
        file["layers/dropout/seed_generator/vars/0"] = np.ones(2, "u4")
        file["optimizer/vars/0"] = 7
        file["metrics/mean/vars/0"] = 0.5
        file.create_group("layers/rescaling/vars").attrs["name"] = "rescaling"

    weights = read(new(change, scope="layers/functional"), depth_multiplier=NARROW)
    assert_same(weights, arrays)
    dense = [f"layers/{layer}/vars/{i}" for layer in ("dense", "dense_1") for i in (0, 1)]
    after = ["layers/p_re_lu/vars/0", *(f"layers/batch_normalization/vars/{i}" for i in range(4))]
    assert weights.ignored == {
        **dict.fromkeys(dense, "foreign head: dense layer"),
        **dict.fromkeys(after, "foreign head: layer after the trunk"),
        "layers/dropout/seed_generator/vars/0": "state of a random number generator",
        "optimizer/vars/0": "optimizer slot",
        "metrics/mean/vars/0": "state of a metric",
        "layers/rescaling/vars": "no parameters",
    }


def test_convolutions_after_the_trunk_are_ignored_by_name(new: New, arrays: Arrays) -> None:
    def change(file: h5py.File) -> None:
        file["layers/conv2d_94/vars/0"] = np.ones((1, 1, 96, 8), "f4")
        file["layers/conv2d_94/vars/1"] = np.ones(8, "f4")

    weights = read(new(change, named=False), depth_multiplier=NARROW)
    assert_same(weights, arrays)
    assert set(weights.ignored.values()) == {"foreign head: layer after the trunk"}


def test_floats_of_16_bits_are_read(new: New, arrays: Arrays) -> None:
    """Keras 3 keeps Google's as two bytes without a type, and says so in an attribute."""
    kernel = arrays["params/Conv2d_1a_3x3/conv/kernel"]

    def change(file: h5py.File) -> None:
        group = file["layers/conv2d/vars"]
        del group["0"]
        upper = (kernel.view(np.uint32) >> 16).astype(np.uint16)
        group.create_dataset("0", data=upper.view("V2")).attrs["dtype"] = "bfloat16"

    found = read(new(change), depth_multiplier=NARROW).params["Conv2d_1a_3x3"]["conv"]["kernel"]
    np.testing.assert_allclose(found, kernel, rtol=2**-7)
    assert not (found.view(np.uint32) & 0xFFFF).any()


def replaced(key: str, shape: tuple[int, ...], dtype: Any = "f4", **options: Any) -> ChangeFile:
    def change(file: h5py.File) -> None:
        del file[key]
        file.create_dataset(key, shape, dtype, **options)

    return change


def added(values: dict[str, Any]) -> ChangeFile:
    def change(file: h5py.File) -> None:
        for key, value in values.items():
            file[key] = value

    return change


def described(text: str) -> ChangeFile:
    def change(file: h5py.File) -> None:
        file.attrs["thyrojax"] = text

    return change


def removed(file: h5py.File) -> None:
    del file["layers/conv2d_5"], file["layers/batch_normalization_7/vars/1"]


def second_trunk(file: h5py.File) -> None:
    file.copy("layers", "layers/functional/layers")


def not_finite(file: h5py.File) -> None:
    file["layers/conv2d/vars/0"][0, 0, 0, 0] = np.nan


FAULTS: dict[str, tuple[ChangeFile, list[str]]] = {
    "layers missing": (
        removed,
        [
            r"layer conv2d_8/kernel: found none, expected it for params/Mixed_5b/branch3x3dbl_1",
            r"layers/batch_normalization_7/vars/0: found an unknown array",
        ],
    ),
    "wrong shape": (replaced("layers/conv2d_5/vars/0", (1, 1, 16, 17)), [r"found shape \(1, 1, "]),
    "size that lies": (
        replaced("layers/conv2d_5/vars/0", (2**20, 2**20, 16, 16), chunks=(1, 1, 16, 16)),
        [r"layers/conv2d_5/vars/0: found shape \(1048576,"],
    ),
    "object references": (
        replaced("layers/conv2d_5/vars/0", (1, 1, 16, 16), h5py.ref_dtype),
        [r"found values of type object"],
    ),
    "two bytes of something": (
        replaced("layers/conv2d_5/vars/0", (1, 1, 16, 16), "V2"),
        [r"found values of type \|V2, expected floats"],
    ),
    "convolution with a bias": (
        added({"layers/conv2d_5/vars/1": np.zeros(16, "f4")}),
        [r"layers/conv2d_5/vars/1: found an unknown array"],
    ),
    "array outside of the layout": (
        added({"layers/mystery/w": np.zeros(3)}),
        [r"layers/mystery/w: found an array outside of Keras 3's layout"],
    ),
    "images normalised before": (
        added({"layers/normalization/vars/0": np.zeros(3)}),
        [r"layers/normalization/vars/0: found an array neither"],
    ),
    "convolution before, in another model": (
        added({"front/conv2d/vars/0": np.zeros((1, 1, 1, 3))}),
        [r"front/conv2d/vars/0: found an array neither"],
    ),
    "two trunks": (
        second_trunk,
        [r"found a trunk in layers/ and another in layers/functional/layers/, expected one"],
    ),
    "not finite": (not_finite, [r"layers/conv2d/vars/0: found 1 values not finite"]),
    "external link": (
        added({"layers/conv2d_99": h5py.ExternalLink("/etc/hostname", "/")}),
        [r"layers/conv2d_99: found a soft or external link"],
    ),
    "description of nonsense": (described("{"), [r"found a description that cannot be read"]),
    "description with a strange epsilon": (
        described('{"variant": {"epsilon": 7.0}}'),
        [r"epsilon: found 7\.0, expected a number between 0 and 1"],
    ),
    "giant description": (described("x" * (2**20 + 1)), [r"found a description of 1048577 bytes"]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_named_in_one_line(new: New, fault: str) -> None:
    change, patterns = FAULTS[fault]
    path = new(change)
    hostile.assert_refused(lambda p: read(p, depth_multiplier=NARROW), path, *patterns)


def test_missing_layers_are_named_by_their_path_where_they_have_no_names(new: New) -> None:
    def change(file: h5py.File) -> None:
        del file["layers/conv2d_5"]

    with pytest.raises(WeightsError, match=r"layers/conv2d_5/kernel: found none"):
        read(new(change, named=False), depth_multiplier=NARROW)


def test_another_network_is_refused(new: New) -> None:
    def change(file: h5py.File) -> None:
        for i in range(20, 94):
            del file[f"layers/conv2d_{i}"]

    with pytest.raises(WeightsError, match=r"conv2d: found 20 layers of which \d+ have"):
        read(new(change), depth_multiplier=NARROW)


@pytest.mark.parametrize("version", ["earliest", "v108", "latest"])
def test_texts_are_read_from_files_of_any_version(tmp_path: Path, version: str) -> None:
    path = tmp_path / "new.h5"
    long = ["a" * 1000] * 70
    with h5py.File(path, "w", libver=version, userblock_size=512) as file:
        file["layer"] = np.zeros(3)
        file["layer"].attrs["name"] = "conv2d_7"
        file.attrs["fixed0"] = np.array(["a", "b"], "S")
        file.attrs["fixed1"] = np.array(["c"], "S")
        file.attrs["long"] = long
        file.attrs["number"] = 7
        file.attrs["giant"] = "x" * (2**23 + 1)
    with hdf5.open_file(path) as opened:
        assert opened.names(opened.root["layer"], "name") == ["conv2d_7"]
        assert opened.names(opened.root, "fixed") == ["a", "b", "c"]
        assert opened.names(opened.root, "long") == long
        for attribute in ("number", "giant", "none"):
            assert opened.names(opened.root, attribute) == []


@pytest.mark.parametrize("entry", [bytes(16), b"\x01" + bytes(7) + b"\xff" * 8], ids=["0", "2^64"])
def test_heap_of_texts_without_end_is_refused(new: New, entry: bytes) -> None:
    """The HDF5 library would read the layers' names from it for ever."""
    path = new()
    content = bytearray(path.read_bytes())
    at = content.index(b"GCOL\x01") + 16
    content[at : at + 16] = entry
    path.write_bytes(content)
    start = time.thread_time()
    with pytest.raises(WeightsError, match=rf"found damage in the heap at byte {at - 16}"):
        read(path, depth_multiplier=NARROW)
    assert time.thread_time() - start < 10.0  # of this thread's own work, whatever else runs


def test_texts_that_say_they_are_giant_take_no_memory(new: New) -> None:
    """The HDF5 library would take 2 GB before it looked at the text of 15 bytes."""
    text = '{"giant": false}'
    path = new(described(text))
    content = bytearray(path.read_bytes())
    heap = content.rindex(b"GCOL\x01", 0, content.index(text.encode()))
    at = [
        i
        for i in range(len(content) - 16)
        if content[i : i + 4] == struct.pack("<L", len(text))
        and content[i + 4 : i + 12] == struct.pack("<Q", heap)
    ]
    content[at[-1] : at[-1] + 4] = struct.pack("<L", 2**31)
    path.write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert not read(path, depth_multiplier=NARROW).metadata
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 100_000  # kB


def test_damaged_files_are_read_or_refused(new: New) -> None:
    counts = hostile.fuzz(
        new(), lambda path: read(path, depth_multiplier=NARROW), n=60, max_seconds=3.0
    )
    assert sum(counts.values()) == 60
    assert counts["refused"] > 6
