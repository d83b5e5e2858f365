"""The top of a study's report: what was studied, the main figures, how sure, what is missing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from thyrojax.analysis.study import Study
from thyrojax.report.markup import bullets, escaped, paragraph, plural, warning_box
from thyrojax.report.study_facts import leading_interval, patients_repeat


def headline(study: Study) -> list[str]:
    """What was studied, the four figures with intervals, how sure they are, what is missing."""
    metrics, names = study.metrics, study.label_names
    cards = [
        (
            "AUC",
            _decimals(metrics, "auc"),
            _intervals(metrics, "auc", _three),
            "area under the ROC curve",
        )
    ]
    true_positive, true_negative = metrics["true_positive"], metrics["true_negative"]
    for name, counted in (
        ("sensitivity", f"{true_positive:,} of {metrics['n_positive']:,} {names[1]}"),
        ("specificity", f"{true_negative:,} of {metrics['n_negative']:,} {names[0]}"),
        ("accuracy", f"{true_positive + true_negative:,} of {metrics['n']:,}"),
    ):
        value = "not defined" if metrics[name] is None else f"{100 * metrics[name]:.1f}\u00a0%"
        cards.append((name.capitalize(), value, _intervals(metrics, name, _hundredths), counted))
    items = "\n".join(
        f'<div><dt>{escaped(name)}</dt><dd class="value">{escaped(value)}</dd>'
        + "".join(f"<dd>{escaped(line)}</dd>" for line in (*interval, counted))
        + "</div>"
        for name, value, interval, counted in cards
    )
    return [
        paragraph(_what_was_studied(study)),
        f'<dl class="headline">\n{items}\n</dl>',
        paragraph(_how_sure(study)),
        warning_box(
            "study-warnings",
            "Read these results with care",
            [sentence for sentence in study.warnings if not _is_gap(sentence)],
        ),
        "<h3>What is missing</h3>",
        bullets(missing(study)),
    ]


def missing(study: Study) -> list[str]:
    """What the report does not have, and what it would take; what no file can say comes last."""
    metrics = study.metrics
    absent = [sentence for sentence in study.warnings if _is_gap(sentence)]
    for name, sentence in (
        ("roc", f"No ROC curve: {metrics.get('auc_reason', 'it was not computed')}."),
        ("comparison", "No comparison: one model's predictions were given."),
    ):
        if name not in study.tables:
            absent.append(sentence)
    if study.validation is None:
        absent.append(
            "No validation cases: the scores could not be recalibrated, and no cutoff could be "
            "chosen on cases other than the reported ones."
        )
    absent.append(
        "What the files cannot say: how patients and images were chosen, how the truth was "
        "established, and whether these cases are from another hospital than those of training."
    )
    return absent


def _is_gap(sentence: str) -> bool:
    """Whether a warning is about what is missing, not about how to read what is there."""
    return sentence.startswith("The predictions have no ")


def _what_was_studied(study: Study) -> str:
    metrics, names = study.metrics, study.label_names
    models = ""
    if len(study.predictions) > 1:
        models = (
            f" {len(study.predictions)} models were compared; the figures here are of "
            f"{study.lead}, the first."
        )
    return (
        f"{plural(metrics['n'], 'image')} of {plural(metrics['n_patients'], 'patient')}: "
        f"{metrics['n_positive']:,} {names[1]} and {metrics['n_negative']:,} {names[0]}, scored by "
        f"{study.lead}. A case is called {names[1]} at a score of {metrics['cutoff']:.3f} or "
        f"above. The cutoff: {metrics['cutoff_from']}.{models}"
    )


def _how_sure(study: Study) -> str:
    metrics = study.metrics
    if not patients_repeat(metrics):
        sentences = ["No patient has more than one image, so that images are independent cases."]
    elif metrics.get("sensitivity_ci_cluster") or metrics.get("accuracy_ci_cluster"):
        sentences = [
            "Some patients have several images. The intervals given first are of resampled "
            "patients, as several images of one patient are not independent evidence; those that "
            "take every image as a patient of its own stand below for comparison."
        ]
    else:
        sentences = [
            "Some patients have several images, and these intervals take every image as a patient "
            "of its own: they are too short to that extent."
        ]
    widths = []
    for name in ("sensitivity", "specificity"):
        interval = leading_interval(metrics, name)
        if interval is not None:
            widths.append(f"{100 * (interval[1] - interval[0]):.1f} points for {name}")
    if widths:
        sentences.append(
            f"The intervals are {' and '.join(widths)} wide: smaller differences cannot be told "
            "from chance with these cases."
        )
    return " ".join(sentences)


def _intervals(metrics: dict[str, Any], name: str, form: Callable[[float], str]) -> list[str]:
    """The interval to lead with, then the plain one where both are known."""
    plain, by_patient = metrics.get(f"{name}_ci"), metrics.get(f"{name}_ci_cluster")
    if plain is None and by_patient is None:
        return [f"no interval: {metrics.get(f'{name}_ci_reason', 'none was computed')}"]
    lines = []
    for interval, words in ((by_patient, " by patients"), (plain, "")):
        if interval is not None:
            ends = f"{form(interval[0])}\u00a0to\u00a0{form(interval[1])}"
            lines.append(f"95\u00a0% CI{words} {ends}")
    if by_patient is not None and plain is not None:
        lines[1] = lines[1].replace("95\u00a0% CI", "by\u00a0images")
    return lines


def _decimals(metrics: dict[str, Any], name: str) -> str:
    return "not defined" if metrics[name] is None else f"{metrics[name]:.3f}"


def _three(value: float) -> str:
    return f"{value:.3f}"


def _hundredths(value: float) -> str:
    return f"{100 * value:.1f}"
