"""What the sources share: a table read with all its faults named, a frame looked at once."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from thyrojax.data.records import load_image
from thyrojax.errors import DataError, Fault
from thyrojax.vocabulary import normalise

# The one reason of exclusion that is of no image found: annotations without their image.
NO_IMAGE_FILE = "no image file"


@dataclass(frozen=True)
class Row:
    """One line of a table: where it stands, and its cells by column, stripped."""

    place: str  # "row 4", 1 being the line after the header
    cells: dict[str, str]


@dataclass(frozen=True)
class Table:
    """A CSV file with a header. Column names are normalised, see `normalise`."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Frame:
    """Size in pixels of a decoded image, and the sha256 of its file."""

    width: int
    height: int
    digest: str


def read_text(path: Path, expected: str, faults: list[Fault]) -> str | None:
    """A file's text in UTF-8, with or without a byte-order mark; None beside a fault."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        found = f"bytes that are not UTF-8 (at byte {error.start})"
        faults.append(Fault(str(path), "", found, f"{expected} in UTF-8"))
    except (OSError, ValueError) as error:
        faults.append(Fault(str(path), "", _os_reason(path, error), expected))
    return None


def read_table(path: Path, faults: list[Fault]) -> Table | None:
    """Reads a comma-separated file in UTF-8, with or without a byte-order mark.

    Lines without any content are skipped and counted. Faults are added to `faults`: no such file, a
    folder, another encoding, broken quoting, no rows, a column named twice, a row with too few or
    too many cells (left out of the table). None where there is no table at all.
    """
    text = read_text(path, "a CSV file", faults)
    if text is None:
        return None
    try:
        lines = list(csv.reader(io.StringIO(text), strict=True))
    except csv.Error as error:
        faults.append(Fault(str(path), "", f"broken CSV ({error})", "well-formed quotes and cells"))
        return None
    if not lines or not any(cell.strip() for cell in lines[0]):
        faults.append(Fault(str(path), "", "no header", "column names in the first line"))
        return None

    columns = tuple(normalise(name) for name in lines[0])
    for name in sorted({name for name in columns if columns.count(name) > 1}):
        faults.append(Fault(str(path), "", f"column {name!r} twice", "each column once"))
    rows = []
    for number, cells in enumerate(lines[1:], start=1):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(columns):
            expected = f"{len(columns)}, as the header has"
            faults.append(Fault(str(path), f"row {number}", f"{len(cells)} cells", expected))
            continue
        stripped = (cell.strip() for cell in cells)
        rows.append(Row(f"row {number}", dict(zip(columns, stripped, strict=True))))
    if len(lines) == 1 or not any(any(cell.strip() for cell in line) for line in lines[1:]):
        faults.append(Fault(str(path), "", "no rows", "a row for each nodule below the header"))
    return Table(path, columns, tuple(rows))


def require_columns(table: Table, required: Iterable[str], faults: list[Fault]) -> None:
    """Adds a fault for each required column that the table lacks."""
    for name in required:
        if name not in table.columns:
            found = f"columns {', '.join(table.columns)}"
            faults.append(Fault(str(table.path), "header", found, f"a column {name!r}"))


def read_frame(image: Path, file: str, row: str, faults: list[Fault]) -> Frame | None:
    """Decodes an image; where it cannot, adds a fault of that file and row and gives None."""
    try:
        height, width = load_image(image).shape
        return Frame(width, height, hashlib.sha256(image.read_bytes()).hexdigest())
    except (DataError, OSError) as error:
        found, _, expected = str(error).removeprefix(f"{image}: found ").partition(", expected ")
        named = found if str(image) in found else f"{found} at {image}"
        faults.append(Fault(file, row, named, expected or "a readable image"))
        return None


def require_folder(path: Path, expected: str) -> None:
    """Raises a DataError where `path` is no folder; `expected` says what should be in it."""
    if not path.is_dir():
        found = "a file" if path.exists() else "no such folder"
        raise DataError(f"{path}: found {found}, expected {expected}")


def _os_reason(path: Path, error: Exception) -> str:
    if path.is_dir():
        return "a folder"
    if isinstance(error, FileNotFoundError):
        return "no such file"
    return f"no readable file ({error})"
