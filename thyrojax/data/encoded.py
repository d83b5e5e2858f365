"""The stored bytes of a set's frames, read without the rest of their examples."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from thyrojax.errors import DataError

SPLIT = "nodules"  # the set's one TFDS split; the parts of a study come from split.csv
INFO_FILE = "dataset_info.json"


def shard_name(shard: int, n_shards: int) -> str:
    """The file name that TFDS gives a shard."""
    return f"thyroid_ultrasound-{SPLIT}.array_record-{shard:05d}-of-{n_shards:05d}"


class EncodedFrames:
    """Encoded frames by position, from any thread.

    Only the image is taken from each TFDS example (about 10 microseconds beside reading it): TFDS's
    own parser walks all features, which takes 0.3 ms.
    """

    def __init__(self, folder: Path) -> None:
        """Opens no shard yet.

        Raises:
          DataError: dataset_info.json cannot be read, or the shards are not those that it names.
        """
        # Imported by one thread: two that read at once would find it half imported.
        import tensorflow_datasets.proto  # noqa: F401
        from array_record.python.array_record_data_source import ArrayRecordDataSource

        lengths, size = _shards(folder)
        paths = [folder / shard_name(i, len(lengths)) for i in range(len(lengths))]
        missing = [path.name for path in paths if not path.is_file()]
        if missing:
            raise DataError(
                f"{folder}: found no {missing[0]}, expected all {len(paths)} shards of the set"
            )
        found = sum(path.stat().st_size for path in paths)
        if found != size:
            raise DataError(
                f"{folder}: found shards of {found} bytes, expected the {size} of {INFO_FILE}; "
                "build the set again"
            )
        # With their lengths given, none of the files is opened before it is read.
        self._source = ArrayRecordDataSource(
            [f"{path}[0:{length}]" for path, length in zip(paths, lengths, strict=True)]
        )

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> bytes:
        """The encoded frame at a position; array_record and protobuf raise kinds of their own."""
        return _image(self._source[index])


def read_shard(path: Path) -> Iterator[bytes]:
    """The encoded frames of one shard in order; errors are array_record's and protobuf's own."""
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    with ArrayRecordDataSource([str(path)]) as source:
        yield from map(_image, source)


def _image(example: bytes) -> bytes:
    from tensorflow_datasets.proto import tf_example_pb2

    parsed: Any = tf_example_pb2.Example.FromString(example)
    image: bytes = parsed.features.feature["image"].bytes_list.value[0]
    return image


def _shards(folder: Path) -> tuple[Sequence[int], int]:
    """The length of each shard in records, and the size of all together in bytes."""
    path = folder / INFO_FILE
    try:
        (split,) = json.loads(path.read_text())["splits"]
        return [int(length) for length in split["shardLengths"]], int(split["numBytes"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{path}: found {type(error).__name__} ({error}), expected what TFDS wrote"
        ) from None
