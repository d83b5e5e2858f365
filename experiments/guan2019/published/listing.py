"""Printed against computed: every figure of the paper's tables that its own counts can give."""

from __future__ import annotations

from typing import Any, NamedTuple

from experiments.guan2019.published.margins import N, performances
from experiments.guan2019.published.printed import (
    CLASSES,
    FEATURES,
    N_BENIGN,
    N_PTC,
    READERS,
    Row,
    expand,
    find_misprints,
    read_printed,
)
from thyrojax.analysis.exposures import Exposure, default_exposures
from thyrojax.analysis.features import feature_table
from thyrojax.analysis.intervals import wilson_interval
from thyrojax.analysis.odds_ratios import odds_ratio_table

_CALLED = 0.5  # an expanded nodule's score is 0 or 1
_LABEL_OF = {"ptc": 1, "benign": 0}


class Line(NamedTuple):
    """One printed figure beside ours, as text at the printed precision.

    `beside` is what the paper does not give: an interval, an exact P, or why a figure is ours
    alone. `known` says that a difference is the misprint.
    """

    table: str
    item: str
    quantity: str
    printed: str
    computed: str
    beside: str = ""
    known: bool = False

    @property
    def agrees(self) -> bool:
        return self.printed == self.computed


def all_lines() -> list[Line]:
    """Table 1, the Discussion's readers, Table 2 and Table 3, in the paper's order."""
    return [*table1_lines(), *reader_lines(), *table2_lines(), *table3_lines()]


def table1_lines() -> list[Line]:
    """Percentages from counts, with Wilson's intervals. Az cannot be had from counts."""
    lines = []
    for row, found in zip(read_printed("table1"), performances(), strict=True):
        item = f"margin {row['margin_px']} px"
        for quantity, right, total in (
            ("accuracy %", found.right, N),
            ("sensitivity %", found.true_positive, N_PTC),
            ("specificity %", found.true_negative, N_BENIGN),
        ):
            printed = row[f"{quantity.partition(' ')[0]}_pct"]
            lines.append(_share("Table 1", item, quantity, printed, right, total))
    return lines


def reader_lines() -> list[Line]:
    """The radiologists of the Discussion."""
    printed = {
        "ptc": ("sensitivity %", "84.7", N_PTC),
        "benign": ("specificity %", "97.9", N_BENIGN),
    }
    return [
        _share("Discussion", "radiologists", quantity, text, READERS[of_class], total)
        for of_class, (quantity, text, total) in printed.items()
    ]


def table2_lines() -> list[Line]:
    """Counts, percentages of right and wrong, and P by category; the exact P beside."""
    misprints = {row[:3]: row.corrected for row in find_misprints()}
    lines = []
    for row in read_printed("table2"):
        for of_class in CLASSES:
            item = f"{row['feature']}, {row['category']}, {of_class}"
            total = int(row[f"{of_class}_n"])
            counts = tuple(int(row[f"{of_class}_{name}"]) for name in ("true", "false"))
            corrected = misprints.get((row["feature"], row["category"], of_class))
            known = corrected is not None
            beside = "what the other rows leave" if known else ""
            for name, printed, count in zip(
                ("true", "false"), counts, corrected or counts, strict=True
            ):
                of_count = (name, str(printed), str(count))
                lines.append(Line("Table 2", item, *of_count, beside, known))
                percent = row[f"{of_class}_{name}_pct"]
                if percent:
                    of_share = (f"{name} %", percent, f"{100 * count / total:.1f}")
                    lines.append(Line("Table 2", item, *of_share, beside, known))
    for feature in FEATURES:
        lines += _feature_lines(feature)
    return lines


def table3_lines() -> list[Line]:
    """Univariate odds ratios with intervals and P; why the multivariate ones cannot be had."""
    exposures = {exposure.name: exposure for exposure in default_exposures()}
    lines = []
    for row in read_printed("table3"):
        found = univariate(exposures[row["variable"]])
        if found["p"] is None:
            lines.append(_separated_line(row, found))
            continue
        profile = f"profile {found['profile_low']:.3f} to {found['profile_high']:.3f}"
        for quantity, printed, key in (
            ("OR", "or_univariate", "odds_ratio"),
            ("CI low", "ci_low", "ci_low"),
            ("CI high", "ci_high", "ci_high"),
            ("P", "p_univariate", "p"),
        ):
            beside = profile if quantity == "OR" else ""
            text = f"{found[key]:.3f}"
            lines.append(Line("Table 3", row["variable"], quantity, row[printed], text, beside))
    return lines


def univariate(exposure: Exposure) -> dict[str, Any]:
    """The univariate row of the odds ratio table of one exposure over the expanded nodules."""
    table = odds_ratio_table(expand(exposure.feature), _CALLED, (exposure,))
    return next(row for row in table.records() if row["model"] == "univariate")


def _separated_line(row: Row, found: dict[str, Any]) -> Line:
    """An exposure without any error: odds of 0, and no interval or P is to be had."""
    beside = (
        f"{found['note']}; Firth's {found['firth_odds_ratio']:.3f} ({found['firth_low']:.3f} to "
        f"{found['firth_high']:.3f}), P {found['firth_p']:.3f}; the printed P of "
        f"{row['p_univariate']} is of an iteration that was stopped"
    )
    computed = f"{found['odds_ratio']:g}"
    return Line("Table 3", row["variable"], "OR", row["or_univariate"], computed, beside)


def _feature_lines(feature: str) -> list[Line]:
    printed = dict.fromkeys(CLASSES, "")
    for row in read_printed("table2"):
        if row["feature"] == feature:
            for of_class in CLASSES:
                printed[of_class] = printed[of_class] or row[f"{of_class}_p"]
    rows: list[dict[str, Any]] = feature_table(expand(feature), _CALLED, [feature]).records()
    lines = []
    for of_class in CLASSES:
        of_label = [found for found in rows if found["label"] == _LABEL_OF[of_class] and found["n"]]
        least = min(found["expected_min"] for found in of_label)
        beside = f"exact {of_label[0]['p_exact']:.3f}; least expected count {least:.2f}"
        computed = f"{of_label[0]['p_chi2']:.3f}"
        item = f"{feature}, {of_class}"
        lines.append(Line("Table 2", item, "P", printed[of_class], computed, beside))
    return lines


def _share(table: str, item: str, quantity: str, printed: str, right: int, total: int) -> Line:
    low, high = wilson_interval(right, total) or (0.0, 1.0)
    beside = f"{right}/{total}, 95 % CI {100 * low:.1f} to {100 * high:.1f}"
    return Line(table, item, quantity, printed, f"{100 * right / total:.1f}", beside)
