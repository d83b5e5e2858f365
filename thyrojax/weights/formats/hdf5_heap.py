"""Texts of any length in an HDF5 file's attributes, checked before the library reads them.

The library (1.14) follows the list of objects in a heap for ever where damage makes one of no size,
and takes memory for as many bytes as an attribute says that its text has, before it looks whether
the heap has as many. Of the layout see the HDF5 file format specification, sections II.A
(superblock), III.E (global heap) and IV.A (object headers; attributes are IV.A.2.m).
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import NamedTuple

SIGNATURE = b"GCOL\x01"
HEADER_BYTES = 16  # of a heap, and of each object in it
MAX_OBJECTS = 2**17  # a model of 20,000 layers with the names of its arrays has fewer
MAX_BLOCKS = 1000  # of an object's header
_PIECE_BYTES = 2**22
_MAX_BLOCK_BYTES = 2**20

# Kinds of messages in an object's header, and of datatypes.
_ATTRIBUTE, _CONTINUATION, _ATTRIBUTES_ELSEWHERE = 0x0C, 0x10, 0x15
_ANY_LENGTH = 9
_NOWHERE = b"\xff" * 8
_SHARED = 2  # a message that is kept elsewhere


class Message(NamedTuple):
    """A part of an object's header."""

    kind: int
    flags: int
    data: bytes


def address_fault(file: io.BufferedIOBase, begin: int) -> str | None:
    """Why addresses are not of the size that all else here expects.

    Args:
      begin: where the file's signature is.
    """
    file.seek(begin + 8)
    start = file.read(8)
    sizes = start[5:7] if start[:1] in (b"\x00", b"\x01") else start[1:3]
    return None if sizes == b"\x08\x08" else "found addresses of another size than 8 bytes"


def heap_fault(file: io.BufferedIOBase) -> str | None:
    """What is wrong with any heap of a file, wherever it lies."""
    end = file.seek(0, 2)
    n_objects = place = 0
    while place < end:
        file.seek(place)
        piece = file.read(_PIECE_BYTES)
        at = piece.find(SIGNATURE)
        while at >= 0:
            n = _count_objects(file, place + at, end)
            n_objects += n
            if n == 0 or n_objects > MAX_OBJECTS:
                return f"found damage in the heap at byte {place + at}"
            at = piece.find(SIGNATURE, at + 1)
        place += max(1, len(piece) - len(SIGNATURE) + 1)
    return None


def _count_objects(file: io.BufferedIOBase, begin: int, end_of_file: int) -> int:
    """How many objects a heap lists; 0 where the list leads nowhere."""
    file.seek(begin)
    header = file.read(HEADER_BYTES)
    if len(header) < HEADER_BYTES:
        return 0
    (size,) = struct.unpack_from("<Q", header, 8)
    place, n_objects = begin + HEADER_BYTES, 0
    if size < HEADER_BYTES or begin + size > end_of_file:
        return 0
    while place + HEADER_BYTES <= begin + size:
        file.seek(place)
        index, length = struct.unpack("<H6xQ", file.read(HEADER_BYTES))
        # Number 0 is the space left over, whose length has its header in it.
        taken = length if index == 0 else HEADER_BYTES + -(-length // 8) * 8
        place += taken
        n_objects += 1
        if taken < HEADER_BYTES or place > begin + size or n_objects > MAX_OBJECTS:
            return 0
    return n_objects


def text_bytes(file: io.BufferedIOBase, base: int, header: int, attribute: str) -> int | None:
    """How many bytes the texts of an attribute say that they have; None where it cannot be told.

    Args:
      base: what addresses in the file count from.
      header: address of the header of the object that has the attribute.
    """
    total: int | None = None
    for message in _messages(file, base, header):
        if message.kind == _ATTRIBUTES_ELSEWHERE and len(message.data) > 1:
            place = 2 + 2 * (message.data[1] & 1)
            if message.data[place : place + 8] != _NOWHERE:
                return None
        elif message.kind == _ATTRIBUTE:
            if message.flags & _SHARED:
                return None
            name, texts = _texts_of(message.data)
            if name == attribute.encode():
                if texts is None:
                    return None
                total = (total or 0) + sum(texts)
    return total


def _texts_of(data: bytes) -> tuple[bytes, list[int] | None]:
    """An attribute's name, and the length of each of its texts; None for what is none."""
    if len(data) < 9:
        return b"", None
    version, flags, *sizes = struct.unpack_from("<BBHHH", data)
    name_begin = 9 if version == 3 else 8
    # The first version pads each part to a multiple of eight bytes.
    ends = [name_begin]
    for size in sizes:
        ends.append(ends[-1] + (-(-size // 8) * 8 if version == 1 else size))
    name = data[name_begin : name_begin + sizes[0]].split(b"\0")[0]
    datatype, values = data[ends[1] : ends[2]], data[ends[3] :]
    is_plain = version == 1 or flags == 0
    if not is_plain or not datatype or datatype[0] & 15 != _ANY_LENGTH:
        return name, None
    # Each is its length, and where in which heap it is.
    return name, [struct.unpack_from("<L", values, i)[0] for i in range(0, len(values) - 15, 16)]


def _messages(file: io.BufferedIOBase, base: int, header: int) -> Iterator[Message]:
    """All messages in an object's header, as far as they can be followed."""
    file.seek(base + header)
    start = file.read(64)
    flags = -1
    if start[:4] == b"OHDR" and len(start) == 64:
        flags = start[5]
        place = 6 + 16 * bool(flags & 0x20) + 4 * bool(flags & 0x10)
        width = 1 << (flags & 3)
        size = int.from_bytes(start[place : place + width], "little")
        blocks = [(base + header + place + width, size)]
    elif start[:1] == b"\x01" and len(start) >= 16:
        blocks = [(base + header + 16, int.from_bytes(start[8:12], "little"))]
    else:
        return
    for at, size in blocks:  # grows
        if size > _MAX_BLOCK_BYTES or len(blocks) > MAX_BLOCKS:
            return
        file.seek(at)
        block = file.read(size)
        for message in _split(block, flags):
            if message.kind == _CONTINUATION and len(message.data) >= 16:
                next_at, next_size = struct.unpack_from("<QQ", message.data)
                # A block of the second version has a signature before and a checksum after it.
                margins = (4, 8) if flags >= 0 else (0, 0)
                blocks.append((base + next_at + margins[0], max(0, next_size - margins[1])))
            yield message


def _split(block: bytes, flags: int) -> Iterator[Message]:
    """The messages in a block of a header of the second version, or of the first (flags -1)."""
    prefix = 8 if flags < 0 else 4 + 2 * bool(flags & 4)
    place = 0
    while place + prefix <= len(block):
        if flags < 0:
            kind, size, message_flags = struct.unpack_from("<HHB", block, place)
        else:
            kind, size, message_flags = struct.unpack_from("<BHB", block, place)
        data = block[place + prefix : place + prefix + size]
        yield Message(kind, message_flags, data)
        place += prefix + size
