"""The heaps in which an HDF5 file keeps texts of any length, checked before the library reads them.

The library (1.14) follows the list of objects in a heap for ever where damage makes one of no size.
Of the layout see the HDF5 file format specification, sections II.A (superblock) and III.E (global
heap).
"""

from __future__ import annotations

import io
import struct

SIGNATURE = b"GCOL\x01"
HEADER_BYTES = 16  # of a heap, and of each object in it
MAX_OBJECTS = 2**17  # a model of 20,000 layers with the names of its arrays has fewer
_PIECE_BYTES = 2**22


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
