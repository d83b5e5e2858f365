"""The `busbra` source: BUS-BRA, breast lesions with pathology (Gomez-Flores et al. 2023).

Layout: `bus_data.csv` (of its columns ID, Case, Pathology are used), `Images/bus_NNNN-S.png`,
`Masks/mask_NNNN-S.png` with S one of l, r, s. Two views of a patient share a Case. Boxes are the
masks' bounding boxes and sizes those of the decoded image, since the table's BBOX and Height are
wrong for some. BI-RADS grades are of breast lesions: they are not TI-RADS grades and are not taken
for such. The fold files are not used (their validation columns part the views of one patient).
"""

from __future__ import annotations

from pathlib import Path

from thyrojax.data.records import Box, Exclusion, Nodule, SourceData, load_image
from thyrojax.data.sources.components import EMPTY_MASK, NO_MASK_FILE, parts_of
from thyrojax.data.sources.reading import (
    NO_IMAGE_FILE,
    Row,
    read_frame,
    read_table,
    require_columns,
    require_folder,
)
from thyrojax.errors import DataError, DataFaults, Fault
from thyrojax.vocabulary import LABELS

NO_ROW = "no row in bus_data.csv"
SEVERAL_PARTS = (
    "mask of several parts"  # which of them is the lesion is not stated: none is guessed
)


def read(path: Path) -> SourceData:
    """Reads the folder; every image and mask is decoded once.

    A row without its image, an image without row or mask, and a mask that is empty or in several
    parts are exclusions. `image_id` is the table's ID, `patient_id` its Case.

    Raises:
      DataError: no such folder, or no lesion is left.
      DataFaults: all faults of table, images and masks together.
    """
    require_folder(path, "the BUS-BRA folder with bus_data.csv, Images and Masks")
    faults: list[Fault] = []
    table = read_table(path / "bus_data.csv", faults)
    if table is not None:
        require_columns(table, ("id", "case", "pathology"), faults)
    if table is None or faults:
        raise DataFaults(faults)

    images = {file.stem: file for file in sorted((path / "Images").glob("*.png"))}
    nodules: list[Nodule] = []
    exclusions: list[Exclusion] = []
    seen: set[str] = set()
    for row in table.rows:
        identity = row.cells["id"]
        label = _check_row(str(table.path), row, seen, faults)
        seen.add(identity)
        if label is None:
            continue
        if identity not in images:
            exclusions.append(Exclusion(identity, NO_IMAGE_FILE, f"{row.place} of bus_data.csv"))
            continue
        image = images[identity]
        mask = path / "Masks" / f"mask_{identity.removeprefix('bus_')}.png"
        if not mask.exists():
            exclusions.append(Exclusion(identity, NO_MASK_FILE, mask.name))
            continue
        found = _box_of_mask(image, mask, faults)
        if isinstance(found, Box):
            nodules.append(Nodule(image, identity, row.cells["case"], found, label))
        elif found is not None:
            exclusions.append(Exclusion(identity, *found))
    exclusions += [Exclusion(name, NO_ROW) for name in images if name not in seen]
    if faults:
        raise DataFaults(faults)
    if not nodules:
        raise DataError(f"{path}: found no image with row and mask, expected the BUS-BRA layout")
    return SourceData("busbra", tuple(nodules), tuple(exclusions), n_images=len(images))


def _check_row(file: str, row: Row, seen: set[str], faults: list[Fault]) -> int | None:
    """The row's label; None, and a fault for each thing wrong with it, where it cannot be used."""
    before = len(faults)
    for column in ("id", "case", "pathology"):
        if not row.cells[column]:
            faults.append(Fault(file, row.place, f"an empty {column}", "a value"))
    if row.cells["id"] in seen:
        faults.append(Fault(file, row.place, f"ID {row.cells['id']!r} again", "a unique one"))
    pathology = row.cells["pathology"].casefold()
    if pathology and pathology not in LABELS:
        found = f"Pathology {row.cells['pathology']!r}"
        faults.append(Fault(file, row.place, found, "benign or malignant"))
    return LABELS.index(pathology) if len(faults) == before else None


def _box_of_mask(image: Path, mask: Path, faults: list[Fault]) -> Box | tuple[str, str] | None:
    """The mask's box; or why the image is left out (reason, detail); or None beside a fault."""
    frame = read_frame(image, str(image), "", faults)
    try:
        marked = load_image(mask) > 0
    except DataError:
        read_frame(mask, str(mask), "", faults)
        return None
    if frame is None:
        return None
    if marked.shape != (frame.height, frame.width):
        found = f"a {marked.shape[1]}x{marked.shape[0]} mask"
        expected = f"{frame.width}x{frame.height}, as its image"
        faults.append(Fault(str(mask), "", found, expected))
        return None
    parts = parts_of(marked)
    if not parts:
        return EMPTY_MASK, mask.name
    if len(parts) > 1:
        return SEVERAL_PARTS, f"{mask.name}: {len(parts)} parts"
    return parts[0].box
