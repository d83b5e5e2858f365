"""How wide the intervals would be with more cases, and how many cases a given width needs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np

from thyrojax.analysis.confusion import count_confusion
from thyrojax.analysis.predictions import check_cases
from thyrojax.analysis.roc import placements
from thyrojax.analysis.table import Table, table_of
from thyrojax.shapes import Float, Int

Interval = tuple[float, float]

MULTIPLES = (1, 2, 4, 8)
HALF_WIDTHS = (0.1, 0.05, 0.03, 0.02)
# Below it the 95 % Wilson interval of an observed 0.9 is 0.27 wide or wider.
FEWEST_OF_A_CLASS = 20


def too_small(n_positive: int, n_negative: int) -> str:
    """Why a group says next to nothing, as a sentence; "" where it is large enough.

    The criterion: fewer than 20 cases of either class. An observed sensitivity (or specificity) of
    0.9 then has a 95 % interval 0.27 wide or wider: from a poor test to a nearly perfect one.
    """
    parts = []
    for n, cases, measure in (
        (n_positive, "positive", "sensitivity"),
        (n_negative, "negative", "specificity"),
    ):
        if n == 0:
            parts.append(f"no {cases} case, hence no {measure}")
        elif n < FEWEST_OF_A_CLASS:
            low, high = wilson_limits(0.9, n)
            parts.append(
                f"{n} {cases} {'case' if n == 1 else 'cases'}, where an observed {measure} of 0.9 "
                f"would have a 95 % interval from {low:.2f} to {high:.2f}"
            )
    if not parts:
        return ""
    return (
        f"Too small to say much: {'; '.join(parts)} (criterion: fewer than "
        f"{FEWEST_OF_A_CLASS} cases of a class)."
    )


def wilson_limits(share: float, n: int, confidence: float = 0.95) -> Interval:
    """Wilson's interval of an observed share of n cases, also where share * n is no whole number.

    Wilson 1927, JASA 22:209.
    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2.0)
    shrink = 1.0 + z * z / n
    centre = (share + z * z / (2.0 * n)) / shrink
    half = z / shrink * math.sqrt(share * (1.0 - share) / n + z * z / (4.0 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def hanley_mcneil_variance(area: float, n_positive: int, n_negative: int) -> float:
    """The variance that an AUC of this size has, by the exponential approximation.

    Hanley and McNeil 1982, Radiology 143:29: from the area and the class sizes alone, so that it
    serves for planning. It takes both classes' scores to be exponentially distributed.
    """
    one = area / (2.0 - area)
    two = 2.0 * area**2 / (1.0 + area)
    return (
        area * (1.0 - area)
        + (n_positive - 1.0) * (one - area**2)
        + (n_negative - 1.0) * (two - area**2)
    ) / (n_positive * n_negative)


def smallest_n(interval_at: Callable[[int], Interval], half_width: float) -> int:
    """The smallest n at which an interval that narrows with n is at most 2 * half_width wide."""

    def wide(n: int) -> bool:
        low, high = interval_at(n)
        # Rounding must not ask for a case more.
        return high - low > 2.0 * half_width * (1.0 + 1e-12)

    high = 1
    while wide(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if wide(middle) else (low, middle)
    return high


def sample_size_table(
    labels: Int[np.ndarray, " cases"],
    scores: Float[np.ndarray, " cases"],
    cutoff: float,
    multiples: Sequence[int] = MULTIPLES,
    half_widths: Sequence[float] = HALF_WIDTHS,
) -> Table:
    """95 % intervals expected at n, 2n, 4n, 8n, and the n that given half widths need.

    Every row takes the observed value as the true one, and the observed mix of classes. Columns:
    measure, question, n, n_positive, n_negative, value, ci_low, ci_high, half_width, method, note.

    Raises:
      PredictionsError: as `check_cases`.
    """
    check_cases(labels, scores)
    counts = count_confusion(labels, scores, cutoff)
    n_positive = counts.true_positive + counts.false_negative
    n_negative = counts.true_negative + counts.false_positive
    records: list[dict[str, Any]] = []

    def add(measure: str, value: float, method: str, interval_at: _IntervalAt, note: str) -> None:
        for question, positive, negative in _sizes(
            n_positive, n_negative, interval_at, multiples, half_widths
        ):
            low, high = interval_at(positive, negative)
            records.append(
                {
                    "measure": measure,
                    "question": question,
                    "n": positive + negative,
                    "n_positive": positive,
                    "n_negative": negative,
                    "value": value,
                    "ci_low": low,
                    "ci_high": high,
                    "half_width": (high - low) / 2.0,
                    "method": method,
                    "note": note,
                }
            )

    def edge(value: float) -> str:
        if 0.0 < value < 1.0:
            return ""
        return f"takes {value:g} as the true value: more cases may bring the first exception"

    if n_positive:
        sensitivity = counts.true_positive / n_positive
        add(
            "sensitivity",
            sensitivity,
            "Wilson",
            lambda positive, negative: wilson_limits(sensitivity, positive),
            edge(sensitivity),
        )
    if n_negative:
        specificity = counts.true_negative / n_negative
        add(
            "specificity",
            specificity,
            "Wilson",
            lambda positive, negative: wilson_limits(specificity, negative),
            edge(specificity),
        )
    if n_positive and n_negative:
        for method, area, interval_at in _auc_intervals(labels, scores):
            add("AUC", area, method, interval_at, edge(area))
    return table_of(
        "sample_size",
        f"Expected 95 % intervals, from what {len(labels):,} cases have shown.",
        records,
        _footnotes(n_positive, n_negative),
    )


_IntervalAt = Callable[[int, int], Interval]


def _sizes(
    n_positive: int,
    n_negative: int,
    interval_at: _IntervalAt,
    multiples: Sequence[int],
    half_widths: Sequence[float],
) -> list[tuple[str, int, int]]:
    """Question, positives and negatives of each row."""

    def mixed(n: int) -> tuple[int, int]:
        """n cases of the larger class, and the other in proportion, rounded up."""
        if n_positive >= n_negative:
            return n, -(-n * n_negative // n_positive)
        return -(-n * n_positive // n_negative), n

    rows = [(f"interval at {k} n", k * n_positive, k * n_negative) for k in multiples]
    for half_width in half_widths:
        needed = smallest_n(lambda n: interval_at(*mixed(n)), half_width)
        rows.append((f"n for a half width of {half_width:g}", *mixed(needed)))
    return rows


def _auc_intervals(
    labels: Int[np.ndarray, " cases"], scores: Float[np.ndarray, " cases"]
) -> list[tuple[str, float, _IntervalAt]]:
    """Method, area and interval by class sizes, for each way to expect the AUC's interval."""
    of_positives, of_negatives = placements(labels, scores)
    area = float(of_positives.mean())
    if area in (0.0, 1.0):

        def exact(positive: int, negative: int) -> Interval:
            bound = 0.025 ** (1.0 / min(positive, negative))
            return (bound, 1.0) if area == 1.0 else (0.0, 1.0 - bound)

        return [("exact, from disjoint pairs", area, exact)]

    def hanley_mcneil(positive: int, negative: int) -> Interval:
        return _logit_interval(area, hanley_mcneil_variance(area, positive, negative))

    found: list[tuple[str, float, _IntervalAt]] = [("Hanley-McNeil, logit", area, hanley_mcneil)]
    if min(len(of_positives), len(of_negatives)) > 1:
        one, two = float(of_positives.var(ddof=1)), float(of_negatives.var(ddof=1))
        if one + two > 0.0:

            def delong(positive: int, negative: int) -> Interval:
                return _logit_interval(area, one / positive + two / negative)

            found.append(("DeLong scaled, logit", area, delong))
    return found


def _logit_interval(area: float, variance: float) -> Interval:
    reach = NormalDist().inv_cdf(0.975) * math.sqrt(variance) / (area * (1.0 - area))
    centre = math.log(area / (1.0 - area))
    # tanh neither overflows nor loses the ends.
    low, high = (0.5 + 0.5 * math.tanh((centre + side * reach) / 2.0) for side in (-1.0, 1.0))
    return low, high


def _footnotes(n_positive: int, n_negative: int) -> list[str]:
    footnotes = [
        "Each row takes the observed value as the true one and keeps the observed mix of classes; "
        "a study of that size may well observe another value, and then has another interval.",
        "Images are taken as independent: with several images per patient more are needed.",
        "Wilson 1927; Hanley and McNeil 1982 (from the area alone); DeLong scaled: the observed "
        "variance components of DeLong et al. 1988, divided by the new class sizes.",
    ]
    if not (n_positive and n_negative):
        footnotes.append("No row for what needs both classes: the cases are of one class.")
    small = too_small(n_positive, n_negative)
    return [*footnotes, small] if small else footnotes
