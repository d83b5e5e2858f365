"""The `csv` source: one row for each nodule, images in files beside it.

Columns, in any order (case, blanks and hyphens in a name do not matter):

| column | content |
|---|---|
| image | file, relative to the CSV file's folder |
| image_id | unique for each row |
| patient_id | one patient's rows never part in a split |
| x_min, y_min, x_max, y_max | box in pixels, half-open; fractions are rounded outward |
| label | 0 or benign, 1 or malignant |
| size_mm | optional: largest diameter in mm |
| tirads, composition, echogenicity, calcification | optional: a word of `vocabulary.VOCABULARY` |
| margin (or margin_feature), shape | optional: likewise |
| pixel_spacing_mm | optional: mm per pixel |
| reader_label | optional: a radiologist's call, as label |

An empty optional cell means unknown. A further column whose name resembles an optional one that is
missing is a fault, for it would be lost unseen; any other is ignored, with one line of log. Rows of
one image (the same file, or identical bytes) must have one label.
"""

from __future__ import annotations

import difflib
import logging
import math
from pathlib import Path
from typing import Any

from thyrojax.data.records import Box, Nodule, SourceData, box_fault, box_outward
from thyrojax.data.sources.reading import (
    Frame,
    Row,
    Table,
    read_frame,
    read_table,
    require_columns,
)
from thyrojax.errors import DataFaults, Fault, one_line
from thyrojax.vocabulary import VOCABULARY, normalise

EDGES = ("x_min", "y_min", "x_max", "y_max")
REQUIRED = ("image", "image_id", "patient_id", *EDGES, "label")
ALIASES = {"margin": "margin_feature"}  # as predictions.csv calls it
OPTIONAL = (*VOCABULARY, *ALIASES.values(), "size_mm", "pixel_spacing_mm", "reader_label")
LABEL_WORDS = {"0": 0, "0.0": 0, "benign": 0, "1": 1, "1.0": 1, "malignant": 1}  # pandas writes 1.0
RESEMBLES = 0.8  # difflib's ratio: one or two letters wrong

logger = logging.getLogger(__name__)


def read(path: Path) -> SourceData:
    """Reads the nodules of a CSV file; every image is decoded once.

    Raises:
      DataFaults: all faults of the file together, each with its row (1 follows the header).
    """
    faults: list[Fault] = []
    table = read_table(path, faults)
    if table is None:
        raise DataFaults(faults)
    require_columns(table, REQUIRED, faults)
    check_columns(table, REQUIRED, faults)

    frames: dict[Path, Frame | None] = {}
    nodules: list[Nodule] = []
    row_of_id: dict[str, str] = {}
    label_of_image: dict[str, tuple[int, str]] = {}  # by digest: label and the row that gave it
    for row in table.rows:
        cells = Cells(str(path), row, faults)
        image_id, patient_id = cells.text("image_id"), cells.text("patient_id")
        if image_id in row_of_id:
            cells.fault(f"image_id {image_id!r} of {row_of_id[image_id]} again", "a unique one")
        elif image_id:
            row_of_id[image_id] = row.place

        name = cells.text("image")
        image = path.parent / name
        if name and image not in frames:
            frames[image] = read_frame(image, str(path), row.place, faults)
        elif name and frames[image] is None:
            cells.fault(f"image {name!r}, unreadable as before", "a readable image")
        frame = frames.get(image) if name else None

        label = cells.label("label")
        if frame is not None and label is not None:
            first, place = label_of_image.setdefault(frame.digest, (label, row.place))
            if first != label:
                found = f"label {label} of image {name!r}, which {place} labels {first}"
                cells.fault(found, "one label for an image")

        box = cells.box(frame)
        known = cells.optional()
        if box is not None and label is not None:
            nodules.append(Nodule(image, image_id, patient_id, box, label, **known))
    if faults:
        raise DataFaults(faults)
    return SourceData("csv", tuple(nodules), (), n_images=len(frames))


def check_columns(table: Table, known: tuple[str, ...], faults: list[Fault]) -> None:
    """Faults for look-alikes of columns that are missing and a margin given twice; logs those that
    are neither optional nor among the source's own `known` ones."""
    file = str(table.path)
    if {"margin", "margin_feature"} <= set(table.columns):
        faults.append(Fault(file, "header", "margin and margin_feature", "one of the two"))
    absent = [name for name in (*OPTIONAL, *known) if name not in table.columns]
    ignored = []
    for name in table.columns:
        if name in known or name in OPTIONAL:
            continue
        alike = difflib.get_close_matches(name, absent, n=1, cutoff=RESEMBLES)
        if alike:
            faults.append(
                Fault(file, "header", f"column {name!r}", f"{alike[0]!r}, or another name")
            )
        else:
            ignored.append(name)
    if ignored:
        logger.warning("%s: columns ignored: %s", file, one_line(", ".join(ignored)))


class Cells:
    """One row's cells read by kind; what is wrong with one is added to the faults."""

    def __init__(self, file: str, row: Row, faults: list[Fault]) -> None:
        self.file, self.row, self.faults = file, row, faults

    def fault(self, found: str, expected: str) -> None:
        self.faults.append(Fault(self.file, self.row.place, found, expected))

    def text(self, column: str) -> str:
        """A required cell; "" where it is empty (a fault) or its column missing (already one)."""
        cell = self.row.cells.get(column)
        if cell == "":
            self.fault(f"an empty {column}", "a value")
        return cell or ""

    def number(self, column: str, cell: str) -> float | None:
        try:
            value = float(cell)
        except ValueError:
            value = math.nan
        if math.isfinite(value):
            return value
        self.fault(f"{column} {cell!r}", "a finite number")
        return None

    def positive(self, column: str) -> float | None:
        """An optional length."""
        cell = self.row.cells.get(column, "")
        value = self.number(column, cell) if cell else None
        if value is not None and value <= 0:
            self.fault(f"{column} {cell}", "a number > 0")
            return None
        return value

    def word(self, column: str) -> str | None:
        """An optional word of the vocabulary of `column`, given under that name or its alias."""
        cell = self.row.cells.get(column, "") or self.row.cells.get(ALIASES.get(column, ""), "")
        if not cell:
            return None
        if normalise(cell) not in VOCABULARY[column]:
            self.fault(f"{column} {cell!r}", f"one of {', '.join(VOCABULARY[column])}")
            return None
        return normalise(cell)

    def label(self, column: str, required: bool = True) -> int | None:
        cell = self.text(column) if required else self.row.cells.get(column, "")
        if not cell:
            return None
        if cell.casefold() not in LABEL_WORDS:
            self.fault(f"{column} {cell!r}", "0, 1, benign or malignant")
        return LABEL_WORDS.get(cell.casefold())

    def optional(self) -> dict[str, Any]:
        """A nodule's features, size, spacing and reader's call, None where not known."""
        known: dict[str, Any] = {name: self.word(name) for name in VOCABULARY}
        known["size_mm"] = self.positive("size_mm")
        known["pixel_spacing_mm"] = self.positive("pixel_spacing_mm")
        known["reader_label"] = self.label("reader_label", required=False)
        return known

    def box(self, frame: Frame | None) -> Box | None:
        """The box rounded outward, checked against the frame where that could be read."""
        edges = []
        for column in EDGES:
            cell = self.text(column)
            value = self.number(column, cell) if cell else None
            if value is not None:
                edges.append(value)
        if len(edges) < len(EDGES):
            return None
        x_min, y_min, x_max, y_max = edges
        if x_max <= x_min or y_max <= y_min:  # before rounding, which would give it an area
            found = f"box {x_min:g} {y_min:g} {x_max:g} {y_max:g} of no area"
            self.fault(found, "x_min < x_max and y_min < y_max")
            return None
        box = box_outward(x_min, y_min, x_max, y_max)
        if frame is not None:
            fault = box_fault(box, frame.width, frame.height, self.file, self.row.place)
            if fault is not None:
                self.faults.append(fault)
        return box
