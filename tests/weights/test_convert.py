"""Conversions between all formats that can be written: what went in comes out."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thyrojax.errors import WeightsError
from thyrojax.weights import VARIANTS, Variant, Weights, convert, names, read, write
from thyrojax.weights.store import writable
from thyrojax.weights.types import Arrays

NewArrays = Callable[..., Arrays]

WRITABLE = {name: module for name, module in writable().items() if not hasattr(module, "run")}
NARROW = 0.05


def new_file(
    folder: Path, to: str, arrays: Arrays, variant: str = "keras", **metadata: object
) -> Path:
    """A file of a format, from arrays that came from nowhere."""
    given = Weights(
        arrays,
        VARIANTS[variant],
        "none",
        (),
        {},
        Path("nowhere"),
        "",
        depth_multiplier=NARROW,
        metadata=metadata,
    )
    path = folder / f"{to}{WRITABLE[to].ENDING}"
    write(given, path, to)
    return path


def assert_same_bits(found: Arrays, expected: Arrays) -> None:
    assert found.keys() == expected.keys()
    for path, array in expected.items():
        assert found[path].tobytes() == array.tobytes(), path


@pytest.mark.parametrize("second", WRITABLE)
@pytest.mark.parametrize("first", WRITABLE)
def test_there_and_back_again_every_bit_is_the_same(
    tmp_path: Path, new_arrays: NewArrays, first: str, second: str
) -> None:
    arrays = new_arrays(classes=5)
    start = new_file(tmp_path, first, arrays)
    there = tmp_path / f"there{WRITABLE[second].ENDING}"
    back = tmp_path / f"back{WRITABLE[first].ENDING}"
    options = {"depth_multiplier": NARROW, "probe": False}
    convert(start, there, second, **options)
    convert(there, back, first, **options)
    returned = read(back, depth_multiplier=NARROW)
    assert_same_bits(returned.arrays, arrays)
    assert returned.variant == VARIANTS["keras"]
    assert returned.format == first


@pytest.mark.parametrize("to", WRITABLE)
def test_grey_weights_come_back_bit_for_bit(tmp_path: Path, new_arrays: NewArrays, to: str) -> None:
    arrays = new_arrays(classes=2, channels=1)
    found = read(new_file(tmp_path, to, arrays), depth_multiplier=NARROW)
    if found.channels == 3:
        convert(found.path, tmp_path / "grey.safetensors", "flax", fold_grey=True, probe=False,
                depth_multiplier=NARROW)  # fmt: skip
        found = read(tmp_path / "grey.safetensors", depth_multiplier=NARROW)
    assert_same_bits(found.arrays, arrays)


@pytest.mark.parametrize("to", WRITABLE)
def test_fine_tuned_networks_keep_what_a_hospital_needs_to_run_them(
    tmp_path: Path, new_arrays: NewArrays, to: str
) -> None:
    told = {
        "labels": ["benign", "malignant"],
        "input_size": 384,
        "crop": {"shape": "square", "border": "constant", "margin": 50},
    }
    path = new_file(tmp_path, to, new_arrays(classes=2), "keras", **told)
    found = read(path, depth_multiplier=NARROW)
    assert {name: found.metadata[name] for name in told} == told
    assert found.metadata["source"]["file"] == "nowhere"
    assert found.classes == 2


@pytest.mark.parametrize("to", WRITABLE)
def test_variant_travels_with_the_file(tmp_path: Path, new_arrays: NewArrays, to: str) -> None:
    for variant in ("gluon", "fid2015"):
        folder = tmp_path / variant
        path = new_file(folder, to, new_arrays(), variant)
        assert read(path, depth_multiplier=NARROW).variant == VARIANTS[variant]


@pytest.mark.parametrize("to", WRITABLE)
def test_same_weights_are_the_same_file(tmp_path: Path, new_arrays: NewArrays, to: str) -> None:
    shas = set()
    for folder in ("a", "b"):
        path = new_file(tmp_path / folder, to, new_arrays(classes=3))
        shas.add(read(path, depth_multiplier=NARROW).sha256)
    if to != "orbax":  # its files are a database's, named at random
        assert len(shas) == 1


def test_nothing_is_overwritten_unless_asked(tmp_path: Path, new_arrays: NewArrays) -> None:
    start = new_file(tmp_path, "flax", new_arrays())
    target = tmp_path / "there.h5"
    target.write_bytes(b"precious")
    options = {"depth_multiplier": NARROW, "probe": False}
    with pytest.raises(WeightsError, match=r"there\.h5: found it there already, .* or --force"):
        convert(start, target, **options)
    assert target.read_bytes() == b"precious"
    convert(start, target, overwrite=True, **options)
    assert read(target, depth_multiplier=NARROW).format == "keras-h5"
    assert sorted(os.listdir(tmp_path)) == ["flax.safetensors", "there.h5"]


def test_failed_write_leaves_what_stood_there(
    tmp_path: Path, new_arrays: NewArrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = new_file(tmp_path, "flax", new_arrays())
    target = tmp_path / "there.h5"
    target.write_bytes(b"precious")

    def fail(path: Path, *_: object) -> list[str]:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(WRITABLE["keras-h5"], "write", fail)
    with pytest.raises(WeightsError, match=r"there\.h5: found No space left on device"):
        convert(start, target, overwrite=True, depth_multiplier=NARROW, probe=False)
    assert target.read_bytes() == b"precious"
    assert sorted(os.listdir(tmp_path)) == ["flax.safetensors", "there.h5"]


@pytest.mark.parametrize("to", ["orbax", "torchvision"])
def test_folder_that_is_no_network_is_never_replaced(
    tmp_path: Path, new_arrays: NewArrays, to: str
) -> None:
    """A run has a config.json and checkpoints; it would be gone."""
    start = new_file(tmp_path, "flax", new_arrays())
    target = tmp_path / "precious"
    (target / "checkpoints").mkdir(parents=True)
    (target / "config.json").write_text("{}")
    with pytest.raises(WeightsError, match=r"precious: found a folder that is no network"):
        convert(start, target, to, overwrite=True, depth_multiplier=NARROW, probe=False)
    assert (target / "config.json").read_text() == "{}"


def test_network_of_orbax_is_replaced_when_asked(tmp_path: Path, new_arrays: NewArrays) -> None:
    path = new_file(tmp_path, "orbax", new_arrays(seed=1))
    start = new_file(tmp_path, "flax", new_arrays())
    convert(start, path, overwrite=True, depth_multiplier=NARROW, probe=False)
    assert_same_bits(read(path, depth_multiplier=NARROW).arrays, new_arrays())
    assert sorted(os.listdir(tmp_path)) == ["flax.safetensors", "orbax.orbax"]


def test_link_to_nothing_is_something_that_stands_there(
    tmp_path: Path, new_arrays: NewArrays
) -> None:
    start = new_file(tmp_path, "flax", new_arrays())
    (tmp_path / "net.h5").symlink_to(tmp_path / "nowhere")
    with pytest.raises(WeightsError, match=r"net\.h5: found it there already"):
        convert(start, tmp_path / "net.h5", depth_multiplier=NARROW, probe=False)


def test_failed_write_names_the_target_and_leaves_no_folders(
    tmp_path: Path, new_arrays: NewArrays
) -> None:
    start = new_file(tmp_path, "flax", new_arrays())
    target = tmp_path / "a" / "b" / "net.onnx"
    with pytest.raises(WeightsError, match=r"a/b/net\.onnx: .*10 px"):
        convert(start, target, input_size=10, depth_multiplier=NARROW)
    assert os.listdir(tmp_path) == ["flax.safetensors"]


def test_dropped_background_and_folded_grey_are_proven_on_the_logits(
    tmp_path: Path, new_arrays: NewArrays
) -> None:
    start = new_file(tmp_path, "flax", new_arrays(classes=1001))
    options = {"classes": "1000", "fold_grey": True, "depth_multiplier": NARROW}
    done = convert(start, tmp_path / "out.weights.h5", **options)
    assert done.written.classes == 1000
    assert done.written.channels == 1
    assert done.probe.keys() == {"pool", "logits"}
    assert max(done.probe.values()) < 1e-5
    spread = convert(done.target, tmp_path / "out.pth", depth_multiplier=NARROW)
    assert spread.probe["pool"] > 1e-3  # of the pooling, not of the colours
    assert "kernel spread over three equal channels" in " ".join(spread.notes)


def test_other_epsilon_than_the_classs_is_told_and_measured(
    tmp_path: Path, new_arrays: NewArrays
) -> None:
    arrays = new_arrays()
    given = Weights(arrays, Variant("valid", epsilon=0.1), "none", (), {}, Path("x"), "", NARROW)
    write(given, tmp_path / "in.safetensors")
    done = convert(tmp_path / "in.safetensors", tmp_path / "out.h5", depth_multiplier=NARROW)
    assert any(note.startswith("epsilon: ") for note in done.notes)
    assert done.probe["pool"] > 1e-3


def test_conversion_tells_what_became_of_everything(tmp_path: Path, new_arrays: NewArrays) -> None:
    arrays = new_arrays(classes=1001, aux=True)
    start = new_file(tmp_path, "flax", arrays, labels=["background", *map(str, range(1000))])
    done = convert(start, tmp_path / "out.h5", classes="1000", depth_multiplier=NARROW)
    assert len(done.source.used) == len(arrays)
    assert done.ignored == {}
    assert "classifiers: class 0 (background) dropped, 1000 classes left" in done.notes
    assert any("AuxLogits" in note for note in done.notes)
    assert done.probe["pool"] == 0.0
    found = read(done.target, depth_multiplier=NARROW)
    np.testing.assert_array_equal(found.arrays[names.HEAD_BIAS], arrays[names.HEAD_BIAS][1:])
    assert found.metadata["labels"] == [str(i) for i in range(1000)]


def test_other_pooling_of_the_targets_class_is_told_and_measured(
    tmp_path: Path, new_arrays: NewArrays
) -> None:
    start = new_file(tmp_path, "flax", new_arrays())
    done = convert(start, tmp_path / "out.pth", depth_multiplier=NARROW)
    assert any("its own class computes another function" in note for note in done.notes)
    assert done.probe["pool"] > 1e-3


def test_preprocessing_can_be_changed_on_the_way(tmp_path: Path, new_arrays: NewArrays) -> None:
    start = new_file(tmp_path, "flax", new_arrays(), "gluon")
    done = convert(
        start,
        tmp_path / "out.safetensors",
        preprocessing="x/127.5-1",
        depth_multiplier=NARROW,
    )
    assert done.probe["pool"] < 1e-5
    assert read(done.target, depth_multiplier=NARROW).variant.preprocessing == "x/127.5-1"


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("out.h5", {"to": "caffe"}, r"format: found 'caffe', expected one of"),
        ("out.bin", {}, r"out\.bin: found an ending that names no format, expected one of"),
        ("out.h5", {"preprocessing": "none"}, r"preprocessing: found 'none', expected one of"),
        ("out.h5", {"input_size": 384}, r"input size: found 384 px for keras-h5, expected none"),
        ("out.h5", {"variant": "v4"}, r"variant: found 'v4', expected one of"),
        ("out.h5", {"classes": "1000"}, r"classes: found no classes, expected 1001 or 1000"),
    ],
)
def test_options_that_cannot_be_met_are_told(
    tmp_path: Path, new_arrays: NewArrays, target: str, options: dict[str, Any], message: str
) -> None:
    start = new_file(tmp_path, "flax", new_arrays())
    with pytest.raises(WeightsError, match=message):
        convert(start, tmp_path / target, **{"depth_multiplier": NARROW, **options})
    assert os.listdir(tmp_path) == ["flax.safetensors"]
