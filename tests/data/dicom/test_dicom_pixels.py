"""What a frame's stored samples mean, in every form that the source reads."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, RLELossless

from thyrojax.data.records import Box, load_image
from thyrojax.data.sources.dicom_pixels import DicomFrame, read_grey


def colour_frame(seed: int) -> np.ndarray:
    """Smooth colours, uint8 [120, 160, 3]."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
    return np.asarray(Image.fromarray(small).resize((160, 120), Image.Resampling.BICUBIC))


def as_pillow(colours: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(colours).convert("L"))


def ybr_of(colours: np.ndarray) -> np.ndarray:
    """ITU-R 601 in the full range, as DICOM PS3.3 C.7.6.3.1.2 defines YBR_FULL."""
    matrix = np.array([[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]])
    values = colours @ matrix.T + [0, 128, 128]
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def test_monochrome2_is_as_stored_and_monochrome1_its_negative(scanner: Any) -> None:
    frame = scanner.draw(1)
    plain = scanner.write(scanner.dataset(1, frame))
    negative = scanner.write(scanner.dataset(2, frame, "MONOCHROME1"))
    np.testing.assert_array_equal(read_grey(plain, 0), frame)
    np.testing.assert_array_equal(read_grey(negative, 0), 255 - frame)


def test_rgb_is_reduced_as_files_of_other_sources_are(scanner: Any, tmp_path: Path) -> None:
    colours = colour_frame(1)
    Image.fromarray(colours).save(tmp_path / "same.png")
    interleaved = scanner.write(scanner.dataset(1, colours, "RGB"))
    planes = scanner.dataset(2, colours, "RGB", PlanarConfiguration=1)
    planes.PixelData = colours.transpose(2, 0, 1).tobytes()
    expected = load_image(tmp_path / "same.png")
    np.testing.assert_array_equal(read_grey(interleaved, 0), expected)
    np.testing.assert_array_equal(read_grey(scanner.write(planes), 0), expected)


def test_ybr_full_and_its_half_sampled_form_have_the_luma_of_their_colours(scanner: Any) -> None:
    colours = colour_frame(2)
    ybr = ybr_of(colours)
    full = scanner.write(scanner.dataset(1, ybr, "YBR_FULL"))
    # Two luma samples, then the blue and the red difference that both share.
    packed = np.empty((120, 80, 4), np.uint8)
    packed[..., 0], packed[..., 1] = ybr[:, 0::2, 0], ybr[:, 1::2, 0]
    packed[..., 2:] = ybr[:, 0::2, 1:]
    half = scanner.dataset(2, ybr, "YBR_FULL_422", PixelData=packed.tobytes())
    for path, tolerance in ((full, 1), (scanner.write(half), 4)):
        found = read_grey(path, 0).astype(int)
        assert np.abs(found - as_pillow(colours)).max() <= tolerance


@pytest.mark.parametrize("depth", [8, 16])
def test_a_palette_gives_the_colours_that_its_entries_name(scanner: Any, depth: int) -> None:
    frame = scanner.draw(3)
    palette = np.random.default_rng(3).integers(0, 256, (256, 3), np.uint8)
    dataset = scanner.dataset(1, frame, "PALETTE COLOR")
    for number, name in enumerate(("Red", "Green", "Blue")):
        entries = palette[:, number].astype(f"<u{depth // 8}") << (depth - 8)
        setattr(dataset, f"{name}PaletteColorLookupTableDescriptor", [256, 0, depth])
        setattr(dataset, f"{name}PaletteColorLookupTableData", entries.tobytes())
    found = read_grey(scanner.write(dataset), 0)
    np.testing.assert_array_equal(found, as_pillow(palette[frame]))


@pytest.mark.parametrize("kind", ["MONOCHROME2", "RGB"])
@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_lossless_compression_changes_nothing(scanner: Any, syntax: str, kind: str) -> None:
    if kind == "RGB":
        frames, named = [colour_frame(5), colour_frame(6)], kind
        expected = [as_pillow(frame) for frame in frames]
        named = "YBR_RCT" if syntax == JPEG2000Lossless else kind
    else:
        frames = expected = [scanner.draw(5), scanner.draw(6)]
        named = kind
    dataset = scanner.compress(scanner.dataset(1, np.stack(frames), named), syntax, frames)
    path = scanner.write(dataset)
    for index in (0, 1):
        np.testing.assert_array_equal(read_grey(path, index), expected[index])


def test_jpeg_of_half_colour_is_near_what_went_in(scanner: Any) -> None:
    frames = [colour_frame(7), colour_frame(8)]
    dataset = scanner.dataset(1, np.stack(frames), "YBR_FULL_422")
    path = scanner.write(scanner.compress(dataset, JPEGBaseline8Bit, frames))
    for index in (0, 1):
        error = read_grey(path, index).astype(int) - as_pillow(frames[index])
        assert np.abs(error).mean() < 1.5
        assert np.abs(error).max() < 10


def test_frames_of_a_cine_are_told_apart(scanner: Any) -> None:
    frames = np.stack([scanner.draw(seed) for seed in range(4)])
    path = scanner.write(scanner.dataset(1, frames))
    for index in (3, 0, 2):
        np.testing.assert_array_equal(read_grey(path, index), frames[index])


def test_a_frame_pickles_hashes_and_tells_no_path(scanner: Any) -> None:
    path = scanner.write(scanner.dataset(1, scanner.draw(1)))
    frame = DicomFrame(path, 0, "I00", (Box(20, 30, 140, 110),))
    copy = pickle.loads(pickle.dumps(frame))
    assert copy == frame
    assert hash(copy) == hash(frame)
    np.testing.assert_array_equal(copy(), frame())
    assert "FEATHERSTONE" not in repr(frame)


def test_what_lies_outside_all_regions_is_blank(scanner: Any) -> None:
    drawn = scanner.draw(1)
    path = scanner.write(scanner.dataset(1, drawn))
    boxes = (Box(20, 30, 60, 110), Box(50, 100, 140, 110))
    inside = np.zeros(drawn.shape, bool)
    for box in boxes:
        inside[box.y_min : box.y_max, box.x_min : box.x_max] = True
    np.testing.assert_array_equal(DicomFrame(path, 0, "I00", boxes)(), np.where(inside, drawn, 0))
    assert drawn[:20].any()
    assert not DicomFrame(path, 0, "I00", boxes)()[:30].any()


def test_header_values_of_wrong_kind_are_not_there() -> None:
    from thyrojax.data.sources.dicom_header import first, items, number, numbers, text, whole

    dataset = Dataset()
    dataset.PixelSpacing = [0.1, 0.2]
    dataset.SequenceOfUltrasoundRegions = []
    assert number(dataset, "PixelSpacing") is None
    assert numbers(dataset, "PixelSpacing") == [0.1, 0.2]
    assert (whole(dataset, "Rows"), text(dataset, "PatientID")) == (None, "")
    assert items(dataset, "SequenceOfUltrasoundRegions") == []
    assert items(dataset, "PixelSpacing") == []
    assert len(first(dataset, "SequenceOfUltrasoundRegions", "PixelSpacing")) == 0
