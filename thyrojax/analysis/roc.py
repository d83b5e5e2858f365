"""The ROC curve, its area, and the area's variance without any assumption on the scores.

scikit-learn has the curve and the area but no variance; DeLong's is computed here as Sun and Xu do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, NamedTuple

import numpy as np

from thyrojax.analysis.predictions import check_cases
from thyrojax.shapes import Float, Int


@dataclass(frozen=True, eq=False)
class RocCurve:
    """The empirical curve from (0, 0) to (1, 1): one point for calling all scores >= its cutoff.

    Cutoffs fall; the first is infinite (nothing is called).
    """

    false_positive_rate: Float[np.ndarray, " points"]
    true_positive_rate: Float[np.ndarray, " points"]
    cutoffs: Float[np.ndarray, " points"]


@dataclass(frozen=True)
class AucEstimate:
    """An area under the curve with its interval.

    `variance` is DeLong's, None where a class has a single case. `interval` is None where there is
    none to give; `note` then says why. `method` names how the interval was had.
    """

    auc: float
    variance: float | None
    interval: tuple[float, float] | None
    method: str
    note: str = ""


class AucDifference(NamedTuple):
    """How much larger the first model's area is; interval and P are None where nothing varies."""

    difference: float
    interval: tuple[float, float] | None
    p: float | None


def roc_curve(labels: Int[np.ndarray, " cases"], scores: Float[np.ndarray, " cases"]) -> RocCurve:
    """The empirical ROC curve, one point per distinct score.

    Raises:
      PredictionsError: as `check_cases`, both classes wanted.
    """
    check_cases(labels, scores, both_classes=True)
    order = np.argsort(-scores, kind="stable")
    falling, positive = scores[order].astype(np.float64), labels[order]
    last_of_tie = np.append(np.flatnonzero(np.diff(falling)), len(falling) - 1)
    true_positives = np.cumsum(positive)[last_of_tie]
    false_positives = last_of_tie + 1 - true_positives
    return RocCurve(
        false_positive_rate=np.append(0.0, false_positives / false_positives[-1]),
        true_positive_rate=np.append(0.0, true_positives / true_positives[-1]),
        cutoffs=np.append(np.inf, falling[last_of_tie]),
    )


def placements(
    labels: Int[np.ndarray, " cases"], scores: Float[np.ndarray, " cases"]
) -> tuple[Float[np.ndarray, " positives"], Float[np.ndarray, " negatives"]]:
    """DeLong's structural components, in the order of the cases.

    For each positive, the share of negatives that score lower; for each negative, the share of
    positives that score higher; ties count one half. Both average to the AUC. A count below plus
    half the ties is what Sun and Xu 2014 (IEEE Signal Processing Letters 21:1389) get as the
    difference of two midranks: sorting does it in O(n log n), with no n-by-m matrix. The covariance
    of two models' components is that of their areas (DeLong et al. 1988, Biometrics 44:837).

    Raises:
      PredictionsError: as `check_cases`, both classes wanted.
    """
    check_cases(labels, scores, both_classes=True)
    positives, negatives = scores[labels == 1], scores[labels == 0]
    return _share_below(positives, negatives), 1.0 - _share_below(negatives, positives)


def auc(labels: Int[np.ndarray, " cases"], scores: Float[np.ndarray, " cases"]) -> float:
    """The area under the empirical curve: the chance that a positive outscores a negative.

    Raises:
      PredictionsError: as `check_cases`, both classes wanted.
    """
    return float(placements(labels, scores)[0].mean())


def estimate_auc(
    labels: Int[np.ndarray, " cases"],
    scores: Float[np.ndarray, " cases"],
    confidence: float = 0.95,
    scale: Literal["logit", "plain"] = "logit",
) -> AucEstimate:
    """The area with DeLong's variance and an interval inside [0, 1].

    `scale="logit"`, the default, is symmetric on the logit of the area and so never leaves (0, 1);
    `"plain"` is area +- z standard errors cut off at 0 and 1, as pROC prints it.

    An area of exactly 1 or 0 has variance 0 and a meaningless interval of no width. There the
    interval is exact and conservative instead: with k cases in the smaller class there are k
    disjoint positive-negative pairs, all ordered the same way, which has probability at most
    AUC^k; the Clopper-Pearson bound for k of k is ((1 - confidence) / 2)^(1/k).

    Raises:
      PredictionsError: as `check_cases`, both classes wanted.
    """
    of_positives, of_negatives = placements(labels, scores)
    smaller = min(len(of_positives), len(of_negatives))
    area = float(of_positives.mean())
    variance = None
    if smaller > 1:
        variance = float(
            of_positives.var(ddof=1) / len(of_positives)
            + of_negatives.var(ddof=1) / len(of_negatives)
        )
    # Every share is then exactly 1 or exactly 0, and so is their mean.
    if area in (0.0, 1.0):
        bound = ((1.0 - confidence) / 2.0) ** (1.0 / smaller)
        interval = (bound, 1.0) if area == 1.0 else (0.0, 1.0 - bound)
        return AucEstimate(area, variance, interval, "exact, from disjoint pairs")
    if variance is None:
        return AucEstimate(area, None, None, "none", "a class with a single case has no variance")
    if variance == 0.0:
        return AucEstimate(
            area, 0.0, None, "none", "DeLong's variance is 0: the scores are all tied"
        )
    reach = NormalDist().inv_cdf(0.5 + confidence / 2.0) * math.sqrt(variance)
    if scale == "plain":
        interval = (max(0.0, area - reach), min(1.0, area + reach))
    else:
        centre = math.log(area / (1.0 - area))
        half = reach / (area * (1.0 - area))
        interval = (_expit(centre - half), _expit(centre + half))
    return AucEstimate(area, variance, interval, f"DeLong, {scale}")


def compare_auc(
    labels: Int[np.ndarray, " cases"],
    scores: Float[np.ndarray, " cases"],
    other: Float[np.ndarray, " cases"],
    confidence: float = 0.95,
) -> AucDifference:
    """Whether two models differ in area on the same cases: the paired test of DeLong et al. 1988.

    Raises:
      PredictionsError: as `check_cases`, both classes wanted.
    """
    pairs = zip(placements(labels, scores), placements(labels, other), strict=True)
    differences = [one - two for one, two in pairs]  # of positives, of negatives
    difference = float(differences[0].mean())
    if min(map(len, differences)) < 2:
        return AucDifference(difference, None, None)
    deviation = math.sqrt(sum(float(d.var(ddof=1)) / len(d) for d in differences))
    if deviation == 0.0:
        return AucDifference(difference, None, None)
    reach = NormalDist().inv_cdf(0.5 + confidence / 2.0) * deviation
    # erfc keeps its digits in the tail, where 1 - cdf has none left.
    p = math.erfc(abs(difference) / deviation / math.sqrt(2.0))
    return AucDifference(difference, (difference - reach, difference + reach), p)


def compare_auc_unpaired(
    labels_a: Int[np.ndarray, " cases_a"],
    scores_a: Float[np.ndarray, " cases_a"],
    labels_b: Int[np.ndarray, " cases_b"],
    scores_b: Float[np.ndarray, " cases_b"],
    confidence: float = 0.95,
) -> AucDifference:
    """Whether the area differs between two sets of cases that share no patient: a minus b.

    The variance is the sum of the two DeLong variances. The difference over its standard error is
    read on Student's t with Welch-Satterthwaite degrees of freedom, n - 1 for each set, as pROC
    does: for some hundred cases the same as the normal distribution, for few a little wider. A set
    with an area of exactly 0 or 1 adds no variance, so that P is then too small.

    Raises:
      PredictionsError: as `check_cases`, both classes wanted in each set.
    """
    from scipy.special import stdtr, stdtrit

    one, two = estimate_auc(labels_a, scores_a), estimate_auc(labels_b, scores_b)
    difference = one.auc - two.auc
    if one.variance is None or two.variance is None or one.variance + two.variance == 0.0:
        return AucDifference(difference, None, None)
    variance = one.variance + two.variance
    freedom = variance**2 / (
        one.variance**2 / (len(labels_a) - 1) + two.variance**2 / (len(labels_b) - 1)
    )
    deviation = math.sqrt(variance)
    reach = float(stdtrit(freedom, 0.5 + confidence / 2.0)) * deviation
    p = 2.0 * float(stdtr(freedom, -abs(difference) / deviation))
    return AucDifference(difference, (difference - reach, difference + reach), p)


def _share_below(
    scores: Float[np.ndarray, " asked"], others: Float[np.ndarray, " others"]
) -> Float[np.ndarray, " asked"]:
    """For each score, the share of the others that lie below it, ties counting one half."""
    ordered = np.sort(others)
    below = np.searchsorted(ordered, scores, side="left")
    not_above = np.searchsorted(ordered, scores, side="right")
    return (below + not_above) / (2.0 * len(others))


def _expit(x: float) -> float:
    """The inverse of the logit, without overflow."""
    if x >= 0.0:
        return 1.0 / (1.0 + math.exp(-x))
    return math.exp(x) / (1.0 + math.exp(x))
