"""The files of `torch.save`, read without torch.

Since 1.6 a zip archive: `NAME/data.pkl`, a pickle in which tensors name their storages, and
`NAME/data/KEY`, the storages' plain bytes. Before, one stream of pickles followed by the storages.
TorchScript archives are the same zip with code beside, which is not looked at.
"""

from __future__ import annotations

import mmap
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from thyrojax.errors import WeightsError
from thyrojax.weights.formats import restricted_pickle
from thyrojax.weights.formats.restricted_pickle import DAMAGE, Refused, Storage, StoredTensor
from thyrojax.weights.state_dict import Tensor

MAGIC = 0x1950A86A20F9469CFC6C  # first pickle of the old stream
PROTOCOL = 1001  # second
OLD_START = b"\x80\x02\x8a\x0a" + MAGIC.to_bytes(10, "little") + b"."
MAX_ENTRIES = 20_000
MAX_STORAGE_BYTES = 2**31
ZIP_DAMAGE = (zipfile.BadZipFile, zlib.error, OSError, *DAMAGE)

ReadStorage = Callable[[Storage], np.ndarray]


def is_archive(path: Path) -> bool:
    """Whether it is a zip archive with a torch pickle in it."""
    return bool(_pickle_names(_names(path)))


def is_torchscript(path: Path) -> bool:
    """Whether it is a torch archive with code."""
    return any(name.endswith("/constants.pkl") for name in _names(path)) and is_archive(path)


def is_old_stream(path: Path) -> bool:
    """Whether it is a stream of torch.save before 1.6."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(OLD_START)) == OLD_START


def _names(path: Path) -> list[str]:
    if not path.is_file() or not zipfile.is_zipfile(path):
        return []
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except ZIP_DAMAGE:
        return []


def _pickle_names(names: Iterable[str]) -> list[str]:
    return [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]


def read(path: Path) -> tuple[Any, ReadStorage]:
    """What was saved, with `StoredTensor` for tensors, and how to read a storage.

    Raises:
      WeightsError: a damaged file, or a pickle that names anything but plain data.
    """
    try:
        return _read_old(path) if is_old_stream(path) else _read_archive(path)
    except Refused as error:
        raise WeightsError(f"{path}: {_line(error)}") from None
    except ZIP_DAMAGE as error:
        raise WeightsError(
            f"{path}: found a damaged file ({_line(error)}), expected a whole one of torch.save"
        ) from None


def _read_archive(path: Path) -> tuple[Any, ReadStorage]:
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        if len(infos) > MAX_ENTRIES:
            raise Refused(f"found an archive of {len(infos)} entries, expected some 600")
        entries = {info.filename: info for info in infos}
        pickles = _pickle_names(entries)
        if len(entries) != len(infos) or len(pickles) != 1:
            raise Refused("found entries of the same name in the archive, expected each once")
        base = pickles[0].removesuffix("data.pkl")
        order: Literal["<", ">"] = "<"
        if f"{base}byteorder" in entries and entries[f"{base}byteorder"].file_size < 16:
            order = ">" if archive.read(f"{base}byteorder").strip() == b"big" else "<"
        with archive.open(pickles[0]) as file:
            found = restricted_pickle.load(file)  # type: ignore[arg-type]

    def read_storage(storage: Storage) -> np.ndarray:
        info = entries.get(f"{base}data/{storage.key}")
        kind = _type(storage.dtype, order)
        size = storage.n * kind.itemsize
        if info is None:
            raise ValueError(f"found no storage {storage.key!r} in the archive, expected it")
        if info.file_size != size or info.flag_bits & 1:
            raise ValueError(
                f"found a storage of {info.file_size} bytes, expected {storage.n} x "
                f"{kind.itemsize}, not encrypted"
            )
        return np.frombuffer(_entry(path, info), kind, storage.n)

    return found, read_storage


def _entry(path: Path, info: zipfile.ZipInfo) -> Any:
    """The bytes of an entry: of the mapped file where they are stored plainly."""
    data: bytes | memoryview
    if info.compress_type != zipfile.ZIP_STORED:
        if info.file_size > MAX_STORAGE_BYTES:
            raise ValueError(f"found a compressed storage of {info.file_size} bytes")
        with zipfile.ZipFile(path) as archive, archive.open(info) as file:
            data = file.read(info.file_size + 1)
    else:
        with path.open("rb") as stream:
            stream.seek(info.header_offset)
            header = stream.read(30)
            name, extra = struct.unpack("<HH", header[26:30])
            mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        begin = info.header_offset + 30 + name + extra
        data = memoryview(mapped)[begin : begin + info.file_size]
    if len(data) != info.file_size:
        raise ValueError(f"found {len(data)} bytes of a storage, expected {info.file_size}")
    return data


def _read_old(path: Path) -> tuple[Any, ReadStorage]:
    with path.open("rb") as file:
        magic, protocol = restricted_pickle.load(file), restricted_pickle.load(file)
        system = restricted_pickle.load(file)
        if magic != MAGIC or protocol != PROTOCOL or not isinstance(system, dict):
            raise Refused("found another protocol than torch.save's of before 1.6")
        order: Literal["<", ">"] = "<" if system.get("little_endian", True) else ">"
        found = restricted_pickle.load(file)
        keys = restricted_pickle.load(file)
        if not isinstance(keys, list) or len(keys) > MAX_ENTRIES:
            raise Refused("found no list of storages after the pickles")
        types = {storage.key: storage.dtype for storage in _storages(found)}
        places = _places(file, [str(key) for key in keys], types, path.stat().st_size, order)

    def read_storage(storage: Storage) -> np.ndarray:
        if storage.key not in places or places[storage.key][1] != storage.n:
            raise ValueError(f"found no storage {storage.key!r} of {storage.n} elements")
        kind = _type(storage.dtype, order)
        with path.open("rb") as stream:
            mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        return np.frombuffer(mapped, kind, storage.n, places[storage.key][0])

    return found, read_storage


def _places(
    file: BinaryIO, keys: list[str], types: Mapping[str, str], end: int, order: str
) -> dict[str, tuple[int, int]]:
    """Key -> where its values begin and how many there are; each is preceded by its number."""
    places = {}
    for key in keys:
        number = file.read(8)
        if len(number) != 8 or key not in types:
            raise ValueError(f"found an end before storage {key!r}, or one that nothing uses")
        n = int.from_bytes(number, "little" if order == "<" else "big")
        places[key] = (file.tell(), n)
        after = file.tell() + n * _type(types[key]).itemsize
        if after > end:
            raise ValueError(f"found a storage that ends {after - end} bytes after the file")
        file.seek(after)
    return places


def _storages(found: Any) -> list[Storage]:
    """The storages of all tensors, wherever they are."""
    storages, waiting, seen = [], [found], set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, StoredTensor):
            storages.append(value.storage)
        elif isinstance(value, Mapping | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            waiting += value.values() if isinstance(value, Mapping) else value
    return storages


def tensor(stored: StoredTensor, read_storage: ReadStorage) -> Tensor:
    """A tensor of the file, whose values are read and checked when asked for."""

    def values() -> np.ndarray:
        storage = read_storage(stored.storage)
        if stored.dtype != stored.storage.dtype:
            storage = storage.view(_type(stored.dtype))
        steps = zip(stored.size, stored.stride, strict=True)  # a ValueError where lengths differ
        last = stored.offset + sum((n - 1) * step for n, step in steps)
        if last >= len(storage):
            raise ValueError("found a tensor that reaches beyond its storage, expected within")
        strides = [step * storage.itemsize for step in stored.stride]
        view = np.lib.stride_tricks.as_strided(
            storage[stored.offset :], stored.size, strides, writeable=False
        )
        return view.astype(np.float32)  # a copy, of which no other part of the file is kept

    return Tensor(stored.size, stored.dtype, values)


def _type(name: str, order: Literal["<", ">"] = "<") -> np.dtype:
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16).newbyteorder(order)
    return np.dtype(name).newbyteorder(order)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
