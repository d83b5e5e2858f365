"""The `tn3k` source: TN3K, 3,493 images with masks of the nodules (Gong et al. 2021, 2023).

Layout, as its authors' loader (haifangong/TRFE-Net-for-thyroid-nodule-segmentation) and several
later programs read it: `trainval-image/NNNN.jpg` (2,879), `trainval-mask/NNNN.jpg`, `test-image`
(614), `test-mask`, and label lists `label4trainval.csv`, `label4test.csv` with a line
"NNNN.jpg,L" for each image and no header, L being 0 for benign and 1 for malignant. The lists came
later, with the repository chenghui-666/ACL; the copy with masks alone has no labels and cannot be
used here. `tn3k-trainval-foldK.json` (positions in the sorted folder) and boundary images are not
read.

- Both halves begin with 0000.jpg: names are "trainval-0000" and "test-0000" here.
- Its 3,493 images are of 2,421 patients and nobody published whose: each image is its own patient.
- The label is the image's: where a mask has several parts, each of them gets it.
- Masks are JPEG files, whose edges are not 0 and 255 but all greys between: see `components`.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

from thyrojax.data.records import Exclusion, Nodule, SourceData
from thyrojax.data.sources.components import (
    NO_MASK_FILE,
    check_smallest_area,
    read_mask,
    without_small,
)
from thyrojax.data.sources.listing import (
    IMAGE_SUFFIXES,
    check_unique,
    files_by_stem,
    identical_images,
    note_of_identical,
)
from thyrojax.data.sources.naming import no_patients
from thyrojax.data.sources.reading import NO_IMAGE_FILE, read_frame, read_text, require_folder
from thyrojax.errors import DataError, DataFaults, Fault

LAYOUT = "the TN3K folder with trainval-image, trainval-mask, test-image, test-mask and label CSVs"
HALVES = ("trainval", "test")

NO_LABEL = "no line in the label list"
CONFLICTING = "identical images of unlike label"


def read(path: Path, *, smallest_area: int | None = None) -> SourceData:
    """Reads the folder; every image and mask is decoded once.

    `image_id` is "trainval-NNNN" or "test-NNNN", with "-k" for part k from the top where a mask has
    several of at least `smallest_area` pixels (by default `components.SMALLEST_AREA`).

    Raises:
      DataError: no such folder, no sensible area, or no nodule is left.
      DataFaults: all faults of lists, images and masks together.
    """
    area = check_smallest_area(smallest_area)
    require_folder(path, LAYOUT)
    faults: list[Fault] = []
    for half in HALVES:
        for kind in ("image", "mask"):
            folder = path / f"{half}-{kind}"
            if not folder.is_dir():
                faults.append(Fault(str(folder), "", "no such folder", LAYOUT))
    labels = {half: _read_labels(path / f"label4{half}.csv", faults) for half in HALVES}
    if faults:
        raise DataFaults(faults)

    nodules: list[Nodule] = []
    exclusions: list[Exclusion] = []
    digests: dict[str, str] = {}
    for half in HALVES:
        images = files_by_stem(path / f"{half}-image", IMAGE_SUFFIXES, faults)
        masks = files_by_stem(path / f"{half}-mask", IMAGE_SUFFIXES, faults)
        for stem, image in images.items():
            name = f"{half}-{stem}"
            frame = read_frame(image, str(image), "", faults)
            if frame is None:
                continue
            digests[name] = frame.digest
            if stem not in masks:
                exclusions.append(Exclusion(name, NO_MASK_FILE))
                continue
            parts = read_mask(masks[stem], frame, faults)
            if parts is None:
                continue
            if stem not in labels[half]:
                exclusions.append(Exclusion(name, NO_LABEL, f"label4{half}.csv"))
                continue
            boxes, small = without_small(name, masks[stem], parts, area)
            exclusions += small
            for number, box in enumerate(boxes, start=1):
                image_id = f"{name}-{number}" if len(boxes) > 1 else name
                nodules.append(Nodule(image, image_id, name, box, labels[half][stem]))
        for what, named in (("mask", masks), (f"label4{half}.csv", labels[half])):
            exclusions += [
                Exclusion(f"{half}-{stem}", NO_IMAGE_FILE, what)
                for stem in named
                if stem not in images
            ]
    check_unique(nodules, faults)
    if faults:
        raise DataFaults(faults)
    nodules, conflicting = _without_conflicts(nodules, digests)
    if not nodules:
        raise DataError(f"{path}: found no image with mask and label, expected {LAYOUT}")
    return SourceData(
        "tn3k",
        tuple(nodules),
        (*exclusions, *conflicting),
        n_images=len(digests),
        notes=(
            no_patients("TN3K"),
            *note_of_identical(identical_images(digests)),
            *_note_of_several(nodules),
        ),
    )


def _read_labels(path: Path, faults: list[Fault]) -> dict[str, int]:
    """The label of each image by its name without extension."""
    text = read_text(path, "a label list (copies with masks alone have none)", faults)
    labels: dict[str, int] = {}
    if text is None:
        return labels
    try:
        lines = list(csv.reader(io.StringIO(text), strict=True))
    except csv.Error as error:
        faults.append(Fault(str(path), "", f"broken CSV ({error})", "lines such as 0000.jpg,1"))
        return labels
    for number, cells in enumerate(lines, start=1):
        place = f"line {number}"
        words = [cell.strip() for cell in cells]
        if not any(words) or (number == 1 and words[-1].casefold() == "label"):
            continue  # some copies have a header
        if len(words) != 2 or not words[0]:
            faults.append(Fault(str(path), place, f"{len(words)} cells", "an image and its label"))
            continue
        stem = Path(words[0]).stem
        if words[1] not in ("0", "1"):
            found = f"label {words[1][:40]!r}"
            faults.append(Fault(str(path), place, found, "0 for benign or 1 for malignant"))
        elif stem in labels:
            faults.append(Fault(str(path), place, f"image {stem!r} again", "each image once"))
        else:
            labels[stem] = int(words[1])
    if not lines:
        faults.append(Fault(str(path), "", "no lines", "lines such as 0000.jpg,1"))
    return labels


def _without_conflicts(
    nodules: list[Nodule], digests: dict[str, str]
) -> tuple[list[Nodule], list[Exclusion]]:
    """Leaves out the nodules of images whose identical copies have the other label."""
    labels: dict[str, set[int]] = {}
    for nodule in nodules:  # the patient is the image
        labels.setdefault(digests[nodule.patient_id], set()).add(nodule.label)
    kept = [nodule for nodule in nodules if len(labels[digests[nodule.patient_id]]) == 1]
    left_out = [
        Exclusion(nodule.patient_id, CONFLICTING, f"{nodule.image_id}, label {nodule.label}")
        for nodule in nodules
        if len(labels[digests[nodule.patient_id]]) > 1
    ]
    return kept, left_out


def _note_of_several(nodules: list[Nodule]) -> list[str]:
    several = {nodule.patient_id for nodule in nodules if nodule.image_id != nodule.patient_id}
    if not several:
        return []
    count = sum(nodule.patient_id in several for nodule in nodules)
    return [
        f"TN3K labels images: {count} nodules of {len(several)} images with several have their "
        "image's label, which need not be their own."
    ]
