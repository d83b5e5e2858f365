"""A run folder as one HTML file that needs nothing beside it, and its figures as files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np

from thyrojax.analysis.operating_point import Confusion, summarise
from thyrojax.analysis.study import Study
from thyrojax.errors import RunError
from thyrojax.files import write_whole
from thyrojax.report import data_section, figures, gallery, network_section
from thyrojax.report import sections as run_sections
from thyrojax.report.checklist import checklist_section, checklist_tables
from thyrojax.report.data_section import draw_distributions
from thyrojax.report.figures import Rendered, render
from thyrojax.report.gallery import draw_gallery
from thyrojax.report.markup import document
from thyrojax.report.model_card import model_card, model_card_markdown
from thyrojax.report.network_section import draw_architecture
from thyrojax.report.run_folder import Run, read_run
from thyrojax.report.run_study import study_of_run
from thyrojax.report.study_figures import draw_study
from thyrojax.report.study_page import write_tables
from thyrojax.report.study_sections import sections as study_sections
from thyrojax.shapes import Float

# How far metrics.json may lie from what its predictions give: it may have been rounded.
_TOLERANCE = 5e-4


def write_report(run: Path) -> Path:
    """Writes RUN/report.html, tables/*.csv, *.md, figures/*.png, *.svg and model_card.md.

    Everything is made before the first file is written, and each file is written whole.

    Returns:
      The path of the report.

    Raises:
      RunError: what `read_run` and `study_of_run` refuse, or metrics.json is not of
        predictions/test.csv.
      PredictionsError: predictions/test.csv cannot be used.
      ThyrojaxError: the run folder cannot be written.
    """
    contents = read_run(run)
    summary = _summarise_test(contents)
    study = study_of_run(contents)
    drawn = draw_study(study) | _draw_figures(contents, summary)
    page = _page(contents, summary, study, drawn)
    tables = [*study.tables.values(), *checklist_tables(contents, study)]
    write_tables(run, tables)
    write_whole(run / "model_card.md", model_card_markdown(contents, study).encode())
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
    if run.validation:
        drawn["learning_curves"] = render(
            figures.draw_learning_curves,
            _column(run.training, "epoch"),
            _column(run.training, "loss"),
            _column(run.validation, "epoch"),
            _column(run.validation, "val_loss"),
            _column(run.validation, "val_auc"),
        )
    drawn |= draw_distributions(run)
    drawn |= draw_architecture(run)
    drawn |= draw_gallery(run, cutoff)
    return drawn


def _column(lines: tuple[dict[str, Any], ...], key: str) -> Float[np.ndarray, " lines"]:
    """One value of each log line; NaN where it is missing or null."""
    values = [line.get(key) for line in lines]
    return np.array(
        [value if isinstance(value, int | float) else np.nan for value in values], dtype=np.float64
    )


def _page(run: Run, summary: dict[str, Any], study: Study, drawn: dict[str, Rendered]) -> str:
    """The whole page: what was found, on what, by what, and how it looks case by case."""
    name = run.config.get("name") or run.folder.resolve().name
    first, *others = [part.html for part in study_sections(study, drawn)]
    sections = [
        first,
        run_sections.calls(run, summary, drawn),
        *others[:-1],
        data_section.data(run, summary, drawn),
        gallery.crop_shapes(run, drawn),
        network_section.network(run, drawn),
        run_sections.training(run, drawn),
        gallery.examples(run, summary, drawn),
        gallery.explanations(run, summary, drawn),
        others[-1],
        model_card(run, study),
        checklist_section(run, study),
        run_sections.settings(run),
    ]
    return document(
        f"{name}: Inception-v3 on {run.data.subject}",
        run_sections.lead(run, summary),
        _entries(sections),
        "\n".join(sections),
        run_sections.footer(),
    )


def _entries(sections: Sequence[str]) -> list[tuple[str, str]]:
    """Identifier and heading of each section, for the table of contents."""
    headings = re.findall(r'<h2 id="([^"]+)">(.*?)</h2>', "\n".join(sections))
    return [(identifier, unescape(heading)) for identifier, heading in headings]
