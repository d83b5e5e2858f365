"""TensorFlow's checkpoints, of both versions, read without TensorFlow.

Version 2 is an index (a sorted table of BundleEntryProto, PREFIX.index) and the plain bytes of the
variables (PREFIX.data-00000-of-00001 and so on). Version 1 is one sorted table with the values
within. Field numbers are those of tensorflow/core/protobuf/tensor_bundle.proto and
tensorflow/core/util/saved_tensor_slice.proto.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import NoReturn

import numpy as np

from thyrojax.weights.formats import tf_table, tf_tensor
from thyrojax.weights.formats.wire import Message
from thyrojax.weights.state_dict import Tensor

MAX_SHARDS = 10_000
INDEX = ".index"
PART = "part of "  # what the names of parts of variables begin with
_HEADER = b""  # the key that comes first in either version


def recognises(path: Path) -> bool:
    """Whether the file is a sorted table: an index, or a checkpoint of version 1."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        if path.stat().st_size < tf_table.FOOTER_BYTES:
            return False
        file.seek(-tf_table.FOOTER_BYTES, 2)
        return tf_table.has_footer(file.read())


def load(path: Path) -> dict[str, Tensor]:
    """The variables of a checkpoint by name, not yet read.

    Reading one raises ValueError where it is damaged or not stored as a whole.

    Args:
      path: the index of version 2, or the one file of version 1.

    Raises:
      ValueError: the table is damaged, or not a checkpoint.
      OSError: a file cannot be read.
    """
    with path.open("rb") as file:
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    entries = tf_table.read_table(data)
    key, value = next(entries, (b"?", memoryview(b"")))
    if key != _HEADER:
        raise ValueError("found a table of something else, expected a checkpoint of TensorFlow")
    if value[:1] == b"\x0a":  # a message: the list of the variables
        return _first_version(value, dict(entries))
    return _second_version(path, Message(value), dict(entries))


def _first_version(header: memoryview, entries: Mapping[bytes, memoryview]) -> dict[str, Tensor]:
    meta = Message(header).message(1, tf_table.MAX_ENTRIES)
    tensors: dict[str, Tensor] = {}
    for data in meta.all_bytes(1) if meta else []:
        listed = Message(data)
        name = listed.text(1)
        if name in tensors:
            raise ValueError(f"{name}: found two variables of that name, expected one")
        n_slices = len(listed.all_bytes(4))
        read = _nothing if n_slices == 1 else partial(_parts, n_slices)
        dtype = tf_tensor.dtype_name(listed.number(3))
        tensors[name] = Tensor(tf_tensor.shape(listed.message(2)), dtype, read)
    waiting = {name for name, tensor in tensors.items() if tensor.read is _nothing}
    whole = frozenset(waiting)
    for value in entries.values():
        stored = Message(value).message(2)
        values = stored.message(3) if stored else None
        if stored is None or values is None:
            raise ValueError("found an entry without values, expected only such with")
        name = stored.text(1)
        tensor = tensors.get(name)
        if tensor is None:
            raise ValueError(f"{name}: found a variable that is not listed, expected all to be")
        if name in waiting:
            waiting.remove(name)
            tensors[name] = tf_tensor.slice_values(values, tensor.dtype, tensor.shape)
        elif name in whole:
            raise ValueError(f"{name}: found values twice, expected them once")
    return tensors


def _nothing() -> NoReturn:
    raise ValueError("found no values, expected them in the file")


def _parts(n_slices: int) -> NoReturn:
    raise ValueError(f"found a variable in {n_slices} parts, expected a whole one")


def _second_version(
    path: Path, header: Message, entries: Mapping[bytes, memoryview]
) -> dict[str, Tensor]:
    n_shards = header.number(1)
    if not 0 < n_shards <= MAX_SHARDS:
        raise ValueError(f"found {n_shards} files of values, expected 1 to {MAX_SHARDS}")
    if header.number(2):
        raise ValueError("found values of a big-endian machine, expected little-endian ones")
    shards = _Shards(path, n_shards)
    tensors: dict[str, Tensor] = {}
    for key, value in entries.items():
        entry = Message(value)
        name = key.decode("utf-8", "backslashreplace")
        if name.startswith("\0"):
            # One part of a variable: its name, then where the part begins and how long it is.
            whole, _, which = key[1:].partition(b"\0\1")
            name = f"{PART}{whole.decode('utf-8', 'backslashreplace')} ({which.hex()})"
        sizes = tf_tensor.shape(entry.message(2))
        dtype = tf_tensor.dtype_name(entry.number(1))
        if n_slices := len(entry.all_bytes(7)):
            tensors[name] = Tensor(sizes, dtype, partial(_parts, n_slices))
            continue
        shard, offset, size = entry.number(3), entry.number(4), entry.number(5)
        if not 0 <= shard < n_shards:
            raise ValueError(f"{name}: found file {shard}, expected one of {n_shards}")
        place = (shard, offset, size)
        read = partial(shards.read, place, entry.fixed32(6), dtype, sizes)
        tensors[name] = Tensor(sizes, dtype, read)
    return tensors


class _Shards:
    """The files of values beside an index, each mapped when it is first needed."""

    def __init__(self, index: Path, n_shards: int) -> None:
        self._prefix = str(index).removesuffix(INDEX)
        self._n_shards = n_shards
        self._mapped: dict[int, np.ndarray] = {}

    def _map(self, shard: int) -> tuple[str, np.ndarray]:
        file = Path(f"{self._prefix}.data-{shard:05}-of-{self._n_shards:05}")
        if shard not in self._mapped:
            if not file.is_file() or not file.stat().st_size:
                raise ValueError(f"found no values in {file.name} beside the index, expected them")
            self._mapped[shard] = np.memmap(file, np.uint8, "r")
        return file.name, self._mapped[shard]

    def read(
        self, place: tuple[int, int, int], checksum: int, dtype: str, sizes: tuple[int, ...]
    ) -> np.ndarray:
        """The values of a variable; its place is (shard, offset, size)."""
        shard, offset, size = place
        name, mapped = self._map(shard)
        if offset < 0 or size < 0 or offset + size > len(mapped):
            raise ValueError(
                f"found {size} bytes at byte {offset} of {name} of {len(mapped)}, expected them "
                "within"
            )
        data = mapped[offset : offset + size]
        values = tf_tensor.plain(data, dtype, sizes)
        if not tf_table.matches(memoryview(data), checksum):
            raise ValueError(f"found another checksum of {size} bytes in {name}, expected theirs")
        return values
