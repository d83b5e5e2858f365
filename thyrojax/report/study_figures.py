"""The figures of a study, drawn from its tables and metrics alone.

Nothing is computed anew here, so a figure cannot disagree with the table that it shows.
"""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from thyrojax.analysis.study import Study
from thyrojax.report import study_intervals
from thyrojax.report.figures import BLACK, BLUE, GREEN, GREY, ORANGE, VERMILLION, Rendered, render
from thyrojax.report.study_facts import (
    Record,
    auc_of,
    leading_interval,
    number,
    reader_point,
    records,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SKY, PURPLE = "#56B4E9", "#CC79A7"

# Colour, dashes and marker of each curve: any one of the three tells the curves apart.
_COLOURS = (BLUE, VERMILLION, GREEN, BLACK, PURPLE, ORANGE, SKY)
_DASHES: tuple[Any, ...] = (
    "-",
    (0, (6, 2)),
    (0, (1, 1.2)),
    (0, (6, 2, 1, 2)),
    (0, (10, 3)),
    (0, (3, 1.5, 1, 1.5, 1, 1.5)),
    (0, (3, 3)),
)
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "h")
_WIDTH = 4.8  # inches: a phone's width, or half a printed page
# A key inside the axes must stay legible where a curve or a band runs beneath it.
_KEY: Any = {"frameon": True, "framealpha": 0.85, "facecolor": "white", "edgecolor": "none"}
_IN_LEGEND = 34  # characters of a name


def draw_study(study: Study) -> dict[str, Rendered]:
    """Every figure that the study has the tables for, by file name (one of `figure_names`)."""
    drawn = {}
    for name, draw in _drawers().items():
        if not records(study, name):
            continue
        # The reader stands beside the lead's curve.
        if name == "readers" and (reader_point(study) is None or "roc" not in study.tables):
            continue
        drawn[name] = render(draw, study)
    return drawn


def figure_names() -> tuple[str, ...]:
    """Every name that a study's figure may have."""
    return tuple(_drawers())


def _drawers() -> dict[str, Callable[[Study], Figure]]:
    return {
        "roc": draw_roc,
        "precision_recall": draw_precision_recall,
        "roc_models": draw_roc_models,
        "comparison": study_intervals.draw_comparison,
        "size_groups": study_intervals.draw_size_groups,
        "odds_ratios": study_intervals.draw_odds_ratios,
        "readers": draw_readers,
        "calibration": draw_calibration,
        "decision_curve": draw_decision_curve,
    }


def draw_roc(study: Study) -> Figure:
    """The lead's curve with its band, its area, and the operating point with intervals."""
    figure, axes = _roc_axes()
    _draw_lead_curve(axes, study)
    _draw_operating_point(axes, study)
    axes.legend(**_KEY, loc="lower right")
    return figure


def draw_roc_models(study: Study) -> Figure:
    """Every model's curve on one pair of axes, areas with intervals in the legend (Figure 5)."""
    rows = records(study, "roc_models")
    figure, axes = _roc_axes(below=0.36 * len({row["name"] for row in rows}))
    styles = itertools.cycle(
        zip(
            itertools.islice(itertools.cycle(_COLOURS), 77),
            itertools.islice(itertools.cycle(_DASHES), 77),
            itertools.islice(itertools.cycle(_MARKERS), 77),
            strict=True,
        )
    )
    grouped = itertools.groupby(rows, key=lambda row: row["name"])
    for place, ((name, points), (colour, dashes, marker)) in enumerate(
        zip(grouped, styles, strict=False)
    ):
        x, y = _columns(list(points), "fpr", "tpr")
        axes.plot(
            x,
            y,
            color=colour,
            ls=dashes,
            lw=1.6,
            marker=marker,
            ms=5,
            markevery=(0.03 + 0.02 * (place % 5), 0.16),
            mfc="white",
            label=_curve_label(study, str(name)),
            clip_on=False,
        )
    figure.legend(loc="outside lower center", frameon=False, handlelength=4.5)
    return figure


def draw_precision_recall(study: Study) -> Figure:
    """Precision over recall as steps, and the share of positives, which chance reaches."""
    figure, axes = _unit_axes("recall (sensitivity)", "precision (positive predictive value)")
    rows = sorted(records(study, "precision_recall"), key=lambda row: number(row, "recall") or 0.0)
    recall, precision = _columns(
        [row for row in rows if number(row, "precision") is not None], "recall", "precision"
    )
    share = study.metrics["n_positive"] / study.metrics["n"]
    axes.axhline(share, color=GREY, lw=1, ls="--", label=f"share of positives {share:.3f}")
    average = [row for row in records(study, "auc") if row["measure"] == "average precision"]
    label = _folded(study.lead)
    for row in average:
        if row["name"] == study.lead and number(row, "value") is not None:
            label = f"average precision\n{number(row, 'value'):.3f}{_in_brackets(row)}"
    # Precision holds for the cases that each lower cutoff adds: the step that ends at its recall.
    axes.step(recall, precision, where="pre", color=BLUE, label=label, clip_on=False)
    axes.legend(**_KEY, loc="lower left")
    return figure


def draw_readers(study: Study) -> Figure:
    """The lead's curve, and the reader as a point with the intervals of both shares."""
    figure, axes = _roc_axes(below=1.2)
    _draw_lead_curve(axes, study)
    _draw_operating_point(axes, study)
    point = reader_point(study)
    if point is not None:
        _draw_point(
            axes,
            (point.sensitivity, point.sensitivity_interval),
            (point.specificity, point.specificity_interval),
            colour=BLACK,
            marker="s",
            label=f"reader: sensitivity {point.sensitivity:.3f},\n"
            f"specificity {point.specificity:.3f} (95 % CI)",
        )
    figure.legend(loc="outside lower center", frameon=False)
    return figure


def draw_calibration(study: Study) -> Figure:
    """Observed share of positives against the mean score, bin by bin, with intervals."""
    figure, axes = _unit_axes(
        f"mean score (probability of {study.label_names[1]})",
        f"observed share of {study.label_names[1]}",
        equal=True,
    )
    axes.plot([0, 1], [0, 1], color=GREY, lw=1, ls="--", label="perfect calibration")
    rows = records(study, "calibration")
    x, y, low, high = _columns(rows, "mean_score", "observed", "ci_low", "ci_high")
    counts = sorted({int(number(row, "n") or 0) for row in rows})
    of = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    axes.errorbar(
        x,
        y,
        # An interval holds its share; rounding may put it past by one part in 1e16.
        yerr=np.maximum(0.0, [y - low, high - y]),
        fmt="o-",
        ms=5,
        lw=1.2,
        capsize=3,
        color=BLUE,
        clip_on=False,
        label=f"bins of {of} images, 95 % CI",
    )
    axes.legend(**_KEY, loc="upper left")
    return figure


def draw_decision_curve(study: Study) -> Figure:
    """Net benefit over the threshold: the model, all treated, none treated."""
    rows = records(study, "decision_curve")
    figure, axes = _unit_axes(
        f"threshold (probability of {study.label_names[1]} at which one would act)", "net benefit"
    )
    threshold, model, treat_all, treat_none = _columns(
        rows, "threshold", "model", "treat_all", "treat_none"
    )
    if any(number(row, "model_low") is not None for row in rows):
        low, high = _columns(rows, "model_low", "model_high")
        axes.fill_between(threshold, low, high, color=BLUE, alpha=0.18, lw=0, label="95 % band")
    axes.plot(threshold, model, color=BLUE, label=_folded(study.lead))
    axes.plot(threshold, treat_all, color=VERMILLION, ls=(0, (6, 2)), label="treat all")
    axes.plot(threshold, treat_none, color=BLACK, ls=(0, (1, 1.2)), label="treat none")
    top = np.nanmax([*model, *treat_all, 0.01])
    # Treating all falls without bound at high thresholds; below this nothing is decided.
    axes.set_ylim(-0.25 * top, 1.12 * top)
    axes.legend(**_KEY, loc="upper right")
    return figure


def _unit_axes(
    x_label: str, y_label: str, equal: bool = False, below: float = 0.0
) -> tuple[Figure, Axes]:
    """Axes from 0 to 1; `below` inches are left for a legend under them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, _WIDTH + below if equal else 4.2), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(textwrap.fill(x_label, 44))
    axes.set_ylabel(textwrap.fill(y_label, 40))
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    if equal:
        axes.set_aspect("equal")
    return figure, axes


def _roc_axes(below: float = 0.0) -> tuple[Figure, Axes]:
    figure, axes = _unit_axes("1 - specificity", "sensitivity", equal=True, below=below)
    axes.plot([0, 1], [0, 1], color=GREY, lw=1, ls="--")
    return figure, axes


def _draw_lead_curve(axes: Axes, study: Study) -> None:
    rows = records(study, "roc")
    x, y = _columns(rows, "fpr", "tpr")
    banded = [row for row in rows if number(row, "tpr_low") is not None]
    if banded:
        at, low, high = _columns(banded, "fpr", "tpr_low", "tpr_high")
        axes.fill_between(at, low, high, color=BLUE, alpha=0.18, lw=0, label="95 % band")
    axes.plot(x, y, color=BLUE, label=_curve_label(study, study.lead), clip_on=False)


def _draw_operating_point(axes: Axes, study: Study) -> None:
    metrics = study.metrics
    if metrics["sensitivity"] is None or metrics["specificity"] is None:
        return
    _draw_point(
        axes,
        (metrics["sensitivity"], leading_interval(metrics, "sensitivity")),
        (metrics["specificity"], leading_interval(metrics, "specificity")),
        colour=VERMILLION,
        marker="D",
        label=f"cutoff {metrics['cutoff']:.3f}: sensitivity {metrics['sensitivity']:.3f},\n"
        f"specificity {metrics['specificity']:.3f} (95 % CI)",
    )


def _draw_point(
    axes: Axes,
    sensitivity: tuple[float, tuple[float, float] | None],
    specificity: tuple[float, tuple[float, float] | None],
    colour: str,
    marker: str,
    label: str,
) -> None:
    """A point of the ROC plane with a bar for the interval of either share."""
    y, y_interval = sensitivity
    x = 1.0 - specificity[0]
    y_low, y_high = y_interval or (y, y)
    high, low = specificity[1] or (specificity[0], specificity[0])
    axes.errorbar(
        [x],
        [y],
        xerr=np.maximum(0.0, [[x - (1.0 - low)], [(1.0 - high) - x]]),
        yerr=np.maximum(0.0, [[y - y_low], [y_high - y]]),
        fmt=marker,
        ms=7,
        color=colour,
        elinewidth=1.4,
        capsize=3,
        zorder=5,
        clip_on=False,
    )
    # In the key the bars would hide the marker.
    axes.plot([], [], ls="none", marker=marker, ms=7, color=colour, label=label)


def _curve_label(study: Study, name: str) -> str:
    """Name, area and interval of a curve, in two lines where the name is long."""
    folded, area = _folded(name), auc_of(study, name)
    if area is None:
        return folded
    gap = "\n" if len(folded) > 14 else ": "
    interval = "" if area[1] is None else " ({:.3f} to {:.3f})".format(*area[1])
    return f"{folded}{gap}AUC {area[0]:.3f}{interval}"


def _in_brackets(row: Record) -> str:
    low, high = number(row, "ci_low"), number(row, "ci_high")
    return "" if low is None or high is None else f" ({low:.3f} to {high:.3f})"


def _folded(text: str) -> str:
    return textwrap.fill(textwrap.shorten(text, 2 * _IN_LEGEND, placeholder="..."), _IN_LEGEND)


def _columns(rows: Sequence[Record], *names: str) -> list[Any]:
    """Columns as arrays; NaN, which draws nothing, where the table has no number."""
    return [
        np.array(
            [np.nan if (value := number(row, name)) is None else value for row in rows],
            dtype=np.float64,
        )
        for name in names
    ]
