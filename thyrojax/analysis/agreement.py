"""Two raters of the same cases: how far they agree, and how far their proportions differ."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from thyrojax.analysis.intervals import wilson_interval
from thyrojax.shapes import Int


class Agreement(NamedTuple):
    """Cohen's kappa and its interval; None where `note` says why."""

    kappa: float | None
    interval: tuple[float, float] | None
    note: str = ""


def paired_difference_interval(
    both: int, first_only: int, second_only: int, neither: int, confidence: float = 0.95
) -> tuple[float, float] | None:
    """Interval of the second proportion less the first, both of the same cases; None without any.

    The Wilson limits of the two squared and added, with their correlation (Newcombe 1998, Stat Med
    17:2635, method 10).
    """
    n = both + first_only + second_only + neither
    if n == 0:
        return None
    # Newcombe's difference is first less second; the limits change places at the end.
    one, two = both + first_only, both + second_only
    limits_one, limits_two = (
        wilson_interval(one, n, confidence),
        wilson_interval(two, n, confidence),
    )
    assert limits_one is not None
    assert limits_two is not None
    below_one, above_one = one / n - limits_one[0], limits_one[1] - one / n
    below_two, above_two = two / n - limits_two[0], limits_two[1] - two / n
    cross = float(both * neither - first_only * second_only)
    if cross > 0:
        cross = max(cross - n / 2.0, 0.0)
    product = one * (n - one) * two * (n - two)
    correlation = cross / math.sqrt(product) if product else 0.0
    down = below_one**2 - 2.0 * correlation * below_one * above_two + above_two**2
    up = below_two**2 - 2.0 * correlation * below_two * above_one + above_one**2
    difference = (first_only - second_only) / n
    low, high = difference - math.sqrt(max(down, 0.0)), difference + math.sqrt(max(up, 0.0))
    return -high, -low


def cohen_kappa(table: Int[np.ndarray, "2 2"], confidence: float = 0.95) -> Agreement:
    """Agreement of two raters beyond chance (Cohen 1960), interval by Fleiss et al. 1969.

    `table` counts cases by the first rater's call (rows) and the second's (columns). There is no
    kappa where a rater gives every case the same call.
    """
    if 0 in table.sum(axis=0) or 0 in table.sum(axis=1):
        return Agreement(None, None, "no kappa where one side gives all cases the same label")
    from statsmodels.stats.inter_rater import cohens_kappa

    found = cohens_kappa(table)
    kappa, variance = float(found.kappa), float(found.var_kappa)
    if not variance > 0.0:
        return Agreement(kappa, None, "no plain interval where agreement is complete")
    reach = NormalDist().inv_cdf(0.5 + confidence / 2.0) * math.sqrt(variance)
    return Agreement(kappa, (max(-1.0, kappa - reach), min(1.0, kappa + reach)))
