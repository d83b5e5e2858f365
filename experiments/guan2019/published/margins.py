"""Whether the margins of Table 1 can be told apart on 399 nodules.

The five margins were tried on the same nodules, so the tests should be paired; how often two
margins disagree on a nodule is not published. What can be said is how alike two margins would have
to be for their difference to be significant.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from experiments.guan2019.published.printed import N_BENIGN, N_PTC, read_printed
from thyrojax.analysis.sample_size import hanley_mcneil_variance

N = N_PTC + N_BENIGN


class Performance(NamedTuple):
    """One row of Table 1: the printed Az, and the only counts that give its percentages."""

    margin: int
    az: float
    true_positive: int
    true_negative: int

    @property
    def right(self) -> int:
        return self.true_positive + self.true_negative

    @property
    def az_error(self) -> float:
        """Standard error of the area by Hanley and McNeil 1982 (Radiology 143:29)."""
        return math.sqrt(hanley_mcneil_variance(self.az, N_PTC, N_BENIGN))

    @property
    def az_interval(self) -> tuple[float, float]:
        """95 % interval, symmetric on the logit of the area."""
        reach = 1.959964 * self.az_error / (self.az * (1.0 - self.az))
        odds = self.az / (1.0 - self.az)
        low, high = odds * math.exp(-reach), odds * math.exp(reach)
        return low / (1.0 + low), high / (1.0 + high)


class Contrast(NamedTuple):
    """What separates the best margin from another, and what would have to hold to tell them apart.

    Attributes:
      right_difference: how many more nodules the best margin calls right.
      p_unpaired: of the difference in accuracy, as if on different nodules (Pearson's chi-squared).
      most_discordant: the most nodules called right by one margin alone at which the exact McNemar
        test still gives P < 0.05; None where no number does.
      chance_discordant: how many there would be if the two margins erred independently.
      az_p_unpaired: of the difference in Az, as if on different nodules.
      least_correlation: the least correlation of the two areas at which P < 0.05.
    """

    best: int
    other: int
    right_difference: int
    p_unpaired: float
    most_discordant: int | None
    chance_discordant: float
    az_difference: float
    az_p_unpaired: float
    least_correlation: float


def count_of(percent: str, total: int) -> int:
    """The only count of `total` that is printed as this percentage.

    Raises:
      ValueError: none or several are.
    """
    fitting = [count for count in range(total + 1) if f"{100 * count / total:.1f}" == percent]
    if len(fitting) != 1:
        raise ValueError(f"{percent} % of {total}: {len(fitting)} counts")
    return fitting[0]


def performances() -> list[Performance]:
    """Table 1 as counts."""
    return [
        Performance(
            int(row["margin_px"]),
            float(row["az"]),
            count_of(row["sensitivity_pct"], N_PTC),
            count_of(row["specificity_pct"], N_BENIGN),
        )
        for row in read_printed("table1")
    ]


def contrast(best: Performance, other: Performance) -> Contrast:
    """The best margin against another one."""
    from scipy.stats import chi2_contingency

    difference = best.right - other.right
    table = [[best.right, N - best.right], [other.right, N - other.right]]
    share, other_share = best.right / N, other.right / N
    gap = best.az - other.az
    error = math.hypot(best.az_error, other.az_error)
    # Var(a - b) = Var(a) + Var(b) - 2 r SD(a) SD(b) must not exceed (gap / 1.96)^2.
    product = best.az_error * other.az_error
    least = (error**2 - (gap / 1.959964) ** 2) / (2.0 * product)
    return Contrast(
        best=best.margin,
        other=other.margin,
        right_difference=difference,
        p_unpaired=float(chi2_contingency(table, correction=False).pvalue),
        most_discordant=_most_discordant(difference),
        chance_discordant=N * (share * (1 - other_share) + other_share * (1 - share)),
        az_difference=gap,
        az_p_unpaired=math.erfc(gap / error / math.sqrt(2.0)),
        least_correlation=least,
    )


def contrasts() -> list[Contrast]:
    """50 px, the best of Table 1, against each of the others."""
    rows = performances()
    best = max(rows, key=lambda row: row.az)
    return [contrast(best, row) for row in rows if row is not best]


def _most_discordant(difference: int) -> int | None:
    from scipy.stats import binomtest

    significant = [
        only_one
        for only_one in range(difference, N + 1, 2)
        if binomtest((only_one + difference) // 2, only_one).pvalue < 0.05
    ]
    return max(significant, default=None)
