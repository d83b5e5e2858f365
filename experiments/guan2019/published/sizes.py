"""How many nodules lie behind the results by size, which are printed as percentages only.

If the three groups add up to the test group, with its 195 and 166 right calls, few counts give the
printed percentages: one set for benign nodules, seven for carcinomas.
"""

from __future__ import annotations

from typing import NamedTuple

from experiments.guan2019.published.printed import N_BENIGN, N_PTC, TRUE_OF, read_printed
from thyrojax.analysis.intervals import wilson_interval

Group = tuple[int, int]  # right, of


class SizeRow(NamedTuple):
    """One percentage by size, and the interval of the largest and of the smallest group."""

    group: str
    quantity: str
    printed: str
    counts: tuple[Group, ...]  # one for each solution, rising in n

    def interval(self, place: int) -> tuple[float, float]:
        """Wilson's 95 % interval of one solution, as percentages."""
        low, high = wilson_interval(*self.counts[place]) or (0.0, 1.0)
        return 100 * low, 100 * high


def solutions(of_class: str) -> list[tuple[Group, Group, Group]]:
    """(right, of) of the three size groups: every set that gives the printed percentages."""
    total, right = {"ptc": N_PTC, "benign": N_BENIGN}[of_class], TRUE_OF[of_class]
    column = {"ptc": "sensitivity_pct", "benign": "specificity_pct"}[of_class]
    small, middle, large = (_groups(row[column], total) for row in read_printed("size_groups"))
    of_large = set(large)
    found = []
    for first in small:
        for second in middle:
            third = (right - first[0] - second[0], total - first[1] - second[1])
            if third in of_large:
                found.append((first, second, third))
    return found


def size_rows() -> list[SizeRow]:
    """Sensitivity and specificity of each size group with the counts that they may stand for."""
    rows = []
    for of_class, quantity in (("ptc", "sensitivity"), ("benign", "specificity")):
        found = solutions(of_class)
        for place, printed in enumerate(read_printed("size_groups")):
            counts = sorted({solution[place] for solution in found}, key=lambda group: group[1])
            percent = printed[f"{quantity}_pct"]
            rows.append(SizeRow(printed["group"], quantity, percent, tuple(counts)))
    return rows


def _groups(percent: str, total: int) -> list[Group]:
    """Every (right, of) up to a total that is printed as this percentage."""
    return [
        (right, n)
        for n in range(1, total + 1)
        for right in range(n + 1)
        if f"{100 * right / n:.1f}" == percent
    ]
