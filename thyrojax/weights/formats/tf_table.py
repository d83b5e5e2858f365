"""The sorted tables of TensorFlow's checkpoints (those of LevelDB), read within bounds.

The layout (LevelDB's "table_format.md"; TensorFlow's `lib/io/format.h`): blocks, an index block
that says where they lie, and a footer. A block is a row of keys and values, each key without what
it shares with the one before; then the places of keys that share nothing; then one byte that says
how the block is compressed, and a checksum.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np

from thyrojax.weights.formats.wire import read_varint

MAGIC = 0xDB4775248B80FB57.to_bytes(8, "little")
FOOTER_BYTES = 48
TRAILER_BYTES = 5  # after each block: how it is compressed, and the checksum
PLAIN, SNAPPY = 0, 1
MAX_KEY_BYTES = 4096
MAX_ENTRIES = 50_000  # Inception-v3 has 400 variables, with all its optimizer's slots some 2,000
MAX_EXPANSION = 8  # of the whole file; weights hardly compress, slots of zeros do
MIN_EXPANDED_BYTES = 2**20

Entry = tuple[bytes, memoryview]


def mask(checksum: int) -> int:
    """A checksum as it is stored."""
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF


def matches(data: memoryview, stored: int) -> bool:
    """Whether bytes have the CRC-32C that is stored of them."""
    import google_crc32c

    return mask(google_crc32c.value(np.frombuffer(data, np.uint8))) == stored


def has_footer(footer: bytes) -> bool:
    """Whether a file's last 48 bytes are a table's."""
    return len(footer) == FOOTER_BYTES and footer.endswith(MAGIC)


def read_table(data: memoryview) -> Iterator[Entry]:
    """Keys and values of a whole file, in order; values are views into it where not compressed.

    Raises:
      ValueError: it is damaged, its keys are not in order, or it would expand without measure.
    """
    if not has_footer(bytes(data[-FOOTER_BYTES:])):
        raise ValueError("found no footer at the end, expected a whole table")
    reader = _Reader(data)
    footer = data[-FOOTER_BYTES:]
    _, place = _read_handle(footer, 0)  # of a block that TensorFlow leaves empty
    index, _ = _read_handle(footer, place)
    last: bytes | None = None
    n = 0
    for _, value in reader.entries(index):
        handle, _ = _read_handle(value, 0)
        for key, found in reader.entries(handle):
            n += 1
            if n > MAX_ENTRIES:
                raise ValueError(f"found more than {MAX_ENTRIES} entries, expected fewer")
            if last is not None and key <= last:
                raise ValueError(f"found key {key[:80]!r} after {last[:80]!r}, expected order")
            last = key
            yield key, found


def _read_handle(data: memoryview, place: int) -> tuple[tuple[int, int], int]:
    """Where a block lies, (offset, size), and the place after that."""
    offset, place = read_varint(data, place)
    size, place = read_varint(data, place)
    return (offset, size), place


class _Reader:
    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._left = max(MAX_EXPANSION * len(data), MIN_EXPANDED_BYTES)

    def _block(self, handle: tuple[int, int]) -> memoryview:
        offset, size = handle
        end = offset + size
        if end > len(self._data) - FOOTER_BYTES - TRAILER_BYTES:
            raise ValueError(
                f"found a block of {size} bytes at byte {offset} of {len(self._data)}, expected it "
                "within"
            )
        kind = self._data[end]
        (stored,) = struct.unpack_from("<I", self._data, end + 1)
        if not matches(self._data[offset : end + 1], stored):
            raise ValueError(f"found another checksum of the block at byte {offset}, expected its")
        block = self._data[offset:end]
        if kind == PLAIN:
            return block
        if kind != SNAPPY:
            raise ValueError(f"found compression {kind}, expected none (0) or snappy (1)")
        expanded = expand_snappy(block, self._left)
        self._left -= len(expanded)
        return memoryview(expanded)

    def entries(self, handle: tuple[int, int]) -> Iterator[Entry]:
        block = self._block(handle)
        if len(block) < 4:
            raise ValueError(f"found a block of {len(block)} bytes, expected at least 4")
        (n_restarts,) = struct.unpack_from("<I", block, len(block) - 4)
        end = len(block) - 4 - 4 * n_restarts
        if end < 0:
            raise ValueError(f"found {n_restarts} restarts in {len(block)} bytes, expected fewer")
        key, place = b"", 0
        while place < end:
            shared, place = read_varint(block, place)
            added, place = read_varint(block, place)
            size, place = read_varint(block, place)
            if shared > len(key) or added + size > end - place:
                raise ValueError(
                    f"found an entry of {shared} + {added} and {size} bytes at byte {place} of "
                    f"{end}, expected it within"
                )
            if shared + added > MAX_KEY_BYTES:
                raise ValueError(
                    f"found a key of {shared + added} bytes, expected at most {MAX_KEY_BYTES}"
                )
            key = key[:shared] + bytes(block[place : place + added])
            place += added
            yield key, block[place : place + size]
            place += size


def expand_snappy(data: memoryview, limit: int) -> bytes:
    """What was compressed with Snappy (its "format_description.txt").

    A row of literals, and copies of what came before.

    Raises:
      ValueError: it is damaged, or more than `limit` bytes.
    """
    size, place = read_varint(data, 0)
    if size > limit:
        raise ValueError(f"found {size} bytes compressed with snappy, expected at most {limit}")
    result = bytearray()
    while place < len(data):
        tag = data[place]
        kind, length = tag & 3, (tag >> 2) + 1
        extra = (max(length - 60, 0), 1, 2, 4)[kind]  # bytes that follow the tag
        number = int.from_bytes(data[place + 1 : place + 1 + extra], "little")
        place += 1 + extra
        if kind == 0:
            length = number + 1 if extra else length
            result += data[place : place + length]
            place += length
        else:
            if kind == 1:
                number |= (tag & 0xE0) << 3
                length = (tag >> 2 & 7) + 4
            if not 0 < number <= len(result):
                raise ValueError(
                    f"found a copy from {number} bytes back, expected 1 or more, and "
                    f"at most the {len(result)} that there are"
                )
            start = len(result) - number
            copied = result[start : start + length]
            result += (copied * -(-length // len(copied)))[:length]  # it may overlap itself
        if place > len(data) or len(result) > size:
            break
    if len(result) != size or place != len(data):
        raise ValueError(f"found snappy data that end elsewhere, expected {size} bytes")
    return bytes(result)
