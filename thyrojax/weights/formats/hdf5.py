"""HDF5 files from strangers, read as data only and within bounds.

Nothing is read before its type, shape and storage have been checked; links to other files and
filters from plug-ins are refused; references are not followed; what is not asked for is not read.
"""

from __future__ import annotations

import io
import math
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from thyrojax.errors import WeightsError
from thyrojax.weights.formats import hdf5_heap

if TYPE_CHECKING:
    import h5py

SIGNATURE = b"\x89HDF\r\n\x1a\n"
MAX_OBJECTS = 20_000  # groups and arrays; a whole model with its optimizer slots has some 2,000
MAX_DEPTH = 12
MAX_CHUNK_BYTES = 2**26  # the largest kernel of Inception-v3 takes 6.2 MB
MAX_CHUNKS = 4096  # of one array
MAX_ATTRIBUTE_BYTES = 2**20
MAX_LOOKED_AT = 200  # names of a file that are looked at to tell its layout

# HDF5's numbers of the filters that it brings along.
DEFLATE, SHUFFLE, CHECKSUM = 1, 2, 3

# h5py turns the HDF5 library's complaints about a damaged file into any of these.
DAMAGE = (
    OSError,
    RuntimeError,
    KeyError,
    ValueError,
    TypeError,
    AttributeError,
    OverflowError,
)


class Stored(NamedTuple):
    """An array of a file, not yet read."""

    dataset: h5py.Dataset
    shape: tuple[int, ...]
    dtype: np.dtype

    def fault(self) -> str | None:
        """`storage_fault`."""
        return storage_fault(self)

    def floats(self) -> np.ndarray:
        """`read_floats`, whose complaints become one ValueError."""
        try:
            return read_floats(self)
        except DAMAGE as error:
            raise ValueError(f"found damage ({damage(error)}), expected values") from None


@dataclass(frozen=True, eq=False)
class Inventory:
    """What a file holds, by path: arrays (not yet read), groups of nothing, and what is wrong."""

    arrays: dict[str, Stored] = field(default_factory=dict)
    empty_groups: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def recognises(path: Path) -> bool:
    """Whether the file is HDF5: its signature stands at byte 0, 512, 1024, 2048 and so on."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return _begin(file) is not None


def _begin(file: io.BufferedIOBase) -> int | None:
    """Where the signature is, None where it is not."""
    offset = 0
    while offset <= 2**20:
        file.seek(offset)
        found = file.read(len(SIGNATURE))
        if found == SIGNATURE:
            return offset
        if not found:
            return None
        offset = max(512, 2 * offset)
    return None


def has_level(path: Path, level: str) -> bool:
    """Whether the first names in a file, in alphabetical order, have a level of some name.

    False where the file is damaged.
    """
    import h5py

    seen = 0

    def look(name: str) -> bool | None:
        nonlocal seen
        seen += 1
        if level in name.split("/"):
            return True
        return False if seen == MAX_LOOKED_AT else None

    try:
        with h5py.File(path, "r", locking=False) as file:
            return bool(file.visit(look))
    except DAMAGE:
        return False


def _check_heaps(file: io.BufferedIOBase) -> None:
    """Finds what the library itself would follow without end.

    Raises:
      ValueError: what was found.
    """
    begin = _begin(file)
    if begin is not None:
        fault = hdf5_heap.address_fault(file, begin) or hdf5_heap.heap_fault(file)
        if fault:
            raise ValueError(fault)


def damage(error: BaseException) -> str:
    """The HDF5 library's complaint on one line."""
    return " ".join(str(error).strip("'\"").split()) or type(error).__name__


def open_file(path: Path, content: io.BytesIO | None = None) -> h5py.File:
    """Opens a file for reading.

    Args:
      path: of the file, for messages too.
      content: what is in it, where it is part of another file.

    Raises:
      WeightsError: the file is cut off, or its beginning is damaged.
    """
    import h5py

    try:
        if content is not None:
            _check_heaps(content)
            return h5py.File(content, "r")
        with path.open("rb") as file:
            _check_heaps(file)
        return h5py.File(path, "r", locking=False)
    except DAMAGE as error:
        raise WeightsError(
            f"{path}: found a damaged HDF5 file ({damage(error)}), expected a whole one"
        ) from None


def inventory(file: h5py.File) -> Inventory:
    """Lists a file without reading any array. Soft and external links are faults, not followed."""
    import h5py

    result = Inventory()
    seen: set[int] = set()
    waiting: list[tuple[str, h5py.Group]] = [("", file)]
    n_objects = 0
    while waiting:
        path, group = waiting.pop()
        try:
            address = h5py.h5o.get_info(group.id).addr
            n_objects += len(group)
            names = [] if n_objects > MAX_OBJECTS else list(group)
        except DAMAGE as error:
            result.faults.append(f"{path or '/'}: found damage ({damage(error)}), expected a group")
            continue
        if n_objects > MAX_OBJECTS or path.count("/") > MAX_DEPTH:
            result.faults.append(
                f"{path or '/'}: found more than {MAX_OBJECTS} objects or {MAX_DEPTH} levels, "
                "expected a model's weights"
            )
            return result
        if address in seen:
            result.faults.append(f"{path}: found a second path to a group, expected one for each")
            continue
        seen.add(address)
        if not names and path:
            result.empty_groups.append(path)
        groups: list[tuple[str, h5py.Group]] = []
        for name in names:
            key = f"{path}/{name}" if path else name
            fault = "found a soft or external link or a named type, expected an array or a group"
            try:
                linked = isinstance(group.get(name, getlink=True), h5py.HardLink)
                found = group[name] if linked else None
                if isinstance(found, h5py.Group):
                    groups.append((key, found))
                elif isinstance(found, h5py.Dataset):
                    result.arrays[key] = Stored(found, found.shape or (), found.dtype)
                else:
                    result.faults.append(f"{key}: {fault}")
            except DAMAGE as error:
                result.faults.append(f"{key}: found damage ({damage(error)}), expected an object")
        waiting += reversed(groups)
    return result


def storage_fault(stored: Stored) -> str | None:
    """Why an array cannot be read as numbers of this file; None where it can.

    Its shape is the caller's to check, before.
    """
    try:
        return _storage_fault(stored.dataset, stored.shape, stored.dtype)
    except DAMAGE as error:
        return f"found damage ({damage(error)}), expected readable values"


def _storage_fault(array: h5py.Dataset, shape: tuple[int, ...], dtype: np.dtype) -> str | None:
    if (dtype.kind != "f" or dtype.itemsize > 8) and not _is_bfloat16(array):
        return f"found values of type {dtype}, expected floats"
    if array.is_virtual or array.external:
        return "found values kept in another file, expected them in this one"
    if array.chunks is None:
        return None
    limit = math.prod(array.chunks) * dtype.itemsize
    n_chunks = math.prod(-(-n // chunk) for n, chunk in zip(shape, array.chunks, strict=True))
    if limit > MAX_CHUNK_BYTES or n_chunks > MAX_CHUNKS:
        return f"found {n_chunks} chunks of {limit} bytes, expected fewer or smaller ones"
    properties = array.id.get_create_plist()
    filters = {properties.get_filter(i)[0] for i in range(properties.get_nfilters())}
    if filters - {DEFLATE, SHUFFLE, CHECKSUM}:
        return f"found filters {sorted(filters)}, expected plain, deflate, shuffle or fletcher32"
    if DEFLATE in filters and _expands_beyond(array, limit):
        return f"found a chunk that expands beyond its {limit} bytes, expected a sound one"
    return None


def _is_bfloat16(array: h5py.Dataset) -> bool:
    """Whether an array holds Google's 16-bit floats, as Keras 3 keeps them: as two bytes each."""
    return array.dtype == np.dtype("V2") and array.attrs.get("dtype") == "bfloat16"


def _expands_beyond(array: h5py.Dataset, limit: int) -> bool:
    """Whether a deflated chunk holds more than it says; the HDF5 library itself sets no bound."""
    for i in range(array.id.get_num_chunks()):
        skipped, compressed = array.id.read_direct_chunk(array.id.get_chunk_info(i).chunk_offset)
        if skipped == 0:
            try:
                values = zlib.decompressobj().decompress(compressed, limit + 1)
            except zlib.error as error:
                raise OSError(str(error)) from None
            if len(values) > limit:
                return True
    return False


def read_floats(stored: Stored) -> np.ndarray:
    """The array as float32.

    Raises:
      OSError, RuntimeError, ...: one of DAMAGE, where the file is damaged at that place.
    """
    if stored.dtype.kind == "V":  # bfloat16 is the upper half of a float32
        return (stored.dataset[()].view("<u2").astype(np.uint32) << 16).view(np.float32)
    values = np.empty(stored.shape, np.float32)
    stored.dataset.read_direct(values)
    return values


def read_names(group: h5py.Group, attribute: str) -> list[str]:
    """A list of names, or one text, from an attribute; Keras splits long ones: `NAME0`, `NAME1`..

    Empty where there is none, or none of a sensible size and type.
    """
    import h5py

    names: list[str] = []
    try:
        numbers = [part.removeprefix(attribute) for part in group.attrs if attribute in part]
        numbers = sorted((n for n in numbers if n.isdigit() or not n), key=lambda n: int(n or 0))
        for number in numbers:
            part = attribute + number
            stored = h5py.h5a.open(group.id, part.encode())
            if stored.get_storage_size() > MAX_ATTRIBUTE_BYTES or stored.dtype.kind not in "SO":
                return []
            names += [
                name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
                for name in np.ravel(group.attrs[part])
            ]
    except DAMAGE:
        return []
    return names
