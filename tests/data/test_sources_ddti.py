from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from thyrojax.data.records import Box
from thyrojax.data.sources import ddti, read_source
from thyrojax.data.sources.ddti_xml import FEATURES
from thyrojax.errors import DataError, DataFaults
from thyrojax.vocabulary import VOCABULARY


def region(*points: tuple[float, float], kind: str = "freehand") -> dict[str, object]:
    listed = [{"x": x, "y": y} for x, y in points]
    return {"points": listed, "annotation": {}, "regionType": kind}


OUTLINE = region((20, 30), (60, 25), (50, 70))
SECOND = region((80, 30), (110, 32), (90, 60))


def add_case(
    folder: Path,
    number: int,
    *marks: tuple[int, str | list[object]],
    tirads: str = "4a",
    **words: str,
) -> None:
    """N.xml as DDTI has it; `marks` are image numbers with their regions or the raw <svg> text."""
    tags = ["composition", "echogenicity", "margins", "calcifications"]
    text = f"<case><number>{number}</number><age></age><sex>F</sex>"
    text += "".join(f"<{tag}>{words.get(tag, '')}</{tag}>" for tag in tags)
    text += f"<tirads>{tirads}</tirads><reportbacaf></reportbacaf><reporteco></reporteco>"
    for image, svg in marks:
        text += f"<mark><image>{image}</image><svg>"
        text += (svg if isinstance(svg, str) else json.dumps(svg)) + "</svg></mark>"
    (folder / f"{number}.xml").write_text(text + "</case>")


def add_image(folder: Path, name: str, seed: int | None = None) -> None:
    """120x100 px; the same seed gives the same bytes, none gives each name its own."""
    seed = sum(map(ord, name)) + 1000 * len(name) if seed is None else seed
    frame = np.random.default_rng(seed).integers(0, 256, (100, 120), dtype=np.uint8)
    cv2.imwrite(str(folder / f"{name}.jpg"), frame)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Case 1, graded 4a, with one image and one region."""
    add_case(tmp_path, 1, (1, [OUTLINE]))
    add_image(tmp_path, "1_1")
    return tmp_path


def reasons_of(folder: Path) -> list[tuple[str, str]]:
    data = read_source("ddti", folder)
    return [(entry.image_id, entry.reason) for entry in data.exclusions]


def faults_of(folder: Path) -> list[str]:
    with pytest.raises(DataFaults) as caught:
        read_source("ddti", folder)
    return [str(fault).replace(f"{folder}/", "") for fault in caught.value.faults]


def test_a_region_becomes_a_nodule_with_the_outlines_box(folder: Path) -> None:
    data = read_source("ddti", folder)
    (nodule,) = data.nodules
    assert nodule.image == folder / "1_1.jpg"
    assert (nodule.image_id, nodule.patient_id, nodule.tirads) == ("1_1", "1", "4a")
    assert nodule.box == Box(20, 25, 60, 70)
    assert (data.n_images, data.exclusions) == (1, ())


def test_fractional_points_are_rounded_outward(folder: Path) -> None:
    add_case(folder, 1, (1, [region((20.5, 30), (60.2, 25.9), (50, 70))]))
    assert read_source("ddti", folder).nodules[0].box == Box(20, 25, 61, 70)


@pytest.mark.parametrize(
    ("tirads", "label"), [("2", 0), ("3", 0), ("4a", 1), ("4B", 1), ("4c", 1), ("5", 1)]
)
def test_grades_from_4a_up_are_suspicious(folder: Path, tirads: str, label: int) -> None:
    add_case(folder, 1, (1, [OUTLINE]), tirads=tirads)
    (nodule,) = read_source("ddti", folder).nodules
    assert (nodule.label, nodule.tirads) == (label, tirads.lower())


def test_each_region_of_a_split_screen_has_its_own_box(folder: Path) -> None:
    add_case(folder, 1, (1, [OUTLINE, SECOND]))
    first, second = read_source("ddti", folder).nodules
    assert (first.image_id, first.box) == ("1_1-1", Box(20, 25, 60, 70))
    assert (second.image_id, second.box) == ("1_1-2", Box(80, 30, 110, 60))


def test_two_marks_of_one_image_are_read_together(folder: Path) -> None:
    add_case(folder, 1, (1, [OUTLINE]), (1, [SECOND]))
    assert len(read_source("ddti", folder).nodules) == 2


def test_features_are_taken_where_the_words_mean_the_same(folder: Path) -> None:
    words = {
        "composition": "solid",
        "echogenicity": "marked hypoechogenicity",
        "margins": "ill- defined",
        "calcifications": "microcalcifications",
    }
    add_case(folder, 1, (1, [OUTLINE]), **words)
    (nodule,) = read_source("ddti", folder).nodules
    assert (nodule.composition, nodule.echogenicity) == ("solid", "markedly_hypoechoic")
    assert (nodule.margin, nodule.calcification) == ("ill_defined", "micro")
    assert nodule.shape is nodule.size_mm is None


def test_features_of_another_meaning_are_unknown(folder: Path) -> None:
    add_case(folder, 1, (1, [OUTLINE]), composition="predominantly solid", margins="well defined")
    (nodule,) = read_source("ddti", folder).nodules
    assert nodule.composition is nodule.margin is nodule.echogenicity is None


def test_every_mapped_word_is_in_the_vocabulary() -> None:
    ours = {"calcifications": "calcification", "margins": "margin"}
    for tag, words in FEATURES.items():
        known = VOCABULARY[ours.get(tag, tag)]
        assert {word for word in words.values() if word is not None} <= set(known)


def test_cases_that_share_an_identical_image_are_one_patient(folder: Path) -> None:
    # 1 = 10 by one image, 10 = 9 by another: all three are one, also through an ungraded case.
    add_case(folder, 9, (1, [OUTLINE]))
    add_case(folder, 10, (1, [OUTLINE]), (2, [OUTLINE]), tirads="")
    add_case(folder, 11, (1, [OUTLINE]))
    add_image(folder, "1_1", seed=7)
    add_image(folder, "10_1", seed=7)
    add_image(folder, "10_2", seed=8)
    add_image(folder, "9_1", seed=8)
    add_image(folder, "11_1", seed=9)
    data = read_source("ddti", folder)
    assert {nodule.image_id: nodule.patient_id for nodule in data.nodules} == {
        "1_1": "1",
        "9_1": "1",
        "11_1": "11",
    }


def test_identical_images_of_unlike_label_are_left_out(folder: Path) -> None:
    add_case(folder, 2, (1, [SECOND]), (2, [OUTLINE]), tirads="2")
    add_image(folder, "1_1", seed=7)
    add_image(folder, "2_1", seed=7)
    add_image(folder, "2_2")
    data = read_source("ddti", folder)
    assert [(nodule.image_id, nodule.patient_id) for nodule in data.nodules] == [("2_2", "1")]
    assert reasons_of(folder) == [("1_1", ddti.CONFLICTING), ("2_1", ddti.CONFLICTING)]


CUT = json.dumps([OUTLINE, SECOND])


@pytest.mark.parametrize("length", [len(CUT) - 1, len(CUT) - 3, len(CUT) - 40, len(CUT) // 2 + 20])
def test_whole_regions_before_the_cut_are_kept(folder: Path, length: int) -> None:
    add_case(folder, 1, (1, CUT[:length]))
    data = read_source("ddti", folder)
    whole = 2 if length == len(CUT) - 1 else 1  # the last: only the list's bracket is missing
    assert [nodule.image_id for nodule in data.nodules] == ["1_1-1", "1_1-2"][:whole]
    assert reasons_of(folder) == [("1_1", ddti.CUT_OFF)]


def test_an_svg_cut_within_its_first_region_leaves_none(folder: Path) -> None:
    add_case(folder, 2, (1, CUT[:40]))
    add_image(folder, "2_1")
    assert reasons_of(folder) == [("2_1", ddti.CUT_OFF)]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (region((10, 10), (50, 80), kind="arrow"), ddti.ARROW),
        (region((10, 10), (50, 80)), ddti.ARROW),
        (region(), ddti.ARROW),
        (region((10, 10), (50, 80), (40, 90), kind="arrow"), ddti.ARROW),
        (region((20, 90), (60, 85), (50, 101)), ddti.OFF_IMAGE),
        (region((-1, 30), (60, 25), (50, 70)), ddti.OFF_IMAGE),
        (region((200, 300), (260, 350), (250, 370)), ddti.OFF_IMAGE),
        (region((20, 30), (29, 25), (25, 70)), ddti.TOO_SMALL),
        (region((20, 30), (60, 30), (50, 30)), ddti.TOO_SMALL),
        (OUTLINE, ddti.REPEATED),
    ],
)
def test_a_region_that_is_no_outline_is_excluded_alone(
    folder: Path, broken: dict[str, object], reason: str
) -> None:
    add_case(folder, 1, (1, [OUTLINE, broken]))
    data = read_source("ddti", folder)
    assert [nodule.image_id for nodule in data.nodules] == ["1_1-1"]
    (entry,) = data.exclusions
    assert (entry.image_id, entry.reason) == ("1_1", reason)
    assert entry.detail.startswith("region 2 of 2")


def test_a_region_may_reach_the_images_edges(folder: Path) -> None:
    add_case(folder, 1, (1, [region((0, 0), (120, 50), (60, 100))]))
    assert read_source("ddti", folder).nodules[0].box == Box(0, 0, 120, 100)


def test_images_and_marks_that_lack_their_other_half_are_named(folder: Path) -> None:
    add_case(folder, 2, (1, ""), (2, "[]"), (4, [OUTLINE, SECOND]))
    add_case(folder, 3)
    add_case(folder, 4, (1, [OUTLINE]), tirads="")
    for name in ("2_1", "2_2", "2_3", "4_1", "5_1", "picture"):
        add_image(folder, name)
    assert reasons_of(folder) == [
        ("2_1", ddti.NO_REGION),
        ("2_2", ddti.NO_REGION),
        ("2_3", ddti.NO_MARK),
        ("4_1", ddti.NO_GRADE),
        ("5_1", ddti.NO_XML),
        ("picture", ddti.NO_XML),
        ("2_4", "no image file"),
        ("3", "no image file"),
    ]
    assert read_source("ddti", folder).n_images == 7


def test_faults_of_all_files_are_told_together(folder: Path) -> None:
    add_case(folder, 2, (1, [OUTLINE]), tirads="6")
    add_case(folder, 3, (1, [OUTLINE]), margins="wavy")
    (folder / "4.xml").write_text("<case><number>4</number>")
    add_case(folder, 5, (1, "<b>none</b>"), (2, '[{"points": [{"x": NaN, "y": 1}]}]'))
    add_case(folder, 6, (1, '[{"points": "none"}]'), (2, '[3, {"points": [{"x": "1", "y": 1}]}]'))
    (folder / "7.xml").write_text("<case><mark><svg>[]</svg></mark></case>")
    (folder / "8_1.jpg").write_bytes(b"no image")
    cv2.imwrite(str(folder / "1_1.png"), np.zeros((10, 10), np.uint8))
    assert [fault.partition(" (")[0] for fault in faults_of(folder)] == [
        "1_1.png: found the name of 1_1.jpg again, expected one file of each name",
        "2.xml, tirads: found '6', expected one of 2, 3, 4a, 4b, 4c, 5",
        "3.xml, margins: found 'wavy', expected one of well defined smooth, well defined, "
        "ill defined, spiculated, microlobulated, macrolobulated",
        "4.xml: found unreadable XML",
        '5.xml, image 2: found a region of \'{"points": [{"x": NaN, "y": 1}]}]\'..., '
        "expected an object with points of finite x and y",
        '6.xml, image 1: found a region of \'{"points": "none"}]\'..., '
        "expected an object with points of finite x and y",
        '6.xml, image 2: found a region of \'3, {"points": [{"x": "1", "y": 1}]}]\'..., '
        "expected an object with points of finite x and y",
        '6.xml, image 2: found a region of \'{"points": [{"x": "1", "y": 1}]}]\'..., '
        "expected an object with points of finite x and y",
        "7.xml, mark: found no image number, expected an <image> in each <mark>",
        "8_1.jpg: found an unreadable image",
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('<!DOCTYPE a [<!ENTITY b "4a">]><case>&b;</case>', "a document type declaration"),
        ("<a>" * 40, "elements nested more than 32 deep"),
        (" " * 1_100_000, "more than 1048576 bytes"),
    ],
)
def test_an_xml_that_could_exhaust_the_machine_is_refused(
    folder: Path, text: str, fault: str
) -> None:
    (folder / "1.xml").write_text(text)
    assert faults_of(folder) == [f"1.xml: found {fault}, expected a plain case of DDTI"]


def test_hidden_files_that_another_system_left_are_none(folder: Path) -> None:
    for name in ("._1.xml", "._1_1.jpg"):
        (folder / name).write_bytes(b"Mac OS X")
    assert read_source("ddti", folder).n_images == 1


def test_an_svg_that_is_no_list_is_a_fault(folder: Path) -> None:
    add_case(folder, 1, (1, "M 10 10 L 50 80 z"))
    assert faults_of(folder) == [
        "1.xml, image 1: found an SVG of 'M 10 10 L 50 80 z'..., expected a JSON list of regions"
    ]


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found 0 XML files and 0 images"):
        read_source("ddti", tmp_path)
    with pytest.raises(DataError, match="found no such folder"):
        read_source("ddti", tmp_path / "x")
    add_case(tmp_path, 1, (1, [OUTLINE]), tirads="")
    with pytest.raises(DataError, match="found 1 XML files and 0 images"):
        read_source("ddti", tmp_path)
    add_image(tmp_path, "1_1")
    with pytest.raises(DataError, match="found no region with a grade"):
        read_source("ddti", tmp_path)
    with pytest.raises(DataError, match="found a file, expected the DDTI folder"):
        read_source("ddti", tmp_path / "1.xml")


def test_the_public_set(shared: Path) -> None:
    """Counts taken by hand from the folder: 387 images, 530 whole regions and 7 cut ones."""
    data = read_source("ddti", shared / "data" / "DDTI")
    assert data.n_images == 387
    assert Counter(entry.reason for entry in data.exclusions) == {
        ddti.NO_GRADE: 160,
        ddti.CUT_OFF: 7,
        ddti.REPEATED: 5,
        ddti.NO_REGION: 4,
        ddti.ARROW: 3,
        ddti.OFF_IMAGE: 1,
    }
    assert len(data.nodules) == 361 == 530 + 7 - (160 + 7 + 5 + 3 + 1)
    grades = Counter(nodule.tirads for nodule in data.nodules)
    assert grades == {"2": 42, "3": 18, "4a": 99, "4b": 86, "4c": 73, "5": 43}
    assert Counter(nodule.label for nodule in data.nodules) == {0: 60, 1: 301}
    assert len({nodule.patient_id for nodule in data.nodules}) == 243
    assert len({nodule.image for nodule in data.nodules}) == 282

    cut = {entry.image_id for entry in data.exclusions if entry.reason == ddti.CUT_OFF}
    assert cut == {f"{case}_1" for case in (127, 165, 166, 176, 197, 203, 205)}
    patient_of = {nodule.image_id: nodule.patient_id for nodule in data.nodules}
    assert patient_of["233_2"] == "150"  # by 150_1 = 233_2 = 323_1 = 326_1 = 349_1
    assert patient_of["353_2"] == "353"  # by 353_2 = 396_1, whose case has no grade
