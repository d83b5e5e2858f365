"""The folder of fetched weights: what makes a file of it whole, and what lies in it.

Beside a file for which the publisher states no digest, or the beginning of one, lies its own,
NAME.sha256, as of when it was first fetched (`sha256sum --check` reads it): from then on a file of
that name must have it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from thyrojax.errors import WeightsError
from thyrojax.files import write_whole
from thyrojax.weights.catalog import CATALOG, Entry, Origin, cache_folder

RECORD, VALIDATOR, PARTIAL = ".sha256", ".etag", ".part"
FETCHING = ".fetch-"  # begins the name of a folder that a download uses
MAX_RECORD_BYTES = 4096


@dataclass(frozen=True)
class CachedFile:
    """A file of the cache.

    Attributes:
      tag: "" where it belongs to none.
      state: "ok"; "damaged", not what was published or first fetched; "partial", the beginning of
        one, which the next fetch goes on with; "unknown", not of this catalog.
      detail: what is wrong with it, or how well it is known.
    """

    path: Path
    tag: str
    state: Literal["ok", "damaged", "partial", "unknown"]
    detail: str


def fault(path: Path, origin: Origin, recorded: bool = True) -> str | None:
    """What is wrong with a file that should be an origin's; None where nothing is.

    Args:
      recorded: False for a file that is new, and may be the first of its name.

    Raises:
      OSError: it cannot be read.
    """
    return _fault(path, path, origin, recorded)


def keep(path: Path, origin: Origin, place: Path) -> str | None:
    """Moves a new file to its place if it is whole; returns what is wrong with it otherwise.

    Raises:
      OSError, ThyrojaxError: the cache cannot be written.
    """
    found = _fault(path, place, origin, False)
    if found is not None:
        return found
    if origin.algorithm in ("", "sha256 prefix"):  # before the file, which is nothing without it
        write_whole(_record_path(place), f"{digest(path, 'sha256')}  {place.name}\n".encode())
    path.replace(place)
    return None


def digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _fault(path: Path, place: Path, origin: Origin, recorded: bool) -> str | None:
    size = path.stat().st_size
    if origin.size is not None and size != origin.size:
        return f"found {size} bytes, expected {origin.size}"
    algorithm = "md5" if origin.algorithm == "md5" else "sha256"
    found = digest(path, algorithm)
    if origin.algorithm in ("md5", "sha256"):
        if found != origin.checksum:
            return f"found {algorithm} {found}, expected {origin.checksum}"
        return None
    if not found.startswith(origin.checksum):
        return f"found sha256 {found}, expected {origin.checksum}..."
    record = _record_path(place)
    first = _recorded(record)
    if first and found != first:
        return (
            f"found sha256 {found}, expected {first}, as when it was first fetched "
            f"(remove {record} to trust another)"
        )
    if not first and recorded and not origin.algorithm:
        return f"found no {record.name} beside it, expected one: nothing else says what it must be"
    return None


def _record_path(place: Path) -> Path:
    return place.with_name(place.name + RECORD)


def _recorded(record: Path) -> str:
    """The digest that a record states, "" where there is none."""
    try:
        with record.open("rb") as file:
            text = file.read(MAX_RECORD_BYTES).decode("ascii", "replace")
    except FileNotFoundError:
        return ""
    found = re.match("([0-9a-f]{64})(?![0-9a-f])", text)
    return found[1] if found else f"a digest, which {record.name} does not hold"


def places(cache_dir: Path) -> Iterator[tuple[Path, Entry, Origin]]:
    """Where each file of the catalog stands in a cache."""
    for entry in CATALOG.values():
        for origin in entry.origins:
            yield entry.cached_path(origin, cache_dir), entry, origin


def verify_cache(cache_dir: Path | None = None) -> list[CachedFile]:
    """Checks every file of the cache against the catalog, by content.

    Returns:
      A row for each file, sorted by path; records and the like beside files have none.

    Raises:
      WeightsError: the cache cannot be read.
    """
    folder = cache_dir or cache_folder()
    known = {path: (entry, origin) for path, entry, origin in places(folder)}
    rows = []
    try:
        for path in sorted(folder.iterdir()) if folder.exists() else ():
            if path.name.endswith((RECORD, VALIDATOR)) or not path.is_file():
                continue
            if path in known:
                entry, origin = known[path]
                rows.append(_verify(path, entry, origin))
            elif path.name.startswith(".") and PARTIAL in path.name:
                owners = [
                    e.tag for p, (e, _) in known.items() if path.name.startswith(f".{p.name}.")
                ]
                size = f"{path.stat().st_size} bytes so far"
                rows.append(CachedFile(path, "".join(owners[:1]), "partial", size))
            else:
                rows.append(CachedFile(path, "", "unknown", "no file of the catalog"))
    except OSError as error:
        raise WeightsError(
            f"{error.filename or folder}: found something that cannot be read "
            f"({error.strerror or error}), expected a cache of weights"
        ) from None
    return rows


def _verify(path: Path, entry: Entry, origin: Origin) -> CachedFile:
    found = fault(path, origin)
    if found is not None:
        return CachedFile(path, entry.tag, "damaged", found)
    detail = {
        "": "as when it was first fetched; its publisher states no checksum",
        "sha256 prefix": f"sha256 begins with {origin.checksum}, as its publisher states",
    }.get(origin.algorithm, f"{origin.algorithm} as its publisher states")
    return CachedFile(path, entry.tag, "ok", detail)
