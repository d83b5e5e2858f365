"""Frames kept in memory: as many as fit, never more, and the same pixels either way."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from thyrojax.data.builder import build
from thyrojax.data.dataset import open_dataset
from thyrojax.data.frame_cache import FrameCache
from thyrojax.data.records import SourceData

FRAME = 60 * 80  # bytes of a frame of the fixture's sets


def frame(value: int) -> np.ndarray:
    return np.full((10, 10), value, np.uint8)


def test_the_first_frames_that_fit_are_kept_for_good() -> None:
    cache = FrameCache(limit=250)
    for value in (1, 2, 3, 4):
        cache.keep(str(value), frame(value))
        assert cache.bytes <= 250
    assert [cache.get(str(value)) is None for value in (1, 2, 3, 4)] == [False, False, True, True]
    assert (len(cache), cache.bytes) == (2, 200)
    assert cache.has_room(50)
    assert not cache.has_room(51)
    cache.keep("small", frame(5)[:5])  # a smaller one still finds room
    assert cache.bytes == 250


def test_a_frame_that_is_kept_is_read_only_and_its_double_is_dropped() -> None:
    cache = FrameCache(limit=1000)
    kept = cache.keep("a", frame(7))
    assert cache.keep("a", frame(7)) is kept
    assert cache.get("a") is kept
    assert not kept.flags.writeable
    assert cache.bytes == 100
    refused = FrameCache(limit=0).keep("a", frame(7))
    assert refused.flags.writeable


def test_threads_never_pass_the_limit() -> None:
    cache = FrameCache(limit=1050)
    names = [str(i % 40) for i in range(4000)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: cache.keep(name, frame(int(name))), names))
    assert (len(cache), cache.bytes) == (10, 1000)


def test_a_set_keeps_frames_from_their_first_use_on(set_folder: Path) -> None:
    none_kept, kept = open_dataset(set_folder), open_dataset(set_folder, cache_mb=1)
    assert kept.frame_bytes == 23 * FRAME
    assert kept.cached_bytes == 0
    assert kept.frame(3) is kept.frame(3)
    assert not kept.frame(3).flags.writeable
    assert kept.cached_bytes == FRAME
    assert none_kept.frame(3) is not none_kept.frame(3)
    assert none_kept.cached_bytes == 0
    np.testing.assert_array_equal(kept.frame(3), none_kept.frame(3))


def test_a_set_larger_than_the_budget_is_kept_in_part(
    tmp_path: Path, make_source: Callable[..., SourceData]
) -> None:
    folder = build(make_source(230), tmp_path / "set", mask_overlay=False)
    opened, plain = open_dataset(folder, cache_mb=1), open_dataset(folder)
    for _ in range(2):
        for index in range(len(opened)):
            np.testing.assert_array_equal(opened.frame(index), plain.frame(index))
    assert opened.frame_bytes > 2**20
    assert opened.cached_bytes == 2**20 // FRAME * FRAME
    assert opened.frame(0) is opened.frame(0)
    assert opened.frame(229) is not opened.frame(229)


@pytest.mark.parametrize("cache_mb", [0, 1])
def test_the_top_rows_are_those_of_the_frame(set_folder: Path, cache_mb: int) -> None:
    opened = open_dataset(set_folder, cache_mb)
    for rows in (1, 33, 60, 500):
        top = opened.top_rows(5, rows)
        assert min(rows, 60) <= len(top) <= 60
        np.testing.assert_array_equal(top, opened.frame(5)[: len(top)])
