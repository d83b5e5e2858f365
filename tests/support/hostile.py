"""Files that are wrong: a reader makes weights of them or one clear error, and soon."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from thyrojax.errors import WeightsError

MAX_SECONDS = 3.0  # a third of that on a machine at rest


def mutate(content: bytes, rng: np.random.Generator, header: int) -> bytes:
    """One to four changes; half of them within the first or last `header` bytes."""
    changed = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        if not changed:
            break
        place = int(rng.integers(len(changed)))
        if rng.random() < 0.5:
            place = int(rng.integers(min(header, len(changed))))
            place = place if rng.random() < 0.5 else len(changed) - 1 - place
        length = int(rng.integers(1, 64))
        kind = rng.integers(6)
        if kind == 0:
            changed[place] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            changed[place : place + length] = bytes(rng.integers(0, 256, length, np.uint8))
        elif kind == 2:
            changed[place : place + length] = bytes([int(rng.choice([0, 0x7F, 0xFF]))] * length)
        elif kind == 3:
            del changed[place : place + length]
        elif kind == 4:
            changed[place:place] = changed[place : place + length]
        else:
            del changed[place:]
    return bytes(changed)


def fuzz(
    path: Path,
    read: Callable[[Path], object],
    n: int,
    seed: int = 0,
    header: int = 4096,
    target: Path | None = None,
    max_seconds: float = MAX_SECONDS,
) -> dict[str, int]:
    """Damages a small valid file `n` times and reads it each time.

    Args:
      path: the file to damage; `target` (default: `path` itself, restored at the end) is written.
      read: of the whole format, given `target`'s path.
      header: how many bytes at either end are hit most.
      max_seconds: that one read may take.

    Returns:
      How many reads ended with weights ("read") and with a WeightsError ("refused"); any other
      exception is a bug and passes, as does a message of several lines or a read that takes long.
    """
    content = path.read_bytes()
    target = target or path
    rng = np.random.default_rng(seed)
    counts = {"read": 0, "refused": 0}
    try:
        for i in range(n):
            target.write_bytes(mutate(content, rng, header))
            start = time.thread_time()
            message = ""
            try:
                read(target)
                counts["read"] += 1
            except WeightsError as error:
                message = str(error)
                counts["refused"] += 1
            seconds = time.thread_time() - start
            assert "\n" not in message, f"mutation {i}: a message of several lines"
            assert seconds < max_seconds, f"mutation {i}: {seconds:.1f} s"
    finally:
        target.write_bytes(content)
    return counts


def assert_refused(
    read: Callable[[Path], object], path: Path, *patterns: str, max_seconds: float = 10.0
) -> None:
    """One line that begins with the file and matches each pattern, in seconds of its own work."""
    start = time.thread_time()
    with pytest.raises(WeightsError) as caught:
        read(path)
    assert time.thread_time() - start < max_seconds
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    for pattern in patterns:
        assert caught.match(pattern)
