"""The safetensors container, read through memory-mapped pages, one array at a time."""

from __future__ import annotations

import json
import mmap
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from thyrojax.errors import WeightsError
from thyrojax.weights.state_dict import Tensor
from thyrojax.weights.types import DESCRIPTION_KEY, MAX_DESCRIPTION_BYTES

MAX_HEADER_BYTES = 2**24  # of a network of this kind it takes some 60 kB
# safetensors' names of types that can be weights, and of one that counts.
TYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64", "I64": "int64"}
WRITTEN = {"float32": "F32", "int64": "I64"}


def keys(path: Path) -> list[str]:
    """The names of the arrays, [] where the file is not safetensors. Reads the header only."""
    if not path.is_file():
        return []
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= MAX_HEADER_BYTES:
            return []
        header = file.read(length)
    try:
        found = json.loads(header)
    except (ValueError, RecursionError):
        # A header of ours or of anybody's that is damaged is to be told of, not passed over.
        return ["?"] if header[:2] == b'{"' else []
    return [key for key in found if key != "__metadata__"] if isinstance(found, dict) else []


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The arrays, not yet read, and the metadata.

    Raises:
      WeightsError: not a sound file; the library checks the header against the file's size.
    """
    from safetensors import SafetensorError, safe_open

    try:
        # The library validates lengths, overlaps and types; it has no bfloat16 for NumPy, so that
        # the values themselves are taken from the mapped file at the offsets that it has checked.
        with safe_open(path, framework="numpy") as file:
            metadata = dict(file.metadata() or {})
            names = list(file.keys())
    except (SafetensorError, ValueError, OverflowError) as error:
        raise WeightsError(
            f"{path}: found a damaged safetensors file ({_line(error)}), expected a whole one"
        ) from None
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(length))
        mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    tensors = {}
    for name in names:
        begin, end = header[name]["data_offsets"]
        dtype = TYPES.get(header[name]["dtype"], header[name]["dtype"])
        shape = tuple(header[name]["shape"])
        view = partial(_values, mapped, 8 + length + begin, 8 + length + end, dtype, shape)
        tensors[name] = Tensor(shape, dtype, view)
    return tensors, metadata


def _values(
    mapped: mmap.mmap, begin: int, end: int, dtype: str, shape: tuple[int, ...]
) -> np.ndarray:
    import ml_dtypes

    kind: Any = ml_dtypes.bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    itemsize = np.dtype(kind).itemsize
    values = np.frombuffer(mapped, kind, (end - begin) // itemsize, begin)
    return values.astype(np.float32).reshape(shape)


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


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())
