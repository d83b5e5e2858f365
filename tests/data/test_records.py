from __future__ import annotations

import csv
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from thyrojax.data.records import Box, Nodule, box_fault, box_outward, load_image
from thyrojax.errors import DataError
from thyrojax.vocabulary import VOCABULARY, size_group


def test_a_box_is_half_open() -> None:
    box = Box(10, 20, 40, 25)
    assert (box.width, box.height) == (30, 5)


def test_fractional_edges_go_outward_and_whole_ones_stay() -> None:
    assert box_outward(10.2, -0.1, 40.0, 25.01) == Box(10, -1, 40, 26)
    with pytest.raises(ValueError, match="NaN"):
        box_outward(0.0, 0.0, math.nan, 1.0)


@pytest.mark.parametrize(
    ("size", "group"),
    [
        (4.99, "<0.5"),
        (5.0, "0.5-1.0"),
        (10.0, "0.5-1.0"),
        (10.01, ">1.0"),
        (None, ""),
        (math.nan, ""),
    ],
)
def test_size_groups_are_the_papers(size: float | None, group: str) -> None:
    assert size_group(size) == group


def test_the_vocabulary_is_table_2_of_the_paper(shared: Path) -> None:
    with (shared / "paper" / "table2.csv").open(newline="") as stream:
        rows = [(row["feature"], row["category"]) for row in csv.DictReader(stream)]
    renamed = {"margin_feature": "margin"}
    published = [(renamed.get(feature, feature), category) for feature, category in rows]
    ours = [
        (feature, word)
        for feature in ("composition", "echogenicity", "calcification", "margin", "shape")
        for word in VOCABULARY[feature]
    ]
    assert published == ours


def test_box_faults_name_box_and_image_size() -> None:
    assert box_fault(Box(0, 0, 60, 50), 60, 50, "f", "row 1") is None
    outside = box_fault(Box(0, 0, 61, 50), 60, 50, "f.csv", "row 1")
    assert str(outside) == (
        "f.csv, row 1: found box 0 0 61 50, expected a box inside the 60x50 image"
    )
    for box in (Box(5, 5, 5, 9), Box(5, 9, 9, 5)):
        assert "of no area" in str(box_fault(box, 60, 50, "f", ""))
    assert box_fault(Box(-1, 0, 9, 9), 60, 50, "f", "") is not None


def test_a_nodule_does_not_change() -> None:
    nodule = Nodule(Path("a.png"), "a", "p", Box(0, 0, 1, 1), 0)
    with pytest.raises(AttributeError):
        nodule.label = 1  # type: ignore[misc]


def test_colour_is_reduced_by_luma(tmp_path: Path) -> None:
    frame = np.zeros((2, 3, 3), np.uint8)
    frame[0, 0], frame[0, 1], frame[0, 2] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    Image.fromarray(frame).save(tmp_path / "c.png")
    grey = load_image(tmp_path / "c.png")
    assert (grey.dtype, grey.shape) == (np.uint8, (2, 3))
    assert grey[0].tolist() == [76, 150, 29]  # 0.299, 0.587, 0.114 of 255


def test_a_function_gives_its_frame() -> None:
    frame = np.full((4, 5), 7, np.uint8)
    assert load_image(lambda: frame) is frame


def test_palettes_and_single_bits_are_images_of_8_bits(tmp_path: Path) -> None:
    grey = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    grey.convert("P").save(tmp_path / "palette.png")
    grey.convert("1").save(tmp_path / "bits.png")
    assert np.array_equal(load_image(tmp_path / "palette.png"), np.asarray(grey))
    assert set(np.unique(load_image(tmp_path / "bits.png"))) == {0, 255}


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("shape", [(9, 8), (9, 8, 3)])
def test_sixteen_bits_are_refused_in_grey_and_colour(
    tmp_path: Path, name: str, shape: tuple[int, ...]
) -> None:
    cv2.imwrite(str(tmp_path / name), np.full(shape, 40000, np.uint16))
    with pytest.raises(DataError, match=r"found .*16.*, expected 8 bits per channel"):
        load_image(tmp_path / name)


def test_a_stack_of_pages_is_refused_and_a_thumbnail_is_no_page(tmp_path: Path) -> None:
    pages = [Image.fromarray(np.full((8, 9), 50 * n, np.uint8)) for n in range(3)]
    path = tmp_path / "stack.tif"
    pages[0].save(path, save_all=True, append_images=pages[1:])
    with pytest.raises(DataError, match=r"stack\.tif: found 3 pages, expected one image"):
        load_image(path)
    small = pages[2].resize((4, 4))
    small.encoderinfo = {"tiffinfo": {254: 1}}
    pages[1].save(path, save_all=True, append_images=[small])
    assert (load_image(path) == 50).all()


def test_floats_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(DataError, match="found pixels of kind F, expected 8 bits per channel"):
        load_image(tmp_path / "f.tif")


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp"])
@pytest.mark.parametrize("kept", [0.0, 0.01, 0.3, 0.9])
def test_a_truncated_image_is_one_line(tmp_path: Path, suffix: str, kept: float) -> None:
    path = tmp_path / f"a.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (40, 50), dtype=np.uint8)
    cv2.imwrite(str(path), noise)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(DataError, match=r"found an unreadable image \(.+\), expected a whole") as e:
        load_image(path)
    assert "\n" not in str(e.value)


def test_a_missing_image_a_folder_and_a_name_with_a_null(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x\.png: found no such file, expected an image"):
        load_image(tmp_path / "x.png")
    for path in (tmp_path, tmp_path / "a\0b.png"):
        with pytest.raises(DataError, match="found an unreadable image"):
            load_image(path)
