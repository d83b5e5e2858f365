"""The part of the ROC area that a use can live with: high specificity, or high sensitivity."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from thyrojax.analysis.roc import roc_curve
from thyrojax.errors import PredictionsError
from thyrojax.shapes import Float, Int

Axis = Literal["fpr", "tpr"]


class PartialAuc(NamedTuple):
    """A partial area, as it is and rescaled.

    `area` is at most the range's width. `standardised` is 1 for a perfect score, 0.5 for one that
    ranks by chance and below 0.5 for one that does worse in this range.
    """

    area: float
    standardised: float


def partial_auc(
    labels: Int[np.ndarray, " cases"],
    scores: Float[np.ndarray, " cases"],
    bounds: tuple[float, float] = (0.0, 0.1),
    axis: Axis = "fpr",
) -> PartialAuc:
    """The area under the curve over a range of one rate, standardised after McClish 1989.

    With `axis="fpr"`, the area below the curve where the false positive rate is within `bounds`;
    with `"tpr"`, the area to the right of the curve where the true positive rate is (Jiang et al.
    1996, Radiology 201:745). Standardised: (1 + (area - chance) / (width - chance)) / 2, with
    chance the area that the diagonal has there (Medical Decision Making 9:190).

    Raises:
      PredictionsError: as `check_cases`, both classes wanted; no range within 0..1.
    """
    check_bounds(bounds, axis)
    curve = roc_curve(labels, scores)
    area = area_within(curve.false_positive_rate, curve.true_positive_rate, bounds, axis)
    return PartialAuc(area, standardised(area, bounds, axis))


def check_bounds(bounds: tuple[float, float], axis: Axis) -> None:
    """Refuses a range that is none.

    Raises:
      PredictionsError: not 0 <= low < high <= 1.
    """
    low, high = bounds
    if not 0.0 <= low < high <= 1.0:
        raise PredictionsError(
            f"{axis} range: found {low} to {high}, expected two rising numbers from 0 to 1"
        )


def area_within(
    false_positive_rate: Float[np.ndarray, " points"],
    true_positive_rate: Float[np.ndarray, " points"],
    bounds: tuple[float, float],
    axis: Axis,
) -> float:
    """The area of a curve (both rates rising) within `bounds` of one rate, as `partial_auc`."""
    low, high = bounds
    x, y = false_positive_rate, true_positive_rate
    if axis == "tpr":
        # Classes swapped and scores turned round: the same curve, seen from the corner (1, 1).
        x, y = 1.0 - true_positive_rate[::-1], 1.0 - false_positive_rate[::-1]
        low, high = 1.0 - high, 1.0 - low
    area = _area_up_to(x, y, high)
    if low > 0.0:
        area -= _area_up_to(x, y, low)
    # A sum of many shares may pass what is possible by its last digit.
    return min(max(area, 0.0), high - low)


def standardised(area: float, bounds: tuple[float, float], axis: Axis) -> float:
    """McClish's rescaling of a partial area: 0.5 by chance, 1 for a perfect score."""
    low, high = bounds
    width = high - low
    below_diagonal = (high**2 - low**2) / 2.0
    chance = below_diagonal if axis == "fpr" else width - below_diagonal
    return (1.0 + (area - chance) / (width - chance)) / 2.0


def heights(
    x: Float[np.ndarray, " points"],
    y: Float[np.ndarray, " points"],
    wanted: Float[np.ndarray, " wanted"],
) -> Float[np.ndarray, " wanted"]:
    """How high a curve with rising x and y is at some x: the upper end where it stands upright."""
    left = np.searchsorted(x, wanted, side="right") - 1
    right = np.minimum(left + 1, len(x) - 1)
    run = x[right] - x[left]
    share = np.divide(wanted - x[left], run, out=np.zeros_like(wanted), where=run > 0.0)
    return y[left] + share * (y[right] - y[left])


def _area_up_to(
    x: Float[np.ndarray, " points"], y: Float[np.ndarray, " points"], end: float
) -> float:
    """The trapezoid area under a curve that starts at x = 0, up to x = end."""
    whole = int(np.searchsorted(x, end, side="right"))
    area = float(np.diff(x[:whole]) @ (y[1:whole] + y[: whole - 1])) / 2.0
    if whole < len(x):
        last = whole - 1
        run = end - float(x[last])
        slope = float(y[whole] - y[last]) / float(x[whole] - x[last])
        area += run * (float(y[last]) + slope * run / 2.0)
    return area
