"""A frame as it is stored: the source's own JPEG without its metadata, or else a PNG."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from thyrojax.data.dataset import frame_digest
from thyrojax.data.records import load_image
from thyrojax.shapes import UInt8

START_OF_IMAGE, END_OF_IMAGE = b"\xff\xd8", b"\xff\xd9"
_START_OF_SCAN = 0xDA
# What a JPEG decoder needs before a scan: frame headers (C0 to CF, among them the tables of
# Huffman and arithmetic coding), quantisation tables (DB), restart interval (DD). Everything else
# may name a patient: APP0 to APP15 with Exif, XMP and thumbnails; comments; numbers of lines (DC),
# which decoders pass over whatever is in them.
_NEEDED = frozenset((*range(0xC0, 0xD0), 0xDB, 0xDD)) - {0xC8}
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_GREY_OR_YCBCR = (b"\x01", b"\x03")  # what three are needs no marker, unlike four
_PARAMETERLESS = frozenset((0x01, *range(0xD0, 0xD8)))


class StoredFrame(NamedTuple):
    """A frame as the set keeps it: `records.Record` says what the sums are of."""

    encoded: bytes
    height: int
    width: int
    image_sha256: str
    frame_sha256: str
    perceptual_hash: str


def stored_frame(image: Path | Callable[[], np.ndarray], mask_overlay: bool) -> StoredFrame:
    """Reads a frame, blanks what lies outside its scan sector if asked to, and encodes it.

    A JPEG file whose frame was not changed by that keeps its compressed data, which is smaller and
    faster to decode, if OpenCV decodes it to the very frame that `records.load_image` reads: so it
    is with grey files, and with colour ones in which all is grey. Anything else becomes a PNG.

    Raises:
      DataError: the file is missing or cannot be decoded as an 8-bit image.
    """
    from thyrojax.data import sector
    from thyrojax.data.near_duplicates import perceptual_hash

    original = load_image(image)
    frame = sector.mask_overlay(original) if mask_overlay else original
    encoded = None
    if isinstance(image, Path) and np.array_equal(frame, original):
        encoded = _kept_jpeg(image.read_bytes(), frame)
    image_sha256 = frame_digest(original)
    return StoredFrame(
        encoded=_png(frame) if encoded is None else encoded,
        height=frame.shape[0],
        width=frame.shape[1],
        image_sha256=image_sha256,
        frame_sha256=image_sha256 if frame is original else frame_digest(frame),
        perceptual_hash=perceptual_hash(frame),
    )


def _png(frame: UInt8[np.ndarray, "height width"]) -> bytes:
    import cv2

    encoded, png = cv2.imencode(".png", frame)
    if not encoded:
        raise RuntimeError("OpenCV could not encode a frame as PNG")
    return bytes(png)


def _kept_jpeg(content: bytes, frame: UInt8[np.ndarray, "height width"]) -> bytes | None:
    """The JPEG file without metadata, if it decodes to `frame`; None where it is none or does not.

    Each channel must, so that readers who know nothing of grey see the same.
    """
    import cv2

    stripped = strip_metadata(content) if content.startswith(START_OF_IMAGE) else None
    if stripped is None:
        return None
    for mode in (cv2.IMREAD_GRAYSCALE, cv2.IMREAD_COLOR):
        decoded = cv2.imdecode(np.frombuffer(stripped, np.uint8), mode)
        if decoded is None or decoded.shape[:2] != frame.shape:
            return None
        if not (decoded.reshape(*frame.shape, -1) == frame[..., None]).all():
            return None
    return stripped


def strip_metadata(jpeg: bytes) -> bytes | None:
    """A JPEG stream with nothing but what its decoding needs; None where it is not a whole one.

    None also where it has four components: decoders need a marker to tell how to read them.

    Left out are application segments, comments, and whatever follows the end of the image
    (ITU-T T.81, annex B).
    """
    kept = [START_OF_IMAGE]
    position = len(START_OF_IMAGE)
    while position + 2 <= len(jpeg):
        if jpeg[position] != 0xFF:
            return None
        marker = jpeg[position + 1]
        if marker == 0xFF:  # a fill byte before the marker
            position += 1
            continue
        if jpeg[position : position + 2] == END_OF_IMAGE:
            return b"".join((*kept, END_OF_IMAGE))
        if marker in _PARAMETERLESS:
            position += 2
            continue
        length = int.from_bytes(jpeg[position + 2 : position + 4], "big")
        end = position + 2 + length
        if length < 2 or end > len(jpeg):
            return None
        if marker == _START_OF_SCAN:
            end = _scan_end(jpeg, end)
            kept.append(jpeg[position:end])
        elif marker in _FRAME_HEADERS and jpeg[position + 9 : position + 10] not in _GREY_OR_YCBCR:
            return None
        elif marker in _NEEDED:
            kept.append(jpeg[position:end])
        position = end
    return None


def _scan_end(jpeg: bytes, position: int) -> int:
    """Where the compressed data of a scan ends: at the next marker that is no restart."""
    while True:
        position = jpeg.find(b"\xff", position)
        if position < 0 or position + 1 >= len(jpeg):
            return len(jpeg)
        following = jpeg[position + 1]
        if following == 0xFF:
            position += 1
        elif following == 0 or 0xD0 <= following <= 0xD7:
            position += 2
        else:
            return position
