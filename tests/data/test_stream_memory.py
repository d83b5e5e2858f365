"""A feed over a set larger than its cache holds what it says, and no more however long it runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from thyrojax.data.builder import build
from thyrojax.data.records import SourceData

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/statm").is_file(), reason="memory is read from /proc"
)
MIB = 2**20
FRAMES, WARM_UP, STEPS = 300, 300, 1500
FRAME = 60 * 80  # bytes of each frame

# A process of its own: what other tests freed would hide what this one takes.
CODE = """
import json, os, sys, time
import numpy as np
from thyrojax.config import Config
from thyrojax.data.dataset import open_dataset
from thyrojax.data.stream import TrainFeed

folder, cache_mb, input_size, batch_size, warm_up, steps = sys.argv[1], *map(int, sys.argv[2:])

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

config = Config(input_size=input_size, batch_size=batch_size, margin_max=12)
first = open_dataset(folder)
indices = np.arange(len(first), dtype=np.int32)
TrainFeed(first, indices, config).batch(0, 0, slice(1))  # imports and tables
before = resident()
dataset = open_dataset(folder, cache_mb)
feed = TrainFeed(dataset, indices, config)
batches = feed.batches(0)
for _ in range(warm_up):
    next(batches)
warm = resident()
most = 0
for step in range(steps):
    next(batches)
    if step % 50 == 0:
        time.sleep(0.2)  # the threads fill what waits
        most = max(most, resident())
print(json.dumps({
    "taken": most - before,
    "grown": most - warm,
    "bound": feed.memory_bound(),
    "cached": dataset.cached_bytes,
}))
sys.stdout.flush()
os._exit(0)
"""


def measure(folder: Path, *numbers: int) -> dict[str, int]:
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(folder), *map(str, numbers)],
        capture_output=True,
        text=True,
        check=False,
        # Freed arrays go back at once: glibc would keep some for each thread (`memory_bound`).
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": str(2**16)},
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def larger_set(
    tmp_path_factory: pytest.TempPathFactory, make_source: Callable[..., SourceData]
) -> Path:
    """A set whose decoded frames, 1.4 MiB, pass a cache of 1 MiB."""
    return build(make_source(FRAMES), tmp_path_factory.mktemp("sets") / "set", mask_overlay=False)


@pytest.mark.parametrize("cache_mb", [0, 1])
def test_a_set_larger_than_the_cache_streams_without_growth(
    larger_set: Path, cache_mb: int
) -> None:
    found = measure(larger_set, cache_mb, 75, 4, WARM_UP, STEPS)
    assert found["cached"] == cache_mb * MIB // FRAME * FRAME
    assert found["grown"] < 3 * MIB
    # What these steps decode is 27 MiB, and the crops of one row of each 32 MiB.
    assert STEPS * 4 * FRAME > 27 * MIB


def test_the_feed_takes_no_more_than_it_says(larger_set: Path) -> None:
    found = measure(larger_set, 1, 384, 16, 20, 60)
    assert found["bound"] > 16 * 384 * 384 * 4 * 4
    assert found["bound"] / 2 < found["taken"] < found["bound"] + 4 * MIB
