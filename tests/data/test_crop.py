"""The crop geometry and its two samplers, against numbers worked by hand."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import get_args

import jax
import numpy as np
import pytest

from thyrojax.config import Border, CropShape
from thyrojax.data.crop import Window, crop_numpy, crop_opencv, is_cut, rows_read, window
from thyrojax.data.records import Box

TALL = Box(10, 20, 30, 50)  # 20 wide, 30 high
RAMP = np.array([[10, 20, 30], [40, 50, 60]], np.uint8)
SAMPLERS = (crop_numpy, crop_opencv)
Sampler = Callable[[np.ndarray, Window, int, Border], np.ndarray]


@pytest.mark.parametrize(
    ("shape", "margin", "expected"),
    [
        ("square", 0, Window(10, 25, 20, 20)),
        ("square", 5, Window(5, 20, 30, 30)),
        ("square", 50, Window(-40, -25, 120, 120)),
        ("square_cover", 0, Window(5, 20, 30, 30)),
        ("square_cover", 5, Window(0, 15, 40, 40)),
        ("rectangle", 0, Window(10, 20, 20, 30)),
        ("rectangle", 5, Window(5, 15, 30, 40)),
    ],
)
def test_window_of_a_tall_box(shape: CropShape, margin: int, expected: Window) -> None:
    assert window(TALL, margin, shape, "constant", 200, 200) == expected


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("square", Window(18, 7, 34, 34)),
        ("square_cover", Window(18, 7, 34, 34)),
        ("rectangle", Window(18, 18, 34, 12)),
    ],
)
def test_window_of_a_wide_box(shape: CropShape, expected: Window) -> None:
    assert window(Box(20, 20, 50, 28), 2, shape, "constant", 200, 200) == expected


def test_odd_rest_of_centring_goes_to_the_bottom_and_right() -> None:
    # (20 + 50 - 21) / 2 = 24.5, and above the frame (0 + 1 - 8) / 2 = -3.5.
    assert window(Box(10, 20, 31, 50), 0, "square", "constant", 99, 99).top == 24
    assert window(Box(0, 0, 6, 1), 1, "square", "constant", 99, 99).top == -4
    assert window(Box(20, 10, 50, 31), 0, "rectangle", "constant", 99, 99) == (20, 10, 30, 21)
    assert window(Box(20, 10, 41, 40), 0, "square_cover", "constant", 99, 99).left == 15


@pytest.mark.parametrize("border", ["constant", "edge", "reflect"])
def test_window_of_a_corner_box_leaves_the_frame(border: Border) -> None:
    assert window(Box(0, 0, 10, 10), 5, "square", border, 99, 99) == (-5, -5, 20, 20)
    assert window(Box(89, 89, 99, 99), 5, "square", border, 99, 99) == (84, 84, 20, 20)


@pytest.mark.parametrize(
    ("box", "margin", "height", "width", "expected"),
    [
        (Box(0, 0, 10, 10), 5, 100, 100, Window(0, 0, 20, 20)),
        (Box(90, 90, 100, 100), 5, 100, 100, Window(80, 80, 20, 20)),
        (Box(40, 40, 50, 50), 5, 100, 100, Window(35, 35, 20, 20)),
        # Higher than the frame, which it holds as it is; moved along the other axis.
        (Box(0, 5, 10, 10), 10, 15, 100, Window(0, -8, 30, 30)),
        # One pixel longer than the frame: -6..9 becomes -1..14.
        (Box(0, 0, 4, 4), 6, 15, 15, Window(-1, -1, 16, 16)),
        (Box(11, 11, 15, 15), 6, 15, 15, Window(0, 0, 16, 16)),
    ],
)
def test_shift_moves_the_window_inside(
    box: Box, margin: int, height: int, width: int, expected: Window
) -> None:
    assert window(box, margin, "square", "shift", height, width) == expected


def test_square_window_ignores_box_height() -> None:
    for height in (2, 30, 90):
        assert window(Box(40, 0, 60, height), 7, "square", "constant", 99, 99)[2:] == (34, 34)


def test_only_square_cuts_a_nodule_and_only_a_tall_one() -> None:
    assert is_cut(TALL, 4, "square")  # 28 rows for 30
    assert not is_cut(TALL, 5, "square")
    assert not is_cut(Box(0, 0, 30, 20), 0, "square")
    assert not is_cut(TALL, 0, "square_cover")
    assert not is_cut(TALL, 0, "rectangle")


def test_impossible_requests_are_refused() -> None:
    with pytest.raises(ValueError, match="margin: found -1"):
        window(TALL, -1, "square", "constant", 99, 99)
    with pytest.raises(ValueError, match="box: found"):
        window(Box(5, 5, 5, 9), 1, "square", "constant", 99, 99)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize(
    ("border", "expected"),
    [
        ("constant", [[0, 0, 0, 0, 0], [0, 10, 20, 30, 0], [0, 40, 50, 60, 0], [0] * 5, [0] * 5]),
        ("shift", [[0, 0, 0, 0, 0], [0, 10, 20, 30, 0], [0, 40, 50, 60, 0], [0] * 5, [0] * 5]),
        ("edge", [[10, 10, 20, 30, 30]] * 2 + [[40, 40, 50, 60, 60]] * 3),
        (
            "reflect",
            [
                [50, 40, 50, 60, 50],
                [20, 10, 20, 30, 20],
                [50, 40, 50, 60, 50],
                [20, 10, 20, 30, 20],
                [50, 40, 50, 60, 50],
            ],
        ),
    ],
)
def test_borders_of_a_window_larger_than_the_frame(
    sampler: Sampler, border: Border, expected: list[list[int]]
) -> None:
    crop = sampler(RAMP, Window(-1, -1, 5, 5), 5, border)
    assert crop.dtype == np.float32
    np.testing.assert_array_equal(crop, expected)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_reflect_goes_on_for_as_long_as_the_window(sampler: Sampler) -> None:
    column = np.array([[1], [2], [3]], np.uint8)
    crop = sampler(column, Window(-4, -5, 9, 9), 9, "reflect")
    # Rows -5..3 of 1 2 3 2 1 2 3 2 1 ..., period 4; one column has nothing to mirror but itself.
    np.testing.assert_array_equal(crop, np.repeat([[2, 1, 2, 3, 2, 1, 2, 3, 2]], 9, axis=0).T)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_window_beside_the_frame(sampler: Sampler) -> None:
    beside = Window(5, 0, 2, 2)
    np.testing.assert_array_equal(sampler(RAMP, beside, 2, "constant"), [[0, 0], [0, 0]])
    np.testing.assert_array_equal(sampler(RAMP, beside, 2, "edge"), [[30, 30], [60, 60]])


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize(
    ("row", "size", "expected"),
    [
        ([0, 10, 20, 30], 2, [5, 25]),  # centres at 0.5, 2.5
        ([0, 100], 4, [0, 25, 75, 100]),  # at -0.25 (held at 0), 0.25, 0.75, 1.25 (held at 1)
        ([0, 100, 200], 2, [25, 175]),  # at 0.25, 1.75
        ([255, 0, 0, 0, 0, 0, 0, 0], 2, [0, 0]),  # at 1.5, 5.5: not antialiased
        ([3, 8, 250], 3, [3, 8, 250]),
    ],
)
def test_resizing_is_bilinear_with_half_pixel_centres(
    sampler: Sampler, row: list[int], size: int, expected: list[int]
) -> None:
    frame = np.tile(np.array(row, np.uint8), (len(row), 1))
    whole = Window(0, 0, len(row), len(row))
    crop = sampler(frame, whole, size, "constant")
    np.testing.assert_allclose(crop, np.tile(expected, (size, 1)), atol=1e-4)
    np.testing.assert_allclose(sampler(frame.T.copy(), whole, size, "constant"), crop.T, atol=1e-4)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_rectangle_is_squeezed_into_a_square(sampler: Sampler) -> None:
    crop = sampler(np.array([[0, 10, 20, 30]], np.uint8), Window(0, 0, 4, 1), 2, "constant")
    np.testing.assert_allclose(crop, [[5, 25], [5, 25]], atol=1e-4)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_no_pixel_outside_the_window_shows(sampler: Sampler) -> None:
    frame = np.full((20, 20), 255, np.uint8)
    frame[5:12, 6:13] = 7
    np.testing.assert_allclose(sampler(frame, Window(6, 5, 7, 7), 31, "edge"), 7.0, atol=1e-4)


def test_samplers_agree_on_noise() -> None:
    random = np.random.default_rng(0)
    for _ in range(300):
        height, width = random.integers(1, 90, 2).tolist()
        frame = random.integers(0, 256, (height, width), np.uint8)
        x_min, y_min = int(random.integers(width)), int(random.integers(height))
        x_max = int(random.integers(x_min + 1, width + 1))
        y_max = int(random.integers(y_min + 1, height + 1))
        shape: CropShape = random.choice(get_args(CropShape))
        border: Border = random.choice(get_args(Border))
        margin, size = int(random.integers(120)), int(random.integers(1, 150))
        cut = window(Box(x_min, y_min, x_max, y_max), margin, shape, border, height, width)
        difference = crop_numpy(frame, cut, size, border) - crop_opencv(frame, cut, size, border)
        assert np.abs(difference).max() < 1e-3, (cut, size, border)


@pytest.mark.parametrize(("flip", "vertical_flip"), [(True, False), (False, True), (True, True)])
def test_mirrored_crops_go_where_they_are_told(flip: bool, vertical_flip: bool) -> None:
    frame = np.random.default_rng(2).integers(0, 256, (40, 50), np.uint8)
    batch = np.zeros((3, 33, 33, 1), np.float32)
    for cut in (Window(5, 6, 20, 25), Window(-7, -4, 60, 60)):
        out = batch[1, :, :, 0]
        crop = crop_opencv(frame, cut, 33, "constant", flip, vertical_flip, out=out)
        assert np.shares_memory(crop, batch)
        straight = crop_opencv(frame, cut, 33, "constant")
        expected = straight[:: -1 if vertical_flip else 1, :: -1 if flip else 1]
        np.testing.assert_allclose(out, expected, atol=1e-4)
    assert not batch[[0, 2]].any()


@pytest.mark.parametrize("border", get_args(Border))
def test_rows_below_those_read_do_not_matter(border: Border) -> None:
    random = np.random.default_rng(3)
    fewer = 0
    for _ in range(300):
        height = int(random.integers(2, 60))
        frame = random.integers(0, 256, (height, 30), np.uint8)
        cut = Window(3, int(random.integers(-70, height)), 20, int(random.integers(1, 100)))
        rows = rows_read(cut, height, border)
        assert 1 <= rows <= height
        fewer += rows < height
        np.testing.assert_array_equal(
            crop_opencv(frame[:rows], cut, 10, border), crop_opencv(frame, cut, 10, border)
        )
    assert fewer > 50


def test_reference_agrees_with_jax_image_resize() -> None:
    frame = np.random.default_rng(1).integers(0, 256, (70, 90), np.uint8)
    for size in (20, 50, 120):
        theirs = jax.image.resize(
            frame[10:60, 20:70].astype(np.float32), (size, size), "linear", antialias=False
        )
        ours = crop_numpy(frame, Window(20, 10, 50, 50), size, "constant")
        np.testing.assert_allclose(ours, theirs, atol=0.02)


def test_geometry_needs_numpy_only() -> None:
    code = (
        "import sys, thyrojax.data.crop\n"
        "heavy = {'cv2', 'grain', 'tensorflow_datasets', 'PIL', 'pandas'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("border", ["constant", "shift"])
def test_frame_is_no_crop_at_all(border: Border) -> None:
    cut = window(Box(10, 20, 30, 50), 40, "frame", border, 90, 120)
    assert cut == Window(0, 0, 120, 90)
    assert not is_cut(Box(10, 20, 30, 85), 0, "frame")
