"""The safetensors container, read through memory-mapped pages, one array at a time."""

from __future__ import annotations

import json
import mmap
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from thyrojax.errors import WeightsError
from thyrojax.weights.state_dict import Tensor
from thyrojax.weights.types import DESCRIPTION_KEY, MAX_DESCRIPTION_BYTES, raise_faults

MAX_HEADER_BYTES = 2**21  # of a network of this kind it takes some 60 kB
MAX_ENTRIES = 2**13  # of which it has some 600
# safetensors' names of types that can be weights, and of one that counts.
TYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64", "I64": "int64"}
DAMAGED = "?"
WRITTEN = {"float32": "F32", "int64": "I64"}


def keys(path: Path) -> list[str]:
    """The names of the arrays, [] where the file is not safetensors. Reads the header only.

    One name that no array has where the header is damaged, which is to be told of, not passed over.
    """
    header = _header(path) if path.is_file() else b""
    try:
        found = json.loads(header) if header.count(b"{") <= MAX_ENTRIES else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        return [DAMAGED] if header[:2] == b'{"' else []
    return [key for key in found if key != "__metadata__"]


def _header(path: Path) -> bytes:
    """The header as it stands, empty where there can be none."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return file.read(length) if 2 <= length <= MAX_HEADER_BYTES else b""


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The arrays, not yet read, and the metadata.

    Raises:
      WeightsError: not a sound file (the library checks the header against the file's size), or
        two arrays of one name.
    """
    from safetensors import SafetensorError, safe_open

    header = _header(path)
    if header.count(b"{") > MAX_ENTRIES:
        raise WeightsError(f"{path}: found more than {MAX_ENTRIES} arrays, expected fewer")
    try:
        # The library validates lengths, overlaps and types; it has no bfloat16 for NumPy, so that
        # the values themselves are taken from the mapped file at the offsets that it has checked.
        with safe_open(path, framework="numpy") as file:
            metadata = dict(file.metadata() or {})
            names = list(file.keys())
        entries = json.loads(header, object_pairs_hook=_unique)
        with path.open("rb") as stream:
            mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    except (SafetensorError, ValueError, OverflowError) as error:
        raise_faults(path, [f"found a damaged safetensors file ({error}), expected a whole one"])
    tensors = {}
    for name in names:
        entry = entries[name]
        begin, end = (8 + len(header) + offset for offset in entry["data_offsets"])
        dtype, shape = TYPES.get(entry["dtype"], entry["dtype"]), tuple(entry["shape"])
        tensors[name] = Tensor(shape, dtype, partial(_values, mapped, begin, end, dtype, shape))
    return tensors, metadata


def _values(
    mapped: mmap.mmap, begin: int, end: int, dtype: str, shape: tuple[int, ...]
) -> np.ndarray:
    import ml_dtypes

    kind: Any = ml_dtypes.bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    itemsize = np.dtype(kind).itemsize
    values = np.frombuffer(mapped, kind, (end - begin) // itemsize, begin)
    with np.errstate(over="ignore", invalid="ignore"):  # what becomes infinite is told of
        return values.astype(np.float32).reshape(shape)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; the library takes the last of two entries of one name without a word."""
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        raise ValueError(f"two entries {max(counts, key=counts.__getitem__)}")
    return found


def description(metadata: Mapping[str, str]) -> str:
    """The text that `types.describe` wrote, "" where there is none."""
    return metadata.get(DESCRIPTION_KEY, "")[: MAX_DESCRIPTION_BYTES + 1]


def write(path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Writes arrays one by one, in their order.

    By hand, since the library's own writer puts the metadata in another order each time.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, array in arrays.items():
        begin, end = end, end + array.nbytes
        header[name] = {
            "dtype": WRITTEN[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the arrays are aligned
    with path.open("xb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in arrays.values():
            file.write(np.ascontiguousarray(array).data)
