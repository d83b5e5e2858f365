from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from thyrojax.data.check import check_source
from thyrojax.data.records import Box
from thyrojax.data.sources import components, masks, read_source
from thyrojax.errors import DataError, DataFaults

ONE = (Box(10, 12, 40, 37),)
TWO = (Box(5, 6, 30, 20), Box(40, 30, 70, 55))
HEADER = "image,label,patient_id,size_mm,tirads,margin,pixel_spacing_mm"


def draw(*boxes: Box, white: int = 255, height: int = 60) -> np.ndarray:
    mask = np.zeros((height, 80), np.uint8)
    for box in boxes:
        mask[box.y_min : box.y_max, box.x_min : box.x_max] = white
    return mask


def add(folder: Path, name: str, seed: int, mask: np.ndarray, suffix: str = ".png") -> None:
    frame = np.random.default_rng(seed).integers(0, 256, (60, 80), dtype=np.uint8)
    cv2.imwrite(str(folder / "images" / f"{name}{suffix}"), frame)
    cv2.imwrite(str(folder / "masks" / f"{name}.png"), mask)


def write_table(folder: Path, *rows: str, header: str = HEADER) -> None:
    (folder / "labels.csv").write_text("\n".join([header, *rows]) + "\n")


ROWS = ("a.jpg,benign,7,12.5,3,smooth,0.1", "b,1,7,8,4c,ill-defined,0.2", "c.png,0,8,,,,")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images of two patients, the second image with two nodules."""
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    add(tmp_path, "a", 1, draw(*ONE), ".jpg")
    add(tmp_path, "b", 2, draw(*TWO))
    add(tmp_path, "c", 3, draw(*ONE, white=1))
    write_table(tmp_path, *ROWS)
    return tmp_path


def faults_of(folder: Path, **options: object) -> list[str]:
    with pytest.raises(DataFaults) as caught:
        read_source("masks", folder, **options)
    return [str(fault).replace(f"{folder}/", "") for fault in caught.value.faults]


def test_each_part_of_a_mask_is_a_nodule(folder: Path) -> None:
    data = read_source("masks", folder)
    assert [(n.image_id, n.patient_id, n.label, n.box) for n in data.nodules] == [
        ("a", "7", 0, ONE[0]),
        ("b-1", "7", 1, TWO[0]),
        ("b-2", "7", 1, TWO[1]),
        ("c", "8", 0, ONE[0]),
    ]
    assert (data.n_images, data.exclusions, data.notes) == (3, (), ())


def test_features_are_of_one_nodule_and_spacing_is_of_the_image(folder: Path) -> None:
    first, second, third, _ = read_source("masks", folder).nodules
    assert (first.size_mm, first.tirads, first.margin) == (12.5, "3", "smooth")
    for nodule in (second, third):
        assert (nodule.size_mm, nodule.tirads, nodule.margin) == (None, None, None)
        assert nodule.pixel_spacing_mm == 0.2


def test_a_row_may_name_a_file_of_another_kind(folder: Path) -> None:
    write_table(folder, "a.png,0", "b.tif,1", "c,0", header="image,label")
    data = read_source("masks", folder)
    assert len(data.nodules) == 4
    assert [nodule.patient_id for nodule in data.nodules] == ["a", "b", "b", "c"]
    assert data.notes[0].startswith("The table of labels names no patients")


def test_the_table_may_lie_elsewhere_and_patients_in_names(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "elsewhere.csv"
    table.write_text("label,image\n0,a\n1,b\n1,c\n")
    (folder / "labels.csv").unlink()
    data = read_source("masks", folder, labels=table, patient_pattern="^([a-z])$")
    assert [nodule.label for nodule in data.nodules] == [0, 1, 1, 1]
    assert data.notes == ()


def test_what_lacks_a_part_is_left_out_with_its_reason(folder: Path) -> None:
    (folder / "masks" / "a.png").unlink()
    add(folder, "b", 2, draw(TWO[0], Box(70, 50, 72, 52)))
    add(folder, "d", 4, draw(*ONE))
    add(folder, "e", 5, draw())
    cv2.imwrite(str(folder / "masks" / "f.png"), draw(*ONE))
    write_table(folder, *ROWS, "e,0,9,,,,", "g.png,0,9,,,,")
    data, table = check_source("masks", folder)
    assert [nodule.image_id for nodule in data.nodules] == ["b", "c"]
    assert [(entry.image_id, entry.reason) for entry in data.exclusions] == [
        ("a", components.NO_MASK_FILE),
        ("b", components.SMALL_PART),
        ("d", masks.NO_ROW),
        ("e", components.EMPTY_MASK),
        ("f", "no image file"),
        ("g", "no image file"),
    ]
    assert "2 images with a nodule + 3 wholly excluded = 5 found" in table


def test_the_smallest_area_is_an_option(folder: Path) -> None:
    data = read_source("masks", folder, smallest_area=14 * 25 + 1)  # TWO[0] is 25x14
    assert [nodule.box for nodule in data.nodules] == [ONE[0], TWO[1], ONE[0]]
    assert [nodule.image_id for nodule in data.nodules] == ["a", "b", "c"]
    assert data.exclusions[0].detail == "b.png: 350 px, box 5 6 30 20"


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        (["a,2,7,,,,"], "labels.csv, row 1: found label '2', expected 0, 1, benign or malignant"),
        (["a,,7,,,,"], "labels.csv, row 1: found an empty label, expected a value"),
        ([",0,7,,,,"], "labels.csv, row 1: found an empty image, expected a value"),
        (["a,0,,,,,"], "labels.csv, row 1: found an empty patient_id, expected a value"),
        (["a,0,7,-1,,,"], "labels.csv, row 1: found size_mm -1, expected a number > 0"),
        (["a,0,7,,6,,"], "labels.csv, row 1: found tirads '6', expected one of 2, 3, 4a"),
        (["a,0,7,,,,wide"], "labels.csv, row 1: found pixel_spacing_mm 'wide', expected a finite"),
        (["a,0,7"], "labels.csv, row 1: found 3 cells, expected 7, as the header has"),
        (["a,0,7,,,,", "a.jpg,1,7,,,,"], "labels.csv, row 2: found image 'a.jpg' of row 1 again"),
        ([], "labels.csv: found no rows, expected a row for each nodule below the header"),
    ],
)
def test_a_malformed_row_is_one_line(folder: Path, rows: list[str], fault: str) -> None:
    write_table(folder, *rows)
    faults = faults_of(folder)
    assert len(faults) == 1
    assert faults[0].startswith(fault)
    assert "\n" not in faults[0]


@pytest.mark.parametrize(
    ("header", "fault"),
    [
        ("file,label", "labels.csv, header: found columns file, label, expected a column 'image'"),
        ("image,grade", "labels.csv, header: found columns image, grade, expected a column"),
        ("image,label,label", "labels.csv: found column 'label' twice, expected each column once"),
        (
            "image,label,patientid",  # ignored, it would make every view a patient
            "labels.csv, header: found column 'patientid', expected 'patient_id', or another name",
        ),
        ("image,label,tirad", "labels.csv, header: found column 'tirad', expected 'tirads', or"),
        ("", "labels.csv: found no header, expected column names in the first line"),
    ],
)
def test_a_malformed_header_is_one_line(folder: Path, header: str, fault: str) -> None:
    write_table(folder, ",".join(["a", "0", "1"][: header.count(",") + 1]), header=header)
    faults = faults_of(folder)
    assert len(faults) == 1
    assert faults[0].startswith(fault)


def test_faults_of_images_and_masks_are_told_together(folder: Path) -> None:
    (folder / "images" / "a.jpg").write_bytes(b"\xff\xd8\xff")
    (folder / "masks" / "b.png").write_bytes(b"none")
    cv2.imwrite(str(folder / "masks" / "c.png"), draw(*ONE, white=7))
    add(folder, "d", 4, draw(*ONE, height=59))
    cv2.imwrite(str(folder / "images" / "d.bmp"), draw())
    write_table(folder, *ROWS, "d,0,9,,,,")
    assert [fault.partition(" (")[0] for fault in faults_of(folder)] == [
        "images/d.png: found the name of d.bmp again, expected one file of each name",
        "images/a.jpg: found an unreadable image",
        "masks/b.png: found an unreadable image",
        "masks/c.png: found no grey level above 7, expected a mask of 0 and 255, or of 0 and 1",
        "masks/d.png: found a 80x59 mask, expected 80x60, as its image",
    ]


def test_coloured_regions_are_not_taken_for_nodules(folder: Path) -> None:
    colour = np.zeros((60, 80, 3), np.uint8)
    colour[10:30, 10:30, 2] = 128  # VOC's first class: dark red, grey 38
    cv2.imwrite(str(folder / "masks" / "a.png"), colour)
    assert faults_of(folder) == [
        "masks/a.png: found no grey level above 38, expected a mask of 0 and 255, or of 0 and 1"
    ]


def test_black_nodules_on_white_are_not_a_nodule_as_large_as_the_image(folder: Path) -> None:
    cv2.imwrite(str(folder / "masks" / "a.png"), 255 - draw(*ONE))
    assert faults_of(folder) == [
        "masks/a.png: found white in all four corners, expected black around white nodules"
    ]


def test_identical_images_have_one_label(folder: Path) -> None:
    (folder / "images" / "c.png").write_bytes((folder / "images" / "b.png").read_bytes())
    assert faults_of(folder) == [
        "labels.csv, row 3: found label 0 of 'c', whose bytes are those of 'b' of 1, expected one "
        "label for one image"
    ]


def test_a_name_that_a_pattern_does_not_fit(folder: Path) -> None:
    write_table(folder, "a,0", "b,1", "c,1", header="image,label")
    [fault] = faults_of(folder, patient_pattern="([ab])")
    assert fault.startswith("labels.csv, row 3: found image name 'c', expected a patient where")


def test_patients_from_two_places(folder: Path) -> None:
    with pytest.raises(DataError, match="found a column patient_id besides --patient-pattern"):
        read_source("masks", folder, patient_pattern="(.)")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: folder / "none", "found no such folder, expected a folder with images"),
        (lambda folder: folder / "labels.csv", "found a file, expected a folder with images"),
        (lambda folder: folder / "images", "masks: found no such folder, expected a folder with"),
    ],
)
def test_a_folder_of_something_else(
    folder: Path, spoil: Callable[[Path], Path], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_source("masks", spoil(folder))


def test_nothing_usable(folder: Path) -> None:
    with pytest.raises(DataError, match="found no image with mask and label"):
        read_source("masks", folder, smallest_area=4000)
    with pytest.raises(DataError, match="found -1, expected a whole number >= 1"):
        read_source("masks", folder, smallest_area=-1)
