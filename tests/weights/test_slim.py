"""TF-slim's checkpoints: slim's own names, slots and averages, and what is wrong with a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import hostile
import tf_writer as writer
from thyrojax.weights import names, names_slim, read
from thyrojax.weights.formats import slim, tf_table
from thyrojax.weights.types import Arrays, Reading, Request

SMALL = Request(depth_multiplier=0.05)
FIRST = "InceptionV3/Conv2d_1a_3x3/weights"
MEAN = "InceptionV3/Mixed_6c/Branch_2/Conv2d_0d_7x1/BatchNorm/moving_mean"
HEAD = "InceptionV3/Logits/Conv2d_1c_1x1/"
Variables = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def arrays(new_arrays: Callable[..., Arrays]) -> Arrays:
    return new_arrays(0.05, classes=7, aux=True)


@pytest.fixture(scope="module")
def variables(arrays: Arrays) -> Variables:
    return writer.slim_variables(arrays)


@pytest.fixture
def new_file(tmp_path: Path, variables: Variables) -> Callable[..., Path]:
    """Writes the network's variables, changed: None removes one."""

    def new(changes: dict[str, Any] | None = None, write: Any = None) -> Path:
        changed = variables | (changes or {})
        kept = {name: array for name, array in changed.items() if array is not None}
        return (write or writer.write_second)(tmp_path / "model.ckpt", kept)

    return new


def assert_same(reading: Reading, arrays: Arrays) -> None:
    assert reading.arrays.keys() == arrays.keys()
    for path, array in arrays.items():
        found = reading.arrays[path]
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, array, err_msg=path)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("params/Conv2d_1a_3x3/conv/kernel", "Conv2d_1a_3x3/weights"),
        ("params/Conv2d_4a_3x3/bn/bias", "Conv2d_4a_3x3/BatchNorm/beta"),
        ("params/Conv2d_3b_1x1/bn/scale", "Conv2d_3b_1x1/BatchNorm/gamma"),
        (
            "batch_stats/Mixed_5b/branch5x5_2/bn/mean",
            "Mixed_5b/Branch_1/Conv2d_0b_5x5/BatchNorm/moving_mean",
        ),
        (
            "batch_stats/Mixed_5c/branch5x5_1/bn/var",
            "Mixed_5c/Branch_1/Conv2d_0b_1x1/BatchNorm/moving_variance",
        ),
        ("params/Mixed_5c/branch5x5_2/conv/kernel", "Mixed_5c/Branch_1/Conv_1_0c_5x5/weights"),
        ("params/Mixed_5d/branch5x5_1/conv/kernel", "Mixed_5d/Branch_1/Conv2d_0a_1x1/weights"),
        ("params/Mixed_6a/branch3x3/conv/kernel", "Mixed_6a/Branch_0/Conv2d_1a_1x1/weights"),
        ("params/Mixed_6a/branch3x3dbl_3/conv/kernel", "Mixed_6a/Branch_1/Conv2d_1a_1x1/weights"),
        ("params/Mixed_6b/branch7x7_3/conv/kernel", "Mixed_6b/Branch_1/Conv2d_0c_7x1/weights"),
        ("params/Mixed_6e/branch7x7dbl_2/conv/kernel", "Mixed_6e/Branch_2/Conv2d_0b_7x1/weights"),
        ("params/Mixed_6e/branch_pool/conv/kernel", "Mixed_6e/Branch_3/Conv2d_0b_1x1/weights"),
        ("params/Mixed_7a/branch7x7x3_4/conv/kernel", "Mixed_7a/Branch_1/Conv2d_1a_3x3/weights"),
        ("params/Mixed_7b/branch3x3_2b/conv/kernel", "Mixed_7b/Branch_1/Conv2d_0b_3x1/weights"),
        ("params/Mixed_7c/branch3x3_2b/conv/kernel", "Mixed_7c/Branch_1/Conv2d_0c_3x1/weights"),
        ("params/Mixed_7c/branch3x3dbl_3a/conv/kernel", "Mixed_7c/Branch_2/Conv2d_0c_1x3/weights"),
        ("params/fc/kernel", "Logits/Conv2d_1c_1x1/weights"),
        ("params/fc/bias", "Logits/Conv2d_1c_1x1/biases"),
        ("params/AuxLogits/conv0/conv/kernel", "AuxLogits/Conv2d_1b_1x1/weights"),
        ("batch_stats/AuxLogits/conv1/bn/mean", "AuxLogits/Conv2d_2a_5x5/BatchNorm/moving_mean"),
        ("params/AuxLogits/fc/bias", "AuxLogits/Conv2d_2b_1x1/biases"),
    ],
)
def test_names_of_tf_slim(ours: str, theirs: str) -> None:
    assert names_slim.to_slim(ours) == theirs


def test_every_array_has_a_name_of_its_own() -> None:
    shapes = names.trunk_shapes() | names.head_shapes(1001) | names.aux_shapes(1001)
    theirs = [names_slim.to_slim(path) for path in shapes]
    assert len(theirs) == len(set(theirs)) == 94 * 5 + 2 + 2 * 5 + 2


@pytest.mark.parametrize(
    "write",
    [
        writer.write_second,
        lambda path, variables: writer.write_second(path, variables, shards=3),
        writer.write_first,
        lambda path, variables: writer.write_first(path, variables, compressed=True),
    ],
    ids=["version 2", "three shards", "version 1", "version 1, snappy"],
)
def test_both_versions_bit_for_bit(new_file: Any, arrays: Arrays, write: Any) -> None:
    path = new_file(write=write)
    assert slim.recognises(path)
    reading = slim.read(path, SMALL)
    assert_same(reading, arrays)
    assert len(reading.used) == 94 * 4 + 2 + 2 * 4 + 2
    assert not reading.ignored
    assert not reading.notes
    variant = reading.variant
    assert (variant.pooling, variant.last_pool, variant.epsilon) == ("valid", "average", 1e-3)


def test_prefix_of_a_checkpoint_stands_for_its_index(new_file: Any, arrays: Arrays) -> None:
    path = new_file()
    weights = read(path.with_suffix(""), depth_multiplier=0.05)
    assert weights.format == "slim"
    assert weights.path == path
    assert weights.classes == 7
    assert weights.has_aux_head


def test_values_outlive_the_files(new_file: Any, arrays: Arrays) -> None:
    path = new_file(write=writer.write_first)
    reading = slim.read(path, SMALL)
    path.write_bytes(bytes(path.stat().st_size))
    assert_same(reading, arrays)


def test_scales_colours_and_heads_as_there_are(
    tmp_path: Path, new_arrays: Callable[..., Arrays]
) -> None:
    for options in ({"scales": True, "classes": 3}, {"channels": 1}):
        arrays = new_arrays(0.05, **options)
        path = writer.write_second(tmp_path / "x", writer.slim_variables(arrays, prefix=""))
        assert_same(slim.read(path, SMALL), arrays)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16])
def test_other_floats_become_float32(new_file: Any, variables: Variables, dtype: Any) -> None:
    given = variables[FIRST].astype(dtype)
    found = slim.read(new_file({FIRST: given}), SMALL).arrays[names.FIRST_KERNEL]
    np.testing.assert_array_equal(found, given.astype(np.float32))


def test_heads_are_left_out_where_not_asked_for(new_file: Any) -> None:
    reading = slim.read(new_file(), Request("drop", 0.05))
    assert len(reading.ignored) == 2 + 2 * 4 + 2
    assert set(reading.ignored.values()) == {"classifier: not asked for"}
    assert names.HEAD_BIAS not in reading.arrays


def test_slots_and_counters_are_named(new_file: Any, arrays: Arrays) -> None:
    some = np.zeros(3, np.float32)
    slots = {
        f"{FIRST}/RMSProp": "optimizer slot",
        f"{FIRST}/RMSProp_1": "optimizer slot",
        f"{MEAN}/Momentum": "optimizer slot",
        f"{HEAD}biases/Adam": "optimizer slot",
        f"{HEAD}biases/Adam_1": "optimizer slot",
        "train/beta1_power": "counter",
        "global_step": "counter",
        "InceptionV3/InceptionV3/Conv2d_1a_3x3/BatchNorm/moments/x/ExponentialMovingAverage/biased":
            "counter",
        "InceptionV3/Conv2d_1a_3x3/BatchNorm/moments/ExponentialMovingAverage": "moving average",
        "other/weights": "outside of the network 'InceptionV3/'",
    }  # fmt: skip
    reading = slim.read(new_file(dict.fromkeys(slots, some)), SMALL)
    assert reading.ignored == slots
    assert_same(reading, arrays)


def test_weights_come_before_their_averages(new_file: Any, arrays: Arrays) -> None:
    shadow = f"{FIRST}/ExponentialMovingAverage"
    reading = slim.read(new_file({shadow: np.zeros((3, 3, 3, 16), np.float32)}), SMALL)
    assert_same(reading, arrays)
    assert reading.ignored == {shadow: "moving average"}
    assert reading.notes == ("moving averages: 1 left out, the weights themselves are used",)


def test_averages_stand_in_for_weights_that_are_not_there(
    tmp_path: Path, variables: Variables, arrays: Arrays
) -> None:
    """As `variables_to_restore` of TensorFlow's class has them: the statistics stay as they are."""
    renamed = {
        name if "moving" in name else f"{name}/ExponentialMovingAverage": array
        for name, array in variables.items()
    }
    reading = slim.read(writer.write_second(tmp_path / "ema", renamed), SMALL)
    assert_same(reading, arrays)
    n = 94 * 2 + 2 + 2 * 2 + 2
    assert reading.notes == (f"moving averages: {n} used in the weights' place",)


@pytest.mark.parametrize(
    "changes",
    [
        {f"{HEAD}weights": None},
        {f"{HEAD}biases": None},
        {f"{HEAD}weights": np.zeros((1, 1, 9, 7), np.float32)},
        {"InceptionV3/Logits/Hidden/weights": np.zeros((16, 16), np.float32)},
    ],
)
def test_another_networks_head_is_ignored_by_name(new_file: Any, changes: Variables) -> None:
    reading = slim.read(new_file(changes), SMALL)
    assert names.HEAD_BIAS not in reading.arrays
    assert names.AUX_BIAS in reading.arrays
    assert set(reading.ignored.values()) == {"foreign head: not slim's own"}


def test_auxiliary_head_of_another_image_size_is_ignored(
    new_file: Any, variables: Variables
) -> None:
    """Below 299 px slim makes its second kernel smaller, and calls it accordingly."""
    scope = "InceptionV3/AuxLogits/Conv2d_2a_"
    changes: dict[str, Any] = {}
    for name in variables:
        if name.startswith(scope):
            changes |= {name: None, name.replace("5x5", "3x3"): variables[name]}
    changes[f"{scope}3x3/weights"] = np.zeros((3, 3, 16, 38), np.float32)
    reading = slim.read(new_file(changes), SMALL)
    assert names.AUX_BIAS not in reading.arrays
    assert len(reading.ignored) == 2 * 4 + 2
    assert set(reading.ignored.values()) == {"foreign head: not slim's own"}


def nan_at(shape: tuple[int, ...]) -> np.ndarray:
    array = np.ones(shape, np.float32)
    array.flat[3] = np.nan
    return array


FAULTS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "missing": ({MEAN: None}, [rf"{MEAN}: found none, expected it for batch_stats/Mixed_6c"]),
    "added": (
        {"InceptionV3/Mixed_5e/weights": np.ones(2, np.float32)},
        ["InceptionV3/Mixed_5e/weights: found an unknown variable, expected none"],
    ),
    "shape": (
        {FIRST: np.ones((3, 3, 3, 17), np.float32)},
        [rf"{FIRST}: found shape \(3, 3, 3, 17\), expected \(3, 3, 3, 16\)"],
    ),
    "type": (
        {MEAN: np.ones(16, np.int32)},
        [rf"{MEAN}: found values of type int32, expected floats"],
    ),
    "not a number": (
        {MEAN: nan_at((16,)), FIRST: np.full((3, 3, 3, 16), np.inf, np.float32)},
        [rf"{MEAN}: found 1 values not finite", rf"{FIRST}: found 432 values not finite"],
    ),
    "too large for float32": (
        {MEAN: np.full(16, 1e300)},
        [rf"{MEAN}: found 16 values not finite"],
    ),
    "negative variance": (
        {MEAN.replace("mean", "variance"): np.full(16, -1, np.float32)},
        ["found a negative variance"],
    ),
    "some scales": (
        {"InceptionV3/Conv2d_1a_3x3/BatchNorm/gamma": np.ones(16, np.float32)},
        ["InceptionV3/Conv2d_2a_3x3/BatchNorm/gamma: found none", "and 4[0-9] more"],
    ),
    "classes": (
        {f"{HEAD}biases": np.ones(8, np.float32)},
        [rf"{HEAD}weights: found shape \(1, 1, [0-9]+, 7\), expected \(1, 1, [0-9]+, 8\)"],
    ),
    "two networks": (
        {"b/InceptionV3/Conv2d_2b_3x3/weights": np.ones(1, np.float32)},
        ["found networks under 'InceptionV3/' and 'b/InceptionV3/' among"],
    ),
    "no network": (
        {"InceptionV3/Conv2d_2b_3x3/weights": None},
        ["found networks under none among 387 variables"],
    ),
    "objects": (
        {
            "InceptionV3/Conv2d_2b_3x3/weights": None,
            "model/layer-1/kernel/.ATTRIBUTES/VARIABLE_VALUE": np.ones(1, np.float32),
        },
        ["found a checkpoint of objects, as Keras and TensorFlow 2 write them"],
    ),
}


def assert_refused(path: Path, expected: list[str]) -> None:
    hostile.assert_refused(lambda p: slim.read(p, SMALL), path, *expected)


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_in_the_content_is_named(new_file: Any, fault: str) -> None:
    changes, expected = FAULTS[fault]
    assert_refused(new_file(changes), expected)


def test_damaged_values_are_named_all_at_once(new_file: Any) -> None:
    path = new_file()
    data = path.with_name("model.ckpt.data-00000-of-00001")
    content = bytearray(data.read_bytes())
    content[0] ^= 1
    content[-1] ^= 1
    data.write_bytes(content)
    assert_refused(path, ["Mixed_7c.*: found another checksum.*AuxLogits.*another checksum"])
    data.write_bytes(content[:-1])
    assert_refused(path, ["Mixed_7c.*: found .* bytes at byte .*, expected them within"])
    data.unlink()
    assert_refused(path, ["found no values in model.ckpt.data-00000-of-00001 beside the index"])


@pytest.mark.parametrize("write", [writer.write_second, writer.write_first])
def test_file_cut_off_is_not_taken_for_one(new_file: Any, write: Any) -> None:
    path = new_file(write=write)
    content = path.read_bytes()
    for length in (0, 1, 47, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        assert not slim.recognises(path)
        assert_refused(path, [": found"]) if length else None
    assert not slim.recognises(path.parent)


@pytest.mark.parametrize("unchecked", [False, True], ids=["", "checksums let through"])
@pytest.mark.parametrize("write", [writer.write_second, writer.write_first])
def test_damaged_files_are_read_or_refused(
    new_file: Any,
    monkeypatch: pytest.MonkeyPatch,
    write: Any,
    unchecked: bool,
) -> None:
    if unchecked:
        monkeypatch.setattr(tf_table, "matches", lambda data, stored: True)
    counts = hostile.fuzz(new_file(write=write), lambda path: slim.read(path, SMALL), n=25)
    assert sum(counts.values()) == 25
    assert counts["refused"] > 5
