"""TensorFlow Lite's files: the network is found by its graph, whatever its tensors are called."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tflite_writer as writer
from thyrojax.weights import names, read
from thyrojax.weights.formats import tflite
from thyrojax.weights.types import Arrays, Reading, Request

SMALL = Request(depth_multiplier=0.05)
UNITS = [unit.path for unit in SMALL.trunk.units]


@pytest.fixture(scope="module")
def folded(new_arrays: Callable[..., Arrays]) -> Arrays:
    return writer.whole_steps(new_arrays(0.05, classes=4))


@pytest.fixture
def new_file(tmp_path: Path, folded: Arrays) -> Callable[..., Path]:
    """Writes a network with `Builder`'s options; `changes` of its arrays first."""

    def new(changes: Arrays | None = None, **options: Any) -> Path:
        model = writer.Builder(folded | (changes or {}), **options).model
        return writer.write(tmp_path / "new.tflite", model)

    return new


def assert_filled(reading: Reading, folded: Arrays) -> None:
    """Kernels and biases are the file's, and each BatchNorm only adds the bias."""
    for path in UNITS:
        arrays = reading.arrays
        kernel, bias = f"params/{path}/conv/kernel", f"params/{path}/bn/bias"
        np.testing.assert_array_equal(arrays[kernel], folded[kernel])
        np.testing.assert_array_equal(arrays[bias], folded[bias])
        assert (arrays[f"params/{path}/bn/scale"] == 1).all()
        assert (arrays[f"batch_stats/{path}/bn/mean"] == 0).all()
        variance = arrays[f"batch_stats/{path}/bn/var"]
        assert (np.sqrt(variance + np.float32(reading.variant.epsilon)) == 1).all()
    assert all(array.dtype == np.float32 for array in reading.arrays.values())


OPTIONS: dict[str, dict[str, Any]] = {
    "as Keras' converter writes it": {},
    "as slim's": {"head": "conv"},
    "forks joined with all others": {"nested": False},
    "operators apart": {"apart": True},
    "float16": {"kind": "float16"},
    "uint8": {"kind": "uint8"},
    "int8 with a scale for each channel": {"kind": "int8"},
    "uint8, slim's": {"kind": "uint8", "head": "conv"},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_network_is_found_by_its_graph(
    new_file: Callable[..., Path], folded: Arrays, options: dict[str, Any]
) -> None:
    weights = read(new_file(**options), depth_multiplier=0.05)
    assert weights.format == "tflite"
    reading = tflite.read(weights.path, SMALL)
    assert_filled(reading, folded)
    assert weights.classes == 4
    for name in (names.HEAD_KERNEL, names.HEAD_BIAS):
        np.testing.assert_array_equal(weights.arrays[name], folded[name])
    assert (weights.variant.pooling, weights.variant.last_pool) == ("valid", "average")
    assert any("BatchNorm: the converter folded it" in note for note in weights.notes)
    quantised = any("quantised to 8 bits, values are approximate" in n for n in weights.notes)
    assert quantised == ("int8" in options.get("kind", ""))


def test_every_constant_is_used_or_named(new_file: Callable[..., Path], folded: Arrays) -> None:
    path = new_file(head="conv", apart=True)
    reading = tflite.read(path, SMALL)
    builder = writer.Builder(folded, head="conv", apart=True)
    constants = {tensor["name"] for tensor in builder.tensors if "data" in tensor}
    assert set(reading.used) | reading.ignored.keys() == constants
    assert not set(reading.used) & reading.ignored.keys()
    assert reading.ignored["axes"] == "not a weight: setting of MEAN"
    assert reading.ignored["shape"] == "not a weight: setting of RESHAPE"
    assert set(reading.ignored.values()) == {
        f"not a weight: setting of {operator}" for operator in ("MEAN", "RESHAPE", "PAD")
    }


@pytest.mark.parametrize(
    ("options", "pooling", "last_pool"),
    [
        ({"padded": True}, "padded", "average"),
        ({"last_max": True}, "valid", "max"),
        ({"padded": True, "last_max": True, "apart": True}, "padded", "max"),
    ],
)
def test_pools_tell_the_variant(
    new_file: Callable[..., Path], options: dict[str, Any], pooling: str, last_pool: str
) -> None:
    variant = tflite.read(new_file(**options), SMALL).variant
    assert (variant.pooling, variant.last_pool) == (pooling, last_pool)


def test_head_that_is_not_asked_for_is_named(new_file: Callable[..., Path]) -> None:
    reading = tflite.read(new_file(), Request("drop", 0.05))
    assert names.HEAD_KERNEL not in reading.arrays
    assert reading.ignored["dense/kernel"] == "classifier: not asked for"
    assert reading.ignored["dense/bias"] == "classifier: not asked for"


def test_foreign_head_is_named(new_file: Callable[..., Path], folded: Arrays) -> None:
    reading = tflite.read(new_file(head="foreign"), SMALL)
    assert_filled(reading, folded)
    assert names.HEAD_KERNEL not in reading.arrays
    for key in ("inner/kernel", "dense/kernel", "dense/bias"):
        assert reading.ignored[key] == "foreign head: operand of FULLY_CONNECTED"


def test_network_without_head(new_file: Callable[..., Path], folded: Arrays) -> None:
    reading = tflite.read(new_file(head="none"), SMALL)
    assert_filled(reading, folded)
    assert not [key for key, reason in reading.ignored.items() if "head" in reason]


def test_scale_left_apart_becomes_the_batchnorms(tmp_path: Path, folded: Arrays) -> None:
    """Convolution, times two, plus bias, ReLU."""
    builder = writer.Builder(folded, apart=True)
    adds = [o for o in builder.operators if o["code"] == "ADD"]
    two = builder.constant("two", np.full((1, 1, 1, 16), 2, np.float32))
    for add in adds[:1]:
        index = builder.operators.index(add)
        product = builder.operator("MUL", [add["inputs"][1], two])
        builder.operators.insert(index, builder.operators.pop())
        add["inputs"][1] = product
    reading = tflite.read(writer.write(tmp_path / "apart.tflite", builder.model), SMALL)
    path = "Conv2d_1a_3x3"
    assert (reading.arrays[f"params/{path}/bn/scale"] == 2).all()
    np.testing.assert_array_equal(
        reading.arrays[f"params/{path}/bn/bias"], folded[f"params/{path}/bn/bias"]
    )


def test_grey_images(new_file: Callable[..., Path], folded: Arrays) -> None:
    grey = {names.FIRST_KERNEL: folded[names.FIRST_KERNEL][:, :, :1]}
    reading = tflite.read(new_file(grey), SMALL)
    np.testing.assert_array_equal(reading.arrays[names.FIRST_KERNEL], grey[names.FIRST_KERNEL])


# A grey level in the file's units is (x - zero) * scale, of which x is the stored number: of int8,
# the grey level less 128.
INPUTS = [
    ("uint8", 1 / 127.5, 128, "x/127.5-1"),
    ("uint8", 1 / 127.5, 127, "x/127.5-1"),
    ("uint8", 1 / 128, 128, "(x-128)/128"),
    ("int8", 1 / 127.5, -1, "x/127.5-1"),
    ("int8", 1 / 255, -128, "x/255"),
]


@pytest.mark.parametrize(("kind", "scale", "zero", "expected"), INPUTS)
def test_quantised_input_tells_the_preprocessing(
    tmp_path: Path, folded: Arrays, kind: str, scale: float, zero: int, expected: str
) -> None:
    model = writer.Builder(folded).model
    model["tensors"][0] |= {"type": kind, "scales": [scale], "zeros": [zero]}
    reading = tflite.read(writer.write(tmp_path / "input.tflite", model), SMALL)
    assert reading.variant.preprocessing == expected
    assert f"input: quantised, {expected}" in reading.notes


@pytest.mark.parametrize(
    ("prepare", "expected"),
    [
        ((("MUL", [1 / 127.5]), ("SUB", [1.0])), "x/127.5-1"),
        ((("MUL", [2.0]), ("ADD", [-1.0])), "x/127.5-1"),  # of grey levels over 255
        (
            (
                ("MUL", [1 / 255]),
                ("SUB", [0.485, 0.456, 0.406]),
                ("MUL", [1 / 0.229, 1 / 0.224, 1 / 0.225]),
            ),
            "(x/255-mean)/std",
        ),
    ],
)
def test_preprocessing_within_the_graph_is_found(
    new_file: Callable[..., Path], prepare: Any, expected: str
) -> None:
    reading = tflite.read(new_file(prepare=prepare), SMALL)
    assert reading.variant.preprocessing == expected


@pytest.mark.parametrize(
    ("prepare", "scale", "offset"), [((("MUL", [0.02]), ("ADD", [-1.5])), 0.02, -1.5), ((), 1, 0)]
)
def test_preprocessing_without_a_name_moves_into_the_first_unit(
    new_file: Callable[..., Path], folded: Arrays, prepare: Any, scale: float, offset: float
) -> None:
    """Where nothing is said, a first kernel of tiny values gives it away. Convolved with a window
    of grey levels, both must give the same."""
    kernel = folded[names.FIRST_KERNEL] / np.float32(127.5)
    reading = tflite.read(new_file({names.FIRST_KERNEL: kernel}, prepare=prepare), SMALL)
    assert reading.variant.preprocessing == "x/127.5-1"
    assert any("Conv2d_1a_3x3 changed" in note for note in reading.notes)
    grey = np.random.default_rng(0).integers(0, 256, kernel.shape[:3]).astype(np.float64)
    expected = np.einsum("hwi,hwio->o", grey * scale + offset, kernel)
    moved = np.einsum("hwi,hwio->o", grey / 127.5 - 1, reading.arrays[names.FIRST_KERNEL])
    found = moved - reading.arrays[names.FIRST_MEAN]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
