"""Reliability bins, Brier score and expected calibration error."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from thyrojax.analysis.calibration import (
    brier_score,
    expected_calibration_error,
    reliability_bins,
)


def test_bins_by_hand() -> None:
    """Six cases in three bins of two: (0.1, 0.2), (0.4, 0.6), (0.8, 0.9)."""
    labels = np.array([1, 0, 0, 1, 1, 0])
    scores = np.array([0.9, 0.1, 0.2, 0.4, 0.8, 0.6])
    table = reliability_bins(labels, scores, bins=3)
    assert table.counts.tolist() == [2, 2, 2]
    assert table.mean_scores == pytest.approx([0.15, 0.5, 0.85])
    assert table.observed == pytest.approx([0.0, 0.5, 1.0])
    # (0.15 + 0 + 0.15) / 3
    assert expected_calibration_error(labels, scores, bins=3) == pytest.approx(0.1)
    # (0.01 + 0.01 + 0.04 + 0.36 + 0.04 + 0.36) / 6
    assert brier_score(labels, scores) == pytest.approx(0.82 / 6)


def test_bins_and_brier_equal_scikit_learn() -> None:
    random = np.random.default_rng(3)
    scores = random.random(1000)
    labels = (random.random(1000) < scores**1.5).astype(int)
    observed, mean = calibration_curve(labels, scores, n_bins=10, strategy="quantile")
    table = reliability_bins(labels, scores)
    np.testing.assert_allclose(table.observed, observed)
    np.testing.assert_allclose(table.mean_scores, mean)
    assert brier_score(labels, scores) == pytest.approx(brier_score_loss(labels, scores))


def test_equal_scores_share_a_bin_and_no_case_is_lost() -> None:
    scores = np.repeat([0.1, 0.5, 0.9], (3, 14, 3))
    table = reliability_bins(np.arange(20) % 2, scores)
    assert table.counts.sum() == 20
    assert table.counts.tolist() == [3, 14, 3]


@pytest.mark.parametrize("n", [1, 2, 7, 10, 11, 99])
def test_few_cases_make_fewer_bins(n: int) -> None:
    table = reliability_bins(np.arange(n) % 2, np.linspace(0, 1, n))
    assert len(table.counts) == min(n, 10)
    assert table.counts.sum() == n
    assert table.counts.max() - table.counts.min() <= 1


def test_a_calibrated_score_has_a_small_error_and_a_boastful_one_a_large() -> None:
    random = np.random.default_rng(5)
    scores = random.random(20_000)
    labels = (random.random(20_000) < scores).astype(int)
    assert expected_calibration_error(labels, scores) < 0.01
    assert expected_calibration_error(labels, np.round(scores)) == pytest.approx(0.25, abs=0.01)
