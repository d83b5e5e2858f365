from __future__ import annotations

import csv
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

from thyrojax.data import check_frames
from thyrojax.data.check import check_source, format_summary, summarise, write_csv
from thyrojax.data.records import Box, Exclusion, Nodule, SourceData
from thyrojax.errors import DataFaults, Fault, ThyrojaxError

# Three images of two patients, one of them with two nodules; one image without any.
NODULES = (
    Nodule(Path("x/1_1.jpg"), "1_1-1", "1", Box(0, 0, 40, 20), 0, size_mm=4.9, tirads="2"),
    Nodule(Path("x/1_1.jpg"), "1_1-2", "1", Box(0, 0, 30, 31), 0, size_mm=5.0, tirads="3"),
    Nodule(Path("x/1_2.jpg"), "1_2", "1", Box(0, 0, 50, 50), 1, size_mm=10.0, shape="taller"),
    Nodule(Path("x/2_1.jpg"), "2_1", "2", Box(0, 0, 60, 90), 1, size_mm=10.1, reader_label=1),
)
EXCLUSIONS = (
    Exclusion("1_1", "arrow or line", "region 3 of 3"),
    Exclusion("3_1", "no TI-RADS grade", "region 1 of 2, box 1 2 3 4"),
    Exclusion("3_1", "no TI-RADS grade", "region 2 of 2"),
    Exclusion("4_1", "no image file", "regions: 1"),
)
DATA = SourceData("ddti", NODULES, EXCLUSIONS, n_images=4)


def test_images_nodules_patients_and_labels_are_counted() -> None:
    summary = summarise(DATA)
    assert (summary.n_images, summary.n_images_used, summary.n_images_excluded) == (4, 3, 1)
    assert (summary.n_nodules, summary.n_patients) == (4, 2)
    assert list(summary.labels.values()) == [2, 2]
    assert list(summary.label_patients.values()) == [1, 2]  # patient 1 has nodules of both
    assert summary.images_by_nodules == {1: 2, 2: 1}
    assert summary.patients_by_images == {1: 1, 2: 1}


def test_features_and_sizes_are_counted_by_category() -> None:
    features = summarise(DATA).features
    assert features["size group (cm)"] == {"<0.5": 1, "0.5-1.0": 2, ">1.0": 1, "not known": 0}
    assert features["shape"] == {"wider": 0, "taller": 1, "not known": 3}
    assert features["tirads"]["not known"] == 2
    assert summarise(DATA).reader_labels == 1


def test_box_sides_are_given_as_minimum_median_and_maximum() -> None:
    summary = summarise(DATA)
    assert summary.widths == (30.0, 45.0, 60.0)
    assert summary.heights == (20.0, 40.5, 90.0)
    assert summary.n_taller == 2


def test_exclusions_are_counted_by_reason() -> None:
    assert summarise(DATA).exclusions == {
        "no TI-RADS grade": (2, 1),
        "arrow or line": (1, 1),
        "no image file": (1, 1),
    }


def test_a_lost_image_is_our_fault() -> None:
    with pytest.raises(AssertionError, match="3 images with a nodule and 1 excluded are not the 5"):
        summarise(SourceData("ddti", NODULES, EXCLUSIONS, n_images=5))


def test_the_table_says_suspicious_and_accounts_for_all_images() -> None:
    text = format_summary(summarise(DATA))
    assert "TI-RADS-suspicious (4a-5)" in text
    assert "malignant" not in text
    assert text.splitlines()[-1] == (
        "accounted for: 3 images with a nodule + 1 wholly excluded = 4 found"
    )
    assert max(map(len, text.splitlines())) <= 100


def test_frames_made_by_functions_count_as_an_image_for_each_function() -> None:
    frame, other = partial(np.zeros, (60, 60), np.uint8), partial(np.zeros, (60, 60), np.uint8)
    nodules = tuple(
        Nodule(image, name, "p", Box(0, 0, 9, 9), 0)
        for image, name in ((frame, "n0-1"), (frame, "n0-2"), (other, "n1"))
    )
    summary = summarise(SourceData("phantom", nodules, (), n_images=2))
    assert (summary.n_images_used, summary.exclusions) == (2, {})
    assert "nothing" in format_summary(summary)
    left_out = (Exclusion("n0", "too small"), Exclusion("n2", "too small"))
    assert summarise(SourceData("dicom", nodules, left_out, n_images=3)).n_images_excluded == 1


def test_images_of_one_name_in_two_folders_are_two() -> None:
    nodules = (
        Nodule(Path("x/a/1.png"), "a/1", "p", Box(0, 0, 9, 9), 0),
        Nodule(Path("x/a/2.png"), "a/2-1", "p", Box(0, 0, 9, 9), 0),
        Nodule(Path("x/scan-1.png"), "scan-1", "p", Box(0, 0, 9, 9), 0),
    )
    names = ("1", "a/2", "b/2", "scan")  # all but a/2 without any nodule
    exclusions = tuple(Exclusion(name, "no annotation") for name in names)
    summary = summarise(SourceData("coco", nodules, exclusions, n_images=6))
    assert (summary.n_images_used, summary.n_images_excluded) == (3, 3)


def test_exclusions_are_written_as_csv(tmp_path: Path) -> None:
    path = tmp_path / "new" / "left_out.csv"
    write_csv(DATA, path)
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 4
    assert rows[1] == {
        "image_id": "3_1",
        "reason": "no TI-RADS grade",
        "detail": "region 1 of 2, box 1 2 3 4",
    }


def test_faults_are_written_as_csv(tmp_path: Path) -> None:
    write_csv(DataFaults([Fault("a.csv", "row 4", "label 'x', odd", "0 or 1")]), tmp_path / "f.csv")
    assert (tmp_path / "f.csv").read_text().splitlines() == [
        "file,row,found,expected",
        "a.csv,row 4,\"label 'x', odd\",0 or 1",
    ]


def test_a_file_that_cannot_be_written_leaves_what_stood_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "left_out.csv"
    path.write_text("before")

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full_disk)
    with pytest.raises(ThyrojaxError, match=r"left_out\.csv: found No space left on device"):
        write_csv(DATA, path)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_cannot_be_written_over(tmp_path: Path) -> None:
    with pytest.raises(ThyrojaxError, match="expected a place that can be written"):
        write_csv(DATA, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ThyrojaxError, match="expected a place that can be written"):
        write_csv(DATA, tmp_path / "file" / "left_out.csv")


def test_breast_lesions_are_called_so() -> None:
    text = format_summary(summarise(SourceData("busbra", NODULES, (), n_images=3)))
    assert text.startswith("busbra: breast lesions\n")
    assert "thyroid" not in text
    assert "malignant" in text


def test_checking_the_public_ddti_set(shared: Path) -> None:
    _, text = check_source("ddti", shared / "data" / "DDTI")
    assert text.endswith(
        "accounted for: 282 images with a nodule + 105 wholly excluded = 387 found\n"
    )


def drawn(seed: int, caption: str = "", crosses: bool = False) -> np.ndarray:
    """Speckle, with a caption below the middle or two calipers."""
    random = np.random.default_rng(seed)
    image = cv2.GaussianBlur(random.rayleigh(50.0, (240, 320)), (0, 0), 2.0)
    image = np.clip(image + 30.0 * random.random((4, 1)).repeat(60, 0), 0, 255).astype(np.uint8)
    if caption:
        cv2.putText(image, caption, (40, 180), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 255, 1)
    for x in (100, 220) if crosses else ():
        image[115:126, x] = image[120, x - 5 : x + 6] = 255
    return image


def looked_at() -> SourceData:
    """Patients a and b share a frame, c has it with a caption, d and e their own."""
    makers = {
        "a": partial(drawn, 1),
        "b": partial(drawn, 1),
        "c": partial(drawn, 1, "TIRADS"),
        "d": partial(drawn, 2),
        "e": partial(drawn, 3, crosses=True),
    }
    nodules = tuple(
        Nodule(frame, f"{patient}-1", patient, Box(0, 0, 9, 9), 0)
        for patient, frame in makers.items()
    )
    return SourceData("csv", nodules, (), n_images=5)


def test_frames_that_patients_share_and_marks_are_named() -> None:
    findings = check_frames.look(looked_at(), 0.9)
    assert findings.identical == (("a-1", "b-1"),)
    assert [pair[:2] for pair in findings.near] == [("a-1", "c-1"), ("b-1", "c-1")]
    assert list(findings.marked) == ["c-1", "e-1"]
    text = check_frames.format_findings(findings)
    assert "    a-1 = b-1\n" in text
    assert "    a-1 ~ c-1 0.9" in text
    assert "marks inside the scan sector             2  of 5 frames searched\n    c-1, e-1" in text


def test_fewer_frames_are_looked_at_where_told() -> None:
    findings = check_frames.look(looked_at(), 0.0, most_searched=2)
    assert (findings.n_searched, findings.n_frames) == (2, 5)  # a-1 and d-1
    assert (findings.identical, findings.near, findings.marked) == ((), (), {})
    text = check_frames.format_findings(findings)
    assert "were not looked for" in text
    assert "of 2 frames searched, evenly over the source" in text
    assert check_frames.look(looked_at(), 0.0, most_searched=0).n_searched == 0


def test_findings_are_rows_beside_what_was_left_out(tmp_path: Path) -> None:
    data = looked_at()
    write_csv(data, tmp_path / "x.csv", check_frames.rows(check_frames.look(data, 0.9)))
    with (tmp_path / "x.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["image_id"], row["reason"]) for row in rows] == [
        ("a-1", "kept: frame identical to another patient's"),
        ("b-1", "kept: frame identical to another patient's"),
        ("a-1", "kept: near-duplicate of another patient's frame"),
        ("b-1", "kept: near-duplicate of another patient's frame"),
        ("c-1", "kept: marks inside the scan sector"),
        ("e-1", "kept: marks inside the scan sector"),
    ]


def test_notes_of_a_source_are_in_the_table() -> None:
    note = "this source names no patients: each image is taken for one, " * 3
    text = format_summary(summarise(SourceData("ddti", NODULES, EXCLUSIONS, 4, (note,))))
    assert "\nnote: this source names no patients" in text
    assert max(map(len, text.splitlines())) <= 100
