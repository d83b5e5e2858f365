"""The sections of a run's report, in their order, each a function from the run to HTML."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

import numpy as np

from thyrojax.analysis.cutoff import call_positive
from thyrojax.report.figures import Rendered
from thyrojax.report.markup import escaped, figure, paragraph, plural, section, table
from thyrojax.report.run_folder import PARTS, Example, Run, SplitRow, count_part

_NOT_STATED = "not stated"
_MAKER = ("thyrojax", "numpy", "scipy", "matplotlib")


def headline(run: Run, summary: dict[str, Any]) -> str:
    """The four figures a reader came for, with intervals, and what they are of."""
    positive_name = run.data.label_names[1]
    negative_name = run.data.label_names[0]
    cards = [
        (
            "AUC",
            _decimal(summary, "auc"),
            _decimal_interval(summary, "auc"),
            "area under the ROC curve",
        ),
        (
            "Sensitivity",
            _percent(summary, "sensitivity"),
            _percent_interval(summary, "sensitivity"),
            f"{summary['true_positive']} of {summary['n_positive']} {positive_name}",
        ),
        (
            "Specificity",
            _percent(summary, "specificity"),
            _percent_interval(summary, "specificity"),
            f"{summary['true_negative']} of {summary['n_negative']} {negative_name}",
        ),
        (
            "Accuracy",
            _percent(summary, "accuracy"),
            _percent_interval(summary, "accuracy"),
            f"{summary['true_positive'] + summary['true_negative']} of {summary['n']}",
        ),
    ]
    items = "\n".join(
        f'<div><dt>{escaped(name)}</dt><dd class="value">{escaped(value)}</dd>'
        f"<dd>{escaped(interval)}</dd><dd>{escaped(counts)}</dd></div>"
        for name, value, interval, counts in cards
    )
    lead = (
        f"On the test part: {plural(summary['n'], run.data.unit)} of "
        f"{plural(summary['n_patients'], 'patient')} ({run.data.subject}), "
        f"{summary['n_positive']} {positive_name} and {summary['n_negative']} {negative_name}. "
        f"Cutoff {summary['cutoff']:.3f}: {summary['cutoff_from']}."
    )
    note = summary.get("intervals_note")
    return section(
        "headline",
        "Result",
        paragraph(lead),
        f'<dl class="headline">\n{items}\n</dl>',
        f'<p class="note">{escaped(_sentence(note))}</p>' if note else "",
    )


def data(run: Run) -> str:
    """What the data are, how many images came and went, and what lies in each part."""
    summary = run.data
    names = summary.label_names
    return section(
        "data",
        "Data",
        paragraph(
            f"Source {summary.source}: {summary.subject}. Class 0 is “{names[0]}”, class 1 is "
            f"“{names[1]}”; the score is the network's probability of class 1. Parts are "
            "disjoint by patient."
        ),
        f"<h3>{escaped('From images to parts')}</h3>",
        _flow(run),
        "<h3>Parts by class</h3>",
        _split_table(run, "Size group (cm)", "size groups", lambda row: row.size_group, _size_key),
        _split_table(run, "TI-RADS", "TI-RADS grades", lambda row: row.tirads, str),
        f'<p class="note">Fingerprint of the built data: {escaped(summary.fingerprint)}</p>',
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
    return section("training", "Training", *parts)


def results(run: Run, summary: dict[str, Any], drawn: dict[str, Rendered]) -> str:
    """ROC, confusion, calibration, and the operating point as a table."""
    names = run.data.label_names
    shown = []
    if "roc" in drawn:
        shown.append(
            figure(
                drawn["roc"],
                f"ROC curve with area {_decimal(summary, 'auc')}, "
                f"{_decimal_interval(summary, 'auc')}; the operating point has sensitivity "
                f"{_percent(summary, 'sensitivity')} and specificity "
                f"{_percent(summary, 'specificity')}.",
                "ROC curve of the test part with the operating point. Interval of the area: "
                f"{summary['auc_ci_method']}.",
            )
        )
    shown.append(
        figure(
            drawn["confusion"],
            f"Confusion matrix: of {summary['n_positive']} {names[1]}, "
            f"{summary['true_positive']} called {names[1]}; of {summary['n_negative']} "
            f"{names[0]}, {summary['true_negative']} called {names[0]}.",
            f"Truth by call at cutoff {summary['cutoff']:.3f} ({summary['cutoff_from']}). Shares "
            "are of each row.",
        )
    )
    shown.append(
        figure(
            drawn["calibration"],
            "Reliability curve of the observed share against the mean score, above a histogram "
            f"of the scores by class. Brier score {summary['brier']:.3f}, expected calibration "
            f"error {summary['ece']:.3f}.",
            "Calibration on the test part, in bins of nearly equal counts; below, the scores by "
            "class.",
        )
    )
    missing = "" if "roc" in drawn else f"No ROC curve: {summary['auc_reason']}."
    return section(
        "results",
        "Test part in full",
        paragraph(missing) if missing else "",
        f'<div class="figures">\n{"".join(shown)}\n</div>',
        _operating_table(summary, names),
    )


def examples(run: Run, summary: dict[str, Any], drawn: dict[str, Rendered]) -> str:
    """Confident calls, wrong ones first."""
    if not run.examples:
        text = "No examples: `thyrojax evaluate` has not written examples.json into this run."
        return section("examples", "Examples", paragraph(text))
    groups: dict[bool, list[str]] = {False: [], True: []}
    for number, example in enumerate(run.examples, start=1):
        called = bool(call_positive(np.array([example.score]), summary["cutoff"])[0])
        right = called == bool(example.label)
        groups[right].append(_example(run, example, called, drawn[f"example_{number}"]))
    parts = [
        paragraph(
            "The most confident calls of each class, not a random sample. Solid blue: the "
            "annotated box; dashed orange: the window cut for the network. Grey around a frame is "
            "not part of it."
        )
    ]
    for right, heading in ((False, "Wrong calls"), (True, "Right calls")):
        if groups[right]:
            parts.append(f"<h3>{heading}</h3>")
            parts.append(f'<div class="figures wide">\n{"".join(groups[right])}\n</div>')
    return section("examples", "Examples", *parts)


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
        f"<footer><p>Written by thyrojax {escaped(_installed('thyrojax'))} on {now}. Method: "
        "Guan et al. 2019, Ann Transl Med 7(7):137, doi 10.21037/atm.2019.04.34. "
        "Research software: not a medical device.</p></footer>"
    )


def _flow(run: Run) -> str:
    """Images found, left out, used, and split, as a list that is drawn as a diagram."""
    summary = run.data
    steps = [
        f'<div class="step"><strong>{plural(summary.n_images, "image")} found</strong>'
        f"source {escaped(summary.source)}</div>"
    ]
    if summary.exclusions:
        total = sum(summary.exclusions.values())
        ordered = sorted(summary.exclusions.items(), key=lambda item: (-item[1], item[0]))
        reasons = "".join(f"<li>{escaped(reason)}: {count:,}</li>" for reason, count in ordered)
        steps.append(
            f'<div class="step out"><strong>{total:,} excluded</strong>'
            f"images or regions, by reason<ul>{reasons}</ul></div>"
        )
    else:
        steps.append('<div class="step out"><strong>none excluded</strong></div>')
    steps.append(
        f'<div class="step"><strong>{escaped(plural(summary.n_nodules, summary.unit))}</strong>'
        f"of {plural(summary.n_patients, 'patient')}</div>"
    )
    boxes = []
    for part in PARTS:
        n, patients, by_label = count_part(run.split, part)
        classes = "".join(
            f"<li>{by_label[label]:,} {escaped(name)}</li>"
            for label, name in enumerate(summary.label_names)
        )
        boxes.append(
            f'<div class="step"><strong>{part}: {escaped(plural(n, summary.unit))}</strong>'
            f"of {plural(patients, 'patient')}<ul>{classes}</ul></div>"
        )
    outside = summary.n_nodules - len(run.split)
    if outside > 0:
        boxes.append(f'<div class="step out"><strong>{outside:,} in no part</strong></div>')
    steps.append(f'<div class="parts">{"".join(boxes)}</div>')
    return '<ol class="flow">' + "".join(f"<li>{step}</li>" for step in steps) + "</ol>"


def _split_table(
    run: Run,
    heading: str,
    plural_name: str,
    group_of: Callable[[SplitRow], str],
    order: Callable[[str], Any],
) -> str:
    """Counts of each part and class by a group; a sentence where no row has the group."""
    known = sorted({group_of(row) for row in run.split} - {""}, key=order)
    if not known:
        return paragraph(f"No {plural_name}: the source does not state them.")
    groups = [*known, ""] if any(not group_of(row) for row in run.split) else known
    rows: list[list[object]] = []
    for part in PARTS:
        for label, name in enumerate(run.data.label_names):
            chosen = [row for row in run.split if row.part == part and row.label == label]
            counts = Counter(map(group_of, chosen))
            patients = len({row.patient_id for row in chosen})
            rows.append([part, name, len(chosen), patients, *(counts[group] for group in groups)])
    header = [
        "Part",
        "Class",
        f"{run.data.unit.capitalize()}s",
        "Patients",
        *(group or _NOT_STATED for group in groups),
    ]
    return table(f"{heading} by part and class", header, rows, row_headings=2)


def _size_key(group: str) -> tuple[int, str]:
    """ "<0.5" first, ">1.0" last."""
    return {"<": 0, ">": 2}.get(group[0], 1), group


def _operating_table(summary: dict[str, Any], names: tuple[str, str]) -> str:
    positives, negatives = summary["n_positive"], summary["n_negative"]
    true_positive, true_negative = summary["true_positive"], summary["true_negative"]
    called = true_positive + summary["false_positive"]
    rows = [
        (title, _percent(summary, key), _percent_interval(summary, key), f"{count} / {total}")
        for title, key, count, total in (
            ("Accuracy", "accuracy", true_positive + true_negative, summary["n"]),
            ("Sensitivity", "sensitivity", true_positive, positives),
            ("Specificity", "specificity", true_negative, negatives),
            ("Positive predictive value", "ppv", true_positive, called),
            ("Negative predictive value", "npv", true_negative, summary["n"] - called),
        )
    ]
    caption = (
        f"Operating point at cutoff {summary['cutoff']:.3f} ({summary['cutoff_from']}), with "
        f"Wilson's intervals. Positive is “{names[1]}”; predictive values hold at the test part's "
        f"share of it, {positives} of {summary['n']}."
    )
    return table(caption, ("Measure", "Value", "Interval", "Counts"), rows)


def _example(run: Run, example: Example, called: bool, rendered: Rendered) -> str:
    truth, call = run.data.label_names[example.label], run.data.label_names[int(called)]
    words = f"{example.image_id}: {truth}, called {call} at score {example.score:.3f}."
    alternative = f"Ultrasound frame with box and window, and the network's input. {words}"
    return figure(rendered, alternative, words, vector=False)


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
    items = "\n".join(
        f"<div><dt>{escaped(key)}</dt><dd>{escaped(_setting(value))}</dd></div>"
        for key, value in values.items()
    )
    return f'<dl class="settings">\n{items}\n</dl>'


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


def _decimal(summary: dict[str, Any], key: str) -> str:
    value = summary[key]
    return "not defined" if value is None else f"{value:.3f}"


def _percent(summary: dict[str, Any], key: str) -> str:
    value = summary[key]
    return "not defined" if value is None else f"{100 * value:.1f}\u00a0%"


def _decimal_interval(summary: dict[str, Any], key: str) -> str:
    interval = summary[f"{key}_ci"]
    if interval is None:
        return f"no interval: {summary[f'{key}_ci_reason']}"
    return f"95\u00a0% CI {interval[0]:.3f} to {interval[1]:.3f}"


def _percent_interval(summary: dict[str, Any], key: str) -> str:
    interval = summary[f"{key}_ci"]
    if interval is None:
        return f"no interval: {summary[f'{key}_ci_reason']}"
    return f"95\u00a0% CI {100 * interval[0]:.1f} to {100 * interval[1]:.1f}\u00a0%"


def _sentence(text: str) -> str:
    """Text that begins with a capital and ends with a full stop."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
