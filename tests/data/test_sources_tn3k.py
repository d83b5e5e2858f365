from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from thyrojax.data.check import check_source
from thyrojax.data.records import Box
from thyrojax.data.sources import components, read_source, tn3k
from thyrojax.errors import DataError, DataFaults

# Edges on multiples of 8: JPEG keeps them where they are, with ringing around.
ONE = (Box(8, 16, 40, 40),)
TWO = (Box(8, 8, 32, 24), Box(40, 32, 64, 56))


def draw(*boxes: Box, white: int = 255) -> np.ndarray:
    mask = np.zeros((64, 80), np.uint8)
    for box in boxes:
        mask[box.y_min : box.y_max, box.x_min : box.x_max] = white
    return mask


def add(folder: Path, half: str, name: str, mask: np.ndarray, seed: int) -> None:
    """An image and its mask as the public set has them: both in colour JPEG."""
    frame = np.random.default_rng(seed).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    cv2.imwrite(str(folder / f"{half}-image" / f"{name}.jpg"), frame)
    cv2.imwrite(str(folder / f"{half}-mask" / f"{name}.jpg"), mask, [cv2.IMWRITE_JPEG_QUALITY, 80])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Both halves of the public layout, with names used in each."""
    root = tmp_path / "tn3k"
    for half, names in {"trainval": ("0000", "0001", "0002"), "test": ("0000", "0001")}.items():
        (root / f"{half}-image").mkdir(parents=True)
        (root / f"{half}-mask").mkdir()
        for seed, name in enumerate(names):
            boxes = TWO if (half, name) == ("trainval", "0001") else ONE
            add(root, half, name, draw(*boxes), seed + 10 * len(half))
        lines = [f"{name}.jpg,{seed % 2}" for seed, name in enumerate(names)]
        (root / f"label4{half}.csv").write_text("\n".join(lines) + "\n")
    (root / "tn3k-trainval-fold0.json").write_text('{"train": [0, 1], "val": [2]}')
    return root


def faults_of(folder: Path, **options: object) -> list[str]:
    with pytest.raises(DataFaults) as caught:
        read_source("tn3k", folder, **options)
    return [str(fault).replace(f"{folder}/", "") for fault in caught.value.faults]


def test_the_halves_keep_their_equal_names_apart(folder: Path) -> None:
    data = read_source("tn3k", folder)
    assert [(n.image_id, n.patient_id, n.label, n.box) for n in data.nodules] == [
        ("trainval-0000", "trainval-0000", 0, ONE[0]),
        ("trainval-0001-1", "trainval-0001", 1, TWO[0]),
        ("trainval-0001-2", "trainval-0001", 1, TWO[1]),
        ("trainval-0002", "trainval-0002", 0, ONE[0]),
        ("test-0000", "test-0000", 0, ONE[0]),
        ("test-0001", "test-0001", 1, ONE[0]),
    ]
    assert (data.n_images, data.exclusions) == (5, ())


def test_the_notes_say_what_the_set_does_not_tell(folder: Path) -> None:
    patients, labels = read_source("tn3k", folder).notes
    assert patients.startswith("TN3K names no patients")
    assert "near-identical frames are kept together" in patients
    assert labels.startswith("TN3K labels images: 2 nodules of 1 images with several")


def test_specks_are_counted_and_make_no_box(folder: Path) -> None:
    specks = (Box(8, 8, 9, 9), Box(72, 0, 80, 8))  # the second of 64 px
    (folder / "test-mask" / "0000.jpg").unlink()
    cv2.imwrite(str(folder / "test-mask" / "0000.png"), draw(*specks))
    data, table = check_source("tn3k", folder)
    assert [n.box for n in data.nodules if n.image_id == "test-0000"] == [specks[1]]
    assert [(entry.image_id, entry.reason, entry.detail) for entry in data.exclusions] == [
        ("test-0000", components.SMALL_PART, "0000.png: 1 px, box 8 8 9 9")
    ]
    data, _ = check_source("tn3k", folder, smallest_area=65)
    assert [entry.image_id for entry in data.exclusions] == ["test-0000", "test-0000"]
    assert "5 images with a nodule + 0 wholly excluded = 5 found" in table


def test_what_lacks_a_part_is_left_out_with_its_reason(folder: Path) -> None:
    (folder / "trainval-mask" / "0000.jpg").unlink()
    cv2.imwrite(str(folder / "trainval-mask" / "0002.jpg"), draw())
    cv2.imwrite(str(folder / "test-mask" / "0007.jpg"), draw(*ONE))
    (folder / "label4test.csv").write_text("0001.jpg,1\n0009.jpg,0\n\n")
    data, table = check_source("tn3k", folder)
    assert [(entry.image_id, entry.reason) for entry in data.exclusions] == [
        ("trainval-0000", components.NO_MASK_FILE),
        ("trainval-0002", components.EMPTY_MASK),
        ("test-0000", tn3k.NO_LABEL),
        ("test-0007", "no image file"),
        ("test-0009", "no image file"),
    ]
    assert "2 images with a nodule + 3 wholly excluded = 5 found" in table


def test_identical_images_of_unlike_label_are_left_out(folder: Path) -> None:
    shutil.copy(folder / "trainval-image/0001.jpg", folder / "test-image/0000.jpg")
    data, table = check_source("tn3k", folder)
    assert [(entry.image_id, entry.reason) for entry in data.exclusions] == [
        ("trainval-0001", tn3k.CONFLICTING),
        ("trainval-0001", tn3k.CONFLICTING),
        ("test-0000", tn3k.CONFLICTING),
    ]
    assert "3 images with a nodule + 2 wholly excluded = 5 found" in table


def test_identical_images_of_both_halves_are_counted(folder: Path) -> None:
    shutil.copy(folder / "trainval-image/0000.jpg", folder / "test-image/0000.jpg")
    data = read_source("tn3k", folder)
    assert len(data.nodules) == 6
    assert data.notes[1] == "Groups of byte-identical images: 1, images in them: 2."


def test_a_label_list_may_have_a_header(folder: Path) -> None:
    (folder / "label4test.csv").write_text("\ufeffimage_name,label\n0000.jpg,0\n0001.jpg,1\n")
    assert len(read_source("tn3k", folder).nodules) == 6


def test_parts_are_found_above_half_of_white() -> None:
    # Worked by hand: a blurred edge of 255, 200, 128 | 127, 60 is nodule as far as 128.
    mask = np.zeros((10, 12), np.uint8)
    mask[2:6, 1:6] = [255, 200, 128, 127, 60]
    mask[6, 4] = 255  # touches the corner of the last nodule pixel at (3, 5)
    [part] = components.parts_of(mask > components.THRESHOLD)
    assert (part.box, part.area) == (Box(1, 2, 5, 7), 13)


LIST = "label4test.csv"


@pytest.mark.parametrize(
    ("file", "content", "fault"),
    [
        (LIST, b"", f"{LIST}: found no lines, expected lines such as 0000.jpg,1"),
        (LIST, b"0000.jpg,0\n0001.jpg\n", f"{LIST}, line 2: found 1 cells, expected an image and"),
        (LIST, b"0000.jpg,0\n,1\n", f"{LIST}, line 2: found 2 cells, expected an image and its"),
        (LIST, b"0000.jpg,2\n", f"{LIST}, line 1: found label '2', expected 0 for benign or 1"),
        (LIST, b"0000.jpg,\n", f"{LIST}, line 1: found label '', expected 0 for benign or 1"),
        (LIST, b"0000.jpg,0\n0000.jpg,1\n", f"{LIST}, line 2: found image '0000' again"),
        (LIST, b"\xff\xfe0\x00", f"{LIST}: found bytes that are not UTF-8 (at byte 0)"),
        (LIST, b'"0000.jpg,0\n', f"{LIST}: found broken CSV (unexpected end of data)"),
        ("test-image/0000.jpg", b"", "test-image/0000.jpg: found an unreadable image"),
        ("test-mask/0001.jpg", b"\xff\xd8", "test-mask/0001.jpg: found an unreadable image"),
        ("test-image/0000.png", b"", "test-image/0000.png: found the name of 0000.jpg again"),
        ("test-mask/0000.bmp", b"", "test-mask/0000.jpg: found the name of 0000.bmp again"),
    ],
)
def test_a_malformed_file_is_one_line(folder: Path, file: str, content: bytes, fault: str) -> None:
    (folder / file).write_bytes(content)
    faults = [line for line in faults_of(folder) if "0000.bmp: found an unread" not in line]
    assert len(faults) == 1
    assert faults[0].startswith(fault)
    assert "\n" not in faults[0]


def test_masks_that_do_not_say_what_is_a_nodule(folder: Path) -> None:
    cv2.imwrite(str(folder / "test-mask" / "0000.jpg"), draw(*ONE)[:32])
    (folder / "test-mask" / "0001.jpg").unlink()
    cv2.imwrite(str(folder / "test-mask" / "0001.png"), draw(*ONE, white=3))
    assert faults_of(folder) == [
        "test-mask/0000.jpg: found a 80x32 mask, expected 80x64, as its image",
        "test-mask/0001.png: found no grey level above 3, expected a mask of 0 and 255, or of 0 "
        "and 1",
    ]


def test_a_mask_of_zeros_and_ones(folder: Path) -> None:
    (folder / "test-mask" / "0001.jpg").unlink()
    cv2.imwrite(str(folder / "test-mask" / "0001.png"), draw(*ONE, white=1))
    assert read_source("tn3k", folder).nodules[-1].box == ONE[0]


def test_a_copy_without_labels(folder: Path) -> None:
    shutil.rmtree(folder / "test-mask")
    for half in tn3k.HALVES:
        (folder / f"label4{half}.csv").unlink()
    expected = "expected a label list (copies with masks alone have none)"
    assert faults_of(folder) == [
        f"test-mask: found no such folder, expected {tn3k.LAYOUT}",
        f"label4trainval.csv: found no such file, {expected}",
        f"label4test.csv: found no such file, {expected}",
    ]


def test_nothing_usable(folder: Path) -> None:
    with pytest.raises(DataError, match="found no image with mask and label, expected the TN3K"):
        read_source("tn3k", folder, smallest_area=5000)
    with pytest.raises(DataError, match="smallest-area: found 0, expected a whole number >= 1"):
        read_source("tn3k", folder, smallest_area=0)
    with pytest.raises(DataError, match="found no such folder, expected the TN3K folder"):
        read_source("tn3k", folder / "none")
