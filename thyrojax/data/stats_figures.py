"""The figures of a set: the paper's Figure 1, the boxes, and what margins do to the windows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thyrojax import files
from thyrojax.data.stats import Group, Statistics, WindowShare
from thyrojax.report.figures import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    VERMILLION,
    Rendered,
    new_figure,
    render,
)
from thyrojax.report.run_figures import draw_distribution

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_OF_LABELS = ((ORANGE, "o"), (BLUE, "^"))
_OF_SHAPES = {
    "square": (ORANGE, "o", "-"),
    "square_cover": (BLUE, "s", "--"),
    "rectangle": (GREEN, "^", ":"),
}


def write_figures(folder: Path, drawn: Mapping[str, Rendered]) -> None:
    """Writes every figure as PNG and SVG.

    Raises:
      ThyrojaxError: the folder cannot be written.
    """
    for name, rendered in drawn.items():
        files.write_whole(folder / f"{name}.png", rendered.png)
        files.write_whole(folder / f"{name}.svg", rendered.svg)


def draw_statistics(statistics: Statistics) -> dict[str, Rendered]:
    """A figure for each property that is stated, of the boxes, and of the windows; by name."""
    s = statistics
    names = _label_names(s.groups)
    drawn = {}
    for counts in s.counts:
        file_name = "by_" + re.sub(r"\W+", "_", counts.name).strip("_").lower()
        drawn[file_name] = render(
            draw_distribution, counts.by_group, counts.words, names, counts.name
        )
    drawn["boxes"] = render(draw_boxes, s.groups, names)
    if len({each.margin for each in s.windows}) > 1:
        drawn["windows"] = render(draw_windows, s.windows)
    return drawn


def draw_boxes(groups: Sequence[Group], label_names: tuple[str, str]) -> Figure:
    """Every box's height over its width, by label, above and below the line of squares."""
    figure = new_figure(4.8, 0.9 + 3.6 * len(groups))
    rows = figure.subplots(len(groups), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    sides = [side for group in groups for entry in group.entries for side in _sides(entry.box)]
    low, high = 0.8 * min(sides, default=1), 1.25 * max(sides, default=10)
    for axes, group in zip(rows, groups, strict=True):
        axes.plot([low, high], [low, high], color=GREY, lw=1, ls="--", label="square")
        for label, (colour, marker) in enumerate(_OF_LABELS):
            boxes = [_sides(entry.box) for entry in group.entries if entry.label == label]
            widths, heights = np.array(boxes, np.float64).reshape(-1, 2).T
            axes.plot(
                widths,
                heights,
                marker,
                color=colour,
                ms=4,
                alpha=0.6 if len(group.entries) < 2000 else 0.25,
                mew=0,
                rasterized=True,  # a point is no shape of its own in a large set's SVG
                label=label_names[label],
            )
        taller = sum(entry.box.height > entry.box.width for entry in group.entries)
        share = 100 * taller / max(len(group.entries), 1)
        axes.set_title(f"{group.name}: {share:.1f} % taller than wide", loc="left")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(low, high)
        axes.set_ylim(low, high)
        axes.set_aspect("equal")
        axes.set_ylabel("box height (px)")
        _plain_ticks(axes, low, high)
    rows[-1].set_xlabel("box width (px)")
    handles, labels = rows[0].get_legend_handles_labels()
    legend = figure.legend(
        handles, labels, loc="outside lower center", ncols=1, frameon=False, markerscale=1.6
    )
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(1.0)
    return figure


def draw_windows(shares: Sequence[WindowShare]) -> Figure:
    """The share of windows that leave their frame, and that cut their nodule, over margins."""
    groups = list(dict.fromkeys(each.group for each in shares))
    figure = new_figure(4.8, 1.1 + 2.3 * len(groups))
    rows = figure.subplots(len(groups), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, group in zip(rows, groups, strict=True):
        for shape, (colour, marker, line) in _OF_SHAPES.items():
            of_shape = [each for each in shares if (each.group, each.shape) == (group, shape)]
            margins = [each.margin for each in of_shape]
            outside = [100 * each.outside / max(each.n, 1) for each in of_shape]
            name = shape.replace("_", " ")
            axes.plot(
                margins,
                outside,
                marker=marker,
                ls=line,
                color=colour,
                ms=5,
                label=f"{name} leaves the frame",
            )
            if any(each.cut for each in of_shape):
                cut = [100 * each.cut / max(each.n, 1) for each in of_shape]
                axes.plot(
                    margins,
                    cut,
                    marker="x",
                    ls="-.",
                    color=VERMILLION,
                    ms=6,
                    label=f"{name} cuts the nodule",
                )
        axes.set_title(group, loc="left")
        axes.set_ylabel("% of nodules")
        axes.set_ylim(-3, 103)
    rows[-1].set_xlabel("margin (px)")
    found: dict[str, Any] = {}
    for axes in rows:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    figure.legend([*found.values()], [*found], loc="outside lower center", ncols=2, frameon=False)
    return figure


def _plain_ticks(axes: Axes, low: float, high: float) -> None:
    """Numbers as they are on a logarithmic axis, few enough to be read."""
    from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

    ticks = [
        first * 10.0**power
        for power in range(6)
        for first in (1, 2, 5)
        if low <= first * 10.0**power <= high
    ]
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(FixedLocator(ticks))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(ScalarFormatter())


def _sides(box: tuple[int, int, int, int]) -> tuple[int, int]:
    x_min, y_min, x_max, y_max = box
    return x_max - x_min, y_max - y_min


def _label_names(groups: Sequence[Group]) -> tuple[str, str]:
    """What each label is called; where sets call it differently, all its names."""
    negative, positive = (
        " / ".join(dict.fromkeys(group.label_names[label] for group in groups)) for label in (0, 1)
    )
    return negative, positive
