"""The stream feed: batches cut on the host by threads, to any size of set.

What a training batch holds is a function of (seed, step) alone (`draws.draw`); cutting it is what
costs. Grain runs the cutting in threads ahead of the consumer. One process of several cuts its own
rows of the global batch. A row whose record cannot be read stops the feed, or is replaced.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import grain
import numpy as np

from thyrojax.config import Config
from thyrojax.data import augment
from thyrojax.data.crop import Window, crop_opencv, crop_turned, rows_read, window
from thyrojax.data.dataset import Dataset, Record
from thyrojax.data.draws import (
    MOST_ROWS,
    Draws,
    draw,
    margin_bounds,
    margin_of,
    mixing_weights,
    most_bad,
)
from thyrojax.errors import DataError
from thyrojax.shapes import Float, Int

Batch = dict[str, np.ndarray]
ALL_ROWS = slice(None)
PREFETCH_BYTES = 2**30  # of batches cut ahead of the consumer

# Of `_opencv_alone`: how many feeds run, and OpenCV's setting before the first.
_feeds, _opencv_threads, _feeds_lock = 0, 1, threading.Lock()


class TrainFeed:
    """Training batches over the records `indices` of a set (Guan et al. 2019, "Image preparation").

    Every epoch sees every record once, in an order of its own; a batch may span two epochs. Each
    time a record is seen, its margin is drawn uniformly from the whole pixels between margin_min
    and margin_max, both included, and so is what else the configuration asks for (`augment`).

    A record that cannot be read stops the feed by default. With on_bad_record="skip" its row of the
    batch becomes the next readable row of the same batch, cyclically: pixels, label and all. Then
    `bad_records` tells of each such record once: (step that first met it, image_id, reason), when
    `batches` gives that step's batch, whatever the threads have met ahead of it.
    """

    def __init__(self, dataset: Dataset, indices: Int[np.ndarray, " n"], config: Config) -> None:
        """Raises ValueError where `indices` is empty or repeats a record, and DataError where
        margins are in millimetres and a record has no pixel spacing.
        """
        _check_indices(dataset, indices)
        self.dataset = dataset
        self.indices = np.asarray(indices, np.int32)
        self.config = config
        self.bad_records: list[tuple[int, str, str]] = []
        self._bad: dict[int, str] = {}  # index -> reason, as met by the threads
        self._told: set[int] = set()  # indices that `bad_records` has
        self._labels = np.array([record.label for record in dataset.records], np.int32)
        low, high = margin_bounds(config, [dataset.records[i] for i in self.indices])
        self._tables = {
            "margin_low": low,
            "margin_high": high,
            "weights": mixing_weights(config),
        }

    def draws(self, seed: int, step: int, rows: slice | np.ndarray = ALL_ROWS) -> Draws:
        """What batch `step` (0, 1, ...) is to hold, without its pixels: see `draws.draw`.

        Beside its entries, `index` int32 [rows] has the positions in `dataset.records`.
        """
        numbers = np.arange(self.config.batch_size, dtype=np.int32)[rows]
        drawn = draw(np, self.config, len(self.indices), step, numbers, seed=seed, **self._tables)
        return {**drawn, "index": self.indices[drawn["position"]]}

    def batch(self, seed: int, step: int, rows: slice = ALL_ROWS) -> Batch:
        """Batch `step`, or the given rows of it, cutting no others (but those mixed into them).

        `image` float32 [batch, size, size, 1] in 0..255, `label` int32 [batch], `index` int32
        [batch], positions in `dataset.records`, and `margin` int32 [batch], pixels. With mixup or
        CutMix also `target` float32 [batch], the share of malignant.

        Raises:
          DataError: a record that cannot be read, by name; or, where such are skipped, all of a
            batch.
        """
        numbers = np.arange(self.config.batch_size, dtype=np.int32)[rows]
        found, drawn = self._cut(seed, step, numbers)
        if augment.mixes(self.config):
            others = self._partners(drawn, found, seed, step, numbers)
            found["image"], found["target"] = augment.mix(
                np,
                found["image"],
                others["image"],
                found["label"],
                others["label"],
                drawn,
                self.config,
            )
        return found

    def batches(self, seed: int, start_step: int = 0, rows: slice = ALL_ROWS) -> Iterator[Batch]:
        """`batch(seed, step, rows)` for step = start_step, start_step + 1, ... without end.

        Threads cut ahead of the consumer; starting late costs nothing. Errors are those of `batch`.
        """
        steps = range(start_step, MOST_ROWS // self.config.batch_size)
        count = len(range(*rows.indices(self.config.batch_size)))
        ahead = _ahead(
            steps, lambda step: self.batch(seed, step, rows), _batch_bytes(count, self.config)
        )
        for step, batch in zip(steps, ahead, strict=True):
            if self._bad:
                self._tell(step, self.draws(seed, step, rows)["index"])
            yield batch

    def memory_bound(self, rows: slice = ALL_ROWS) -> int:
        """Bytes that `batches` holds at most beside the records: cache, batches and working space.

        Batches are those cut ahead, one handed over and one with the consumer. Each thread works on
        one frame, encoded and decoded, and one window in bytes and in float32. Each member of a run
        has batches and threads of its own. Beyond that, glibc may keep what was freed for its
        threads, unless the environment sets MALLOC_MMAP_THRESHOLD_=65536.
        """
        batch = _batch_bytes(len(range(*rows.indices(self.config.batch_size))), self.config)
        options = _read_options(batch)
        records = [self.dataset.records[i] for i in self.indices]
        if self.config.crop_shape == "frame":
            side = max(max(record.width, record.height) for record in records)
        else:
            side = max(max(record.box.width, record.box.height) for record in records)
            side += 2 * int(self._tables["margin_high"].max())
        if augment.turns(self.config):  # the upright square about a turned one
            side = int(side * 2.0**0.5 / (1.0 - self.config.zoom)) + 2
        working = 2 * self.dataset.largest_frame_bytes + 5 * side**2
        if augment.changes(self.config) or augment.turns(self.config):
            working += 16 * _batch_bytes(1, self.config)  # arrays of a crop's size
        if augment.mixes(self.config):
            working += 6 * batch  # the partners, and what is made of both
        batches = (options.prefetch_buffer_size + 2) * batch
        return (
            min(self.dataset.frame_bytes, self.dataset.cache_limit)
            + (batches + options.num_threads * working) * self.config.members
        )

    def _cut(self, seed: int, step: int, numbers: Int[np.ndarray, " rows"]) -> tuple[Batch, Draws]:
        """Rows of a batch by their numbers in it; their draws, or those of the replacing row."""
        config = self.config
        drawn = self.draws(seed, step, numbers)
        image = np.empty((len(numbers), config.input_size, config.input_size, 1), np.float32)
        for place, number in enumerate(numbers.tolist()):
            if self._cut_row(drawn, place, seed, image[place, :, :, 0]):
                continue
            whole = self.draws(seed, step)
            after = ((number + ahead) % config.batch_size for ahead in range(1, config.batch_size))
            for other in after:
                if self._cut_row(whole, other, seed, image[place, :, :, 0]):
                    drawn = {name: np.array(values) for name, values in drawn.items()}
                    for name, values in drawn.items():
                        values[place] = whole[name][other]
                    break
            else:
                raise DataError(
                    f"{self.dataset.folder}, step {step}: found no record of the batch that can be "
                    "read, expected at least one; build the set again"
                )
        index = drawn["index"]
        batch = {
            "image": image,
            "label": self._labels[index],
            "index": index,
            "margin": drawn["margin"],
        }
        return batch, drawn

    def _cut_row(
        self, drawn: Draws, place: int, seed: int, out: Float[np.ndarray, "size size"]
    ) -> bool:
        """Cuts one row into `out`; False where its record cannot be read and is to be skipped."""
        index = int(drawn["index"][place])
        if index not in self._bad:
            try:
                self._crop(drawn, place, seed, out)
                return True
            except DataError as error:
                if self.config.on_bad_record == "stop":
                    raise
                self._bad[index] = str(error)
        return False

    def _tell(self, step: int, indices: Int[np.ndarray, " rows"]) -> None:
        """Adds the bad ones of a step's records to `bad_records`, by their names."""
        new = {i for i in indices.tolist() if i in self._bad} - self._told
        self._told |= new
        found = [(step, self.dataset.records[i].image_id, self._bad[i]) for i in new]
        self.bad_records += sorted(found)

    def _crop(
        self, drawn: Draws, place: int, seed: int, out: Float[np.ndarray, "size size"]
    ) -> None:
        """One row's crop after all but mixing, into `out`."""
        config, size = self.config, self.config.input_size
        index = int(drawn["index"][place])
        record, margin = self.dataset.records[index], int(drawn["margin"][place])
        flips = bool(drawn["flip"][place]), bool(drawn["vertical_flip"][place])
        if not augment.turns(config) and not augment.changes(config):
            _crop(self.dataset, index, margin, config, flips, out)
            return
        row = {name: values[place] for name, values in drawn.items()}
        box = record.box
        cut = _window(record, margin, config)
        left, top = box.x_min - cut.left, box.y_min - cut.top
        edges = (left, top, left + box.width, top + box.height)
        mirrored = np.s_[:: -1 if flips[1] else 1, :: -1 if flips[0] else 1]
        if augment.turns(config):
            columns, rows = augment.turned_positions(np, cut.width, cut.height, size, row)
            frame = self.dataset.frame(index)
            out[:] = crop_turned(frame, cut, columns, rows, config.border)[mirrored]
            inside = augment.box_in_turned_crop(columns, rows, edges)
        else:
            _crop(self.dataset, index, margin, config, flips, out)
            inside = augment.box_in_upright_crop(np, cut.width, cut.height, size, edges)
        if augment.changes(config):
            out[:] = augment.change_crop(np, out, row, config, seed, inside[mirrored])

    def _partners(
        self, drawn: Draws, found: Batch, seed: int, step: int, numbers: Int[np.ndarray, " rows"]
    ) -> Batch:
        """The rows that are mixed into these, cut where they are not among them."""
        own = {row: place for place, row in enumerate(numbers.tolist())}
        missing = [row for row in drawn["partner"].tolist() if row not in own]
        images, labels = found["image"], found["label"]
        if missing:
            more, _ = self._cut(seed, step, np.array(missing, np.int32))
            images = np.concatenate([images, more["image"]])
            labels = np.concatenate([labels, more["label"]])
            own |= {row: len(own) + place for place, row in enumerate(missing)}
        places = [own[row] for row in drawn["partner"].tolist()]
        return {"image": images[places], "label": labels[places]}


def evaluation_batches(
    dataset: Dataset,
    indices: Int[np.ndarray, " n"],
    config: Config,
    margin: int,
    batch_size: int,
    rows: slice = ALL_ROWS,
) -> Iterator[Batch]:
    """Every record of `indices` once and in order, in batches of one size; or some rows of each.

    Beside the entries of `TrainFeed.batch` a batch has `mask` bool [batch]: False where the last
    batch is padded (image 0, label 0, index -1). Nothing is drawn: one margin, no flip.

    Raises:
      ValueError: `indices` is empty or repeats a record.
      DataError: a record that cannot be read, by name.
    """
    _check_indices(dataset, indices)
    indices = np.asarray(indices, np.int32)
    count = len(range(*rows.indices(batch_size)))
    # What these rows are of, over all batches; beyond the last record they are padding.
    places = np.arange(-(-len(indices) // batch_size) * batch_size).reshape(-1, batch_size)[:, rows]
    expected = indices[places[places < len(indices)]]

    def cut(start: int) -> Batch:
        index = indices[start : start + batch_size][rows]
        padded = np.full(count, -1, np.int32)
        padded[: len(index)] = index
        image = np.zeros((count, config.input_size, config.input_size, 1), np.float32)
        label = np.zeros(count, np.int32)
        for row, i in enumerate(index.tolist()):
            record = dataset.records[i]
            pixels = margin_of(record, margin, config)
            _crop(dataset, i, pixels, config, (False, False), image[row, :, :, 0])
            label[row] = record.label
        margins = np.full(count, margin, np.int32)
        return {
            "image": image,
            "label": label,
            "index": padded,
            "margin": margins,
            "mask": padded >= 0,
        }

    starts = range(0, len(indices), batch_size)
    seen: list[np.ndarray] = []
    for batch in _ahead(starts, cut, _batch_bytes(count, config)):
        seen.append(batch["index"][batch["mask"]])
        yield batch
    if not np.array_equal(np.concatenate(seen), expected):
        found = sum(map(len, seen))
        raise AssertionError(f"evaluation saw {found} of {len(expected)} records once")


def check_few_bad(folder: Path, bad_records: Sequence[str], n_train: int) -> None:
    """That at most 1 % of a run's training records cannot be read.

    Args:
      folder: of the set.
      bad_records: their image_id, those found by all processes and before all resumes.
      n_train: how many training records there are.

    Raises:
      DataError: there are more.
    """
    most = most_bad(n_train)
    if len(bad_records) > most:
        raise DataError(
            f"{folder}: found {len(bad_records)} of {n_train} training records that cannot be read "
            f"({', '.join(bad_records[:5])}), expected at most {most} (1 %); build the set again"
        )


def _check_indices(dataset: Dataset, indices: Int[np.ndarray, " n"]) -> None:
    if len(indices) == 0:
        raise ValueError("indices: found none, expected at least one record")
    if len(np.unique(indices)) != len(indices):
        raise ValueError("indices: found a record twice, expected each once")
    if indices.min() < 0 or indices.max() >= len(dataset):
        raise ValueError(f"indices: found one outside 0..{len(dataset) - 1}")


def _window(record: Record, margin: int, config: Config) -> Window:
    return window(record.box, margin, config.crop_shape, config.border, record.height, record.width)


def _crop(
    dataset: Dataset,
    index: int,
    margin: int,
    config: Config,
    flips: tuple[bool, bool],
    out: Float[np.ndarray, "size size"],
) -> None:
    """A record's crop at a margin in pixels into `out`; `flips` are horizontal and vertical."""
    record = dataset.records[index]
    cut = _window(record, margin, config)
    frame = dataset.top_rows(index, rows_read(cut, record.height, config.border))
    crop_opencv(frame, cut, config.input_size, config.border, *flips, out=out)


def _ahead(steps: range, cut: Callable[[int], Batch], batch_bytes: int) -> Iterator[Batch]:
    """`cut(step)` for each step in order, by threads ahead of the consumer."""
    batches = grain.MapDataset.source(steps).map(cut)
    with _opencv_alone():
        yield from batches.to_iter_dataset(_read_options(batch_bytes))


@contextlib.contextmanager
def _opencv_alone() -> Iterator[None]:
    """OpenCV without threads of its own, which wait for cores that ours are on already.

    Its setting is the whole process's: it is put back when the last feed ends.
    """
    import cv2

    global _feeds, _opencv_threads
    with _feeds_lock:
        if _feeds == 0:
            _opencv_threads = cv2.getNumThreads()
            cv2.setNumThreads(1)
        _feeds += 1
    try:
        yield
    finally:
        with _feeds_lock:
            _feeds -= 1
            if _feeds == 0:
                cv2.setNumThreads(_opencv_threads)


def _read_options(batch_bytes: int) -> grain.ReadOptions:
    """One thread a core; two batches waiting for each, or as many as `PREFETCH_BYTES` hold."""
    threads = _cores()
    waiting = max(2, min(2 * threads, PREFETCH_BYTES // batch_bytes))
    return grain.ReadOptions(num_threads=min(threads, waiting), prefetch_buffer_size=waiting)


def _cores() -> int:
    """Those that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _batch_bytes(batch_size: int, config: Config) -> int:
    return batch_size * config.input_size**2 * np.dtype(np.float32).itemsize
