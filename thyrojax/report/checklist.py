"""Reporting checklists, filled in as far as the files show; the rest are blanks with a name."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import groupby
from typing import NamedTuple

from thyrojax.analysis.study import Study
from thyrojax.analysis.table import Table, table_of
from thyrojax.report.checklist_answers import ANSWERS
from thyrojax.report.facts import Facts, collect_facts
from thyrojax.report.markup import escaped, paragraph, section
from thyrojax.report.run_folder import Run

CHECKLISTS = ("claim", "stard_ai", "tripod_ai")
FILLED, IN_PART, BLANK = "filled", "filled in part", "for the authors"


class Item(NamedTuple):
    """One line of a checklist.

    Attributes:
      number: as in the published list ("12c").
      topic: what it asks, in our words.
      answer: the name of a function of `checklist_answers.ANSWERS`; "" where no file can tell.
      also: what the authors must add to that answer; "" where nothing.
      blank: what the authors must state where there is no answer.
    """

    number: str
    section: str
    topic: str
    answer: str
    also: str
    blank: str


@dataclass(frozen=True)
class Checklist:
    """A published checklist: what to cite, and its lines."""

    key: str
    name: str
    title: str
    citation: str
    doi: str
    note: str
    items: tuple[Item, ...]


class Line(NamedTuple):
    """An item with its answer, or with what the authors must state: never with neither."""

    item: Item
    answer: str
    to_state: str

    @property
    def status(self) -> str:
        if not self.answer:
            return BLANK
        return IN_PART if self.to_state else FILLED


def read_checklist(key: str) -> Checklist:
    """One of `CHECKLISTS`, from the package's own files."""
    text = resources.files("thyrojax.report").joinpath(f"checklists/{key}.toml").read_text("utf-8")
    content = tomllib.loads(text)
    items = tuple(Item(**{"also": "", **item}) for item in content.pop("item"))
    return Checklist(key=key, items=items, **content)


def fill(checklist: Checklist, facts: Facts) -> tuple[Line, ...]:
    """Every item, answered where the facts show the answer."""
    lines = []
    for item in checklist.items:
        answer = ANSWERS[item.answer](facts) if item.answer else None
        lines.append(Line(item, answer or "", item.also if answer else item.blank))
    return tuple(lines)


def checklist_tables(run: Run | None = None, study: Study | None = None) -> list[Table]:
    """The filled checklists as tables `checklist_claim`, `checklist_stard_ai`, ...

    Columns: item, section, topic, answer, to_state (what the authors must still write), status.
    """
    facts = collect_facts(run, study)
    return [
        _table(checklist, fill(checklist, facts)) for checklist in map(read_checklist, CHECKLISTS)
    ]


def checklist_section(run: Run | None = None, study: Study | None = None) -> str:
    """The filled checklists as a section of the report; what is missing is a line to write on."""
    facts = collect_facts(run, study)
    parts = [
        paragraph(
            "Filled in from the files of the run and of the analysis, and only as far as they "
            "show it. Empty lines are for the authors to fill in; what stands here is theirs to "
            "check, too."
        )
    ]
    for checklist in map(read_checklist, CHECKLISTS):
        lines = fill(checklist, facts)
        parts += [
            f"<h3>{escaped(checklist.title)}</h3>",
            _html(checklist, lines),
            f'<p class="note">{escaped(_cited(checklist))} {escaped(checklist.note)}</p>',
        ]
    return section("checklists", "Reporting checklists", *parts)


def summary(lines: Sequence[Line]) -> str:
    """How many items have an answer."""
    answered = sum(line.status != BLANK for line in lines)
    in_part = sum(line.status == IN_PART for line in lines)
    return (
        f"{answered} of {len(lines)} items filled in by the software, {in_part} of them in part; "
        f"{len(lines) - answered} left to the authors"
    )


def _table(checklist: Checklist, lines: Sequence[Line]) -> Table:
    records = [
        {
            "item": line.item.number,
            "section": line.item.section,
            "topic": line.item.topic,
            "answer": line.answer,
            "to_state": line.to_state,
            "status": line.status,
        }
        for line in lines
    ]
    return table_of(
        f"checklist_{checklist.key}",
        f"{checklist.title}: {summary(lines)}.",
        records,
        (_cited(checklist), checklist.note),
    )


def _cited(checklist: Checklist) -> str:
    return f"{checklist.citation} doi {checklist.doi}"


def _html(checklist: Checklist, lines: Sequence[Line]) -> str:
    caption = f"{checklist.name}: {summary(lines)}."
    rows = []
    for title, group in groupby(lines, key=lambda line: line.item.section):
        rows.append(f'<tr class="group"><td colspan="3">{escaped(title)}</td></tr>')
        rows += [
            f'<tr><th scope="row">{escaped(line.item.number)}</th>'
            f"<td>{escaped(line.item.topic)}</td><td>{_cell(line)}</td></tr>"
            for line in group
        ]
    body = "\n".join(rows)
    return (
        f'<table class="checklist">\n<caption>{escaped(caption)}</caption>\n'
        '<thead><tr><th scope="col">Item</th><th scope="col">Topic</th>'
        f'<th scope="col">Answer</th></tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>'
    )


def _cell(line: Line) -> str:
    answer = escaped(line.answer)
    return f"{answer} {blank(line.to_state)}" if line.to_state else answer


def blank(name: str) -> str:
    """An empty line to write on, with the name of what belongs there."""
    return f'<span class="blank">For the authors: {escaped(name)}</span>'
