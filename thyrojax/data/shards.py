"""A set in pieces: which nodules go into which shard, and the writing of one shard.

A shard is the unit of work. What is in it depends on the source's nodules alone, so that one
process, several, and an Apache Beam pipeline write the same bytes in any order.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thyrojax.data import encoded, sidecar
from thyrojax.data.dataset import Record, to_features
from thyrojax.data.records import Nodule, box_fault
from thyrojax.data.stored_frame import StoredFrame, stored_frame
from thyrojax.errors import DataError

LARGEST = 1000  # nodules a shard
# A set of few shards cannot be shared out, one of many small ones costs files.
ENOUGH, SMALLEST = 16, 128


def plan(n_nodules: int) -> list[range]:
    """The positions of each shard: contiguous, of equal length but for one."""
    count = max(-(-n_nodules // LARGEST), min(ENOUGH, -(-n_nodules // SMALLEST)))
    edges = [shard * n_nodules // count for shard in range(count + 1)]
    return [range(start, end) for start, end in itertools.pairwise(edges)]


@dataclass(frozen=True)
class Shard:
    """One shard of a set that is being built; can be pickled if its nodules can.

    `work` is the folder of the build, `set` the one in it that becomes the built set.
    """

    number: int
    count: int  # shards of the set
    start: int  # position of the first nodule
    source: str
    label_names: tuple[str, str]
    mask_overlay: bool
    nodules: tuple[Nodule, ...]
    work: Path

    @property
    def path(self) -> Path:
        return self.work / "set" / encoded.shard_name(self.number, self.count)

    @property
    def records_path(self) -> Path:
        """The shard's part of the records file."""
        return self.work / "parts" / f"{self.number:05d}.parquet"

    @property
    def faults_path(self) -> Path:
        """Where a shard that cannot be written leaves its faults, one string for each."""
        return self.work / "parts" / f"{self.number:05d}.faults.json"

    @property
    def finished(self) -> bool:
        # The shard is moved into place last, but a disk that lost its power may forget the other.
        return self.path.exists() and self.records_path.exists()


def features(label_names: tuple[str, str]) -> Any:
    """The TFDS features of a set's examples (`dataset.to_features` has their values)."""
    import tensorflow_datasets as tfds

    text = tfds.features.Text
    number = tfds.features.Scalar
    unknown_text, unknown_number = '"" where not known', "NaN where not known"
    return tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(
                shape=(None, None, 1),
                dtype=np.uint8,
                doc="grey; those kept as a colour JPEG decode to three equal channels",
            ),
            "image_id": text(doc="unique for each nodule"),
            "patient_id": text(),
            "box": tfds.features.Tensor(
                shape=(4,),
                dtype=np.int32,
                doc="x_min, y_min, x_max, y_max in whole pixels, half-open",
            ),
            "label": tfds.features.ClassLabel(names=label_names),
            "size_mm": number(np.float32, doc=f"largest diameter; {unknown_number}"),
            "tirads": text(doc=unknown_text),
            "composition": text(doc=unknown_text),
            "echogenicity": text(doc=unknown_text),
            "calcification": text(doc=unknown_text),
            "margin": text(doc=unknown_text),
            "shape": text(doc=unknown_text),
            "pixel_spacing_mm": number(np.float32, doc=f"mm per pixel; {unknown_number}"),
            "reader_label": number(np.int32, doc="a reader's call; -1 where not known"),
            "image_sha256": text(doc="of the source's decoded frame: height, width, pixels"),
            "frame_sha256": text(doc="of the frame as stored, after masking"),
            "height": number(np.int32, doc="of the frame, in pixels"),
            "width": number(np.int32, doc="of the frame, in pixels"),
            "perceptual_hash": text(doc="of the frame as stored; 256 bits"),
        }
    )


def examples(shard: Shard) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields (position, TFDS example) in order.

    Raises:
      DataError: frames that cannot be read and boxes outside theirs, all of them at the end.
    """
    faults: list[str] = []
    for position, (record, frame) in enumerate(_stored(shard, faults), shard.start):
        yield position, to_features(record, frame)
    if faults:
        raise DataError("\n".join(faults))


def write_shard(shard: Shard) -> None:
    """Writes a shard and its part of the records file, or, where it cannot, its faults.

    Files appear under their names when they are whole, the shard last. Of two processes that write
    the same shard either may win.
    """
    import google_crc32c

    if shard.finished:
        return
    faults: list[str] = []
    records: list[Record] = []
    checksums: list[int] = []

    def stored() -> Iterator[tuple[int, Any]]:
        for record, frame in _stored(shard, faults):
            records.append(record)
            checksums.append(google_crc32c.value(frame))
            yield len(records), to_features(record, frame)

    with _written_whole(shard.path) as path:
        _write_examples(path, shard, stored())
        if not faults:
            _check_examples(path, checksums)
            with _written_whole(shard.records_path) as part:
                sidecar.write_records(part, records, np.array(checksums, np.uint32))
                _move(part, shard.records_path)
            _move(path, shard.path)
    if faults:
        with _written_whole(shard.faults_path) as path:
            path.write_text(json.dumps(faults))
            _move(path, shard.faults_path)


def _write_examples(path: Path, shard: Shard, values: Iterator[tuple[int, Any]]) -> None:
    from tensorflow_datasets.core import example_serializer, file_adapters
    from tensorflow_datasets.core.writer import ExampleWriter

    kinds = features(shard.label_names)
    serializer = example_serializer.ExampleSerializer(kinds.get_serialized_info())
    ExampleWriter(file_adapters.FileFormat.ARRAY_RECORD).write(
        path,
        (
            (key, _serialised(serializer.get_tf_example(kinds.encode_example(example))))
            for key, example in values
        ),
    )


def _serialised(example: Any) -> bytes:
    # Else protobuf orders the features by a hash that differs from process to process.
    content: bytes = example.SerializeToString(deterministic=True)
    return content


def _check_examples(path: Path, checksums: list[int]) -> None:
    """That what was written reads back."""
    import google_crc32c

    frames = encoded.read_shard(path)
    if [google_crc32c.value(frame) for frame in frames] != checksums:
        raise OSError(f"{path}: what was written does not read back; is the disk failing?")


def _move(partial: Path, path: Path) -> None:
    """Gives a file its name, now that it is whole, and on the disk even if the power fails next."""
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(partial, path)


@contextlib.contextmanager
def _written_whole(path: Path) -> Iterator[Path]:
    """A name beside `path`, of nobody else, to write to and move from; removed if left there."""
    own = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    partial = path.with_name(f".{path.name}.{own}.part")
    try:
        yield partial
    finally:
        partial.unlink(missing_ok=True)


def _stored(shard: Shard, faults: list[str]) -> Iterator[tuple[Record, bytes]]:
    """Yields (record, encoded frame) of what is faultless, in order; the rest goes to `faults`."""
    last_image: Any = None
    frame = StoredFrame(b"", 0, 0, "", "", "")
    for nodule in shard.nodules:
        try:
            if nodule.image != last_image:  # an image with several nodules is decoded once
                frame = stored_frame(nodule.image, shard.mask_overlay)
                last_image = nodule.image
        except DataError as error:
            faults.append(f"{nodule.image_id}: {error}")
            continue
        record = _record(nodule, frame)
        file = str(nodule.image) if isinstance(nodule.image, Path) else shard.source
        fault = box_fault(record.box, record.width, record.height, file, record.image_id)
        if fault is not None:
            faults.append(str(fault))
            continue
        yield record, frame.encoded


def _record(nodule: Nodule, frame: StoredFrame) -> Record:
    """The record as it will be read back: numbers rounded to the float32 that TFDS stores."""

    def rounded(value: float | None) -> float | None:
        return None if value is None else float(np.float32(value))

    return Record(
        image_id=nodule.image_id,
        patient_id=nodule.patient_id,
        box=nodule.box,
        label=nodule.label,
        size_mm=rounded(nodule.size_mm),
        tirads=nodule.tirads,
        composition=nodule.composition,
        echogenicity=nodule.echogenicity,
        calcification=nodule.calcification,
        margin=nodule.margin,
        shape=nodule.shape,
        pixel_spacing_mm=rounded(nodule.pixel_spacing_mm),
        reader_label=nodule.reader_label,
        image_sha256=frame.image_sha256,
        frame_sha256=frame.frame_sha256,
        height=frame.height,
        width=frame.width,
        perceptual_hash=frame.perceptual_hash,
    )
