from __future__ import annotations

import base64
import json
import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from thyrojax.data.check import summarise
from thyrojax.data.records import Box, load_image
from thyrojax.data.sources import labelme, naming, read_source
from thyrojax.errors import DataError, DataFaults

Content = dict[str, Any]


def frame_of(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (60, 80), dtype=np.uint8)


def shape(label: str, kind: str | None, *points: list[float]) -> Content:
    found: Content = {"label": label, "points": list(points), "group_id": None, "flags": {}}
    return found if kind is None else {**found, "shape_type": kind}


def sheet(image: str, *shapes: Content, data: str | None = None) -> Content:
    return {
        "version": "5.4.1",
        "flags": {},
        "shapes": list(shapes),
        "imagePath": image,
        "imageData": data,
        "imageHeight": 60,
        "imageWidth": 80,
    }


def write(folder: Path, name: str, content: Any) -> None:
    (folder / f"{name}.json").write_text(json.dumps(content))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed, name in enumerate(("p1_a", "p1_b")):
        cv2.imwrite(str(tmp_path / f"{name}.png"), frame_of(seed))
    write(
        tmp_path, "p1_a", sheet("p1_a.png", shape("benign", "rectangle", [40.5, 30], [10.25, 20]))
    )
    write(
        tmp_path,
        "p1_b",
        sheet(
            "p1_b.png",
            shape("malignant", "polygon", [1, 2], [30, 2.5], [20, 40]),
            shape("benign", None, [50, 5], [60, 5], [60, 15.5], [50, 15]),
        ),
    )
    return tmp_path


def faults_of(folder: Path, **options: Any) -> list[str]:
    with pytest.raises(DataFaults) as caught:
        read_source("labelme", folder, **options)
    return [str(fault).replace(f"{folder}/", "") for fault in caught.value.faults]


def test_boxes_hold_the_points_and_labels_are_classes(folder: Path) -> None:
    data = read_source("labelme", folder)
    assert [(n.image_id, n.label, n.box) for n in data.nodules] == [
        ("p1_a", 0, Box(10, 20, 41, 30)),
        ("p1_b-1", 1, Box(1, 2, 30, 40)),
        ("p1_b-2", 0, Box(50, 5, 60, 16)),
    ]
    assert data.nodules[0].image == folder / "p1_a.png"
    assert (data.n_images, data.exclusions) == (2, ())
    assert data.notes == (naming.no_patients("The folder"),)


@pytest.mark.parametrize(
    ("kind", "points", "box"),
    [
        ("circle", [[40, 30], [43, 34]], Box(35, 25, 45, 35)),  # 3, 4, 5
        ("circle", [[2, 30], [5, 34]], Box(0, 25, 7, 35)),  # cut by the image's edge
        ("mask", [[10, 20], [19, 39]], Box(10, 20, 20, 40)),
        ("mask", [[10, 20], [79, 59]], Box(10, 20, 80, 60)),
        ("oriented_rectangle", [[10, 20], [30, 10], [35, 20], [15, 30]], Box(10, 10, 35, 30)),
        ("rectangle", [[1, 2], [9, 2], [9, 8], [1, 8]], Box(1, 2, 9, 8)),
        ("polygon", [[-0.5, 0], [80.5, 0], [5, 61]], Box(0, 0, 80, 60)),
    ],
)
def test_shapes_of_each_kind(folder: Path, kind: str, points: list[Any], box: Box) -> None:
    write(folder, "p1_a", sheet("p1_a.png", shape("benign", kind, *points)))
    assert read_source("labelme", folder).nodules[0].box == box


def test_points_and_lines_are_left_out_whatever_they_are_called(folder: Path) -> None:
    lines = [
        shape("caliper", "line", [1, 2], [3, 4]),
        shape("mark", "point", [1, 2]),
        shape("trachea", "linestrip", [1, 2], [3, 4], [5, 6]),
    ]
    write(folder, "p1_a", sheet("p1_a.png", *lines))
    data = read_source("labelme", folder)
    assert [(e.image_id, e.reason, e.detail) for e in data.exclusions] == [
        ("p1_a", labelme.POINT_OR_LINE, "shape 1 of 3, label caliper"),
        ("p1_a", labelme.POINT_OR_LINE, "shape 2 of 3, label mark"),
        ("p1_a", labelme.POINT_OR_LINE, "shape 3 of 3, label trachea"),
    ]
    assert summarise(data).n_images_excluded == 1


def test_images_without_shapes_or_without_a_file_of_them_are_left_out(folder: Path) -> None:
    write(folder, "p1_a", sheet("p1_a.png"))
    write(folder, "p3", sheet("p3.png", shape("benign", "rectangle", [1, 1], [9, 9])))
    cv2.imwrite(str(folder / "p2.png"), frame_of(2))
    data = read_source("labelme", folder)
    assert [(e.image_id, e.reason, e.detail) for e in data.exclusions] == [
        ("p1_a", naming.NO_ANNOTATION, "p1_a.json"),
        ("p3", "no image file", "shapes: 1"),
        ("p2", naming.NO_ANNOTATION, "p2.png"),
    ]
    summary = summarise(data)
    assert (summary.n_images, summary.n_images_used, summary.n_images_excluded) == (3, 1, 2)


def test_other_classes_are_a_fault_once_until_classes_are_named(folder: Path) -> None:
    cyst = shape("Cyst", "rectangle", [1, 1], [9, 9])
    node = shape("Cyst", "rectangle", [2, 2], [9, 9])
    write(folder, "p1_a", sheet("p1_a.png", cyst, node))
    assert faults_of(folder) == [
        "p1_a.json, shapes[0].label: found class 'Cyst', expected benign or malignant, "
        "or classes named with --malignant and --benign"
    ]
    data = read_source("labelme", folder, benign=["benign"])
    assert [e.reason for e in data.exclusions] == [naming.OTHER_CLASS, naming.OTHER_CLASS]
    data = read_source("labelme", folder, benign=["benign", "cyst"])
    assert [n.label for n in data.nodules] == [0, 0, 1, 0]


def test_the_image_inside_the_file_is_used_where_there_is_no_other(folder: Path) -> None:
    data = base64.b64encode((folder / "p1_a.png").read_bytes()).decode()
    (folder / "p1_a.png").unlink()
    content = sheet("..\\images\\p1_a.png", data=data)
    content["shapes"] = [
        shape("benign", "rectangle", [1, 1], [9, 9]),
        shape("benign", "rectangle", [11, 11], [19, 19]),
    ]
    write(folder, "p1_a", content)
    found = read_source("labelme", folder)
    assert [n.image_id for n in found.nodules[:2]] == ["p1_a-1", "p1_a-2"]
    assert found.nodules[0].image == found.nodules[1].image
    assert (found.n_images, summarise(found).n_images_used) == (2, 2)
    image = pickle.loads(pickle.dumps(found.nodules[0].image))
    np.testing.assert_array_equal(load_image(image), frame_of(0))


def test_image_paths_of_windows_lead_into_the_folder(folder: Path) -> None:
    (folder / "frames").mkdir()
    (folder / "p1_a.png").rename(folder / "frames" / "p1_a.png")
    write(folder, "p1_a", sheet("frames\\p1_a.png", shape("benign", "rectangle", [1, 1], [9, 9])))
    assert read_source("labelme", folder).nodules[0].image_id == "frames/p1_a"


def test_patients_come_from_a_pattern(folder: Path) -> None:
    data = read_source("labelme", folder, patient_pattern="^(p\\d)_")
    assert [n.patient_id for n in data.nodules] == ["p1", "p1", "p1"]
    assert data.notes == ()
    (fault,) = faults_of(folder, patient_pattern="(a)$")
    assert fault.startswith("p1_b.json, imagePath: found image name 'p1_b', expected a patient")


def test_the_same_box_again_is_left_out_or_contradicts(folder: Path) -> None:
    box = shape("benign", "rectangle", [1, 1], [9, 9])
    write(folder, "p1_a", sheet("p1_a.png", box, box))
    data = read_source("labelme", folder)
    assert [e.reason for e in data.exclusions] == [naming.REPEATED]
    write(folder, "p1_a", sheet("p1_a.png", box, {**box, "label": "malignant"}))
    assert faults_of(folder) == [
        "p1_a.json, shapes[1].label: found another class than shapes[0] has, "
        "expected one for the same box"
    ]


FINITE = "a list of [x, y] of finite numbers"
DEEP: list[Any] = [1, [2, [3]]]


@pytest.mark.parametrize(
    ("key", "value", "place", "found", "expected"),
    [
        ("shapes", None, "shapes", "null", "a list of objects"),
        ("shapes", [[]], "shapes[0]", "an empty list", "an object"),
        ("imagePath", None, "imagePath", "null", "printable text"),
        (
            "imagePath",
            "../b.png",
            "imagePath",
            "text '../b.png'",
            "a path that stays in the folder",
        ),
        ("imagePath", "/b.png", "imagePath", "text '/b.png'", "a path that stays in the folder"),
        ("imageWidth", 800, "imageWidth", "800", "80, as the image has"),
        ("imageHeight", "60", "imageHeight", "text '60'", "60, as the image has"),
        ("label", 1, "shapes[0].label", "1", "printable text"),
        ("label", "", "shapes[0].label", "text ''", "printable text"),
        ("shape_type", "ellipse", "shapes[0].shape_type", "text 'ellipse'", "one of polygon, rect"),
        ("shape_type", ["line"], "shapes[0].shape_type", "a list of 1", "one of polygon, rectangl"),
        ("shape_type", "circle", "shapes[0].points", "4 points of a circle", "2"),
        ("points", [[1, 1], [9, 9]], "shapes[0].points", "2 points of a polygon", "at least 3"),
        ("points", [], "shapes[0].points", "0 points of a polygon", "at least 3"),
        ("points", "1 2 3", "shapes[0].points", "text '1 2 3'", FINITE),
        ("points", DEEP, "shapes[0].points", "a list of 2", FINITE),
        ("points", [[1, 1, 1]] * 3, "shapes[0].points", "a list of 3", FINITE),
        ("points", [[1, 1], [2, 2], [3, float("nan")]], "shapes[0].points", "a list of 3", FINITE),
        ("points", [[1, 1], [2, 2], [3, True]], "shapes[0].points", "a list of 3", FINITE),
        ("points", [[1, 1], [1, 2], [1, 3]], "shapes[0].points", "box 1 1 1 3 of no area", "a wid"),
        ("points", [[1, 1], [99, 2], [1, 3]], "shapes[0].points", "box 1 1 99 3", "a box inside t"),
    ],
)
def test_each_wrong_thing_is_named_by_its_place(
    folder: Path, key: str, value: Any, place: str, found: str, expected: str
) -> None:
    content = sheet("p1_a.png", shape("benign", "polygon", [1, 1], [9, 1], [9, 9], [1, 9]))
    if key in content:
        content[key] = value
    else:
        content["shapes"][0][key] = value
    write(folder, "p1_a", content)
    (fault,) = faults_of(folder)
    assert fault.startswith(f"p1_a.json, {place}: found {found}")
    assert f", expected {expected}" in fault
    assert fault.isprintable()


def test_two_files_of_one_image(folder: Path) -> None:
    write(folder, "p1_a", sheet("p1_b.png", shape("benign", "rectangle", [1, 1], [9, 9])))
    assert faults_of(folder) == [
        "p1_b.json, imagePath: found the image of p1_a.json again, "
        "expected one JSON file for each image"
    ]


@pytest.mark.parametrize(
    ("data", "found"),
    [
        ("not base64", "text 'not base64' ("),
        ("\u00e4", "text '\\xe4' ("),
        (7, "7, expected an image in base64"),
        (["a"], "a list of 1 (text 'a'), expected an image in base64"),
        ("", "an unreadable image ("),
        ("aGFsbG8=", "an unreadable image ("),
    ],
)
def test_images_inside_the_file_that_are_none(folder: Path, data: Any, found: str) -> None:
    content = sheet("elsewhere.png", shape("benign", "rectangle", [1, 1], [9, 9]))
    write(folder, "p1_a", {**content, "imageData": data})
    (fault,) = faults_of(folder)
    assert fault.startswith(f"p1_a.json, imageData: found {found}")


def test_an_image_inside_a_file_that_changed_since(folder: Path) -> None:
    image = labelme.EmbeddedImage(folder / "p1_a.json")
    with pytest.raises(DataError, match=r"p1_a\.json, imageData: found null, expected an image"):
        image()
    (folder / "p1_a.json").unlink()
    with pytest.raises(DataFaults, match=r"p1_a\.json: found no such file, expected a JSON file"):
        image()


def test_folders_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found no JSON file, expected a folder of LabelMe"):
        read_source("labelme", tmp_path)
    with pytest.raises(DataError, match="found no such folder, expected a folder of LabelMe"):
        read_source("labelme", tmp_path / "none")
    write(tmp_path, "a", {"images": [], "annotations": []})
    assert faults_of(tmp_path) == [
        "a.json, shapes: found no 'shapes', expected a list of objects",
        "a.json, imagePath: found no 'imagePath', expected printable text",
    ]
    write(tmp_path, "a", sheet("a.png"))
    with pytest.raises(DataError, match=r"found no nodule in 1 JSON files \(no image file\)"):
        read_source("labelme", tmp_path)
