"""The sections of a run's report, in their order, each a function from the run to HTML."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

from thyrojax.report import markup
from thyrojax.report.figures import Rendered
from thyrojax.report.markup import escaped, figure, paragraph, plural, section
from thyrojax.report.run_folder import Run

_MAKER = ("thyrojax", "numpy", "scipy", "matplotlib")


def lead(run: Run, summary: dict[str, Any]) -> str:
    """What the figures are of, under the title."""
    names = run.data.label_names
    return paragraph(
        f"On the test part: {plural(summary['n'], run.data.unit)} of "
        f"{plural(summary['n_patients'], 'patient')} ({run.data.subject}), "
        f"{summary['n_positive']} {names[1]} and {summary['n_negative']} {names[0]}."
    )


def training(run: Run, drawn: dict[str, Rendered]) -> str:
    """Learning curves, and the weights that training began with."""
    parts = [paragraph(_weights_sentence(run.weights))]
    if "learning_curves" in drawn:
        last = run.validation[-1]
        parts.append(
            figure(
                drawn["learning_curves"],
                "Two line charts over epochs: training and validation loss above, validation AUC "
                f"below. The last validation is at epoch {last['epoch']:g}.",
                "Learning curves. The training loss is of single batches.",
            )
        )
    else:
        parts.append(
            paragraph("No learning curves: the run's metrics.jsonl has no validation yet.")
        )
    if run.bad_records:
        parts.append(paragraph(_bad_records_sentence(run)))
    return section("training", "Training", *parts)


def _bad_records_sentence(run: Run) -> str:
    n, shown = len(run.bad_records), ", ".join(run.bad_records[:_MOST_NAMED])
    more = f" and {n - _MOST_NAMED} more" if n > _MOST_NAMED else ""
    return (
        f"{plural(n, f'training {run.data.unit}')} could not be read and gave way to others: "
        f"{shown}{more}. Counts of the training part include them."
    )


_MOST_NAMED = 5


def calls(run: Run, summary: dict[str, Any], drawn: dict[str, Rendered]) -> str:
    """Truth by call at the cutoff."""
    names = run.data.label_names
    return section(
        "calls",
        "Calls by truth",
        figure(
            drawn["confusion"],
            f"Confusion matrix: of {summary['n_positive']} {names[1]}, "
            f"{summary['true_positive']} called {names[1]}; of {summary['n_negative']} "
            f"{names[0]}, {summary['true_negative']} called {names[0]}.",
            f"Truth by call at cutoff {summary['cutoff']:.3f} ({summary['cutoff_from']}). Shares "
            "are of each row.",
        ),
    )


def settings(run: Run) -> str:
    """The configuration, whole, and the versions of what ran."""
    here = {name: _installed(name) for name in _MAKER}
    parts = ["<h3>Configuration</h3>", _settings(run.config)]
    if run.versions:
        parts += ["<h3>Versions in training</h3>", _settings(run.versions)]
    else:
        parts.append(paragraph("The run did not record the versions that it was trained with."))
    parts += [
        "<h3>Versions of this report</h3>",
        _settings({**here, "python": platform.python_version()}),
    ]
    return section("settings", "Configuration and versions", *parts)


def footer() -> str:
    """When and by what the report was written."""
    now = datetime.now(tz=UTC).strftime("%Y-%m-%d %H:%M UTC")
    return (
        f"<p>Written by thyrojax {escaped(_installed('thyrojax'))} on {now}. Method: "
        "Guan et al. 2019, Ann Transl Med 7(7):137, doi 10.21037/atm.2019.04.34. "
        "Research software: not a medical device.</p>"
    )


def _weights_sentence(weights: dict[str, Any] | None) -> str:
    if weights is None:
        return "The run did not record the weights that it started from."
    source = weights.get("tag") or weights.get("source") or "unnamed weights"
    parts = [f"Training started from {source}"]
    if weights.get("source") and weights.get("source") != source:
        parts.append(f" ({weights['source']})")
    if weights.get("sha256"):
        parts.append(f", sha256 {weights['sha256']}")
    sentence = "".join(parts) + "."
    note = weights.get("note")
    return f"{sentence} {_sentence(str(note))}" if note else sentence


def _settings(values: dict[str, Any]) -> str:
    return markup.settings({name: _setting(value) for name, value in values.items()})


def _setting(value: Any) -> str:
    if value is None or value == "":
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _installed(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _sentence(text: str) -> str:
    """Text that begins with a capital and ends with a full stop."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
