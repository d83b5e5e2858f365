"""The `voc` source: one's own images with Pascal VOC annotations (Everingham et al. 2010).

Layout: `Annotations/NAME.xml` and `JPEGImages/NAME.jpg` (or .png, .bmp, .tif), as the VOC
development kit lays them out and labelling tools write them; or one folder with the XML beside the
images. Image and XML belong together by name; `<filename>` and `<path>` are not followed, but an
XML whose `<filename>` is another image of the folder is a fault. `ImageSets` are not used: parts
are drawn by patient. How boxes count pixels: see `voc_folder`. Every `<object>` is a nodule; its
`<name>` is benign or malignant, or one of the names that are given for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from thyrojax.data.records import SourceData
from thyrojax.data.sources.listing import IMAGE_SUFFIXES, check_unique, files_by_stem
from thyrojax.data.sources.naming import check_names, check_pattern, no_patients
from thyrojax.data.sources.reading import require_folder
from thyrojax.data.sources.voc_folder import Choices, collect
from thyrojax.errors import DataError, DataFaults, Fault


def read(
    path: Path,
    *,
    malignant: Sequence[str] | None = None,
    benign: Sequence[str] | None = None,
    patient_pattern: str | None = None,
) -> SourceData:
    """Reads the folder; every image is decoded once.

    `image_id` is the image's name, with "-k" for object k where its XML lists several. The patient
    is that name too, unless `patient_pattern` finds one in it.

    Args:
      malignant: class names of label 1, by default "malignant" and "1".
      benign: class names of label 0, by default "benign" and "0". Where either list is given,
        objects of further classes are left out; otherwise they are a fault.
      patient_pattern: regular expression with one group, searched in the image's name.

    Raises:
      DataError: no such folder, neither XML nor images in it, or no nodule is left.
      DataFaults: all faults of the files together.
    """
    check_names(malignant, benign)
    check_pattern(patient_pattern)
    require_folder(path, "a Pascal VOC folder with Annotations and JPEGImages")
    sheets, pictures = path / "Annotations", path / "JPEGImages"
    if not sheets.is_dir() and not pictures.is_dir():
        sheets = pictures = path
    faults: list[Fault] = []
    for folder in (sheets, pictures):
        if not folder.is_dir():
            faults.append(Fault(str(folder), "", "no such folder", "Annotations and JPEGImages"))
    if faults:
        raise DataFaults(faults)
    images = files_by_stem(pictures, IMAGE_SUFFIXES, faults)
    xml_files = files_by_stem(sheets, (".xml",), faults)
    if not images or not xml_files:
        counted = f"{len(xml_files)} XML files and {len(images)} images"
        raise DataError(f"{path}: found {counted}, expected an XML file for each image")
    choices = Choices(malignant, benign, patient_pattern)
    found = collect(images, xml_files, choices, faults)
    check_unique(found.nodules, faults)
    if faults:
        raise DataFaults(faults)
    if not found.nodules:
        raise DataError(f"{path}: found no usable object, expected boxes of nodules")
    notes = found.notes if patient_pattern else [no_patients("The folder"), *found.notes]
    return SourceData(
        "voc", tuple(found.nodules), tuple(found.exclusions), len(images), tuple(notes)
    )
