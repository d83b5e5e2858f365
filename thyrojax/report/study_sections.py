"""The sections of a study's report, in their order: each a function from the study to HTML.

A section whose table the study lacks is left out; the first one says what that would need.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from thyrojax.analysis.study import Study
from thyrojax.report import study_methods
from thyrojax.report.figures import Rendered
from thyrojax.report.markup import beside, figure, paragraph, section
from thyrojax.report.study_facts import (
    Interval,
    auc_of,
    interval_columns,
    is_separated,
    number,
    patients_repeat,
    reader_point,
    records,
    separation_words,
)
from thyrojax.report.study_features import print_features, print_odds_ratios
from thyrojax.report.study_headline import headline
from thyrojax.report.study_tables import (
    View,
    count,
    decimal,
    in_words,
    measure_name,
    measures,
    odds,
    p_value,
    print_any,
    print_differences,
    print_table,
    text,
    three_decimals,
    verbatim,
)
from thyrojax.report.study_use import calibration, decision_curve, sample_size

_MEASURES = ("accuracy", "sensitivity", "specificity", "auc")
_N = View("n", ("n",), count)


class Section(NamedTuple):
    """One section: its identifier for links, its heading, and its HTML with that heading."""

    identifier: str
    heading: str
    html: str


def sections(study: Study, drawn: dict[str, Rendered]) -> list[Section]:
    """Every section that the study has something for; identifiers begin with `study-`."""
    made: list[tuple[str, str, Sequence[str]]] = [
        ("result", "Result", headline(study)),
        ("operating-point", "At the cutoff", operating_point(study)),
        ("roc", "ROC curve", roc(study, drawn)),
        ("comparison", "Comparison of models", comparison(study, drawn)),
        ("size-groups", "By nodule size", size_groups(study, drawn)),
        ("features", "By sonographic feature", print_features(study)),
        ("odds-ratios", "What goes with misdiagnosis", odds_ratios(study, drawn)),
        ("readers", "Beside the reader", readers(study, drawn)),
        ("calibration", "Calibration", calibration(study, drawn)),
        ("decision", "Use: decision curve", decision_curve(study, drawn)),
        ("sample-size", "Number of cases", sample_size(study)),
        ("further", "Further tables", further(study)),
        ("methods", "Statistical methods", methods(study)),
    ]
    return [
        Section(f"study-{name}", heading, section(f"study-{name}", heading, *parts))
        for name, heading, parts in made
        if any(parts)
    ]


def operating_point(study: Study) -> list[str]:
    """Every measure at the cutoff, other cutoffs, and the same by patient."""
    metrics, tables, parts = study.metrics, study.tables, []
    parts.append(
        paragraph(
            f"At or above a score of {metrics['cutoff']:.3f} a case is called "
            f"“{study.label_names[1]}”. The cutoff: {metrics['cutoff_from']}. Predictive values "
            f"and accuracy hold at this study's share of {study.label_names[1]} cases, "
            f"{metrics['n_positive']:,} of {metrics['n']:,}."
        )
    )
    if "operating_point" in tables:
        source = tables["operating_point"]
        by_patient = View(
            "Value (interval by patients)", ("value", "cluster_ci_low", "cluster_ci_high"), odds
        )
        by_image = View("Value (interval)", ("value", "ci_low", "ci_high"), odds)
        plain = View("Interval, images as independent", ("ci_low", "ci_high"), odds)
        repeat = patients_repeat(metrics)
        views = [View("Measure", ("metric",), measure_name)]
        views += [by_patient, plain] if repeat else [by_image]
        views += [View("Cases", ("n",), count), View("Method", ("ci_method",), verbatim)]
        parts.append(print_table(source, views))
    if "cutoffs" in tables:
        parts.append("<h3>Other rules for the cutoff</h3>")
        views = [View("Rule", ("rule",), verbatim), View("Cutoff", ("cutoff",), decimal)]
        views += measures(tables["cutoffs"], "sensitivity", "specificity")
        views.append(View("Chosen on", ("chosen_on",), verbatim))
        parts.append(print_table(tables["cutoffs"], views))
    if "patient_level" in tables:
        parts.append("<h3>By patient</h3>")
        source = tables["patient_level"]
        views = [View("Score of a patient", ("rule",), text), _N]
        parts.append(print_table(source, views + measures(source, *_MEASURES)))
    return parts


def roc(study: Study, drawn: dict[str, Rendered]) -> list[str]:
    """ROC and precision-recall curves with their areas."""
    shown = []
    area = _area_words(study, study.lead)
    if "roc" in drawn:
        shown.append(
            figure(
                drawn["roc"],
                f"ROC curve of {study.lead}: {area}. {_point_words(study)}",
                "ROC curve with its 95 % band (each false positive rate by itself) and the "
                "operating point. Dashed: chance.",
            )
        )
    if "precision_recall" in drawn:
        average = [
            f"average precision {number(row, 'value'):.3f}"
            for row in records(study, "auc")
            if row["measure"] == "average precision" and row["name"] == study.lead
        ]
        share = study.metrics["n_positive"] / study.metrics["n"]
        words = average[0] if average else "see the table"
        shown.append(
            figure(
                drawn["precision_recall"],
                f"Precision over recall of {study.lead}: {words}; the share of positives, which "
                f"chance would reach, is {share:.3f}.",
                "Precision-recall curve. Dashed: the share of positives, which chance reaches.",
            )
        )
    parts = [beside(shown)]
    if "auc" in study.tables:
        views = [
            View("Measure", ("measure",), verbatim),
            View("Model", ("name",), verbatim),
            View("Value", ("value", "ci_low", "ci_high"), decimal),
            View("Interval by", ("method",), verbatim),
        ]
        if len({row["name"] for row in records(study, "auc")}) == 1:
            del views[1]
        parts.append(print_table(study.tables["auc"], views))
    return parts


def comparison(study: Study, drawn: dict[str, Rendered]) -> list[str]:
    """Table 1 and Figure 5 of the paper: every model with intervals, and tested with the best."""
    if "comparison" not in study.tables:
        return []
    source, shown = study.tables["comparison"], []
    areas = "; ".join(_area_words(study, str(row["name"])) for row in source.records())
    if "roc_models" in drawn:
        shown.append(
            figure(
                drawn["roc_models"],
                f"ROC curves of {len(source.rows)} models. {areas}.",
                "ROC curves of all models; the key gives each area (AUC) with its 95 % interval.",
            )
        )
    if "comparison" in drawn:
        shown.append(
            figure(
                drawn["comparison"],
                "Accuracy, sensitivity, specificity and AUC of each model with intervals. "
                f"{areas}; the table has all figures.",
                "The same figures side by side; a diamond marks the best model of each measure.",
            )
        )
    views = [View("Model", ("name",), verbatim), *measures(source, *_MEASURES)]
    views.append(View("Cutoff", ("cutoff",), decimal))
    parts = [beside(shown), print_table(source, views)]
    differences = print_differences(source, _MEASURES)
    return (
        [*parts, "<h3>Differences from the best model</h3>", differences] if differences else parts
    )


def size_groups(study: Study, drawn: dict[str, Rendered]) -> list[str]:
    """Sensitivity, specificity and AUC by size."""
    if "size_groups" not in study.tables:
        return []
    source = study.tables["size_groups"]
    views = [
        View("Size, cm", ("group",), verbatim),
        _N,
        View(study.label_names[1], ("n_positive",), count),
        View(study.label_names[0], ("n_negative",), count),
        *measures(source, *_MEASURES[1:]),
    ]
    shown = []
    if "size_groups" in drawn:
        told = "; ".join(
            f"{row['group']} (n = {row['n']}): "
            + ", ".join(
                f"{name} {in_words(row, name)}" for name in ("sensitivity", "specificity", "auc")
            )
            for row in source.records()
        )
        shown.append(
            figure(
                drawn["size_groups"],
                f"Points with intervals by size group in cm. {told}.",
                "Sensitivity, specificity and AUC by size in cm, with 95 % intervals. Overlapping "
                "intervals are no test of a difference, nor of its absence. An arrow says that the "
                "interval goes on.",
            )
        )
    return [beside(shown), print_table(source, views)]


def odds_ratios(study: Study, drawn: dict[str, Rendered]) -> list[str]:
    """Table 3 of the paper: odds ratios of a wrong call, alone and all together."""
    if "odds_ratios" not in study.tables:
        return []
    rows = study.tables["odds_ratios"].records()
    parts = [
        paragraph(
            "Odds ratios of a wrong call at the cutoff (misdiagnosis), over all cases of both "
            "classes. Below 1: fewer errors where the feature is present. An association, no cause."
        )
    ]
    separated = sorted({text(row["variable"]) for row in rows if is_separated(row)})
    if separated:
        parts.append(
            paragraph(
                f"Separated: {', '.join(separated)}. One side has no wrong call (or only wrong "
                "ones), so that there is no ordinary odds ratio but 0 or infinity. Firth's "
                "estimate stands beside it."
            )
        )
    if "odds_ratios" in drawn:
        told = "; ".join(
            f"{text(row['variable'])}, {row['model']}: "
            + (
                separation_words(row)
                if is_separated(row)
                else f"{in_words(row, 'odds_ratio')} "
                f"({in_words(row, 'ci_low')} to {in_words(row, 'ci_high')})"
            )
            for row in rows
        )
        parts.append(
            figure(
                drawn["odds_ratios"],
                f"Odds ratios on a logarithmic axis. {told}.",
                "Odds ratios of misdiagnosis with 95 % intervals, on a logarithmic axis. An arrow "
                "says that the interval goes on.",
            )
        )
    return [*parts, *print_odds_ratios(study)]


def readers(study: Study, drawn: dict[str, Rendered]) -> list[str]:
    """The model and the radiologist on the same cases."""
    if "readers" not in study.tables:
        return []
    shown = []
    if "readers" in drawn:
        point = reader_point(study)
        told = (
            "no point"
            if point is None
            else (f"sensitivity {point.sensitivity:.3f}, specificity {point.specificity:.3f}")
        )
        shown.append(
            figure(
                drawn["readers"],
                f"ROC curve of {study.lead} with the reader as a point: {told}. "
                f"{_point_words(study)}",
                "The reader as a point beside the model's curve, with 95 % intervals. A curve that "
                "passes above and left of the point has a cutoff better than the reader in both. "
                "The curve is of all cases, the point of those that the reader called.",
            )
        )
    source = study.tables["readers"]
    views = [View("Measure", ("measure",), measure_name)]
    views += [
        View(heading, (name, *interval_columns(source.columns, name)), decimal)
        for name, heading in (
            ("reader", "Reader"),
            ("model", "Model"),
            ("difference", "Model less reader"),
        )
    ]
    views += [View("P", ("p",), p_value), _N]
    return [beside(shown), print_table(source, views)]


# Those that the sections above print.
TABLES = frozenset({
    "operating_point", "cutoffs", "patient_level", "roc", "roc_models", "precision_recall",
    "auc", "comparison", "size_groups", "features", "odds_ratios", "readers", "calibration",
    "calibration_summary", "decision_curve", "sample_size",
})  # fmt: skip


def further(study: Study) -> list[str]:
    """Tables that no section above knows."""
    return [print_any(source) for name, source in study.tables.items() if name not in TABLES]


def methods(study: Study) -> list[str]:
    """One paragraph to a method."""
    return [paragraph(sentence) for sentence in study_methods.sentences(study)]


def _area_words(study: Study, name: str) -> str:
    """ "m50: AUC 0.956 (0.935 to 0.970)"."""
    area = auc_of(study, name)
    if area is None:
        return f"{name}: no AUC"
    interval: Interval | None = area[1]
    limits = "" if interval is None else f" ({interval[0]:.3f} to {interval[1]:.3f})"
    return f"{name}: AUC {area[0]:.3f}{limits}"


def _point_words(study: Study) -> str:
    metrics = study.metrics
    return (
        f"At cutoff {metrics['cutoff']:.3f}: sensitivity {three_decimals(metrics['sensitivity'])}, "
        f"specificity {three_decimals(metrics['specificity'])}."
    )
