"""The sections on using a score: calibration, decision curve, and how many cases it would take."""

from __future__ import annotations

from thyrojax.analysis.study import Study
from thyrojax.analysis.table import NOTE, Cell
from thyrojax.report.figures import Rendered
from thyrojax.report.markup import beside, estimate, figure, notes, table
from thyrojax.report.study_facts import Record, number, records
from thyrojax.report.study_tables import (
    Notes,
    View,
    count,
    decimal,
    file_of,
    in_words,
    measure_name,
    p_value,
    parameter,
    print_table,
    text,
    with_interval,
)

_N = View("n", ("n",), count)


def calibration(study: Study, drawn: dict[str, Rendered]) -> list[str]:
    """Whether a score means what it says, and whether recalibration helps."""
    parts = []
    if "calibration" in drawn:
        told = "; ".join(
            f"{in_words(row, 'mean_score')} and {in_words(row, 'observed')}"
            for row in records(study, "calibration")
        )
        parts.append(
            beside(
                [
                    figure(
                        drawn["calibration"],
                        f"Reliability curve; mean score and observed share by bin: {told}.",
                        "Observed share against mean score. Above the dashed line scores are too "
                        "low, below it too high.",
                    )
                ]
            )
        )
    if "calibration" in study.tables:
        views = [
            View("Bin", ("bin",), count),
            View("Mean score", ("mean_score",), decimal),
            View("Observed share", ("observed", "ci_low", "ci_high"), decimal),
            _N,
            View(study.label_names[1], ("positives",), count),
        ]
        parts.append(print_table(study.tables["calibration"], views))
    if "calibration_summary" in study.tables:
        views = [
            View("Scores", ("method",), text),
            View("Brier", ("brier",), decimal),
            View("Log loss", ("log_loss",), decimal),
            View("Calibration error", ("ece",), decimal),
            with_interval("slope", "Slope", decimal),
            with_interval("intercept", "Intercept", decimal),
            View("P", ("spiegelhalter_p",), p_value),
            View("Parameter", ("parameter",), parameter),
        ]
        parts += [
            "<h3>Before and after recalibration</h3>",
            print_table(study.tables["calibration_summary"], views),
        ]
    return parts


def decision_curve(study: Study, drawn: dict[str, Rendered]) -> list[str]:
    """Net benefit, with every tenth threshold as a table."""
    if "decision_curve" not in study.tables:
        return []
    source = study.tables["decision_curve"]
    every_tenth = [
        row for row in source.records() if round(100 * (number(row, "threshold") or 0.0)) % 10 == 0
    ]
    parts = []
    if "decision_curve" in drawn:
        told = "; ".join(
            f"at {in_words(row, 'threshold')} the model {in_words(row, 'model')}, "
            f"treat all {in_words(row, 'treat_all')}"
            for row in every_tenth
        )
        parts.append(
            beside(
                [
                    figure(
                        drawn["decision_curve"],
                        f"Net benefit over thresholds; treating none has 0. {told}.",
                        "Decision curve: where the solid line is the highest, acting on the model "
                        "does more good than treating everybody or nobody.",
                    )
                ]
            )
        )
    views = [
        View("Threshold", ("threshold",), decimal),
        with_interval("model", "Model", decimal),
        View("Treat all", ("treat_all",), decimal),
        View("Treat none", ("treat_none",), decimal),
    ]
    caption = f"{source.caption} Every tenth threshold."
    return [*parts, print_table(source, views, every_tenth, caption)]


def sample_size(study: Study) -> list[str]:
    """How wide the intervals would be in more cases, and how many it takes for a given width."""
    if "sample_size" not in study.tables:
        return []
    source = study.tables["sample_size"]
    widths = [row for row in source.records() if str(row["question"]).startswith("interval")]
    needed = [row for row in source.records() if row not in widths]
    parts = []
    for caption, rows, form in (
        (f"{source.caption} n is the number of cases now.", widths, _expected_interval),
        ("Cases of both classes together that it would take.", needed, _needed),
    ):
        questions = list(dict.fromkeys(str(row["question"]) for row in rows))
        by_measure: dict[tuple[Cell, Cell], dict[str, Record]] = {}
        for row in rows:
            key = row["measure"], row.get("method")
            by_measure.setdefault(key, {})[str(row["question"])] = row
        lettered = Notes()
        printed: list[list[object]] = []
        for (measure, method), asked in by_measure.items():
            name = measure_name(measure) + (f" ({method})" if method else "")
            said = [row.get(NOTE) for row in asked.values()]
            cells = [form(asked[question]) if question in asked else "" for question in questions]
            printed.append([lettered.mark(name, *said), *(estimate(cell) for cell in cells)])
        if printed:
            header = ["Measure", *(question[:1].upper() + question[1:] for question in questions)]
            parts += [table(caption, header, printed), lettered.below()]
    return [*parts, notes((), [*source.footnotes, file_of(source)])]


def _expected_interval(row: Record) -> str:
    return f"{in_words(row, 'ci_low')} to {in_words(row, 'ci_high')}"


def _needed(row: Record) -> str:
    return count(row["n"])
