"""Protocol buffers' wire format from strangers, read where it lies and within bounds.

The format (protobuf.dev, "Encoding"): a message is a row of fields, each a tag (number * 8 + wire
type) and a value: a varint, 8 or 4 bytes, or a length and as many bytes, which may be a message,
text, or numbers in a row. Messages within others are read only when asked for, so that depth costs
nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MAX_FIELDS = 4096  # of one message, unless the caller knows that it may have more
MAX_TEXT_BYTES = 4096
MAX_NUMBERS = 256  # in a row, where they are settings and not values
_SIZES = {FIXED64: 8, FIXED32: 4}


class Field(NamedTuple):
    """A field: its number, wire type, and value: `varint` of that type, `data` of the others."""

    number: int
    wire_type: int
    varint: int
    data: memoryview


def read_varint(data: memoryview, place: int) -> tuple[int, int]:
    """A varint of up to 64 bits, and the place after it.

    Raises:
      ValueError: it is longer, or cut off.
    """
    value = 0
    for i, byte in enumerate(data[place : place + 10]):
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            if value >= 1 << 64:
                break
            return value, place + i + 1
    raise ValueError(f"found no number at byte {place} of {len(data)}, expected a varint")


def fields(data: memoryview, limit: int = MAX_FIELDS) -> Iterator[Field]:
    """The fields of a message, in order.

    Raises:
      ValueError: it is damaged, or has more fields than `limit`.
    """
    nothing = data[:0]
    place, n = 0, 0
    while place < len(data):
        n += 1
        if n > limit:
            raise ValueError(f"found a message of more than {limit} fields, expected fewer")
        # One byte holds nearly all numbers; a call for each would be slow.
        if (tag := data[place]) < 0x80:
            place += 1
        else:
            tag, place = read_varint(data, place)
        number, wire_type = tag >> 3, tag & 7
        if not 0 < number < 1 << 29:
            raise ValueError(f"found field {number} at byte {place}, expected 1 to {2**29 - 1}")
        if wire_type in _SIZES:
            size = _SIZES[wire_type]
        elif wire_type not in (VARINT, BYTES):
            raise ValueError(f"found wire type {wire_type} at byte {place}, expected 0, 1, 2 or 5")
        elif place < len(data) and (size := data[place]) < 0x80:
            place += 1
        else:
            size, place = read_varint(data, place)
        if wire_type == VARINT:
            yield Field(number, wire_type, size, nothing)
            continue
        if size > len(data) - place:
            raise ValueError(
                f"found {size} bytes at byte {place} of {len(data)}, expected them within"
            )
        yield Field(number, wire_type, 0, data[place : place + size])
        place += size


class Message:
    """The fields of a message by number. A field that is absent gives the default or nothing.

    Every method raises ValueError (found and expected) where a field is of another type.
    """

    def __init__(self, data: memoryview, limit: int = MAX_FIELDS) -> None:
        self._fields: dict[int, list[Field]] = {}
        for field in fields(data, limit):
            self._fields.setdefault(field.number, []).append(field)

    def __contains__(self, number: int) -> bool:
        return number in self._fields

    def _all(self, number: int, *wire_types: int) -> list[Field]:
        found = self._fields.get(number, [])
        for field in found:
            if field.wire_type not in wire_types:
                raise ValueError(
                    f"found wire type {field.wire_type} in field {number}, expected {wire_types[0]}"
                )
        return found

    def number(self, number: int, default: int = 0) -> int:
        """A whole number, signed: of several, the last."""
        found = self._all(number, VARINT)
        return _signed(found[-1].varint) if found else default

    def fixed32(self, number: int) -> int:
        """A whole number of 4 bytes."""
        found = self._all(number, FIXED32)
        return int.from_bytes(found[-1].data, "little") if found else 0

    def float(self, number: int) -> float | None:
        """A float of 4 bytes."""
        found = self._all(number, FIXED32)
        return struct.unpack("<f", found[-1].data)[0] if found else None

    def all_bytes(self, number: int) -> list[memoryview]:
        """The values of a repeated field of bytes, text or messages."""
        return [field.data for field in self._all(number, BYTES)]

    def data(self, number: int) -> memoryview | None:
        """Bytes: of several, the last."""
        found = self._all(number, BYTES)
        return found[-1].data if found else None

    def message(self, number: int, limit: int = MAX_FIELDS) -> Message | None:
        data = self.data(number)
        return None if data is None else Message(data, limit)

    def text(self, number: int) -> str:
        found = self._all(number, BYTES)
        return text(found[-1].data) if found else ""

    def numbers(self, number: int, limit: int = MAX_NUMBERS) -> list[int]:
        """Whole numbers, signed, each in a field of its own or many in one."""
        values: list[int] = []
        for field in self._all(number, VARINT, BYTES):
            if field.wire_type == VARINT:
                values.append(_signed(field.varint))
            place = 0
            while place < len(field.data) and len(values) <= limit:
                value, place = read_varint(field.data, place)
                values.append(_signed(value))
        if len(values) > limit:
            raise ValueError(f"found more than {limit} numbers in field {number}, expected fewer")
        return values

    def array(self, number: int, dtype: str) -> np.ndarray:
        """Numbers of 4 or 8 bytes: a view into the message where all are in one field."""
        wire_type = FIXED32 if np.dtype(dtype).itemsize == 4 else FIXED64
        found = [field.data for field in self._all(number, BYTES, wire_type)]
        data = found[0] if len(found) == 1 else b"".join(found)
        if len(data) % np.dtype(dtype).itemsize:
            raise ValueError(f"found {len(data)} bytes in field {number}, expected {dtype}")
        return np.frombuffer(data, dtype)


def map_entry(data: memoryview) -> tuple[str, memoryview]:
    """The key, which is text, and the value, which is a message, of an entry of a map.

    Raises:
      ValueError: it is damaged.
    """
    found = {1: data[:0], 2: data[:0]}
    for field in fields(data):
        if field.wire_type != BYTES:
            raise ValueError(f"found wire type {field.wire_type} in an entry, expected {BYTES}")
        found[field.number] = field.data
    return text(found[1]), found[2]


def text(data: memoryview) -> str:
    """UTF-8; bytes that are not appear as `\\xNN`."""
    if len(data) > MAX_TEXT_BYTES:
        raise ValueError(f"found a name of {len(data)} bytes, expected at most {MAX_TEXT_BYTES}")
    return bytes(data).decode("utf-8", "backslashreplace")


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value
