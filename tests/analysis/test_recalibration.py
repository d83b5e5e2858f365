"""Temperature and isotonic recalibration, and the summary before and after."""

from __future__ import annotations

import numpy as np
import pytest

from thyrojax.analysis.recalibration import (
    apply_isotonic,
    apply_temperature,
    calibration_summary,
    fit_temperature,
)
from thyrojax.errors import PredictionsError

# Cases by fixed rules, given to R 4.2.2 as well: these to be judged, ...
INDEX = np.arange(120)
LABELS = (INDEX * 7 % 12 < 5).astype(int)
SCORES = (INDEX * 37 % 101 + 60 * LABELS + 10) / 200
# ... and 80 to fit on, all scores different.
FITTED = np.arange(80)
FITTED_LABELS = (FITTED * 11 % 16 < 7).astype(int)
FITTED_SCORES = (FITTED * 29 % 83 + 50 * FITTED_LABELS + 5) / 150 + FITTED / 10_000
TEMPERATURE_FROM_R = 0.33882257384677


def test_temperature_is_the_inverse_slope_of_glm_without_intercept() -> None:
    """1 / coef(glm(label ~ 0 + qlogis(score), binomial)) of R 4.2.2."""
    found = fit_temperature(FITTED_LABELS, FITTED_SCORES)
    assert found == pytest.approx(TEMPERATURE_FROM_R, rel=1e-9)


def test_a_boastful_score_gets_its_temperature_back() -> None:
    random = np.random.default_rng(2)
    true = random.random(50_000)
    labels = (random.random(50_000) < true).astype(int)
    assert fit_temperature(labels, apply_temperature(true, 0.4)) == pytest.approx(2.5, rel=0.03)


def test_temperature_by_hand() -> None:
    # The logit of 0.9 is log 9: halved, log 3, the logit of 0.75.
    found = apply_temperature(np.array([0.9, 0.5, 0.1]), 2.0)
    np.testing.assert_allclose(found, [0.75, 0.5, 0.25])


def test_temperature_without_an_optimum_ends_at_the_bound() -> None:
    labels = np.array([0, 0, 1, 1])
    right = np.array([0.2, 0.4, 0.6, 0.8])
    assert fit_temperature(labels, right) == 0.01
    assert fit_temperature(labels, 1.0 - right) == 100.0


def test_temperature_needs_both_classes_and_scores_off_one_half() -> None:
    with pytest.raises(PredictionsError, match="expected both classes"):
        fit_temperature(np.array([1, 1]), np.array([0.4, 0.6]))
    with pytest.raises(PredictionsError, match=r"found 0\.5 throughout"):
        fit_temperature(np.array([1, 0]), np.array([0.5, 0.5]))


def test_isotonic_is_isoreg_of_r() -> None:
    """isoreg() and, between its points, approx(rule = 2) of R 4.2.2."""
    at_own = apply_isotonic(FITTED_LABELS, FITTED_SCORES, FITTED_SCORES)
    np.testing.assert_allclose(np.unique(at_own), [0.0, 5 / 12, 7 / 15, 0.5, 1.0])
    asked = np.array([0.01, 0.2, 0.35, 0.5, 0.7, 0.8, 0.95])
    found = apply_isotonic(FITTED_LABELS, FITTED_SCORES, asked)
    np.testing.assert_allclose(found, [0.0, 0.0, 0.0, 7 / 15, 1.0, 1.0, 1.0])


def test_summary_fits_on_validation_and_judges_the_test_cases() -> None:
    """R 4.2.2: scores plogis(qlogis(score) / T), their Brier score, log loss and glm slope."""
    table = calibration_summary((LABELS, SCORES), (FITTED_LABELS, FITTED_SCORES))
    rows = {row["method"]: row for row in table.records()}
    assert list(rows) == ["as given", "temperature", "isotonic"]
    cooled = rows["temperature"]
    assert cooled["parameter"] == pytest.approx(TEMPERATURE_FROM_R, rel=1e-9)
    assert cooled["brier"] == pytest.approx(0.113510642934448, rel=1e-8)
    assert cooled["log_loss"] == pytest.approx(0.338740317044300, rel=1e-8)
    assert cooled["slope"] == pytest.approx(1.189674693517433, rel=1e-6)
    assert rows["as given"]["slope"] == pytest.approx(3.51120257428732, rel=1e-6)
    assert rows["isotonic"]["parameter"] == len(
        np.unique(apply_isotonic(FITTED_LABELS, FITTED_SCORES, SCORES))
    )
    assert "scores clipped for their logit" in str(rows["isotonic"]["note"])


def test_summary_without_validation_says_so() -> None:
    one_class = (np.array([0, 0]), np.array([0.5, 0.6]))
    half = (np.array([0, 1]), np.array([0.5, 0.5]))
    nobody = (np.array([], dtype=int), np.array([]))
    for validation, reason in (
        (None, "no validation part"),
        (nobody, "no case"),
        (one_class, "all validation cases are of class 0"),
        (half, "every validation score is 0.5"),
    ):
        as_given, cooled, _ = calibration_summary((LABELS, SCORES), validation).records()
        assert as_given["brier"] is not None
        assert cooled["brier"] is None
        assert reason in str(cooled["note"])


@pytest.mark.parametrize(
    ("labels", "scores", "reason"),
    [
        ([1], [0.3], "all cases are of class 1"),
        ([0, 0, 0], [0.0, 0.5, 1.0], "all cases are of class 0"),
        ([0, 1, 1], [0.5, 0.5, 0.5], "all scores are equal"),
        ([0, 1, 1, 0], [0.0, 1.0, 0.0, 1.0], "every score is 0, 0.5 or 1"),
        ([0, 1], [0.0, 1.0], "separate the classes"),
    ],
)
def test_summary_of_odd_cases_gives_reasons(
    labels: list[int], scores: list[float], reason: str
) -> None:
    cases = (np.array(labels), np.array(scores))
    assert reason in str(calibration_summary(cases, None).records()[0]["note"])
    both = calibration_summary(cases, (FITTED_LABELS, FITTED_SCORES))
    assert all(row["brier"] is not None for row in both.records())
    # Fitting on the odd cases is another matter: an answer all the same.
    assert len(calibration_summary((LABELS, SCORES), cases).rows) == 3
