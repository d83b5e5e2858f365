"""Do scores mean what they say: of the cases scored 0.7, are 70 % positive?"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from thyrojax.analysis.intervals import wilson_interval
from thyrojax.analysis.predictions import check_cases
from thyrojax.analysis.table import Table, table_of
from thyrojax.errors import PredictionsError
from thyrojax.shapes import Float, Int

# A score of exactly 0 or 1 has no logit. This is about the step of a float32 next to 1.
CLIP = 1e-7
_NOT_CONVERGED = "no slope: the logistic regression did not converge"
_FEW = 10  # a share of fewer cases than this says next to nothing


@dataclass(frozen=True, eq=False)
class ReliabilityBins:
    """Cases in bins of rising score: size, mean score and number of positives of each."""

    counts: Int[np.ndarray, " bins"]
    mean_scores: Float[np.ndarray, " bins"]
    positives: Int[np.ndarray, " bins"]

    @property
    def observed(self) -> Float[np.ndarray, " bins"]:
        """The share of positives in each bin."""
        return self.positives / self.counts


def reliability_bins(
    labels: Int[np.ndarray, " cases"], scores: Float[np.ndarray, " cases"], bins: int = 10
) -> ReliabilityBins:
    """Up to `bins` bins of as nearly equal counts as ties allow: equal scores share a bin.

    Raises:
      PredictionsError: as `check_cases`.
    """
    check_cases(labels, scores)
    order = np.argsort(scores, kind="stable")
    rising, positive = scores[order].astype(np.float64), labels[order].astype(np.int64)
    wanted = np.round(np.arange(1, bins) * len(rising) / bins).astype(np.int64)
    inside = wanted[(wanted > 0) & (wanted < len(rising))]
    # An edge in a run of equal scores moves to where the run begins.
    edges = np.unique(np.searchsorted(rising, rising[inside], side="left"))
    starts = np.append(0, edges[edges > 0])
    counts = np.diff(np.append(starts, len(rising)))
    return ReliabilityBins(
        counts=counts,
        mean_scores=np.add.reduceat(rising, starts) / counts,
        positives=np.add.reduceat(positive, starts),
    )


def brier_score(labels: Int[np.ndarray, " cases"], scores: Float[np.ndarray, " cases"]) -> float:
    """Mean squared difference of score and label: 0 is perfect (Brier 1950).

    Raises:
      PredictionsError: as `check_cases`.
    """
    check_cases(labels, scores)
    return float(np.mean((scores.astype(np.float64) - labels) ** 2))


def expected_calibration_error(
    labels: Int[np.ndarray, " cases"], scores: Float[np.ndarray, " cases"], bins: int = 10
) -> float:
    """Mean distance of mean score and share of positives over equal-count bins, weighted by count.

    Raises:
      PredictionsError: as `check_cases`.
    """
    table = reliability_bins(labels, scores, bins)
    return float(np.average(np.abs(table.mean_scores - table.observed), weights=table.counts))


class Estimate(NamedTuple):
    """A fitted number and its interval; both None where there is none, and `note` says why."""

    value: float | None
    interval: tuple[float, float] | None
    note: str = ""


def check_probabilities(
    labels: Int[np.ndarray, " cases"], scores: Float[np.ndarray, " cases"]
) -> None:
    """Refuses scores that cannot be read as probabilities.

    Raises:
      PredictionsError: as `check_cases`; a score below 0 or above 1.
    """
    check_cases(labels, scores)
    good = (scores >= 0.0) & (scores <= 1.0)
    if not good.all():
        first = int(np.argmin(good))
        raise PredictionsError(
            f"scores, row {first + 1}: found {scores[first]}, expected a number from 0 to 1"
        )


def logits(scores: Float[np.ndarray, " cases"]) -> Float[np.ndarray, " cases"]:
    """log(score / (1 - score)), of scores clipped to `CLIP` from either end."""
    clipped = np.clip(scores.astype(np.float64), CLIP, 1.0 - CLIP)
    return np.log(clipped) - np.log1p(-clipped)


def count_clipped(scores: Float[np.ndarray, " cases"]) -> int:
    """How many scores lie nearer to 0 or 1 than `CLIP`, and are moved by `logits`."""
    wide = scores.astype(np.float64)
    return int(np.sum((wide < CLIP) | (wide > 1.0 - CLIP)))


def log_loss(labels: Int[np.ndarray, " cases"], scores: Float[np.ndarray, " cases"]) -> float:
    """Mean -log of the probability given to the true class, of scores clipped as in `logits`.

    Raises:
      PredictionsError: as `check_probabilities`.
    """
    check_probabilities(labels, scores)
    clipped = np.clip(scores.astype(np.float64), CLIP, 1.0 - CLIP)
    return float(-np.mean(np.where(labels == 1, np.log(clipped), np.log1p(-clipped))))


def spiegelhalter_test(
    labels: Int[np.ndarray, " cases"], scores: Float[np.ndarray, " cases"]
) -> tuple[float, float] | None:
    """z and two-sided P of the hypothesis that the scores are calibrated.

    The Brier score against what it would be on average if each score were the true probability
    (Spiegelhalter 1986, Stat Med 5:421). None where that average has no variance: every score is
    0, 0.5 or 1.

    Raises:
      PredictionsError: as `check_probabilities`.
    """
    check_probabilities(labels, scores)
    expected = scores.astype(np.float64)
    lean = 1.0 - 2.0 * expected
    variance = float(np.sum(lean**2 * expected * (1.0 - expected)))
    if variance == 0.0:
        return None
    z = float(np.sum((labels - expected) * lean)) / math.sqrt(variance)
    return z, math.erfc(abs(z) / math.sqrt(2.0))


def calibration_slope(
    labels: Int[np.ndarray, " cases"],
    scores: Float[np.ndarray, " cases"],
    confidence: float = 0.95,
) -> Estimate:
    """The slope of a logistic regression of the label on the score's logit (Cox 1958).

    1 is calibrated; below 1 the scores are too extreme, above 1 too timid. Wald interval.

    Raises:
      PredictionsError: as `check_probabilities`.
    """
    check_probabilities(labels, scores)
    at = logits(scores)
    one_class = _one_class(labels)
    if one_class:
        return Estimate(None, None, f"no slope: {one_class}")
    if at.min() == at.max():
        return Estimate(None, None, "no slope: all scores are equal")
    of_positives, of_negatives = at[labels == 1], at[labels == 0]
    if of_positives.min() >= of_negatives.max() or of_positives.max() <= of_negatives.min():
        return Estimate(None, None, "no slope: the scores separate the classes completely")
    return _fit_logit(labels, np.column_stack([at, np.ones(len(at))]), confidence)


def calibration_in_the_large(
    labels: Int[np.ndarray, " cases"],
    scores: Float[np.ndarray, " cases"],
    confidence: float = 0.95,
) -> Estimate:
    """What must be added to every logit so that as many positives are expected as there are.

    The intercept of a logistic regression with the score's logit as an offset, its slope fixed at
    1 (Steyerberg 2009, Clinical Prediction Models, ch. 15). 0 is calibrated; below 0 the scores
    are too high. Wald interval.

    It is the root of a rising function and found as such: Newton's steps run away from it where
    many scores are 0 or 1.

    Raises:
      PredictionsError: as `check_probabilities`.
    """
    from scipy.optimize import brentq
    from scipy.special import expit

    check_probabilities(labels, scores)
    one_class = _one_class(labels)
    if one_class:
        return Estimate(None, None, f"no intercept: {one_class}")
    at, positives = logits(scores), int(labels.sum())
    # Beyond these less than one positive, or less than one negative, would be expected.
    reach = math.log(len(labels)) + 1.0
    bracket = (-float(at.max()) - reach, reach - float(at.min()))
    shift = float(brentq(lambda shift: float(expit(at + shift).sum()) - positives, *bracket))
    expected = expit(at + shift)
    information = float((expected * (1.0 - expected)).sum())
    half = NormalDist().inv_cdf(0.5 + confidence / 2.0) / math.sqrt(information)
    return Estimate(shift, (shift - half, shift + half))


def calibration_table(
    labels: Int[np.ndarray, " cases"], scores: Float[np.ndarray, " cases"], bins: int = 10
) -> Table:
    """The reliability curve: in each bin the mean score and the share of positives (Wilson).

    Raises:
      PredictionsError: as `check_probabilities`; fewer than one bin asked for.
    """
    check_probabilities(labels, scores)
    if bins < 1:
        raise PredictionsError(f"bins: found {bins}, expected at least 1")
    found = reliability_bins(labels, scores, bins)
    records = []
    for number, (n, mean, positives) in enumerate(
        zip(found.counts, found.mean_scores, found.positives, strict=True), start=1
    ):
        interval = wilson_interval(int(positives), int(n))
        assert interval is not None  # no bin is empty
        records.append(
            {
                "bin": number,
                "mean_score": float(mean),
                "observed": float(positives / n),
                "ci_low": interval[0],
                "ci_high": interval[1],
                "n": int(n),
                "positives": int(positives),
                "note": f"fewer than {_FEW} cases" if n < _FEW else "",
            }
        )
    return table_of(
        "calibration",
        "Reliability: the share of positives among cases of similar score, in "
        f"{_counted(len(records), 'bin')} of rising score ({_counted(len(labels), 'case')}).",
        records,
        _table_footnotes(labels, scores, bins, len(records)),
    )


def _table_footnotes(
    labels: Int[np.ndarray, " cases"], scores: Float[np.ndarray, " cases"], bins: int, made: int
) -> list[str]:
    notes = [
        "Bins hold as nearly equal numbers of cases as ties allow: equal scores share a bin. "
        "Intervals of the observed share: Wilson, 95 %, with images taken as independent."
    ]
    if scores.min() == scores.max():
        notes.append("All scores are equal: there is one bin.")
    elif made < bins:
        notes.append(f"{bins} bins were asked for; ties or few cases leave {made}.")
    one_class = _one_class(labels)
    if one_class:
        notes.append(f"Of little use here: {one_class}.")
    error = expected_calibration_error(labels, scores, bins)
    notes.append(
        f"Brier score {brier_score(labels, scores):.4f}; expected calibration error {error:.4f}, "
        "the mean distance of mean score and observed share over these bins, weighted by n."
    )
    return notes


def _fit_logit(
    labels: Int[np.ndarray, " cases"],
    design: Float[np.ndarray, "cases columns"],
    confidence: float,
) -> Estimate:
    """The first coefficient of a logistic regression, or the reason why there is none."""
    from statsmodels.discrete.discrete_model import Logit
    from statsmodels.tools.sm_exceptions import (
        ConvergenceWarning,
        HessianInversionWarning,
        PerfectSeparationError,
        PerfectSeparationWarning,
    )

    with warnings.catch_warnings():
        # Turned into the note below.
        for kind in (
            ConvergenceWarning,
            HessianInversionWarning,
            PerfectSeparationWarning,
            RuntimeWarning,
        ):
            warnings.simplefilter("error", kind)
        try:
            fit = Logit(labels, design).fit(disp=0, maxiter=100)
        except (
            ConvergenceWarning,
            HessianInversionWarning,
            PerfectSeparationError,
            PerfectSeparationWarning,
            RuntimeWarning,
            np.linalg.LinAlgError,
        ):
            return Estimate(None, None, _NOT_CONVERGED)
    low, high = fit.conf_int(alpha=1.0 - confidence)[0]
    value = float(fit.params[0])
    if not all(math.isfinite(number) for number in (value, low, high)):
        return Estimate(None, None, _NOT_CONVERGED)
    return Estimate(value, (float(low), float(high)))


def _one_class(labels: Int[np.ndarray, " cases"]) -> str:
    """The sentence for cases of a single class; empty where there are both."""
    return f"all cases are of class {labels[0]}" if labels.min() == labels.max() else ""


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
