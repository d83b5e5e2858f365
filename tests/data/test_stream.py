"""The stream feed: a pure function of seed and step, read ahead by threads."""

from __future__ import annotations

import dataclasses
import shutil
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from thyrojax.config import Config
from thyrojax.data.crop import crop_numpy, window
from thyrojax.data.dataset import Dataset, open_dataset
from thyrojax.data.stream import Batch, TrainFeed, evaluation_batches
from thyrojax.errors import DataError

PLAIN = Config(input_size=75, batch_size=4, margin_max=12)
SOME = np.array([0, 3, 4, 7, 8, 11, 12, 15, 16, 19, 20], np.int32)


def assert_equal(one: Batch, other: Batch) -> None:
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def reference(small_set: Dataset, batch: Batch, row: int, config: Config) -> np.ndarray:
    index = int(batch["index"][row])
    frame, box = small_set.frame(index), small_set.records[index].box
    height, width = frame.shape
    margin = int(batch["margin"][row])
    cut = window(box, margin, config.crop_shape, config.border, height, width)
    return crop_numpy(frame, cut, config.input_size, config.border)


def test_a_batch_holds_what_it_says(small_set: Dataset) -> None:
    config = dataclasses.replace(PLAIN, flip=False)
    batch = TrainFeed(small_set, SOME, config).batch(seed=5, step=2)
    assert {name: (value.dtype.name, value.shape) for name, value in batch.items()} == {
        "image": ("float32", (4, 75, 75, 1)),
        "label": ("int32", (4,)),
        "index": ("int32", (4,)),
        "margin": ("int32", (4,)),
    }
    for row in range(4):
        assert batch["index"][row] in SOME
        assert batch["label"][row] == small_set.records[batch["index"][row]].label
        expected = reference(small_set, batch, row, config)
        np.testing.assert_allclose(batch["image"][row, :, :, 0], expected, atol=1e-3)


def test_same_seed_and_step_give_the_same_bytes(small_set: Dataset, set_folder: Path) -> None:
    feed = TrainFeed(small_set, SOME, PLAIN)
    once = feed.batch(7, 3)
    feed.batch(8, 0)
    feed.batch(7, 50)
    assert_equal(feed.batch(7, 3), once)
    assert_equal(TrainFeed(open_dataset(set_folder), SOME, PLAIN).batch(7, 3), once)
    assert not np.array_equal(feed.batch(8, 3)["margin"], once["margin"])
    assert not np.array_equal(feed.batch(7, 4)["margin"], once["margin"])


@pytest.mark.parametrize("seed", [0, -1, 2**40])
def test_every_epoch_is_a_permutation_of_its_own(small_set: Dataset, seed: int) -> None:
    feed = TrainFeed(small_set, SOME, PLAIN)
    steps = [feed.draws(seed, step) for step in range(3 * len(SOME))]  # 12 epochs of 11 records
    index = np.concatenate([draws["index"] for draws in steps]).reshape(12, 11)
    for epoch in index:
        np.testing.assert_array_equal(np.sort(epoch), SOME)
    assert len({tuple(epoch) for epoch in index.tolist()}) == 12


def test_margins_cover_both_ends_evenly(small_set: Dataset) -> None:
    feed = TrainFeed(small_set, SOME, dataclasses.replace(PLAIN, margin_min=3, margin_max=6))
    margin = np.concatenate([feed.draws(0, step)["margin"] for step in range(100)])
    values, counts = np.unique(margin, return_counts=True)
    assert values.tolist() == [3, 4, 5, 6]
    # 100 each of 400: four standard deviations are 35.
    assert np.abs(counts - 100).max() < 35


def test_half_of_the_rows_are_flipped(small_set: Dataset) -> None:
    feed = TrainFeed(small_set, SOME, PLAIN)
    flip = np.concatenate([feed.draws(0, step)["flip"] for step in range(100)])
    assert abs(flip.sum() - 200) < 40  # four standard deviations
    plain = TrainFeed(small_set, SOME, dataclasses.replace(PLAIN, flip=False))
    for step in range(5):
        flipped, straight = feed.batch(0, step), plain.batch(0, step)
        np.testing.assert_array_equal(flipped["margin"], straight["margin"])
        for row, turned in enumerate(feed.draws(0, step)["flip"]):
            expected = straight["image"][row, :, :: -1 if turned else 1]
            np.testing.assert_array_equal(flipped["image"][row], expected)


def test_gain_and_contrast_change_tone_as_stated(small_set: Dataset) -> None:
    config = dataclasses.replace(PLAIN, gain=0.3, contrast=0.5)
    feed = TrainFeed(small_set, SOME, config)
    plain = TrainFeed(small_set, SOME, PLAIN)
    seen: list[tuple[np.ndarray, np.ndarray]] = []
    for step in range(40):
        draws = feed.draws(2, step)
        seen.append((draws["gain"], draws["contrast"]))
        if step < 5:
            before, after = plain.batch(2, step)["image"], feed.batch(2, step)["image"]
            mean = before.mean(axis=(1, 2, 3), dtype=np.float64)
            for row in range(4):
                gain, contrast = float(draws["gain"][row]), float(draws["contrast"][row])
                toned = gain * (mean[row] + contrast * (before[row] - mean[row]))
                np.testing.assert_allclose(after[row], np.clip(toned, 0, 255), atol=1e-2)
    gains = np.concatenate([gain for gain, _ in seen])
    contrasts = np.concatenate([contrast for _, contrast in seen])
    assert 0.7 <= gains.min() < 0.76
    assert 1.24 < gains.max() <= 1.3
    assert 0.5 <= contrasts.min() < 0.6
    assert 1.4 < contrasts.max() <= 1.5


@pytest.mark.parametrize("start", [0, 9, 10**12])
def test_iterator_gives_the_batches_from_any_step(small_set: Dataset, start: int) -> None:
    feed = TrainFeed(small_set, SOME, PLAIN)
    for offset, batch in enumerate(islice(feed.batches(3, start), 12)):
        assert_equal(batch, feed.batch(3, start + offset))


def test_a_process_can_cut_only_its_own_rows(small_set: Dataset) -> None:
    feed = TrainFeed(small_set, SOME, PLAIN)
    whole = feed.batch(1, 6)
    for process in range(2):
        rows = slice(2 * process, 2 * process + 2)
        for part in (feed.batch(1, 6, rows), next(feed.batches(1, 6, rows))):
            assert_equal(part, {name: value[rows] for name, value in whole.items()})


def test_cached_and_uncached_feeds_are_equal(set_folder: Path) -> None:
    kept, read = open_dataset(set_folder, cache_mb=1), open_dataset(set_folder)
    assert (kept.cached, read.cached) == (True, False)
    one, other = TrainFeed(kept, SOME, PLAIN), TrainFeed(read, SOME, PLAIN)
    for step in (0, 1, 0, 7):
        assert_equal(one.batch(0, step), other.batch(0, step))


def test_a_batch_may_be_larger_than_the_set(small_set: Dataset) -> None:
    config = dataclasses.replace(PLAIN, batch_size=9)
    batch = TrainFeed(small_set, np.array([5, 2], np.int32), config).batch(0, 0)
    assert np.unique(batch["index"][:8], return_counts=True)[1].tolist() == [4, 4]


@pytest.mark.parametrize("batch_size", [1, 4, 11, 32])
def test_evaluation_sees_every_nodule_once(small_set: Dataset, batch_size: int) -> None:
    batches = list(evaluation_batches(small_set, SOME, PLAIN, 6, batch_size))
    assert len(batches) == -(-len(SOME) // batch_size)
    for batch in batches:
        assert batch["image"].shape == (batch_size, 75, 75, 1)
        padding = ~batch["mask"]
        assert not batch["image"][padding].any()
        assert (batch["index"][padding] == -1).all()
        assert (batch["label"][padding] == 0).all()
        for row in np.flatnonzero(batch["mask"]).tolist():
            assert batch["margin"][row] == 6
            assert batch["label"][row] == small_set.records[batch["index"][row]].label
            expected = reference(small_set, batch, row, PLAIN)
            np.testing.assert_allclose(batch["image"][row, :, :, 0], expected, atol=1e-3)
    seen = np.concatenate([batch["index"][batch["mask"]] for batch in batches])
    np.testing.assert_array_equal(seen, SOME)


@pytest.mark.parametrize(
    ("indices", "message"),
    [([], "found none"), ([1, 2, 1], "found a record twice"), ([0, 23], "found one outside 0..22")],
)
def test_impossible_indices_are_refused(
    small_set: Dataset, indices: list[int], message: str
) -> None:
    chosen = np.array(indices, np.int32)
    with pytest.raises(ValueError, match=message):
        TrainFeed(small_set, chosen, PLAIN)
    with pytest.raises(ValueError, match=message):
        next(evaluation_batches(small_set, chosen, PLAIN, 6, 4))


@pytest.fixture
def damaged_set(tmp_path: Path, set_folder: Path) -> Dataset:
    """A set whose middle record is damaged after it was opened."""
    folder = tmp_path / "set"
    shutil.copytree(set_folder, folder)
    opened = open_dataset(folder)
    (records,) = folder.glob("*.array_record*")
    content = bytearray(records.read_bytes())
    content[len(content) // 2] ^= 255
    records.write_bytes(content)
    return opened


def test_a_corrupt_record_stops_the_feed_by_name(damaged_set: Dataset) -> None:
    everything = np.arange(len(damaged_set), dtype=np.int32)
    feed = TrainFeed(damaged_set, everything, PLAIN)
    with pytest.raises(DataError, match=r"record \d+ \(image-\d+\): found"):
        list(islice(feed.batches(0), 10))
    with pytest.raises(DataError, match=r"record \d+ \(image-\d+\): found"):
        list(evaluation_batches(damaged_set, everything, PLAIN, 6, 4))
