"""A file that is being fetched: it stays where a transfer breaks off, and has one writer."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

WAIT_SECONDS = 0.2  # between two looks at a file that another process is fetching


@dataclass(frozen=True)
class Partial:
    """The beginning of a file, for this process alone.

    Attributes:
      path: where it lies.
      file: open for reading and writing.
    """

    path: Path
    file: BinaryIO

    @property
    def validator_path(self) -> Path:
        return _validator_path(self.path)

    @property
    def validator(self) -> str:
        """By which the server knows whether its file is still the one that began here, or ""."""
        try:
            return self.validator_path.read_text()
        except OSError:
            return ""

    @property
    def size(self) -> int:
        return _size(self.file)

    def restart(self, validator: str) -> None:
        """Empties the file; `validator` is kept for going on with it later."""
        self.validator_path.unlink(missing_ok=True)
        self.file.seek(0)
        self.file.truncate()
        if validator:
            self.validator_path.write_text(validator)

    def discard(self) -> None:
        self.restart("")


def _validator_path(path: Path) -> Path:
    return path.with_name(path.name + ".etag")


@contextmanager
def claim(path: Path, waiting: Callable[[], None]) -> Iterator[Partial]:
    """Opens or begins a partial file; waits while another process or thread has it.

    Where the file system knows no locks, the file is one of this process's own, which nobody goes
    on with.

    Args:
      path: of the file. On leaving it is removed where it is empty.
      waiting: called once where it has to be waited for.
    """
    file = _lock(path, waiting)
    shared = file is not None
    if file is None:
        path = path.with_name(f"{path.name}-{os.getpid()}-{threading.get_ident()}")
        file = path.open("w+b")
    with file:
        try:
            yield Partial(path, file)
        finally:
            if _is_at(file, path) and (_size(file) == 0 or not shared):
                path.unlink()
                _validator_path(path).unlink(missing_ok=True)


def _lock(path: Path, waiting: Callable[[], None]) -> BinaryIO | None:
    """The file opened, and locked until it is closed or this process ends, however it ends.

    None where files cannot be locked.
    """
    try:
        import fcntl
    except ImportError:
        return None
    waited = False
    while True:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(file, path):  # else its last owner has moved or removed it meanwhile
                return file
        except BlockingIOError:
            if not waited:
                waiting()
            waited = True
            time.sleep(WAIT_SECONDS)
        except OSError:
            file.close()
            path.unlink(missing_ok=True)
            return None
        file.close()


def _is_at(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _size(file: BinaryIO) -> int:
    file.flush()
    return os.fstat(file.fileno()).st_size
