"""predictions.csv: what is read, what is refused, and how it is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from thyrojax.analysis.predictions import (
    Predictions,
    PredictionsFaults,
    check_cases,
    read_predictions,
    write_predictions,
)
from thyrojax.errors import PredictionsError, ThyrojaxError

HEADER = "image_id,patient_id,label,score"
GOOD = "a,p1,1,0.9"


def _refusal(path: Path) -> str:
    with pytest.raises(PredictionsError) as caught:
        read_predictions(path)
    return str(caught.value)


def _file(folder: Path, *lines: str) -> Path:
    path = folder / "test.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_file_comes_back_as_written(tmp_path: Path) -> None:
    path = tmp_path / "predictions" / "test.csv"
    scores = np.array([0.1, 1 / 3, 1.0])
    columns = {"tirads": ("4a", "", "5"), "note": ('with, comma and "quote"', "", "ö")}
    write_predictions(
        path, Predictions(("a", "b", "c"), ("p", "p", "q"), np.array([0, 1, 1]), scores, columns)
    )
    read = read_predictions(path)
    assert read.image_ids == ("a", "b", "c")
    assert read.patient_ids == ("p", "p", "q")
    assert read.labels.tolist() == [0, 1, 1]
    assert read.scores.tolist() == scores.tolist()
    assert read.columns == columns
    assert [entry.name for entry in path.parent.iterdir()] == ["test.csv"]


def test_columns_may_stand_in_any_order_after_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_bytes(b"\xef\xbb\xbfscore,size_mm,label,patient_id,image_id\r\n0.5,7.1,1,p,a\r\n")
    read = read_predictions(path)
    assert (read.image_ids, read.scores.tolist(), read.columns) == (
        ("a",),
        [0.5],
        {"size_mm": ("7.1",)},
    )


def test_labels_that_pandas_wrote_with_a_point_and_blank_lines_are_read(tmp_path: Path) -> None:
    path = _file(tmp_path, HEADER, "a,p,1.0,0.5", "", "b,p,0.0,0")
    assert read_predictions(path).labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("line", "row", "found", "expected"),
    [
        ("b,p,2,0.5", "row 2", "label '2'", "0 or 1"),
        ("b,p,,0.5", "row 2", "label ''", "0 or 1"),
        ("b,p,malignant,0.5", "row 2", "label 'malignant'", "0 or 1"),
        ("b,p,1,1.01", "row 2", "score '1.01'", "a number from 0 to 1"),
        ("b,p,1,-0.1", "row 2", "score '-0.1'", "a number from 0 to 1"),
        ("b,p,1,nan", "row 2", "score 'nan'", "a number from 0 to 1"),
        ("b,p,1,inf", "row 2", "score 'inf'", "a number from 0 to 1"),
        ("b,p,1,", "row 2", "score ''", "a number from 0 to 1"),
        ('b,p,1,"0,5"', "row 2", "score '0,5'", "a number from 0 to 1"),
        (",p,1,0.5", "row 2", "no image_id", "an id in each row"),
        ("b, ,1,0.5", "row 2", "no patient_id", "an id in each row"),
        ("a,p,1,0.5", "row 2", "image_id 'a' again (first in row 1)", "each image_id once"),
        ("b,p,1", "row 2", "3 cells", "4 as in the header"),
        ("b,p,1,0.5,x", "row 2", "5 cells", "4 as in the header"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, line: str, row: str, found: str, expected: str) -> None:
    path = _file(tmp_path, HEADER, GOOD, line)
    assert _refusal(path) == f"{path}, {row}: found {found}, expected {expected}"


def test_all_faults_are_collected_in_the_order_of_rows_and_told_in_one_line(tmp_path: Path) -> None:
    path = _file(tmp_path, HEADER, "a,p,1", "a,p,7,0.5", "b,p,1,2", "b,,0,0.1")
    with pytest.raises(PredictionsFaults) as caught:
        read_predictions(path)
    assert [fault.row for fault in caught.value.faults] == ["row 1", "row 2", "row 3"] + [
        "row 4"
    ] * 2
    message = str(caught.value)
    assert message == f"{path}, row 1: found 3 cells, expected 4 as in the header (and 4 more)"
    assert "\n" not in message


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "an empty file"),
        (b"image_id,patient_id,label,score\n", "a header without rows"),
        (b"image_id,label,score\na,1,0.5\n", "without patient_id"),
        (b"image_id;patient_id;label;score\na;p;1;0.5\n", "without image_id, patient_id"),
        (b"image_id,patient_id,label,score,label\na,p,1,0.5,1\n", "column 'label' twice"),
        (b"image_id,patient_id,label,score\n\xff\xfe,p,1,0.5\n", "no UTF-8 text"),
        (b'image_id,patient_id,label,score\n"a,p,1,0.5\n', "broken CSV"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "no UTF-8 text"),
    ],
)
def test_a_file_of_another_kind_is_named(tmp_path: Path, content: bytes, found: str) -> None:
    path = tmp_path / "p.csv"
    path.write_bytes(content)
    message = _refusal(path)
    assert message.startswith(str(path))
    assert found in message
    assert "\n" not in message


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    assert "no such file" in _refusal(tmp_path / "none.csv")
    assert "cannot be read" in _refusal(tmp_path)


def test_a_long_cell_does_not_flood_the_message(tmp_path: Path) -> None:
    assert len(_refusal(_file(tmp_path, HEADER, f"a,p,{'9' * 5000},0.5"))) < 250


def test_what_could_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    path = _file(tmp_path, HEADER, GOOD)
    before = path.read_bytes()
    for labels, scores in (([1, 3], [0.5, 0.5]), ([1, 0], [0.5, np.nan])):
        bad = Predictions(("a", "b"), ("p", "p"), np.array(labels), np.array(scores))
        with pytest.raises(PredictionsError):
            write_predictions(path, bad)
    with pytest.raises(PredictionsError, match="no rows"):
        write_predictions(path, Predictions((), (), np.zeros(0, int), np.zeros(0)))
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["test.csv"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    one = Predictions(("a",), ("p",), np.array([1]), np.array([0.5]))
    with pytest.raises(ThyrojaxError, match="expected a place that can be written"):
        write_predictions(tmp_path / "file" / "test.csv", one)


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(PredictionsError, match="column tirads: found 1 values, expected 2"):
        Predictions(
            ("a", "b"), ("p", "p"), np.array([0, 1]), np.array([0.1, 0.2]), {"tirads": ("4a",)}
        )


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([], [], "found no case"),
        ([0, 2], [0.1, 0.2], "labels, row 2: found 2"),
        ([0, 1], [0.1, np.inf], "scores, row 2: found inf"),
        ([1, 1], [0.1, 0.2], "found 2 of class 1 and none of class 0"),
    ],
)
def test_arrays_that_no_statistic_can_take_are_refused(
    labels: list[int], scores: list[float], message: str
) -> None:
    with pytest.raises(PredictionsError, match=message):
        check_cases(np.array(labels, dtype=int), np.array(scores, dtype=float), both_classes=True)
