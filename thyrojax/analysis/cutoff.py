"""Where a score becomes a call. A case is called positive when its score >= cutoff.

A cutoff is chosen on the validation part and applied to the part that is reported.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from thyrojax.analysis.predictions import check_cases
from thyrojax.shapes import Bool, Float, Int

HALF = 0.5


class Cutoff(NamedTuple):
    """A cutoff, and in words where it came from."""

    value: float
    source: str


def call_positive(scores: Float[np.ndarray, " cases"], cutoff: float) -> Bool[np.ndarray, " cases"]:
    """Which cases are called positive: score >= cutoff, compared in float64.

    Float32 scores would round the cutoff to float32 first, and may then call the score below it.
    """
    return scores.astype(np.float64) >= cutoff


def youden_cutoff(labels: Int[np.ndarray, " cases"], scores: Float[np.ndarray, " cases"]) -> float:
    """The cutoff with the largest sensitivity + specificity - 1 (Youden 1950, Cancer 3:32).

    Midway between the lowest score called and the next one below, so that unseen cases near the
    edge may fall on either side of it. Where several cutoffs share the largest index, the lowest
    of them, which misses the fewest positives. Where no cutoff has an index above 0, the lowest
    score (all are called).

    Raises:
      PredictionsError: as `check_cases`, both classes wanted.
    """
    check_cases(labels, scores, both_classes=True)
    rising, group = np.unique(scores.astype(np.float64), return_inverse=True)
    positives = np.bincount(group, weights=labels, minlength=len(rising)).astype(np.int64)
    negatives = np.bincount(group, minlength=len(rising)) - positives
    n_positive, n_negative = int(positives.sum()), int(negatives.sum())
    called_positives = np.cumsum(positives[::-1])[::-1]
    called_negatives = np.cumsum(negatives[::-1])[::-1]
    # The index times both class sizes: whole numbers, so that ties are exact.
    index = called_positives * n_negative - called_negatives * n_positive
    best = int(np.argmax(index))
    if best == 0:
        return float(rising[0])
    middle = float((rising[best - 1] + rising[best]) / 2.0)
    # Between neighbouring floats the middle may round down onto the score that is not called.
    return middle if middle > rising[best - 1] else float(rising[best])


def choose_cutoff(
    labels: Int[np.ndarray, " cases"],
    scores: Float[np.ndarray, " cases"],
    part: str = "validation",
) -> Cutoff:
    """Youden's cutoff on the cases of a part; 0.5 where that part has no case or one class only.

    Raises:
      PredictionsError: a label other than 0 or 1, or a score that is not finite.
    """
    if len(labels) == 0:
        return Cutoff(HALF, f"0.5, as the {part} part has no case")
    check_cases(labels, scores)
    if labels.min() == labels.max():
        return Cutoff(HALF, f"0.5, as the {part} part has one class only")
    return Cutoff(youden_cutoff(labels, scores), f"Youden on the {part} part (n = {len(labels)})")
