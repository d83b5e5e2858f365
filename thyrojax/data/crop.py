"""The one crop geometry: from box, margin and shape to a window, and from a window to pixels.

Windows have whole-pixel edges, so cutting is exact and only resizing interpolates: bilinear with
half-pixel centres, not antialiased, and never reading a pixel outside the window.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from thyrojax.config import Border, CropShape
from thyrojax.data.records import Box
from thyrojax.shapes import Float, Int, UInt8


class Window(NamedTuple):
    """The cropped region in whole pixels of the frame; it may reach beyond the frame."""

    left: int
    top: int
    width: int
    height: int


def window(
    box: Box,
    margin: int,
    shape: CropShape,
    border: Border,
    image_height: int,
    image_width: int,
) -> Window:
    """The window around a box, centred on it (Guan et al. 2019, "Image preparation and cropping").

    `square` is the paper's: `margin` pixels left and right of the box and "height equal to the
    width", which cuts a nodule taller than that (`is_cut`). `square_cover` takes the longer side
    instead, `rectangle` keeps the margin on all four sides. An odd rest of the centring goes to the
    bottom and to the right. With border `shift` the window is moved inside the frame; along an axis
    where it is longer than the frame, it is moved until it holds the whole frame.

    Raises:
      ValueError: a negative margin, a box of no area, or an unknown shape.
    """
    if margin < 0:
        raise ValueError(f"margin: found {margin}, expected a whole number >= 0")
    if box.width <= 0 or box.height <= 0:
        raise ValueError(f"box: found {tuple(box)}, expected x_min < x_max and y_min < y_max")
    width, height = _window_size(box, margin, shape)
    left = (box.x_min + box.x_max - width) // 2
    top = (box.y_min + box.y_max - height) // 2
    if border == "shift":
        left = _moved_inside(left, width, image_width)
        top = _moved_inside(top, height, image_height)
    return Window(left, top, width, height)


def is_cut(box: Box, margin: int, shape: CropShape) -> bool:
    """Whether the window leaves out a part of its nodule: `square` and h > w + 2 margin."""
    width, height = _window_size(box, margin, shape)
    return box.width > width or box.height > height


def crop_numpy(
    image: UInt8[np.ndarray, "height width"], window: Window, size: int, border: Border
) -> Float[np.ndarray, "size size"]:
    """The window of a frame resized to `size` x `size`, float32 in 0..255: the plain reference.

    What lies outside the frame is 0 (`constant`, and `shift` where the window is larger than the
    frame), the nearest pixel (`edge`), or the frame mirrored about its outermost pixels as often as
    needed (`reflect`: NumPy's and torch's "reflect", OpenCV's BORDER_REFLECT_101).
    """
    rows = window.top + np.arange(window.height)
    columns = window.left + np.arange(window.width)
    height, width = image.shape
    cut = image[_inside(rows, height, border)][:, _inside(columns, width, border)].astype(
        np.float64
    )
    if border in ("constant", "shift"):
        cut[(rows < 0) | (rows >= height)] = 0.0
        cut[:, (columns < 0) | (columns >= width)] = 0.0

    above, below, down = _bilinear(window.height, size)
    before, after, right = _bilinear(window.width, size)
    squeezed = cut[above] * (1.0 - down)[:, np.newaxis] + cut[below] * down[:, np.newaxis]
    resized = squeezed[:, before] * (1.0 - right) + squeezed[:, after] * right
    return resized.astype(np.float32)


def crop_opencv(
    image: UInt8[np.ndarray, "height width"], window: Window, size: int, border: Border
) -> Float[np.ndarray, "size size"]:
    """The same as `crop_numpy` to 1e-3 grey levels, at host speed: needs OpenCV >= 5."""
    import cv2

    height, width = image.shape
    left, top = window.left, window.top
    right, bottom = left + window.width, top + window.height
    if left >= 0 and top >= 0 and right <= width and bottom <= height:
        cut = image[top:bottom, left:right]
    elif border in ("constant", "shift"):
        cut = np.zeros((window.height, window.width), np.uint8)
        rows = slice(max(top, 0), max(min(bottom, height), 0))
        columns = slice(max(left, 0), max(min(right, width), 0))
        inside = image[rows, columns]
        if inside.size:
            y, x = rows.start - top, columns.start - left
            cut[y : y + inside.shape[0], x : x + inside.shape[1]] = inside
    else:
        cut = image.take(_inside(np.arange(top, bottom), height, border), axis=0)
        cut = cut.take(_inside(np.arange(left, right), width, border), axis=1)
    # In uint8 OpenCV interpolates with 11-bit weights and rounds; float32 is exact to 1e-4.
    resized: np.ndarray = cv2.resize(
        cut.astype(np.float32), (size, size), interpolation=cv2.INTER_LINEAR
    )
    return resized


def _window_size(box: Box, margin: int, shape: CropShape) -> tuple[int, int]:
    """Width and height of the window in pixels."""
    if shape == "square":
        return box.width + 2 * margin, box.width + 2 * margin
    if shape == "square_cover":
        side = max(box.width, box.height) + 2 * margin
        return side, side
    if shape == "rectangle":
        return box.width + 2 * margin, box.height + 2 * margin
    raise ValueError(f"shape: found {shape!r}, expected square, square_cover or rectangle")


def _moved_inside(start: int, length: int, image_length: int) -> int:
    """The nearest start of an interval that lies inside the frame, or holds it if longer."""
    slack = image_length - length
    return min(max(start, min(slack, 0)), max(slack, 0))


def _inside(positions: Int[np.ndarray, " n"], length: int, border: Border) -> Int[np.ndarray, " n"]:
    """The row or column of the frame that stands for each position, be it in or outside it."""
    if border != "reflect" or length == 1:
        return np.clip(positions, 0, length - 1)
    last = length - 1
    return last - np.abs(positions % (2 * last) - last)


def _bilinear(
    length: int, size: int
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """For each of `size` outputs over `length` inputs: both neighbours, and the later one's weight.

    Half-pixel centres: output i lies at (i + 0.5) length / size - 0.5, held inside the inputs.
    """
    position = np.clip((np.arange(size) + 0.5) * (length / size) - 0.5, 0.0, length - 1.0)
    first = np.floor(position).astype(np.int64)
    return first, np.minimum(first + 1, length - 1), position - first
