"""The arrays in a folder of Orbax's, read one by one.

With TensorStore, by which Orbax itself keeps them: zarr arrays, each under its keys joined by dots,
in an OCDBT database or in folders. Orbax's own reader restores all at once, and where several
arrays are damaged, the tracebacks of all but one go to stderr.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from thyrojax.weights.state_dict import Tensor
from thyrojax.weights.types import raise_faults

DRIVERS = {".zarray": "zarr", "zarr.json": "zarr3"}  # by the file that describes an array
CACHE_BYTES = 2**22  # so that the database's tables are read once, not for each array
MAX_ARRAYS = 2**14  # a run with its optimizer has some 2,000


def list_arrays(path: Path, folder: Path) -> dict[str, str]:
    """Key, with slashes -> the file that describes the array.

    Args:
      path: for messages.
      folder: the one with Orbax's _METADATA.

    Raises:
      WeightsError: damage, no arrays, two of one name, or far too many.
    """
    import tensorstore

    for file in folder.rglob("*"):
        if not file.is_file() and not file.is_dir():  # to read from a pipe is to wait for ever
            raise_faults(file, ["found something that is no file, expected Orbax's files alone"])
    fault, files = "found no array", []
    try:
        files = tensorstore.KvStore.open(_store(folder, "")).result().list().result()
    except Exception as error:  # whatever a database makes of damage
        fault = _line(error)
    decoded = [file.decode(errors="backslashreplace") for file in files]
    names = [name for name in decoded if name.rpartition("/")[2] in DRIVERS]
    if not 0 < len(names) <= MAX_ARRAYS:
        fault = f"found {len(names)} arrays" if names else fault
        raise_faults(path, [f"{fault}, expected an Orbax checkpoint of a network"])
    found = {name.rpartition("/")[0].replace(".", "/"): name for name in names}
    if len(found) < len(names):
        raise_faults(path, ["found two arrays of one name, expected each once"])
    return found


def open_arrays(path: Path, folder: Path, files: Iterable[tuple[str, str]]) -> dict[str, Tensor]:
    """Shape and type of arrays, whose values are read later.

    Args:
      path, folder: as `list_arrays`.
      files: items of what it returns.

    Raises:
      WeightsError: damage.
    """
    import tensorstore

    context = tensorstore.Context({"cache_pool": {"total_bytes_limit": CACHE_BYTES}})
    tensors = {}
    faults = []
    for key, file in files:
        name, _, kind = file.rpartition("/")
        spec = {"driver": DRIVERS[kind], "kvstore": _store(folder, f"{name}/")}
        try:
            array = tensorstore.open(spec, read=True, context=context).result()
            shape = tuple(array.shape)
            tensors[key] = Tensor(shape, array.dtype.name, partial(_values, array, shape))
        except Exception as error:  # whatever a database makes of damage
            faults.append(f"{key}: {_line(error)}")
    raise_faults(path, faults)
    return tensors


def _store(folder: Path, inner: str) -> dict[str, Any]:
    """Where TensorStore finds a folder of the checkpoint."""
    files = {"driver": "file", "path": f"{folder.absolute()}/"}
    if (folder / "manifest.ocdbt").is_file():
        return {"driver": "ocdbt", "base": files, "path": inner}
    return {**files, "path": files["path"] + inner}


def _values(array: Any, shape: tuple[int, ...]) -> np.ndarray:
    chunk: tuple[int, ...] = array.chunk_layout.read_chunk.shape
    if math.prod(chunk) > max(1, math.prod(shape)):  # it would be unpacked whole
        raise ValueError(f"found chunks of shape {chunk}, expected none larger than the array")
    try:
        return np.asarray(array.read().result())
    except Exception as error:  # whatever a database makes of damage
        raise ValueError(_line(error)) from None


def _line(error: BaseException) -> str:
    text = str(error).partition(" [")[0].strip().rstrip(";") or type(error).__name__
    return f"found damage ({text.splitlines()[0][:200]})"
