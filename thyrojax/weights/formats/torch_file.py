"""The files of `torch.save` and `torch.jit.save`, read without torch.

Since 1.6 a zip archive: `NAME/data.pkl`, a pickle in which tensors name their storages, and
`NAME/data/KEY`, the storages' plain bytes. Before, one stream of pickles followed by the storages.
TorchScript archives are the same zip with code beside, which is not looked at. Of the layouts see
`torch/serialization.py` and `caffe2/serialize/inline_container.cc`.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from thyrojax.errors import WeightsError
from thyrojax.weights.formats import restricted_pickle, zip_directory
from thyrojax.weights.formats.pickle_names import Refused, Storage, StoredTensor, Table
from thyrojax.weights.formats.restricted_pickle import MAX_PICKLE_BYTES
from thyrojax.weights.formats.torch_tree import Tree, flatten
from thyrojax.weights.formats.zip_directory import Entry
from thyrojax.weights.state_dict import Tensor

MAGIC = 0x1950A86A20F9469CFC6C  # first pickle of the old stream
PROTOCOL = 1001  # second
MAX_STORAGES = 50_000
MAX_COMPRESSED_BYTES = 2**26  # torch stores plainly; the largest array of Inception-v3 takes 8 MB
MAX_SPREAD = 8  # how many times its own size a tensor may reach over its storage

_MAGIC = MAGIC.to_bytes(10, "little")
# A torch archive's first entry; files that are cut off can still be told by it.
_FIRST = re.compile(r"[^/]+/(data\.pkl|data/\w+|constants\.pkl|version|byteorder|\.\w+)")

Kind = Literal["archive", "script", "stream"]
Order = Literal["<", ">"]


class _Place(NamedTuple):
    """Where a storage's `n` values lie in the file; an archive's entry tells more of it."""

    begin: int
    n: int
    entry: Entry | None = None


@dataclass(frozen=True)
class Saved:
    """What was saved, and where the values of its tensors are."""

    path: Path
    root: Any
    tree: Tree
    order: Order
    entries: Mapping[str, Entry]  # storage's key -> entry, of archives
    places: Mapping[str, _Place]  # storage's key -> place, of streams

    def tensors(self) -> dict[str, Tensor]:
        """Dotted path -> tensor, whose values are read and checked when asked for."""
        return {
            key: Tensor(stored.size, stored.storage.dtype, partial(_values, self, stored))
            for key, stored in self.tree.tensors.items()
        }


def kind(path: Path) -> Kind | None:
    """Which layout a file has, by its first bytes and an archive's directory; None for others."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        start = file.read(1024)
        if start.startswith(b"\x80") and _MAGIC in start[:32]:
            return "stream"
        if not zip_directory.starts_like_zip(start):
            return None
        try:
            names = zip_directory.list_entries(file)
        except ValueError:
            return "archive" if _FIRST.fullmatch(zip_directory.first_name(start)) else None
    if not any(_is_pickle(name, "data.pkl") for name in names):
        return None
    return "script" if any(_is_pickle(name, "constants.pkl") for name in names) else "archive"


def _is_pickle(name: str, end: str) -> bool:
    return name.count("/") == 1 and name.endswith(f"/{end}")


def read(path: Path) -> Saved:
    """Reads the pickle; tensors are still where they were.

    Raises:
      WeightsError: a damaged file, or a pickle that names anything but plain data.
    """
    try:
        with path.open("rb") as file:
            is_zip = zip_directory.starts_like_zip(file.read(4))
            return _read_archive(path, file) if is_zip else _read_stream(path, file)
    except ValueError as error:
        line = "".join(c if c.isprintable() else "?" for c in str(error))
        raise WeightsError(f"{path}: {line}") from None


def _read_archive(path: Path, file: BufferedReader) -> Saved:
    entries = zip_directory.list_entries(file)
    pickles = [name for name in entries if _is_pickle(name, "data.pkl")]
    if len(pickles) != 1:
        raise Refused(f"found {len(pickles)} pickles of data in the archive, expected one")
    base = pickles[0].removesuffix("data.pkl")
    order: Order = "<"
    if (entry := entries.get(f"{base}byteorder")) is not None:
        named = zip_directory.read_entry(file, entry, 16)
        if named not in (b"little", b"big"):
            raise Refused(f"found byte order {named!r}, expected little or big")
        order = "<" if named == b"little" else ">"
    content = zip_directory.read_entry(file, entries[pickles[0]], MAX_PICKLE_BYTES)
    root, _ = restricted_pickle.load(content)
    folder = f"{base}data/"
    storages = {
        name.removeprefix(folder): entry
        for name, entry in entries.items()
        if name.startswith(folder)
    }
    return Saved(path, root, flatten(root), order, storages, {})


def _read_stream(path: Path, file: BufferedReader) -> Saved:
    end_of_file = file.seek(0, 2)
    file.seek(0)
    start, place = file.read(MAX_PICKLE_BYTES), 0  # of which all pickles take a small part
    found = []
    for _ in range(5):
        value, place = restricted_pickle.load(start, place)
        found.append(value)
    magic, protocol, system, root, keys = found
    file.seek(place)
    if magic != MAGIC or protocol != PROTOCOL or not isinstance(system, Table):
        raise Refused("found another protocol than torch.save's of before 1.6")
    order: Order = ">" if system.get("little_endian") is False else "<"
    if not isinstance(keys, list) or len(keys) > MAX_STORAGES:
        raise Refused("found no list of storages after the pickles, expected one")
    tree = flatten(root)
    places: dict[str, _Place] = {}
    for key in keys:
        if not isinstance(key, str) or key not in tree.storages or key in places:
            raise Refused("found a storage that no tensor uses, or twice, expected each once")
        number = file.read(8)
        n = int.from_bytes(number, "little" if order == "<" else "big")
        begin = file.tell()
        end = begin + n * _type(tree.storages[key], order).itemsize
        if len(number) != 8 or end > end_of_file:
            raise Refused(f"found storage {key} to reach beyond the file's end, expected it within")
        places[key] = _Place(begin, n)
        file.seek(end)
    return Saved(path, root, tree, order, {}, places)


def _values(saved: Saved, stored: StoredTensor) -> np.ndarray:
    """A tensor's values as float32, in memory of their own.

    Raises:
      ValueError: found and expected.
    """
    kind = _type(stored.storage.dtype, saved.order)
    n = _span(stored)
    with saved.path.open("rb") as file:
        if saved.places:
            place = _place_in_stream(saved, stored.storage)
        else:
            place = _place_in_archive(saved, stored.storage, kind, file)
        if n == 0:
            return np.zeros(stored.size, np.float32)
        whole = stored.offset == 0 and n == place.n
        entry = place.entry
        if entry is not None and entry.method != zip_directory.STORED:
            if not whole:
                raise ValueError("found a compressed storage of several tensors, expected it plain")
            values = np.frombuffer(
                zip_directory.read_entry(file, entry, MAX_COMPRESSED_BYTES), kind, n
            )
        else:
            file.seek(place.begin + stored.offset * kind.itemsize)
            values = np.empty(n, kind)
            if file.readinto(values.view(np.uint8)) != values.nbytes:
                raise ValueError("found the end of the file in a storage, expected it whole")
            if entry is not None and whole:
                zip_directory.check(entry, zlib.crc32(values.view(np.uint8)))
    strides = [step * kind.itemsize for step in stored.stride]
    view = np.lib.stride_tricks.as_strided(values, stored.size, strides, writeable=False)
    return view.astype(np.float32, copy=kind != np.float32 or view.size != n)


def _span(stored: StoredTensor) -> int:
    """How many elements of its storage a tensor reaches over, from its offset on.

    Raises:
      ValueError: it reaches beyond the storage.
    """
    if 0 in stored.size:
        return 0
    n = 1 + sum((m - 1) * step for m, step in zip(stored.size, stored.stride, strict=True))
    if stored.offset + n > stored.storage.n:
        raise ValueError(
            f"found a tensor of elements {stored.offset} to {stored.offset + n} of its storage, "
            f"expected them within its {stored.storage.n}"
        )
    if n > MAX_SPREAD * math.prod(stored.size):
        raise ValueError(f"found a tensor of {stored.size} spread over {n} elements")
    return n


def _place_in_archive(
    saved: Saved, storage: Storage, kind: np.dtype, file: BufferedReader
) -> _Place:
    entry = saved.entries.get(storage.key)
    if entry is None:
        raise ValueError(f"found no storage {storage.key!r} in the archive, expected it")
    if entry.size != storage.n * kind.itemsize:
        raise ValueError(
            f"found a storage of {entry.size} bytes, expected {storage.n} times {kind.itemsize}"
        )
    return _Place(zip_directory.place_of(file, entry), storage.n, entry)


def _place_in_stream(saved: Saved, storage: Storage) -> _Place:
    place = saved.places.get(storage.key)
    if place is None or place.n != storage.n:
        found = "no storage" if place is None else f"a storage of {place.n} elements"
        raise ValueError(f"found {found} {storage.key!r}, expected one of {storage.n}")
    return place


def _type(name: str, order: Order) -> np.dtype:
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16).newbyteorder(order)
    return np.dtype(name).newbyteorder(order)
