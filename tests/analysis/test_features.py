"""Right and wrong calls by feature: what is counted, what is left out, and how that is said."""

from __future__ import annotations

import numpy as np
import pytest

from thyrojax.analysis.features import (
    chi_squared,
    compare_categories,
    default_features,
    feature_table,
)
from thyrojax.analysis.predictions import Predictions
from thyrojax.errors import PredictionsError


def predictions(labels: list[int], scores: list[float], **columns: list[str]) -> Predictions:
    ids = tuple(f"i{number}" for number in range(len(labels)))
    cells = {name: tuple(values) for name, values in columns.items()}
    return Predictions(ids, ids, np.array(labels), np.array(scores), cells)


SIX = ([1, 1, 1, 0, 0, 0], [0.9, 0.2, 0.8, 0.1, 0.6, 0.2])
SHAPES = ["taller", "wider", "taller", "wider", "taller", ""]


def test_chi_squared_is_that_of_a_worked_example() -> None:
    # Agresti 2007, table 2.5, party by gender: X2 = 30.07 on 2 degrees of freedom.
    found = chi_squared(np.array([[762, 327, 468], [484, 239, 477]]))
    assert found.statistic == pytest.approx(30.07, abs=0.005)
    assert found.dof == 2
    assert found.p == pytest.approx(2.95e-7, abs=0.01e-7)
    assert found.expected_min == pytest.approx(246.4, abs=0.05)


def test_empty_categories_take_no_degree_of_freedom() -> None:
    full = np.array([[12, 3], [182, 11], [1, 0]])
    assert chi_squared(np.insert(full, 1, 0, axis=0)) == chi_squared(full)


def test_a_table_of_one_row_is_refused() -> None:
    with pytest.raises(PredictionsError, match="found 1 by 2 with cases"):
        chi_squared(np.array([[3, 4], [0, 0]]))


@pytest.mark.parametrize(
    ("right", "wrong", "note"),
    [
        ([3, 4], [0, 0], "no wrong call in this class"),
        ([0, 0], [3, 4], "no right call in this class"),
        ([3, 0], [1, 0], "one category only"),
        ([0, 0], [0, 0], "no case"),
    ],
)
def test_nothing_to_compare_comes_with_the_reason(
    right: list[int], wrong: list[int], note: str
) -> None:
    compared = compare_categories(np.array(right), np.array(wrong))
    assert compared.chi_squared is None
    assert compared.exact is None
    assert compared.note.startswith(note)


def test_cases_are_counted_by_class_and_call() -> None:
    table = feature_table(predictions(*SIX, shape=SHAPES), 0.5)
    rows = [(r["category"], r["label"], r["n"], r["right"], r["wrong"]) for r in table.records()]
    assert rows == [
        ("wider", 1, 1, 0, 1),
        ("taller", 1, 2, 2, 0),
        ("wider", 0, 1, 1, 0),
        ("taller", 0, 1, 0, 1),
    ]
    assert any("shape 1" in note for note in table.footnotes)  # the case without a shape


def test_score_at_the_cutoff_is_called_positive() -> None:
    table = feature_table(predictions([1, 1], [0.5, 0.4], shape=["wider", "taller"]), 0.5)
    assert table.column("wrong")[:2] == (0, 1)


def test_small_expected_counts_are_marked() -> None:
    labels, shapes = [1] * 40, ["wider"] * 30 + ["taller"] * 10
    scores = [0.9] * 20 + [0.1] * 10 + [0.9] * 8 + [0.1] * 2
    table = feature_table(predictions(labels, scores, shape=shapes), 0.5)
    first = [r for r in table.records() if r["label"] == 1]
    # Twelve wrong of forty: 9 expected among 30, 3 among 10.
    assert [r["expected_min"] for r in first] == pytest.approx([9.0, 3.0])
    assert [r["small_expected"] for r in first] == [False, True]


def test_further_columns_with_a_few_categories_are_features_too() -> None:
    case = predictions(
        *SIX,
        shape=SHAPES,
        composition=[""] * 6,
        hospital=["north", "south", "north", "south", "north", "south"],
        depth_cm=["1.5", "2.5", "1.5", "2.5", "1.5", "2.5"],
        margin=["50", "25", "50", "25", "50", "25"],
        reader_label=["0", "1", "0", "1", "0", "1"],
        lesion_id=["a", "b", "a", "b", "a", "b"],
        same=["x"] * 6,
    )
    assert default_features(case) == ("shape", "hospital")


def test_unlisted_categories_follow_by_alphabet() -> None:
    shapes = ["round", "wider", "taller", "lobed", "wider", "round"]
    table = feature_table(predictions(*SIX, shape=shapes), 0.5)
    assert table.column("category")[:4] == ("wider", "taller", "lobed", "round")


def test_an_absent_or_empty_column_is_a_row_with_a_note() -> None:
    case = predictions(*SIX, shape=[""] * 6)
    table = feature_table(case, 0.5, ["shape", "echogenicity"])
    assert table.column("note") == ("no case has a category", "the predictions have no such column")
    assert feature_table(case, 0.5).column("note") == (
        "the predictions have no column with categories",
    )


def test_a_column_of_ids_is_not_taken_for_a_feature() -> None:
    labels = [1, 0] * 30
    case = predictions(labels, [0.9] * 60, name=[f"n{number}" for number in range(60)])
    (note,) = feature_table(case, 0.5, ["name"]).column("note")
    assert str(note).startswith("60 categories")


def test_one_class_and_no_error_give_rows_with_notes() -> None:
    table = feature_table(predictions([1, 1], [0.9, 0.8], shape=["wider", "taller"]), 0.5)
    notes = {(r["label"], r["note"]) for r in table.records()}
    assert notes == {(1, "no wrong call in this class: nothing to compare"), (0, "no case")}


def test_several_images_of_a_patient_are_warned_of() -> None:
    case = predictions(*SIX, shape=SHAPES)
    repeated = Predictions(
        case.image_ids, ("a", "a", "b", "b", "c", "c"), case.labels, case.scores, case.columns
    )
    assert any("6 images of 3 patients" in n for n in feature_table(repeated, 0.5).footnotes)
