"""The `dicom` source: ultrasound as scanners and archives store it, without whom it shows.

Reads single- and multi-frame ultrasound and secondary captures from a file, or a folder and all
below it. Boxes come from a CSV file (`dicom_boxes`) or, without one, from the segmentations and
structured reports in the folder (`dicom_objects`).

No attribute of a file leaves this module but its pixels, its pixel spacing and counts. Patients
and images are named by keyed hashes of Patient ID and SOP Instance UID (`identity`); records come
in the order of these, not of the files' names. What lies outside the tissue regions that a file
describes is blank wherever the frame goes. Faults name files and values, but only to whoever holds
the files.

An image is here a frame with an annotation; all other frames of its file, or of a file without any,
are one image together.
"""

from __future__ import annotations

import filecmp
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from thyrojax.data.identity import MAKE_A_KEY, NOTE, pseudonym, read_key
from thyrojax.data.records import Exclusion, Nodule, SourceData, box_fault
from thyrojax.data.sources.dicom_boxes import Annotation, annotations_of_table
from thyrojax.data.sources.dicom_header import (
    DIRECTORY_CLASS,
    Header,
    dicom_files,
    read_header,
    text,
    whole,
)
from thyrojax.data.sources.dicom_objects import REPORTS, SEGMENTATION, annotations_of_object
from thyrojax.data.sources.dicom_pixels import DicomFrame, frame_count, is_video, pixel_fault
from thyrojax.data.sources.dicom_regions import (
    Region,
    Spacing,
    frame_spacing,
    region_of,
    tissue_regions,
)
from thyrojax.data.sources.reading import NO_IMAGE_FILE
from thyrojax.errors import DataError, DataFaults, Fault

IMAGES = (
    "1.2.840.10008.5.1.4.1.1.6.1",  # ultrasound
    "1.2.840.10008.5.1.4.1.1.3.1",  # ultrasound, multi-frame
    "1.2.840.10008.5.1.4.1.1.6",  # both, as they were before 1998
    "1.2.840.10008.5.1.4.1.1.3",
    "1.2.840.10008.5.1.4.1.1.7",  # secondary capture
    "1.2.840.10008.5.1.4.1.1.7.2",  # and its multi-frame forms of 8 bits, grey and colour
    "1.2.840.10008.5.1.4.1.1.7.4",
)

# Reasons for an image. Those for an annotation: OUTSIDE, and `dicom_objects`.
NO_BOX = "no box"
OTHER_FRAMES = "frames without a box"
NOT_ULTRASOUND = "no ultrasound image"
VIDEO = "video stream"
OUTSIDE = "box outside the scan region"


@dataclass
class _Image:
    """A file with frames, under its pseudonym."""

    path: Path
    name: str
    patient: str
    width: int
    height: int
    frames: int
    regions: tuple[Region, ...]
    misfit: bool  # whether the file's regions are of another frame
    spacing: Spacing  # where no region has one
    reason: str  # why none of its frames is used; "" where they can be
    names_patient: bool
    says_burnt_in: bool
    annotations: dict[int, list[Annotation]] = field(default_factory=dict)  # by frame, from 1


def read(path: Path, *, boxes: Path | None = None, key_file: Path | None = None) -> SourceData:
    """Reads the files; every frame with a box is decoded once.

    `key_file` holds the secret that ids are hashed with, see `identity.read_key`. With `boxes`,
    segmentations and structured reports are not read. A box in a region takes that region's pixel
    spacing; see `dicom_regions`.

    Raises:
      DataError: no key, no pydicom, no such folder or no DICOM file in it, no boxes, or no nodule
        is left.
      DataFaults: all faults of the files, or all of the annotations, together.
    """
    if key_file is None:
        raise DataError(
            "source dicom: found no key file, expected --key-file FILE with a secret that patient "
            f"and image ids are hashed with, as made by: {MAKE_A_KEY}"
        )
    key = read_key(key_file)
    _require_pydicom()
    if not path.exists():
        raise DataError(f"{path}: found no such file or folder, expected DICOM ultrasound")

    faults: list[Fault] = []
    files, others = dicom_files(path, faults)
    annotations = annotations_of_table(boxes, faults) if boxes is not None else []
    images, objects = _read_files(files, key, boxes is None, annotations, faults)
    if faults:
        raise DataFaults(faults)
    if not images:
        raise DataError(
            f"{path}: found {len(files)} DICOM files and {others} others, none of them an image, "
            "expected DICOM ultrasound"
        )
    if boxes is None and not annotations:
        raise DataError(
            f"{path}: found no box in a segmentation (SEG) or structured report (SR), "
            "expected some, or --boxes FILE"
        )
    exclusions = _give_to_images(annotations, images, key, faults)
    nodules: list[Nodule] = []
    for image in sorted(images.values(), key=lambda image: image.name):
        used, left_out = _sort_annotations(image, faults)
        nodules += used
        exclusions += left_out
    if faults:
        raise DataFaults(faults)
    if not nodules:
        raise DataError(f"{path}: found no frame with a usable box, expected at least one")
    return SourceData(
        "dicom",
        tuple(nodules),
        tuple(sorted(exclusions, key=lambda entry: entry.image_id)),
        n_images=sum(
            len(image.annotations) + (image.frames > len(image.annotations) or bool(image.reason))
            for image in images.values()
        ),
        notes=tuple(_notes(images.values(), nodules, objects, boxes is not None)),
    )


def _require_pydicom() -> None:
    try:
        import pydicom  # noqa: F401
    except ImportError:
        raise DataError(
            "source dicom: found no pydicom, expected it installed: pip install 'thyrojax[dicom]'"
        ) from None


def _read_files(
    files: list[Path],
    key: bytes,
    read_objects: bool,
    annotations: list[Annotation],
    faults: list[Fault],
) -> tuple[dict[str, _Image], Counter[str]]:
    """Images by SOP Instance UID, and how many copies of them and objects of other kinds there are.

    Annotations of segmentations and reports are added to `annotations`.
    """
    images: dict[str, _Image] = {}
    objects: Counter[str] = Counter()
    for file in files:
        header = read_header(file, faults)
        if header is None:
            continue
        if header.kind == SEGMENTATION or header.kind in REPORTS:
            objects["annotating"] += 1
            if read_objects:
                annotations += annotations_of_object(header, faults)
            continue
        if header.kind not in IMAGES and whole(header.dataset, "Rows") is None:
            objects["other"] += header.kind != DIRECTORY_CLASS
            continue
        uid = text(header.dataset, "SOPInstanceUID")
        if not uid:
            faults.append(Fault(str(file), "", "no SOP Instance UID", "one"))
        elif uid in images:
            if filecmp.cmp(file, images[uid].path, shallow=False):
                objects["copies"] += 1
            else:
                found = f"the SOP Instance UID of {images[uid].path} again"
                faults.append(Fault(str(file), "", found, "a unique one for each image"))
        else:
            image = _image_of(header, uid, key, faults)
            if image is not None:
                images[uid] = image
    return images, objects


def _image_of(header: Header, uid: str, key: bytes, faults: list[Fault]) -> _Image | None:
    dataset = header.dataset
    reason = ""
    if header.kind not in IMAGES:
        reason = NOT_ULTRASOUND
    elif is_video(header.syntax):
        reason = VIDEO
    else:
        wrong = pixel_fault(header)
        if wrong is not None:
            faults.append(Fault(str(header.path), "", *wrong))
            return None
    width, height = whole(dataset, "Columns") or 0, whole(dataset, "Rows") or 0
    regions = tissue_regions(dataset, width, height)
    # A patient whose number nobody wrote down is taken for one with a single study.
    number = text(dataset, "PatientID")
    patient = number or text(dataset, "StudyInstanceUID") or uid
    return _Image(
        header.path,
        pseudonym(key, "image", uid),
        pseudonym(key, "patient", patient),
        width,
        height,
        frame_count(dataset) or 1,
        regions.tissue,
        regions.misfit,
        frame_spacing(dataset),
        reason,
        bool(number),
        text(dataset, "BurnedInAnnotation").upper() == "YES",
    )


def _give_to_images(
    annotations: Iterable[Annotation], images: dict[str, _Image], key: bytes, faults: list[Fault]
) -> list[Exclusion]:
    """Sorts annotations into their images; exclusions for those of images that are not there.

    A row of a CSV file that names no image here is a fault: it was written for this folder.
    """
    exclusions = []
    for annotation in annotations:
        image = images.get(annotation.uid)
        if image is None:
            if annotation.of_table:
                found = f"SOP Instance UID {annotation.uid!r}"
                faults.append(annotation.fault(found, "one of an image in the folder"))
            else:
                name = pseudonym(key, "image", annotation.uid)
                exclusions.append(Exclusion(name, NO_IMAGE_FILE))
        elif not image.reason:
            frame = annotation.frame
            if frame is None and image.frames > 1:
                faults.append(annotation.fault("no frame", f"one of 1 to {image.frames}"))
                continue
            frame = frame or 1
            if not 1 <= frame <= image.frames:
                faults.append(annotation.fault(f"frame {frame}", f"1 to {image.frames}"))
                continue
            image.annotations.setdefault(frame, []).append(annotation)
    return exclusions


def _sort_annotations(image: _Image, faults: list[Fault]) -> tuple[list[Nodule], list[Exclusion]]:
    """An image's annotations as nodules, and what is left out of it with the reason."""
    if image.reason:
        return [], [Exclusion(image.name, image.reason)]
    nodules: list[Nodule] = []
    exclusions: list[Exclusion] = []
    for number, of_frame in sorted(image.annotations.items()):
        name = image.name if image.frames == 1 else f"{image.name}-f{number}"
        regions = tuple(region.box for region in image.regions)
        frame = DicomFrame(image.path, number - 1, name, regions)
        usable = []
        for place, annotation in enumerate(of_frame, start=1):
            reason = annotation.reason or _reason_against(image, annotation, faults)
            if reason:
                detail = f"region {place} of {len(of_frame)}"
                exclusions.append(Exclusion(name, reason, detail))
            else:
                usable.append((place, annotation))
        if usable:
            try:
                frame()
            except DataFaults as error:
                faults += error.faults
                continue
        for place, annotation in usable:
            image_id = f"{name}-{place}" if len(of_frame) > 1 else name
            nodules.append(_nodule(image, frame, image_id, annotation))
    rest = image.frames - len(image.annotations)
    if rest:
        several = image.frames > 1
        reason = OTHER_FRAMES if image.annotations else NO_BOX
        exclusions.append(Exclusion(image.name, reason, f"frames: {rest}" if several else ""))
    return nodules, exclusions


def _reason_against(image: _Image, annotation: Annotation, faults: list[Fault]) -> str:
    """Why a box is no nodule's; "" where it is, or where it is a fault instead."""
    assert annotation.box is not None
    if annotation.size not in (None, (image.width, image.height)):
        found = f"a mask of {annotation.size[0]}x{annotation.size[1]}" if annotation.size else ""
        expected = f"{image.width}x{image.height}, as its image"
        faults.append(annotation.fault(found, expected))
        return ""
    fault = box_fault(annotation.box, image.width, image.height, annotation.file, annotation.place)
    if fault is not None:
        faults.append(fault)
        return ""
    outside = image.regions and region_of(annotation.box, image.regions) is None
    return OUTSIDE if outside else ""


def _nodule(image: _Image, frame: DicomFrame, image_id: str, annotation: Annotation) -> Nodule:
    assert annotation.box is not None
    assert annotation.label is not None
    nodule = Nodule(
        frame, image_id, image.patient, annotation.box, annotation.label, **annotation.known
    )
    if nodule.pixel_spacing_mm is not None:
        return nodule
    return replace(nodule, pixel_spacing_mm=_spacing(image, annotation).mm)


def _spacing(image: _Image, annotation: Annotation) -> Spacing:
    """That of the region which holds the box, else that of the frame."""
    assert annotation.box is not None
    region = region_of(annotation.box, image.regions)
    if region is not None and (region.spacing.mm is not None or region.spacing.uneven):
        return region.spacing
    return image.spacing


def _notes(
    images: Iterable[_Image], nodules: list[Nodule], objects: Counter[str], table: bool
) -> list[str]:
    """What whoever uses the set should know; in counts, without anyone's name."""
    used = [image for image in images if image.annotations]
    unlike = sum(
        _spacing(image, annotation).uneven
        for image in used
        for annotations in image.annotations.values()
        for annotation in annotations
        if annotation.box is not None and annotation.known.get("pixel_spacing_mm") is None
    )
    counts = (
        (
            sum(not image.regions for image in used),
            "files describe no tissue region: what their frames show outside the scan sector is "
            "blanked only where the overlay is masked",
        ),
        (
            sum(image.misfit for image in used),
            "files describe regions beyond their frame, as of one that was scaled or cut later: "
            "neither these nor their spacing is used",
        ),
        (unlike, "boxes lie in pixels that are not square: their pixel spacing is not known"),
        (
            sum(not image.names_patient for image in used),
            "files name no patient: their study stands for one, so views of one patient may stand "
            "on both sides of a split",
        ),
        (sum(image.says_burnt_in for image in used), "files say that text is burnt into them"),
        (
            objects["annotating"] if table else 0,
            "segmentations and reports were not read, since a table gives the boxes",
        ),
        (objects["other"], "DICOM objects hold no image"),
        (objects["copies"], "files are copies of others"),
    )
    notes = [NOTE, *(f"{count} {what}." for count, what in counts if count)]
    if len(used) > 1 and len({nodule.patient_id for nodule in nodules}) == 1:
        notes.append("All files name one patient: the set cannot be split.")
    return notes
