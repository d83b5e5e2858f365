"""Boxes of DICOM frames: what an annotation is, and those that the rows of a CSV file make.

Columns of the CSV file, in any order:

| column | content |
|---|---|
| sop_instance_uid | (0008,0018) of the file |
| frame | 1 is the first; may be empty or missing where the file has one frame |
| x_min, y_min, x_max, y_max | box in pixels, half-open; fractions are rounded outward |
| label | 0 or benign, 1 or malignant |
| size_mm, pixel_spacing_mm, tirads, ..., reader_label | optional, as in the `csv` source |
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thyrojax.data.records import Box
from thyrojax.data.sources.csv_table import EDGES, Cells, check_columns
from thyrojax.data.sources.reading import read_table, require_columns
from thyrojax.errors import Fault

REQUIRED = ("sop_instance_uid", *EDGES, "label")
KNOWN = (*REQUIRED, "frame")


@dataclass(frozen=True)
class Annotation:
    """A box in a frame of a file; or, where there is a `reason`, why it is no nodule."""

    file: str  # where it was found, for faults
    place: str
    uid: str  # SOP Instance UID of the image
    frame: int | None  # 1 is the first; None is the only one
    box: Box | None = None
    label: int | None = None
    reason: str = ""
    size: tuple[int, int] | None = None  # width and height that the image must have, in pixels
    of_table: bool = False
    known: dict[str, Any] = field(default_factory=dict)  # fields of `Nodule` that were stated

    def fault(self, found: str, expected: str) -> Fault:
        return Fault(self.file, self.place, found, expected)


def annotations_of_table(path: Path, faults: list[Fault]) -> list[Annotation]:
    """The rows of a CSV file; what is wrong with one is added to the faults."""
    table = read_table(path, faults)
    if table is None:
        return []
    before = len(faults)
    require_columns(table, REQUIRED, faults)
    check_columns(table, KNOWN, faults)
    if len(faults) > before:
        return []
    annotations = []
    first_place: dict[tuple[str, int | None, Box], str] = {}
    for row in table.rows:
        cells = Cells(str(path), row, faults)
        uid, label, box = cells.text("sop_instance_uid"), cells.label("label"), cells.box(None)
        frame = _frame(cells)
        known = cells.optional()
        if not uid or label is None or box is None or frame == 0:
            continue
        place = first_place.setdefault((uid, frame, box), row.place)
        if place != row.place:
            cells.fault(f"the box of {place} again", "each box once")
        annotations.append(
            Annotation(str(path), row.place, uid, frame, box, label, of_table=True, known=known)
        )
    return annotations


def _frame(cells: Cells) -> int | None:
    """The frame of a row; None where it names none, 0 beside a fault."""
    cell = cells.row.cells.get("frame", "")
    if not cell:
        return None
    value = cells.number("frame", cell)
    if value is not None and (value < 1 or value != int(value)):
        cells.fault(f"frame {cell}", "a whole number, 1 for the first")
        return 0
    return 0 if value is None else int(value)
