"""Frames that show the same picture in other bytes: saved again, scaled, captioned, cropped.

Public sets hold such copies under the names of different patients, and a split by patient then has
one picture on both sides. A hash of each frame finds the few pairs worth looking at; their pixels
decide.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from thyrojax.config import LISTED_FROM
from thyrojax.data.sector import find_sector
from thyrojax.shapes import Bool, Float, UInt8

SIDE = 64  # pixels of the small picture that is hashed
WAVES = 16  # lowest frequencies kept along each axis, hence 256 bits
HASH_BYTES = WAVES * WAVES // 8
NEARBY = 8.0  # of those pixels: how far brightness and contrast are evened out
FAINT = 20.0  # grey levels: contrast below this is not drawn up
FAR = 64  # of 256 bits; copies as altered as docs/data.md says differ in at most 61

PICTURE = 128  # pixels of the picture that is compared
TILE = 16
FEWEST_TILES = 6  # of 64: less in common is no ground to call two frames copies
FLAT = 1.0  # grey levels: the standard deviation of a tile that shows nothing
KEPT = 1024  # pictures in memory, 80 KB each


class Pair(NamedTuple):
    """Two frames by position, the first before the second, and how alike they are, 0..1."""

    first: int
    second: int
    similarity: float


class _Picture(NamedTuple):
    pixels: Float[np.ndarray, "side side"]
    inside: Bool[np.ndarray, "side side"]  # the scan sector without its edge


def perceptual_hash(frame: UInt8[np.ndarray, "height width"]) -> str:
    """256 bits, as 64 hexadecimal digits, of which copies of a frame share at least three quarters.

    The signs of the lowest frequencies of the frame at 64x64 pixels: a discrete cosine transform
    (the idea of pHash, Zauner 2010). Brightness and contrast are evened out before, or a scanner's
    layout would weigh more than what it shows. Unrelated frames differ in about half of the bits.
    """
    import cv2

    height, width = frame.shape
    if min(height, width) >= 4 * SIDE:  # halving is a fast special case of OpenCV's
        frame = cv2.resize(frame, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    small = cv2.resize(frame, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    above = small - cv2.GaussianBlur(small, (0, 0), NEARBY)
    contrast = np.sqrt(cv2.GaussianBlur(above * above, (0, 0), NEARBY) + FAINT**2)
    # In whole numbers below 2^53, so that the order of summation decides no bit.
    cosines = _cosines()
    waves = cosines @ np.rint(4096.0 * (above / contrast).astype(np.float64)) @ cosines.T
    waves[0, 0] = 0.0
    return np.packbits(waves > 0.0).tobytes().hex()


@cache
def _cosines() -> Float[np.ndarray, "waves side"]:
    """The discrete cosine transform's first waves, times 2^12 and rounded to whole numbers."""
    position = (2 * np.arange(SIDE) + 1) / (2 * SIDE)
    return np.rint(4096 * np.cos(np.pi * np.outer(np.arange(WAVES), position)))


def find(
    hashes: Sequence[str],
    frame_of: Callable[[int], UInt8[np.ndarray, "height width"]],
    groups: Sequence[str],
    floor: float = LISTED_FROM,
    same: Sequence[str] = (),
) -> list[Pair]:
    """Pairs of frames of different groups that are alike at `floor` or above, by position.

    Args:
      hashes: `perceptual_hash` of each frame.
      frame_of: the frame at a position; called for the few whose hashes are near each other.
      groups: each frame's patient; frames of one patient are not compared.
      floor: the least similarity (`similarity`).
      same: a digest of each frame, where those of equal digest are joined already and are to be
        left out; all-black frames and the like are then no burden.

    The hashes are compared all with all, n^2/2 comparisons at 6 ns each: 0.3 s for 10,000 frames,
    under a minute for 100,000. Each pair that is near then costs about 10 ms.
    """
    pictures = _Pictures(frame_of)
    pairs = []
    for first, second in _near(hashes):
        if groups[first] != groups[second] and not (same and same[first] == same[second]):
            alike = _similarity(pictures(first), pictures(second))
            if alike >= floor:
                pairs.append(Pair(first, second, alike))
    return pairs


def similarity(
    one: UInt8[np.ndarray, "height width"], other: UInt8[np.ndarray, "height2 width2"]
) -> float:
    """How far two frames are copies of one picture, 0..1.

    The median, over the tiles of a grid that lie inside both scan sectors and show something, of
    the correlation of the two frames' fine structure, after both are brought to 128x128 pixels and
    aligned by an affine map. Captions and a shared layout thus have no say, nor has brightness.
    """
    return _similarity(_picture(one), _picture(other))


def _near(hashes: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Positions (first < second) of hashes that differ in at most `FAR` bits, in order."""
    words = np.frombuffer(bytes.fromhex("".join(hashes)), np.uint64).reshape(-1, HASH_BYTES // 8)
    words = np.ascontiguousarray(words.T)
    block = 256  # keeps a block's distances within the processor's cache for sets of some thousands
    for start in range(0, len(hashes), block):
        left = words[:, start : start + block, None]
        distance = np.zeros((left.shape[1], len(hashes) - start), np.uint16)
        for mine, all_from_here in zip(left, words[:, None, start:], strict=True):
            distance += np.bitwise_count(mine ^ all_from_here)
        first, second = np.nonzero(distance <= FAR)
        ahead = second > first
        yield from zip(
            (first[ahead] + start).tolist(), (second[ahead] + start).tolist(), strict=True
        )


class _Pictures:
    """The pictures of frames by position; those used last are kept."""

    def __init__(self, frame_of: Callable[[int], np.ndarray]) -> None:
        self._frame_of = frame_of
        self._kept: OrderedDict[int, _Picture] = OrderedDict()

    def __call__(self, position: int) -> _Picture:
        picture = self._kept.pop(position, None) or _picture(self._frame_of(position))
        self._kept[position] = picture
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return picture


def _picture(frame: np.ndarray) -> _Picture:
    import cv2

    def reduce(image: np.ndarray) -> np.ndarray:
        size = (PICTURE, PICTURE)
        return cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.float32)

    sector = (reduce(find_sector(frame).astype(np.float32)) > 0.99).astype(np.uint8)
    inside = cv2.erode(sector, np.ones((3, 3), np.uint8), borderValue=1)
    return _Picture(reduce(frame), inside.astype(bool))


def _similarity(one: _Picture, other: _Picture) -> float:
    import cv2

    size = (PICTURE, PICTURE)
    if np.array_equal(one.pixels, other.pixels):
        pixels, inside = other
    else:
        stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 50, 1e-4)
        mask = one.inside.astype(np.uint8) * 255
        start = np.eye(2, 3, dtype=np.float32)
        try:
            # Evangelidis and Psarakis 2008: the map that correlates the two pictures best.
            _, affine = cv2.findTransformECC(
                one.pixels, other.pixels, start, cv2.MOTION_AFFINE, stop, mask, 5
            )
        except cv2.error:  # nothing in common to follow
            return 0.0
        how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        pixels = cv2.warpAffine(
            other.pixels, affine, size, flags=how, borderMode=cv2.BORDER_REPLICATE
        )
        inside = cv2.warpAffine(other.inside.astype(np.float32), affine, size, flags=how) > 0.98
    mine, theirs = _tiles(_fine(one.pixels)), _tiles(_fine(pixels))
    mine -= mine.mean(axis=1, keepdims=True)
    theirs -= theirs.mean(axis=1, keepdims=True)
    spread, their_spread = mine.std(axis=1), theirs.std(axis=1)
    compared = _tiles(one.inside & inside).mean(axis=1) > 0.95
    compared &= (spread > FLAT) & (their_spread > FLAT)
    if compared.sum() < FEWEST_TILES:
        return 0.0
    shared = (mine * theirs).mean(axis=1)[compared]
    correlation = shared / (spread * their_spread)[compared]
    return float(np.clip(np.median(correlation), 0.0, 1.0))


def _fine(pixels: np.ndarray) -> np.ndarray:
    """What is finer than a tile, less the noise of saving."""
    import cv2

    return cv2.GaussianBlur(pixels, (0, 0), 0.8) - cv2.GaussianBlur(pixels, (0, 0), TILE / 2)


def _tiles(picture: np.ndarray) -> np.ndarray:
    """[tile, pixel] of a square picture, in float64."""
    count = PICTURE // TILE
    grid = picture.reshape(count, TILE, count, TILE).transpose(0, 2, 1, 3)
    return grid.reshape(count * count, TILE * TILE).astype(np.float64)
