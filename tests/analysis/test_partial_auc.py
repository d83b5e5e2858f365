"""Partial areas, against pROC and scikit-learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from thyrojax.analysis.partial_auc import heights, partial_auc
from thyrojax.analysis.roc import auc
from thyrojax.errors import PredictionsError

# The example of pROC; tests/analysis/test_roc.py says where it is from.
ASAH = np.loadtxt(Path(__file__).with_name("asah.csv"), delimiter=",", skiprows=1)
POOR, S100B, NDKA = ASAH[:, 0].astype(int), ASAH[:, 1], ASAH[:, 2]


@pytest.mark.parametrize(
    ("marker", "axis", "bounds", "area", "standardised"),
    [
        (S100B, "fpr", (0.0, 0.1), 0.0327574525745, 0.646091855655),
        (S100B, "fpr", (0.1, 0.2), 0.0478319783198, 0.693129284234),
        (S100B, "tpr", (0.9, 1.0), 0.0137635501355, 0.546123948082),
        (S100B, "tpr", (0.8, 0.9), 0.0350575880759, 0.617985812211),
        (NDKA, "fpr", (0.0, 0.1), 0.0107046070461, 0.530024247611),
        (NDKA, "tpr", (0.8, 0.9), 0.0242547425474, 0.554439662044),
    ],
)
def test_partial_areas_are_those_of_proc(
    marker: np.ndarray, axis: str, bounds: tuple[float, float], area: float, standardised: float
) -> None:
    """auc() of pROC 1.18.0 with partial.auc, partial.auc.focus and partial.auc.correct = TRUE."""
    found = partial_auc(POOR, marker, bounds, axis)  # type: ignore[arg-type]
    assert found.area == pytest.approx(area, rel=1e-10)
    assert found.standardised == pytest.approx(standardised, rel=1e-10)


def test_below_chance_a_value_is_given_where_proc_gives_none() -> None:
    """pROC 1.18.0: the area is 0.00379403794038, chance has 0.005, and the correction is NA."""
    found = partial_auc(POOR, NDKA, (0.9, 1.0), "tpr")
    assert found.area == pytest.approx(0.00379403794038, rel=1e-10)
    assert found.standardised < 0.5


@pytest.mark.parametrize("width", [0.05, 0.3, 0.9])
def test_the_low_false_positive_end_is_that_of_scikit_learn(width: float) -> None:
    random = np.random.default_rng(3)
    labels = random.integers(0, 2, 300)
    scores = np.round(random.normal(labels, 1.0), 1)
    expected = roc_auc_score(labels, scores, max_fpr=width)
    assert partial_auc(labels, scores, (0.0, width)).standardised == pytest.approx(expected)


@pytest.mark.parametrize("axis", ["fpr", "tpr"])
def test_the_whole_range_is_the_whole_area(axis: str) -> None:
    found = partial_auc(POOR, NDKA, (0.0, 1.0), axis)  # type: ignore[arg-type]
    assert found.area == pytest.approx(auc(POOR, NDKA))
    assert found.standardised == pytest.approx(auc(POOR, NDKA))


def test_a_perfect_score_has_one_in_any_range() -> None:
    labels, scores = np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.3, 0.4])
    for axis in ("fpr", "tpr"):
        assert partial_auc(labels, scores, (0.2, 0.4), axis) == pytest.approx((0.2, 1.0))  # type: ignore[arg-type]


def test_a_range_that_is_none_is_refused() -> None:
    for bounds in ((0.2, 0.2), (-0.1, 0.5), (0.5, 1.5), (float("nan"), 1.0)):
        with pytest.raises(PredictionsError, match="tpr range: found"):
            partial_auc(POOR, S100B, bounds, "tpr")


def test_where_a_curve_stands_upright_its_upper_end_counts() -> None:
    x, y = np.array([0.0, 0.0, 0.5, 1.0]), np.array([0.0, 0.4, 0.8, 1.0])
    found = heights(x, y, np.array([0.0, 0.25, 0.5, 1.0]))
    np.testing.assert_allclose(found, [0.4, 0.6, 0.8, 1.0])
