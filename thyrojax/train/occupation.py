"""Which run folder is being trained now, and how the last training of it ended.

A lock of the operating system tells the first, since it goes with its process however that ends. A
word in the locked file tells the second.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from thyrojax.errors import RunError

LOCK_FILE = "training.lock"
Ending = Literal["training", "killed", "failed", "left"]


@contextlib.contextmanager
def occupied(run: Path) -> Iterator[None]:
    """Keeps other trainings off a run's folder while the block runs.

    Raises:
      RunError: one is under way there, or the folder cannot be written.
    """
    path = run / LOCK_FILE
    try:
        file = path.open("a+")
    except OSError as error:
        raise RunError(
            f"{path}: found {error.strerror or error}, expected a place that can be written"
        ) from None
    with file:
        if not _locked(file.fileno(), fcntl.LOCK_EX):
            raise RunError(f"{run}: found a training of it under way, expected none beside it")

        def write(word: Ending) -> None:
            file.truncate(0)
            file.write(word)
            file.flush()

        write("training")
        try:
            yield
        except BaseException:
            write("failed")
            raise
        write("left")


def last_ending(run: Path) -> Ending | None:
    """How the last training of a run ended, or "training" while it goes on; None where unknown.

    "left" is an end in order: at the last step, or where SIGTERM came. On a file system without
    locks one that goes on elsewhere seems "killed".
    """
    try:
        with (run / LOCK_FILE).open() as file:
            word = file.read()
            if not _locked(file.fileno(), fcntl.LOCK_SH):
                return "training"
    except OSError:
        return None
    endings: dict[str, Ending] = {"training": "killed", "failed": "failed", "left": "left"}
    return endings.get(word)


def _locked(file: int, kind: int) -> bool:
    """Whether the lock was to be had; also where the file system has none."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
