"""The nodule record: what every source yields and every later part relies on."""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from thyrojax.errors import DataError, Fault


class Box(NamedTuple):
    """A box in whole pixels, half-open: columns x_min..x_max-1, rows y_min..y_max-1."""

    x_min: int
    y_min: int
    x_max: int
    y_max: int

    @property
    def width(self) -> int:
        return self.x_max - self.x_min

    @property
    def height(self) -> int:
        return self.y_max - self.y_min


def box_outward(x_min: float, y_min: float, x_max: float, y_max: float) -> Box:
    """The smallest whole-pixel box that holds a fractional one (each edge rounded outward).

    Raises:
      ValueError: an edge is not finite.
    """
    return Box(math.floor(x_min), math.floor(y_min), math.ceil(x_max), math.ceil(y_max))


@dataclass(frozen=True)
class Nodule:
    """One nodule in one image.

    `image` is a file, or a function that returns the frame as uint8 [height, width] and can be
    pickled (the phantom, DICOM). Nodules of one frame have equal `image`s.
    `image_id` is unique for each nodule: a source appends "-1", "-2" where an image has several.
    Features are None where nobody stated them, else words of `vocabulary.VOCABULARY`.
    """

    image: Path | Callable[[], np.ndarray] = field(repr=False)
    image_id: str
    patient_id: str
    box: Box
    label: int
    size_mm: float | None = None  # largest diameter
    tirads: str | None = None
    composition: str | None = None
    echogenicity: str | None = None
    calcification: str | None = None
    margin: str | None = None
    shape: str | None = None
    pixel_spacing_mm: float | None = None  # mm per pixel, square pixels
    reader_label: int | None = None


@dataclass(frozen=True)
class Exclusion:
    """An image or region that a source left out, and why (`reason` from a short closed list)."""

    image_id: str
    reason: str
    detail: str = ""


@dataclass(frozen=True)
class SourceData:
    """What a source found: usable nodules, all that was left out, and how many images it saw.

    `notes` are sentences for whoever uses the set, such as that it names no patients.
    """

    source: str
    nodules: tuple[Nodule, ...]
    exclusions: tuple[Exclusion, ...]
    n_images: int
    notes: tuple[str, ...] = ()


def load_image(image: Path | Callable[[], np.ndarray]) -> np.ndarray:
    """A frame as grey uint8 [height, width]; colour is reduced by ITU-R 601 luma.

    Raises:
      DataError: the file is missing or cannot be decoded as an 8-bit image.
    """
    return image() if callable(image) else decode_image(image, str(image))


def decode_image(image: Path | bytes, name: str) -> np.ndarray:
    """An image file, or the bytes of one, as `load_image` gives it; errors begin with `name`.

    Raises:
      DataError: the file is missing or cannot be decoded as an 8-bit image.
    """
    from PIL import Image

    try:
        if isinstance(image, Path) and (image.is_fifo() or image.is_char_device()):
            raise DataError(f"{name}: found a pipe or device, expected an image")  # without end
        with Image.open(io.BytesIO(image) if isinstance(image, bytes) else image) as opened:
            if (pages := _pages(opened)) > 1:
                raise DataError(
                    f"{name}: found {pages} pages, expected one image: save the page that was "
                    "annotated"
                )
            # Pillow calls 16-bit colour "RGB" and drops half of its bits; the decoder knows.
            deep = any(f";16{order}" in str(opened.tile) for order in "BLN")
            if deep or opened.mode.startswith(("I", "F")):
                kind = "16 bits" if deep else f"pixels of kind {opened.mode}"
                raise DataError(f"{name}: found {kind}, expected 8 bits per channel")
            return np.asarray(opened.convert("L"))
    except FileNotFoundError:
        raise DataError(f"{name}: found no such file, expected an image") from None
    except (
        OSError,
        EOFError,
        LookupError,
        SyntaxError,
        TypeError,
        ValueError,
        struct.error,
    ) as error:
        reason = str(error).partition("\n")[0]
    except Image.DecompressionBombError as error:
        reason = str(error)
    raise DataError(
        f"{name}: found an unreadable image ({reason}), expected a whole PNG, JPEG, BMP or TIFF"
    )


def _pages(image: Any) -> int:
    """Of a TIFF, how many images it holds; smaller copies of another page (thumbnails) are none."""
    if image.format != "TIFF" or image.n_frames == 1:
        return 1
    pages = 0
    for page in range(image.n_frames):
        image.seek(page)
        pages += not image.tag_v2.get(_SUBFILE_TYPE, 0) & _REDUCED
    image.seek(0)
    return pages


_SUBFILE_TYPE, _REDUCED = 254, 1  # TIFF 6.0, section 8


def box_fault(box: Box, width: int, height: int, file: str, row: str) -> Fault | None:
    """What is wrong with a box in an image of that size in pixels; None where nothing is."""
    found = f"box {box.x_min} {box.y_min} {box.x_max} {box.y_max}"
    if box.x_max <= box.x_min or box.y_max <= box.y_min:
        return Fault(file, row, f"{found} of no area", "x_min < x_max and y_min < y_max")
    if box.x_min < 0 or box.y_min < 0 or box.x_max > width or box.y_max > height:
        return Fault(file, row, found, f"a box inside the {width}x{height} image")
    return None
