"""The tables of a study as a reader sees them: which columns, in what form, with their notes."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from thyrojax.analysis.table import NOTE, Cell, Table, shown
from thyrojax.report.markup import Markup, estimate, marked, notes, table
from thyrojax.report.study_facts import Record, interval_columns, is_best, number

# A table with more rows is named, not printed: a page of thousands of rows helps nobody.
MOST_ROWS = 60


class View(NamedTuple):
    """One column of a printed table: a figure, an interval, or a figure with its interval.

    `columns` are one, two or three names of the table's; `form` makes text of one cell.
    """

    heading: str
    columns: tuple[str, ...]
    form: Callable[[Cell], str]


def text(cell: Cell) -> str:
    """Words as they stand, with spaces for the underscores of names."""
    return shown(cell).replace("_", " ")


def verbatim(cell: Cell) -> str:
    """Words of the user's: a model's name, a rule."""
    return shown(cell)


def count(cell: Cell) -> str:
    return f"{cell:,}" if isinstance(cell, int) else shown(cell)


def percent(cell: Cell) -> str:
    return f"{100.0 * cell:.1f}" if isinstance(cell, int | float) else shown(cell)


def decimal(cell: Cell) -> str:
    """Three decimals, or as many figures as a small number needs; 1 and 0 too."""
    return shown(float(cell)) if isinstance(cell, int | float) else shown(cell)


def odds(cell: Cell) -> str:
    """An odds ratio: fewer decimals the larger it is, as nobody reads the third of 260.000."""
    if not isinstance(cell, int | float) or math.isinf(cell):
        return shown(cell)
    return f"{cell:.3f}" if cell < 10.0 else f"{cell:.1f}" if cell < 1000.0 else f"{cell:,.0f}"


def parameter(cell: Cell) -> str:
    """A whole number as such, another with three decimals."""
    return shown(cell)


def p_value(cell: Cell) -> str:
    return shown(float(cell) if isinstance(cell, int) else cell, "p")


def three_decimals(value: float | None) -> str:
    """A figure in a sentence."""
    return "-" if value is None else f"{value:.3f}"


def in_words(row: Record, column: str) -> str:
    """A row's figure in a sentence."""
    return three_decimals(number(row, column))


def measure_name(cell: Cell) -> str:
    """A measure as a heading: "sensitivity" with a capital, "MCC" as it is."""
    words = text(cell)
    return words[:1].upper() + words[1:]


def with_interval(name: str, heading: str, form: Callable[[Cell], str]) -> View:
    """A measure with the columns NAME, NAME_low, NAME_high."""
    return View(heading, (name, f"{name}_low", f"{name}_high"), form)


def measures(source: Table, *names: str) -> list[View]:
    """Sensitivity and its like, in the paper's forms, with the intervals to lead with."""
    headings = {"auc": ("AUC", decimal)}
    views = []
    for name in names:
        heading, form = headings.get(name, (f"{name.capitalize()}, %", percent))
        views.append(View(heading, (name, *interval_columns(source.columns, name)), form))
    return views


def interval_note(source: Table) -> list[str]:
    """What the printed intervals are of, where the table has two kinds."""
    if not any(column.endswith("_cluster_low") for column in source.columns):
        return []
    return ["Intervals as printed: of resampled patients. The file has those of images too."]


_WORDS = (text, verbatim, measure_name)


def cell_of(record: Record, view: View) -> str:
    """The printed cell: "-" where there is no figure."""
    value = record.get(view.columns[0])
    words = view.form(value)
    if view.form in _WORDS:
        return words
    if len(view.columns) == 1 or value is None:
        return estimate(words)
    low, high = (record.get(column) for column in view.columns[-2:])
    if low is None or high is None:
        return estimate(words, "no interval")
    interval = f"{_end(low, view)} to {_end(high, view)}"
    return estimate(words, interval) if len(view.columns) == 3 else estimate(interval)


def _end(cell: Cell, view: View) -> str:
    return "inf" if isinstance(cell, float) and math.isinf(cell) else view.form(cell)


class Notes:
    """The notes of a table's rows, each under a letter of its own; equal notes share one."""

    def __init__(self) -> None:
        self._letters: dict[str, str] = {}

    def mark(self, label: object, *said: Cell) -> str:
        """The label with the letters of what is said of it."""
        sentences = list(dict.fromkeys(str(note) for note in said if note))
        for sentence in sentences:
            self._letters.setdefault(sentence, _letter(len(self._letters)))
        return marked(label, [self._letters[sentence] for sentence in sentences])

    def below(self, plain: Sequence[str] = ()) -> str:
        """The notes as they stand under the table, before those that hold for all of it."""
        return notes([(letter, note) for note, letter in self._letters.items()], plain)


def _letter(place: int) -> str:
    """a, b, ... z, aa, ab, ..."""
    letter = chr(ord("a") + place % 26)
    return letter if place < 26 else _letter(place // 26 - 1) + letter


def present(source: Table, views: Sequence[View]) -> list[View]:
    """The views whose columns the table has, with at least one figure in them."""
    kept = []
    for view in views:
        if view.columns[0] not in source.columns:
            continue
        has_interval = all(column in source.columns for column in view.columns)
        narrowed = view if has_interval else view._replace(columns=view.columns[:1])
        if not source.rows or any(cell is not None for cell in source.column(view.columns[0])):
            kept.append(narrowed)
    return kept


def print_table(
    source: Table,
    views: Sequence[View],
    rows: Sequence[Record] | None = None,
    caption: str | None = None,
    footnotes: Sequence[str] | None = None,
    group_rows: Collection[int] = (),
) -> str:
    """A table in HTML: its first view is the row's heading, the notes stand below by letter.

    `rows` and `caption` stand in for the table's own. The file that has every figure is named.
    """
    views = present(source, views)
    chosen = source.records() if rows is None else list(rows)
    if not chosen or not views:
        return ""
    lettered = Notes()
    printed: list[list[object]] = []
    for record in chosen:
        cells: list[object] = [cell_of(record, view) for view in views]
        cells[0] = lettered.mark(cells[0], record.get(NOTE))
        printed.append(cells)
    plain = interval_note(source)
    plain += [*(source.footnotes if footnotes is None else footnotes), file_of(source)]
    body = table(
        source.caption if caption is None else caption,
        [view.heading for view in views],
        printed,
        group_rows=group_rows,
    )
    return f"{body}\n{lettered.below(plain)}"


def file_of(source: Table) -> Markup:
    """Where every digit stands."""
    return Markup(f"All figures: <code>tables/{source.name}.csv</code>.")


def print_differences(source: Table, names: Sequence[str]) -> str:
    """Each measure of each row against the best one: difference, P, and P after Holm's correction.

    P values of resampled patients stand beside those of images where the table has them. Nothing
    where the table has no differences.
    """
    kinds = {"": "P", "_holm": "P, Holm"}
    if any(column.endswith("_cluster_holm") for column in source.columns):
        kinds |= {"_cluster": "P by patients", "_cluster_holm": "P by patients, Holm"}
    printed: list[list[object]] = []
    for name in names:
        if f"{name}_difference" not in source.columns:
            continue
        columns = (f"{name}_difference", f"{name}_difference_low", f"{name}_difference_high")
        title, form = ("AUC", decimal) if name == "auc" else (f"{name.capitalize()}, %", percent)
        for row in source.records():
            heading = f"{title}: {row['name']}"
            if is_best(row, name):
                printed.append([heading, estimate("best"), *[estimate("")] * len(kinds)])
                continue
            tests = [estimate(p_value(row.get(f"p_{name}{kind}"))) for kind in kinds]
            printed.append([heading, cell_of(row, View("", columns, form)), *tests])
    if not printed:
        return ""
    header = ["Measure and model", "Less the best", *kinds.values()]
    return table("Differences from the best model of each measure.", header, printed)


def print_any(source: Table, headings: Mapping[str, str] | None = None) -> str:
    """A table column by column in general forms; a long one is only named.

    Args:
      source: the table.
      headings: of the columns to print, in that order; all where None.
    """
    if len(source.rows) > MOST_ROWS:
        return notes((), [source.caption, f"{len(source.rows):,} rows.", file_of(source)])
    ends = {f"{name}_{end}" for name in source.columns for end in ("low", "high")}
    headings = headings or {
        name: name.replace("_", " ") for name in source.columns if name not in {*ends, NOTE}
    }
    views = []
    for place, (name, heading) in enumerate(headings.items()):
        if {f"{name}_low", f"{name}_high"} <= set(source.columns):
            views.append(with_interval(name, heading, decimal))
        else:
            views.append(View(heading, (name,), _form_of(source, name, place)))
    return print_table(source, views)


def _form_of(source: Table, name: str, place: int) -> Callable[[Cell], str]:
    """The form that fits a column's cells."""
    cells = [cell for cell in source.column(name) if cell is not None]
    if place == 0 or not all(isinstance(cell, int | float) for cell in cells):
        return text
    if name == "p" or name.startswith("p_") or name.endswith("_p"):
        return p_value
    return count if all(isinstance(cell, int) for cell in cells) else decimal
