"""What the sources of masks share: the boxes of a mask's connected parts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from thyrojax.data.records import Box, Exclusion, load_image
from thyrojax.data.sources.reading import Frame, read_frame
from thyrojax.errors import DataError, Fault
from thyrojax.shapes import Bool

SMALLEST_AREA = 64  # px; a nodule of 8x8 px could not be seen, a speck of compression can
THRESHOLD = 127  # brighter is nodule: JPEG and smoothing leave other greys than 0 and 255

NO_MASK_FILE = "no mask file"
EMPTY_MASK = "empty mask"
SMALL_PART = "part of a mask too small"


@dataclass(frozen=True)
class Part:
    """A connected part of a mask: its box, and its area in pixels."""

    box: Box
    area: int


def parts_of(marked: Bool[np.ndarray, "height width"]) -> list[Part]:
    """The connected parts (pixels touching at a corner are connected), from top to bottom."""
    import cv2

    count, _, stats, _ = cv2.connectedComponentsWithStats(marked.astype(np.uint8), connectivity=8)
    parts = []
    for x, y, width, height, area in stats[1:count].tolist():
        parts.append(Part(Box(x, y, x + width, y + height), area))
    return sorted(parts, key=lambda part: (part.box.y_min, part.box.x_min, part.box, part.area))


def read_mask(mask: Path, frame: Frame, faults: list[Fault]) -> list[Part] | None:
    """The parts of a mask file; none of them where it is empty; None beside a fault.

    White (above `THRESHOLD`) is nodule. A file of nothing but 0 and 1 is read as 0 and 255.

    Faults: unreadable, of another size than its image, black and white the other way round, or
    neither of these two kinds: numbered or coloured regions, of which this cannot say what is a
    nodule.
    """
    try:
        grey = load_image(mask)
    except DataError:
        read_frame(mask, str(mask), "", faults)
        return None
    height, width = grey.shape
    if (height, width) != (frame.height, frame.width):
        expected = f"{frame.width}x{frame.height}, as its image"
        faults.append(Fault(str(mask), "", f"a {width}x{height} mask", expected))
        return None
    brightest = int(grey.max())
    if 1 < brightest <= THRESHOLD:
        found = f"no grey level above {brightest}"
        faults.append(Fault(str(mask), "", found, "a mask of 0 and 255, or of 0 and 1"))
        return None
    marked = grey > (THRESHOLD if brightest > 1 else 0)
    if marked[[0, 0, -1, -1], [0, -1, 0, -1]].all():
        found = "white in all four corners"
        faults.append(Fault(str(mask), "", found, "black around white nodules"))
        return None
    return parts_of(marked)


def without_small(
    name: str, mask: Path, parts: list[Part], smallest_area: int
) -> tuple[list[Box], list[Exclusion]]:
    """The boxes of the parts that are large enough; the others, or that there is none, as
    exclusions of the image of that name."""
    if not parts:
        return [], [Exclusion(name, EMPTY_MASK, mask.name)]
    boxes = [part.box for part in parts if part.area >= smallest_area]
    small = [
        Exclusion(
            name, SMALL_PART, f"{mask.name}: {part.area} px, box {' '.join(map(str, part.box))}"
        )
        for part in parts
        if part.area < smallest_area
    ]
    return boxes, small


def check_smallest_area(smallest_area: int | None) -> int:
    """The area asked for, `SMALLEST_AREA` where none was.

    Raises:
      DataError: it is below 1.
    """
    if smallest_area is None:
        return SMALLEST_AREA
    if smallest_area < 1:
        raise DataError(f"--smallest-area: found {smallest_area}, expected a whole number >= 1")
    return smallest_area
