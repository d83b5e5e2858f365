from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from thyrojax.data.check import check_source
from thyrojax.data.records import Box
from thyrojax.data.sources import read_source, tn5000, voc_folder
from thyrojax.errors import DataError, DataFaults

SETS = {"train": ["000001", "000002"], "val": ["000003"], "test": ["000004"]}


def sheet(name: str, *objects: tuple[str, tuple[int, ...]], size: str = "72 50") -> str:
    """An annotation in the form of the public set: one `<object>`, whose name is 0 or 1."""
    width, height = size.split()
    lines = [
        "<annotation>",
        f"  <filename>{name}.jpg</filename>",
        f"  <size><width>{width}</width><height>{height}</height><depth>3</depth></size>",
    ]
    for label, (x_min, y_min, x_max, y_max) in objects:
        lines += [
            f"  <object><name>{label}</name><difficult>0</difficult>",
            f"    <bndbox><xmin>{x_min}</xmin><ymin>{y_min}</ymin>",
            f"      <xmax>{x_max}</xmax><ymax>{y_max}</ymax></bndbox></object>",
        ]
    return "\n".join([*lines, "</annotation>"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four images of the public layout, two of them malignant."""
    root = tmp_path / "TN5000_forReview"
    for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / part).mkdir(parents=True)
    for number in range(1, 5):
        frame = np.random.default_rng(number).integers(0, 256, (50, 72), dtype=np.uint8)
        cv2.imwrite(str(root / "JPEGImages" / f"{number:06d}.jpg"), frame)
        write(root, number, (str(number % 2), (10 + number, 6, 40, 45)))
    for part, names in SETS.items():
        (root / "ImageSets" / "Main" / f"{part}.txt").write_text("\n".join(names) + "\n")
    return root


def write(folder: Path, number: int, *objects: tuple[str, tuple[int, ...]], **more: str) -> None:
    name = f"{number:06d}"
    (folder / "Annotations" / f"{name}.xml").write_text(sheet(name, *objects, **more))


def faults_of(folder: Path, **options: object) -> list[str]:
    with pytest.raises(DataFaults) as caught:
        read_source("tn5000", folder, **options)
    return [str(fault).replace(f"{folder}/", "") for fault in caught.value.faults]


def test_class_one_is_malignant_and_each_image_its_own_patient(folder: Path) -> None:
    data = read_source("tn5000", folder)
    assert [(n.image_id, n.patient_id, n.label, n.box) for n in data.nodules] == [
        ("000001", "000001", 1, Box(10, 5, 40, 45)),
        ("000002", "000002", 0, Box(11, 5, 40, 45)),
        ("000003", "000003", 1, Box(12, 5, 40, 45)),
        ("000004", "000004", 0, Box(13, 5, 40, 45)),
    ]
    assert (data.n_images, data.exclusions) == (4, ())


def test_several_objects_are_several_nodules(folder: Path) -> None:
    write(folder, 1, ("1", (2, 3, 20, 30)), ("0", (30, 3, 60, 30)))
    ids = [(nodule.image_id, nodule.label) for nodule in read_source("tn5000", folder).nodules]
    assert ids[:2] == [("000001-1", 1), ("000001-2", 0)]


def test_the_notes_say_what_the_set_does_not_tell(folder: Path) -> None:
    patients, sets = read_source("tn5000", folder).notes
    assert patients.startswith("TN5000 names no patients")
    assert sets.startswith("The official image sets (train 2, val 1, test 1) were not used")
    assert sets.endswith("that stand in more than one of them: 0.")


def test_identical_images_across_the_official_sets_are_counted(folder: Path) -> None:
    pictures = folder / "JPEGImages"
    shutil.copy(pictures / "000002.jpg", pictures / "000004.jpg")
    _, same, sets = read_source("tn5000", folder).notes
    assert same == "Groups of byte-identical images: 1, images in them: 2."
    assert sets.endswith("that stand in more than one of them: 1.")


def test_copies_of_unlike_label_are_left_out(folder: Path) -> None:
    pictures = folder / "JPEGImages"
    shutil.copy(pictures / "000002.jpg", pictures / "000003.jpg")
    write(folder, 2, ("0", (10, 6, 40, 45)))
    write(folder, 3, ("1", (10, 6, 40, 45)), ("1", (1, 1, 9, 9)))
    data = read_source("tn5000", folder)
    assert [nodule.image_id for nodule in data.nodules] == ["000001", "000003-2", "000004"]
    assert [(entry.image_id, entry.reason, entry.detail) for entry in data.exclusions] == [
        ("000002", voc_folder.CONFLICTING, "000002, box 9 5 40 45"),
        ("000003", voc_folder.CONFLICTING, "000003-1, box 9 5 40 45"),
    ]


def test_the_sets_are_not_needed(folder: Path) -> None:
    shutil.rmtree(folder / "ImageSets")
    data = read_source("tn5000", folder)
    assert (len(data.nodules), len(data.notes)) == (4, 1)


def test_renamed_images_may_name_their_patients(folder: Path) -> None:
    data = read_source("tn5000", folder, patient_pattern=r"^0000(\d\d)$")
    assert [nodule.patient_id for nodule in data.nodules] == ["01", "02", "03", "04"]
    assert not any("names no patients" in note for note in data.notes)


def test_boxes_that_do_not_fit_are_left_out(folder: Path) -> None:
    write(folder, 1, ("1", (10, 6, 73, 45)), ("1", (10, 6, 40, 45)), ("1", (40, 6, 20, 45)))
    write(folder, 2, ("0", (10, 6, 40, 45)), size="718 500")
    write(folder, 3)
    (folder / "Annotations" / "000004.xml").unlink()
    write(folder, 5, ("0", (10, 6, 40, 45)))
    (folder / "ImageSets" / "Main" / "val.txt").write_text("000003\n000777\n")
    data, table = check_source("tn5000", folder)
    assert [nodule.image_id for nodule in data.nodules] == ["000001-2"]
    assert [(entry.image_id, entry.reason) for entry in data.exclusions] == [
        ("000001", voc_folder.BAD_BOX),
        ("000001", voc_folder.BAD_BOX),
        ("000002", voc_folder.OTHER_SIZE),
        ("000003", voc_folder.NO_OBJECT),
        ("000004", "no annotation"),
        ("000005", "no image file"),
        ("000777", "no image file"),
    ]
    assert "1 images with a nodule + 3 wholly excluded = 4 found" in table


XML = "Annotations/000001.xml"


@pytest.mark.parametrize(
    ("file", "content", "fault"),
    [
        (XML, b"", f"{XML}: found unreadable XML (no element found"),
        (XML, b"<annotation><object></annotation>", f"{XML}: found unreadable XML (mismatched tag"),
        (XML, b"\x89PNG\r\n", f"{XML}: found unreadable XML ("),
        (XML, b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', f"{XML}: found a document type"),
        (XML, b"<svg/>", f"{XML}: found XML of <svg>, expected VOC's <annotation>"),
        (
            XML,
            sheet("000001", ("2", (1, 2, 3, 4))).encode(),
            f"{XML}, object 1: found class '2', expected 0 or 1",
        ),
        (
            XML,
            sheet("000001", ("1", (1, 2, 3, 4))).replace("<name>1</name>", "").encode(),
            f"{XML}, object 1: found no class, expected its <name>",
        ),
        (
            XML,
            sheet("000001", ("1", (1, 2, 3, 4))).replace("bndbox", "robndbox").encode(),
            f"{XML}, object 1: found no box, expected a <bndbox>",
        ),
        (
            XML,
            sheet("000001", ("1", (1, 2, 3, 4))).replace("<ymax>4</ymax>", "").encode(),
            f"{XML}, object 1: found ymax '', expected a finite number",
        ),
        (
            XML,
            sheet("000003", ("1", (1, 2, 3, 4))).encode(),
            f"{XML}, filename: found '000003.jpg', expected '000001'",
        ),
        (
            "JPEGImages/000001.jpg",
            b"\xff\xd8\xff\xe0 cut off",
            "JPEGImages/000001.jpg: found an unreadable image",
        ),
        (
            "JPEGImages/000001.png",
            b"",
            "JPEGImages/000001.png: found the name of 000001.jpg again",
        ),
        (
            "ImageSets/Main/test.txt",
            b"000004\n000001\n",
            "ImageSets/Main/test.txt, line 2: found image '000001', which train.txt has",
        ),
        (
            "ImageSets/Main/val.txt",
            b"\xff\xfe0\x00",
            "ImageSets/Main/val.txt: found no readable text, expected a list of image names",
        ),
    ],
)
def test_a_malformed_file_is_one_line(folder: Path, file: str, content: bytes, fault: str) -> None:
    (folder / file).write_bytes(content)
    faults = faults_of(folder)
    assert len(faults) == 1
    assert faults[0].startswith(fault)
    assert "\n" not in faults[0]


def test_another_folder(folder: Path) -> None:
    assert faults_of(folder.parent) == [
        f"{name}: found no such folder, expected {tn5000.LAYOUT}"
        for name in ("Annotations", "JPEGImages")
    ]
    with pytest.raises(DataError, match="found no such folder, expected the TN5000 folder"):
        read_source("tn5000", folder / "none")
    for number in range(1, 5):
        write(folder, number)
    with pytest.raises(DataError, match="found no image with a usable box"):
        read_source("tn5000", folder)
    with pytest.raises(DataError, match="regular expression with exactly one group"):
        read_source("tn5000", folder, patient_pattern="x")
