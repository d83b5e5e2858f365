"""A built set, opened: what is known of every nodule at once, its frame when asked for."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import struct
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thyrojax.data.records import Box
from thyrojax.errors import DataError
from thyrojax.shapes import UInt8

DATA_FILE = "data.json"  # written last into the folder of a built set
SPLIT = "nodules"  # the set's one TFDS split; the parts of a study come from split.csv

# How "not known" is written into the set, by the kind of the feature.
UNKNOWN_TEXT = ""
UNKNOWN_NUMBER = math.nan
UNKNOWN_LABEL = -1

_TEXTS = ("tirads", "composition", "echogenicity", "calcification", "margin", "shape")
_NUMBERS = ("size_mm", "pixel_spacing_mm")

# A sequence of TFDS examples, not annotated as one: a run-time check would read from the file.
EncodedExamples = Any


@dataclass(frozen=True, slots=True)
class Record:
    """One nodule of a built set: `records.Nodule` without its pixels.

    `image_sha256` digests the source's decoded frame (equal for nodules of one image, and for
    images that are byte-identical), `frame_sha256` the frame as stored, which differs from it where
    the overlay was masked. `height` and `width` are the frame's, in pixels.
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
    image_sha256: str
    frame_sha256: str
    height: int
    width: int


def frame_digest(frame: UInt8[np.ndarray, "height width"]) -> str:
    """SHA-256 of a frame's height, width and pixels, row by row."""
    digest = hashlib.sha256(struct.pack(">II", *frame.shape))
    digest.update(np.ascontiguousarray(frame))
    return digest.hexdigest()


def fingerprint(records: Sequence[Record]) -> str:
    """SHA-256 over all records in order, pixels included (through `frame_sha256`)."""
    digest = hashlib.sha256()
    names = [field.name for field in dataclasses.fields(Record)]
    for record in records:
        digest.update(json.dumps([getattr(record, name) for name in names]).encode())
        digest.update(b"\n")
    return digest.hexdigest()


def to_features(record: Record, png: bytes) -> dict[str, Any]:
    """A record and its encoded frame as the values of a TFDS example."""
    features: dict[str, Any] = {"image": png, "box": np.array(record.box, np.int32)}
    for name in ("image_id", "patient_id", "label", "image_sha256", "frame_sha256"):
        features[name] = getattr(record, name)
    for name in _TEXTS:
        features[name] = getattr(record, name) or UNKNOWN_TEXT
    for name in _NUMBERS:
        value = getattr(record, name)
        features[name] = np.float32(UNKNOWN_NUMBER if value is None else value)
    features["reader_label"] = UNKNOWN_LABEL if record.reader_label is None else record.reader_label
    return features


def from_features(features: Mapping[str, Any]) -> Record:
    """The record of a TFDS example whose image is still encoded; the inverse of `to_features`.

    Raises:
      ValueError: the image does not start as a PNG does.
    """
    png: bytes = features["image"]
    if png[:8] != b"\x89PNG\r\n\x1a\n" or png[12:16] != b"IHDR":
        raise ValueError("an image that is no PNG")
    width, height = struct.unpack(">II", png[16:24])
    texts = {name: _text(features[name]) or None for name in _TEXTS}
    numbers = {name: float(features[name]) for name in _NUMBERS}
    reader_label = int(features["reader_label"])
    return Record(
        image_id=_text(features["image_id"]),
        patient_id=_text(features["patient_id"]),
        box=Box(*(int(edge) for edge in features["box"])),
        label=int(features["label"]),
        **texts,
        size_mm=None if math.isnan(numbers["size_mm"]) else numbers["size_mm"],
        pixel_spacing_mm=(
            None if math.isnan(numbers["pixel_spacing_mm"]) else numbers["pixel_spacing_mm"]
        ),
        reader_label=None if reader_label == UNKNOWN_LABEL else reader_label,
        image_sha256=_text(features["image_sha256"]),
        frame_sha256=_text(features["frame_sha256"]),
        height=height,
        width=width,
    )


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


class Dataset:
    """A built set: `records` for every nodule in order, and `frame(i)` for its pixels.

    `info` is the folder's data.json: source, n_images, n_nodules, n_patients, exclusions,
    label_names, subject, mask_overlay, fingerprint. Safe to read from several threads.
    """

    def __init__(
        self,
        folder: Path,
        info: Mapping[str, Any],
        records: Sequence[Record],
        encoded: EncodedExamples,
        cache_mb: int,
    ) -> None:
        self.folder = folder
        self.info = dict(info)
        self.records = tuple(records)
        self._encoded = encoded
        sizes = {record.frame_sha256: record.height * record.width for record in self.records}
        self.frame_bytes = sum(sizes.values())  # of all different frames, decoded
        self.cached = 0 < self.frame_bytes <= cache_mb * 2**20
        self._frames: dict[str, np.ndarray] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.records)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over all records in order, pixels included."""
        return str(self.info["fingerprint"])

    def frame(self, index: int) -> UInt8[np.ndarray, "height width"]:
        """The frame of a record as grey uint8, read-only where it is kept in memory.

        Raises:
          DataError: the record cannot be read, or is not what was written.
        """
        record = self.records[index]
        kept = self._frames.get(record.frame_sha256)
        if kept is not None:
            return kept
        frame = self._decode(index)
        if self.cached:
            frame.setflags(write=False)
            with self._lock:
                frame = self._frames.setdefault(record.frame_sha256, frame)
        return frame

    def _decode(self, index: int) -> np.ndarray:
        import cv2

        record = self.records[index]
        name = f"{self.folder}, record {index} ({record.image_id})"
        expected = "the frame that was built into the set; build the set again"
        try:
            png = self._encoded[index]["image"]
        except Exception as error:  # array_record and protobuf raise kinds of their own
            raise DataError(f"{name}: found {_first_line(error)}, expected {expected}") from error
        frame = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
        if frame is None or frame.ndim != 2 or frame.dtype != np.uint8:
            raise DataError(f"{name}: found an image that cannot be decoded, expected {expected}")
        if frame_digest(frame) != record.frame_sha256:
            raise DataError(f"{name}: found an image that was changed, expected {expected}")
        return frame


def open_dataset(folder: Path, cache_mb: int = 0) -> Dataset:
    """Opens a set that `builder.build` wrote; decodes no pixels (about 3,000 records a second).

    With `cache_mb` > 0, decoded frames are kept in memory from their first use on, if all of them
    together fit into that many MiB; otherwise none is.

    Raises:
      DataError: the folder is not a built set, or is incomplete, changed or damaged.
    """
    folder = Path(folder)
    info = _read_info(folder)
    encoded = _encoded_examples(folder)
    if len(encoded) != info["n_nodules"]:
        raise DataError(
            f"{folder}: found {len(encoded)} records, "
            f"expected the {info['n_nodules']} of {DATA_FILE}"
        )
    records = []
    for index in range(len(encoded)):
        try:
            records.append(from_features(encoded[index]))
        except Exception as error:  # array_record and protobuf raise kinds of their own
            after = f" (after {records[-1].image_id})" if records else ""
            raise DataError(
                f"{folder}, record {index}{after}: found {_first_line(error)}, "
                "expected a whole record; build the set again"
            ) from error
    if fingerprint(records) != info["fingerprint"]:
        raise DataError(
            f"{folder}: found records with fingerprint {fingerprint(records)[:12]}..., expected "
            f"{str(info['fingerprint'])[:12]}... of {DATA_FILE}; build the set again"
        )
    return Dataset(folder, info, records, encoded, cache_mb)


def _read_info(folder: Path) -> dict[str, Any]:
    """The folder's data.json, its fields checked for presence."""
    built = "a folder made by `thyrojax data build`"
    if not folder.is_dir():
        found = "a file" if folder.exists() else "no such folder"
        raise DataError(f"{folder}: found {found}, expected {built}")
    for name in (DATA_FILE, "dataset_info.json", "features.json"):
        if not (folder / name).is_file():
            raise DataError(f"{folder}: found no {name}, expected {built}")
    try:
        info = json.loads((folder / DATA_FILE).read_text())
        missing = [
            key
            for key in ("source", "n_nodules", "label_names", "subject", "fingerprint")
            if key not in info
        ]
    except (ValueError, TypeError, OSError) as error:
        raise DataError(
            f"{folder / DATA_FILE}: found {_first_line(error)}, expected a JSON object"
        ) from error
    if missing or not isinstance(info, dict):
        raise DataError(f"{folder / DATA_FILE}: found no {', '.join(missing)}, expected {built}")
    return info


def _encoded_examples(folder: Path) -> EncodedExamples:
    """The TFDS data source of the folder, images left encoded."""
    import tensorflow_datasets as tfds

    try:
        return tfds.builder_from_directory(folder).as_data_source(
            split=SPLIT, decoders={"image": tfds.decode.SkipDecoding()}
        )
    except Exception as error:  # JSON, protobuf and file errors, each of its own kind
        raise DataError(
            f"{folder}: found a damaged set ({_first_line(error)}), expected one that TFDS can open"
        ) from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
