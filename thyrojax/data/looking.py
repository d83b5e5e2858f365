"""A set to be looked at: one that was built, or a source as it lies, read without building it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thyrojax.data.dataset import Dataset, frame_digest
from thyrojax.data.records import Box, Nodule, box_fault, load_image
from thyrojax.data.sources import KINDS, read_source
from thyrojax.errors import DataError, DataFaults, Fault


@dataclass(frozen=True, slots=True)
class Entry:
    """One nodule to look at: what built sets and sources both know of it.

    `height` and `width` are the frame's, in pixels; nodules of equal frames have one `frame_key`.
    """

    image_id: str
    patient_id: str
    box: Box
    label: int
    size_mm: float | None
    tirads: str | None
    composition: str | None
    echogenicity: str | None
    calcification: str | None
    margin: str | None
    shape: str | None
    pixel_spacing_mm: float | None
    reader_label: int | None
    height: int
    width: int
    frame_key: str


@dataclass(frozen=True, eq=False)
class LookedAt:
    """Nodules in order, `frame(i)` for the pixels of one, and what data.json says of a built set.

    `dataset` is the built set; None where a source was read as it lies.
    """

    name: str
    info: Mapping[str, Any]
    entries: tuple[Entry, ...]
    frame: Callable[[int], np.ndarray]
    dataset: Dataset | None = None


def open_set(folder: Path) -> LookedAt:
    """A built set. Errors as `dataset.open_dataset`."""
    from thyrojax.data.dataset import open_dataset

    dataset = open_dataset(folder)
    entries = tuple(
        _entry(record, record.height, record.width, record.frame_sha256)
        for record in dataset.records
    )
    name = folder.resolve().name
    return LookedAt(name, dataset.info, entries, dataset.frame, dataset)


def open_source(name: str, path: Path | None, limit: int | None = None, **options: Any) -> LookedAt:
    """A source, its frames masked where building it would mask them; decodes every frame once.

    Args:
      limit: the first so many nodules alone.

    Raises:
      DataError: no such source or folder, or nothing usable in it.
      DataFaults: faults in the files, unreadable frames and boxes beyond them, all together.
    """
    data = read_source(name, path, **options)
    kind = KINDS[name]
    nodules = data.nodules[:limit]
    entries: list[Entry] = []
    faults: list[Fault] = []
    known: dict[Path | str, tuple[int, int, str]] = {}
    for nodule in nodules:
        key = nodule.image if isinstance(nodule.image, Path) else nodule.image_id
        try:
            if key not in known:
                frame = load_image(nodule.image)
                known[key] = (*frame.shape, frame_digest(frame))
        except DataError as error:
            place, _, rest = str(error).partition(": found ")
            found, _, expected = rest.partition(", expected ")
            faults.append(Fault(place, "", found, expected))
            continue
        height, width, digest = known[key]
        fault = box_fault(nodule.box, width, height, str(path or name), nodule.image_id)
        if fault is not None:
            faults.append(fault)
        entries.append(_entry(nodule, height, width, digest))
    if faults:
        raise DataFaults(faults)

    def frame_of(index: int) -> np.ndarray:
        frame = load_image(nodules[index].image)
        if kind.mask_overlay:
            from thyrojax.data.sector import mask_overlay

            return mask_overlay(frame)
        return frame

    info = {
        "source": name,
        "subject": kind.subject,
        "label_names": list(kind.label_names),
        "n_images": data.n_images,
        "n_nodules": len(data.nodules),
        "n_patients": len({nodule.patient_id for nodule in data.nodules}),
        "exclusions": dict(sorted(Counter(item.reason for item in data.exclusions).items())),
        "mask_overlay": kind.mask_overlay,
        "notes": list(data.notes),
    }
    return LookedAt(name, info, tuple(entries), frame_of)


_OWN = ("height", "width", "frame_key")
_TAKEN = [field.name for field in dataclasses.fields(Entry) if field.name not in _OWN]


def _entry(nodule: Nodule | Any, height: int, width: int, frame_key: str) -> Entry:
    values = {name: getattr(nodule, name) for name in _TAKEN}
    return Entry(**values, height=height, width=width, frame_key=frame_key)
