"""What follows the study's own tables: the whole statistics, the run's report, and the published
figures beside ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from experiments.guan2019.published.printed import N_BENIGN, N_PTC, READERS, read_printed
from thyrojax.analysis.analyse import analyse
from thyrojax.analysis.options import Options
from thyrojax.analysis.predictions import Predictions, read_predictions
from thyrojax.analysis.study import Study as Statistics
from thyrojax.data.dataset import open_dataset
from thyrojax.data.looking import open_set
from thyrojax.data.stats import compute_statistics
from thyrojax.data.stats_figures import draw_statistics, write_figures
from thyrojax.evaluate import evaluate
from thyrojax.report.figures import Rendered
from thyrojax.report.html import write_report
from thyrojax.report.markup import Estimate, beside, escaped, estimate, figure, paragraph, table
from thyrojax.report.study_page import write_study
from thyrojax.report.study_tables import View, cell_of, decimal, p_value, percent
from thyrojax.study.page import Finished
from thyrojax.study.scores import Outcome

_LEAST = 1e-6  # a cutoff's distance from 0 and 1


def sections(finished: Finished) -> list[tuple[str, str, str]]:
    """Writes WORKDIR/analysis, input_sizes, figure1 and the run's report; the page's further parts.

    Figure 1 is of the parts of the first network's split; Figures 2 to 4 stand in its report.
    Without the arm `main` there is nothing of the paper's to write.
    """
    if finished.reference not in {outcome.name for outcome in finished.outcomes}:
        return []
    data, workdir = open_dataset(finished.data), finished.workdir
    label_names = (str(data.info["label_names"][0]), str(data.info["label_names"][1]))
    provenance = {"command": finished.about["command"], "versions": finished.about["versions"]}
    of = {outcome.name: outcome for outcome in finished.outcomes}
    main = [name for name in of if name.startswith("main-")]
    margins = [finished.reference, *(name for name in main if name != finished.reference)]
    sizes = [finished.reference, *(name for name in of if name not in main)]
    first = next(unit for unit in finished.units if unit.arm.name == "main")
    run = workdir / "runs" / first.folder
    statistics = _statistics([of[name] for name in margins], run, label_names)
    write_study(workdir / "analysis", statistics, provenance)
    if len(sizes) > 1:
        by_size = _statistics([of[name] for name in sizes], run, label_names)
        write_study(workdir / "input_sizes", by_size, provenance)
    counted = draw_statistics(compute_statistics([open_set(finished.data)], run / "split.csv"))
    write_figures(workdir / "figure1", counted)
    evaluate(run, finished.data, margins=[_margin(name) for name in main], which="latest")
    write_report(run)
    report = run.relative_to(workdir) / "report.html"
    links = {
        "analysis/report.html": "every table and figure of the statistics, margins compared",
        **({"input_sizes/report.html": "the input sizes compared"} if len(sizes) > 1 else {}),
        str(report): "the first network: Figures 2 to 4, examples, model card, checklists",
    }
    items = "".join(
        f'<li><a href="{escaped(place)}">{escaped(words)}</a></li>'
        for place, words in links.items()
    )
    seeds = len(of[finished.reference].seeds)
    printed = [
        _margins(finished, main),
        paragraph(f"Mean of {seeds} seeds; what follows is of the first.") if seeds > 1 else "",
        paragraph(_MOVED) if finished.about.get("folds") else "",
        _size_groups(statistics),
        _features(statistics),
        _odds(statistics),
        _readers(statistics),
    ]
    return [
        ("figure1", "Figure 1: who is in which part", beside([*_figure1(counted)])),
        ("beside", "The paper's tables beside ours", "\n".join(filter(None, printed))),
        ("more", "All of it", f"<ul>{items}</ul>"),
    ]


def _figure1(drawn: Mapping[str, Rendered]) -> list[str]:
    """Size and TI-RADS by part and class, of those that the set states."""
    return [
        figure(drawn[name], words, f"{words}, by part and class.")
        for name, words in (("by_size_group_cm", "Size"), ("by_ti_rads", "TI-RADS"))
        if name in drawn
    ]


def _margin(name: str) -> int:
    return int(name.rpartition("-m")[2])


def _statistics(outcomes: Sequence[Outcome], run: Path, label_names: tuple[str, str]) -> Statistics:
    """The first seed's networks, the first one in full.

    With one split the cutoffs come from its validation parts. With folds each nodule's score is
    moved, on the logit scale, so that its own network's cutoff lies at 0.5, which every table says;
    what takes a score for a probability is left out.
    """
    folds = len(set(outcomes[0].folds)) > 1
    models = {outcome.label: _first_seed(outcome, folds) for outcome in outcomes}
    if folds:
        found = analyse(models, {}, Options(cutoff=0.5, label_names=label_names), [_MOVED])
        tables = {
            name: replace(made, footnotes=(*made.footnotes, _MOVED))
            for name, made in found.tables.items()
            if name not in _OF_PROBABILITIES
        }
        metrics = {name: value for name, value in found.metrics.items() if name not in _ERRORS}
        return replace(found, tables=tables, metrics=metrics)
    seed = run.name
    runs = run.parents[1]
    validation = {}
    for outcome in outcomes:
        arm, _, scoring = outcome.name.partition("-")
        name = f"{scoring}_val.csv" if scoring else "val.csv"
        path = runs / arm / seed / "predictions" / name
        validation[outcome.label] = read_predictions(path)
    return analyse(models, validation, Options(label_names=label_names))


_MOVED = (
    "Folds have a network each: scores are moved, on the logit scale, so that each network's own "
    "cutoff lies at 0.5. Calls are as they were; areas and curves are of the moved scores, and "
    "differ from those of the study's own tables."
)
_OF_PROBABILITIES = ("calibration", "calibration_summary", "decision_curve")
_ERRORS = ("brier", "ece")  # of probabilities, too


def _first_seed(outcome: Outcome, moved: bool) -> Predictions:
    scores = outcome.scores[0]
    if moved:
        cutoffs = np.clip(outcome.cutoffs[0], _LEAST, 1.0 - _LEAST)
        inside = np.clip(scores, _LEAST, 1.0 - _LEAST)
        odds = inside / (1.0 - inside) * (1.0 - cutoffs) / cutoffs
        scores = odds / (1.0 + odds)
    kept = {name: cells for name, cells in outcome.columns.items() if name not in _NO_FEATURES}
    return Predictions(outcome.image_ids, outcome.patient_ids, outcome.labels, scores, kept)


_NO_FEATURES = ("split", "margin", "fold", "seed", "views", "box_shape")


def _measure(row: Mapping[str, Any], name: str) -> str:
    """With its interval where the row has one; shares in percent."""
    form = decimal if name == "auc" else percent
    columns = (name, f"{name}_low", f"{name}_high")
    whole = all(row.get(column) is not None for column in columns)
    return cell_of(dict(row), View("", columns if whole else columns[:1], form))


def _margins(finished: Finished, main: Sequence[str]) -> str:
    """Table 1: a row for each margin of ours, and under it that of the paper."""
    printed = {row["margin_px"]: row for row in read_printed("table1")}
    rows: list[Sequence[object]] = []
    for row in finished.tables[0].records():
        if row["condition"] not in main:
            continue
        margin = str(_margin(str(row["condition"])))
        rows.append([f"{margin} px", *(_measure(row, name) for name in _MEASURES)])
        if paper := printed.get(margin):
            rows.append([_PAPER, *_theirs(paper, _MEASURES)])
    header = ["Margin", *_MEASURES.values()]
    return table("Table 1: by margin; 95 % intervals of resampled patients.", header, rows)


_PAPER = "the paper"
_MEASURES = {
    "accuracy": "Accuracy, %",
    "sensitivity": "Sensitivity, %",
    "specificity": "Specificity, %",
    "auc": "AUC",
}


def _theirs(row: Mapping[str, str], names: Iterable[str]) -> list[Estimate]:
    return [estimate(row["az" if name == "auc" else f"{name}_pct"]) for name in names]


def _size_groups(statistics: Statistics) -> str:
    """A row for each size group of ours, and under it that of the paper."""
    if "size_groups" not in statistics.tables:
        return ""
    printed = {row["group"]: row for row in read_printed("size_groups")}
    measures = {name: words for name, words in _MEASURES.items() if name != "accuracy"}
    rows: list[Sequence[object]] = []
    for row in statistics.tables["size_groups"].records():
        name = "all" if row["group"] == "all" else f"{row['group']} cm"
        rows.append([name, estimate(str(row["n"])), *(_measure(row, name) for name in measures)])
        if paper := printed.get(str(row["group"])):
            rows.append([_PAPER, estimate("-"), *_theirs(paper, measures)])
    return table("By size.", ["Largest diameter", "n", *measures.values()], rows)


def _features(statistics: Statistics) -> str:
    """P of each feature and class: is the network right as often in all of its categories?"""
    if "features" not in statistics.tables:
        return ""
    printed: dict[tuple[str, str], str] = {}
    for row in read_printed("table2"):
        for label, of_class in (("1", "ptc"), ("0", "benign")):
            if row[f"{of_class}_p"]:
                printed[row["feature"], label] = row[f"{of_class}_p"]
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    for record in statistics.tables["features"].records():
        if record["p_chi2"] is not None or record["p_exact"] is not None:
            found.setdefault((str(record["feature"]), str(record["label"])), record)
    rows = [
        [
            f"{feature.replace('_', ' ')}, {statistics.label_names[int(label)]}",
            p_value(record["p_chi2"]),
            p_value(record["p_exact"]),
            printed.get((feature, label), "-"),
        ]
        for (feature, label), record in found.items()
    ]
    if not rows:
        return ""
    header = ["Feature and class", "P, chi-squared", "P, exact", "Paper: P, chi-squared"]
    return table("Table 2: right and wrong by sonographic feature.", header, rows)


def _odds(statistics: Statistics) -> str:
    if "odds_ratios" not in statistics.tables:
        return ""
    printed = {row["variable"]: row for row in read_printed("table3")}
    rows = []
    for row in statistics.tables["odds_ratios"].records():
        paper = printed.get(str(row["variable"]))
        theirs = _printed_odds(paper, row["model"] == "multivariate") if paper else "-"
        ours = _odds_ratio(row["odds_ratio"], row["ci_low"], row["ci_high"])
        words = str(row["variable"]).replace("_", " ")
        rows.append(
            [f"{words}, {row['model']}", ours, p_value(row["p"]), theirs, str(row["note"] or "")]
        )
    header = ["Exposure", "Odds ratio of a wrong call", "P", "Paper", "Note"]
    return table("Table 3: what goes with misdiagnosis.", header, rows)


def _odds_ratio(value: Any, low: Any, high: Any) -> str:
    """With its limits; "-" for what the nodules do not give (separation), which the note tells."""
    shown = ["-" if x is None else f"{x:.3f}" for x in (value, low, high)]
    return "-" if value is None else f"{shown[0]} ({shown[1]} to {shown[2]})"


def _printed_odds(row: Mapping[str, str], multivariate: bool) -> str:
    name, low, high = (
        ("or_multivariate", "mci_low", "mci_high")
        if multivariate
        else ("or_univariate", "ci_low", "ci_high")
    )
    return f"{row[name]} ({row[low]} to {row[high]})" if row[name] else "-"


def _readers(statistics: Statistics) -> str:
    if "readers" not in statistics.tables:
        return ""
    printed = {
        "sensitivity": f"{100 * READERS['ptc'] / N_PTC:.1f}",
        "specificity": f"{100 * READERS['benign'] / N_BENIGN:.1f}",
    }
    rows = [
        [
            str(row["measure"]),
            _measure(row, "reader"),
            _measure(row, "model"),
            p_value(row["p"]),
            printed[str(row["measure"])],
        ]
        for row in statistics.tables["readers"].records()
        if row["measure"] in printed
    ]
    header = ["", "Reader %", "Network %", "P", "Paper: radiologists %"]
    return table("The reader beside the network.", header, rows) if rows else ""
