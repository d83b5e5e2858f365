"""The `masks` source: one's own folder of images, masks of the nodules, and a table of labels.

Layout: `images/NAME.png` (or .jpg, .bmp, .tif), `masks/NAME.*` of the same name and size, and
`labels.csv` (or the file that `labels` names) with a row for each image. Its columns:

| column | content |
|---|---|
| image | the image's file, or its name without extension |
| label | 0 or benign, 1 or malignant |
| patient_id | optional: one patient's images never part in a split |
| size_mm, features, pixel_spacing_mm, reader_label | optional: as in `csv_table` |

White in a mask is nodule, and each connected part is one, with its own box: see `components`. Label
and spacing are the image's and go to each of them; size, features and the reader's call are of one
nodule, and are not used where an image has several, since they do not say of which.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thyrojax.data.records import Exclusion, Nodule, SourceData
from thyrojax.data.sources.components import (
    NO_MASK_FILE,
    check_smallest_area,
    read_mask,
    without_small,
)
from thyrojax.data.sources.csv_table import Cells, check_columns
from thyrojax.data.sources.listing import IMAGE_SUFFIXES, check_unique, files_by_stem
from thyrojax.data.sources.naming import check_pattern, no_patients, patient_fault, patient_of
from thyrojax.data.sources.reading import (
    NO_IMAGE_FILE,
    Table,
    read_frame,
    read_table,
    require_columns,
    require_folder,
)
from thyrojax.errors import DataError, DataFaults, Fault

LAYOUT = "a folder with images, masks and labels.csv"
NO_ROW = "no row in the table of labels"


@dataclass(frozen=True)
class _Labels:
    """What the table says of one image."""

    place: str  # "row 4"
    label: int
    patient_id: str
    known: dict[str, Any]  # features and lengths, by the fields of `Nodule`


def read(
    path: Path,
    *,
    labels: Path | None = None,
    smallest_area: int | None = None,
    patient_pattern: str | None = None,
) -> SourceData:
    """Reads the folder; every image and mask is decoded once.

    `image_id` is the image's name, with "-k" for part k from the top where its mask has several.
    The patient is the table's `patient_id`, or what `patient_pattern` (a regular expression with
    one group) finds in the image's name, or else that name.

    Args:
      labels: the table, by default `labels.csv` in the folder.
      smallest_area: pixels; smaller parts are left out, by default `components.SMALLEST_AREA`.

    Raises:
      DataError: no such folder, no sensible option, or no nodule is left.
      DataFaults: all faults of table, images and masks together.
    """
    area = check_smallest_area(smallest_area)
    check_pattern(patient_pattern)
    require_folder(path, LAYOUT)
    faults: list[Fault] = []
    for name in ("images", "masks"):
        if not (path / name).is_dir():
            faults.append(Fault(str(path / name), "", "no such folder", LAYOUT))
    table = read_table(path / "labels.csv" if labels is None else labels, faults)
    if table is not None:
        require_columns(table, ("image", "label"), faults)
    if table is None or faults:
        raise DataFaults(faults)
    if patient_pattern is not None and "patient_id" in table.columns:
        raise DataError(
            f"{table.path}: found a column patient_id besides --patient-pattern, expected one "
            "of the two"
        )

    images = files_by_stem(path / "images", IMAGE_SUFFIXES, faults)
    masks = files_by_stem(path / "masks", IMAGE_SUFFIXES, faults)
    rows = _read_rows(table, images, patient_pattern, faults)
    nodules: list[Nodule] = []
    exclusions: list[Exclusion] = []
    label_of_frame: dict[str, tuple[int, str]] = {}
    for name, image in images.items():
        frame = read_frame(image, str(image), "", faults)
        if frame is None:
            continue
        if name not in masks:
            exclusions.append(Exclusion(name, NO_MASK_FILE))
            continue
        parts = read_mask(masks[name], frame, faults)
        row = rows.get(name)
        if row is None:
            exclusions.append(Exclusion(name, NO_ROW))
            continue
        first, other = label_of_frame.setdefault(frame.digest, (row.label, name))
        if first != row.label:
            found = f"label {row.label} of {name!r}, whose bytes are those of {other!r} of {first}"
            faults.append(Fault(str(table.path), row.place, found, "one label for one image"))
        boxes, small = without_small(name, masks[name], parts or [], area)
        exclusions += small
        known = dict(row.known)
        if len(boxes) > 1:
            known = {"pixel_spacing_mm": known["pixel_spacing_mm"]}
        for number, box in enumerate(boxes, start=1):
            image_id = f"{name}-{number}" if len(boxes) > 1 else name
            nodules.append(Nodule(image, image_id, row.patient_id, box, row.label, **known))
    exclusions += [Exclusion(name, NO_IMAGE_FILE, "mask") for name in masks if name not in images]
    exclusions += [Exclusion(name, NO_IMAGE_FILE, "row") for name in rows if name not in images]
    check_unique(nodules, faults)
    if faults:
        raise DataFaults(faults)
    if not nodules:
        raise DataError(f"{path}: found no image with mask and label, expected {LAYOUT}")
    named = patient_pattern is not None or "patient_id" in table.columns
    notes = () if named else (no_patients("The table of labels"),)
    return SourceData("masks", tuple(nodules), tuple(exclusions), len(images), notes)


def _read_rows(
    table: Table, images: dict[str, Path], patient_pattern: str | None, faults: list[Fault]
) -> dict[str, _Labels]:
    """What the table says, by the image's name without extension."""
    check_columns(table, ("image", "label", "patient_id"), faults)
    file_names = {image.name: name for name, image in images.items()}
    rows: dict[str, _Labels] = {}
    seen: dict[str, str] = {}
    for row in table.rows:
        cells = Cells(str(table.path), row, faults)
        cell, label, known = cells.text("image"), cells.label("label"), cells.optional()
        name = cell if cell in images else file_names.get(cell, "")
        if not name and Path(cell).suffix.lower() in IMAGE_SUFFIXES:
            name = Path(cell).stem  # of no image, or of one that was converted to another kind
        name = name or cell
        if name in seen:
            cells.fault(f"image {cell!r} of {seen[name]} again", "a row for each image")
        seen[name] = row.place
        if "patient_id" in table.columns:
            patient = cells.text("patient_id")
        else:
            patient = patient_of(patient_pattern, name)
            if name and not patient:
                faults.append(patient_fault(str(table.path), row.place, patient_pattern, name))
        if name and patient and label is not None:
            rows[name] = _Labels(row.place, label, patient, known)
    return rows
