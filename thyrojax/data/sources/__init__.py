"""Where nodules come from: each source reads one public layout, a CSV file, or simulates."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thyrojax.data.records import SourceData
from thyrojax.errors import DataError
from thyrojax.vocabulary import LABELS


@dataclass(frozen=True)
class SourceKind:
    """What is to be said of a source before it is read."""

    module: str  # has `read(path, **options) -> SourceData`
    subject: str  # what its nodules are
    label_names: tuple[str, str]  # what label 0 and label 1 are called in reports
    mask_overlay: bool  # whether its frames are masked to their scan sector unless told otherwise
    path_expected: str  # what --from must name; "" = nothing
    options: tuple[str, ...] = ()  # of OPTIONS, those that its `read` takes


# Names that a source's `read` may take beside its path, and what they are.
OPTIONS = {
    "n_patients": "how many patients to simulate",
    "seed": "of the simulation",
    "malignant": "the annotation's class names that mean malignant",
    "benign": "the annotation's class names that mean benign",
    "patient_pattern": "regular expression whose one group, in an image's name, is its patient",
    "labels": "CSV file: image, label and, where known, patient_id and features",
    "smallest_area": "pixels; smaller regions of a mask are counted and left out",
    "boxes": "CSV file: a row for each box, with its frame and label",
    "key_file": "file with the secret key that patient and image ids are hashed with",
}
_NAMED = ("malignant", "benign", "patient_pattern", "key_file")

# A module is named, not imported: the command's --help must not load OpenCV.
KINDS: dict[str, SourceKind] = {
    "csv": SourceKind(
        "csv_table",
        "thyroid nodules",
        LABELS,
        False,
        "a CSV file with one row for each nodule",
        ("key_file",),
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
    "phantom": SourceKind(
        "phantom", "simulated thyroid nodules", LABELS, False, "", ("n_patients", "seed")
    ),
    "tn3k": SourceKind(
        "tn3k",
        "thyroid nodules",
        LABELS,
        False,
        "the TN3K folder with trainval-image, trainval-mask, test-image, test-mask and label CSVs",
        ("smallest_area",),
    ),
    "tn5000": SourceKind(
        "tn5000",
        "thyroid nodules",
        LABELS,
        False,
        "the TN5000 folder with Annotations, JPEGImages and ImageSets",
        ("patient_pattern",),
    ),
    "coco": SourceKind(
        "coco", "thyroid nodules", LABELS, False, "a COCO JSON file beside its images", _NAMED
    ),
    "voc": SourceKind(
        "voc",
        "thyroid nodules",
        LABELS,
        False,
        "a Pascal VOC folder with Annotations and JPEGImages",
        _NAMED,
    ),
    "masks": SourceKind(
        "masks",
        "thyroid nodules",
        LABELS,
        False,
        "a folder with images, masks and labels.csv",
        ("labels", "smallest_area", "patient_pattern", "key_file"),
    ),
    "labelme": SourceKind(
        "labelme",
        "thyroid nodules",
        LABELS,
        False,
        "a folder of LabelMe JSON files beside their images",
        _NAMED,
    ),
    "dicom": SourceKind(
        "dicom",
        "thyroid nodules",
        LABELS,
        True,
        "a folder of DICOM ultrasound files",
        ("boxes", "key_file"),
    ),
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

    `options` are those of `OPTIONS` that the source's own `read` takes.

    Raises:
      DataError: no source of that name, an option that it has not, no path where one is needed,
        nothing usable there, or a key that cannot be used.
      DataFaults: faults in the files, all of them together.
    """
    kind = source_kind(name)
    for option in options:
        if option not in kind.options:
            raise DataError(
                f"source {name}: found option {option}, "
                f"expected {' or '.join(kind.options) or 'none'}"
            )
    if path is None and kind.path_expected:
        raise DataError(f"source {name}: found no path, expected {kind.path_expected}")
    module = importlib.import_module(f"{__name__}.{kind.module}")
    # DICOM takes the key itself, since none of its own ids may go any further.
    key_file = None if name == "dicom" else options.pop("key_file", None)
    data: SourceData = module.read(path, **options)
    if key_file is None:
        return data
    from thyrojax.data.identity import pseudonymise, read_key

    return pseudonymise(data, read_key(key_file))
