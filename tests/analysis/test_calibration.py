"""Reliability bins and table, Brier score, calibration error, slope and intercept."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss
from sklearn.metrics import log_loss as scikit_log_loss

from thyrojax.analysis.calibration import (
    brier_score,
    calibration_in_the_large,
    calibration_slope,
    calibration_table,
    expected_calibration_error,
    log_loss,
    logits,
    reliability_bins,
    spiegelhalter_test,
)
from thyrojax.errors import PredictionsError

# 120 cases by a fixed rule, given to R 4.2.2 as well.
INDEX = np.arange(120)
LABELS = (INDEX * 7 % 12 < 5).astype(int)
SCORES = (INDEX * 37 % 101 + 60 * LABELS + 10) / 200


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


def test_brier_log_loss_and_spiegelhalter_are_those_of_rms() -> None:
    """R package rms 6.5.0: val.prob(SCORES, LABELS), entries Brier, S:z and S:p."""
    assert brier_score(LABELS, SCORES) == pytest.approx(0.138791458333, rel=1e-11)
    found = spiegelhalter_test(LABELS, SCORES)
    assert found == pytest.approx((-4.02603561281, 5.67251015140e-05), rel=1e-10)
    assert log_loss(LABELS, SCORES) == pytest.approx(scikit_log_loss(LABELS, SCORES), rel=1e-12)


def test_slope_is_that_of_glm_in_r() -> None:
    """glm(label ~ qlogis(score), binomial) and confint.default of R 4.2.2."""
    found = calibration_slope(LABELS, SCORES)
    assert found.interval is not None
    assert found.value == pytest.approx(3.51120257428732, rel=1e-6)
    assert found.interval == pytest.approx((2.12037308408702, 4.90203206448761), rel=1e-5)


def test_calibration_in_the_large_is_that_of_glm_with_an_offset_in_r() -> None:
    """glm(label ~ offset(qlogis(score)), binomial) and confint.default of R 4.2.2."""
    found = calibration_in_the_large(LABELS, SCORES)
    assert found.interval is not None
    assert found.value == pytest.approx(-0.0256478077069708, rel=1e-6)
    assert found.interval == pytest.approx((-0.426170227290546, 0.374874611876604), rel=1e-5)


def test_scores_that_separate_the_classes_have_no_slope_but_an_intercept() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1])
    scores = np.array([0.1, 0.2, 0.3, 0.3, 0.6, 0.9])  # a tie at the edge changes nothing
    for ordered in (scores, 1.0 - scores):
        slope = calibration_slope(labels, ordered)
        assert slope[:2] == (None, None)
        assert "separate" in slope.note
        assert calibration_in_the_large(labels, ordered).value is not None


def test_one_class_and_equal_scores_give_reasons_instead_of_numbers() -> None:
    scores = np.array([0.2, 0.7])
    for fit in (calibration_slope, calibration_in_the_large):
        assert "all cases are of class 1" in fit(np.array([1, 1]), scores).note
    equal = np.array([0.25, 0.25, 0.25, 0.25])
    assert "all scores are equal" in calibration_slope(np.array([0, 1, 0, 1]), equal).note
    # Half are positive: a quarter's logit must be moved by log(3).
    moved = calibration_in_the_large(np.array([0, 1, 0, 1]), equal).value
    assert moved == pytest.approx(np.log(3.0))


def test_logits_of_0_and_1_are_finite_and_symmetric() -> None:
    found = logits(np.array([0.0, 0.5, 1.0], dtype=np.float32))
    np.testing.assert_allclose(found, [-found[2], 0.0, found[2]], rtol=1e-8)
    assert 16.0 < found[2] < 16.2
    assert spiegelhalter_test(np.array([0, 1, 1]), np.array([0.0, 0.5, 1.0])) is None


@pytest.mark.parametrize("bad", [-0.1, 1.5, np.nan])
def test_a_score_that_is_no_probability_is_refused_with_its_row(bad: float) -> None:
    with pytest.raises(PredictionsError, match="row 2: found"):
        calibration_table(np.array([0, 1]), np.array([0.5, bad]))


def test_table_has_wilson_intervals_of_each_bin() -> None:
    """2 of 10 and 8 of 10: prop.test(x, 10, correct = FALSE) of R 4.2.2."""
    labels = np.repeat([1, 0, 1, 0], (2, 8, 8, 2))
    scores = np.repeat([0.3, 0.7], 10) + np.tile(np.arange(10) / 1000, 2)
    table = calibration_table(labels, scores, bins=2)
    assert table.columns[:4] == ("bin", "mean_score", "observed", "ci_low")
    first, second = table.records()
    assert (first["n"], first["positives"], first["observed"]) == (10, 2, 0.2)
    assert (first["ci_low"], first["ci_high"]) == pytest.approx((0.05668215, 0.50983755), abs=1e-6)
    assert second["ci_low"] == pytest.approx(0.49016245, abs=1e-6)
    assert first["mean_score"] == pytest.approx(0.3045)


@pytest.mark.parametrize(
    ("labels", "scores"),
    [
        ([1], [0.3]),
        ([0, 0, 0], [0.1, 0.5, 1.0]),
        ([0, 1, 1], [0.5, 0.5, 0.5]),
        ([1, 0], [0.0, 1.0]),
    ],
)
def test_table_of_odd_cases_is_still_an_answer(labels: list[int], scores: list[float]) -> None:
    table = calibration_table(np.array(labels), np.array(scores))
    assert sum(n for n in table.column("n") if isinstance(n, int)) == len(labels)
    assert all("fewer than 10" in str(note) for note in table.column("note"))
