from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from thyrojax.data.records import Box
from thyrojax.data.sources import busbra, read_source
from thyrojax.errors import DataError, DataFaults

HEADER = "ID,Case,Histology,Pathology,BIRADS,Device,Width,Height,Side,BBOX"


def add_image(folder: Path, name: str, mask: np.ndarray | None = None) -> None:
    """An image of 60x50 px and its mask, by default of the box 10 20 30 35."""
    if mask is None:
        mask = np.zeros((50, 60), np.uint8)
        mask[20:35, 10:30] = 255
    frame = np.random.default_rng(len(name)).integers(0, 256, (50, 60), dtype=np.uint8)
    cv2.imwrite(str(folder / "Images" / f"bus_{name}.png"), frame)
    cv2.imwrite(str(folder / "Masks" / f"mask_{name}.png"), mask)


def row_of(name: str, case: str = "1", pathology: str = "benign") -> str:
    # Height and BBOX are wrong on purpose: neither is to be used.
    return f'bus_{name},{case},cyst,{pathology},4,GE,60,99,left,"[1,2,3,4]"'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "Images").mkdir()
    (tmp_path / "Masks").mkdir()
    for name in ("0001-l", "0001-r", "0002-s"):
        add_image(tmp_path, name)
    write_table(tmp_path, row_of("0001-l"), row_of("0001-r"), row_of("0002-s", "2", "malignant"))
    return tmp_path


def write_table(folder: Path, *rows: str) -> None:
    (folder / "bus_data.csv").write_text("\n".join([HEADER, *rows]) + "\n")


def faults_of(folder: Path) -> list[str]:
    with pytest.raises(DataFaults) as caught:
        read_source("busbra", folder)
    return [str(fault).replace(f"{folder}/", "") for fault in caught.value.faults]


def test_boxes_come_from_masks_and_patients_from_cases(folder: Path) -> None:
    data = read_source("busbra", folder)
    assert [nodule.image_id for nodule in data.nodules] == [
        "bus_0001-l",
        "bus_0001-r",
        "bus_0002-s",
    ]
    assert [nodule.patient_id for nodule in data.nodules] == ["1", "1", "2"]
    assert [nodule.label for nodule in data.nodules] == [0, 0, 1]
    assert {nodule.box for nodule in data.nodules} == {Box(10, 20, 30, 35)}
    assert (data.n_images, data.exclusions) == (3, ())


def test_birads_is_not_taken_for_tirads(folder: Path) -> None:
    assert {nodule.tirads for nodule in read_source("busbra", folder).nodules} == {None}


def test_what_lacks_a_part_is_excluded_with_its_reason(folder: Path) -> None:
    add_image(folder, "0003-l")  # no row
    (folder / "Images" / "bus_0001-l.png").unlink()
    (folder / "Masks" / "mask_0001-r.png").unlink()
    data = read_source("busbra", folder)
    assert [nodule.image_id for nodule in data.nodules] == ["bus_0002-s"]
    assert {entry.image_id: entry.reason for entry in data.exclusions} == {
        "bus_0001-l": "no image file",
        "bus_0001-r": busbra.NO_MASK_FILE,
        "bus_0003-l": busbra.NO_ROW,
    }
    assert data.n_images == 3


def test_masks_without_or_with_several_parts_are_excluded(folder: Path) -> None:
    two = np.zeros((50, 60), np.uint8)
    two[5:15, 5:15] = two[30:40, 30:50] = 255
    add_image(folder, "0001-l", np.zeros((50, 60), np.uint8))
    add_image(folder, "0001-r", two)
    data = read_source("busbra", folder)
    assert [(entry.image_id, entry.reason) for entry in data.exclusions] == [
        ("bus_0001-l", busbra.EMPTY_MASK),
        ("bus_0001-r", busbra.SEVERAL_PARTS),
    ]


def test_parts_that_touch_at_a_corner_are_one(folder: Path) -> None:
    mask = np.zeros((50, 60), np.uint8)
    mask[10:20, 10:20] = mask[20:30, 20:40] = 255
    add_image(folder, "0001-l", mask)
    assert read_source("busbra", folder).nodules[0].box == Box(10, 10, 40, 30)


def test_faults_of_table_images_and_masks_are_told_together(folder: Path) -> None:
    write_table(
        folder,
        row_of("0001-l"),
        row_of("0001-l"),
        row_of("0001-r", pathology="unclear"),
        row_of("0002-s", case=""),
        row_of("0005-l"),
        row_of("0006-l"),
        row_of("0007-l"),
    )
    for name in ("0005-l", "0006-l", "0007-l"):
        add_image(folder, name)
    (folder / "Images" / "bus_0005-l.png").write_bytes(b"")
    (folder / "Masks" / "mask_0006-l.png").write_bytes(b"none")
    cv2.imwrite(str(folder / "Masks" / "mask_0007-l.png"), np.full((40, 60), 255, np.uint8))
    faults = faults_of(folder)
    assert [fault.partition(" (")[0] for fault in faults] == [
        "bus_data.csv, row 2: found ID 'bus_0001-l' again, expected a unique one",
        "bus_data.csv, row 3: found Pathology 'unclear', expected benign or malignant",
        "bus_data.csv, row 4: found an empty case, expected a value",
        "Images/bus_0005-l.png: found an unreadable image",
        "Masks/mask_0006-l.png: found an unreadable image",
        "Masks/mask_0007-l.png: found a 60x40 mask, expected 60x50, as its image",
    ]


def test_a_missing_column(folder: Path) -> None:
    (folder / "bus_data.csv").write_text("ID,Pathology\nbus_0001-l,benign\n")
    assert faults_of(folder) == [
        "bus_data.csv, header: found columns id, pathology, expected a column 'case'"
    ]


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    assert faults_of(tmp_path) == ["bus_data.csv: found no such file, expected a CSV file"]
    with pytest.raises(DataError, match="found no such folder, expected the BUS-BRA folder"):
        read_source("busbra", tmp_path / "x")
    write_table(tmp_path, row_of("0001-l"))
    with pytest.raises(DataError, match="found no image with row and mask"):
        read_source("busbra", tmp_path)


def test_the_public_set(shared: Path) -> None:
    data = read_source("busbra", shared / "data" / "BUS-BRA")
    assert data.n_images == len(data.nodules) == 1089
    assert len({nodule.patient_id for nodule in data.nodules}) == 620
    assert Counter(nodule.label for nodule in data.nodules) == {0: 705, 1: 384}
    assert data.exclusions == ()
    with (shared / "data" / "BUS-BRA" / "bus_data.csv").open(newline="") as stream:
        published = {row["ID"]: json.loads(row["BBOX"]) for row in csv.DictReader(stream)}
    for nodule in data.nodules:  # published counted from 1, and wrong for one image we lack
        box = nodule.box
        found = np.array([box.x_min, box.y_min, box.width, box.height])
        assert np.abs(found - published[nodule.image_id]).max() <= 2
