"""Precision against recall: what the ROC curve hides where positives are rare."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from thyrojax.analysis.sweep import called_counts, evenly_along, sweep_cases
from thyrojax.analysis.table import Table, table_of
from thyrojax.shapes import Float, Int

# Points of a table; more make the file large and no figure better.
MOST_POINTS = 5000


@dataclass(frozen=True, eq=False)
class PrecisionRecallCurve:
    """One point for calling all scores >= its cutoff; cutoffs fall, recall rises to 1.

    There is no point where nothing is called: it has no precision.
    """

    recall: Float[np.ndarray, " points"]
    precision: Float[np.ndarray, " points"]
    cutoffs: Float[np.ndarray, " points"]


def precision_recall_curve(
    labels: Int[np.ndarray, " cases"], scores: Float[np.ndarray, " cases"]
) -> PrecisionRecallCurve:
    """Sensitivity (recall) and positive predictive value (precision) at each distinct score.

    Raises:
      PredictionsError: as `check_cases`, both classes wanted.
    """
    cases = sweep_cases(labels, scores)
    true, false = called_counts(cases, np.ones(len(labels)))
    return PrecisionRecallCurve(
        recall=true[1:] / true[-1], precision=true[1:] / (true + false)[1:], cutoffs=cases.cutoffs
    )


def average_precision(
    labels: Int[np.ndarray, " cases"], scores: Float[np.ndarray, " cases"]
) -> float:
    """The mean precision over the positives, each taken at its own score.

    A sum of steps, as scikit-learn's; the trapezoid area would be too large (Davis and Goadrich
    2006, ICML). Chance gives the share of positives. `auc_table` has its interval.

    Raises:
      PredictionsError: as `check_cases`, both classes wanted.
    """
    cases = sweep_cases(labels, scores)
    return mean_precision(*called_counts(cases, np.ones(len(labels))))


def mean_precision(
    true_positives: Float[np.ndarray, " points"], false_positives: Float[np.ndarray, " points"]
) -> float:
    """The average precision of rising counts that start with 0; the last count must be positive."""
    called = true_positives + false_positives
    precision = np.divide(true_positives, called, out=np.zeros_like(called), where=called > 0.0)
    return float(np.diff(true_positives) @ precision[1:]) / float(true_positives[-1])


def precision_recall_table(
    labels: Int[np.ndarray, " cases"], scores: Float[np.ndarray, " cases"]
) -> Table:
    """The curve as a table: cutoff, recall, precision; thinned where it has over 5,000 points.

    Raises:
      PredictionsError: as `check_cases`, both classes wanted.
    """
    curve = precision_recall_curve(labels, scores)
    # The way along the curve, up and down: kept points are then evenly spaced to the eye.
    steps = np.abs(np.diff(curve.recall)) + np.abs(np.diff(curve.precision))
    kept = evenly_along(np.append(0.0, np.cumsum(steps)), MOST_POINTS)
    n_positive = int(labels.sum())
    footnotes = [
        "A case is called positive when its score >= cutoff. Recall is sensitivity, precision the "
        "positive predictive value in these cases.",
        f"Average precision {average_precision(labels, scores):.3f}; scores without any "
        f"information would have {n_positive / len(labels):.3f}, the share of positive cases.",
    ]
    if len(kept) < len(curve.cutoffs):
        footnotes.append(
            f"The curve has {len(curve.cutoffs):,} points; the table has {len(kept):,} of them, "
            "evenly spaced along it, both ends included."
        )
    columns = (curve.cutoffs[kept], curve.recall[kept], curve.precision[kept])
    return table_of(
        "precision_recall",
        f"Precision and recall of {len(labels):,} cases, {n_positive:,} of them positive.",
        [
            {"cutoff": cutoff, "recall": recall, "precision": precision}
            for cutoff, recall, precision in zip(*(c.tolist() for c in columns), strict=True)
        ],
        footnotes,
    )
