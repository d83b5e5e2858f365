"""Do scores mean what they say: of the cases scored 0.7, are 70 % positive?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from thyrojax.analysis.predictions import check_cases
from thyrojax.shapes import Float, Int


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
