"""The `coco` source: boxes and classes in the JSON of COCO's object detection (Lin et al. 2014).

Layout: one file with `images` (id, file_name, width, height), `annotations` (id, image_id,
category_id, bbox) and `categories` (id, name). Images lie below the file's folder, below `images`
in it, or, where the folder is called `annotations`, below `images` beside that. The images are
those that the file lists: others in the folder belong to other files and are not looked at.

A bbox is [x, y, width, height] in pixels from the top left corner and may have fractions; it is
rounded outward; see `json_items.Item.box` for one a little outside the image. `segmentation`,
`area` and `iscrowd` are not used. The class is the category's name, see `naming.label_of`.

Two common additions are read: `patient_id` of an image (of all or of none), and `attributes` of an
annotation, where a name is a feature of `vocabulary.VOCABULARY` and not empty.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thyrojax.data.records import Box, Exclusion, Nodule, SourceData
from thyrojax.data.sources import naming
from thyrojax.data.sources.json_items import Identity, Item, describe, inner_path, read_json
from thyrojax.data.sources.listing import check_unique
from thyrojax.data.sources.reading import NO_IMAGE_FILE, Frame, read_frame
from thyrojax.errors import DataError, DataFaults, Fault
from thyrojax.vocabulary import VOCABULARY, normalise

LARGEST = 2**29  # bytes; COCO's own file of 118,000 images is a little smaller


@dataclass(frozen=True)
class _Image:
    item: Item
    name: str  # file_name without extension, with its folders
    path: Path | None  # None where no such file is there
    patient_id: str


def read(
    path: Path,
    *,
    malignant: Sequence[str] | None = None,
    benign: Sequence[str] | None = None,
    patient_pattern: str | None = None,
) -> SourceData:
    """Reads a COCO file; every image with an annotation is decoded once.

    `image_id` is the image's file name without extension, with "-k" for its annotation k where it
    has several. `patient_id` is what `patient_pattern` finds in that name, else the image's own
    `patient_id`, else the name.

    Raises:
      DataError: options that cannot be used, or no nodule is left.
      DataFaults: all faults of the file and its images together, with their place in the JSON.
    """
    naming.check_names(malignant, benign)
    naming.check_pattern(patient_pattern)
    faults: list[Fault] = []
    root = read_json(path, LARGEST, faults)
    if root is None:
        raise DataFaults(faults)
    entries = {key: root.objects(key) for key in ("images", "categories", "annotations")}
    named_patients = any(item.has("patient_id") for item in entries["images"])
    images = _read_images(entries["images"], path.parent, patient_pattern, named_patients)
    categories = _read_categories(entries["categories"])
    _check_references(entries)
    annotations = _by_image(entries["annotations"], images, categories)

    nodules: list[Nodule] = []
    exclusions: list[Exclusion] = []
    classes = _Classes(malignant, benign)
    for key, image in images.items():
        drawn = annotations[key]
        if image.path is None:
            exclusions.append(Exclusion(image.name, NO_IMAGE_FILE, f"annotations: {len(drawn)}"))
        elif not drawn:
            exclusions.append(Exclusion(image.name, naming.NO_ANNOTATION))
        else:
            frame = read_frame(image.path, str(image.path), "", faults)
            if frame is not None:
                image.item.check_size("width", "height", frame.width, frame.height)
                used, left_out = _sort_annotations(image, frame, drawn, categories, classes)
                nodules += used
                exclusions += left_out
    check_unique(nodules, faults)
    if faults:
        raise DataFaults(faults)
    if not nodules:
        raise DataError(
            f"{path}: found no nodule in {len(images)} images ({_reasons(exclusions)}), "
            "expected images with boxes of benign or malignant nodules"
        )
    notes = () if patient_pattern or named_patients else (naming.no_patients("The COCO file"),)
    n_images = sum(image.path is not None for image in images.values())
    return SourceData("coco", tuple(nodules), tuple(exclusions), n_images, notes)


class _Classes:
    """Labels of categories, each category outside both lists told once."""

    def __init__(self, malignant: Sequence[str] | None, benign: Sequence[str] | None) -> None:
        self.malignant, self.benign = malignant, benign
        self.told: set[str] = set()

    def label(self, category: Item) -> int | None:
        name = str(category.content["name"])
        label = naming.label_of(name, self.malignant, self.benign)
        if label is None and not self.leaves_out() and category.place not in self.told:
            self.told.add(category.place)
            category.faults.append(naming.class_fault(category.file, category.at("name"), name))
        return label

    def leaves_out(self) -> bool:
        return naming.left_out(self.malignant, self.benign)


def _read_images(
    items: list[Item], folder: Path, pattern: str | None, named_patients: bool
) -> dict[Identity, _Image]:
    roots = [folder, folder / "images"]
    if folder.name == "annotations":
        roots.append(folder.parent / "images")
    images: dict[Identity, _Image] = {}
    place_of: dict[str, str] = {}
    for item in items:
        key, file_name = item.identity("id"), item.text("file_name")
        if key is not None and key in images:
            item.fault("id", f"the id of {images[key].item.place} again", "a unique one")
            continue
        if key is None or file_name is None:
            continue
        inner = inner_path(file_name)
        if inner is None:
            item.fault("file_name", describe(file_name), "a path that stays in the folder")
            continue
        name = str(inner.with_suffix(""))
        if name in place_of:
            found = f"the name of {place_of[name]} again"
            item.fault("file_name", found, "one image of each name without extension")
        place_of.setdefault(name, item.place)
        patient = naming.patient_of(pattern, name)
        if pattern is None and named_patients:
            identity = item.identity("patient_id")
            patient = "" if identity is None else str(identity)  # 0 is a patient
        elif not patient:
            item.faults.append(naming.patient_fault(item.file, item.at("file_name"), pattern, name))
        found_at = next((place / inner for place in roots if os.path.exists(place / inner)), None)
        images[key] = _Image(item, name, found_at, patient)
    return images


def _read_categories(items: list[Item]) -> dict[Identity, Item]:
    categories: dict[Identity, Item] = {}
    for item in items:
        key, name = item.identity("id"), item.text("name")
        if key is not None and key in categories:
            item.fault("id", f"the id of {categories[key].place} again", "a unique one")
        elif key is not None and name is not None:
            categories[key] = item
    return categories


def _check_references(entries: dict[str, list[Item]]) -> None:
    """Faults of annotations whose id is not their own, or that name an id which nothing has."""
    ids = {
        key: {item.content["id"] for item in items if isinstance(item.content.get("id"), Identity)}
        for key, items in entries.items()
    }
    place_of: dict[Identity, str] = {}
    for item in entries["annotations"]:
        key = item.identity("id")
        if key is not None and key in place_of:
            item.fault("id", f"the id of {place_of[key]} again", "a unique one")
        elif key is not None:
            place_of[key] = item.place
        for name, of in (("image_id", "images"), ("category_id", "categories")):
            other = item.identity(name)
            if other is not None and other not in ids[of]:
                item.fault(name, describe(other), f"the id of one of the {of}")


def _by_image(
    items: list[Item], images: dict[Identity, _Image], categories: dict[Identity, Item]
) -> dict[Identity, list[Item]]:
    """The annotations of each image, as the file orders them, less those of faulty references."""
    drawn: dict[Identity, list[Item]] = {key: [] for key in images}
    for item in items:
        image, category = item.content.get("image_id"), item.content.get("category_id")
        usable = isinstance(image, Identity) and isinstance(category, Identity)
        if usable and image in images and category in categories:
            drawn[image].append(item)
    return drawn


def _sort_annotations(
    image: _Image,
    frame: Frame,
    drawn: list[Item],
    categories: dict[Identity, Item],
    classes: _Classes,
) -> tuple[list[Nodule], list[Exclusion]]:
    """An image's annotations as nodules, and those that are none with the reason."""
    assert image.path is not None
    nodules: list[Nodule] = []
    exclusions: list[Exclusion] = []
    place_of: dict[Box, tuple[str, int]] = {}
    for number, item in enumerate(drawn, start=1):
        category = categories[item.content["category_id"]]
        label = classes.label(category)
        box = _box(item, frame)
        features = _features(item)
        if box is None:
            continue
        detail = f"annotation {number} of {len(drawn)}, class {category.content['name']}"
        if label is None:
            if classes.leaves_out():
                exclusions.append(Exclusion(image.name, naming.OTHER_CLASS, detail))
            continue
        place, first = place_of.setdefault(box, (item.place, label))
        if first != label:
            item.fault("category_id", f"another label than {place} has", "one for the same box")
        if place != item.place:
            exclusions.append(Exclusion(image.name, naming.REPEATED, detail))
            continue
        image_id = f"{image.name}-{number}" if len(drawn) > 1 else image.name
        nodules.append(Nodule(image.path, image_id, image.patient_id, box, label, **features))
    return nodules, exclusions


def _box(item: Item, frame: Frame) -> Box | None:
    """The bbox; None beside a fault."""
    numbers = item.numbers("bbox", 4)
    if numbers is None:
        return None
    x, y, width, height = numbers
    return item.box("bbox", (x, y, x + width, y + height), frame.width, frame.height)


def _features(item: Item) -> dict[str, Any]:
    """The annotation's attributes that are features in our words; others are not looked at."""
    attributes = item.content.get("attributes")
    if not isinstance(attributes, dict):
        return {}
    features: dict[str, Any] = {}
    for key, value in attributes.items():
        name = normalise(key)
        if name not in VOCABULARY or value is None or value == "":
            continue
        word = normalise(value) if isinstance(value, str) else ""
        if word in VOCABULARY[name]:
            features[name] = word
        else:
            expected = f"one of {', '.join(VOCABULARY[name])}"
            item.fault(f"attributes.{name}", describe(value), expected)
    return features


def _reasons(exclusions: list[Exclusion]) -> str:
    return ", ".join(sorted({entry.reason for entry in exclusions})) or "it lists none"
