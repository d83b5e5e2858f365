"""Writing a file whole or not at all."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from thyrojax.errors import ThyrojaxError


def write_whole(path: Path, content: bytes) -> None:
    """Writes `content` beside `path` and moves it into place; folders are made as needed.

    What stood at `path` stays until the new file is complete.

    Raises:
      ThyrojaxError: the folder or file cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise ThyrojaxError(
            f"{path}: found {error.strerror or error}, expected a place that can be written"
        ) from None


def write_csv(path: Path, rows: Iterable[Sequence[Any]]) -> None:
    """Writes rows as a UTF-8 CSV file, whole or not at all. Errors as `write_whole`."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_whole(path, text.getvalue().encode())


def write_json(path: Path, content: Any) -> None:
    """Writes `content` as an indented JSON file, whole or not at all. Errors as `write_whole`."""
    write_whole(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())


def write_folder(path: Path, contents: Mapping[str, bytes]) -> None:
    """Writes a folder of files beside `path` and puts it there, in place of what it held.

    Raises:
      ThyrojaxError: the folder or a file cannot be written; what stood at `path` is as it was.
    """
    with new_folder(path) as partial:
        for name, content in contents.items():
            (partial / name).write_bytes(content)


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder beside `path` to fill, which takes its place when the block ends without an error.

    Raises:
      ThyrojaxError: the folder or a file cannot be written; what stood at `path` is as it was.
    """
    partial, old = (path.with_name(f".{path.name}.{os.getpid()}.{end}") for end in ("part", "old"))
    try:
        try:
            partial.mkdir(parents=True)
            yield partial
            if path.exists():
                os.replace(path, old)
            os.replace(partial, path)
        finally:
            if old.exists() and not path.exists():
                os.replace(old, path)
            for folder in (partial, old):
                shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise ThyrojaxError(
            f"{path}: found {error.strerror or error}, expected a place that can be written"
        ) from None
