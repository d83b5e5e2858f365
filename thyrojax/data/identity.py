"""Keyed hashes in the place of patient and image ids.

A pseudonym is HMAC-SHA256 (RFC 2104) of the identifier under a key that stays with its owner: the
same patient has the same pseudonym in every set built with that key, and nobody without the key can
tell whose it is, not even by hashing all hospital numbers there are. The key is never stored.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import replace
from pathlib import Path

from thyrojax.data.records import Exclusion, Nodule, SourceData
from thyrojax.errors import DataError

MAKE_A_KEY = "openssl rand -hex 32 > key.txt"
SHORTEST_KEY = 16  # bytes
LONGEST_KEY = 4096  # bytes; a longer file is something else, given by mistake
PREFIXES = {"patient": "P", "image": "I"}
HEX_DIGITS = 16  # 64 bits: two of a million images share one with a chance of 3e-8
NOTE = "Patient and image ids are keyed hashes (HMAC-SHA256); the key is not in the set."

# Of an exclusion's detail only places and counts are kept: free text may quote a file's name.
_PLACE = re.compile(
    r"(region \d+ of \d+|box(?: -?\d+){4}|frames: \d+|regions: \d+)"
    r"(, (region \d+ of \d+|box(?: -?\d+){4}|frames: \d+|regions: \d+))*"
)


def read_key(path: Path) -> bytes:
    """The secret key in a file: its bytes, without the line end that editors and tools add.

    Raises:
      DataError: the file cannot be read, or its key is too short to be a secret. The key is never
        quoted.
    """
    try:
        with path.open("rb") as file:
            key = file.read(LONGEST_KEY + 3).rstrip(b"\r\n")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise DataError(
            f"{path}: found no readable key ({reason}), expected one as made by: {MAKE_A_KEY}"
        ) from None
    if not SHORTEST_KEY <= len(key) <= LONGEST_KEY:
        size = f"{len(key)} bytes" if len(key) <= LONGEST_KEY else f"over {LONGEST_KEY} bytes"
        raise DataError(
            f"{path}: found a key of {size}, expected {SHORTEST_KEY} to {LONGEST_KEY}, "
            f"as made by: {MAKE_A_KEY}"
        )
    return key


def pseudonym(key: bytes, kind: str, identifier: str) -> str:
    """A letter for the kind ("patient" or "image") and 16 hexadecimal digits.

    An id that is a patient's and an image's gets unlike pseudonyms.

    Raises:
      KeyError: there is no such kind.
    """
    message = f"{kind}\0{identifier}".encode("utf-8", "surrogatepass")
    digest = hmac.new(key, message, hashlib.sha256).hexdigest()
    return PREFIXES[kind] + digest[:HEX_DIGITS]


def pseudonymise(data: SourceData, key: bytes) -> SourceData:
    """A source's data with pseudonyms for all patient and image ids.

    The number of a nodule in its image stays readable ("I0123456789abcdef-2"). Of the details of
    exclusions only places and counts stay; ids of three characters or more that a note quotes are
    replaced in it. Frames and boxes are untouched: what is burnt into a frame stays there.
    """

    def renamed(nodule: Nodule) -> Nodule:
        return replace(
            nodule,
            image_id=_image_pseudonym(key, nodule),
            patient_id=pseudonym(key, "patient", nodule.patient_id),
        )

    exclusions = tuple(
        Exclusion(
            pseudonym(key, "image", entry.image_id),
            entry.reason,
            entry.detail if _PLACE.fullmatch(entry.detail) else "",
        )
        for entry in data.exclusions
    )
    notes = (*(_without_ids(note, data, key) for note in data.notes), NOTE)
    return replace(
        data, nodules=tuple(map(renamed, data.nodules)), exclusions=exclusions, notes=notes
    )


def _image_pseudonym(key: bytes, nodule: Nodule) -> str:
    """The image's own pseudonym, as its exclusions have it, and the nodule's number in it.

    Digits at the end of an id are a number only where what stands before them is the image's name:
    they may be a date of birth.
    """
    name, _, number = nodule.image_id.rpartition("-")
    if name and number.isdecimal() and isinstance(nodule.image, Path):
        path = nodule.image.with_suffix("").as_posix()
        if f"/{path}".endswith(f"/{name}"):
            return f"{pseudonym(key, 'image', name)}-{number}"
    return pseudonym(key, "image", nodule.image_id)


def _without_ids(note: str, data: SourceData, key: bytes) -> str:
    ids = {nodule.patient_id: "patient" for nodule in data.nodules}
    ids |= {nodule.image_id: "image" for nodule in data.nodules}
    ids |= {entry.image_id: "image" for entry in data.exclusions}
    for word in set(re.findall(r"[\w.\-]+", note)):
        bare = word.strip(".")
        if len(bare) >= 3 and bare in ids:
            note = note.replace(bare, pseudonym(key, ids[bare], bare))
    return note
