"""Stored frames decoded: whole, or as far down as asked, always to the same pixels."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from thyrojax.data.decoding import _height_place, decode_frame

HEIGHT, WIDTH = 203, 150
PICTURE = cv2.GaussianBlur(
    np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH), np.uint8), (7, 7), 2.0
)
COLOUR = cv2.cvtColor(PICTURE, cv2.COLOR_GRAY2BGR)


def jpeg(image: np.ndarray, *options: int) -> bytes:
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95, *options])[1].tobytes()


SAMPLING = cv2.IMWRITE_JPEG_SAMPLING_FACTOR
SHORTENED = {
    "grey": jpeg(PICTURE),
    "colour 4:2:0": jpeg(COLOUR),
    "colour 4:4:4": jpeg(COLOUR, SAMPLING, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
    "colour 4:4:0": jpeg(COLOUR, SAMPLING, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_440),
    "own tables": jpeg(PICTURE, cv2.IMWRITE_JPEG_OPTIMIZE, 1),
    "flat": jpeg(np.full((HEIGHT, 8), 77, np.uint8)),  # a block takes but a few bits
}


def coarse_grey() -> bytes:
    """A JPEG whose brightness has half the rows of its colours, which are none; all blocks flat.

    No encoder at hand writes such files. ITU-T T.81: annex B for the segments, F.1.2 for the codes.
    """
    random, bits, last = np.random.default_rng(1), "", 0
    for _ in range(-(-HEIGHT // 16) * -(-WIDTH // 8)):
        level = int(random.integers(-100, 100))
        change, last = level - last, level
        size = abs(change).bit_length()
        value = change if change > 0 else change + (1 << size) - 1
        bits += f"{size:04b}" + (f"{value:0{size}b}" if size else "") + "0"
        bits += "00000" * (2 + 2)  # two blocks of each colour without a change
    bits += "1" * (-len(bits) % 8)
    scan = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    segments = (
        (0xDB, [0, *[8] * 64]),
        (0xC0, [8, 0, HEIGHT, 0, WIDTH, 3, 1, 0x11, 0, 2, 0x12, 0, 3, 0x12, 0]),
        (0xC4, [0x00, 0, 0, 0, 12, *[0] * 12, *range(12)]),  # sizes of changes, in 4 bits each
        (0xC4, [0x10, 1, *[0] * 15, 0]),  # end of block: 0
        (0xDA, [3, 1, 0, 2, 0, 3, 0, 0, 63, 0]),
    )
    header = b"".join(
        bytes([0xFF, marker, 0, 2 + len(content), *content]) for marker, content in segments
    )
    return b"\xff\xd8" + header + scan + b"\xff\xd9"


WHOLE = {
    "png": cv2.imencode(".png", PICTURE)[1].tobytes(),
    "progressive": jpeg(PICTURE, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "restarts": jpeg(PICTURE, cv2.IMWRITE_JPEG_RST_INTERVAL, 7),
    "bytes after the end": jpeg(PICTURE) + b"more",
    "brightness coarser than colour": coarse_grey(),
}


def whole(encoded: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_GRAYSCALE)


@pytest.mark.parametrize("name", SHORTENED)
def test_rows_from_the_top_are_the_same_pixels(
    name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    encoded = SHORTENED[name]
    frame = whole(encoded)
    for rows in range(1, HEIGHT + 1):
        top = decode_frame(encoded, rows)
        assert top is not None
        assert len(top) == (rows if rows + 32 <= HEIGHT else HEIGHT)
        np.testing.assert_array_equal(top, frame[: len(top)])
    assert capfd.readouterr() == ("", "")  # libjpeg has nothing to complain of


@pytest.mark.parametrize("name", WHOLE)
def test_what_must_be_decoded_whole_is(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    for rows in (None, 1, 100, HEIGHT, HEIGHT + 1):
        frame = decode_frame(WHOLE[name], rows)
        assert frame is not None
        np.testing.assert_array_equal(frame, whole(WHOLE[name]))
    assert capfd.readouterr() == ("", "")


def test_what_is_no_image_is_none() -> None:
    for encoded in (b"", b"?", b"\xff\xd8", b"\xff\xd8\xff\xd9", SHORTENED["grey"][:100]):
        assert decode_frame(encoded, 10) is None


def test_a_header_that_says_otherwise_is_left_alone() -> None:
    grey = SHORTENED["grey"]
    place = _height_place(grey)
    assert place is not None
    assert grey[place : place + 2] == HEIGHT.to_bytes(2, "big")
    colour = bytearray(SHORTENED["colour 4:4:4"])
    colour[colour.index(b"\xff\xda") + 4] = 1  # the scan has one component of three
    assert _height_place(bytes(colour)) is None
    assert _height_place(grey[: grey.index(b"\xff\xda")]) is None
