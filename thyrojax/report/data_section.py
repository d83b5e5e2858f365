"""Where the cases came from, how many were left out, and what lies in each part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from thyrojax.report.figures import Rendered, render
from thyrojax.report.markup import escaped, figure, paragraph, plural, section, table
from thyrojax.report.run_figures import draw_distribution
from thyrojax.report.run_folder import BY_IMAGE, PARTS, Run, SplitRow, count_part
from thyrojax.shapes import Int
from thyrojax.vocabulary import SIZE_GROUPS, TIRADS

_NOT_STATED = "not stated"
_MOST_GROUPS = 12  # bars beyond which a figure of this width cannot be read


class _Grouping(NamedTuple):
    """A property of the nodules that parts are compared by."""

    name: str  # of the figure's file
    heading: str
    plural_name: str
    group_of: Callable[[SplitRow], str]
    order: tuple[str, ...]


_GROUPINGS = (
    _Grouping(
        "parts_by_size", "Size group (cm)", "size groups", lambda row: row.size_group, SIZE_GROUPS
    ),
    _Grouping("parts_by_tirads", "TI-RADS", "TI-RADS grades", lambda row: row.tirads, TIRADS),
)


def data(run: Run, summary: dict[str, Any], drawn: dict[str, Rendered]) -> str:
    """What the data are, how many images came and went, and what lies in each part."""
    names = run.data.label_names
    return section(
        "data",
        "Data",
        paragraph(
            f"Source {run.data.source}: {run.data.subject}. Class 0 is “{names[0]}”, class 1 is "
            f"“{names[1]}”; the score is the network's probability of class 1. "
            f"{BY_IMAGE if run.by_image else 'Parts are disjoint by patient.'}"
        ),
        *(paragraph(note) for note in run.data.notes),
        "<h3>From images to calls</h3>",
        _flow(run, summary),
        "<h3>Parts by class</h3>",
        _distributions(run, drawn),
        *(_split_table(run, grouping) for grouping in _GROUPINGS),
        f'<p class="note">Fingerprint of the built data: {escaped(run.data.fingerprint)}</p>',
    )


def draw_distributions(run: Run) -> dict[str, Rendered]:
    """The paper's Figure 1, a figure for each property that the source states."""
    drawn = {}
    for grouping in _GROUPINGS:
        groups = _groups(run, grouping)
        if groups and len(groups) <= _MOST_GROUPS:
            counts = {part: _counts(run, grouping, part, groups) for part in PARTS}
            words = [group or _NOT_STATED for group in groups]
            drawn[grouping.name] = render(
                draw_distribution, counts, words, run.data.label_names, grouping.heading
            )
    return drawn


def _distributions(run: Run, drawn: dict[str, Rendered]) -> str:
    shown, sentences = [], []
    for grouping in _GROUPINGS:
        if grouping.name in drawn:
            shown.append(
                figure(
                    drawn[grouping.name],
                    f"Bars of the {grouping.plural_name} of each class, in percent of the class, "
                    f"for {', '.join(PARTS)}. The table below has the counts.",
                    f"{grouping.heading} by part and class, in percent of each class in its part; "
                    "counts above the bars (Guan et al. 2019, figure 1).",
                )
            )
        elif _groups(run, grouping):
            sentences.append(
                f"No figure of the {grouping.plural_name}: there are {len(_groups(run, grouping))}."
            )
        else:
            sentences.append(f"No {grouping.plural_name}: the source does not state them.")
    figures = f'<div class="figures">\n{"".join(shown)}\n</div>' if shown else ""
    return "\n".join([figures, *map(paragraph, sentences)])


def _groups(run: Run, grouping: _Grouping) -> list[str]:
    """The groups that occur, known words in their order, then others, then "" for not stated."""
    found = {grouping.group_of(row) for row in run.split}
    known = [group for group in grouping.order if group in found]
    others = sorted(found - set(known) - {""})
    if not known and not others:
        return []
    return [*known, *others, *([""] if "" in found else [])]


def _counts(
    run: Run, grouping: _Grouping, part: str, groups: list[str]
) -> Int[np.ndarray, "labels groups"]:
    rows = [row for row in run.split if row.part == part]
    counts = Counter((row.label, grouping.group_of(row)) for row in rows)
    return np.array([[counts[label, group] for group in groups] for label in (0, 1)])


def _split_table(run: Run, grouping: _Grouping) -> str:
    """Counts of each part and class by a group; nothing where no row has the group."""
    groups = _groups(run, grouping)
    if not groups:
        return ""
    rows: list[list[object]] = []
    for part in PARTS:
        counts = _counts(run, grouping, part, groups)
        for label, name in enumerate(run.data.label_names):
            chosen = [row for row in run.split if row.part == part and row.label == label]
            patients = len({row.patient_id for row in chosen})
            rows.append([part, name, len(chosen), patients, *counts[label].tolist()])
    header = [
        "Part",
        "Class",
        f"{run.data.unit.capitalize()}s",
        "Patients",
        *(group or _NOT_STATED for group in groups),
    ]
    return table(f"{grouping.heading} by part and class", header, rows, row_headings=2)


def _flow(run: Run, summary: dict[str, Any]) -> str:
    """Images found, left out, used, split, evaluated and called: a list drawn as a diagram."""
    data = run.data
    steps = [
        _step(f"{plural(data.n_images, 'image')} found", f"source {data.source}"),
        _excluded(run),
        _step(plural(data.n_nodules, data.unit), f"of {plural(data.n_patients, 'patient')}"),
        _parts(run),
        _evaluated(run, summary),
        _called(run, summary),
    ]
    return '<ol class="flow">' + "".join(f"<li>{step}</li>" for step in steps) + "</ol>"


def _step(heading: str, text: str = "", items: tuple[str, ...] = (), out: bool = False) -> str:
    listed = "".join(f"<li>{escaped(item)}</li>" for item in items)
    return (
        f'<div class="{"step out" if out else "step"}"><strong>{escaped(heading)}</strong>'
        + escaped(text)
        + (f"<ul>{listed}</ul>" if listed else "")
        + "</div>"
    )


def _excluded(run: Run) -> str:
    exclusions = run.data.exclusions
    if not exclusions:
        return _step("none excluded", out=True)
    ordered = sorted(exclusions.items(), key=lambda item: (-item[1], item[0]))
    reasons = tuple(f"{reason}: {count:,}" for reason, count in ordered)
    total = sum(exclusions.values())
    return _step(f"{total:,} excluded", "images or regions, by reason", reasons, out=True)


def _parts(run: Run) -> str:
    boxes = []
    for part in PARTS:
        n, patients, by_label = count_part(run.split, part)
        names = enumerate(run.data.label_names)
        boxes.append(
            _step(
                f"{part}: {plural(n, run.data.unit)}",
                f"of {plural(patients, 'patient')}",
                tuple(f"{by_label[label]:,} {name}" for label, name in names),
            )
        )
    outside = run.data.n_nodules - len(run.split)
    if outside > 0:
        boxes.append(_step(f"{outside:,} in no part", out=True))
    return f'<div class="parts">{"".join(boxes)}</div>'


def _evaluated(run: Run, summary: dict[str, Any]) -> str:
    n, _, _ = count_part(run.split, "test")
    missing = n - len(run.test)
    not_scored = (f"{missing:,} without a score",) if missing > 0 else ()
    return _step(
        f"test part evaluated: {len(run.test):,} of {plural(n, run.data.unit)}",
        f"cutoff {summary['cutoff']:.3f}: {summary['cutoff_from']}",
        not_scored,
    )


def _called(run: Run, summary: dict[str, Any]) -> str:
    """Both calls, each with the truth below it, as STARD's diagram ends."""
    negative, positive = run.data.label_names
    boxes = []
    for name, rule, truly_positive, truly_negative in (
        (positive, "score ≥ cutoff", "true_positive", "false_positive"),
        (negative, "score < cutoff", "false_negative", "true_negative"),
    ):
        counts = summary[truly_positive], summary[truly_negative]
        boxes.append(
            _step(
                f"{sum(counts):,} called {name}",
                f"({rule}), in truth",
                (f"{counts[0]:,} {positive}", f"{counts[1]:,} {negative}"),
            )
        )
    return f'<div class="parts">{"".join(boxes)}</div>'
