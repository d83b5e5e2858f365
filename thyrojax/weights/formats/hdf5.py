"""HDF5 files from strangers, read as data only and within bounds.

Nothing is read before its type, shape and storage have been checked; links to other files and
filters from plug-ins are refused; references are not followed; what is not asked for is not read.
"""

from __future__ import annotations

import io
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
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
MAX_TEXT_BYTES = 2**23  # of an attribute's texts; a model's description takes some 270 kB
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
    is_bfloat16: bool = False

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


def damage(error: BaseException) -> str:
    """The HDF5 library's complaint on one line."""
    return " ".join(str(error).strip("'\"").split()) or type(error).__name__


@dataclass(frozen=True, eq=False)
class File:
    """A file that is open: as the library has it, its bytes, and where its addresses count from."""

    root: h5py.File
    content: io.BufferedIOBase
    base: int

    def names(self, holder: h5py.Group | h5py.Dataset, attribute: str) -> list[str]:
        """A list of names, or one text, from an attribute; Keras splits long ones: `NAME0` etc.

        Empty where there is none, or none of a sensible size and type.
        """
        try:
            parts = [part.removeprefix(attribute) for part in holder.attrs if attribute in part]
            numbers = sorted((n for n in parts if n.isdigit() or not n), key=lambda n: int(n or 0))
            if not all(self._is_short(holder, attribute + number) for number in numbers):
                return []
            return [
                name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
                for number in numbers
                for name in np.ravel(holder.attrs[attribute + number])
            ]
        except DAMAGE:
            return []

    def _is_short(self, holder: h5py.Group | h5py.Dataset, attribute: str) -> bool:
        """Whether an attribute has texts of which no more than a model's takes memory."""
        import h5py

        stored = h5py.h5a.open(holder.id, attribute.encode())
        if stored.get_storage_size() > MAX_ATTRIBUTE_BYTES:
            return False
        if stored.dtype.kind != "O":
            return stored.dtype.kind == "S"
        header = h5py.h5o.get_info(holder.id).addr
        length = hdf5_heap.text_bytes(self.content, self.base, header, attribute)
        return length is not None and length <= MAX_TEXT_BYTES


@contextmanager
def open_file(path: Path, content: io.BytesIO | None = None) -> Iterator[File]:
    """Opens a file for reading.

    Args:
      path: of the file, for messages too.
      content: what is in it, where it is part of another file.

    Raises:
      WeightsError: the file is cut off, or its beginning is damaged.
    """
    import h5py

    with path.open("rb") if content is None else content as raw:
        try:
            base = _begin(raw)
            fault = "found no signature" if base is None else hdf5_heap.address_fault(raw, base)
            if base is None or fault or (fault := hdf5_heap.heap_fault(raw)):
                raise ValueError(fault)
            options = {"locking": False} if content is None else {}
            root = h5py.File(path if content is None else content, "r", **options)
        except DAMAGE as error:
            raise WeightsError(
                f"{path}: found a damaged HDF5 file ({damage(error)}), expected a whole one"
            ) from None
        with root:
            yield File(root, raw, base)


def inventory(file: File) -> Inventory:
    """Lists a file without reading any array. Soft and external links are faults, not followed."""
    import h5py

    result = Inventory()
    seen: set[int] = set()
    waiting: list[tuple[str, h5py.Group]] = [("", file.root)]
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
                    # Keras 3 keeps Google's 16-bit floats as two bytes each, and says so.
                    is_bfloat16 = found.dtype == np.dtype("V2") and (
                        file.names(found, "dtype") == ["bfloat16"]
                    )
                    result.arrays[key] = Stored(found, found.shape or (), found.dtype, is_bfloat16)
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
        return _storage_fault(stored)
    except DAMAGE as error:
        return f"found damage ({damage(error)}), expected readable values"


def _storage_fault(stored: Stored) -> str | None:
    array, shape, dtype, is_bfloat16 = stored
    if (dtype.kind != "f" or dtype.itemsize > 8) and not is_bfloat16:
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
    if stored.is_bfloat16:  # the upper half of a float32
        return (stored.dataset[()].view("<u2").astype(np.uint32) << 16).view(np.float32)
    values = np.empty(stored.shape, np.float32)
    stored.dataset.read_direct(values)
    return values
