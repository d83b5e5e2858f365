"""The figures of a run's nodules: who they are, how they are cut, where the network looks."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from thyrojax.report.figures import BLACK, BLUE, GREY, ORANGE, TIMES, VERMILLION, new_figure
from thyrojax.shapes import Bool, Float, Int, UInt8

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SKY = "#56B4E9"  # Okabe and Ito's; shows on grey images
_COLOURS = (ORANGE, BLUE)  # of class 0 and 1
_HATCHES = ("", "////")
# Its lightness rises evenly, so it can be read under colour blindness and in grey print.
MAP_COLOURS = "viridis"


class Cut(NamedTuple):
    """One way of cutting a nodule, ready to be drawn; the ratio is height over width."""

    name: str
    window: Sequence[float]
    network_input: UInt8[np.ndarray, "rows columns"]
    aspect_ratio: float


def box_in_input(
    box: Sequence[float], window: Sequence[float], shape: tuple[int, ...]
) -> tuple[float, float, float, float]:
    """A box of the frame in pixels of the input that its window was resized to."""
    (left, top, width, height), (rows, columns) = window, shape[:2]
    x_min, y_min, x_max, y_max = box
    return (
        (x_min - left) / width * columns,
        (y_min - top) / height * rows,
        (x_max - left) / width * columns,
        (y_max - top) / height * rows,
    )


def draw_distribution(
    counts: dict[str, Int[np.ndarray, "labels groups"]],
    groups: Sequence[str],
    label_names: tuple[str, str],
    axis_label: str,
) -> Figure:
    """Each class' shares of the groups, part by part, with the counts (the paper's Figure 1)."""
    figure = new_figure(4.8, 0.9 + 1.55 * len(counts))
    rows = figure.subplots(len(counts), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    places = np.arange(len(groups))
    for axes, (part, table) in zip(rows, counts.items(), strict=True):
        for label, name in enumerate(label_names):
            shares = 100.0 * table[label] / max(int(table[label].sum()), 1)
            bars = axes.bar(
                places + 0.4 * (label - 0.5),
                shares,
                width=0.38,
                color=_COLOURS[label],
                hatch=_HATCHES[label],
                edgecolor="white",
                linewidth=0.5,
                label=textwrap.fill(name, 30),
            )
            axes.bar_label(bars, [f"{count}" for count in table[label]], fontsize=8.5, padding=1)
        axes.set_title(part, loc="left")
        axes.set_ylabel("%")
        axes.margins(y=0.18)
    words = [textwrap.fill(group, 10) for group in groups]
    turned = max(map(len, groups)) * len(groups) > 48
    rows[-1].set_xticks(
        places, words, rotation=45 if turned else 0, ha="right" if turned else "center"
    )
    rows[-1].set_xlabel(axis_label)
    figure.legend(
        *rows[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False
    )
    return figure


def draw_crop_shapes(
    frame: UInt8[np.ndarray, "height width"],
    box: Sequence[float],
    aspect_ratio: float,
    cuts: Sequence[Cut],
) -> Figure:
    """One nodule cut in several shapes: its window in the frame, and the input it becomes."""
    figure = new_figure(4.8, 2.35 * len(cuts))
    for (left, right), cut in zip(
        figure.subplots(len(cuts), 2, width_ratios=(1.25, 1), squeeze=False), cuts, strict=True
    ):
        _show_frame(left, frame, box, cut.window)
        width, height = cut.window[2:]
        left.set_title(
            f"{cut.name}: {width:g}{TIMES}{height:g} px\nheight / width {aspect_ratio:.2f}"
        )
        _show_input(
            right, cut.network_input, box_in_input(box, cut.window, cut.network_input.shape)
        )
        rows, columns = cut.network_input.shape
        right.set_title(f"input {columns}{TIMES}{rows} px\nheight / width {cut.aspect_ratio:.2f}")
    return figure


def draw_example(
    frame: UInt8[np.ndarray, "height width"],
    network_input: UInt8[np.ndarray, "rows columns"],
    box: Sequence[float],
    window: Sequence[float],
    inside: Sequence[float],
    heat: UInt8[np.ndarray, "rows columns"] | None = None,
) -> Figure:
    """The frame with its box and window, what the network saw, and where its map lies.

    `box` is x_min, y_min, x_max, y_max and `window` left, top, width, height, both in pixels of the
    frame; a window may reach past the frame. `inside` is the box in pixels of the input, over which
    `heat` is drawn, brightest where it is 255.
    """
    if heat is None:
        figure = new_figure(5.6, 2.9)
        left, right = figure.subplots(1, 2, width_ratios=(1.35, 1))
        _show_frame(left, frame, box, window)
        _show_input(right, network_input, None)
        left.set_title("frame, box, window")
        right.set_title("the network's input")
        return figure
    figure = new_figure(4.8, 5.3)
    places = figure.subplot_mosaic([["frame", "frame"], ["input", "map"]], height_ratios=(1.25, 1))
    _show_frame(places["frame"], frame, box, window)
    _show_input(places["input"], network_input, inside)
    _show_input(places["map"], network_input, inside, heat)
    places["frame"].set_title("frame, box, window")
    places["input"].set_title("the network's input")
    places["map"].set_title("map over the input")
    return figure


def draw_mass_in_box(
    masses: Float[np.ndarray, " nodules"],
    shares: Float[np.ndarray, " nodules"],
    right: Bool[np.ndarray, " nodules"],
    unit: str,
) -> Figure:
    """Each map's mass in the box against the box's share of the input, and both distributions.

    `right` tells the right calls, and `unit` what is counted, in the singular.
    """
    figure = new_figure(4.8, 6.4)
    upper, lower = figure.subplots(2, 1, height_ratios=(2.1, 1))
    upper.plot([0, 1], [0, 1], color=GREY, lw=1, ls="--", label="chance: an even map")
    for chosen, marker, colour, name in (
        (right, "o", BLUE, "right call"),
        (~right, "X", VERMILLION, "wrong call"),
    ):
        if chosen.any():
            upper.scatter(
                shares[chosen],
                masses[chosen],
                s=26 if len(masses) <= 200 else 10,
                marker=marker,
                c=colour,
                alpha=0.75,
                linewidths=0.3,
                edgecolors="white",
                label=f"{name} (n = {int(chosen.sum())})",
                clip_on=False,
            )
    upper.set_xlim(0, 1)
    upper.set_ylim(0, 1)
    upper.set_aspect("equal")
    upper.set_xlabel("box's share of the input")
    upper.set_ylabel("map's mass in the box")
    upper.legend(frameon=True, framealpha=0.85, edgecolor="none", loc="lower right")
    bins = np.linspace(0, 1, 21)
    lower.hist(
        masses, bins, color=_SKY, edgecolor="white", linewidth=0.5, label="map's mass in the box"
    )
    lower.hist(
        shares, bins, histtype="step", color=BLACK, lw=1.4, ls="--", label="box's share (chance)"
    )
    lower.set_xlim(0, 1)
    lower.set_xlabel("share")
    lower.set_ylabel(f"{unit}s")
    lower.yaxis.get_major_locator().set_params(integer=True)
    figure.legend(
        *lower.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False
    )
    return figure


def _show_frame(
    axes: Axes,
    frame: UInt8[np.ndarray, "height width"],
    box: Sequence[float],
    window: Sequence[float],
) -> None:
    height, width = frame.shape
    # Pixel edges, not centres, are the coordinates of boxes.
    axes.imshow(frame, cmap="gray", vmin=0, vmax=255, extent=(0, width, height, 0))
    x_min, y_min, x_max, y_max = box
    left, top, window_width, window_height = window
    _outline(axes, (left, top, left + window_width, top + window_height), ORANGE, "--")
    _outline(axes, (x_min, y_min, x_max, y_max), _SKY, "-")
    axes.set_xlim(min(0, left) - 1, max(width, left + window_width) + 1)
    axes.set_ylim(max(height, top + window_height) + 1, min(0, top) - 1)
    axes.set_facecolor("#444444")
    _without_frame(axes)


def _show_input(
    axes: Axes,
    network_input: UInt8[np.ndarray, "rows columns"],
    box: Sequence[float] | None,
    heat: UInt8[np.ndarray, "rows columns"] | None = None,
) -> None:
    rows, columns = network_input.shape
    extent = (0, columns, rows, 0)
    axes.imshow(network_input, cmap="gray", vmin=0, vmax=255, extent=extent)
    if heat is not None:
        share = heat / 255.0
        # The image shows through where the map is low.
        axes.imshow(
            heat, cmap=MAP_COLOURS, vmin=0, vmax=255, extent=extent, alpha=0.2 + 0.5 * share
        )
        if share.min() < 0.5 < share.max():
            axes.contour(
                share, [0.5], colors="white", linewidths=1.2, extent=extent, origin="upper"
            )
    if box is not None:
        _outline(axes, box, _SKY, "-")
    axes.set_xlim(0, columns)
    axes.set_ylim(rows, 0)
    _without_frame(axes)


def _outline(axes: Axes, edges: Sequence[float], colour: str, style: str) -> None:
    from matplotlib.patches import Rectangle

    x_min, y_min, x_max, y_max = edges
    axes.add_patch(
        Rectangle(
            (x_min, y_min), x_max - x_min, y_max - y_min, fill=False, ec=colour, ls=style, lw=1.6
        )
    )


def _without_frame(axes: Axes) -> None:
    axes.set_anchor("N")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
