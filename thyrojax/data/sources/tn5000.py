"""The `tn5000` source: TN5000, 5,000 images with biopsy-proven labels (Zhang et al. 2025).

Layout, as the authors' archive TN5000_forReview has it: `JPEGImages/NNNNNN.jpg`,
`Annotations/NNNNNN.xml` in Pascal VOC's form, `ImageSets/Main/{train,val,test}.txt`. The class
`<name>` is 0 for benign and 1 for malignant. Learned from a dozen public programs that read it
(among them fahadwali1/tn5000-vlm-benchmark), not from the files, which we have not had.

- The image sets part images, not patients, at random, and no patient ids are published; others
  counted 119 groups of byte-identical images (245 in all), of which 44 pairs stand on both sides
  of the official test set. They are read and counted, and not used.
- It is not stated whether boxes count pixels from 1, as VOC does, or from 0: see `voc_folder`.
- Boxes that do not fit their image are left out and counted, for nobody but the authors could
  mend them. Everything else that the set is not known to hold is a fault.
"""

from __future__ import annotations

from pathlib import Path

from thyrojax.data.records import Exclusion, SourceData
from thyrojax.data.sources.listing import (
    IMAGE_SUFFIXES,
    check_unique,
    files_by_stem,
    identical_images,
    note_of_identical,
)
from thyrojax.data.sources.naming import check_pattern, no_patients
from thyrojax.data.sources.reading import NO_IMAGE_FILE, require_folder
from thyrojax.data.sources.voc_folder import Choices, collect
from thyrojax.errors import DataError, DataFaults, Fault

LAYOUT = "the TN5000 folder with Annotations, JPEGImages and ImageSets"
SETS = ("train", "val", "test")


def read(path: Path, *, patient_pattern: str | None = None) -> SourceData:
    """Reads the folder; every image is decoded once.

    `image_id` is the image's name, with "-k" for object k where its XML lists several. The patient
    is that name too, unless `patient_pattern` (a regular expression with one group) finds one in
    it, as it may where the images were renamed.

    Raises:
      DataError: no such folder, or no nodule is left.
      DataFaults: all faults of the files together.
    """
    check_pattern(patient_pattern)
    require_folder(path, LAYOUT)
    faults: list[Fault] = []
    for name in ("Annotations", "JPEGImages"):
        if not (path / name).is_dir():
            faults.append(Fault(str(path / name), "", "no such folder", LAYOUT))
    if faults:
        raise DataFaults(faults)
    images = files_by_stem(path / "JPEGImages", IMAGE_SUFFIXES, faults)
    xml_files = files_by_stem(path / "Annotations", (".xml",), faults)
    set_of = _read_sets(path / "ImageSets" / "Main", faults)
    found = collect(images, xml_files, Choices(patient_pattern=patient_pattern, mend=True), faults)
    check_unique(found.nodules, faults)
    if faults:
        raise DataFaults(faults)
    if not found.nodules:
        raise DataError(f"{path}: found no image with a usable box, expected {LAYOUT}")
    known = images.keys() | xml_files.keys()
    missing = [
        Exclusion(name, NO_IMAGE_FILE, f"{part}.txt")
        for name, part in set_of.items()
        if name not in known
    ]
    notes = [] if patient_pattern else [no_patients("TN5000")]
    notes += [*_notes_of_sets(set_of, found.digests), *found.notes]
    return SourceData(
        "tn5000",
        tuple(found.nodules),
        (*found.exclusions, *missing),
        n_images=len(images),
        notes=tuple(notes),
    )


def _read_sets(folder: Path, faults: list[Fault]) -> dict[str, str]:
    """The official part of each image. A missing list is none; an image in two is a fault."""
    set_of: dict[str, str] = {}
    for part in SETS:
        file = folder / f"{part}.txt"
        if not file.exists():
            continue
        try:
            lines = file.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError):
            faults.append(Fault(str(file), "", "no readable text", "a list of image names"))
            continue
        for number, line in enumerate(lines, start=1):
            words = line.split()
            if not words:
                continue
            if set_of.setdefault(words[0], part) != part:
                found = f"image {words[0]!r}, which {set_of[words[0]]}.txt has"
                faults.append(Fault(str(file), f"line {number}", found, "each image in one list"))
    return set_of


def _notes_of_sets(set_of: dict[str, str], digests: dict[str, str]) -> list[str]:
    """What the official parts are, and how many identical images they share."""
    same = identical_images(digests)
    notes = note_of_identical(same)
    if set_of:
        across = sum(len({set_of.get(name, "") for name in names}) > 1 for names in same)
        sizes = ", ".join(f"{part} {sum(of == part for of in set_of.values())}" for part in SETS)
        notes.append(
            f"The official image sets ({sizes}) were not used: they part images, not patients; "
            f"groups of byte-identical images that stand in more than one of them: {across}."
        )
    return notes
