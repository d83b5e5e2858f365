"""The two-by-two table of truth and call, and the measures that its four counts give."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from thyrojax.analysis.bootstrap import ratio
from thyrojax.analysis.cutoff import call_positive
from thyrojax.analysis.predictions import check_cases
from thyrojax.shapes import Float, Int


class Confusion(NamedTuple):
    """Counts of cases by truth and call."""

    true_positive: int
    false_negative: int
    true_negative: int
    false_positive: int


def count_confusion(
    labels: Int[np.ndarray, " cases"], scores: Float[np.ndarray, " cases"], cutoff: float
) -> Confusion:
    """Counts with every score >= cutoff called positive.

    Raises:
      PredictionsError: as `check_cases`.
    """
    check_cases(labels, scores)
    called = call_positive(scores, cutoff)
    true_positive = int(np.sum(called & (labels == 1)))
    false_positive = int(np.sum(called & (labels == 0)))
    n_positive = int(np.sum(labels == 1))
    n_negative = len(labels) - n_positive
    return Confusion(
        true_positive, n_positive - true_positive, n_negative - false_positive, false_positive
    )


def rates(
    counts: dict[str, Float[np.ndarray, " chunk"]], prevalence: float | None = None
) -> dict[str, Float[np.ndarray, " chunk"]]:
    """Every measure of `MEASURES` that counts give, of many two-by-two tables at once.

    `counts` has `tp`, `fn`, `tn` and `fp`. 0 / 0 is NaN; a ratio x / 0 is infinite.
    """
    tp, fn, tn, fp = (counts[name] for name in ("tp", "fn", "tn", "fp"))
    n_positive, n_negative = tp + fn, tn + fp
    sensitivity, specificity = ratio(tp, n_positive), ratio(tn, n_negative)
    found = {
        "accuracy": ratio(tp + tn, n_positive + n_negative),
        "balanced accuracy": (sensitivity + specificity) / 2.0,
        "sensitivity": sensitivity,
        "specificity": specificity,
        "PPV": ratio(tp, tp + fp),
        "NPV": ratio(tn, tn + fn),
        "LR+": ratio(tp * n_negative, fp * n_positive),
        "LR-": ratio(fn * n_negative, tn * n_positive),
        "diagnostic odds ratio": ratio(tp * tn, fn * fp),
        "F1": ratio(2.0 * tp, 2.0 * tp + fp + fn),
        # The roots apart: the product of four counts of a large study has too many digits.
        "MCC": ratio(
            tp * tn - fp * fn,
            np.sqrt((tp + fp) * n_positive) * np.sqrt((tn + fn) * n_negative),
        ),
    }
    if prevalence is not None:
        with_disease, without = prevalence, 1.0 - prevalence
        called, left = sensitivity * with_disease, specificity * without
        found["PPV at prevalence"] = ratio(called, called + ratio(fp, n_negative) * without)
        found["NPV at prevalence"] = ratio(left, left + ratio(fn, n_positive) * with_disease)
    return found
