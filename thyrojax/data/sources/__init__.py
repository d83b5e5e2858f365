"""Where nodules come from: each source reads one public layout, a CSV file, or simulates."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thyrojax.data.records import LABELS, SourceData
from thyrojax.errors import DataError


@dataclass(frozen=True)
class SourceKind:
    """What is to be said of a source before it is read."""

    module: str  # has `read(path) -> SourceData`
    subject: str  # what its nodules are
    label_names: tuple[str, str]  # what label 0 and label 1 are called in reports
    mask_overlay: bool  # whether its frames are masked to their scan sector unless told otherwise
    path_expected: str  # what --from must name; "" = nothing


# A module is named, not imported: the command's --help must not load OpenCV.
KINDS: dict[str, SourceKind] = {
    "csv": SourceKind(
        "csv_table", "thyroid nodules", LABELS, False, "a CSV file with one row for each nodule"
    ),
    "busbra": SourceKind(
        "busbra", "breast lesions", LABELS, False, "a folder with bus_data.csv, Images and Masks"
    ),
    "ddti": SourceKind(
        "ddti",
        "thyroid nodules",
        ("TI-RADS-benign (2, 3)", "TI-RADS-suspicious (4a-5)"),
        True,
        "a folder with N.xml and N_i.jpg",
    ),
    "phantom": SourceKind("phantom", "simulated thyroid nodules", LABELS, False, ""),
}
SOURCES: tuple[str, ...] = tuple(KINDS)


def source_kind(name: str) -> SourceKind:
    """What is known of a source by its name.

    Raises:
      DataError: no source has that name.
    """
    if name not in KINDS:
        raise DataError(f"source: found {name!r}, expected one of {', '.join(SOURCES)}")
    return KINDS[name]


def read_source(name: str, path: Path | None, **options: Any) -> SourceData:
    """Reads a source whole: its nodules and all that it leaves out. The phantom's `path` is None.

    `options` are those of the source's own `read` (the phantom has `n_patients` and `seed`).

    Raises:
      DataError: no source of that name, no path where one is needed, or nothing usable there.
      DataFaults: faults in the files, all of them together.
    """
    kind = source_kind(name)
    if path is None and kind.path_expected:
        raise DataError(f"source {name}: found no path, expected {kind.path_expected}")
    module = importlib.import_module(f"{__name__}.{kind.module}")
    data: SourceData = module.read(path, **options)
    return data
