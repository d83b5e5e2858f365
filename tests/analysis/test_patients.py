"""From images to patients."""

from __future__ import annotations

import numpy as np
import pytest

from thyrojax.analysis.patients import case_level, patient_table
from thyrojax.analysis.predictions import Predictions
from thyrojax.errors import PredictionsError

# Patient b: two malignant images; a: one of each; c: three benign ones.
PREDICTIONS = Predictions(
    image_ids=("1", "2", "3", "4", "5", "6"),
    patient_ids=("b", "a", "c", "b", "a", "c"),
    labels=np.array([1, 0, 0, 1, 1, 0]),
    scores=np.array([0.9, 0.2, 0.1, 0.5, 0.4, 0.7]),
    columns={"shape": ("wider",) * 6},
)


def test_a_patients_score_is_the_mean_or_the_largest_never_the_sum() -> None:
    mean, largest = case_level(PREDICTIONS, "mean"), case_level(PREDICTIONS, "max")
    assert mean.image_ids == mean.patient_ids == largest.image_ids == ("a", "b", "c")
    assert mean.scores.tolist() == pytest.approx([0.3, 0.7, 0.4])
    assert largest.scores.tolist() == [0.4, 0.9, 0.7]


def test_a_patient_with_any_malignant_image_is_malignant() -> None:
    cases = case_level(PREDICTIONS, "mean")
    assert cases.labels.tolist() == [1, 1, 0]
    assert cases.columns == {"n_images": ("2", "2", "2"), "n_positive": ("1", "2", "0")}


def test_equal_scores_stay_on_the_cutoff_that_they_met() -> None:
    """0.1 three times has the float sum 0.30000000000000004, a third of which is above 0.1."""
    same = Predictions(tuple("123"), tuple("aaa"), np.ones(3, int), np.full(3, 0.1))
    assert case_level(same, "mean").scores.tolist() == [0.1]


def test_one_image_per_patient_changes_nothing() -> None:
    single = Predictions(tuple("12"), tuple("ba"), np.array([0, 1]), np.array([0.3, 0.8]))
    for rule in ("mean", "max"):
        cases = case_level(single, rule)
        assert cases.patient_ids == ("a", "b")
        assert cases.scores.tolist() == [0.8, 0.3]
        assert cases.labels.tolist() == [1, 0]


def test_table_of_patients_by_hand() -> None:
    """At 0.5 the mean calls b alone: a is missed. The largest score calls b and c."""
    table = patient_table(PREDICTIONS, 0.5)
    assert table.name == "patient_level"
    assert table.columns[:7] == (
        "rule", "n", "n_positive", "n_negative", "accuracy", "accuracy_low", "accuracy_high",
    )  # fmt: skip
    assert table.columns[-4:] == ("auc", "auc_low", "auc_high", "note")
    mean, largest = table.records()
    assert (mean["rule"], largest["rule"]) == ("mean", "max")
    assert [row["n"] for row in (mean, largest)] == [3, 3]
    assert (mean["sensitivity"], mean["specificity"], mean["auc"]) == (0.5, 1.0, 0.5)
    assert (largest["sensitivity"], largest["specificity"], largest["auc"]) == (0.5, 0.0, 0.5)
    # Wilson, 1 of 2: R 4.2.2, prop.test(1, 2, correct = FALSE).
    assert (mean["sensitivity_low"], mean["sensitivity_high"]) == pytest.approx(
        (0.09453121, 0.90546879), abs=1e-7
    )
    assert "single case" in str(mean["note"])
    assert "Too small" in str(mean["note"])
    assert any(
        "1 of the patients have images of both classes" in note and "first: a" in note
        for note in table.footnotes
    )


def test_no_case_is_refused() -> None:
    with pytest.raises(PredictionsError, match="found no case"):
        case_level(Predictions((), (), np.zeros(0, int), np.zeros(0)), "max")
