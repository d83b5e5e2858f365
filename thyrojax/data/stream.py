"""The stream feed: batches cut on the host, in an order and with draws that Grain makes pure.

What a training batch holds is a function of (seed, step) alone. It comes in two halves: `draws`,
a few numbers per row (which record, which margin, which flip), and the cutting of those rows. Only
the second costs much, so that one process of several can cut its own rows of the global batch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import grain
import numpy as np

from thyrojax.config import Config
from thyrojax.data.crop import crop_opencv, window
from thyrojax.data.dataset import Dataset
from thyrojax.shapes import Float, Int

Batch = dict[str, np.ndarray]
ALL_ROWS = slice(None)
PREFETCH_BYTES = 2**30  # of batches cut ahead of the consumer


class TrainFeed:
    """Training batches over the records `indices` of a set (Guan et al. 2019, "Image preparation").

    Every epoch sees every record once, in an order of its own; a batch may span two epochs. Each
    time a record is seen, its margin is drawn uniformly from the whole numbers
    `margin_min..margin_max`, both included, its flip with probability 1/2, and gain and contrast
    uniformly about 1. All of them are drawn whether used or not, so that switching one off leaves
    the others as they were.
    """

    def __init__(self, dataset: Dataset, indices: Int[np.ndarray, " n"], config: Config) -> None:
        """Raises ValueError where `indices` is empty or repeats a record."""
        _check_indices(dataset, indices)
        self.dataset = dataset
        self.indices = np.asarray(indices, np.int32)
        self.config = config
        self._labels = np.array([record.label for record in dataset.records], np.int32)
        self._plans: dict[int, grain.MapDataset] = {}

    def draws(self, seed: int, step: int) -> Batch:
        """What batch `step` (0, 1, ...) is to hold, without its pixels.

        `index` int32 [batch], positions in `dataset.records`; `margin` int32 [batch], pixels;
        `flip` bool [batch]; `gain` and `contrast` float32 [batch], factors.
        """
        draws: Batch = self._plan(seed)[step]
        return draws

    def batch(self, seed: int, step: int, rows: slice = ALL_ROWS) -> Batch:
        """Batch `step`, or the given rows of it, cutting no others.

        `image` float32 [batch, size, size, 1] in 0..255, `label` int32 [batch], `index` int32
        [batch], positions in `dataset.records`, and `margin` int32 [batch], pixels.

        Raises:
          DataError: a record that cannot be read, by name.
        """
        return self._cut(self.draws(seed, step), rows)

    def batches(self, seed: int, start_step: int = 0, rows: slice = ALL_ROWS) -> Iterator[Batch]:
        """`batch(seed, step, rows)` for step = start_step, start_step + 1, ... without end.

        Threads cut ahead of the consumer; starting late costs nothing. Errors are those of `batch`.
        """
        cut = self._plan(seed).map(lambda draws: self._cut(draws, rows))
        count = len(range(*rows.indices(self.config.batch_size)))
        options = _read_options(_batch_bytes(count, self.config))
        yield from cut[start_step:].to_iter_dataset(options)

    def _plan(self, seed: int) -> grain.MapDataset:
        plan = self._plans.get(seed)
        if plan is None:
            plan = (
                grain.MapDataset.source(range(len(self.indices)))
                .seed(seed % 2**32)  # Grain takes 32 bits
                .shuffle()
                .repeat(reseed_each_epoch=True)
                .batch(self.config.batch_size)
                .random_map(self._draw)
            )
            self._plans[seed] = plan
        return plan

    def _draw(self, positions: Int[np.ndarray, " batch"], rng: np.random.Generator) -> Batch:
        config, count = self.config, len(positions)
        margin = rng.integers(config.margin_min, config.margin_max, count, np.int32, endpoint=True)
        flip, gain, contrast = rng.random((3, count), np.float32)
        return {
            "index": self.indices[positions],
            "margin": margin,
            "flip": flip < 0.5,
            "gain": 1.0 + np.float32(config.gain) * (2.0 * gain - 1.0),
            "contrast": 1.0 + np.float32(config.contrast) * (2.0 * contrast - 1.0),
        }

    def _cut(self, draws: Batch, rows: slice) -> Batch:
        config = self.config
        index, margin = draws["index"][rows], draws["margin"][rows]
        flip, gain, contrast = draws["flip"][rows], draws["gain"][rows], draws["contrast"][rows]
        image = np.empty((len(index), config.input_size, config.input_size, 1), np.float32)
        for row in range(len(index)):
            crop = _crop(self.dataset, int(index[row]), int(margin[row]), config)
            image[row, :, :, 0] = crop[:, ::-1] if config.flip and flip[row] else crop
            if config.gain or config.contrast:
                _change_tone(image[row], float(gain[row]), float(contrast[row]))
        return {"image": image, "label": self._labels[index], "index": index, "margin": margin}


def evaluation_batches(
    dataset: Dataset,
    indices: Int[np.ndarray, " n"],
    config: Config,
    margin: int,
    batch_size: int,
) -> Iterator[Batch]:
    """Every record of `indices` once and in order, in batches of one size.

    Beside the entries of `TrainFeed.batch` a batch has `mask` bool [batch]: False where the last
    batch is padded (image 0, label 0, index -1). Nothing is drawn: one margin, no flip.

    Raises:
      ValueError: `indices` is empty or repeats a record.
      DataError: a record that cannot be read, by name.
    """
    _check_indices(dataset, indices)
    indices = np.asarray(indices, np.int32)

    def cut(start: int) -> Batch:
        index = indices[start : start + batch_size]
        padded = np.full(batch_size, -1, np.int32)
        padded[: len(index)] = index
        image = np.zeros((batch_size, config.input_size, config.input_size, 1), np.float32)
        label = np.zeros(batch_size, np.int32)
        for row, i in enumerate(index.tolist()):
            image[row, :, :, 0] = _crop(dataset, i, margin, config)
            label[row] = dataset.records[i].label
        margins = np.full(batch_size, margin, np.int32)
        return {
            "image": image,
            "label": label,
            "index": padded,
            "margin": margins,
            "mask": padded >= 0,
        }

    starts = range(0, len(indices), batch_size)
    seen: list[np.ndarray] = []
    options = _read_options(_batch_bytes(batch_size, config))
    for batch in grain.MapDataset.source(starts).map(cut).to_iter_dataset(options):
        seen.append(batch["index"][batch["mask"]])
        yield batch
    if not np.array_equal(np.concatenate(seen), indices):
        raise AssertionError(f"evaluation saw {sum(map(len, seen))} of {len(indices)} records once")


def _check_indices(dataset: Dataset, indices: Int[np.ndarray, " n"]) -> None:
    if len(indices) == 0:
        raise ValueError("indices: found none, expected at least one record")
    if len(np.unique(indices)) != len(indices):
        raise ValueError("indices: found a record twice, expected each once")
    if indices.min() < 0 or indices.max() >= len(dataset):
        raise ValueError(f"indices: found one outside 0..{len(dataset) - 1}")


def _crop(
    dataset: Dataset, index: int, margin: int, config: Config
) -> Float[np.ndarray, "size size"]:
    frame = dataset.frame(index)
    height, width = frame.shape
    box = dataset.records[index].box
    cut = window(box, margin, config.crop_shape, config.border, height, width)
    return crop_opencv(frame, cut, config.input_size, config.border)


def _change_tone(image: Float[np.ndarray, "size size 1"], gain: float, contrast: float) -> None:
    """In place: brightness times `gain`, then distance from the mean times `contrast`, 0..255."""
    mean = image.mean(dtype=np.float64)
    image *= np.float32(gain * contrast)
    image += np.float32(mean * gain * (1.0 - contrast))
    np.clip(image, 0.0, 255.0, out=image)


def _read_options(batch_bytes: int) -> grain.ReadOptions:
    """One thread a core; two batches waiting for each, or as many as `PREFETCH_BYTES` hold."""
    threads = os.cpu_count() or 1
    waiting = max(2, min(2 * threads, PREFETCH_BYTES // batch_bytes))
    return grain.ReadOptions(num_threads=min(threads, waiting), prefetch_buffer_size=waiting)


def _batch_bytes(batch_size: int, config: Config) -> int:
    return batch_size * config.input_size**2 * np.dtype(np.float32).itemsize
