"""Intervals of what a two-by-two table gives, from its counts: proportions and their ratios.

They take the cases as independent; `bootstrap.py` has intervals for several images per patient.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Literal, NamedTuple

import numpy as np

from thyrojax.shapes import Float

Proportions = Literal["wilson", "exact"]
METHODS: dict[Proportions, str] = {"wilson": "Wilson", "exact": "Clopper-Pearson, exact"}


class Interval(NamedTuple):
    """Both limits, and the method in words; a limit of a ratio may be infinite."""

    low: float
    high: float
    method: str


def wilson_interval(
    successes: int, total: int, confidence: float = 0.95
) -> tuple[float, float] | None:
    """Wilson's score interval of a proportion (Wilson 1927, JASA 22:209); None for 0 of 0."""
    return proportion_interval(successes, total, "wilson", confidence)


def exact_interval(
    successes: int, total: int, confidence: float = 0.95
) -> tuple[float, float] | None:
    """The exact interval of Clopper and Pearson 1934 (Biometrika 26:404); None for 0 of 0."""
    return proportion_interval(successes, total, "exact", confidence)


def proportion_interval(
    successes: int, total: int, method: Proportions = "wilson", confidence: float = 0.95
) -> tuple[float, float] | None:
    """An interval of successes / total, always inside [0, 1]; None for 0 of 0."""
    if total == 0:
        return None
    from scipy.stats import binomtest

    interval = binomtest(successes, total).proportion_ci(confidence, method=method)
    return float(interval.low), float(interval.high)


def mean_interval(
    successes: int,
    total: int,
    other_successes: int,
    other_total: int,
    method: Proportions = "wilson",
    confidence: float = 0.95,
) -> Interval | None:
    """The mean of two independent proportions, such as the balanced accuracy; None for 0 of 0.

    The distances from each proportion to its own limits are squared and added (Newcombe 1998,
    Statistics in Medicine 17:873, method 10 where the limits are Wilson's).
    """
    one = proportion_interval(successes, total, method, confidence)
    two = proportion_interval(other_successes, other_total, method, confidence)
    if one is None or two is None:
        return None
    first, second = successes / total, other_successes / other_total
    middle = (first + second) / 2.0
    below = math.hypot(first - one[0], second - two[0]) / 2.0
    above = math.hypot(one[1] - first, two[1] - second) / 2.0
    return Interval(
        max(0.0, middle - below),
        min(1.0, middle + above),
        f"limits of two proportions ({METHODS[method]}), squared and added",
    )


def ratio_interval(
    successes: int, total: int, other_successes: int, other_total: int, confidence: float = 0.95
) -> Interval | None:
    """(successes / total) / (other_successes / other_total), such as a likelihood ratio.

    Symmetric on the log scale (Simel et al. 1991, J Clin Epidemiol 44:763). Where one of the
    successes is 0, or nothing varies, 0.5 is added to each cell for the log scale, and the limit on
    the side of a ratio of 0 or of infinity is that value itself. None for 0 / 0 or an empty group.
    """
    if total == 0 or other_total == 0 or successes == other_successes == 0:
        return None
    x, n, y, m = map(float, (successes, total, other_successes, other_total))
    method = "log"
    if 0 in (successes, other_successes) or (x == n and y == m):
        x, n, y, m = x + 0.5, n + 1.0, y + 0.5, m + 1.0
        method = "log, 0.5 added to each cell"
    low, high = _log_limits(
        math.log(x / n) - math.log(y / m), 1 / x - 1 / n + 1 / y - 1 / m, confidence
    )
    return Interval(
        0.0 if successes == 0 else low, math.inf if other_successes == 0 else high, method
    )


def odds_ratio_interval(
    a: int, b: int, c: int, d: int, confidence: float = 0.95
) -> Interval | None:
    """a d / (b c), such as the diagnostic odds ratio TP TN / (FN FP), on the log scale.

    Woolf 1955 (Ann Hum Genet 19:251). Where a cell is 0, 0.5 is added to each for the log scale,
    and the limit on the side of an odds ratio of 0 or of infinity is that value itself. None for
    0 / 0.
    """
    if a * d == 0 and b * c == 0:
        return None
    empty = 0 in (a, b, c, d)
    cells = [cell + 0.5 if empty else float(cell) for cell in (a, b, c, d)]
    centre = math.log(cells[0]) + math.log(cells[3]) - math.log(cells[1]) - math.log(cells[2])
    low, high = _log_limits(centre, sum(1.0 / cell for cell in cells), confidence)
    return Interval(
        0.0 if a * d == 0 else low,
        math.inf if b * c == 0 else high,
        "log, 0.5 added to each cell" if empty else "log",
    )


def predictive_interval(ratio: Interval | None, prevalence: float) -> Interval | None:
    """PPV at a prevalence from LR+; NPV from 1 / LR- and the prevalence of being without disease.

    The odds after the test are the odds before it times the likelihood ratio, and the prevalence is
    taken as known; so these limits are the logit limits of Mercaldo et al. 2007 (Statistics in
    Medicine 26:2170, section 2.2).
    """
    if ratio is None:
        return None
    low, high = (probability_after(limit, prevalence) for limit in ratio[:2])
    return Interval(low, high, ratio.method.replace("log", "logit"))


def probability_after(ratio: float, prevalence: float) -> float:
    """Bayes: the probability after a test result with this likelihood ratio (infinite gives 1)."""
    if math.isinf(ratio):
        return 1.0
    odds = ratio * prevalence / (1.0 - prevalence)
    return odds / (1.0 + odds)


def inverted(ratio: Interval | None) -> Interval | None:
    """The interval of 1 / ratio."""
    if ratio is None:
        return None
    low, high = (math.inf if limit == 0.0 else 1.0 / limit for limit in (ratio.high, ratio.low))
    return Interval(low, high, ratio.method)


def sample_mean_interval(
    values: Float[np.ndarray, " cases"], confidence: float = 0.95
) -> tuple[float, float] | None:
    """The mean of values from 0 to 1 by the normal distribution; None where they do not vary."""
    if len(values) < 2 or values.min() == values.max():
        return None
    mean, error = float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values))
    reach = NormalDist().inv_cdf(0.5 + confidence / 2.0) * error
    return max(0.0, mean - reach), min(1.0, mean + reach)


def _log_limits(centre: float, variance: float, confidence: float) -> tuple[float, float]:
    reach = NormalDist().inv_cdf(0.5 + confidence / 2.0) * math.sqrt(variance)
    return math.exp(centre - reach), math.exp(centre + reach)
