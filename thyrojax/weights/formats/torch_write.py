"""Writes what `torch.save` writes since 1.6, without torch: a zip archive with a pickle of names.

The pickle is put together by hand, since Python's own would have to import torch to name it; the
values follow one array at a time, at multiples of 64 bytes as torch wants them for `mmap=True`.
"""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = "archive"
ALIGNMENT = 64
DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip entry can have: the same bytes every time
STORAGES = {"float32": "FloatStorage", "int64": "LongStorage"}


def write(path: Path, state: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> None:
    """Writes a state dict that `torch.load(path, weights_only=True)` reads.

    Args:
      path: must not exist.
      state: key -> float32 or int64 array, each of which is written in C order.
      metadata: becomes the dict's `_metadata`: strings, whole numbers and dicts of them.
    """
    with zipfile.ZipFile(path, "x") as archive:
        _add(archive, "data.pkl", _pickle(state, metadata))
        _add(archive, "byteorder", b"little")
        for i, array in enumerate(state.values()):
            little = array.dtype.newbyteorder("<")
            _add(archive, f"data/{i}", np.ascontiguousarray(array, little).data.cast("B"))
        _add(archive, "version", b"3\n")


def _add(archive: zipfile.ZipFile, name: str, content: bytes | memoryview) -> None:
    info = zipfile.ZipInfo(f"{FOLDER}/{name}", DATE)
    # An extra field of "FB", as torch pads with; its own header takes four bytes.
    begin = archive.fp.tell() + 30 + len(info.filename) + 4  # type: ignore[union-attr]
    padding = -begin % ALIGNMENT
    info.extra = struct.pack("<2sH", b"FB", padding) + b"Z" * padding
    archive.writestr(info, content)


def _text(value: str) -> bytes:
    encoded = value.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(encoded)) + encoded


def _whole(value: int) -> bytes:
    return pickle.BININT + struct.pack("<i", value)


def _tuple(*items: bytes) -> bytes:
    return pickle.MARK + b"".join(items) + pickle.TUPLE


class _Names:
    """Writes a name in full at its first use, and the place where it is remembered after that."""

    def __init__(self) -> None:
        self.places: dict[str, int] = {}

    def write(self, module: str, name: str) -> bytes:
        full = f"{module}\n{name}\n"
        if full in self.places:
            return pickle.BINGET + bytes([self.places[full]])
        place = self.places[full] = len(self.places)
        return pickle.GLOBAL + full.encode() + pickle.BINPUT + bytes([place])

    def ordered_dict(self) -> bytes:
        return self.write("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE


def _value(value: Any) -> bytes:
    if isinstance(value, Mapping):
        items = b"".join(_text(key) + _value(item) for key, item in value.items())
        return pickle.EMPTY_DICT + pickle.MARK + items + pickle.SETITEMS
    return _text(value) if isinstance(value, str) else _whole(value)


def _tensor(number: int, array: np.ndarray, names: _Names) -> bytes:
    strides = [int(np.prod(array.shape[i + 1 :])) for i in range(array.ndim)]
    rebuild = names.write("torch._utils", "_rebuild_tensor_v2")
    storage = _tuple(
        _text("storage"),
        names.write("torch", STORAGES[array.dtype.name]),
        _text(str(number)),
        _text("cpu"),
        _whole(array.size),
    )
    arguments = _tuple(
        storage + pickle.BINPERSID,
        _whole(0),
        _tuple(*map(_whole, array.shape)),
        _tuple(*map(_whole, strides)),
        pickle.NEWFALSE,  # requires_grad
        names.ordered_dict(),  # no hooks
    )
    return rebuild + arguments + pickle.REDUCE


def _pickle(state: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> bytes:
    names = _Names()
    parts = [pickle.PROTO + b"\x02", names.ordered_dict(), pickle.MARK]
    for i, (key, array) in enumerate(state.items()):
        parts += [_text(key), _tensor(i, array, names)]
    parts += [pickle.SETITEMS, pickle.EMPTY_DICT, _text("_metadata"), names.ordered_dict()]
    parts.append(pickle.MARK)
    for key, value in metadata.items():
        parts += [_text(key), _value(value)]
    parts += [pickle.SETITEMS, pickle.SETITEM, pickle.BUILD, pickle.STOP]
    return b"".join(parts)
