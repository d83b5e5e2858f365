from __future__ import annotations

import csv
from functools import partial
from pathlib import Path

import numpy as np
import pytest

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


def test_simulated_frames_count_as_an_image_each() -> None:
    frame = partial(np.zeros, (60, 60), np.uint8)
    nodules = tuple(Nodule(frame, f"n{i}", "p", Box(0, 0, 9, 9), 0) for i in range(3))
    summary = summarise(SourceData("phantom", nodules, (), n_images=3))
    assert (summary.n_images_used, summary.exclusions) == (3, {})
    assert "nothing" in format_summary(summary)


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
