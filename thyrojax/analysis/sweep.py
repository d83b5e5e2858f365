"""A cutoff lowered through all scores: what is called on the way, also in resamples of the cases.

The cases are sorted once. A resample is a weight per case (`bootstrap.py`), and its curve then
takes time in proportion to the cases.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from thyrojax.analysis.predictions import check_cases
from thyrojax.shapes import Bool, Float, Int


class Sweep(NamedTuple):
    """Cases by falling score.

    Attributes:
      order: the cases' places in the original arrays.
      positive: the truth of each, in that order.
      last_of_tie: the place of the last case of each distinct score.
      cutoffs: the distinct scores, falling.
    """

    order: Int[np.ndarray, " cases"]
    positive: Bool[np.ndarray, " cases"]
    last_of_tie: Int[np.ndarray, " cutoffs"]
    cutoffs: Float[np.ndarray, " cutoffs"]


def sweep_cases(labels: Int[np.ndarray, " cases"], scores: Float[np.ndarray, " cases"]) -> Sweep:
    """Sorts the cases by falling score.

    Raises:
      PredictionsError: as `check_cases`, both classes wanted.
    """
    check_cases(labels, scores, both_classes=True)
    order = np.argsort(-scores, kind="stable")
    falling = scores[order].astype(np.float64)
    last_of_tie = np.append(np.flatnonzero(np.diff(falling)), len(falling) - 1)
    return Sweep(order, labels[order] == 1, last_of_tie, falling[last_of_tie])


def called_counts(
    sweep: Sweep, weights: Float[np.ndarray, " cases"]
) -> tuple[Float[np.ndarray, " points"], Float[np.ndarray, " points"]]:
    """True and false positives for each cutoff, after a first point where nothing is called.

    Whole numbers where the weights are, exactly. The weights are in the cases' original order.
    """
    falling = weights.take(sweep.order)
    true, called = (
        np.append(0.0, np.cumsum(part).take(sweep.last_of_tie))
        for part in (falling * sweep.positive, falling)
    )
    return true, called - true


def evenly_along(position: Float[np.ndarray, " points"], most: int) -> Int[np.ndarray, " kept"]:
    """At most `most` points, spread evenly over a position that rises; first and last are kept."""
    if len(position) <= most:
        return np.arange(len(position))
    wanted = np.linspace(position[0], position[-1], most)
    return np.unique(np.searchsorted(position, wanted).clip(0, len(position) - 1))


def corners(
    true_positives: Float[np.ndarray, " points"], false_positives: Float[np.ndarray, " points"]
) -> Int[np.ndarray, " corners"]:
    """Where the ROC curve bends, and both its ends; between corners it is a straight line."""
    up, right = np.diff(true_positives), np.diff(false_positives)
    # Steps are whole numbers: two of them lie on one line when their cross product is exactly 0.
    bends = up[:-1] * right[1:] != up[1:] * right[:-1]
    return np.concatenate([[0], np.flatnonzero(bends) + 1, [len(true_positives) - 1]])
