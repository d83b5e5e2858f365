"""What is known of every nodule of a set, in two files that are read without its frames."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import gc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from thyrojax.data.dataset import Record
from thyrojax.data.records import Box
from thyrojax.errors import DataError
from thyrojax.files import write_csv
from thyrojax.shapes import Num

RECORDS_FILE = "records.parquet"
NEAR_DUPLICATES_FILE = "near_duplicates.csv"
_PAIR_COLUMNS = ["image_id", "other_image_id", "similarity"]
_CHECKSUM = "encoded_crc32c"
_ROWS_PER_GROUP = 65_536  # a fixed number, so that equal records make equal files

# Columns by name, in the order of the file: the fields of `Record`, a box's edges for its box.
_TEXTS = ("tirads", "composition", "echogenicity", "calcification", "margin", "shape")
_COLUMNS: dict[str, tuple[str, bool]] = {  # name -> (arrow type, whether it may be unknown)
    "image_id": ("string", False),
    "patient_id": ("string", False),
    **dict.fromkeys(Box._fields, ("int32", False)),
    "label": ("int8", False),
    "size_mm": ("double", True),
    **dict.fromkeys(_TEXTS, ("string", True)),
    "pixel_spacing_mm": ("double", True),
    "reader_label": ("int8", True),
    "image_sha256": ("string", False),
    "frame_sha256": ("string", False),
    "height": ("int32", False),
    "width": ("int32", False),
    "perceptual_hash": ("string", False),
    _CHECKSUM: ("uint32", False),
}


def _schema() -> Any:
    import pyarrow as pa

    return pa.schema(
        [
            pa.field(name, pa.type_for_alias(kind), nullable=unknown)
            for name, (kind, unknown) in _COLUMNS.items()
        ]
    )


def write_records(path: Path, records: Sequence[Record], checksums: Num[np.ndarray, " n"]) -> None:
    """Writes records in order, each with the CRC-32C of its stored frame, as Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {}
    for field in dataclasses.fields(Record):
        values = [getattr(record, field.name) for record in records]
        if field.name == "box":
            for edge in Box._fields:
                columns[edge] = [getattr(box, edge) for box in values]
        else:
            columns[field.name] = values
    columns[_CHECKSUM] = checksums
    table = pa.table({name: columns[name] for name in _COLUMNS}, schema=_schema())
    pq.write_table(table, path, compression="zstd", row_group_size=_ROWS_PER_GROUP)


def join_records(path: Path, parts: Sequence[Path]) -> None:
    """Writes one records file from several, in their order."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.concat_tables([pq.read_table(part, schema=_schema()) for part in parts])
    table = table.combine_chunks()  # else the parts' borders show in the file
    pq.write_table(table, path, compression="zstd", row_group_size=_ROWS_PER_GROUP)


def read_records(path: Path) -> tuple[list[Record], Num[np.ndarray, " n"]]:
    """The records of a file in order, and the CRC-32C of the stored frame of each.

    Raises:
      DataError: the file cannot be read, or has other columns.
    """
    import pyarrow.parquet as pq

    expected = "the records of a built set; build the set again"
    try:
        table = pq.read_table(path)
    except Exception as error:  # pyarrow raises kinds of its own, and OSError
        raise DataError(
            f"{path}: found no readable Parquet ({str(error).partition(chr(10))[0]}), "
            f"expected {expected}"
        ) from None
    if table.column_names != list(_COLUMNS):
        raise DataError(
            f"{path}: found columns {', '.join(table.column_names)}, expected {', '.join(_COLUMNS)}"
        )
    for field in _schema():
        found = table.schema.field(field.name).type
        if found != field.type:
            raise DataError(
                f"{path}: found column {field.name} of {found}, expected {field.type}; "
                "build the set again"
            )
    checksums = np.asarray(table.column(_CHECKSUM).to_numpy(), np.uint32)
    with _no_garbage_collection():
        columns = {name: _values(table, name) for name in _COLUMNS if name != _CHECKSUM}
        columns["box"] = list(map(Box, *(columns.pop(edge) for edge in Box._fields)))
        records = list(map(Record, *(columns[field.name] for field in dataclasses.fields(Record))))
    return records, checksums


def _values(table: Any, name: str) -> list[Any]:
    """A column as Python values; words that recur are kept once."""
    column = table.column(name)
    if name not in ("patient_id", *_TEXTS):
        return column.to_pylist()
    encoded = column.combine_chunks().dictionary_encode()
    words = [*encoded.dictionary.to_pylist(), None]
    positions = encoded.indices.fill_null(len(words) - 1).to_pylist()
    return [words[position] for position in positions]


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Making millions of objects that all stay takes half as long without the search for others."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def write_near_duplicates(
    path: Path, pairs: Sequence[tuple[int, int, float]], records: Sequence[Record]
) -> None:
    """Writes pairs (position, other position, similarity 0..1) by their image ids, as CSV."""
    rows = [
        (records[first].image_id, records[second].image_id, f"{similarity:.4f}")
        for first, second, similarity in pairs
    ]
    write_csv(path, [_PAIR_COLUMNS, *rows])


def read_near_duplicates(
    path: Path, records: Sequence[Record]
) -> tuple[tuple[int, int, float], ...]:
    """The pairs of a file as (position, other position, similarity), as they were written.

    Raises:
      DataError: the file cannot be read, or names an image that `records` has not.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            header, *rows = list(csv.reader(file)) or [[]]
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: found {error}, expected pairs of images") from None
    if header != _PAIR_COLUMNS:
        raise DataError(f"{path}: found no header {','.join(_PAIR_COLUMNS)}, expected it")
    if not rows:
        return ()
    positions = {record.image_id: position for position, record in enumerate(records)}
    pairs = []
    for number, row in enumerate(rows, start=1):
        try:
            first, second, similarity = row
            pairs.append((positions[first], positions[second], float(similarity)))
        except (KeyError, ValueError):
            raise DataError(
                f"{path}, row {number}: found {','.join(row)}, "
                "expected two images of the set and their similarity"
            ) from None
    return tuple(pairs)
