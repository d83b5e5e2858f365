"""Precision and recall, against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from thyrojax.analysis.precision_recall import (
    MOST_POINTS,
    average_precision,
    precision_recall_curve,
    precision_recall_table,
)
from thyrojax.errors import PredictionsError


def test_the_example_of_scikit_learn() -> None:
    """average_precision_score's documented example: 0.83, which is (1 + 2/3) / 2."""
    labels, scores = np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8])
    assert average_precision(labels, scores) == pytest.approx(5 / 6)


@pytest.mark.parametrize("decimals", [1, 6])
def test_curve_and_average_precision_equal_scikit_learn(decimals: int) -> None:
    random = np.random.default_rng(decimals)
    labels = (random.random(500) < 0.2).astype(int)
    scores = np.round(random.normal(labels, 1.0), decimals)
    curve = precision_recall_curve(labels, scores)
    # scikit-learn goes the other way, ends in a point of its own, and stops at full recall.
    precision, recall, cutoffs = metrics.precision_recall_curve(labels, scores)
    n = len(cutoffs)
    np.testing.assert_allclose(curve.precision[:n], precision[-2::-1])
    np.testing.assert_allclose(curve.recall[:n], recall[-2::-1])
    np.testing.assert_allclose(curve.cutoffs[:n], cutoffs[::-1])
    expected = metrics.average_precision_score(labels, scores)
    assert average_precision(labels, scores) == pytest.approx(expected)


def test_scores_without_information_have_the_share_of_positives() -> None:
    labels = np.array([0, 0, 0, 1])
    assert average_precision(labels, np.full(4, 0.3)) == 0.25


def test_the_table_has_every_distinct_score() -> None:
    table = precision_recall_table(np.array([0, 1, 0, 1]), np.array([0.2, 0.4, 0.4, 0.8]))
    assert (table.name, table.columns) == ("precision_recall", ("cutoff", "recall", "precision"))
    assert table.rows == ((0.8, 0.5, 1.0), (0.4, 1.0, 2 / 3), (0.2, 1.0, 0.5))
    assert "0.833" in " ".join(table.footnotes)


def test_a_long_curve_is_thinned_and_says_so() -> None:
    random = np.random.default_rng(5)
    labels = random.integers(0, 2, 30_000)
    table = precision_recall_table(labels, random.normal(labels, 1.0))
    assert 2000 < len(table.rows) <= MOST_POINTS
    assert any("The curve has 30,000 points; the table has" in note for note in table.footnotes)
    recall, precision = (np.array(table.column(name)) for name in ("recall", "precision"))
    assert recall[-1] == 1.0
    assert np.abs(np.diff(recall)).max() < 0.01
    # Steps of the first few cases are as large as they are; later ones are small.
    assert np.abs(np.diff(precision))[200:].max() < 0.01


def test_one_class_alone_is_refused() -> None:
    with pytest.raises(PredictionsError, match="expected both classes"):
        average_precision(np.ones(3, int), np.array([0.1, 0.2, 0.3]))
