"""A built set, opened: what is known of every nodule at once, its frame when asked for."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thyrojax.data.decoding import decode_frame
from thyrojax.data.encoded import INFO_FILE, EncodedFrames
from thyrojax.data.frame_cache import FrameCache
from thyrojax.data.records import Box
from thyrojax.errors import DataError
from thyrojax.shapes import Num, UInt8

DATA_FILE = "data.json"  # written last into the folder of a built set
VERSION = "2.0.0"  # of the layout of a built set; sets of another first number cannot be read

# How "not known" is written into the set, by the kind of the feature.
UNKNOWN_TEXT = ""
UNKNOWN_NUMBER = math.nan
UNKNOWN_LABEL = -1

# Of data.json, what reading relies on.
_FIELDS: dict[str, type] = {
    "source": str,
    "subject": str,
    "label_names": list,
    "n_nodules": int,
    "fingerprint": str,
    "sha256": dict,
}
_AS_BUILT = "the frame that was built into the set; build the set again"

_TEXTS = ("tirads", "composition", "echogenicity", "calcification", "margin", "shape")
_NUMBERS = ("size_mm", "pixel_spacing_mm")
_ALWAYS_KNOWN = (
    "image_id",
    "patient_id",
    "label",
    "image_sha256",
    "frame_sha256",
    "height",
    "width",
    "perceptual_hash",
)


@dataclass(frozen=True, slots=True)
class Record:
    """One nodule of a built set: `records.Nodule` without its pixels.

    `image_sha256` digests the source's decoded frame (equal for nodules of one image, and for
    images that are byte-identical), `frame_sha256` the frame as stored, which differs from it where
    the overlay was masked; both are of pixels, not of files. `height` and `width` are the frame's,
    in pixels; `perceptual_hash` is `near_duplicates.perceptual_hash` of the frame as stored.
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
    perceptual_hash: str


def frame_digest(frame: UInt8[np.ndarray, "height width"]) -> str:
    """SHA-256 of a frame's height, width and pixels, row by row."""
    digest = hashlib.sha256(struct.pack(">II", *frame.shape))
    digest.update(np.ascontiguousarray(frame))
    return digest.hexdigest()


def fingerprint(records: Iterable[Record]) -> str:
    """SHA-256 over all records in order, pixels included (through `frame_sha256`)."""
    digest = hashlib.sha256()
    names = [field.name for field in dataclasses.fields(Record)]
    for record in records:
        digest.update(json.dumps([getattr(record, name) for name in names]).encode())
        digest.update(b"\n")
    return digest.hexdigest()


def to_features(record: Record, encoded: bytes) -> dict[str, Any]:
    """A record and its encoded frame as the values of a TFDS example."""
    features: dict[str, Any] = {"image": encoded, "box": np.array(record.box, np.int32)}
    for name in _ALWAYS_KNOWN:
        features[name] = getattr(record, name)
    for name in _TEXTS:
        features[name] = getattr(record, name) or UNKNOWN_TEXT
    for name in _NUMBERS:
        value = getattr(record, name)
        features[name] = np.float32(UNKNOWN_NUMBER if value is None else value)
    features["reader_label"] = UNKNOWN_LABEL if record.reader_label is None else record.reader_label
    return features


class Dataset:
    """A built set: `records` for every nodule in order, and `frame(i)` for its pixels.

    `info` is the folder's data.json: source, n_images, n_nodules, n_patients, exclusions, notes,
    label_names, subject, mask_overlay, fingerprint. `near_duplicates` are pairs of records of
    different patients whose frames look alike, as (position, other position, similarity 0..1).
    Safe to read from several threads.
    """

    def __init__(
        self,
        folder: Path,
        info: Mapping[str, Any],
        records: Sequence[Record],
        checksums: Num[np.ndarray, " n"],
        encoded: EncodedFrames,
        near_duplicates: tuple[tuple[int, int, float], ...],
        cache_mb: int,
    ) -> None:
        self.folder = folder
        self.info = dict(info)
        self.records = tuple(records)
        self.near_duplicates = near_duplicates
        self._checksums = checksums
        self._frames_encoded = encoded
        sizes = {record.frame_sha256: record.height * record.width for record in self.records}
        self.frame_bytes = sum(sizes.values())  # of all different frames, decoded
        self.largest_frame_bytes = max(sizes.values(), default=0)
        self.cache_limit = cache_mb * 2**20  # bytes of decoded frames
        self._cache = FrameCache(self.cache_limit)

    def __len__(self) -> int:
        return len(self.records)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over all records in order, pixels included."""
        return str(self.info["fingerprint"])

    @property
    def cached_bytes(self) -> int:
        """Bytes of decoded frames in memory now; never more than `cache_limit`."""
        return self._cache.bytes

    def frame(self, index: int) -> UInt8[np.ndarray, "height width"]:
        """The frame of a record as grey uint8, read-only where it is kept in memory.

        A frame that several records share is stored with each: any sound copy will do.

        Raises:
          DataError: the record cannot be read, or is not what was written.
        """
        return self._read(index, None)

    def top_rows(self, index: int, rows: int) -> UInt8[np.ndarray, "height width"]:
        """At least the first `rows` rows of `frame(index)`, or all: whichever is had sooner.

        Raises:
          DataError: as `frame`.
        """
        return self._read(index, rows)

    def _read(self, index: int, rows: int | None) -> np.ndarray:
        record = self.records[index]
        kept = self._cache.get(record.frame_sha256)
        if kept is not None:
            return kept
        will_keep = self._cache.has_room(record.height * record.width)
        if will_keep or rows is None or rows > record.height:
            rows = record.height
        frame = self._decoded(index, rows)
        return self._cache.keep(record.frame_sha256, frame) if will_keep else frame

    def _decoded(self, index: int, rows: int) -> np.ndarray:
        """At least the first `rows` rows of a record's frame, or of another's of the same frame.

        What can be read is then the same whether or not the other's is kept in memory already.
        """
        try:
            return self._decoded_alone(index, rows)
        except DataError:
            for other in self._copies.get(self.records[index].frame_sha256, ()):
                if other != index:
                    with contextlib.suppress(DataError):
                        return self._decoded_alone(other, rows)
            raise

    @functools.cached_property
    def _copies(self) -> dict[str, list[int]]:
        """The records of each frame that several have, by `frame_sha256`."""
        copies: dict[str, list[int]] = {}
        for index, record in enumerate(self.records):
            copies.setdefault(record.frame_sha256, []).append(index)
        return {digest: found for digest, found in copies.items() if len(found) > 1}

    def _decoded_alone(self, index: int, rows: int) -> np.ndarray:
        record, frame = self.records[index], decode_frame(self._encoded(index), rows)
        if (
            frame is None
            or not rows <= frame.shape[0] <= record.height
            or frame.shape[1] != record.width
        ):
            raise DataError(
                f"{self._name(index)}: found an image that cannot be decoded, expected {_AS_BUILT}"
            )
        return frame

    def _encoded(self, index: int) -> bytes:
        """The frame of a record as it is stored, checked against its CRC-32C.

        Raises:
          DataError: the record cannot be read, or is not what was written.
        """
        import google_crc32c

        try:
            encoded = self._frames_encoded[index]
        except Exception as error:  # array_record and protobuf raise kinds of their own
            raise DataError(
                f"{self._name(index)}: found {_first_line(error)}, expected {_AS_BUILT}"
            ) from error
        if google_crc32c.value(encoded) != self._checksums[index]:
            raise DataError(
                f"{self._name(index)}: found an image that was changed, expected {_AS_BUILT}"
            )
        return encoded

    def _name(self, index: int) -> str:
        return f"{self.folder}, record {index} ({self.records[index].image_id})"


def open_dataset(folder: Path, cache_mb: int = 0) -> Dataset:
    """Opens a set that `builder.build` wrote; reads what is known of its nodules, and no frame.

    Of decoded frames, those that are used first are kept in memory, as many as fit into `cache_mb`
    MiB.

    Raises:
      DataError: the folder is not a built set, or is incomplete, changed or damaged.
    """
    from thyrojax.data import sidecar

    folder = Path(folder)
    info = _read_info(folder)
    for name in (sidecar.RECORDS_FILE, sidecar.NEAR_DUPLICATES_FILE):
        _check_file(folder / name, str(info["sha256"].get(name)))
    records, checksums = sidecar.read_records(folder / sidecar.RECORDS_FILE)
    pairs = sidecar.read_near_duplicates(folder / sidecar.NEAR_DUPLICATES_FILE, records)
    encoded = EncodedFrames(folder)
    for found, of in ((len(records), sidecar.RECORDS_FILE), (len(encoded), "the shards")):
        if found != info["n_nodules"]:
            raise DataError(
                f"{folder}: found {found} records in {of}, "
                f"expected the {info['n_nodules']} of {DATA_FILE}"
            )
    return Dataset(folder, info, records, checksums, encoded, pairs, cache_mb)


def _check_file(path: Path, expected: str) -> None:
    """Whether a file's SHA-256 is the expected one.

    Raises:
      DataError: it is not, or the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(
            f"{path}: found {error.strerror or error}, expected a file of a built set"
        ) from None
    if found != expected:
        raise DataError(
            f"{path}: found a file with SHA-256 {found[:12]}..., expected {expected[:12]}... "
            f"of {DATA_FILE}; build the set again"
        )


def _read_info(folder: Path) -> dict[str, Any]:
    """The folder's data.json, its version and the presence of its fields checked."""
    built = "a folder made by `thyrojax data build`"
    if not folder.is_dir():
        found = "a file" if folder.exists() else "no such folder"
        raise DataError(f"{folder}: found {found}, expected {built}")
    for name in (DATA_FILE, INFO_FILE, "features.json"):
        if not (folder / name).is_file():
            raise DataError(f"{folder}: found no {name}, expected {built}")
    path = folder / DATA_FILE
    try:
        info = json.loads(path.read_text())
    except (ValueError, OSError) as error:
        raise DataError(f"{path}: found {_first_line(error)}, expected a JSON object") from error
    if not isinstance(info, dict):
        raise DataError(f"{path}: found {type(info).__name__}, expected a JSON object")
    version = str(info.get("version", "1.0.0"))  # sets of version 1 did not name it
    if version.partition(".")[0] != VERSION.partition(".")[0]:
        raise DataError(
            f"{folder}: found a set of version {version}, expected {VERSION}; build the set again"
        )
    missing = [key for key in _FIELDS if not isinstance(info.get(key), _FIELDS[key])]
    if missing:
        raise DataError(f"{path}: found no {', '.join(missing)}, expected {built}")
    return info


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
