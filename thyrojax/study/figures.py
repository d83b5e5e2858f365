"""The figures of a study: every condition's AUC, by name or along an axis, and the differences."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from thyrojax.analysis.table import Table
from thyrojax.report.figures import BLACK, BLUE, GREEN, GREY, ORANGE, VERMILLION, new_figure
from thyrojax.study.plan import Study
from thyrojax.study.scores import Outcome

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LINES = (
    *((BLUE, "o", "-"), (VERMILLION, "s", "--"), (GREEN, "^", "-."), (ORANGE, "D", ":")),
    *((BLACK, "v", "-"), (GREY, "P", "--")),
)
_WIDTH = 6.4  # inches
_MOST_TICKS = 12


def draw_areas(results: Table, folds: Table, reference: str) -> Figure:
    """A row a condition: AUC with its interval, and a dot for each seed's mean over its folds."""
    rows = results.records()
    figure = new_figure(_WIDTH, 0.9 + 0.42 * len(rows))
    axes = figure.subplots()
    for place, row in enumerate(rows):
        is_reference = row["condition"] == reference
        _interval(axes, row, "auc", float(place), VERMILLION if is_reference else BLUE)
        dots = _by_seed(folds, str(row["condition"]))
        axes.plot(dots, [place + 0.2] * len(dots), ".", color=GREY, ms=5)
    _name_rows(axes, [str(row["label"]) for row in rows])
    axes.set_xlabel("AUC with 95 % interval; dots: seeds")
    return figure


def draw_differences(results: Table, reference: str) -> Figure:
    """A row for each condition that is compared: its AUC less the reference's."""
    rows = [row for row in results.records() if row["difference"] is not None]
    figure = new_figure(_WIDTH, 0.9 + 0.42 * len(rows))
    axes = figure.subplots()
    axes.axvline(0.0, color=BLACK, lw=0.8)
    for place, row in enumerate(rows):
        _interval(axes, row, "difference", float(place), BLUE)
    _name_rows(axes, [str(row["label"]) for row in rows])
    axes.set_xlabel(_less(reference))
    return figure


def draw_subgroups(table: Table, reference: str) -> Figure:
    """A row for each condition that is compared, in it a mark for each category of the nodules."""
    rows = [row for row in table.records() if row["difference"] is not None]
    labels = list(dict.fromkeys(str(row["label"]) for row in rows))
    categories = list(dict.fromkeys(str(row["category"]) for row in rows))
    figure = new_figure(_WIDTH, 1.1 + 0.3 * len(labels) * len(categories))
    axes = figure.subplots()
    axes.axvline(0.0, color=BLACK, lw=0.8)
    for number, category in enumerate(categories):
        colour, marker, _ = _LINES[number % len(_LINES)]
        lower = 0.6 * ((number + 0.5) / len(categories) - 0.5)
        its = [row for row in rows if row["category"] == category]
        for row in its:
            _interval(
                axes, row, "difference", labels.index(str(row["label"])) + lower, colour, marker
            )
        name = f"{category}: {its[0]['n']}, {its[0]['n_positive']} of them positive"
        axes.plot([], [], marker, color=colour, ms=6, label=name)
    _name_rows(axes, labels)
    axes.set_xlabel(_less(reference))
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


def lines_along(
    results: Table, outcomes: Sequence[Outcome]
) -> dict[str, list[tuple[float, dict[str, Any]]]]:
    """Rows of the results by their place on the study's axis, for each line of two or more.

    The conditions of one line share their label up to its last comma.
    """
    of = {outcome.name: outcome for outcome in outcomes}
    lines: dict[str, list[tuple[float, dict[str, Any]]]] = {}
    for row in results.records():
        outcome = of[str(row["condition"])]
        if outcome.x is not None:
            head = outcome.label.rpartition(", ")[0]
            lines.setdefault(head, []).append((outcome.x, row))
    return {
        name: sorted(rows, key=lambda pair: pair[0])
        for name, rows in lines.items()
        if len(rows) > 1
    }


def draw_along(study: Study, lines: dict[str, list[tuple[float, dict[str, Any]]]]) -> Figure:
    """AUC along the study's axis, with bands: what `lines_along` gives."""
    figure = new_figure(_WIDTH, 3.8)
    axes = figure.subplots()
    for number, (name, rows) in enumerate(lines.items()):
        colour, marker, style = _LINES[number % len(_LINES)]
        x, areas = [at for at, _ in rows], [row["auc"] for _, row in rows]
        axes.plot(x, areas, marker + style, color=colour, ms=5, label=name)
        known = [(at, row) for at, row in rows if row["auc_low"] is not None]
        axes.fill_between(
            [at for at, _ in known],
            [row["auc_low"] for _, row in known],
            [row["auc_high"] for _, row in known],
            color=colour,
            alpha=0.12,
            lw=0,
        )
    places = sorted({at for rows in lines.values() for at, _ in rows})
    if len(places) <= _MOST_TICKS:
        axes.set_xticks(places, [f"{place:g}" for place in places])
    axes.set_xlabel(study.x_label)
    axes.set_ylabel("AUC")
    if len(lines) > 1:
        axes.legend(frameon=False)
    return figure


def _by_seed(folds: Table, condition: str) -> list[float]:
    """Mean over the folds of each seed."""
    found: dict[str, list[float]] = {}
    for row in folds.records():
        if row["condition"] == condition and isinstance(row["auc"], float):
            found.setdefault(str(row["seed"]), []).append(row["auc"])
    return [sum(values) / len(values) for values in found.values()]


def _less(reference: str) -> str:
    return textwrap.fill(f"AUC less that of “{reference}”, 95\u00a0% interval", 48)


def _interval(
    axes: Any, row: dict[str, Any], name: str, place: float, colour: str, marker: str = "o"
) -> None:
    if row[f"{name}_low"] is not None:
        axes.plot([row[f"{name}_low"], row[f"{name}_high"]], [place, place], color=colour, lw=2)
    axes.plot(row[name], place, marker, color=colour, ms=6)


def _name_rows(axes: Any, labels: Sequence[str]) -> None:
    whole = [re.sub(r"(\d) (px|mm|%)", "\\1\N{NO-BREAK SPACE}\\2", label) for label in labels]
    axes.set_yticks(range(len(labels)), [textwrap.fill(label, 34) for label in whole])
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.locator_params(axis="x", nbins=6)
    axes.grid(axis="x", color="#dddddd", lw=0.7)
    axes.set_axisbelow(True)
