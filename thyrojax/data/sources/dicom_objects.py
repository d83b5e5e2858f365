"""Boxes from other DICOM objects: segmentations (SEG) and structured reports (SR).

SEG (PS3.3, A.51): of a binary segmentation, each frame is a segment's mask in one frame of one
image; its bounding box is the nodule's. The class is the segment's label or its property type.

SR (PS3.16, TID 1500): in a measurement group, each region (SCOORD) that is selected from an image;
its bounding box is the nodule's. The class is the meaning of a code in the same group (its finding,
say). Lines that measurements were inferred from stand below the measurement, not in the group, and
are none. Coordinates have their origin at the corner of the first pixel (PS3.3, C.10.5.1.2).

Only a class that is "benign" or "malignant" as a whole is one: "probably benign" is not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from thyrojax.data.records import Box, box_outward
from thyrojax.data.sources.dicom_boxes import Annotation
from thyrojax.data.sources.dicom_header import (
    Header,
    first,
    items,
    numbers,
    syntax_name,
    text,
    whole,
)
from thyrojax.data.sources.dicom_pixels import (
    LARGEST,
    NATIVE,
    frame_count,
    length_fault,
    stored_pixels,
)
from thyrojax.data.sources.naming import OTHER_CLASS
from thyrojax.errors import DataFaults, Fault
from thyrojax.vocabulary import LABELS, normalise

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
REPORTS = (
    "1.2.840.10008.5.1.4.1.1.88.22",  # enhanced
    "1.2.840.10008.5.1.4.1.1.88.33",  # comprehensive
    "1.2.840.10008.5.1.4.1.1.88.34",  # comprehensive 3D
    "1.2.840.10008.5.1.4.1.1.88.35",  # extensible
)
# Reasons for an annotation.
NO_AREA = "annotation without area"
NOT_BINARY = "segmentation that is not binary"

DEEPEST = 50  # containers within containers; reports have some five


def annotations_of_object(header: Header, faults: list[Fault]) -> list[Annotation]:
    """The annotations in a segmentation or report; none in any other object."""
    if header.kind == SEGMENTATION:
        return _of_segmentation(header, faults)
    return _of_report(header, faults) if header.kind in REPORTS else []


def _of_segmentation(header: Header, faults: list[Fault]) -> list[Annotation]:
    dataset, file = header.dataset, str(header.path)
    frames = items(dataset, "PerFrameFunctionalGroupsSequence")
    if frame_count(dataset) != len(frames):
        found = f"{len(frames)} functional groups"
        expected = f"one for each of {text(dataset, 'NumberOfFrames') or 'its'} frames"
        faults.append(Fault(file, "", found, expected))
        return []
    segments = {whole(item, "SegmentNumber"): item for item in items(dataset, "SegmentSequence")}
    shared = first(dataset, "SharedFunctionalGroupsSequence")
    width, height = whole(dataset, "Columns") or 0, whole(dataset, "Rows") or 0
    binary = text(dataset, "SegmentationType") == "BINARY"
    if binary and (header.syntax not in NATIVE or not 0 < width * height <= LARGEST):
        found = f"a segmentation of {width}x{height} in {syntax_name(header.syntax)}"
        faults.append(Fault(file, "", found, "masks of 1 bit, uncompressed"))
        return []
    needed = math.ceil(len(frames) * width * height / 8)
    wrong = length_fault(header, needed, len(frames), width, height)
    if binary and wrong is not None:
        faults.append(Fault(file, "", *wrong))
        return []

    annotations = []
    for index, group in enumerate(frames):
        place = f"frame {index + 1}"
        segment = segments.get(_segment_number(group) or _segment_number(shared))
        source = _source_image(group) or _source_image(shared)
        if segment is None or source is None:
            found = "no segment" if segment is None else "no source image"
            faults.append(Fault(file, place, found, "a segment and the image that it is of"))
            continue
        box = _box_of_mask(header, index, faults) if binary else None
        label = _label_of_segment(segment)
        reason = OTHER_CLASS if label is None else ("" if box else NO_AREA)
        for uid, frame in _references(source):
            annotations.append(
                Annotation(
                    file,
                    place,
                    uid,
                    frame,
                    box,
                    label,
                    reason if binary else NOT_BINARY,
                    (width, height),
                )
            )
    return annotations


def _segment_number(group: Dataset) -> int | None:
    return whole(first(group, "SegmentIdentificationSequence"), "ReferencedSegmentNumber")


def _source_image(group: Dataset) -> Dataset | None:
    source = first(group, "DerivationImageSequence", "SourceImageSequence")
    return source if text(source, "ReferencedSOPInstanceUID") else None


def _references(item: Dataset) -> Iterator[tuple[str, int | None]]:
    """The image that an item refers to, with each of the frames that it names."""
    uid = text(item, "ReferencedSOPInstanceUID")
    frames: list[int | None] = [int(frame) for frame in numbers(item, "ReferencedFrameNumber")]
    for frame in frames or [None]:
        yield uid, frame


def _label_of_segment(segment: Dataset) -> int | None:
    kind = first(segment, "SegmentedPropertyTypeCodeSequence")
    return _label([text(segment, "SegmentLabel"), text(kind, "CodeMeaning")])


def _label(words: list[str]) -> int | None:
    """The one label that the words name; None where none of them does, or two disagree."""
    found = {LABELS.index(word) for word in map(normalise, words) if word in LABELS}
    return found.pop() if len(found) == 1 else None


def _box_of_mask(header: Header, index: int, faults: list[Fault]) -> Box | None:
    """The bounding box of a frame's mask; None where nothing is marked, or beside a fault."""
    try:
        mask, _ = stored_pixels(header.path, index)
    except DataFaults as error:
        faults += error.faults
        return None
    if mask.ndim != 2:
        found = f"a mask of {mask.ndim} dimensions"
        faults.append(Fault(str(header.path), f"frame {index + 1}", found, "2"))
        return None
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return None
    return Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def _of_report(header: Header, faults: list[Fault]) -> list[Annotation]:
    annotations = []
    open_items = [(header.dataset, 0)]
    count = 0
    while open_items:
        container, depth = open_items.pop()
        content = items(container, "ContentSequence")
        inner = [item for item in content if text(item, "ValueType") == "CONTAINER"]
        if depth < DEEPEST:
            open_items += [(item, depth + 1) for item in reversed(inner)]
        codes = [
            text(first(item, "ConceptCodeSequence"), "CodeMeaning")
            for item in content
            if text(item, "ValueType") == "CODE"
        ]
        for item in content:
            if text(item, "ValueType") == "SCOORD":
                count += 1
                annotations += _of_region(header, f"region {count}", item, _label(codes), faults)
    return annotations


def _of_region(
    header: Header, place: str, item: Dataset, label: int | None, faults: list[Fault]
) -> list[Annotation]:
    file = str(header.path)
    images = [
        reference
        for child in items(item, "ContentSequence")
        if text(child, "ValueType") == "IMAGE"
        for reference in items(child, "ReferencedSOPSequence")
        if text(reference, "ReferencedSOPInstanceUID")
    ]
    if not images:
        faults.append(Fault(file, place, "no image", "the image that the region is selected from"))
        return []
    box = _box_of_graphic(text(item, "GraphicType"), numbers(item, "GraphicData"))
    reason = OTHER_CLASS if label is None else ("" if box else NO_AREA)
    return [
        Annotation(file, place, uid, frame, box, label, reason)
        for image in images
        for uid, frame in _references(image)
    ]


def _box_of_graphic(kind: str, data: list[float]) -> Box | None:
    """The bounding box of a graphic (PS3.3, C.10.5.1.1); None where it has no area."""
    x, y = data[0::2], data[1::2]
    if not x or len(x) != len(y) or kind not in ("POLYLINE", "MULTIPOINT", "CIRCLE", "ELLIPSE"):
        return None
    edges = (min(x), min(y), max(x), max(y))
    if kind == "CIRCLE" and len(x) == 2:  # the centre and a point on the edge
        radius = math.hypot(x[1] - x[0], y[1] - y[0])
        edges = (x[0] - radius, y[0] - radius, x[0] + radius, y[0] + radius)
    if kind == "ELLIPSE" and len(x) == 4:  # both ends of the one axis, both of the other
        half_width = math.hypot(x[1] - x[0], x[3] - x[2]) / 2
        half_height = math.hypot(y[1] - y[0], y[3] - y[2]) / 2
        centre_x, centre_y = (x[0] + x[1]) / 2, (y[0] + y[1]) / 2
        edges = (
            centre_x - half_width,
            centre_y - half_height,
            centre_x + half_width,
            centre_y + half_height,
        )
    # Before rounding, which would give a line an area.
    if edges[2] <= edges[0] or edges[3] <= edges[1]:
        return None
    return box_outward(*edges)
