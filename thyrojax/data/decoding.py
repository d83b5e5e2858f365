"""Stored frames decoded: the whole of one, or of a JPEG no more rows than are asked for."""

from __future__ import annotations

import numpy as np

from thyrojax.shapes import UInt8

_START, _END = b"\xff\xd8", b"\xff\xd9"
_BASELINE = (0xC0, 0xC1)
_TABLES = (0xC4, 0xC8, 0xCC)  # among the frame headers C0..CF, those that are none
_RESTARTS, _SCAN = 0xDD, 0xDA
_PADDING = 256  # bytes; a decoder reads a few beyond those that it needs
_WORTHWHILE = 32  # rows; what is saved below that is less than what the search for it takes


def decode_frame(
    encoded: bytes, rows: int | None = None
) -> UInt8[np.ndarray, "height width"] | None:
    """A PNG or JPEG as a grey frame; None where OpenCV cannot decode it.

    With `rows`, at least that many rows from the top, or all where the frame has no more: of a
    baseline JPEG only these are decoded, to the same pixels. (A PNG decoder checks what follows.)
    """
    import cv2

    if not encoded:
        return None
    content = np.frombuffer(encoded, np.uint8)
    if rows is not None and encoded.startswith(_START):
        shortened = _shortened(encoded, rows)
        content = content if shortened is None else shortened
    frame: np.ndarray | None = cv2.imdecode(content, cv2.IMREAD_GRAYSCALE)
    return frame


def _shortened(jpeg: bytes, rows: int) -> UInt8[np.ndarray, " bytes"] | None:
    """A JPEG whose header says `rows`, so that a decoder stops there; None where it must not.

    The blocks of a baseline JPEG with one scan follow each other from top to bottom, and no grey
    pixel depends on a later one, unless brightness is stored with fewer rows than colour: then the
    decoder interpolates between the rows of blocks. The end marker gives way to zeros: at a marker
    the decoder would complain on stderr of data left over.
    """
    place = _height_place(jpeg)
    if place is None or not jpeg.endswith(_END):
        return None
    if rows + _WORTHWHILE > int.from_bytes(jpeg[place : place + 2], "big"):
        return None
    content = np.zeros(len(jpeg) - len(_END) + _PADDING, np.uint8)
    content[:-_PADDING] = np.frombuffer(jpeg, np.uint8, len(jpeg) - len(_END))
    content[place], content[place + 1] = divmod(rows, 256)
    return content


def _height_place(jpeg: bytes) -> int | None:
    """Where a baseline JPEG with one scan and no restarts says its height (ITU-T T.81, annex B).

    None also where its first component has fewer rows than another.
    """
    position, place, components = len(_START), None, 0
    while position + 10 <= len(jpeg) and jpeg[position] == 0xFF:
        marker = jpeg[position + 1]
        if marker == _SCAN:
            return place if jpeg[position + 4] == components else None
        if marker in _BASELINE:
            place, components = position + 5, jpeg[position + 9]
            factors = jpeg[position + 11 : position + 10 + 3 * components : 3]
            rows = [factor % 16 for factor in factors]
            if not rows or rows[0] < max(rows):
                return None
        elif (0xC0 <= marker <= 0xCF and marker not in _TABLES) or marker == _RESTARTS:
            return None
        position += 2 + int.from_bytes(jpeg[position + 2 : position + 4], "big")
    return None
