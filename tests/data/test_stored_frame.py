"""How a frame is stored: a JPEG's own data without its metadata, or the same pixels as PNG."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from thyrojax.data import sector
from thyrojax.data.builder import build
from thyrojax.data.dataset import frame_digest, open_dataset
from thyrojax.data.records import Box, Nodule, SourceData, load_image
from thyrojax.data.stored_frame import stored_frame, strip_metadata
from thyrojax.errors import DataError

JPEG, PNG = b"\xff\xd8", b"\x89PNG"
NAME = "DOE^JANE"


def scene() -> np.ndarray:
    """Smooth and 40 x 60, so that JPEG has something to do."""
    y, x = np.mgrid[:40, :60]
    return (128 + 60 * np.sin(x / 5.0) + 50 * np.cos(y / 7.0)).astype(np.uint8)


def jpeg(path: Path, mode: str = "L", **options: Any) -> Path:
    Image.fromarray(scene()).convert(mode).save(path, "JPEG", quality=90, **options)
    return path


def decoded(encoded: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_GRAYSCALE)


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"progressive": True},
        {"optimize": True},
        {"restart_marker_blocks": 3},
        {"subsampling": 0},
    ],
)
def test_a_jpeg_in_which_all_is_grey_keeps_its_data(
    tmp_path: Path, mode: str, options: dict[str, Any]
) -> None:
    path = jpeg(tmp_path / "a.jpg", mode, **options)
    frame = stored_frame(path, mask_overlay=False)
    assert frame.encoded.startswith(JPEG)
    assert path.read_bytes().endswith(frame.encoded[-500:])  # the compressed data as they were
    np.testing.assert_array_equal(decoded(frame.encoded), load_image(path))
    assert frame.frame_sha256 == frame.image_sha256 == frame_digest(load_image(path))
    assert (frame.height, frame.width) == (40, 60)


def test_nothing_that_may_name_a_patient_is_kept(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = NAME  # image description
    exif[0x0112] = 6  # "turn it": not the source's pixels, and not done by anyone
    thumbnail = Image.fromarray(scene())
    path = tmp_path / "a.jpg"
    thumbnail.save(
        path,
        "JPEG",
        exif=exif,
        comment=NAME,
        xmp=f"<x:xmpmeta>{NAME}</x:xmpmeta>".encode(),
        icc_profile=NAME.encode(),
    )
    content = path.read_bytes()
    scan = content.rindex(b"\xff\xda")
    lines = b"\xff\xdc" + (4 + len(NAME)).to_bytes(2, "big") + b"\0\x28" + NAME.encode()
    # In a segment that should hold a number, and after the image's end.
    path.write_bytes(content[:scan] + lines + content[scan:] + NAME.encode())
    assert path.read_bytes().count(NAME.encode()) == 6
    frame = stored_frame(path, mask_overlay=False)
    assert frame.encoded.startswith(JPEG)
    for word in (NAME.encode(), b"Exif", b"JFIF", b"xmpmeta", b"ICC_PROFILE"):
        assert word not in frame.encoded
    np.testing.assert_array_equal(decoded(frame.encoded), load_image(path))
    assert decoded(frame.encoded).shape == (40, 60)


def _colourful(path: Path) -> None:
    colours = np.stack([scene(), scene()[::-1], scene()[:, ::-1]], axis=-1)
    Image.fromarray(colours).save(path, "JPEG", quality=95)


def _one_red_word(path: Path) -> None:
    colours = np.stack([scene()] * 3, axis=-1)
    colours[2:6, 2:12] = (255, 0, 0)
    Image.fromarray(colours).save(path, "JPEG", quality=95)


@pytest.mark.parametrize(
    "write",
    [
        _colourful,
        _one_red_word,
        partial(jpeg, mode="CMYK"),
        lambda path: Image.fromarray(scene()).save(path, "PNG"),
        lambda path: Image.fromarray(scene()).save(path, "BMP"),
    ],
)
def test_anything_else_becomes_a_png_of_the_same_pixels(tmp_path: Path, write: Any) -> None:
    path = tmp_path / "a.jpg"  # whatever it is called
    write(path)
    frame = stored_frame(path, mask_overlay=False)
    assert frame.encoded.startswith(PNG)
    np.testing.assert_array_equal(decoded(frame.encoded), load_image(path))


def test_masking_costs_a_jpeg_its_data_only_where_it_changes_the_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = jpeg(tmp_path / "a.jpg")
    monkeypatch.setattr(sector, "mask_overlay", np.copy)
    assert stored_frame(path, mask_overlay=True).encoded.startswith(JPEG)
    monkeypatch.setattr(sector, "mask_overlay", lambda image: image * (image > 100))
    masked = stored_frame(path, mask_overlay=True)
    assert masked.encoded.startswith(PNG)
    np.testing.assert_array_equal(
        decoded(masked.encoded), load_image(path) * (load_image(path) > 100)
    )
    assert masked.image_sha256 == stored_frame(path, mask_overlay=False).image_sha256
    assert masked.frame_sha256 != masked.image_sha256


def test_a_jpeg_that_ends_early_is_not_stored(tmp_path: Path) -> None:
    path = jpeg(tmp_path / "a.jpg")
    content = path.read_bytes()
    path.write_bytes(content[:-300])
    with pytest.raises(DataError, match=r"a\.jpg: found an unreadable image"):
        stored_frame(path, mask_overlay=False)
    for end in (2, 3, 25, 200, len(content) - 2):
        assert strip_metadata(content[:end]) is None
    assert strip_metadata(b"\xff\xd8\x00\x00") is None
    assert strip_metadata(b"\xff\xd8\xff\xe0\x00\x01") is None


def test_kept_jpegs_open_with_dataset_and_with_plain_tfds(tmp_path: Path) -> None:
    grey, colour = jpeg(tmp_path / "grey.jpg"), jpeg(tmp_path / "colour.jpg", "RGB")
    nodules = tuple(
        Nodule(path, path.stem, path.stem, Box(0, 0, 9, 9), 0) for path in (grey, colour)
    )
    folder = build(SourceData("csv", nodules, (), 2), tmp_path / "set", False)
    opened = open_dataset(folder)
    for i, path in enumerate((grey, colour)):
        np.testing.assert_array_equal(opened.frame(i), load_image(path))
    plain = [
        example["image"]
        for example in tfds.data_source("thyroid_ultrasound/csv", data_dir=folder, split="nodules")
    ]
    assert [image.shape for image in plain] == [(40, 60, 1), (40, 60, 3)]
    for image, path in zip(plain, (grey, colour), strict=True):
        assert (image == load_image(path)[..., None]).all()
