"""Changes of weights: the same function where that is promised, every bit where it can be."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from thyrojax.errors import WeightsError
from thyrojax.weights import change, names, preprocess
from thyrojax.weights.types import PREPROCESSING, Arrays

NewArrays = Callable[..., Arrays]


def first_unit(arrays: Arrays, inputs: np.ndarray) -> np.ndarray:
    """The first convolution and its BatchNorm without ReLU, in double precision."""
    windows = sliding_window_view(inputs.astype(np.float64), (3, 3), axis=(1, 2))[:, ::2, ::2]
    found = np.einsum("nyxihw,hwio->nyxo", windows, arrays[names.FIRST_KERNEL].astype(np.float64))
    unit = {
        name: arrays[f"{tree}/Conv2d_1a_3x3/bn/{name}"].astype(np.float64)
        for tree, name in (
            ("batch_stats", "mean"),
            ("batch_stats", "var"),
            ("params", "scale"),
            ("params", "bias"),
        )
    }
    return (found - unit["mean"]) / np.sqrt(unit["var"] + 1e-3) * unit["scale"] + unit["bias"]


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, 9, 9, 3)).astype(np.uint8)


@pytest.mark.parametrize("given", PREPROCESSING)
@pytest.mark.parametrize("wanted", PREPROCESSING)
def test_preprocessing_moves_into_the_first_unit(
    new_arrays: NewArrays, images: np.ndarray, given: str, wanted: str
) -> None:
    arrays = new_arrays(scales=True)
    changed = change.fold_preprocessing(arrays, given, wanted)
    expected = first_unit(arrays, preprocess(images, given))
    np.testing.assert_allclose(
        first_unit(changed, preprocess(images, wanted)), expected, rtol=0, atol=3e-6
    )
    assert (changed is arrays) == (given == wanted)


def test_imagenet_mean_and_deviation_are_per_colour() -> None:
    grey = np.full((1, 1, 1, 3), 255, np.uint8)
    found = preprocess(grey, "(x/255-mean)/std")[0, 0, 0]
    np.testing.assert_allclose(found, [2.2489083, 2.4285715, 2.64], rtol=1e-6)


def test_grey_weights_see_three_equal_colours(new_arrays: NewArrays, images: np.ndarray) -> None:
    arrays = new_arrays()
    grey = preprocess(images[..., :1], "x/127.5-1")
    expected = first_unit(arrays, np.repeat(grey, 3, axis=-1))
    folded = change.fold_grey(arrays, "x/127.5-1")
    np.testing.assert_allclose(first_unit(folded, grey), expected, rtol=0, atol=3e-6)


def test_grey_kernel_is_spread_evenly_and_comes_back_bit_for_bit(new_arrays: NewArrays) -> None:
    arrays = new_arrays(channels=1)
    spread = change.spread_grey(arrays)
    kernel = spread[names.FIRST_KERNEL]
    assert kernel.shape[2] == 3
    np.testing.assert_allclose(kernel[:, :, 0], kernel[:, :, 2], rtol=1e-6)
    back = change.fold_grey(spread, "x/127.5-1")[names.FIRST_KERNEL]
    np.testing.assert_array_equal(back, arrays[names.FIRST_KERNEL])


def test_colours_preprocessed_apart_are_not_folded_to_grey(new_arrays: NewArrays) -> None:
    with pytest.raises(WeightsError, match=r"which differs between the colours"):
        change.fold_grey(new_arrays(), "(x/255-mean)/std")


def test_scales_move_into_kernel_and_mean(new_arrays: NewArrays, images: np.ndarray) -> None:
    arrays = new_arrays(scales=True)
    scale = arrays["params/Conv2d_1a_3x3/bn/scale"]
    scale[3], scale[4] = -0.7, 0.0
    folded = change.fold_scales(arrays)
    assert (folded["params/Conv2d_1a_3x3/bn/scale"] == 1).all()
    inputs = preprocess(images, "x/127.5-1")
    np.testing.assert_allclose(
        first_unit(folded, inputs), first_unit(arrays, inputs), rtol=0, atol=3e-6
    )
    plain = new_arrays()
    assert all(change.fold_scales(plain)[path] is array for path, array in plain.items())


def test_background_class_is_the_first_row(new_arrays: NewArrays) -> None:
    arrays = new_arrays(classes=1001, aux=True)
    changed = change.change_classes(arrays, "1000")
    for kernel, bias in (
        (names.HEAD_KERNEL, names.HEAD_BIAS),
        (names.AUX_KERNEL, names.AUX_BIAS),
    ):
        np.testing.assert_array_equal(changed[kernel], arrays[kernel][:, 1:])
        np.testing.assert_array_equal(changed[bias], arrays[bias][1:])
    assert change.change_classes(changed, "1000") is changed
    with pytest.raises(WeightsError, match=r"found 2 classes, expected 1001 or 1000"):
        change.change_classes(new_arrays(classes=2), "1000")
    with pytest.raises(WeightsError, match=r"found no classes"):
        change.change_classes(new_arrays(), "1000")


def test_dropped_heads_leave_the_trunk(new_arrays: NewArrays) -> None:
    arrays = change.change_classes(new_arrays(classes=4, aux=True), "drop")
    assert arrays.keys() == names.trunk_shapes().keys()
    kept = new_arrays(classes=4)
    assert change.change_classes(kept, "keep") is kept
