"""Figures of points with intervals, one line to an estimate: groups, models, odds ratios."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from thyrojax.analysis.study import Study
from thyrojax.report.figures import BLACK, BLUE, GREEN, GREY, VERMILLION
from thyrojax.report.study_facts import (
    Record,
    is_best,
    is_separated,
    measured,
    number,
    records,
    separation_words,
)
from thyrojax.report.study_tables import odds

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MEASURES = {
    "accuracy": "Accuracy",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "auc": "AUC",
}
_LINE = 0.25  # inches from one line of points to the next
_LOWEST_END = 0.2  # below the smallest value
_NAME = 17  # characters of a name in a line
# Odds ratios outside are told by an arrow and in numbers; they would squeeze the rest otherwise.
_STEPS, _WIDE_STEPS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20), (0.03, 0.1, 0.3, 1, 3, 10, 30)
_SMALLEST_ODDS, _LARGEST_ODDS = 0.02, 50.0


class _Estimate(NamedTuple):
    """One line of a figure; where `value` is None, `words` stand in its place."""

    name: str
    value: float | None
    low: float | None
    high: float | None
    words: str = ""
    best: bool = False


class _Style(NamedTuple):
    colour: str
    marker: str
    filled: bool


_PLAIN = _Style(BLUE, "o", True)
_BEST = _Style(VERMILLION, "D", True)
_ODDS = {
    "univariate": _Style(BLUE, "o", True),
    "multivariate": _Style(VERMILLION, "s", False),
    "Firth, univariate": _Style(GREEN, "D", True),
    "Firth, multivariate": _Style(BLACK, "D", False),
}


def draw_comparison(study: Study) -> Figure:
    """Each model's measures with intervals, one panel per measure; the best in another shape."""
    rows = records(study, "comparison")
    return _draw_panels(rows, "name", ("accuracy", "sensitivity", "specificity", "auc"))


def draw_size_groups(study: Study) -> Figure:
    """Sensitivity, specificity and AUC of each size group with intervals."""
    return _draw_panels(
        records(study, "size_groups"), "group", ("sensitivity", "specificity", "auc")
    )


def draw_odds_ratios(study: Study) -> Figure:
    """Odds ratios of misdiagnosis on a logarithmic axis, with Firth's beside separated ones."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    lines: list[tuple[str, str, _Estimate]] = []  # variable, style, what stands there
    for variable in dict.fromkeys(str(row["variable"]) for row in records(study, "odds_ratios")):
        for row in records(study, "odds_ratios"):
            if str(row["variable"]) == variable:
                lines += [(variable, style, line) for style, line in _odds_lines(row)]
    names = list(dict.fromkeys(variable for variable, _, _ in lines))
    height = 1.3 + _LINE * (len(lines) + 0.5 * len(names))
    figure = Figure(figsize=(5.2, height), layout="constrained")
    axes = figure.subplots()
    axes.set_xscale("log")
    low, high = _odds_limits([line for _, _, line in lines])
    axes.axvline(1.0, color=GREY, lw=1, ls="--")
    y, ticks, used = 0.0, [], []
    for variable in names:
        first = y
        for _, style, line in [entry for entry in lines if entry[0] == variable]:
            _draw_line(axes, float(y), line, _ODDS[style], (low, high))
            used.append(style)
            y += 1.0
        ticks.append((first + y - 1.0) / 2.0)
        y += 0.5
    axes.set_xlim(low, high)
    axes.set_ylim(y - 0.6, -0.8)
    axes.set_yticks(ticks, [_folded(name.replace("_", " "), _NAME) for name in names])
    steps = _WIDE_STEPS if high / low > 30.0 else _STEPS
    marks = [mark for mark in steps if low <= mark <= high]
    axes.xaxis.set_major_locator(FixedLocator(marks))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda mark, _: f"{mark:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("odds ratio of misdiagnosis, 95 % CI\n(left of 1: fewer errors; right: more)")
    axes.tick_params(axis="y", length=0)
    for style in dict.fromkeys(name for name in _ODDS if name in used):
        colour, marker, filled = _ODDS[style]
        face = colour if filled else "white"
        axes.plot([], [], color=colour, marker=marker, mfc=face, ms=6, lw=1.4, label=style)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def _draw_panels(rows: Sequence[Record], name_column: str, measures: Sequence[str]) -> Figure:
    """One panel under the other, all with the same axis, a line to each row of the table."""
    from matplotlib.figure import Figure

    panels = {
        measure: [
            _estimate_of(row, measure)._replace(
                name=str(row[name_column]), best=is_best(row, measure)
            )
            for row in rows
        ]
        for measure in measures
        if any(number(row, measure) is not None for row in rows)
    }
    height = 0.6 + len(panels) * (0.45 + _LINE * len(rows))
    figure = Figure(figsize=(5.2, height), layout="constrained")
    shown = [line for lines in panels.values() for line in lines if line.value is not None]
    lowest = min((line.value or 0.0 for line in shown), default=0.0)
    lowest_end = min((line.low for line in shown if line.low is not None), default=lowest)
    # A handful of cases has an interval that would squeeze all others; it ends in an arrow.
    left = max(0.0, math.floor(10 * max(lowest_end, lowest - _LOWEST_END) - 0.2) / 10)
    for axes, (measure, lines) in zip(
        figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0],
        panels.items(),
        strict=True,
    ):
        for y, line in enumerate(lines):
            _draw_line(axes, float(y), line, _BEST if line.best else _PLAIN, (left, 1.0))
        axes.set_yticks(range(len(lines)), [_folded(line.name, _NAME) for line in lines])
        axes.set_ylim(len(lines) - 0.4, -0.6)
        axes.set_xlim(left, 1.0)
        axes.set_title(_MEASURES[measure], loc="left", fontweight="bold")
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", color="#dddddd", lw=0.7)
        axes.set_axisbelow(True)
    axes.set_xlabel("value, 95 % CI")
    return figure


def _estimate_of(row: Record, measure: str) -> _Estimate:
    found = measured(row, measure)
    if found is None:
        return _Estimate("", None, None, None, "no such case" if row.get("n") == 0 else "-")
    low, high = found[1] or (None, None)
    return _Estimate("", found[0], low, high)


def _odds_lines(row: Record) -> list[tuple[str, _Estimate]]:
    """A row's estimate; words in its place, and Firth's estimate below, where it is separated."""
    model, ratio = str(row["model"]), number(row, "odds_ratio")
    if not is_separated(row):
        ends = number(row, "ci_low"), number(row, "ci_high")
        return [(model, _Estimate("", ratio, *ends, "not estimable"))]
    words = separation_words(row)
    if ratio is not None:
        words = f"{'0' if ratio == 0.0 else 'infinite'}: {words}"
    lines = [(model, _Estimate("", None, None, None, words))]
    firth = number(row, "firth_odds_ratio")
    if firth is not None:
        ends = number(row, "firth_low"), number(row, "firth_high")
        lines.append((f"Firth, {model}", _Estimate("", firth, *ends)))
    return lines


def _odds_limits(lines: Sequence[_Estimate]) -> tuple[float, float]:
    """The axis' ends: all finite figures within what can be drawn, and 1 well inside."""
    figures = [0.5, 2.0]
    for line in lines:
        if line.value is not None:
            figures += [
                value
                for value in (line.value, line.low, line.high)
                if value is not None and 0.0 < value < math.inf
            ]
    low = max(min(figures) / 1.3, _SMALLEST_ODDS)
    return low, min(max(figures) * 1.3, _LARGEST_ODDS)


def _draw_line(
    axes: Axes, y: float, line: _Estimate, style: _Style, limits: tuple[float, float]
) -> None:
    """A point with its bar, arrows where the bar leaves the axis, and the numbers at the right."""
    text = line.words or "-"
    if line.value is not None:
        text = odds(line.value)
        if line.low is not None and line.high is not None:
            text += f" ({odds(line.low)} to {odds(line.high)})"
            low, high = max(line.low, limits[0]), min(line.high, limits[1])
            axes.plot([low, high], [y, y], color=style.colour, lw=1.6)
            for end, edge, inside, arrow in (
                (line.low, limits[0], line.low >= limits[0], "<"),
                (line.high, limits[1], line.high <= limits[1], ">"),
            ):
                at, marker = (end, "|") if inside else (edge, arrow)
                axes.plot([at], [y], color=style.colour, marker=marker, ms=6, clip_on=False)
        if limits[0] <= line.value <= limits[1]:
            axes.plot(
                [line.value],
                [y],
                color=style.colour,
                marker=style.marker,
                mfc=style.colour if style.filled else "white",
                ms=6,
                zorder=4,
                clip_on=False,
            )
    axes.annotate(
        text,
        (1.03, y),
        xycoords=("axes fraction", "data"),
        va="center",
        fontsize=9,
        annotation_clip=False,
    )


def _folded(text: str, width: int) -> str:
    """At most two lines of a name."""
    return textwrap.fill(textwrap.shorten(text, 2 * width, placeholder="..."), width)
