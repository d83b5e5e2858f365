"""The figures of a report, each a matplotlib Figure, and their files.

Drawn narrow and with large type, so that they can be read on a phone and in a printed column.
Colours are Okabe and Ito's, which stay apart under every common colour blindness; line style,
marker or hatching always says the same as the colour.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from thyrojax.analysis.calibration import reliability_bins
from thyrojax.analysis.operating_point import Confusion, wilson_interval
from thyrojax.shapes import Float, Int

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, VERMILLION, GREEN, ORANGE, BLACK = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#000000"
GREY = "#6b6b6b"
TIMES = "\N{NO-BREAK SPACE}\N{MULTIPLICATION SIGN}\N{NO-BREAK SPACE}"

_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "axes.labelsize": 11,
    "axes.titlesize": 11,
    "legend.fontsize": 9.5,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "lines.linewidth": 1.8,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "text.parse_math": False,  # names from files stand as they are written, dollar signs too
    "svg.hashsalt": "thyrojax",  # the same figure gives the same file
}


class Rendered(NamedTuple):
    """One figure as the bytes of its two files, and its width in CSS pixels."""

    png: bytes
    svg: bytes
    width: int


def render(draw: Callable[..., Figure], *arguments: Any, **options: Any) -> Rendered:
    """Calls a function of this module in the report's style and renders what it returns."""
    import matplotlib

    with matplotlib.rc_context(_STYLE):
        figure = draw(*arguments, **options)
        png, svg = io.BytesIO(), io.BytesIO()
        figure.savefig(png, format="png", dpi=160, metadata={"Software": None})
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    return Rendered(png.getvalue(), svg.getvalue(), round(figure.get_figwidth() * 96))


def new_figure(width: float, height: float) -> Figure:
    """A figure of that size in inches, outside pyplot's global state."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def draw_learning_curves(
    training_epochs: Float[np.ndarray, " lines"],
    training_loss: Float[np.ndarray, " lines"],
    validation_epochs: Float[np.ndarray, " validations"],
    validation_loss: Float[np.ndarray, " validations"],
    validation_auc: Float[np.ndarray, " validations"],
) -> Figure:
    """Losses above, validation AUC below, over epochs; gaps where a value is not finite."""
    figure = new_figure(4.8, 5.0)
    upper, lower = figure.subplots(2, 1, sharex=True)
    upper.plot(training_epochs, training_loss, color=GREY, lw=1.1, label="training")
    upper.plot(validation_epochs, validation_loss, "o-", color=BLUE, ms=4, label="validation")
    upper.set_ylabel("loss")
    upper.set_ylim(bottom=0.0)
    upper.legend(frameon=False, loc="best")
    lower.plot(validation_epochs, validation_auc, "o-", color=BLUE, ms=4)
    if np.isfinite(validation_auc).any():
        best = int(np.nanargmax(validation_auc))
        lower.plot(
            validation_epochs[best],
            validation_auc[best],
            marker="D",
            ms=8,
            ls="none",
            color=VERMILLION,
            label=f"best: {validation_auc[best]:.3f} at epoch {validation_epochs[best]:.3g}",
        )
        lower.legend(frameon=False, loc="lower right")
        lower.set_ylim(min(0.5, float(np.nanmin(validation_auc)) - 0.02), 1.005)
    lower.set_ylabel("validation AUC")
    lower.set_xlabel("epoch")
    lower.set_xlim(left=0.0)
    return figure


def draw_confusion(confusion: Confusion, label_names: tuple[str, str], cutoff: float) -> Figure:
    """Truth by call: counts, and the share of each truth; class 1 first."""
    figure = new_figure(4.8, 4.0)
    axes = figure.subplots()
    counts = np.array(
        [
            [confusion.true_positive, confusion.false_negative],
            [confusion.false_positive, confusion.true_negative],
        ]
    )
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto")
    for row in range(2):
        for column in range(2):
            share = f"{100 * shares[row, column]:.1f} %" if totals[row, 0] else "no case"
            axes.text(
                column,
                row,
                f"{counts[row, column]}\n{share}",
                ha="center",
                va="center",
                fontsize=14,
                color="white" if shares[row, column] > 0.5 else BLACK,
            )
    wrapped = [textwrap.fill(name, 16) for name in label_names[::-1]]
    called = ["score ≥ cutoff", "score < cutoff"]
    columns = [f"{name}\n({rule})" for name, rule in zip(wrapped, called, strict=True)]
    rows = [f"{name}\n(n = {total})" for name, total in zip(wrapped, totals[:, 0], strict=True)]
    axes.set_xticks([0, 1], columns)
    axes.set_yticks([0, 1], rows)
    axes.set_xlabel(f"called, at cutoff {cutoff:.3f}")
    axes.set_ylabel("truth")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def draw_calibration(
    labels: Int[np.ndarray, " cases"],
    scores: Float[np.ndarray, " cases"],
    label_names: tuple[str, str],
    brier: float,
    ece: float,
) -> Figure:
    """Observed share against mean score in equal-count bins, above the scores' histogram."""
    table = reliability_bins(labels, scores)
    intervals = np.array(
        [
            wilson_interval(int(positives), int(count))
            for positives, count in zip(table.positives, table.counts, strict=True)
        ]
    )
    figure = new_figure(4.8, 6.0)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1.1))
    upper.plot([0, 1], [0, 1], color=GREY, lw=1, ls="--", label="perfect")
    upper.errorbar(
        table.mean_scores,
        table.observed,
        # Wilson's limits hold the share; rounding may put them past it by one part in 1e16.
        yerr=np.maximum(0.0, [table.observed - intervals[:, 0], intervals[:, 1] - table.observed]),
        fmt="o-",
        ms=5,
        lw=1.2,
        capsize=3,
        color=BLUE,
        clip_on=False,
        label=f"bins of about {round(float(np.median(table.counts)))}, 95 % CI",
    )
    upper.set_ylabel("\n".join(textwrap.wrap(f"observed share {label_names[1]}", 34)))
    upper.set_ylim(0, 1)
    upper.set_title(f"Brier score {brier:.3f}, calibration error {ece:.3f}")
    upper.legend(frameon=False, loc="upper left")
    lower.hist(
        [scores[labels == 0], scores[labels == 1]],
        bins=np.linspace(0, 1, 21),
        stacked=True,
        color=[ORANGE, BLUE],
        hatch=["", "////"],
        edgecolor="white",
        linewidth=0.5,
        label=list(label_names),
    )
    lower.set_xlim(0, 1)
    lower.set_xlabel(f"score (probability of {label_names[1]})")
    lower.set_ylabel("cases")
    figure.legend(
        *lower.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False
    )
    return figure
