"""The directory of a zip archive, and its entries one by one.

For archives from strangers: what is read before it is checked is bounded, and nothing is unpacked
to disk. Of the layout see APPNOTE.TXT, sections 4.3.7 to 4.3.16 and 4.5.3 (sizes of 64 bits).
"""

from __future__ import annotations

import struct
import zlib
from io import BufferedReader
from pathlib import PurePosixPath
from typing import NamedTuple

LOCAL = b"PK\x03\x04"
MAX_DIRECTORY_BYTES = 2**22  # some 600 entries of 80 bytes are usual
STORED, DEFLATED = 0, 8

_END, _END_64, _LOCATOR, _LISTED = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07", b"PK\x01\x02"
_END_BYTES, _COMMENT_BYTES = 22, 2**16 - 1
_FULL = 2**32 - 1  # stands for a number that is kept in 64 bits elsewhere


class Entry(NamedTuple):
    """A file in an archive: `packed` bytes that become `size`, after the header at `header`."""

    name: str
    encrypted: bool
    method: int
    checksum: int
    packed: int
    size: int
    header: int


def starts_like_zip(start: bytes) -> bool:
    """Whether a file's first bytes are those of an entry; damaged archives have them too."""
    return start.startswith(LOCAL)


def first_name(start: bytes) -> str:
    """The name of the first entry, from a file's first bytes; "" where there is none."""
    if not start.startswith(LOCAL) or len(start) < 30:
        return ""
    return start[30 : 30 + int.from_bytes(start[26:28], "little")].decode(errors="replace")


def list_entries(file: BufferedReader) -> dict[str, Entry]:
    """Name -> entry, of files only.

    Raises:
      ValueError: found and expected: damage, a name twice, or one that leaves the archive.
    """
    begin, size = _directory(file)
    file.seek(begin)
    listed = file.read(size)
    entries: dict[str, Entry] = {}
    place = 0
    while place + 46 <= len(listed) and listed.startswith(_LISTED, place):
        entry, place = _entry(listed, place)
        if entry.name in entries:
            raise ValueError(f"found the entry {entry.name!r} twice, expected each once")
        parts = PurePosixPath(entry.name.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts:
            raise ValueError(
                f"found the entry {entry.name!r}, expected names of files within the archive"
            )
        if not entry.name.endswith("/"):
            entries[entry.name] = entry
    if place != len(listed):
        raise ValueError("found damage in the archive's directory, expected a list of entries")
    return entries


def _directory(file: BufferedReader) -> tuple[int, int]:
    """Where the list of entries begins and how long it is."""
    end_of_file = file.seek(0, 2)
    tail_begin = max(0, end_of_file - _END_BYTES - _COMMENT_BYTES)
    file.seek(tail_begin)
    tail = file.read()
    end = tail.rfind(_END, 0, max(0, len(tail) - _END_BYTES + len(_END)))
    if end < 0:
        raise ValueError("found an archive that is cut off, expected its directory at the end")
    size, begin = struct.unpack_from("<LL", tail, end + 12)
    file.seek(max(0, tail_begin + end - 20))
    locator = file.read(20)
    if locator.startswith(_LOCATOR):
        file.seek(min(struct.unpack_from("<Q", locator, 8)[0], end_of_file))
        record = file.read(56)
        if len(record) != 56 or not record.startswith(_END_64):
            raise ValueError("found no 64-bit end of the archive's directory where it should be")
        size, begin = struct.unpack_from("<QQ", record, 40)
    if size > MAX_DIRECTORY_BYTES or begin + size > end_of_file:
        raise ValueError(
            f"found an archive whose directory takes {size} bytes from {begin} on, expected it "
            f"within the file's {end_of_file} and of at most {MAX_DIRECTORY_BYTES}"
        )
    return begin, size


def _entry(listed: bytes, place: int) -> tuple[Entry, int]:
    """The entry at a place of the directory, and the place of the next."""
    flags, method = struct.unpack_from("<HH", listed, place + 8)
    checksum, packed, size, named, extra, comment = struct.unpack_from("<3L3H", listed, place + 16)
    (header,) = struct.unpack_from("<L", listed, place + 42)
    name_end = place + 46 + named
    name = listed[place + 46 : name_end].decode(errors="replace")
    following = name_end + extra + comment
    if following > len(listed):
        raise ValueError("found damage in the archive's directory, expected a list of entries")
    sizes = [size, packed, header]
    if _FULL in sizes:
        wide = _wide_numbers(listed, name_end, name_end + extra)
        sizes = [wide.pop(0) if number == _FULL and wide else number for number in sizes]
    size, packed, header = sizes
    return Entry(name, bool(flags & 1), method, checksum, packed, size, header), following


def _wide_numbers(listed: bytes, place: int, end: int) -> list[int]:
    """The numbers of 64 bits in the extra fields from a place to an end."""
    while place + 4 <= end:
        kind, n = struct.unpack_from("<HH", listed, place)
        if kind == 1:
            whole = min(n, end - place - 4) // 8
            return list(struct.unpack_from(f"<{whole}Q", listed, place + 4))
        place += 4 + n
    return []


def place_of(file: BufferedReader, entry: Entry) -> int:
    """Where an entry's bytes begin.

    Raises:
      ValueError: found and expected: damage, encryption or an unknown compression.
    """
    if entry.encrypted:
        raise ValueError(f"found {entry.name} encrypted, expected it plain")
    if entry.method not in (STORED, DEFLATED):
        raise ValueError(
            f"found {entry.name} compressed by method {entry.method}, expected stored or deflated"
        )
    if entry.method == STORED and entry.packed != entry.size:
        raise ValueError(
            f"found {entry.name} stored in {entry.packed} bytes, expected its {entry.size}"
        )
    end_of_file = file.seek(0, 2)
    file.seek(min(entry.header, end_of_file))
    header = file.read(30)
    if len(header) != 30 or not header.startswith(LOCAL):
        raise ValueError(f"found no header of {entry.name} where the directory says it is")
    place = entry.header + 30 + sum(struct.unpack_from("<HH", header, 26))
    if place + entry.packed > end_of_file:
        raise ValueError(f"found {entry.name} to reach beyond the file's end, expected it within")
    return place


def read_entry(file: BufferedReader, entry: Entry, limit: int) -> bytes:
    """An entry's content, of at most `limit` bytes.

    Raises:
      ValueError: found and expected: as `place_of`, too long, or not what its checksum says.
    """
    place = place_of(file, entry)
    if entry.size > limit:
        raise ValueError(f"found {entry.name} of {entry.size} bytes, expected at most {limit}")
    file.seek(place)
    if entry.method == STORED:
        content = file.read(entry.size)
    else:
        inflating = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            # What is small cannot take many more bytes than it has.
            packed = file.read(min(entry.packed, 2 * entry.size + 1024))
            content = inflating.decompress(packed, entry.size + 1)
        except zlib.error as error:
            raise ValueError(f"found damage in {entry.name} ({error})") from None
    if len(content) != entry.size:
        raise ValueError(
            f"found {len(content)} bytes in {entry.name}, expected the {entry.size} that the "
            "archive's directory says"
        )
    check(entry, zlib.crc32(content))
    return content


def check(entry: Entry, checksum: int) -> None:
    """Compares a content's checksum with the directory's.

    Raises:
      ValueError: they differ. A 0 stands for none: torch can be told to leave them out.
    """
    if entry.checksum not in (0, checksum):
        raise ValueError(
            f"found {entry.name} damaged: its checksum is {checksum:08x}, expected "
            f"{entry.checksum:08x}"
        )
