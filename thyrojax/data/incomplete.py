"""The folder in which a set is built: beside its place, locked, and kept when a build is killed."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import thyrojax
from thyrojax.data.dataset import DATA_FILE, VERSION
from thyrojax.data.records import SourceData
from thyrojax.errors import DataError

LOCK_FILE = "lock"
REPLACED = "replaced"  # where a set stands while another takes its place
# What bytes of a shard depend on beside the nodules.
_PACKAGES = ("opencv-python-headless", "pillow", "pyarrow", "array-record", "tensorflow-datasets")


@contextlib.contextmanager
def incomplete_folder(out: Path) -> Iterator[Path]:
    """The folder for building the set `out`, which stands beside it; of one build at a time.

    What a killed build left in it is still there. It goes when nothing is left in it.

    Raises:
      DataError: another build is at work on `out`, or there is no place to write.
    """
    folder = out.with_name(f".{out.name}.incomplete")
    lock = _lock(folder, out)
    try:
        _recover(folder, out)
        yield folder
    finally:
        try:
            _recover(folder, out)
            if [path.name for path in folder.glob("*")] == [LOCK_FILE]:
                shutil.rmtree(folder)
        finally:
            os.close(lock)


def _lock(folder: Path, out: Path) -> int:
    """Locks the folder, made if needed; the lock goes with the process, however that ends."""
    path = folder / LOCK_FILE
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except FileNotFoundError:  # another build just removed it
            continue
        except OSError as error:
            raise DataError(
                f"{out}: found {error.strerror or error} for {folder.name} beside it, "
                "expected a place that can be written"
            ) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(lock), path.stat()):
                return lock
        except BlockingIOError:
            os.close(lock)
            raise DataError(f"{out}: found another build at work on it, expected none") from None
        except FileNotFoundError:
            pass
        os.close(lock)


def _recover(folder: Path, out: Path) -> None:
    """Undoes a replacement that ended between its two steps, or ends one that was done."""
    replaced = folder / REPLACED
    if not replaced.exists():
        return
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        os.replace(replaced, out)
    elif (out / DATA_FILE).is_file():
        shutil.rmtree(replaced)


def work_folder(folder: Path, data: SourceData, mask_overlay: bool) -> Path:
    """The part of an incomplete folder that is for these data and options, and nothing else in it.

    Finished shards of the same data are kept; files that a killed build was writing go.
    """
    work = folder / f"work-{digest(data, mask_overlay)[:16]}"
    for other in folder.iterdir():
        if other.name not in (LOCK_FILE, work.name):
            shutil.rmtree(other) if other.is_dir() else other.unlink()
    for name in ("set", "parts"):
        (work / name).mkdir(parents=True, exist_ok=True)
        for pattern in (".*.part", "*.faults.json"):
            for path in (work / name).glob(pattern):
                path.unlink()
    return work


def digest(data: SourceData, mask_overlay: bool) -> str:
    """SHA-256 of all that a set's shards depend on; of image files, path, size and time of change.

    Frames that are drawn or read by a function go in by its pickle, and by the files that it is
    given or has as fields.
    """
    versions = {name: metadata.version(name) for name in _PACKAGES}
    head = [VERSION, thyrojax.__version__, versions, data.source, mask_overlay]
    total = hashlib.sha256(json.dumps(head).encode())
    last: Any = None
    image: Any = None
    for nodule in data.nodules:
        if nodule.image != last:
            last, image = nodule.image, _image_identity(nodule.image)
        rest = [value for name, value in vars(nodule).items() if name != "image"]
        total.update(json.dumps([image, *rest]).encode())
    return total.hexdigest()


def _image_identity(image: Path | Callable[..., Any]) -> Any:
    if isinstance(image, Path):
        path = os.path.abspath(image)
        try:
            status = os.stat(path)
        except OSError:
            return [path, None]
        return [path, status.st_size, status.st_mtime_ns]
    given: Sequence[Any] = ()
    if isinstance(image, functools.partial):
        given = (*image.args, *image.keywords.values())
    elif dataclasses.is_dataclass(image):
        given = [getattr(image, field.name) for field in dataclasses.fields(image)]
    files = [_image_identity(value) for value in given if isinstance(value, Path)]
    return [hashlib.sha256(pickle.dumps(image, protocol=5)).hexdigest(), files]
