"""A finished study as files: tables, figures, pooled predictions, one page, and about.json."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from thyrojax.analysis.predictions import write_predictions
from thyrojax.analysis.table import Table, shown
from thyrojax.files import write_json, write_whole
from thyrojax.report import markup
from thyrojax.report.figures import Rendered, render
from thyrojax.report.study_page import write_tables
from thyrojax.report.study_tables import print_any
from thyrojax.study.figures import (
    draw_along,
    draw_areas,
    draw_differences,
    draw_subgroups,
    lines_along,
)
from thyrojax.study.plan import Study, Unit
from thyrojax.study.results import folds_table, results_table, subgroup_table
from thyrojax.study.scores import Outcome


@dataclass(frozen=True, eq=False)
class Finished:
    """What a study's `after` is given, and what its page is made of.

    Attributes:
      study: as its file has it.
      reference: the name of the condition that the others are compared with.
      outcomes: of its conditions.
      tables: `results` first.
      about: command, data, versions, seeds, folds, seconds: the content of about.json.
      workdir: of the study.
      data: the built set of the main arms.
      units: the networks, seed by seed.
    """

    study: Study
    reference: str
    outcomes: tuple[Outcome, ...]
    tables: tuple[Table, ...]
    about: Mapping[str, Any]
    workdir: Path
    data: Path
    units: tuple[Unit, ...]


def tabulate(study: Study, reference: str, outcomes: Sequence[Outcome]) -> tuple[Table, ...]:
    """The results, by subgroup where there are such nodules, and each network's AUC."""
    tables = [results_table(outcomes, reference)]
    for column in study.subgroups:
        found = subgroup_table(outcomes, reference, column)
        if found:
            tables.append(found)
    return (*tables, folds_table(outcomes))


def publish(finished: Finished) -> Path:
    """Writes WORKDIR/tables, figures, predictions, about.json and study.html; the page last.

    What an earlier call wrote there of conditions that are no more is removed.

    Returns:
      The path of the page.
    """
    study = finished.study
    drawn = _draw(finished)
    more = list(study.after(finished)) if study.after else []
    for outcome in finished.outcomes:
        path = finished.workdir / "predictions" / f"{outcome.name}.csv"
        write_predictions(path, outcome.predictions())
    write_tables(finished.workdir, finished.tables)
    for name, rendered in drawn.items():
        write_whole(finished.workdir / "figures" / f"{name}.png", rendered.png)
        write_whole(finished.workdir / "figures" / f"{name}.svg", rendered.svg)
    written = {
        "predictions": [outcome.name for outcome in finished.outcomes],
        "tables": [table.name for table in finished.tables],
        "figures": list(drawn),
    }
    before = _written_before(finished.workdir)
    about = {
        **finished.about,
        "finding": finding(finished.reference, finished.tables, study.answer),
        "written": written,
    }
    write_json(finished.workdir / "about.json", about)
    for folder, stems in before.items():
        _remove(finished.workdir / folder, set(stems) - set(written.get(folder, ())))
    path = finished.workdir / "study.html"
    write_whole(path, _page(finished, drawn, about, more).encode())
    return path


def _written_before(workdir: Path) -> dict[str, list[str]]:
    """Names of the files that an earlier call wrote, by folder: none but these may be removed."""
    try:
        about = json.loads((workdir / "about.json").read_text(encoding="utf-8"))
        return {str(folder): list(map(str, stems)) for folder, stems in about["written"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


_ENDINGS = ("csv", "md", "png", "svg")


def _remove(folder: Path, stems: Iterable[str]) -> None:
    for stem in stems:
        for ending in _ENDINGS:
            (folder / f"{stem}.{ending}").unlink(missing_ok=True)


def finding(reference: str, tables: Sequence[Table], answer: str = "") -> str:
    """The reference's AUC, and how the condition that answers the question differs from it.

    That is `answer`, or where there is none the one that differs most; where a subgroup has two
    categories, how it differs in each. A reference no better than chance, with nothing apart from
    it, is the whole finding.
    """
    results, *others = tables
    rows = {str(row["condition"]): row for row in results.records()}
    compared = [row for row in rows.values() if row["difference"] is not None]
    base = rows.get(reference)
    if base is None:
        return "The reference was not run: nothing is compared."
    told = f"{base['label']}: AUC {_interval(base, 'auc')}"
    if not compared:
        return told + "."
    apart = [row for row in compared if row["p_holm"] is not None and row["p_holm"] < 0.05]  # type: ignore[operator]
    if not apart and base["auc_low"] is not None and base["auc_low"] <= 0.5:  # type: ignore[operator]
        return (
            f"{told}, no better than chance: these data cannot answer with this method (of "
            f"{len(compared)} difference{'s' if len(compared) > 1 else ''} none has P < 0.05 after "
            "Holm)."
        )
    most = max(compared, key=lambda row: abs(float(row["difference"] or 0.0)))
    chosen = next((row for row in compared if row["condition"] == answer), most)
    which = "largest" if chosen is most else "one"
    count = (
        "the only comparison"
        if len(compared) == 1
        else f"{which} of {len(compared)} differences; {len(apart)} "
        f"{'has' if len(apart) == 1 else 'have'} P < 0.05 after Holm"
    )
    told += f"; {chosen['label']} differs by {_interval(chosen, 'difference', '+')} ({count})"
    for table in others:
        told += _by_category(table, str(chosen["condition"]))
    return told + "."


def _by_category(table: Table, condition: str) -> str:
    """How a condition differs in each of two categories; "" for a table of something else."""
    if "interaction" not in table.columns:
        return ""
    rows = [row for row in table.records() if row["condition"] == condition]
    crossed = [row for row in rows if row["interaction"] is not None]
    if not crossed:
        return ""
    each = ", ".join(
        f"{row['category']} ({row['n']} nodules, {row['n_positive']} positive) "
        f"{_interval(row, 'difference', '+')}"
        for row in rows
    )
    p = crossed[0]["p_interaction"]
    told = "" if p is None else f", P of interaction {shown(p, 'p_interaction')}"
    return f"; by {table.name.removeprefix('by_').replace('_', ' ')} {each}{told}"


def _interval(row: Mapping[str, Any], name: str, sign: str = "") -> str:
    value = f"{row[name]:{sign}.3f}"
    if row[f"{name}_low"] is None:
        return value
    return f"{value} ({row[f'{name}_low']:{sign}.3f} to {row[f'{name}_high']:{sign}.3f})"


def _draw(finished: Finished) -> dict[str, Rendered]:
    study, results, folds = finished.study, finished.tables[0], finished.tables[-1]
    drawn = {"areas": render(draw_areas, results, folds, finished.reference)}
    if any(row["difference"] is not None for row in results.records()):
        label = next(o.label for o in finished.outcomes if o.name == finished.reference)
        drawn["differences"] = render(draw_differences, results, label)
        for table in finished.tables[1:-1]:
            drawn[table.name] = render(draw_subgroups, table, label)
    lines = lines_along(results, finished.outcomes)
    if lines:
        drawn["along"] = render(draw_along, study, lines)
    return drawn


_CAPTIONS = {
    "along": "AUC along the axis; bands are 95 % intervals of resampled patients.",
    "areas": "AUC of each condition. Dots: the mean over the folds of each seed.",
    "differences": "Difference in AUC from the reference, over the same resamples of patients.",
}


def _page(
    finished: Finished,
    drawn: Mapping[str, Rendered],
    about: Mapping[str, Any],
    more: Sequence[tuple[str, str, str]],
) -> str:
    study = finished.study
    captions = _CAPTIONS | {
        table.name: f"Difference in AUC from the reference {table.name.replace('_', ' ')}."
        for table in finished.tables
    }
    figures = [
        markup.figure(drawn[name], caption, caption)
        for name, caption in captions.items()
        if name in drawn
    ]
    parts = [
        ("results", "Results", [markup.paragraph(about["finding"]), *figures]),
        ("tables", "Tables", [_print(table) for table in finished.tables]),
    ]
    sections = [(*head, markup.section(*head, *body)) for *head, body in parts]
    sections += [
        (identifier, heading, markup.section(identifier, heading, html))
        for identifier, heading, html in more
    ]
    facts = {
        name.replace("_", " "): value for name, value in about.items() if name not in _NOT_SHOWN
    }
    reproduce = markup.section(
        "again",
        "To get the same again",
        f"<p>Command: <code>{markup.escaped(about['command'])}</code></p>",
        markup.settings(facts),
        "<h3>Versions</h3>",
        markup.settings(about["versions"]),
    )
    sections.append(("again", "To get the same again", reproduce))
    lead = "".join(
        f'<p class="subtitle">{markup.escaped(text)}</p>'
        for text in (study.question, f"{about['data']}; {about['method']}", study.expected)
        if text
    )
    now = datetime.now(tz=UTC).strftime("%Y-%m-%d %H:%M UTC")
    return markup.document(
        study.title,
        lead,
        [(identifier, heading) for identifier, heading, _ in sections],
        "\n".join(html for _, _, html in sections),
        f"<p>Written by thyrojax on {now}. Research software: not a medical device.</p>",
    )


# The columns that a reader compares, narrow enough for a page; the files have the others.
_RESULTS = {
    "label": "condition",
    "n": "nodules",
    "auc": "AUC",
    "difference": "difference in AUC",
    "p_holm": "P, Holm",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "accuracy": "accuracy",
    "auc_seed_sd": "SD of seeds",
    "auc_folds": "mean of the folds",
}
_BY_CATEGORY = {
    "category": "category",
    "label": "condition",
    "n": "nodules",
    "n_positive": "positive",
    "auc": "AUC",
    "difference": "difference in AUC",
    "p": "P",
    "interaction": "interaction",
    "p_interaction": "P of interaction",
}


def _print(table: Table) -> str:
    if table.name != "results":
        return print_any(table, _BY_CATEGORY if "p_interaction" in table.columns else None)
    headings = {name: heading for name, heading in _RESULTS.items() if name in table.columns}
    if len(set(table.column("n"))) == 1:
        del headings["n"]  # the caption has it
    return print_any(table, headings)


_NOT_SHOWN = (
    "conditions",
    "written",
    "command",
    "versions",
    "finding",
    "data",
    "title",
    "question",
)
