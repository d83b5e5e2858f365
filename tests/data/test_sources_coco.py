from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from thyrojax.data.check import summarise
from thyrojax.data.records import Box
from thyrojax.data.sources import coco, naming, read_source
from thyrojax.errors import DataError, DataFaults

Content = dict[str, Any]


def draw(file: Path, seed: int = 0) -> None:
    """A frame of 80x60 px."""
    file.parent.mkdir(parents=True, exist_ok=True)
    frame = np.random.default_rng(seed).integers(0, 256, (60, 80), dtype=np.uint8)
    cv2.imwrite(str(file), frame)


def content() -> Content:
    """Three images, as annotation tools export them; the second has two nodules, the third none."""
    return {
        "info": {"description": "thyroid", "year": 2024, "version": "1.0"},
        "licenses": [{"id": 1, "name": "", "url": ""}],
        "images": [
            {"id": 1, "file_name": "p1/a.png", "width": 80, "height": 60, "license": 1},
            {"id": 2, "file_name": "p1/b.png", "width": 80, "height": 60, "date_captured": 0},
            {"id": 3, "file_name": "p2/a.png", "width": 80, "height": 60},
        ],
        "categories": [
            {"id": 1, "name": "Benign", "supercategory": "nodule"},
            {"id": 2, "name": "malignant", "supercategory": "nodule"},
            {"id": 3, "name": "lymph node", "supercategory": ""},
        ],
        "annotations": [
            annotation(1, 1, 1, [10.25, 20, 30.5, 15.75]),
            annotation(2, 2, 2, [0, 0, 80, 60]),
            annotation(3, 2, 1, [5, 5, 10, 20]),
        ],
    }


def annotation(number: int, image: int, category: int, bbox: list[float]) -> Content:
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": bbox,
        "area": 1.0,
        "segmentation": [[1, 2, 3, 4, 5, 6]],
        "iscrowd": 0,
        "attributes": {"occluded": False},
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed, name in enumerate(("p1/a.png", "p1/b.png", "p2/a.png")):
        draw(tmp_path / name, seed)
    return tmp_path


def write(folder: Path, data: Any) -> Path:
    file = folder / "nodules.json"
    file.write_text(json.dumps(data))
    return file


def faults_of(folder: Path, data: Any, **options: Any) -> list[str]:
    file = write(folder, data)
    with pytest.raises(DataFaults) as caught:
        read_source("coco", file, **options)
    return [str(fault).replace(f"{folder}/", "") for fault in caught.value.faults]


def test_boxes_classes_and_names(folder: Path) -> None:
    data = read_source("coco", write(folder, content()))
    assert [(n.image_id, n.label, n.box) for n in data.nodules] == [
        ("p1/a", 0, Box(10, 20, 41, 36)),  # outward of 10.25..40.75 and 20..35.75
        ("p1/b-1", 1, Box(0, 0, 80, 60)),
        ("p1/b-2", 0, Box(5, 5, 15, 25)),
    ]
    assert data.nodules[0].image == folder / "p1" / "a.png"
    assert [(e.image_id, e.reason) for e in data.exclusions] == [("p2/a", naming.NO_ANNOTATION)]
    assert (data.n_images, summarise(data).n_images_used) == (3, 2)


@pytest.mark.parametrize("where", ["images", "."])
def test_images_lie_beside_the_file_or_in_a_folder_images(tmp_path: Path, where: str) -> None:
    for name in ("p1/a.png", "p1/b.png", "p2/a.png"):
        draw(tmp_path / where / name)
    assert read_source("coco", write(tmp_path, content())).n_images == 3


def test_a_folder_annotations_has_its_images_beside_it(tmp_path: Path) -> None:
    for name in ("p1/a.png", "p1/b.png", "p2/a.png"):
        draw(tmp_path / "images" / name)
    (tmp_path / "annotations").mkdir()
    assert read_source("coco", write(tmp_path / "annotations", content())).n_images == 3


def test_images_that_are_not_there_are_exclusions_and_other_files_are_not_looked_at(
    folder: Path,
) -> None:
    (folder / "p1" / "a.png").unlink()
    draw(folder / "other.png")
    data = read_source("coco", write(folder, content()))
    assert [(e.image_id, e.reason, e.detail) for e in data.exclusions] == [
        ("p1/a", "no image file", "annotations: 1"),
        ("p2/a", naming.NO_ANNOTATION, ""),
    ]
    assert (data.n_images, summarise(data).n_images_excluded) == (2, 1)


def test_patients_are_images_unless_named(folder: Path) -> None:
    data = read_source("coco", write(folder, content()))
    assert [n.patient_id for n in data.nodules] == ["p1/a", "p1/b", "p1/b"]
    assert data.notes == (naming.no_patients("The COCO file"),)


def test_patients_come_from_a_pattern_in_the_name_with_its_folders(folder: Path) -> None:
    data = read_source("coco", write(folder, content()), patient_pattern="^(p\\d+)/")
    assert [n.patient_id for n in data.nodules] == ["p1", "p1", "p1"]
    assert data.notes == ()


def test_patients_come_from_the_images_own_patient_id(folder: Path) -> None:
    found = content()
    for image, patient in zip(found["images"], (0, "x 8", 9), strict=True):
        image["patient_id"] = patient
    data = read_source("coco", write(folder, found))
    assert [n.patient_id for n in data.nodules] == ["0", "x 8", "x 8"]
    assert data.notes == ()
    del found["images"][2]["patient_id"]
    assert faults_of(folder, found) == [
        "nodules.json, images[2].patient_id: found no 'patient_id', "
        "expected a whole number or printable text"
    ]


def test_attributes_in_our_words_are_features(folder: Path) -> None:
    found = content()
    found["annotations"][0]["attributes"] = {
        "Composition": "Solid",
        "echogenicity": "",
        "calcification": None,
        "margin": "ill-defined",
        "operator": "any",
    }
    nodule = read_source("coco", write(folder, found)).nodules[0]
    assert (nodule.composition, nodule.margin) == ("solid", "ill_defined")
    assert (nodule.echogenicity, nodule.calcification, nodule.shape) == (None, None, None)
    found["annotations"][0]["attributes"] = {"shape": "round", "tirads": 4}
    assert faults_of(folder, found) == [
        "nodules.json, annotations[0].attributes.shape: found text 'round', "
        "expected one of wider, taller",
        "nodules.json, annotations[0].attributes.tirads: found 4, "
        "expected one of 2, 3, 4a, 4b, 4c, 5",
    ]


def test_other_classes_are_a_fault_until_classes_are_named(folder: Path) -> None:
    found = content()
    found["annotations"][2]["category_id"] = 3
    found["annotations"].append(annotation(4, 3, 3, [1, 1, 9, 9]))
    assert faults_of(folder, found) == [
        "nodules.json, categories[2].name: found class 'lymph node', expected benign or malignant, "
        "or classes named with --malignant and --benign"
    ]
    data = read_source("coco", write(folder, found), benign=["BENIGN"])
    assert [n.image_id for n in data.nodules] == ["p1/a", "p1/b-1"]
    assert [(e.image_id, e.reason, e.detail) for e in data.exclusions] == [
        ("p1/b", naming.OTHER_CLASS, "annotation 2 of 2, class lymph node"),
        ("p2/a", naming.OTHER_CLASS, "annotation 1 of 1, class lymph node"),
    ]
    assert summarise(data).n_images_excluded == 1
    data = read_source("coco", write(folder, found), malignant=["Lymph-Node", "malignant"])
    assert [n.label for n in data.nodules] == [0, 1, 1, 1]


def test_a_category_that_nothing_uses_may_have_any_name(folder: Path) -> None:
    assert len(read_source("coco", write(folder, content())).nodules) == 3


def test_edges_up_to_a_pixel_outside_are_rounding(folder: Path) -> None:
    found = content()
    found["annotations"][0]["bbox"] = [-0.4, -1.0, 81.4, 62.0]
    assert read_source("coco", write(folder, found)).nodules[0].box == Box(0, 0, 80, 60)
    for bbox in ([-1.01, 0, 5, 5], [0, 0, 81.1, 5], [0, 58, 5, 3.5], [80.5, 0, 0.4, 5]):
        found["annotations"][0]["bbox"] = bbox
        (fault,) = faults_of(folder, found)
        assert fault.endswith("expected a box inside the 80x60 image")


def test_the_same_box_again_is_left_out_or_contradicts(folder: Path) -> None:
    found = content()
    found["annotations"].append(annotation(4, 2, 2, [0, 0, 80, 60]))
    data = read_source("coco", write(folder, found))
    assert len(data.nodules) == 3
    assert [e.reason for e in data.exclusions] == [naming.REPEATED, naming.NO_ANNOTATION]
    found["annotations"][3]["category_id"] = 1
    assert faults_of(folder, found) == [
        "nodules.json, annotations[3].category_id: found another label than annotations[1] has, "
        "expected one for the same box"
    ]


def test_a_byte_order_mark_and_a_size_that_is_not_stated(folder: Path) -> None:
    found = content()
    del found["images"][0]["width"], found["images"][0]["height"]
    file = folder / "nodules.json"
    file.write_text(json.dumps(found), encoding="utf-8-sig")
    assert len(read_source("coco", file).nodules) == 3


def test_no_nodule_is_left(folder: Path) -> None:
    found = {**content(), "annotations": []}
    with pytest.raises(DataError, match=r"found no nodule in 3 images \(no annotation\), expected"):
        read_source("coco", write(folder, found))
    found["images"] = []
    with pytest.raises(DataError, match=r"found no nodule in 0 images \(it lists none\), expected"):
        read_source("coco", write(folder, found))


def change(path: str, value: Any) -> Callable[[Content], None]:
    """Puts a value at a place such as "annotations.0.bbox"; ... deletes what is there."""

    def damage(found: Content) -> None:
        target: Any = found
        *steps, last = [int(step) if step.isdecimal() else step for step in path.split(".")]
        for step in steps:
            target = target[step]
        if value is ...:
            del target[last]
        else:
            target[last] = value

    return damage


BOX = "a list of 4 finite numbers"
KIND = "a whole number or printable text"


@pytest.mark.parametrize(
    ("path", "value", "place", "found", "expected"),
    [
        ("images", ..., "images", "no 'images'", "a list of objects"),
        ("annotations", {"1": 2}, "annotations", "an object", "a list of objects"),
        ("categories", None, "categories", "null", "a list of objects"),
        ("images.1", 7, "images[1]", "7", "an object"),
        ("images.2.id", ..., "images[2].id", "no 'id'", KIND),
        ("images.2.id", 1.5, "images[2].id", "1.5", KIND),
        ("images.2.id", True, "images[2].id", "true", KIND),
        ("images.2.id", 2, "images[2].id", "the id of images[1] again", "a unique one"),
        ("images.0.file_name", "", "images[0].file_name", "text ''", "printable text"),
        ("images.0.file_name", "a\n\ud800", "images[0].file_name", None, "printable text"),
        ("images.0.file_name", "/etc/a.png", "images[0].file_name", None, "a path that stays in"),
        ("images.0.file_name", "../a.png", "images[0].file_name", None, "a path that stays in"),
        ("images.0.file_name", "c:/a.png", "images[0].file_name", None, "a path that stays in"),
        (
            "images.0.file_name",
            "p1/b.jpg",
            "images[1].file_name",
            "the name of images[0] again",
            "",
        ),
        ("images.0.width", 79, "images[0].width", "79", "80, as the image has"),
        ("images.0.height", "60", "images[0].height", "text '60'", "60, as the image has"),
        ("categories.0.name", [], "categories[0].name", "an empty list", "printable text"),
        ("categories.1.id", 1, "categories[1].id", "the id of categories[0] again", "a unique one"),
        ("annotations.2.id", 1, "annotations[2].id", "the id of annotations[0] again", ""),
        (
            "annotations.0.image_id",
            9,
            "annotations[0].image_id",
            "9",
            "the id of one of the images",
        ),
        ("annotations.0.image_id", "1", "annotations[0].image_id", "text '1'", "the id of one of"),
        ("annotations.0.category_id", 0, "annotations[0].category_id", "0", "the id of one of the"),
        ("annotations.0.bbox", ..., "annotations[0].bbox", "no 'bbox'", BOX),
        ("annotations.0.bbox", [1, 2, 3], "annotations[0].bbox", "a list of 3 (1, 2, 3)", BOX),
        ("annotations.0.bbox", [1, 2, 3, "4"], "annotations[0].bbox", None, BOX),
        ("annotations.0.bbox", [1, 2, 3, float("nan")], "annotations[0].bbox", None, BOX),
        ("annotations.0.bbox", [1, 2, float("inf"), 4], "annotations[0].bbox", None, BOX),
        ("annotations.0.bbox", [1, 2, 10**400, 4], "annotations[0].bbox", None, BOX),
        ("annotations.0.bbox", [1, 2, 1e300, 4], "annotations[0].bbox", None, "a box inside the 8"),
        ("annotations.0.bbox", [1, 2, 0, 4], "annotations[0].bbox", None, "a width and a height >"),
        (
            "annotations.0.bbox",
            [1, 2, 3, -4],
            "annotations[0].bbox",
            None,
            "a width and a height >",
        ),
        ("annotations.0.bbox", {"x": 1}, "annotations[0].bbox", "an object", BOX),
    ],
)
def test_each_wrong_thing_is_named_by_its_place(
    folder: Path, path: str, value: Any, place: str, found: str | None, expected: str
) -> None:
    data = content()
    change(path, value)(data)
    faults = faults_of(folder, data)
    named = [fault for fault in faults if fault.startswith(f"nodules.json, {place}: found ")]
    assert named, faults
    assert f", expected {expected}" in named[0]
    assert found is None or f": found {found}, " in named[0]
    assert all("\n" not in fault and len(fault) < 250 and fault.isprintable() for fault in faults)


def test_ids_that_are_wrong_do_not_make_their_references_wrong(folder: Path) -> None:
    data = content()
    data["images"][0]["file_name"] = "../a.png"
    assert len(faults_of(folder, data)) == 1


@pytest.mark.parametrize(
    ("text", "found", "expected"),
    [
        (b"", "text that is no JSON (Expecting value", "a whole JSON file"),
        (b'{"images": [', "text that is no JSON (Expecting value", "a whole JSON file"),
        (b"[" * 100_000, "lists or objects nested too deeply", "the layout's few levels"),
        (b'{"a":' * 100_000, "lists or objects nested too deeply", "the layout's few levels"),
        (b"[1]", "a list of 1 (1)", "one JSON object"),
        (b"\x89PNG\r\n\x1a\n", "bytes that are not UTF-8 (at byte 0)", "a JSON file in UTF-8"),
        ('{"images": []}'.encode("utf-16"), "bytes that are not UTF-8", "a JSON file in UTF-8"),
        (b'{"images": [], "images": []}', "text that is no JSON (key 'images' twice", "a whole"),
        (b'{"images": ' + b"9" * 5000 + b"}", "text that is no JSON (Exceeds", "a whole JSON file"),
        (b"\0" * 100, "text that is no JSON (Expecting value", "a whole JSON file"),
    ],
)
def test_files_that_are_no_json(tmp_path: Path, text: bytes, found: str, expected: str) -> None:
    file = tmp_path / "nodules.json"
    file.write_bytes(text)
    with pytest.raises(DataFaults) as caught:
        read_source("coco", file)
    (fault,) = map(str, caught.value.faults)
    assert fault.startswith(f"{file}: found {found}")
    assert f", expected {expected}" in fault
    assert "\n" not in fault


def test_places_that_are_no_file(tmp_path: Path) -> None:
    (tmp_path / "loop.json").symlink_to(tmp_path / "loop.json")
    for name, found in (
        ("", "a folder"),
        ("none.json", "no such file"),
        ("loop.json", "Too many levels of symbolic links"),
    ):
        with pytest.raises(DataFaults, match=f"found {found}, expected a JSON file"):
            read_source("coco", tmp_path / name)


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    with (tmp_path / "large.json").open("wb") as file:
        file.truncate(coco.LARGEST + 1)
    with pytest.raises(DataFaults, match="found 536870913 bytes, expected at most 536870912"):
        read_source("coco", tmp_path / "large.json")


def test_images_that_cannot_be_decoded(folder: Path) -> None:
    (folder / "p1" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (fault,) = faults_of(folder, content())
    assert fault.startswith("p1/a.png: found an unreadable image (")


def test_names_that_hold_no_patient(folder: Path) -> None:
    faults = faults_of(folder, content(), patient_pattern="^(p1)/")
    assert faults == [
        "nodules.json, images[2].file_name: found image name 'p2/a', "
        "expected a patient where '^(p1)/' has its group"
    ]


def test_an_image_named_like_another_images_nodule(folder: Path) -> None:
    draw(folder / "p1" / "b-1.png")
    data = content()
    data["images"].append({"id": 4, "file_name": "p1/b-1.png"})
    data["annotations"].append(annotation(4, 4, 1, [1, 1, 9, 9]))
    (fault,) = faults_of(folder, data)
    assert "found the name 'p1/b-1', which a nodule of " in fault
