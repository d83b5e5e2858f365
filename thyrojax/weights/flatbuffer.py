"""FlatBuffers from strangers: tables and vectors read where they lie, never beyond the file's end.

The format (flatbuffers.dev, "FlatBuffer internals"): all numbers are little-endian; a table begins
with the distance back to its vtable, which holds for each field, by number, how far from the
table's beginning it stands (0: not there); vectors, strings and other tables stand elsewhere, at a
distance forward from the field. Distances to what a table holds are unsigned, so that nothing can
contain itself.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

MAX_TABLES = 20_000  # in one vector
MAX_TEXT_BYTES = 4096
MAX_FIELDS = 32  # more are not asked for

_LENGTH = struct.Struct("<I")
_BACK = struct.Struct("<i")
_VTABLE = struct.Struct("<H")


def _unpack(form: struct.Struct, data: memoryview, place: int) -> int:
    if not 0 <= place <= len(data) - form.size:
        raise ValueError(f"found an offset to byte {place} of {len(data)}, expected one within")
    return form.unpack_from(data, place)[0]


@dataclass(frozen=True)
class Table:
    """A table: `data` is the whole file, `place` where the table begins, `offsets` its vtable.

    Every method raises ValueError (found and expected) where the file is damaged. A field that is
    absent gives the default, None or nothing.
    """

    data: memoryview
    place: int
    offsets: tuple[int, ...]

    def _field(self, number: int) -> int | None:
        offset = self.offsets[number] if number < len(self.offsets) else 0
        return self.place + offset if offset else None

    def _target(self, number: int) -> int | None:
        offset = self.offsets[number] if number < len(self.offsets) else 0
        field = self.place + offset
        return field + _unpack(_LENGTH, self.data, field) if offset else None

    def number(self, number: int, form: str, default: int = 0) -> int:
        """A whole number stored as `struct` calls it: "b", "B", "i", "I", "q", "Q" or "?"."""
        field = self._field(number)
        return default if field is None else _unpack(struct.Struct("<" + form), self.data, field)

    def table(self, number: int) -> Table | None:
        target = self._target(number)
        return None if target is None else table_at(self.data, target)

    def tables(self, number: int) -> Iterator[Table]:
        """A vector of tables."""
        target = self._target(number)
        if target is None:
            return
        length = _unpack(_LENGTH, self.data, target)
        if length > MAX_TABLES:
            raise ValueError(f"found {length} tables in a row, expected at most {MAX_TABLES}")
        for place in range(target + 4, target + 4 + 4 * length, 4):
            yield table_at(self.data, place + _unpack(_LENGTH, self.data, place))

    def values(self, number: int, dtype: str) -> np.ndarray:
        """A vector of numbers, as a view into the file; empty where there is none."""
        target = self._target(number)
        if target is None:
            return np.empty(0, dtype)
        length = _unpack(_LENGTH, self.data, target)
        return view(self.data, target + 4, length * np.dtype(dtype).itemsize).view(dtype)

    def text(self, number: int) -> str:
        target = self._target(number)
        if target is None:
            return ""
        length = _unpack(_LENGTH, self.data, target)
        if length > MAX_TEXT_BYTES:
            raise ValueError(f"found a name of {length} bytes, expected at most {MAX_TEXT_BYTES}")
        return view(self.data, target + 4, length).tobytes().decode("utf-8", "replace")


def view(data: memoryview, place: int, size: int) -> np.ndarray:
    """Bytes of the file.

    Raises:
      ValueError: they are not all there.
    """
    if place < 0 or size < 0 or place + size > len(data):
        raise ValueError(
            f"found {size} bytes at byte {place} of {len(data)}, expected them within the file"
        )
    return np.frombuffer(data, np.uint8, size, place)


def table_at(data: memoryview, place: int) -> Table:
    """The table that stands at a byte of the file.

    Raises:
      ValueError: it is damaged.
    """
    vtable = place - _unpack(_BACK, data, place)
    n_fields = max(0, _unpack(_VTABLE, data, vtable) - 4) // 2
    offsets = view(data, vtable + 4, 2 * min(n_fields, MAX_FIELDS)).view("<u2")
    return Table(data, place, tuple(offsets.tolist()))


def root(data: memoryview) -> Table:
    """The table that a file begins with."""
    return table_at(data, _unpack(_LENGTH, data, 0))
