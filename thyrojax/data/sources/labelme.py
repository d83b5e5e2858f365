"""The `labelme` source: a folder of JSON files as LabelMe (Wada, versions 3 to 6) writes them.

Layout: for each image a JSON file with `imagePath`, `imageData` (the image in base64, or null),
`imageWidth`, `imageHeight` and `shapes`; of a shape its `label`, `shape_type` (none = polygon) and
`points` are used. The image is the file that `imagePath` names below the folder, or else
`imageData`. Images of the folder that no JSON file names are exclusions; folders within it are
looked into only where an `imagePath` leads there.

A box is what holds a shape's points, rounded outward; a circle is given by its centre and a point
on it, and may be cut by the image's edge; the corners of a mask are its first and last pixel.
Points and lines have no box and are exclusions. The class is the shape's label, see
`naming.label_of`; `group_id` and `flags` are not used.
"""

from __future__ import annotations

import base64
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from thyrojax.data.records import Box, Exclusion, Nodule, SourceData, decode_image
from thyrojax.data.sources import naming
from thyrojax.data.sources.json_items import Item, describe, finite, inner_path, read_json
from thyrojax.data.sources.listing import IMAGE_SUFFIXES, check_unique, files_by_stem
from thyrojax.data.sources.reading import NO_IMAGE_FILE, read_frame, require_folder
from thyrojax.errors import DataError, DataFaults, Fault
from thyrojax.shapes import UInt8

LAYOUT = "a folder of LabelMe JSON files beside their images"
POINT_OR_LINE = "point or line"

# How many points a shape has at least, and at most (None = any number).
OUTLINES: dict[str, tuple[int, int | None]] = {
    "polygon": (3, None),
    "rectangle": (2, 4),  # opposite corners in any order; some tools write all four
    "oriented_rectangle": (3, 4),
    "rotation": (3, 4),  # as other tools of this layout call it
    "circle": (2, 2),
    "mask": (2, 2),
}
WITHOUT_AREA = ("point", "points", "line", "linestrip")
LARGEST = 2**27  # bytes of one file, its image included


@dataclass(frozen=True)
class EmbeddedImage:
    """The image inside a LabelMe file; called, it gives the frame."""

    file: Path

    def __call__(self) -> UInt8[np.ndarray, "height width"]:
        faults: list[Fault] = []
        root = read_json(self.file, LARGEST, faults)
        if root is None:
            raise DataFaults(faults)
        return _decode_embedded(root)


@dataclass
class _Found:
    """What the folder holds so far."""

    malignant: Sequence[str] | None
    benign: Sequence[str] | None
    nodules: list[Nodule] = field(default_factory=list)
    exclusions: list[Exclusion] = field(default_factory=list)
    file_of: dict[str, str] = field(default_factory=dict)  # image name -> its JSON file
    told: set[str] = field(default_factory=set)  # classes that are faults already


def read(
    path: Path,
    *,
    malignant: Sequence[str] | None = None,
    benign: Sequence[str] | None = None,
    patient_pattern: str | None = None,
) -> SourceData:
    """Reads the folder; every image with a shape is decoded once.

    `image_id` is the image's name without extension (the JSON file's, where the image is inside
    it), with "-k" for shape k where it has several. The patient is what `patient_pattern` finds in
    that name, else the name.

    Raises:
      DataError: options that cannot be used, no such folder, or no nodule is left.
      DataFaults: all faults of all files together, with their place in the JSON.
    """
    naming.check_names(malignant, benign)
    naming.check_pattern(patient_pattern)
    require_folder(path, LAYOUT)
    faults: list[Fault] = []
    images = files_by_stem(path, IMAGE_SUFFIXES, faults)
    sheets = files_by_stem(path, (".json",), faults)
    if not sheets and not faults:
        raise DataError(f"{path}: found no JSON file, expected {LAYOUT}")

    found = _Found(malignant, benign)
    for file in sheets.values():
        root = read_json(file, LARGEST, faults)
        if root is not None:
            _read_sheet(root, file, patient_pattern, found)
    for name, image in images.items():
        if name not in found.file_of:
            found.exclusions.append(Exclusion(name, naming.NO_ANNOTATION, image.name))
    n_images = len(found.file_of.keys() | images.keys())
    check_unique(found.nodules, faults)
    if faults:
        raise DataFaults(faults)
    if not found.nodules:
        reasons = ", ".join(sorted({entry.reason for entry in found.exclusions}))
        raise DataError(
            f"{path}: found no nodule in {len(sheets)} JSON files ({reasons}), "
            "expected shapes of benign or malignant nodules"
        )
    notes = () if patient_pattern else (naming.no_patients("The folder"),)
    return SourceData("labelme", tuple(found.nodules), tuple(found.exclusions), n_images, notes)


def _read_sheet(root: Item, file: Path, pattern: str | None, found: _Found) -> None:
    """Adds one JSON file's shapes to what was found."""
    shapes = root.objects("shapes")
    image_path = root.text("imagePath")
    if image_path is None:
        return
    inner = inner_path(image_path.replace("\\", "/"))
    image: Path | EmbeddedImage
    if inner is not None and os.path.exists(file.parent / inner):
        name, image = str(inner.with_suffix("")), file.parent / inner
    elif root.has("imageData"):
        name, image = file.stem, EmbeddedImage(file)
    elif inner is None:
        root.fault("imagePath", describe(image_path), "a path that stays in the folder")
        return
    else:
        found.exclusions.append(Exclusion(file.stem, NO_IMAGE_FILE, f"shapes: {len(shapes)}"))
        return

    if name in found.file_of:
        again = f"the image of {found.file_of[name]} again"
        root.fault("imagePath", again, "one JSON file for each image")
        return
    found.file_of[name] = file.name
    patient = naming.patient_of(pattern, name)
    if not patient:
        root.faults.append(naming.patient_fault(root.file, "imagePath", pattern, name))
    if not shapes:
        found.exclusions.append(Exclusion(name, naming.NO_ANNOTATION, file.name))
        return
    size = _size(root, image)
    if size is None:
        return
    root.check_size("imageWidth", "imageHeight", *size)
    seen: dict[Box, tuple[str, int]] = {}
    for number, shape in enumerate(shapes, start=1):
        image_id = f"{name}-{number}" if len(shapes) > 1 else name
        sorted_out = _read_shape(shape, size, seen, found)
        if isinstance(sorted_out, str):
            detail = f"shape {number} of {len(shapes)}, label {shape.content['label']}"
            found.exclusions.append(Exclusion(name, sorted_out, detail))
        elif sorted_out is not None:
            found.nodules.append(Nodule(image, image_id, patient, *sorted_out))


def _read_shape(
    shape: Item, size: tuple[int, int], seen: dict[Box, tuple[str, int]], found: _Found
) -> tuple[Box, int] | str | None:
    """A shape's box and label; or the reason why it is left out; or None beside a fault."""
    name = shape.text("label")
    kind = shape.content.get("shape_type")
    kind = "polygon" if kind is None else kind
    if kind in WITHOUT_AREA:
        return None if name is None else POINT_OR_LINE
    if not isinstance(kind, str) or kind not in OUTLINES:
        expected = f"one of {', '.join((*OUTLINES, *WITHOUT_AREA))}"
        shape.fault("shape_type", describe(kind), expected)
        return None
    box = _box(shape, kind, size)
    if box is None or name is None:
        return None
    label = naming.label_of(name, found.malignant, found.benign)
    if label is None:
        if naming.left_out(found.malignant, found.benign):
            return naming.OTHER_CLASS
        if name not in found.told:
            found.told.add(name)
            shape.faults.append(naming.class_fault(shape.file, shape.at("label"), name))
        return None
    place, first = seen.setdefault(box, (shape.place, label))
    if first != label:
        shape.fault("label", f"another class than {place} has", "one for the same box")
    return (box, label) if place == shape.place else naming.REPEATED


def _box(shape: Item, kind: str, size: tuple[int, int]) -> Box | None:
    points = _points(shape, *OUTLINES[kind])
    if points is None:
        return None
    width, height = size
    xs, ys = [x for x, _ in points], [y for _, y in points]
    edges = min(xs), min(ys), max(xs), max(ys)
    if kind == "circle":
        (x, y), (x_on, y_on) = points
        radius = math.hypot(x_on - x, y_on - y)
        edges = x - radius, y - radius, x + radius, y + radius
        if radius > 0 and 0 <= x <= width and 0 <= y <= height:
            left, top, right, bottom = edges
            edges = (
                max(left, 0.0),
                max(top, 0.0),
                min(right, width + 0.0),
                min(bottom, height + 0.0),
            )
    elif kind == "mask":
        left, top, right, bottom = edges
        edges = left, top, right + 1, bottom + 1
    return shape.box("points", edges, width, height)


def _points(shape: Item, least: int, most: int | None) -> list[tuple[float, float]] | None:
    values = shape.content.get("points")
    points = []
    for value in values if isinstance(values, list) else ():
        pair = value if isinstance(value, list) and len(value) == 2 else (None, None)
        x, y = finite(pair[0]), finite(pair[1])
        if x is None or y is None:
            break
        points.append((x, y))
    if not isinstance(values, list) or len(points) < len(values):
        found = describe(values) if "points" in shape.content else "no 'points'"
        shape.fault("points", found, "a list of [x, y] of finite numbers")
        return None
    if len(points) < least or (most is not None and len(points) > most):
        numbers = f"{least}" if most == least else f"{least} to {most}"
        found = f"{len(points)} points of a {shape.content.get('shape_type') or 'polygon'}"
        shape.fault("points", found, numbers if most else f"at least {least}")
        return None
    return points


def _size(root: Item, image: Path | EmbeddedImage) -> tuple[int, int] | None:
    """Width and height of the decoded image; None beside a fault."""
    if isinstance(image, Path):
        frame = read_frame(image, str(image), "", root.faults)
        return None if frame is None else (frame.width, frame.height)
    try:
        height, width = _decode_embedded(root).shape
    except DataError as error:
        prefix = f"{root.file}, imageData: found "
        found, _, expected = str(error).removeprefix(prefix).partition(", expected ")
        root.fault("imageData", found, expected)
        return None
    return width, height


def _decode_embedded(root: Item) -> UInt8[np.ndarray, "height width"]:
    name = f"{root.file}, imageData"
    data = root.content.get("imageData")
    expected = "an image in base64"
    if not isinstance(data, str):
        raise DataError(f"{name}: found {describe(data)}, expected {expected}")
    try:
        encoded = base64.b64decode(data, validate=True)
    except ValueError as error:  # binascii.Error is one, as is a letter that is not ASCII
        raise DataError(f"{name}: found {describe(data)} ({error}), expected {expected}") from None
    return decode_image(encoded, name)
