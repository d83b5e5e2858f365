"""Tables as the study writes them: to CSV, to Markdown and into the report."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

Cell = str | int | float | None

NOTE = "note"


@dataclass(frozen=True)
class Table:
    """A table with named columns.

    A figure that the cases cannot give is None, and its row then says why in the column `note`:
    a table that has neither NaN nor a gap without a reason is checked when it is made.

    Attributes:
      name: the file's name without its ending.
      caption: one sentence that says what the table shows, of what cases.
      columns: names as they stand in the CSV file.
      rows: one tuple per row; shares are from 0 to 1.
      footnotes: what a reader must know of all rows (methods, corrections, warnings).
    """

    name: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    footnotes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        for number, row in enumerate(self.rows, start=1):
            place = f"table {self.name}, row {number}"
            if len(row) != len(self.columns):
                raise ValueError(f"{place}: {len(row)} cells for {len(self.columns)} columns")
            if any(isinstance(cell, float) and math.isnan(cell) for cell in row):
                raise ValueError(f"{place}: NaN in {row}")
            if None in row and not (NOTE in self.columns and row[self.columns.index(NOTE)]):
                raise ValueError(f"{place}: a gap without a note in {row}")

    def column(self, name: str) -> tuple[Cell, ...]:
        """One column's cells, from top to bottom."""
        place = self.columns.index(name)
        return tuple(row[place] for row in self.rows)

    def records(self) -> list[dict[str, Cell]]:
        """Each row by column name."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    def to_csv(self) -> str:
        """CSV with every digit of each number; an empty cell where there is none."""
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(["" if cell is None else cell for cell in row] for row in self.rows)
        return text.getvalue()

    def to_markdown(self) -> str:
        """Caption, table and footnotes in Markdown, numbers rounded as a paper prints them."""
        lines = [self.caption, "", _line(self.columns), _line("---" for _ in self.columns)]
        lines += [
            _line(shown(cell, name) for cell, name in zip(row, self.columns, strict=True))
            for row in self.rows
        ]
        lines += ["", *(f"- {note}" for note in self.footnotes)] if self.footnotes else []
        return "\n".join(lines) + "\n"


def table_of(
    name: str, caption: str, records: Sequence[dict[str, Any]], footnotes: Iterable[str] = ()
) -> Table:
    """A table from one dictionary per row, all with the same keys in the same order.

    Raises:
      ValueError: the rows differ in their keys, or there is no row.
    """
    if not records:
        raise ValueError(f"table {name}: no row")
    columns = tuple(records[0])
    if any(tuple(record) != columns for record in records):
        raise ValueError(f"table {name}: rows with different columns")
    rows = tuple(tuple(record.values()) for record in records)
    return Table(name, caption, columns, rows, tuple(footnotes))


def shown(cell: Cell, column: str = "") -> str:
    """A cell as a reader sees it: P values as papers print them, else three decimals."""
    if cell is None:
        return "-"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if not isinstance(cell, float):
        return str(cell)
    if math.isinf(cell):
        return "infinite" if cell > 0 else "-infinite"
    if column == "p" or column.startswith("p_") or column.endswith("_p"):
        return "<0.001" if cell < 0.001 else f"{cell:.3f}"
    return f"{cell:.1f}" if abs(cell) >= 1000 else f"{cell:.3f}"


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
