"""The stream feed: a pure function of seed and step, read ahead by threads."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
import pytest

from thyrojax.config import Border, Config, CropShape
from thyrojax.data.builder import build
from thyrojax.data.crop import crop_numpy, window
from thyrojax.data.dataset import Dataset, open_dataset
from thyrojax.data.records import SourceData
from thyrojax.data.sources import read_source
from thyrojax.data.stream import Batch, TrainFeed, check_few_bad, evaluation_batches
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
            np.testing.assert_allclose(flipped["image"][row], expected, atol=1e-4)


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


@pytest.mark.parametrize("start", [0, 9, 10**9])
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


def damage(folder: Path, *positions: int) -> None:
    """Changes a byte in the middle of the stored frame of some records."""
    opened = open_dataset(folder)
    for position in positions:
        frame = opened._encoded(position)
        (shard,) = (s for s in folder.glob("*.array_record*") if frame in s.read_bytes())
        content = bytearray(shard.read_bytes())
        content[content.index(frame) + len(frame) // 2] ^= 255
        shard.write_bytes(content)


@pytest.fixture
def damaged_set(tmp_path: Path, set_folder: Path) -> Dataset:
    """A set with one damaged record."""
    shutil.copytree(set_folder, tmp_path / "set")
    damage(tmp_path / "set", 4)
    return open_dataset(tmp_path / "set")


@pytest.fixture(scope="module")
def damaged_large_set(
    tmp_path_factory: pytest.TempPathFactory, make_source: Callable[..., SourceData]
) -> Path:
    """A set of 240 records of which 7, 8 and 9 are damaged."""
    folder = build(make_source(240), tmp_path_factory.mktemp("sets") / "large", mask_overlay=False)
    damage(folder, 7, 8, 9)
    return folder


def test_a_corrupt_record_stops_the_feed_by_name(damaged_set: Dataset) -> None:
    everything = np.arange(len(damaged_set), dtype=np.int32)
    feed = TrainFeed(damaged_set, everything, PLAIN)
    with pytest.raises(DataError, match=r"record 4 \(image-4\): found"):
        list(islice(feed.batches(0), 10))
    with pytest.raises(DataError, match=r"record 4 \(image-4\): found"):
        list(evaluation_batches(damaged_set, everything, PLAIN, 6, 4))


SKIPPING = dataclasses.replace(PLAIN, on_bad_record="skip")
TWO_BAD = np.array([*range(9), *range(10, 240)], np.int32)  # 2 of 239 are 0.8 %


def clean(index: np.ndarray) -> list[int]:
    """Which record stands in each row once records 7 and 8 are skipped."""
    rows = index.tolist()
    good = [number for number, record in enumerate(rows) if record not in (7, 8)]
    return [
        rows[min(good, key=lambda other: (other - number) % len(rows))]
        for number in range(len(rows))
    ]


def test_a_bad_row_becomes_the_next_good_one(damaged_large_set: Path) -> None:
    feed = TrainFeed(open_dataset(damaged_large_set), TWO_BAD, SKIPPING)
    sound = TrainFeed(open_dataset(damaged_large_set), TWO_BAD, PLAIN)
    steps = [s for s in range(180) if {7, 8} & set(feed.draws(4, s)["index"].tolist())]
    assert len(steps) >= 4
    for step in steps:
        drawn = feed.draws(4, step)
        batch = feed.batch(4, step)
        expected = clean(drawn["index"])
        assert batch["index"].tolist() == expected
        for row, index in enumerate(expected):
            source = drawn["index"].tolist().index(index)
            assert batch["label"][row] == feed.dataset.records[index].label
            assert batch["margin"][row] == drawn["margin"][source]
            one = sound.batch(4, step, slice(source, source + 1))
            np.testing.assert_array_equal(batch["image"][row], one["image"][0])
        for number in range(4):  # a process that cuts one row replaces it alike
            rows = slice(number, number + 1)
            part = feed.batch(4, step, rows)
            assert_equal(part, {name: value[rows] for name, value in batch.items()})


def test_each_bad_record_is_told_once_with_the_step_that_first_has_it(
    damaged_large_set: Path,
) -> None:
    feed = TrainFeed(open_dataset(damaged_large_set), TWO_BAD, SKIPPING)
    assert feed.bad_records == []
    list(islice(feed.batches(0), 200))  # more than three epochs
    first = {
        record: next(step for step in range(60) if record in feed.draws(0, step)["index"])
        for record in (7, 8)
    }
    found = [(step, name) for step, name, _ in feed.bad_records]
    assert found == sorted((step, f"image-{record}") for record, step in first.items())
    for _, name, reason in feed.bad_records:
        assert f"record {name.removeprefix('image-')} ({name}): found" in reason


def test_a_bad_record_is_told_with_its_batch_whatever_the_threads_have_met_ahead(
    damaged_large_set: Path,
) -> None:
    feed = TrainFeed(open_dataset(damaged_large_set), TWO_BAD, SKIPPING)
    met = [step for step in range(60) if {7, 8} & set(feed.draws(0, step)["index"].tolist())]
    for step in met:  # as threads that are far ahead would
        feed.batch(0, step)
    assert feed.bad_records == []
    batches = feed.batches(0)
    list(islice(batches, met[0]))
    assert feed.bad_records == []
    next(batches)
    assert [step for step, _, _ in feed.bad_records] == [met[0]]
    # A process tells of its own rows; all together tell what one process does.
    told = set()
    for number in range(4):
        part = TrainFeed(open_dataset(damaged_large_set), TWO_BAD, SKIPPING)
        list(islice(part.batches(0, 0, slice(number, number + 1)), met[0] + 1))
        told |= {(step, name) for step, name, _ in part.bad_records}
    assert told == {(step, name) for step, name, _ in feed.bad_records}


def test_more_than_one_in_a_hundred_bad_records_are_refused() -> None:
    check_few_bad(Path("set"), ["image-7", "image-8"], 240)
    with pytest.raises(
        DataError,
        match=r"set: found 3 of 240 training records .*\(image-7, image-8, image-9\), "
        r"expected at most 2 \(1 %\)",
    ):
        check_few_bad(Path("set"), ["image-7", "image-8", "image-9"], 240)


def test_a_batch_of_nothing_but_bad_records_is_refused(damaged_large_set: Path) -> None:
    config = dataclasses.replace(SKIPPING, batch_size=1)
    feed = TrainFeed(open_dataset(damaged_large_set), TWO_BAD, config)
    step = next(s for s in range(300) if feed.draws(0, s)["index"][0] in (7, 8))
    with pytest.raises(DataError, match=rf"step {step}: found no record of the batch"):
        feed.batch(0, step)


def test_mixing_takes_the_replacing_row_too(damaged_large_set: Path) -> None:
    config = dataclasses.replace(SKIPPING, mixup=0.4, cutmix=1.0, gain=0.2)
    feed = TrainFeed(open_dataset(damaged_large_set), TWO_BAD, config)
    step = next(s for s in range(180) if 7 in feed.draws(0, s)["index"])
    whole = feed.batch(0, step)
    row = feed.draws(0, step)["index"].tolist().index(7)
    next_row = (row + 1) % 4
    for name in ("image", "label", "target", "index"):
        np.testing.assert_array_equal(whole[name][row], whole[name][next_row])
    part = feed.batch(0, step, slice(row, row + 1))
    assert_equal(part, {name: value[row : row + 1] for name, value in whole.items()})


def test_a_frame_is_read_from_whichever_of_its_records_is_sound(
    tmp_path: Path, make_source: Callable[..., SourceData]
) -> None:
    source = make_source(12)
    nodules = [
        dataclasses.replace(nodule, image=source.nodules[i // 2].image)
        for i, nodule in enumerate(source.nodules)
    ]
    source = dataclasses.replace(source, nodules=tuple(nodules))
    folder = build(source, tmp_path / "pairs", mask_overlay=False)
    damage(folder, 4, 6, 7)
    for cache_mb in (0, 1):
        opened = open_dataset(folder, cache_mb)
        np.testing.assert_array_equal(opened.frame(4), opened.frame(5))
        for index in (6, 7):
            with pytest.raises(DataError, match=rf"record {index} \(image-{index}\): found"):
                opened.frame(index)


def test_evaluation_never_skips(damaged_large_set: Path) -> None:
    with pytest.raises(DataError, match=r"record 7 \(image-7\)"):
        list(evaluation_batches(open_dataset(damaged_large_set), TWO_BAD, SKIPPING, 6, 4))


def test_opencv_gets_its_threads_back(small_set: Dataset) -> None:
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(3)
        feed = TrainFeed(small_set, SOME, PLAIN)
        one, other = feed.batches(0), feed.batches(1)
        next(one)
        next(other)
        list(evaluation_batches(small_set, SOME, PLAIN, 6, 4))
        assert cv2.getNumThreads() == 1
        one.close()
        assert cv2.getNumThreads() == 1
        other.close()
        assert cv2.getNumThreads() == 3
    finally:
        cv2.setNumThreads(before)


@pytest.mark.parametrize("border", get_args(Border))
@pytest.mark.parametrize("shape", get_args(CropShape))
def test_rows_below_the_window_are_not_needed(
    tmp_path: Path, border: Border, shape: CropShape
) -> None:
    """Of a JPEG the feed decodes only the top; the batch is that of whole frames."""
    picture = cv2.GaussianBlur(
        np.random.default_rng(0).integers(0, 256, (400, 200), np.uint8), (5, 5), 2
    )
    lines = ["image,image_id,patient_id,x_min,y_min,x_max,y_max,label"]
    for i, (y_min, y_max) in enumerate([(0, 12), (3, 90), (60, 84), (200, 260), (380, 400)]):
        cv2.imwrite(str(tmp_path / f"{i}.jpg"), np.roll(picture, i, axis=1))
        lines.append(f"{i}.jpg,{i},p{i},{40 + 30 * i},{y_min},{70 + 30 * i},{y_max},{i % 2}")
    (tmp_path / "table.csv").write_text("\n".join(lines) + "\n")
    folder = build(read_source("csv", tmp_path / "table.csv"), tmp_path / "set", mask_overlay=False)
    config = dataclasses.replace(PLAIN, border=border, crop_shape=shape, margin_max=60)
    short, whole = open_dataset(folder), open_dataset(folder, cache_mb=1)
    assert len(short.top_rows(0, 20)) == 20
    indices = np.arange(5, dtype=np.int32)
    for step in range(6):
        one = TrainFeed(short, indices, config).batch(0, step)
        assert_equal(one, TrainFeed(whole, indices, config).batch(0, step))
        for row in range(4):
            assert one["label"][row] == one["index"][row] % 2
