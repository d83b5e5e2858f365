"""Cutoffs: a case is called when its score is at least the cutoff."""

from __future__ import annotations

import numpy as np
import pytest

from thyrojax.analysis.cutoff import call_positive, choose_cutoff, youden_cutoff
from thyrojax.errors import PredictionsError

INDEX = np.arange(120)
LABELS = (INDEX * 7 % 12 < 5).astype(int)


@pytest.mark.parametrize(
    ("scores", "cutoff", "sensitivity", "specificity"),
    [
        ((INDEX * 37 % 101 + 60 * LABELS) / 200, 0.425, 0.76, 61 / 70),
        ((INDEX * 53 % 97 + 18 * LABELS) // 15 / 10, 0.55, 0.28, 66 / 70),
    ],
)
def test_youden_is_that_of_proc(
    scores: np.ndarray, cutoff: float, sensitivity: float, specificity: float
) -> None:
    """coords(roc, "best", best.method = "youden") of pROC 1.18.0 on the cases of test_roc.py."""
    found = youden_cutoff(LABELS, scores)
    assert found == pytest.approx(cutoff)
    called = call_positive(scores, found)
    assert called[LABELS == 1].mean() == pytest.approx(sensitivity)
    assert (~called)[LABELS == 0].mean() == pytest.approx(specificity)


def test_of_tied_cutoffs_the_lowest_is_taken() -> None:
    """Calling >= 0.8 has sensitivity 1/2, specificity 1; >= 0.4 has 1 and 1/2: the index is 1/2."""
    labels = np.array([0, 1, 0, 1])
    assert youden_cutoff(labels, np.array([0.2, 0.4, 0.6, 0.8])) == pytest.approx(0.3)


def test_the_cutoff_lies_midway_in_the_gap() -> None:
    assert youden_cutoff(np.array([0, 0, 1]), np.array([0.1, 0.2, 0.9])) == pytest.approx(0.55)


def test_between_neighbouring_floats_the_lower_score_is_still_not_called() -> None:
    low = 0.1
    high = float(np.nextafter(low, 1.0))
    cutoff = youden_cutoff(np.array([0, 1]), np.array([low, high]))
    assert call_positive(np.array([low, high]), cutoff).tolist() == [False, True]


def test_a_worthless_score_calls_everything() -> None:
    assert youden_cutoff(np.array([0, 1]), np.array([0.4, 0.4])) == 0.4
    assert youden_cutoff(np.array([1, 0]), np.array([0.1, 0.9])) == 0.1


def test_a_score_at_the_cutoff_is_called() -> None:
    assert call_positive(np.array([0.5, 0.49]), 0.5).tolist() == [True, False]


def test_float32_scores_are_not_called_by_a_rounded_cutoff() -> None:
    """In float32 the cutoff would round onto the score below it."""
    score = np.float32(0.3)
    assert not call_positive(np.array([score]), float(score) + 1e-10)[0]


def test_a_cutoff_says_where_it_came_from() -> None:
    chosen = choose_cutoff(np.array([0, 0, 1]), np.array([0.1, 0.2, 0.9]))
    assert chosen.value == pytest.approx(0.55)
    assert chosen.source == "Youden on the validation part (n = 3)"


def test_where_validation_cannot_choose_the_cutoff_is_one_half_and_says_so() -> None:
    assert choose_cutoff(np.ones(3, int), np.full(3, 0.9)) == (
        0.5,
        "0.5, as the validation part has one class only",
    )
    empty = choose_cutoff(np.zeros(0, int), np.zeros(0))
    assert empty == (0.5, "0.5, as the validation part has no case")


def test_one_class_has_no_youden_index() -> None:
    with pytest.raises(PredictionsError, match="expected both classes"):
        youden_cutoff(np.ones(3, int), np.array([0.1, 0.2, 0.3]))
