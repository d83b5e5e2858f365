"""Find what is burnt into the echoes themselves: lines of text and caliper crosses.

What lies outside the scan sector can be blanked (`sector.mask_overlay`). What lies inside stays and
tells a network where the nodule is, how large it was measured, or what somebody thought of it. Our
own method prefers silence to false alarm: it says that a set has marks, not where all of
them are. Arrows, body marks, lone letters and dotted lines are not looked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from thyrojax.data.records import Box
from thyrojax.shapes import Bool, UInt8

# Letters.
WIDEST_STROKE = 7  # pixels: what is wider is no stroke
STANDS_OUT = 60  # grey levels above what lies around
LETTER_HEIGHT = (6, 32)  # pixels
LETTER_WIDTH = 40
BRIGHTEST = 30  # grey levels: a stroke's core is that near to the letter's level
CORE = 0.25  # least share of a letter's pixels that are core
SAME_LEVEL = 20  # grey levels between the letters of a line
FEWEST_LETTERS = 3

# Caliper crosses.
ARMS = (3, 4, 5, 6, 7, 8)  # pixels from the centre to the end of an arm
ABOVE_MEAN = 25  # grey levels of an arm's darkest pixel above the mean around: worth a look
ABOVE_REST = 30  # ... above the brightest pixel between the arms

GAP = 3  # pixels: boxes that near each other are one mark


class _Letter(NamedTuple):
    box: Box
    level: float


def find_text(
    image: UInt8[np.ndarray, "height width"], sector: Bool[np.ndarray, "height width"]
) -> list[Box]:
    """Boxes of lines of text (three letters or more) and of caliper crosses inside a scan sector.

    Letters are thin strokes brighter than all around them, alike in level, height and baseline. In
    a cross, upright or oblique, every pixel of the arms is brighter than all that lies between
    them, but for one quarter that may hold the caliper's number.
    """
    return _merged([*_lines(_letters(image, sector)), *_crosses(image, sector)])


def _letters(image: np.ndarray, sector: np.ndarray) -> list[_Letter]:
    """What could be a letter, from left to right."""
    import cv2

    square = np.ones((WIDEST_STROKE, WIDEST_STROKE), np.uint8)
    strokes = (cv2.morphologyEx(image, cv2.MORPH_TOPHAT, square) >= STANDS_OUT) & sector
    count, labels, stats, _ = cv2.connectedComponentsWithStats(strokes.astype(np.uint8))
    letters = []
    for number in range(1, count):
        x, y, w, h, area = stats[number].tolist()
        if not (LETTER_HEIGHT[0] <= h <= LETTER_HEIGHT[1] and w <= LETTER_WIDTH):
            continue
        if area <= h or (w > LETTER_HEIGHT[0] and area > 0.85 * w * h):  # a scratch, a block
            continue
        around = np.s_[max(y - 2, 0) : y + h + 2, max(x - 2, 0) : x + w + 2]
        pixels, own = image[around], labels[around] == number
        level = float(np.percentile(pixels[own], 90))
        beside = cv2.dilate(own.astype(np.uint8), np.ones((3, 3), np.uint8)) == 0
        if (
            (pixels[own] >= level - BRIGHTEST).sum() >= CORE * area
            and beside.any()
            and level - np.percentile(pixels[beside], 90) >= STANDS_OUT
        ):
            letters.append(_Letter(Box(x, y, x + w, y + h), level))
    return sorted(letters)


def _lines(letters: Sequence[_Letter]) -> list[Box]:
    """Boxes of rows of letters; `letters` from left to right."""
    boxes: list[Box] = []
    used: set[int] = set()
    for start in range(len(letters)):
        if start in used:
            continue
        row = [start]
        while (following := _next(letters, row[-1])) is not None:
            row.append(following)
        if len(row) >= FEWEST_LETTERS:
            used.update(row)
            boxes.append(_around([letters[i].box for i in row]))
    return boxes


def _next(letters: Sequence[_Letter], position: int) -> int | None:
    """The next letter of a row: beside the one at `position`, as high, as bright, level with it."""
    (last, level) = letters[position]
    for i in range(position + 1, len(letters)):
        box, its_level = letters[i]
        height = max(last.height, box.height)
        distance = box.x_min - last.x_max
        if distance > 1.5 * LETTER_HEIGHT[1]:
            return None
        if (
            -2 <= distance <= 1.5 * height
            and abs(box.y_max - last.y_max) <= max(1.0, 0.1 * height)
            and abs(box.height - last.height) <= max(1.0, 0.15 * height)
            and abs(its_level - level) <= SAME_LEVEL
        ):
            return i
    return None


def _crosses(image: np.ndarray, sector: np.ndarray) -> list[Box]:
    import cv2

    boxes = []
    height, width = image.shape
    for oblique in (False, True):
        for reach in ARMS:
            side = 2 * reach + 1
            # Small oblique crosses are found in speckle.
            if (oblique and reach < 4) or min(height, width) < side:
                continue
            arms, between = _cross(reach, oblique)
            darkest = cv2.erode(image, arms, borderType=cv2.BORDER_CONSTANT, borderValue=0)
            mean = cv2.blur(image, (side, side)).astype(np.int32)
            worth = (darkest >= mean + ABOVE_MEAN) & sector
            for y, x in np.argwhere(worth[reach : height - reach, reach : width - reach]).tolist():
                pixels = image[y : y + side, x : x + side]
                brightest = sorted(int(pixels[quarter].max()) for quarter in between)
                if int(darkest[y + reach, x + reach]) - brightest[2] >= ABOVE_REST:
                    boxes.append(Box(x, y, x + side, y + side))
    return boxes


@cache
def _cross(reach: int, oblique: bool) -> tuple[np.ndarray, list[np.ndarray]]:
    """The arms of a cross (0/1, without the centre, often left open), the quarters between them."""
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    far = np.maximum(abs(x), abs(y)) >= (1 if reach < 5 else 2)
    if oblique:
        arms = (abs(x) == abs(y)) & far
        upright = abs(y) - abs(x) >= 3  # a stroke is up to two pixels wide
        level = abs(x) - abs(y) >= 3
        quarters = [upright & (y < 0), upright & (y > 0), level & (x < 0), level & (x > 0)]
    else:
        arms = ((x == 0) | (y == 0)) & far
        apart = np.minimum(abs(x), abs(y)) >= 2
        quarters = [apart & (sx * x > 0) & (sy * y > 0) for sx in (1, -1) for sy in (1, -1)]
    return arms.astype(np.uint8), quarters


def _around(boxes: Sequence[Box]) -> Box:
    x_min, y_min, x_max, y_max = zip(*boxes, strict=True)
    return Box(min(x_min), min(y_min), max(x_max), max(y_max))


def _merged(boxes: Sequence[Box]) -> list[Box]:
    """The boxes, those within `GAP` pixels of each other made one, from the top."""
    left = list(boxes)
    merged: list[Box] = []
    while left:
        box = left.pop()
        near = [other for other in (*left, *merged) if _near(box, other)]
        if near:
            left = [_around([box, *near]), *(other for other in left if other not in near)]
            merged = [other for other in merged if other not in near]
        else:
            merged.append(box)
    return sorted(merged, key=lambda box: (box.y_min, box.x_min))


def _near(one: Box, other: Box) -> bool:
    return (
        one.x_min <= other.x_max + GAP
        and other.x_min <= one.x_max + GAP
        and one.y_min <= other.y_max + GAP
        and other.y_min <= one.y_max + GAP
    )
