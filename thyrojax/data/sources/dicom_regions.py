"""Where a DICOM ultrasound frame shows tissue, and how large its pixels are there.

The US Region Calibration module (PS3.3, C.8.5.5) lists rectangles of the frame with what each of
them shows and the step from pixel to pixel in physical units. Corners are pixels, both included.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from thyrojax.data.records import Box
from thyrojax.data.sources.dicom_header import items, number, numbers, whole
from thyrojax.shapes import UInt8

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

TWO_DIMENSIONAL, TISSUE = 1, 1  # RegionSpatialFormat, RegionDataType
CENTIMETRES = 3  # PhysicalUnitsXDirection, PhysicalUnitsYDirection
MM_PER_CM = 10.0
SQUARE = (
    0.01  # steps that differ by more, as part of the smaller, are of pixels that are not square
)


class Spacing(NamedTuple):
    """mm per pixel, or None where it is not known; `uneven` where the reason is unlike steps."""

    mm: float | None
    uneven: bool = False


class Region(NamedTuple):
    """A rectangle that shows tissue."""

    box: Box
    spacing: Spacing


class Regions(NamedTuple):
    """What a file says of its frame's regions; `misfit` where they are of another frame."""

    tissue: tuple[Region, ...]
    misfit: bool = False


def tissue_regions(dataset: Dataset, width: int, height: int) -> Regions:
    """The 2D tissue regions of a frame of that size in pixels.

    Frames are scaled or cut after they leave the scanner, by software that leaves the regions as
    they were. Hence no region is believed, nor its spacing, where one of them goes beyond the frame
    by more than the pixel by which writers differ (whether the last corner is included).
    """
    regions = []
    for item in items(dataset, "SequenceOfUltrasoundRegions"):
        corners = [
            whole(item, f"RegionLocation{name}") for name in ("MinX0", "MinY0", "MaxX1", "MaxY1")
        ]
        x_min, y_min, x_max, y_max = (-1 if corner is None else corner for corner in corners)
        if x_max > width or y_max > height:
            return Regions((), misfit=True)
        if whole(item, "RegionSpatialFormat") != TWO_DIMENSIONAL:
            continue
        if whole(item, "RegionDataType") != TISSUE:
            continue
        box = Box(x_min, y_min, min(x_max + 1, width), min(y_max + 1, height))
        if min(x_min, y_min) >= 0 and box.width > 0 and box.height > 0:
            regions.append(Region(box, _region_spacing(item)))
    return Regions(tuple(regions))


def frame_spacing(dataset: Dataset) -> Spacing:
    """What Pixel Spacing (0028,0030: mm between rows, mm between columns) says of a whole frame."""
    steps = numbers(dataset, "PixelSpacing")
    return _square(steps[1], steps[0]) if len(steps) == 2 else Spacing(None)


def region_of(box: Box, regions: tuple[Region, ...]) -> Region | None:
    """The region that holds most of a box, the smaller of equals; None where none holds any."""
    held = [
        (_area_of_both(box, region.box), -region.box.width * region.box.height, -number, region)
        for number, region in enumerate(regions)
    ]
    held = [entry for entry in held if entry[0] > 0]
    return max(held)[-1] if held else None


def blank_outside(
    frame: UInt8[np.ndarray, "height width"], boxes: tuple[Box, ...]
) -> UInt8[np.ndarray, "height width"]:
    """The frame with 0 wherever none of the boxes is."""
    blanked = np.zeros_like(frame)
    for box in boxes:
        inside = np.s_[box.y_min : box.y_max, box.x_min : box.x_max]
        blanked[inside] = frame[inside]
    return blanked


def _region_spacing(item: Dataset) -> Spacing:
    for axis in "XY":
        if whole(item, f"PhysicalUnits{axis}Direction") != CENTIMETRES:
            return Spacing(None)
    x, y = number(item, "PhysicalDeltaX"), number(item, "PhysicalDeltaY")
    if x is None or y is None:
        return Spacing(None)
    # The sign says where an axis points; a step of 0 says that nothing is known.
    return _square(abs(x) * MM_PER_CM, abs(y) * MM_PER_CM)


def _square(x: float, y: float) -> Spacing:
    """One spacing of two, their geometric mean."""
    if x <= 0 or y <= 0:
        return Spacing(None)
    if max(x, y) / min(x, y) > 1 + SQUARE:
        return Spacing(None, uneven=True)
    return Spacing(math.sqrt(x * y))


def _area_of_both(one: Box, other: Box) -> int:
    width = min(one.x_max, other.x_max) - max(one.x_min, other.x_min)
    height = min(one.y_max, other.y_max) - max(one.y_min, other.y_min)
    return max(width, 0) * max(height, 0)
