"""The one crop geometry: from box, margin and shape to a window, and from a window to pixels.

Windows have whole-pixel edges, so cutting is exact and only resizing interpolates: bilinear with
half-pixel centres, not antialiased, and never reading a pixel outside the window.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from thyrojax.config import Border, CropShape, MarginUnit
from thyrojax.data.records import Box
from thyrojax.shapes import Float, Int, UInt8

AROUND_BOX: tuple[CropShape, ...] = ("square", "square_cover", "rectangle")  # not the whole frame

_of_thread = threading.local()  # `buffer` of `_scratch`


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
    instead, `rectangle` keeps the margin on all four sides; `frame` is no crop at all, the whole
    frame whatever box and margin. An odd rest of the centring goes to the bottom and to the right.
    With border `shift` the window is moved inside the frame; along an axis where it is longer than
    the frame, it is moved until it holds the whole frame.

    Raises:
      ValueError: a negative margin, a box of no area, or an unknown shape.
    """
    if margin < 0:
        raise ValueError(f"margin: found {margin}, expected a whole number >= 0")
    if box.width <= 0 or box.height <= 0:
        raise ValueError(f"box: found {tuple(box)}, expected x_min < x_max and y_min < y_max")
    return Window(*window_edges(box, margin, shape, border, image_height, image_width))


def window_edges(
    box: tuple[Any, Any, Any, Any],
    margin: Any,
    shape: CropShape,
    border: Border,
    image_height: Any,
    image_width: Any,
    minimum: Callable[[Any, Any], Any] = min,
    maximum: Callable[[Any, Any], Any] = max,
) -> tuple[Any, Any, Any, Any]:
    """Left, top, width and height of `window`, of whole numbers or of arrays of them.

    Arrays (of NumPy or jax) need `minimum` and `maximum` of their library. Nothing is checked.
    """
    if shape == "frame":
        return 0 * image_width, 0 * image_height, image_width, image_height
    x_min, y_min, x_max, y_max = box
    width, height = _window_size(x_max - x_min, y_max - y_min, margin, shape, maximum)
    left = (x_min + x_max - width) // 2
    top = (y_min + y_max - height) // 2
    if border == "shift":
        # The nearest start of an interval that lies inside the frame, or holds it if longer.
        slack = image_width - width
        left = minimum(maximum(left, minimum(slack, 0)), maximum(slack, 0))
        slack = image_height - height
        top = minimum(maximum(top, minimum(slack, 0)), maximum(slack, 0))
    return left, top, width, height


MOST_MARGIN = 8_000  # pixels: beyond any frame; windows are made whole, and take memory


def margin_pixels(margin: int, unit: MarginUnit, spacing_mm: float | None) -> int:
    """A margin as whole pixels; one in millimetres is rounded half to even.

    Args:
      margin: in `unit`, >= 0.
      spacing_mm: of the frame, mm per pixel; needed for millimetres only.

    Raises:
      ValueError: millimetres without a positive spacing; more than `MOST_MARGIN` pixels.
    """
    pixels = _margin_pixels(margin, unit, spacing_mm)
    if pixels > MOST_MARGIN:
        of = "" if unit == "px" else f" ({margin} mm at {spacing_mm:g} mm per pixel)"
        raise ValueError(f"margin: found {pixels} px{of}, expected at most {MOST_MARGIN}")
    return pixels


def _margin_pixels(margin: int, unit: MarginUnit, spacing_mm: float | None) -> int:
    if unit == "px":
        return margin
    if not spacing_mm or spacing_mm <= 0.0:
        raise ValueError(f"pixel spacing: found {spacing_mm}, expected mm per pixel > 0")
    return round(margin / spacing_mm)


def is_cut(box: Box, margin: int, shape: CropShape) -> bool:
    """Whether the window leaves out a part of its nodule: `square` and h > w + 2 margin."""
    if shape == "frame":
        return False
    width, height = _window_size(box.width, box.height, margin, shape, max)
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
    image: UInt8[np.ndarray, "height width"],
    window: Window,
    size: int,
    border: Border,
    flip: bool = False,
    vertical_flip: bool = False,
    out: Float[np.ndarray, "size size"] | None = None,
) -> Float[np.ndarray, "size size"]:
    """The same as `crop_numpy` to 1e-3 grey levels, at host speed: needs OpenCV >= 5.

    `flip` mirrors left and right, `vertical_flip` top and bottom; `out`, float32 and contiguous,
    takes the result instead of a new array.
    """
    import cv2

    cut = _cut(image, window, border)
    # Mirrored before resizing, which commutes with it: the window's bytes are fewer.
    cut = cut[:: -1 if vertical_flip else 1, :: -1 if flip else 1]
    # In uint8 OpenCV interpolates with 11-bit weights and rounds; float32 is exact to 1e-4.
    source = _scratch(cut.shape)
    np.copyto(source, cut)
    resized: np.ndarray = cv2.resize(source, (size, size), dst=out, interpolation=cv2.INTER_LINEAR)
    return resized


def rows_read(window: Window, image_height: int, border: Border) -> int:
    """How many of the frame's rows, from the top, a crop of the window depends on: at least 1."""
    bottom = window.top + window.height
    if bottom > image_height:
        return image_height
    mirrored = 1 - window.top if border == "reflect" else 1  # the row that stands for the topmost
    return min(max(bottom, mirrored), image_height)


def _scratch(shape: tuple[int, ...]) -> Float[np.ndarray, "height width"]:
    """This thread's float32 buffer: fresh pages for each window cost more than filling them."""
    pixels = math.prod(shape)
    buffer = getattr(_of_thread, "buffer", None)
    if buffer is None or buffer.size < pixels:
        buffer = _of_thread.buffer = np.empty(pixels, np.float32)
    return buffer[:pixels].reshape(shape)


def crop_turned(
    image: UInt8[np.ndarray, "height width"],
    window: Window,
    columns: Float[np.ndarray, "size size"],
    rows: Float[np.ndarray, "size size"],
    border: Border,
) -> Float[np.ndarray, "size size"]:
    """A frame at any positions about a window, float32 in 0..255, bilinear.

    `columns` and `rows` are in the window's pixels (`augment.turned_positions`). A turned window
    shows what the frame has beyond the upright one; only what lies outside the frame is filled.
    """
    import cv2

    left, top = int(np.floor(columns.min())), int(np.floor(rows.min()))
    width = int(np.floor(columns.max())) + 2 - left
    height = int(np.floor(rows.max())) + 2 - top
    cut = _cut(image, Window(window.left + left, window.top + top, width, height), border)
    return cv2.remap(
        cut.astype(np.float32),
        (columns - left).astype(np.float32),
        (rows - top).astype(np.float32),
        cv2.INTER_LINEAR,
    )


def _cut(
    image: UInt8[np.ndarray, "height width"], window: Window, border: Border
) -> UInt8[np.ndarray, "rows columns"]:
    """The window's pixels, filled by the border's rule where it leaves the frame."""
    height, width = image.shape
    left, top = window.left, window.top
    right, bottom = left + window.width, top + window.height
    if left >= 0 and top >= 0 and right <= width and bottom <= height:
        return image[top:bottom, left:right]
    if border in ("constant", "shift"):
        cut = np.zeros((window.height, window.width), np.uint8)
        rows = slice(max(top, 0), max(min(bottom, height), 0))
        columns = slice(max(left, 0), max(min(right, width), 0))
        inside = image[rows, columns]
        if inside.size:
            y, x = rows.start - top, columns.start - left
            cut[y : y + inside.shape[0], x : x + inside.shape[1]] = inside
        return cut
    cut = image.take(_inside(np.arange(top, bottom), height, border), axis=0)
    return cut.take(_inside(np.arange(left, right), width, border), axis=1)


def _window_size(
    width: Any, height: Any, margin: Any, shape: CropShape, maximum: Callable[[Any, Any], Any]
) -> tuple[Any, Any]:
    """Width and height of the window in pixels, from those of the box."""
    if shape == "square":
        return width + 2 * margin, width + 2 * margin
    if shape == "square_cover":
        side = maximum(width, height) + 2 * margin
        return side, side
    if shape == "rectangle":
        return width + 2 * margin, height + 2 * margin
    raise ValueError(f"shape: found {shape!r}, expected square, square_cover, rectangle or frame")


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
