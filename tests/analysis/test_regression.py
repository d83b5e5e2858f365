"""Logistic regression against R 4.2.2 (glm, MASS 7.3 profiles, sandwich 3.0.2, geepack 1.3.9)."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from thyrojax.analysis.regression import Estimate, fit_logistic
from thyrojax.errors import PredictionsError


def twenty_patients() -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Three images of each of twenty patients, by arithmetic that R repeats."""
    case = np.arange(60)
    patient = case // 3
    one, two = (patient * 7) % 5 < 2, (case * 11) % 7 < 3
    errors = ((case * case + 3 * patient + 2 * one) % 10 < 4).astype(np.int64)
    return errors, np.column_stack([one, two]).astype(np.float64), [str(p) for p in patient]


def one_exposure(errors: int, exposed: int, other_errors: int, others: int) -> Estimate:
    cells = [errors, exposed - errors, other_errors, others - other_errors]
    x = np.repeat([1.0, 1.0, 0.0, 0.0], cells)[:, None]
    return fit_logistic(np.repeat([1, 0, 1, 0], cells), x).estimates[0]


def test_wald_and_profile_are_those_of_glm_and_confint() -> None:
    errors, exposed, _ = twenty_patients()
    one, two = fit_logistic(errors, exposed).estimates
    # summary(glm(...)); confint(profile(glm, del = 0.05)) interpolates, hence the looser bound.
    assert one[:2] == pytest.approx((1.83055593277, 0.6425527946), rel=1e-8)
    assert one.p == pytest.approx(0.004387339767, rel=1e-7)
    assert (one.profile_low, one.profile_high) == pytest.approx((0.6460570, 3.2134782), rel=1e-5)
    assert two[:2] == pytest.approx((0.05578625026, 0.5786180106), rel=1e-7)
    assert two.p == pytest.approx(0.923192633591, rel=1e-7)
    assert (two.profile_low, two.profile_high) == pytest.approx((-1.0868467, 1.2033100), rel=1e-5)


def test_clustered_deviations_are_those_of_sandwich() -> None:
    errors, exposed, patients = twenty_patients()
    fit = fit_logistic(errors, exposed, patients, "cluster")
    # vcovCL(glm, cluster, type = "HC1")
    deviations = [estimate.standard_error for estimate in fit.estimates]
    assert deviations == pytest.approx([0.4838033613, 0.8216170679], rel=1e-7)
    assert fit.estimates[0].log_odds == pytest.approx(1.83055593277, rel=1e-8)


def test_gee_is_that_of_geepack() -> None:
    errors, exposed, patients = twenty_patients()
    one, two = fit_logistic(errors, exposed, patients, "gee").estimates
    # geeglm(..., corstr = "exchangeable")
    assert one[:2] == pytest.approx((1.8276450, 0.4641341), rel=1e-6)
    assert two[:2] == pytest.approx((0.1380016, 0.8243884), rel=1e-6)
    assert two.p == pytest.approx(0.86706, abs=1e-5)


def test_gee_without_a_second_case_of_anybody_has_an_answer() -> None:
    errors, exposed, _ = twenty_patients()
    alone = [str(case) for case in range(60)]
    one = fit_logistic(errors, exposed, alone, "gee").estimates[0]
    assert one.log_odds == pytest.approx(1.83055593277, rel=1e-6)


def test_separated_exposure_has_a_limit_and_half_an_interval() -> None:
    found = one_exposure(0, 25, 17, 141)
    assert found.log_odds == found.profile_low == -math.inf
    assert found.p is None
    assert found.low is None
    assert "quasi-complete separation" in found.note
    # Likelihood-ratio bound by hand: the profile at b has one free chance p of the others; at
    # the bound twice the loss is 3.8415.
    bound = found.profile_high
    assert bound is not None
    free = np.linspace(0.08, 0.16, 200_001)
    odds = free / (1 - free) * np.exp(bound)
    value = 17 * np.log(free) + 124 * np.log1p(-free) - 25 * np.log1p(odds)
    top = 17 * np.log(17 / 141) + 124 * np.log(124 / 141)
    assert 2.0 * (top - value.max()) == pytest.approx(3.841458821, abs=1e-6)


def test_endometrial_data_finite_coefficients_are_the_published_ones() -> None:
    # Heinze & Schemper 2002, ML: PI -0.042 (0.044), EH -2.903 (0.846), NV infinite.
    # R 4.2.2 with brglm 0.7.2 profiles the plain fit to -0.13707 and -4.7859.
    data = np.loadtxt(Path(__file__).with_name("endometrial.csv"), delimiter=",", skiprows=1)
    fit = fit_logistic(data[:, 3].astype(np.int64), data[:, :3])
    vessels, pulsatility, height = fit.estimates
    assert fit.separation == "quasi-complete"
    assert vessels.log_odds == math.inf
    assert vessels.profile_low is not None
    assert vessels.profile_low > 0.0
    assert pulsatility[:2] == pytest.approx((-0.042, 0.044), abs=5e-4)
    assert height[:2] == pytest.approx((-2.903, 0.846), abs=5e-4)
    assert pulsatility.profile_low == pytest.approx(-0.13707, abs=1e-4)
    assert height.profile_low == pytest.approx(-4.7859, abs=5e-4)
    assert "other exposures are separated" in height.note


def test_exposures_that_say_the_same_cannot_be_told_apart_and_others_can() -> None:
    errors, exposed, _ = twenty_patients()
    fit = fit_logistic(errors, np.column_stack([exposed, exposed[:, 1]]))
    assert fit.estimates[0].log_odds == pytest.approx(1.83055593277, rel=1e-7)
    for same in fit.estimates[1:]:
        assert same.log_odds is None
        assert "cannot be told" in same.note


def test_no_error_and_only_errors_come_with_a_reason() -> None:
    exposed = np.array([[1.0], [0.0], [1.0]])
    none = fit_logistic(np.zeros(3, dtype=np.int64), exposed).estimates[0]
    every = fit_logistic(np.ones(3, dtype=np.int64), exposed).estimates[0]
    assert (none.log_odds, none.note) == (None, "no errors among 3 cases")
    assert (every.log_odds, every.note) == (None, "only errors among 3 cases")


def test_too_few_patients_give_no_clustered_interval() -> None:
    errors, exposed, _ = twenty_patients()
    one = fit_logistic(errors, exposed, ["a"] * 30 + ["b"] * 30, "cluster").estimates[0]
    assert one.low is None
    assert one.note == "2 patients are too few for 3 coefficients"


def test_robust_errors_need_clusters() -> None:
    errors, exposed, patients = twenty_patients()
    with pytest.raises(PredictionsError, match="clusters: found none"):
        fit_logistic(errors, exposed, None, "cluster")
    with pytest.raises(PredictionsError, match="found 59, expected 60"):
        fit_logistic(errors, exposed, patients[1:], "gee")
