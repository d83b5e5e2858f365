"""Find the scan sector of a B-mode frame and blank all that is burnt in around it.

Frames as scanners export them show the echoes in one or two rectangular, trapezoid or curved areas
on a black ground, among depth scales, grey bars, settings and typed remarks: DDTI's even hold the
grade. A crop with a margin takes these in, so a study of margins must blank them first. The method
is our own: echoes leave a noise floor above the ground's level even in shadow, and a sector is wide
where text is thin.
"""

from __future__ import annotations

import numpy as np

from thyrojax.shapes import Bool, UInt8

GROUND = 3  # highest grey level of the ground; JPEG's ringing around text stays below it
STRUCTURE = 1 / 12  # of the frame's shorter side: what is thinner than this is no sector
SMALLEST = 0.1  # of the largest area: a second area smaller than this is no panel
TOP_BAND = 0.1  # of a sector's depth: a linear probe's sector has its full width this near the skin
BANNER_LEVEL = 20  # a banner is brighter than this; darker flat areas are cysts and shadows
BANNER = 0.01  # of the frame's area: the largest flat area in 561 frames with echoes was 0.006
FULL_WIDTH = 0.97  # of the sector's width counts as full, so that an edge may be dark


def find_sector(
    image: UInt8[np.ndarray, "height width"],
) -> Bool[np.ndarray, "height width"]:
    """Where a frame shows echoes: True inside the scan sector or, on a split screen, sectors.

    Text, scales and calipers that lie *inside* a sector stay. A grey banner, on which some scanners
    write the patient's name, is none: it is flat, and echoes are not. A frame in which no sector
    stands out is all True, so that nothing is blanked on a guess.
    """
    import cv2

    # The median removes thin strokes, ticks and dots, and keeps the noise floor of shadows.
    smooth = cv2.medianBlur(image, 5)
    echoes = ((smooth > GROUND) & ~_banners(smooth)).astype(np.uint8)
    outlines, _ = cv2.findContours(echoes, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    cv2.drawContours(echoes, outlines, -1, 1, cv2.FILLED)  # cysts are as black as the ground

    count, labels, stats, _ = cv2.connectedComponentsWithStats(_wide_parts(echoes))
    sector = np.zeros(image.shape, dtype=bool)
    if count > 1:
        areas = stats[:, cv2.CC_STAT_AREA]
        for number in range(1, count):
            if areas[number] >= SMALLEST * areas[1:].max():
                x, y, w, h = stats[number, :4]
                panel = np.s_[y : y + h, x : x + w]
                sector[panel] |= _without_shadows(labels[panel] == number)
    if not sector.any():
        sector[:] = True
    return sector


def mask_overlay(
    image: UInt8[np.ndarray, "height width"],
) -> UInt8[np.ndarray, "height width"]:
    """The frame with 0 outside its scan sector; see `find_sector`."""
    return np.where(find_sector(image), image, np.uint8(0))


def _banners(
    smooth: UInt8[np.ndarray, "height width"],
) -> Bool[np.ndarray, "height width"]:
    """Wide areas of one grey level. What is written on them stays out, and is thin."""
    import cv2

    side = np.ones((5, 5), np.uint8)
    flat = (cv2.dilate(smooth, side) == cv2.erode(smooth, side)) & (smooth > BANNER_LEVEL)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(flat.astype(np.uint8))
    wide = stats[:, cv2.CC_STAT_AREA] >= BANNER * smooth.size
    wide[0] = False  # what is not flat
    banners = wide[labels].astype(np.uint8)
    # A level's edge is not flat by itself: as far as the blur and the comparison reach.
    return cv2.dilate(banners, np.ones((9, 9), np.uint8)).astype(bool)


def _wide_parts(
    echoes: UInt8[np.ndarray, "height width"],
) -> UInt8[np.ndarray, "height width"]:
    """What either of two morphological openings (0/1) of one width keeps.

    A square keeps the corners of a rectangle, a disc keeps slanted and curved edges.
    """
    import cv2

    side = max(3, round(min(echoes.shape) * STRUCTURE)) | 1
    square = cv2.morphologyEx(
        echoes,
        cv2.MORPH_OPEN,
        np.ones((side, side), np.uint8),
        borderType=cv2.BORDER_CONSTANT,
        borderValue=0,
    )
    # A disc's opening by two distance transforms costs a fifth of the morphology.
    framed = cv2.copyMakeBorder(echoes, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    core = cv2.distanceTransform(framed, cv2.DIST_L2, 3) > side / 2
    to_core = cv2.distanceTransform((~core).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    # Where there is no core at all, the distance transform is measured from nowhere.
    disc = (to_core <= side / 2) & core.any()
    return square | (disc.astype(np.uint8) & echoes)


def _without_shadows(
    panel: Bool[np.ndarray, "height width"],
) -> Bool[np.ndarray, "height width"]:
    """A sector with its notches filled; `panel` is cut to the sector's bounding box.

    A sector never narrows with depth but at its curved bottom. One that has its full width at the
    skin is a linear probe's, hence a rectangle: its dark corners are shadow, and are filled.
    """
    below_skin = np.maximum.accumulate(panel, axis=0)  # the skin under a convex probe is a hollow
    filled = _span(_span(panel, axis=0), axis=1) & below_skin
    height, width = filled.shape
    band = max(1, round(height * TOP_BAND))
    at_skin = np.flatnonzero(filled[:band].any(axis=0))
    if at_skin.size and at_skin[-1] - at_skin[0] + 1 >= FULL_WIDTH * width:
        filled[band:] = True
    return filled


def _span(panel: Bool[np.ndarray, "height width"], axis: int) -> Bool[np.ndarray, "height width"]:
    """All between the first and the last True along an axis."""
    before = np.maximum.accumulate(panel, axis=axis)
    after = np.flip(np.maximum.accumulate(np.flip(panel, axis), axis=axis), axis)
    return before & after
