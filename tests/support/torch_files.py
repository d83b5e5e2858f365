"""Files as torch writes them, put together by hand, so that tests need no torch and can lie."""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

import hostile
from thyrojax.errors import WeightsError
from thyrojax.weights.formats import torch_file

STORAGES = {
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
    "int64": "LongStorage",
}
START, STOP = pickle.PROTO + b"\x02", pickle.STOP
MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
PROTOCOL = b"\x80\x02M\xe9\x03."


def text(value: str) -> bytes:
    encoded = value.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(encoded)) + encoded


def number(value: int) -> bytes:
    return pickle.BININT + struct.pack("<i", value)


def name(module: str, attribute: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{attribute}\n".encode()


def group(*items: bytes) -> bytes:
    return pickle.MARK + b"".join(items) + pickle.TUPLE


def call(module: str, attribute: str, *arguments: bytes) -> bytes:
    return name(module, attribute) + group(*arguments) + pickle.REDUCE


def table(items: Mapping[str, bytes]) -> bytes:
    inner = b"".join(text(key) + value for key, value in items.items())
    return pickle.EMPTY_DICT + pickle.MARK + inner + pickle.SETITEMS


def ordered(items: Mapping[str, bytes]) -> bytes:
    inner = b"".join(text(key) + value for key, value in items.items())
    return call("collections", "OrderedDict") + pickle.MARK + inner + pickle.SETITEMS


def module(full_name: str, attributes: Mapping[str, bytes]) -> bytes:
    """A TorchScript object."""
    place, _, last = full_name.rpartition(".")
    return name(place, last) + pickle.EMPTY_TUPLE + pickle.NEWOBJ + table(attributes) + pickle.BUILD


def tensor(
    key: str,
    shape: tuple[int, ...],
    dtype: str = "float32",
    *,
    n: int | None = None,
    offset: int = 0,
    strides: tuple[int, ...] | None = None,
) -> bytes:
    """A tensor of `n` elements of storage `key`; contiguous unless told otherwise."""
    if strides is None:
        strides = tuple(int(np.prod(shape[i + 1 :])) for i in range(len(shape)))
    whole = int(np.prod(shape)) if n is None else n
    storage = group(
        text("storage"), name("torch", STORAGES[dtype]), text(key), text("cpu"), number(whole)
    )
    return call(
        "torch._utils",
        "_rebuild_tensor_v2",
        storage + pickle.BINPERSID,
        number(offset),
        group(*map(number, shape)),
        group(*map(number, strides)),
        pickle.NEWFALSE,
        call("collections", "OrderedDict"),
    )


def content(values: np.ndarray, dtype: str = "float32", order: str = "<") -> bytes:
    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    converted = np.ascontiguousarray(values.astype(kind))
    return (converted.byteswap() if order == ">" else converted).tobytes()


def tensors(
    arrays: Mapping[str, np.ndarray], dtype: str = "float32", order: str = "<"
) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Key -> tensor, and storage's key -> bytes, of arrays in torch's layout."""
    made, storages = {}, {}
    for i, (key, values) in enumerate(arrays.items()):
        kind = "int64" if values.dtype == np.int64 else dtype
        made[key] = tensor(str(i), values.shape, kind)
        storages[str(i)] = content(values, kind, order)
    return made, storages


def archive(
    path: Path,
    value: bytes,
    storages: Mapping[str, bytes],
    more: Mapping[str, bytes] | None = None,
    compression: int = zipfile.ZIP_STORED,
) -> Path:
    """A zip as torch.save makes it, of a pickled value."""
    entries = {"data.pkl": START + value + STOP, "byteorder": b"little"}
    entries |= {f"data/{key}": data for key, data in storages.items()}
    entries |= {"version": b"3\n"} | dict(more or {})
    with zipfile.ZipFile(path, "w", compression) as file:
        for entry, data in entries.items():
            file.writestr(f"archive/{entry}", data)
    return path


def script(path: Path, value: bytes, storages: Mapping[str, bytes]) -> Path:
    """A TorchScript archive."""
    code = {"constants.pkl": b"\x80\x02).", "code/__torch__.py": b"raise SystemExit"}
    return archive(path, value, storages, code)


def stream(
    path: Path,
    value: bytes,
    storages: Mapping[str, bytes],
    dtypes: Mapping[str, str] | None = None,
    order: str = "<",
    system: bytes | None = None,
) -> Path:
    """The stream that torch.save made before 1.6."""
    little = pickle.NEWTRUE if order == "<" else pickle.NEWFALSE
    sizes = {"float16": 2, "bfloat16": 2, "float64": 8, "int64": 8}
    parts = [MAGIC, PROTOCOL, system or START + table({"little_endian": little}) + STOP]
    parts += [START + value + STOP]
    keys = b"".join(text(key) for key in storages)
    parts += [START + pickle.EMPTY_LIST + pickle.MARK + keys + pickle.APPENDS + STOP]
    for key, data in storages.items():
        size = sizes.get((dtypes or {}).get(key, ""), 4)
        parts += [struct.pack(f"{order}q", len(data) // size), data]
    path.write_bytes(b"".join(parts))
    return path


def read_all(path: Path) -> dict[str, np.ndarray]:
    """Every tensor's values; what is wrong with one of them counts as with the file."""
    found = torch_file.read(path)
    try:
        return {key: tensor.read() for key, tensor in found.tensors().items()}
    except ValueError as error:
        raise WeightsError(f"{path}: {error}") from None


def archive_of_one(path: Path, tensor: bytes, data: bytes, **options: Any) -> Path:
    """An archive of one tensor called `a`, whose storage is 0."""
    return archive(path, ordered({"a": tensor}), {"0": data}, **options)


def assert_refused(path: Path, pattern: str) -> None:
    hostile.assert_refused(read_all, path, pattern, max_seconds=3.0)
