"""A run folder as one HTML file that needs nothing beside it, and its figures as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from thyrojax.analysis.operating_point import Confusion, summarise
from thyrojax.analysis.roc import estimate_auc, roc_curve
from thyrojax.errors import RunError
from thyrojax.files import write_whole
from thyrojax.report import figures, sections
from thyrojax.report.figures import Rendered, render
from thyrojax.report.markup import escaped
from thyrojax.report.run_folder import Run, read_run
from thyrojax.report.style import STYLE_SHEET
from thyrojax.shapes import Float, UInt8

# How far metrics.json may lie from what its predictions give: it may have been rounded.
_TOLERANCE = 5e-4


def write_report(run: Path) -> Path:
    """Writes RUN/report.html and RUN/figures/*.png, *.svg; returns the path of the report.

    Everything is made before the first file is written, and each file is written whole.

    Raises:
      RunError: what `read_run` refuses, or metrics.json is not of predictions/test.csv.
      PredictionsError: predictions/test.csv cannot be used.
      ThyrojaxError: the run folder cannot be written.
    """
    contents = read_run(run)
    summary = _summarise_test(contents)
    drawn = _draw_figures(contents, summary)
    page = _page(contents, summary, drawn)
    for name, rendered in drawn.items():
        write_whole(run / "figures" / f"{name}.png", rendered.png)
        write_whole(run / "figures" / f"{name}.svg", rendered.svg)
    path = run / "report.html"
    write_whole(path, page.encode())
    return path


def _summarise_test(run: Run) -> dict[str, Any]:
    """The figures of the test part, computed anew and held against metrics.json."""
    summary = summarise(
        run.test.labels,
        run.test.scores,
        float(run.metrics["cutoff"]),
        str(run.metrics["cutoff_from"]),
        run.test.patient_ids,
    )
    for key in ("auc", "accuracy", "sensitivity", "specificity"):
        found, expected = run.metrics.get(key), summary[key]
        if found is None or expected is None:
            continue
        if not isinstance(found, int | float) or abs(found - expected) > _TOLERANCE:
            raise RunError(
                f"{run.folder / 'metrics.json'}, {key}: found {found!r}, expected {expected:.4f} "
                "(of predictions/test.csv): evaluate the run again"
            )
    return summary


def _draw_figures(run: Run, summary: dict[str, Any]) -> dict[str, Rendered]:
    """Every figure that the run has the numbers for, by file name."""
    labels, scores, names = run.test.labels, run.test.scores, run.data.label_names
    cutoff = summary["cutoff"]
    confusion = Confusion(**{name: summary[name] for name in Confusion._fields})
    drawn = {
        "confusion": render(figures.draw_confusion, confusion, names, cutoff),
        "calibration": render(
            figures.draw_calibration, labels, scores, names, summary["brier"], summary["ece"]
        ),
    }
    if summary["auc"] is not None:
        curve, estimate = roc_curve(labels, scores), estimate_auc(labels, scores)
        drawn["roc"] = render(figures.draw_roc, curve, estimate, confusion, cutoff)
    if run.validation:
        drawn["learning_curves"] = render(
            figures.draw_learning_curves,
            _column(run.training, "epoch"),
            _column(run.training, "loss"),
            _column(run.validation, "epoch"),
            _column(run.validation, "val_loss"),
            _column(run.validation, "val_auc"),
        )
    for number, example in enumerate(run.examples, start=1):
        drawn[f"example_{number}"] = render(
            figures.draw_example,
            _read_grey(example.frame),
            _read_grey(example.network_input),
            example.box,
            example.window,
        )
    return drawn


def _column(lines: tuple[dict[str, Any], ...], key: str) -> Float[np.ndarray, " lines"]:
    """One value of each log line; NaN where it is missing or null."""
    values = [line.get(key) for line in lines]
    return np.array(
        [value if isinstance(value, int | float) else np.nan for value in values], dtype=np.float64
    )


def _read_grey(path: Path) -> UInt8[np.ndarray, "height width"]:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("L"))
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError):
        raise RunError(f"{path}: found no readable image, expected an example's PNG") from None


def _page(run: Run, summary: dict[str, Any], drawn: dict[str, Rendered]) -> str:
    name = run.config.get("name") or run.folder.resolve().name
    title = f"{name}: Inception-v3 on {run.data.subject}"
    body = "\n".join(
        [
            sections.headline(run, summary),
            sections.data(run),
            sections.training(run, drawn),
            sections.results(run, summary, drawn),
            sections.examples(run, summary, drawn),
            sections.settings(run),
        ]
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escaped(title)}</title>
<style>{STYLE_SHEET}</style>
</head>
<body>
<header>
<h1>{escaped(title)}</h1>
</header>
<main>
{body}
</main>
{sections.footer()}
</body>
</html>
"""
