"""Nodules of a folder of VOC annotations, for the sources `voc` and `tn5000`.

VOC counts pixels from 1 and both edges belong to the box (the development kit's annotations say
"Top left pixel co-ordinates: (1, 1)"), so xmin, ymin, xmax, ymax are our half-open
xmin - 1, ymin - 1, xmax, ymax. Many tools write edges counted from 0 under the same names. Where
any box of a folder begins at 0, the folder was written by one of these and all its boxes are
taken as they stand, with a note. A folder of the kind without such a box cannot be told from VOC's
own: its boxes come out one pixel wider to the left and to the top.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from thyrojax.data.records import Box, Exclusion, Nodule, box_fault, box_outward
from thyrojax.data.sources.naming import (
    NO_ANNOTATION,
    OTHER_CLASS,
    REPEATED,
    class_fault,
    label_of,
    left_out,
    patient_fault,
    patient_of,
)
from thyrojax.data.sources.reading import NO_IMAGE_FILE, Frame, read_frame
from thyrojax.data.sources.voc_xml import Sheet, VocObject, read_sheet
from thyrojax.errors import Fault

NO_OBJECT = "no object in its XML"
BAD_BOX = "box off the image or of no area"
OTHER_SIZE = "size in its XML unlike the image's"
CONFLICTING = "identical boxes of unlike label"


@dataclass(frozen=True)
class Choices:
    """How a folder is read. `mend`: boxes that do not fit their image are left out and counted (a
    public set, that its reader cannot repair); otherwise they are faults (one's own)."""

    malignant: Sequence[str] | None = None
    benign: Sequence[str] | None = None
    patient_pattern: str | None = None
    mend: bool = False


@dataclass
class Found:
    """What a folder holds."""

    nodules: list[Nodule] = field(default_factory=list)
    exclusions: list[Exclusion] = field(default_factory=list)
    digests: dict[str, str] = field(default_factory=dict)  # image name -> sha256 of its file
    notes: list[str] = field(default_factory=list)


def collect(
    images: dict[str, Path], xml_files: dict[str, Path], choices: Choices, faults: list[Fault]
) -> Found:
    """Joins images and annotations by name and sorts their objects; every image is decoded once.

    What is wrong is added to `faults`; nothing of `Found` is then to be used.
    """
    found = Found()
    sheets = {name: read_sheet(file, faults) for name, file in xml_files.items()}
    from_zero = _begins_at_zero([sheet for sheet in sheets.values() if sheet])
    for name, file in images.items():
        frame = read_frame(file, str(file), "", faults)
        if frame is not None:
            found.digests[name] = frame.digest
        sheet = sheets.get(name)
        if name not in sheets:
            found.exclusions.append(Exclusion(name, NO_ANNOTATION))
        elif sheet is not None and frame is not None:
            xml = str(xml_files[name])
            if _names_another(sheet, name, images):
                expected = f"{name!r}, as the file itself is called"
                faults.append(Fault(xml, "filename", repr(sheet.filename), expected))
                continue
            _sort_objects(file, xml, frame, sheet, from_zero, choices, found, faults)
    for name, file in xml_files.items():
        if name not in images:
            found.exclusions.append(Exclusion(name, NO_IMAGE_FILE, file.name))
    _sort_conflicts(found, choices.mend, faults)
    _take_notes([sheet for sheet in sheets.values() if sheet], from_zero, found)
    return found


def _begins_at_zero(sheets: list[Sheet]) -> int:
    """How many boxes begin at 0; a negative edge is wrong however it is counted."""
    objects = (thing for sheet in sheets for thing in sheet.objects)
    return sum(any(0 <= edge < 1 for edge in thing.edges[:2]) for thing in objects)


def _names_another(sheet: Sheet, name: str, images: dict[str, Path]) -> bool:
    """Whether the XML says that it is of another image of the folder."""
    stem = Path(sheet.filename.replace("\\", "/")).stem
    return stem != name and stem in images


def _sort_objects(
    image: Path,
    xml: str,
    frame: Frame,
    sheet: Sheet,
    from_zero: int,
    choices: Choices,
    found: Found,
    faults: list[Fault],
) -> None:
    """An image's objects as nodules, exclusions or faults."""
    name = image.stem
    if not sheet.objects:
        found.exclusions.append(Exclusion(name, NO_OBJECT))
        return
    if sheet.size is not None and sheet.size != (frame.width, frame.height):
        size = "{}x{}".format(*sheet.size)
        if choices.mend:
            found.exclusions.append(Exclusion(name, OTHER_SIZE, f"{size}: boxes of another scale"))
        else:
            expected = f"{frame.width}x{frame.height}, as its image"
            faults.append(Fault(xml, "size", size, expected))
        return
    patient = patient_of(choices.patient_pattern, name)
    if not patient:
        faults.append(patient_fault(str(image), "", choices.patient_pattern, name))
        return
    count = len(sheet.objects)
    seen: dict[Box, int] = {}
    for number, thing in enumerate(sheet.objects, start=1):
        label = label_of(thing.name, choices.malignant, choices.benign)
        if label is None:
            if choices.mend:
                faults.append(Fault(xml, thing.place, f"class {thing.name[:40]!r}", "0 or 1"))
            elif left_out(choices.malignant, choices.benign):
                found.exclusions.append(
                    Exclusion(name, OTHER_CLASS, f"{thing.place}: {thing.name}")
                )
            else:
                faults.append(class_fault(xml, thing.place, thing.name[:40]))
            continue
        box = _box_of(thing, from_zero)
        fault = box_fault(box, frame.width, frame.height, xml, thing.place)
        if fault is None and (thing.edges[2] < thing.edges[0] or thing.edges[3] < thing.edges[1]):
            text = " ".join(f"{edge:g}" for edge in thing.edges)
            fault = Fault(xml, thing.place, f"box {text} of no area", "xmin <= xmax, ymin <= ymax")
        detail = f"{thing.place} of {count}, box {' '.join(map(str, box))}"
        if fault is not None and choices.mend:
            found.exclusions.append(Exclusion(name, BAD_BOX, detail))
        elif fault is not None:
            faults.append(fault)
        elif seen.get(box) == label:
            found.exclusions.append(Exclusion(name, REPEATED, detail))
        else:
            seen[box] = label
            image_id = f"{name}-{number}" if count > 1 else name
            found.nodules.append(Nodule(image, image_id, patient, box, label))


def _box_of(thing: VocObject, from_zero: int) -> Box:
    x_min, y_min, x_max, y_max = thing.edges
    first = 0 if from_zero else 1
    return box_outward(x_min - first, y_min - first, x_max, y_max)


def _sort_conflicts(found: Found, mend: bool, faults: list[Fault]) -> None:
    """Leaves out boxes that identical images (or one image twice) give both labels, or names them
    as faults."""
    labels: dict[tuple[str, Box], set[int]] = {}
    for nodule in found.nodules:
        labels.setdefault((found.digests[_name_of(nodule)], nodule.box), set()).add(nodule.label)
    kept = []
    for nodule in found.nodules:
        name = _name_of(nodule)
        if len(labels[found.digests[name], nodule.box]) == 1:
            kept.append(nodule)
            continue
        box = f"box {' '.join(map(str, nodule.box))}"
        if mend:
            found.exclusions.append(Exclusion(name, CONFLICTING, f"{nodule.image_id}, {box}"))
        else:
            text = f"{box} of label {nodule.label}, and of the other label in the same pixels"
            faults.append(Fault(str(nodule.image), "", text, "one label for a box"))
    found.nodules = kept


def _take_notes(sheets: list[Sheet], from_zero: int, found: Found) -> None:
    objects = [thing for sheet in sheets for thing in sheet.objects]
    if from_zero:
        found.notes.append(
            f"{from_zero} of {len(objects)} boxes begin at 0, where VOC counts from 1: all boxes "
            "were taken to count from 0, x_max and y_max not included."
        )
    difficult = sum(thing.difficult for thing in objects)
    truncated = sum(thing.truncated for thing in objects)
    if difficult or truncated:
        found.notes.append(
            f"{difficult} of {len(objects)} objects are marked difficult and {truncated} "
            "truncated: they were treated like the others."
        )


def _name_of(nodule: Nodule) -> str:
    assert isinstance(nodule.image, Path)
    return nodule.image.stem
