from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from thyrojax.data.check import check_source, summarise
from thyrojax.data.records import Box
from thyrojax.data.sources import naming, read_source, voc_folder
from thyrojax.errors import DataError, DataFaults


def an_object(name: str = "benign", box: str = "11 21 40 45", more: str = "") -> str:
    edges = zip(("xmin", "ymin", "xmax", "ymax"), box.split(), strict=True)
    inside = "".join(f"<{edge}>{value}</{edge}>" for edge, value in edges)
    return f"<object><name>{name}</name>{more}<bndbox>{inside}</bndbox></object>"


def sheet(name: str, *objects: str, size: str = "80 60") -> str:
    """An annotation as LabelImg writes it."""
    width, height = size.split()
    return (
        f"<annotation><folder>JPEGImages</folder><filename>{name}.jpg</filename>"
        f"<path>C:\\data\\{name}.jpg</path><source><database>Unknown</database></source>"
        f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
        f"<segmented>0</segmented>{''.join(objects)}</annotation>"
    )


def add_image(folder: Path, name: str, seed: int, suffix: str = ".jpg") -> None:
    frame = np.random.default_rng(seed).integers(0, 256, (60, 80), dtype=np.uint8)
    cv2.imwrite(str(folder / f"{name}{suffix}"), frame)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images of VOC's layout, the third with two nodules."""
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "JPEGImages").mkdir()
    for seed, (name, objects) in enumerate(
        {
            "p1_a": [an_object()],
            "p1_b": [an_object("Malignant", "1 1 80 60")],
            "p2_a": [an_object("1", "5 6 20 30"), an_object("0", "41 11 60 50")],
        }.items()
    ):
        add_image(tmp_path / "JPEGImages", name, seed)
        write(tmp_path, name, sheet(name, *objects))
    return tmp_path


def write(folder: Path, name: str, text: str) -> None:
    (folder / "Annotations" / f"{name}.xml").write_text(text)


def faults_of(folder: Path, **options: object) -> list[str]:
    with pytest.raises(DataFaults) as caught:
        read_source("voc", folder, **options)
    return [str(fault).replace(f"{folder}/", "") for fault in caught.value.faults]


def test_edges_counted_from_one_become_half_open(folder: Path) -> None:
    data = read_source("voc", folder)
    assert [(n.image_id, n.patient_id, n.label, n.box) for n in data.nodules] == [
        ("p1_a", "p1_a", 0, Box(10, 20, 40, 45)),
        ("p1_b", "p1_b", 1, Box(0, 0, 80, 60)),  # the whole image
        ("p2_a-1", "p2_a", 1, Box(4, 5, 20, 30)),
        ("p2_a-2", "p2_a", 0, Box(40, 10, 60, 50)),
    ]
    assert (data.n_images, data.exclusions) == (3, ())
    assert len(data.notes) == 1
    assert "names no patients" in data.notes[0]


def test_fractions_are_rounded_outward(folder: Path) -> None:
    write(folder, "p1_a", sheet("p1_a", an_object(box="11.5 20.5 39.2 44.9")))
    assert read_source("voc", folder).nodules[0].box == Box(10, 19, 40, 45)


def test_a_box_at_zero_shows_a_folder_counted_from_zero(folder: Path) -> None:
    write(folder, "p1_b", sheet("p1_b", an_object(box="0 7 80 60")))
    data = read_source("voc", folder)
    assert [nodule.box for nodule in data.nodules[:2]] == [Box(11, 21, 40, 45), Box(0, 7, 80, 60)]
    assert data.notes[1].startswith("1 of 4 boxes begin at 0, where VOC counts from 1")


def test_patients_are_found_in_names(folder: Path) -> None:
    data = read_source("voc", folder, patient_pattern=r"^(p\d)_")
    assert [nodule.patient_id for nodule in data.nodules] == ["p1", "p1", "p2", "p2"]
    assert data.notes == ()


def test_classes_can_be_named_and_the_others_are_left_out(folder: Path) -> None:
    write(folder, "p1_a", sheet("p1_a", an_object("PTC")))
    write(folder, "p1_b", sheet("p1_b", an_object("goitre"), an_object("lymph node", "2 2 9 9")))
    data = read_source("voc", folder, malignant=["ptc"], benign=["Goitre", "0"])
    assert [(nodule.image_id, nodule.label) for nodule in data.nodules] == [
        ("p1_a", 1),
        ("p1_b-1", 0),
        ("p2_a-2", 0),
    ]
    assert [(entry.image_id, entry.reason, entry.detail) for entry in data.exclusions] == [
        ("p1_b", naming.OTHER_CLASS, "object 2: lymph node"),
        ("p2_a", naming.OTHER_CLASS, "object 1: 1"),
    ]
    assert summarise(data).n_images_used == 3


def test_xml_may_lie_beside_the_images(folder: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for file in (*folder.glob("Annotations/*"), *folder.glob("JPEGImages/*")):
        file.rename(flat / file.name)
    (flat / "notes.txt").write_text("not ours")
    (flat / "._p1_a.jpg").write_bytes(b"what some systems leave beside a file")
    assert len(read_source("voc", flat).nodules) == 4


def test_flags_are_noted_and_parts_are_not_read(folder: Path) -> None:
    part = "<part><name>calcification</name><bndbox><xmin>x</xmin></bndbox></part>"
    flags = "<truncated>1</truncated><difficult>1</difficult>"
    write(folder, "p1_a", sheet("p1_a", an_object(more=part + flags)))
    data = read_source("voc", folder)
    assert len(data.nodules) == 4
    assert data.notes[1] == (
        "1 of 4 objects are marked difficult and 1 truncated: they were treated like the others."
    )


def test_what_cannot_be_used_is_left_out_with_its_reason(folder: Path) -> None:
    add_image(folder / "JPEGImages", "p3", 7, ".png")
    add_image(folder / "JPEGImages", "p4", 8, ".PNG")
    write(folder, "p4", sheet("p4"))
    write(folder, "p5", sheet("p5", an_object()))
    write(folder, "p1_a", sheet("p1_a", an_object(), an_object(), an_object("1", "2 2 9 9")))
    data, table = check_source("voc", folder)
    assert [(entry.image_id, entry.reason) for entry in data.exclusions] == [
        ("p1_a", naming.REPEATED),
        ("p3", naming.NO_ANNOTATION),
        ("p4", voc_folder.NO_OBJECT),
        ("p5", "no image file"),
    ]
    assert "3 images with a nodule + 2 wholly excluded = 5 found" in table


def test_a_box_has_one_label_in_an_image_and_its_copies(folder: Path) -> None:
    copied = (folder / "JPEGImages" / "p1_a.jpg").read_bytes()
    (folder / "JPEGImages" / "p1_b.jpg").write_bytes(copied)
    write(folder, "p1_b", sheet("p1_b", an_object("malignant"), an_object("1", "2 2 9 9")))
    write(folder, "p2_a", sheet("p2_a", an_object("0"), an_object("1")))
    ending = "and of the other label in the same pixels, expected one label for a box"
    assert faults_of(folder) == [
        f"JPEGImages/p1_a.jpg: found box 10 20 40 45 of label 0, {ending}",
        f"JPEGImages/p1_b.jpg: found box 10 20 40 45 of label 1, {ending}",
        f"JPEGImages/p2_a.jpg: found box 10 20 40 45 of label 0, {ending}",
        f"JPEGImages/p2_a.jpg: found box 10 20 40 45 of label 1, {ending}",
    ]


def test_a_size_of_zero_is_not_known(folder: Path) -> None:
    write(folder, "p1_a", sheet("p1_a", an_object(), size="0 0"))
    assert len(read_source("voc", folder).nodules) == 4


LAUGHS = '<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;">]><annotation>&c;</annotation>'
XML = "Annotations/p1_a.xml"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", f"{XML}: found unreadable XML (no element found"),
        ("<annotation><object>", f"{XML}: found unreadable XML (no element found"),
        ("<annotation>&unknown;</annotation>", f"{XML}: found unreadable XML (undefined entity"),
        ("\x00\x01", f"{XML}: found unreadable XML (not well-formed"),
        (LAUGHS, f"{XML}: found a document type declaration, expected a plain VOC annotation"),
        ("<a>" * 40, f"{XML}: found elements nested more than 32 deep, expected a plain"),
        (" " * 1_100_000, f"{XML}: found more than 1048576 bytes, expected a plain"),
        ("<html></html>", f"{XML}: found XML of <html>, expected VOC's <annotation>"),
        (
            '<?xml version="1.0" encoding="klingon"?><annotation/>',
            f"{XML}: found unreadable XML (unknown encoding",
        ),
        (
            sheet("p1_a", "<object><name>benign</name></object>"),
            f"{XML}, object 1: found no box, expected a <bndbox>",
        ),
        (
            sheet("p1_a", an_object(), an_object(" ")),
            f"{XML}, object 2: found no class, expected its <name>",
        ),
        (
            sheet("p1_a", an_object("nodule")),
            f"{XML}, object 1: found class 'nodule', expected benign or malignant, or classes",
        ),
        (
            sheet("p1_a", an_object(box="a 2 3 4")),
            f"{XML}, object 1: found xmin 'a', expected a finite number",
        ),
        (
            sheet("p1_a", an_object(box="1 2 nan 4")),
            f"{XML}, object 1: found xmax 'nan', expected a finite number",
        ),
        (
            sheet("p1_a", an_object(box="1 2 3 1e999")),
            f"{XML}, object 1: found ymax '1e999', expected a finite number",
        ),
        (
            sheet("p1_a", an_object(box="40 2 11 4")),
            f"{XML}, object 1: found box 39 1 11 4 of no area",
        ),
        (
            sheet("p1_a", an_object(box="12 2 11 4")),
            f"{XML}, object 1: found box 11 1 11 4 of no area",
        ),
        (
            sheet("p1_a", an_object(box="11 21 81 45")),
            f"{XML}, object 1: found box 10 20 81 45, expected a box inside the 80x60 image",
        ),
        (
            sheet("p1_a", an_object(box="-4 21 40 45")),
            f"{XML}, object 1: found box -5 20 40 45, expected a box inside the 80x60 image",
        ),
        (
            sheet("p1_a", an_object(), size="60 80"),
            f"{XML}, size: found 60x80, expected 80x60, as its image",
        ),
        (
            sheet("p1_a", an_object(), size="many 80"),
            f"{XML}, size: found width 'many', expected a whole number of pixels",
        ),
        (
            sheet("p1_b", an_object()),
            f"{XML}, filename: found 'p1_b.jpg', expected 'p1_a', as the file itself is called",
        ),
    ],
)
def test_a_malformed_annotation_is_one_line(folder: Path, text: str, fault: str) -> None:
    write(folder, "p1_a", text)
    faults = faults_of(folder)
    assert len(faults) == 1
    assert faults[0].startswith(fault)
    assert "\n" not in faults[0]


def test_an_annotation_in_an_encoding_of_its_own(folder: Path) -> None:
    text = sheet("p1_a", an_object()).replace("Unknown", "Établi")
    (folder / "Annotations" / "p1_a.xml").write_bytes(
        b'<?xml version="1.0" encoding="ISO-8859-1"?>' + text.encode("latin-1")
    )
    assert len(read_source("voc", folder).nodules) == 4


def test_faults_of_all_files_are_told_together(folder: Path) -> None:
    (folder / "JPEGImages" / "p1_a.jpg").write_bytes(b"no image")
    write(folder, "p1_b", "<annotation>")
    write(folder, "p2_a", sheet("p2_a", an_object("x"), an_object("y")))
    faults = faults_of(folder)
    assert [fault.partition(":")[0] for fault in faults] == [
        "Annotations/p1_b.xml",
        "JPEGImages/p1_a.jpg",
        "Annotations/p2_a.xml, object 1",
        "Annotations/p2_a.xml, object 2",
    ]


def test_a_name_that_a_pattern_does_not_fit(folder: Path) -> None:
    add_image(folder / "JPEGImages", "other", 9)
    write(folder, "other", sheet("other", an_object()))
    assert faults_of(folder, patient_pattern=r"^(p\d)_") == [
        "JPEGImages/other.jpg: found image name 'other', expected a patient where '^(p\\\\d)_' has "
        "its group"
    ]


def test_two_images_of_one_name(folder: Path) -> None:
    add_image(folder / "JPEGImages", "p1_a", 9, ".png")
    assert faults_of(folder) == [
        "JPEGImages/p1_a.png: found the name of p1_a.jpg again, expected one file of each name"
    ]


def test_an_image_that_is_called_like_the_nodule_of_another(folder: Path) -> None:
    add_image(folder / "JPEGImages", "p2_a-1", 9)
    write(folder, "p2_a-1", sheet("p2_a-1", an_object()))
    [fault] = faults_of(folder)
    assert fault.startswith("JPEGImages/p2_a.jpg: found the name 'p2_a-1', which a nodule of ")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: folder / "none", "found no such folder, expected a Pascal VOC folder"),
        (lambda folder: folder / "Annotations/p1_a.xml", "found a file, expected a Pascal VOC"),
        (lambda folder: folder / "JPEGImages", "found 0 XML files and 3 images, expected an XML"),
        (lambda folder: folder / "Annotations", "found 3 XML files and 0 images, expected an XML"),
    ],
)
def test_a_folder_of_something_else(
    folder: Path, spoil: Callable[[Path], Path], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_source("voc", spoil(folder))


def test_a_layout_with_one_half_missing(folder: Path) -> None:
    (folder / "JPEGImages").rename(folder / "Images")
    assert faults_of(folder) == [
        "JPEGImages: found no such folder, expected Annotations and JPEGImages"
    ]


def test_nothing_usable(folder: Path) -> None:
    for name in ("p1_a", "p1_b", "p2_a"):
        write(folder, name, sheet(name))
    with pytest.raises(DataError, match="found no usable object, expected boxes of nodules"):
        read_source("voc", folder)
    with pytest.raises(DataError, match="in both, expected each class in one of them"):
        read_source("voc", folder, malignant=["a"], benign=["A"])
