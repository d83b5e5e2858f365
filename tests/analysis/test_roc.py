"""The ROC curve, its area and DeLong's variance, against pROC, scikit-learn and plain formulas."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics

from thyrojax.analysis.roc import (
    auc,
    compare_auc,
    compare_auc_unpaired,
    estimate_auc,
    placements,
    roc_curve,
)
from thyrojax.errors import PredictionsError

# 120 cases by a fixed rule, the second score with heavy ties. R 4.2.2 with pROC 1.18.0 was given
# the same: i <- 0:119; label <- as.integer((i*7) %% 12 < 5); a <- ((i*37) %% 101 + 60*label)/200;
# b <- (((i*53) %% 97 + 18*label) %/% 15)/10; roc(label, a, levels = c(0, 1), direction = "<"),
# and auc(), var(), ci.auc(), cov() of the two.
INDEX = np.arange(120)
LABELS = (INDEX * 7 % 12 < 5).astype(int)
FINE = (INDEX * 37 % 101 + 60 * LABELS) / 200
TIED = (INDEX * 53 % 97 + 18 * LABELS) // 15 / 10
FROM_R = {
    "fine": (0.92114285714285715, 0.00051107997271668205, 0.87683379859640853, 0.96545191568930577),
    "tied": (0.66514285714285715, 0.0024675037092032909, 0.56778365681328147, 0.76250205747243283),
}
COVARIANCE_FROM_R = 0.00010482157796570273


@pytest.mark.parametrize("name", ["fine", "tied"])
def test_area_variance_and_plain_interval_are_those_of_proc(name: str) -> None:
    estimate = estimate_auc(LABELS, {"fine": FINE, "tied": TIED}[name], scale="plain")
    assert estimate.interval is not None
    got = (estimate.auc, estimate.variance, *estimate.interval)
    np.testing.assert_allclose(got, FROM_R[name], rtol=1e-12)
    assert estimate.method == "DeLong, plain"


def test_components_of_two_models_give_the_covariance_of_proc() -> None:
    (fine_1, fine_0), (tied_1, tied_0) = placements(LABELS, FINE), placements(LABELS, TIED)
    covariance = np.cov(fine_1, tied_1)[0, 1] / 50 + np.cov(fine_0, tied_0)[0, 1] / 70
    np.testing.assert_allclose(covariance, COVARIANCE_FROM_R, rtol=1e-12)


def test_paired_test_is_that_of_proc() -> None:
    # roc.test(a, b, method = "delong", paired = TRUE)
    found = compare_auc(LABELS, FINE, TIED)
    assert found.interval is not None
    np.testing.assert_allclose(found.difference, 0.256, rtol=1e-12)
    np.testing.assert_allclose(found.interval, (0.15286527739148076, 0.35913472260851925))
    np.testing.assert_allclose(found.p, 1.1445481791899833e-06, rtol=1e-9)


def test_a_model_does_not_differ_from_itself() -> None:
    assert compare_auc(LABELS, FINE, FINE) == (0.0, None, None)


# 113 patients with subarachnoid haemorrhage (Turck et al. 2010, Intensive Care Med 36:107), the
# example of pROC (Robin et al. 2011, BMC Bioinformatics 12:77): outcome (1 = poor), two markers.
ASAH = np.loadtxt(Path(__file__).with_name("asah.csv"), delimiter=",", skiprows=1)
POOR, S100B, NDKA = ASAH[:, 0].astype(int), ASAH[:, 1], ASAH[:, 2]


@pytest.mark.parametrize(
    ("marker", "area", "low", "high"),
    [
        (S100B, 0.731368563686, 0.630118211762, 0.832618915610),
        (NDKA, 0.611957994580, 0.501244999272, 0.722670989888),
    ],
)
def test_the_published_asah_example(
    marker: np.ndarray, area: float, low: float, high: float
) -> None:
    """ci.auc(roc(outcome, marker)) of pROC 1.18.0, published as 63.01-83.26 % for s100b."""
    estimate = estimate_auc(POOR, marker, scale="plain")
    assert estimate.interval is not None
    np.testing.assert_allclose((estimate.auc, *estimate.interval), (area, low, high), rtol=1e-10)


def test_the_paired_test_of_the_asah_example() -> None:
    """roc.test(s100b, ndka) of pROC 1.18.0: Z = 1.391, P = 0.164295."""
    found = compare_auc(POOR, S100B, NDKA)
    assert found.p == pytest.approx(0.164295175, rel=1e-8)
    assert found.interval == pytest.approx((-0.0488706064, 0.2876917446), rel=1e-8)


def test_the_unpaired_test_of_the_asah_example() -> None:
    """roc.test(..., paired = FALSE) of pROC 1.18.0: D = 1.559957434, df = 222.235396.

    The interval, which pROC does not give, is R's d + c(-1, 1) * qt(0.975, df) * d / D.
    """
    found = compare_auc_unpaired(POOR, S100B, POOR, NDKA)
    assert found.p == pytest.approx(0.120192832431, rel=1e-9)
    assert found.interval == pytest.approx((-0.0314409351, 0.2702620734), rel=1e-8)
    turned = compare_auc_unpaired(POOR, NDKA, POOR, S100B)
    assert (turned.difference, turned.p) == (-found.difference, found.p)


def test_two_sets_without_any_variance_have_no_unpaired_test() -> None:
    labels, scores = np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.3, 0.4])
    assert compare_auc_unpaired(labels, scores, labels, scores) == (0.0, None, None)
    single = compare_auc_unpaired(labels[1:3], scores[1:3], POOR, S100B)
    assert single.difference == pytest.approx(1 - 0.731368563686)
    assert (single.interval, single.p) == (None, None)


def test_a_million_cases_take_no_matrix() -> None:
    """A matrix of comparisons would have 2.5e11 cells; sorting takes well under a second."""
    random = np.random.default_rng(2)
    labels = random.integers(0, 2, 1_000_000)
    estimate = estimate_auc(labels, random.normal(labels, 1.0))
    assert estimate.auc == pytest.approx(0.76025, abs=0.002)
    # 0.0005 is Hanley and McNeil's standard error at this area and these sizes.
    assert estimate.variance == pytest.approx(0.0005**2, rel=0.15)


@pytest.mark.parametrize("seed", range(5))
def test_area_and_variance_equal_the_plain_pairwise_formula(seed: int) -> None:
    """DeLong et al. 1988: the n-by-m matrix of comparisons, written out."""
    random = np.random.default_rng(seed)
    labels = random.permutation(np.repeat([0, 1], (23, 17)))
    scores = random.integers(0, 9, 40) / 8 if seed % 2 else random.random(40)
    positives, negatives = scores[labels == 1], scores[labels == 0]
    kernel = (positives[:, None] > negatives[None, :]) + 0.5 * (
        positives[:, None] == negatives[None, :]
    )
    variance = kernel.mean(1).var(ddof=1) / 17 + kernel.mean(0).var(ddof=1) / 23
    estimate = estimate_auc(labels, scores)
    np.testing.assert_allclose([estimate.auc, estimate.variance], [kernel.mean(), variance])


@pytest.mark.parametrize("scores", [FINE, TIED, TIED.astype(np.float32)])
def test_curve_and_area_equal_scikit_learn(scores: np.ndarray) -> None:
    curve = roc_curve(LABELS, scores)
    false_positive_rate, true_positive_rate, cutoffs = metrics.roc_curve(
        LABELS, scores, drop_intermediate=False
    )
    np.testing.assert_allclose(curve.false_positive_rate, false_positive_rate)
    np.testing.assert_allclose(curve.true_positive_rate, true_positive_rate)
    np.testing.assert_array_equal(curve.cutoffs, cutoffs)
    np.testing.assert_allclose(auc(LABELS, scores), metrics.roc_auc_score(LABELS, scores))


def test_logit_interval_is_that_of_r_and_inside_the_unit_interval() -> None:
    """plogis(qlogis(a) + c(-1, 1) * qnorm(.975) * sqrt(v) / (a * (1 - a))) of pROC's a and v."""
    interval = estimate_auc(LABELS, FINE).interval
    assert interval == pytest.approx((0.863890, 0.955552), abs=1e-6)
    # One discordant pair of 100: the plain interval has to be cut off at 1, the logit one not.
    labels = np.repeat([0, 1], 10)
    scores = np.arange(20.0)
    scores[[9, 10]] = scores[[10, 9]]
    plain, logit = (estimate_auc(labels, scores, scale=scale) for scale in ("plain", "logit"))
    assert plain.interval is not None
    assert plain.interval[1] == 1.0
    assert logit.interval is not None
    assert 0.0 < logit.interval[0] < 0.99 < logit.interval[1] < 1.0


def test_a_perfect_or_perfectly_wrong_score_has_an_exact_interval() -> None:
    """30 positives and 40 negatives: 30 disjoint pairs, so 0.025 ** (1 / 30) = 0.88430."""
    labels = np.repeat([0, 1], (40, 30))
    perfect = estimate_auc(labels, np.arange(70.0))
    assert (perfect.auc, perfect.variance) == (1.0, 0.0)
    assert perfect.interval == pytest.approx((0.88430, 1.0), abs=5e-6)
    wrong = estimate_auc(labels, -np.arange(70.0))
    assert wrong.auc == 0.0
    assert wrong.interval == pytest.approx((0.0, 0.11570), abs=5e-6)


def test_where_no_interval_can_be_given_the_reason_is() -> None:
    single = estimate_auc(np.array([0, 0, 1]), np.array([0.1, 0.9, 0.5]))
    assert (single.auc, single.variance, single.interval) == (0.5, None, None)
    assert "single case" in single.note
    constant = estimate_auc(np.array([0, 0, 1, 1]), np.full(4, 0.3))
    assert (constant.auc, constant.interval) == (0.5, None)
    assert "tied" in constant.note


def test_one_class_alone_is_refused() -> None:
    for function in (auc, roc_curve, estimate_auc, placements):
        with pytest.raises(PredictionsError, match="none of class 1, expected both classes"):
            function(np.zeros(3, int), np.array([0.1, 0.2, 0.3]))


def test_the_interval_covers_as_often_as_it_says() -> None:
    """Two normal distributions one standard deviation apart: area Phi(1 / sqrt 2) = 0.76025."""
    random = np.random.default_rng(1)
    labels = np.repeat([0, 1], 40)
    covered = 0
    for _ in range(1000):
        interval = estimate_auc(labels, random.normal(labels, 1.0)).interval
        assert interval is not None
        covered += interval[0] <= 0.76025 <= interval[1]
    assert 0.93 <= covered / 1000 <= 0.97
