"""Intervals of proportions and of their ratios against printed ones."""

from __future__ import annotations

import math

import numpy as np
import pytest

from thyrojax.analysis.intervals import (
    exact_interval,
    inverted,
    mean_interval,
    odds_ratio_interval,
    predictive_interval,
    probability_after,
    ratio_interval,
    sample_mean_interval,
    wilson_interval,
)

# Scott et al. 2008, table 1, as in the documentation of epiR's epi.tests: 670 of 744 with disease
# and 202 of 842 without called positive. Printed there: sensitivity 0.90 (0.88 to 0.92),
# specificity 0.76 (0.73 to 0.79), LR+ 3.75 (3.32 to 4.24); more digits from R 4.2.2, epiR 2.0.57.
TP, FN, FP, TN = 670, 74, 202, 640


@pytest.mark.parametrize(
    ("successes", "total", "low", "high"),
    [
        # Newcombe 1998, Statistics in Medicine 17:857, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        # Counts of Guan et al. 2019; R 4.2.2, prop.test(x, n, correct = FALSE).
        (195, 209, 0.890716, 0.959682),
        (166, 190, 0.818930, 0.913627),
        (361, 399, 0.871978, 0.929826),
    ],
)
def test_wilson_interval(successes: int, total: int, low: float, high: float) -> None:
    assert wilson_interval(successes, total) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("successes", "total", "low", "high"),
    [
        # Newcombe 1998, table I, method 5.
        (81, 263, 0.2527, 0.3676),
        (15, 148, 0.0578, 0.1617),
        (0, 20, 0.0, 0.1684),
        (1, 29, 0.0009, 0.1776),
        # Scott et al. 2008 by epiR.
        (TP, TP + FN, 0.87674618, 0.9210923),
        (TN, TN + FP, 0.72977646, 0.7885803),
    ],
)
def test_exact_interval(successes: int, total: int, low: float, high: float) -> None:
    assert exact_interval(successes, total) == pytest.approx((low, high), abs=5e-5)


def test_none_of_none_has_no_interval() -> None:
    assert wilson_interval(0, 0) is None
    assert exact_interval(0, 0) is None
    assert mean_interval(1, 2, 0, 0) is None
    assert ratio_interval(0, 5, 0, 7) is None
    assert ratio_interval(0, 0, 3, 7) is None
    assert odds_ratio_interval(0, 0, 3, 4) is None
    assert predictive_interval(None, 0.1) is None
    assert inverted(None) is None


def test_likelihood_ratios_have_the_limits_of_simel() -> None:
    raised = ratio_interval(TP, TP + FN, FP, FP + TN)
    lowered = ratio_interval(FN, TP + FN, TN, FP + TN)
    assert raised is not None
    assert lowered is not None
    assert raised[:2] == pytest.approx((3.32068844, 4.2432346), rel=1e-7)
    assert lowered[:2] == pytest.approx((0.10506432, 0.1629771), rel=1e-6)
    assert raised.method == "log"
    assert [round(limit, 2) for limit in raised[:2]] == [3.32, 4.24]


def test_odds_ratio_has_the_limits_of_woolf() -> None:
    found = odds_ratio_interval(TP, FN, FP, TN)
    assert found is not None
    assert found[:2] == pytest.approx((21.51819166, 38.2417364), rel=1e-7)


def test_ratio_of_infinity_has_a_finite_lower_limit() -> None:
    """10 of 10 against 0 of 10; with halves added (10.5/11)/(0.5/11) = 21, and on the log scale
    the variance is 1/10.5 - 1/11 + 1/0.5 - 1/11 = 1.91342: 21 exp(-1.95996 x 1.38326) = 1.3957."""
    found = ratio_interval(10, 10, 0, 10)
    assert found is not None
    assert found.low == pytest.approx(1.3957, abs=5e-4)
    assert found.high == math.inf
    assert found.method == "log, 0.5 added to each cell"
    swapped = ratio_interval(0, 10, 10, 10)
    assert swapped is not None
    assert swapped[:2] == pytest.approx((0.0, 1 / 1.3957), abs=5e-4)
    assert inverted(swapped) == pytest.approx((*found[:2], found.method), abs=5e-4)


def test_ratio_of_two_full_groups_is_not_taken_as_certain() -> None:
    found = ratio_interval(5, 5, 9, 9)
    assert found is not None
    assert found.low < 0.85
    assert found.high > 1.2


def test_odds_ratios_of_zero_and_of_infinity() -> None:
    above, below = odds_ratio_interval(10, 0, 1, 9), odds_ratio_interval(0, 10, 9, 1)
    assert above is not None
    assert below is not None
    # R 4.2.2: exp(log(10.5*9.5/(0.5*1.5)) - qnorm(.975)*sqrt(1/10.5 + 1/0.5 + 1/1.5 + 1/9.5)).
    assert above[:2] == pytest.approx((4.81433649, math.inf), rel=1e-8)
    assert below[:2] == pytest.approx((0.0, 1 / 4.81433649), rel=1e-8)


def test_predictive_values_at_a_prevalence_have_the_limits_of_mercaldo() -> None:
    """Mercaldo et al. 2007: ApoE e4 in 240 of 418 with Alzheimer's and 87 of 375 without, at a
    prevalence of 0.03. R 4.2.2: plogis(qlogis(PPV) + c(-1, 1) * qnorm(.975) * sqrt(v)) with the
    variances of the paper's section 2.2."""
    raised, lowered = ratio_interval(240, 418, 87, 375), ratio_interval(178, 418, 288, 375)
    ppv = predictive_interval(raised, 0.03)
    npv = predictive_interval(inverted(lowered), 0.97)
    assert ppv is not None
    assert npv is not None
    assert ppv[:2] == pytest.approx((0.058870973, 0.085636666), abs=1e-8)
    assert npv[:2] == pytest.approx((0.98094879, 0.98508370), abs=1e-8)
    assert ppv.method == "logit"


def test_probability_after_a_test_is_that_of_bayes() -> None:
    """Altman and Bland 1994, BMJ 309:102: liver scan, sensitivity 231/258, specificity 54/86; at a
    prevalence of 0.25, PPV 0.45 and NPV 0.95."""
    sensitivity, specificity = 231 / 258, 54 / 86
    assert round(probability_after(sensitivity / (1 - specificity), 0.25), 2) == 0.45
    assert round(probability_after(specificity / (1 - sensitivity), 0.75), 2) == 0.95
    assert probability_after(math.inf, 0.01) == 1.0
    assert probability_after(0.0, 0.99) == 0.0


def test_mean_of_a_sample() -> None:
    """R 4.2.2: x <- c(.1, .2, .4, .1, .3); mean(x) + c(-1, 1) * qnorm(.975) * sd(x) / sqrt(5)."""
    found = sample_mean_interval(np.array([0.1, 0.2, 0.4, 0.1, 0.3]))
    assert found == pytest.approx((0.105715443, 0.334284557), abs=1e-9)
    assert sample_mean_interval(np.array([0.3])) is None
    assert sample_mean_interval(np.array([0.3, 0.3])) is None


def test_mean_of_two_proportions_has_the_limits_of_newcombes_difference() -> None:
    """Newcombe 1998, Statistics in Medicine 17:873, table II (a): 56/70 - 48/80 = 0.2, method 10
    0.0524 to 0.3339. The mean of 56/70 and 32/80 is (1 + the difference) / 2."""
    found = mean_interval(56, 70, 32, 80)
    assert found is not None
    assert found[:2] == pytest.approx(((1 + 0.0524) / 2, (1 + 0.3339) / 2), abs=5e-5)
