"""The peers of `bench_input.py`: what one would write without thyrojax, which none of them imports.

Each takes a folder with windows.json and yields batches of `BATCH` crops in float32 without end.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

SIZE, BATCH, THREADS = 384, 32, 2
FRAME_WIDTH, FRAME_HEIGHT = 800, 600


class Row(NamedTuple):
    """One crop of a peer: a file and a window that may reach beyond its frame."""

    path: str
    left: int
    top: int
    width: int
    height: int


def read_rows(folder: Path) -> list[Row]:
    return [Row(*row) for row in json.loads((folder / "windows.json").read_text())]


def pil_crop(row: Row) -> np.ndarray:
    from PIL import Image

    right, bottom = row.left + row.width, row.top + row.height
    with Image.open(row.path) as image:
        cut = image.convert("L").crop((row.left, row.top, right, bottom))
    resized = cut.resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    return np.asarray(resized, np.float32)[:, :, None]


def opencv_crop(row: Row) -> np.ndarray:
    import cv2

    frame = cv2.imdecode(np.fromfile(row.path, np.uint8), cv2.IMREAD_GRAYSCALE)
    top, bottom = max(row.top, 0), min(row.top + row.height, frame.shape[0])
    left, right = max(row.left, 0), min(row.left + row.width, frame.shape[1])
    cut = frame[top:bottom, left:right]
    if cut.shape != (row.height, row.width):
        cut = cv2.copyMakeBorder(
            cut,
            top - row.top,
            row.top + row.height - bottom,
            left - row.left,
            row.left + row.width - right,
            cv2.BORDER_CONSTANT,
        )
    return cv2.resize(cut.astype(np.float32), (SIZE, SIZE))[:, :, None]


def by_threads(folder: Path, crop: Callable[[Row], np.ndarray]) -> Iterator[Any]:
    """Batches cut by `THREADS` threads, a batch at a time for each, two waiting for each."""
    rows = read_rows(folder)

    def batch(number: int) -> np.ndarray:
        images = np.empty((BATCH, SIZE, SIZE, 1), np.float32)
        for place in range(BATCH):
            images[place] = crop(rows[(number * BATCH + place) % len(rows)])
        return images

    with ThreadPoolExecutor(THREADS) as pool:
        waiting = deque(pool.submit(batch, number) for number in range(2 * THREADS))
        number = len(waiting)
        while True:
            yield waiting.popleft().result()
            waiting.append(pool.submit(batch, number))
            number += 1


def opencv_threads(folder: Path) -> Iterator[Any]:
    import cv2

    cv2.setNumThreads(1)  # the threads are ours; its own would be in their way
    return by_threads(folder, opencv_crop)


def pil_threads(folder: Path) -> Iterator[Any]:
    return by_threads(folder, pil_crop)


class TorchRows:
    """A map-style dataset without end."""

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return 10**7

    def __getitem__(self, index: int) -> Any:
        import torch

        return torch.from_numpy(pil_crop(self.rows[index % len(self.rows)]))


def torch_loader(folder: Path) -> Iterator[Any]:
    from torch.utils.data import DataLoader

    rows = TorchRows(read_rows(folder))
    return iter(DataLoader(rows, batch_size=BATCH, num_workers=THREADS))  # type: ignore[arg-type]


def tf_data(folder: Path) -> Iterator[Any]:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    def crop(path: Any, window: Any) -> Any:
        left, top, width, height = tf.unstack(window)
        right, bottom = left + width, top + height
        x, y = tf.maximum(left, 0), tf.maximum(top, 0)
        w = tf.minimum(right, FRAME_WIDTH) - x
        h = tf.minimum(bottom, FRAME_HEIGHT) - y
        image = tf.image.decode_and_crop_jpeg(tf.io.read_file(path), [y, x, h, w], channels=1)
        image = tf.image.pad_to_bounding_box(image, y - top, x - left, height, width)
        return tf.image.resize(image, [SIZE, SIZE])  # bilinear, not antialiased, float32

    rows = read_rows(folder)
    options = tf.data.Options()
    options.threading.private_threadpool_size = THREADS
    paths, windows = [row.path for row in rows], np.array([row[1:] for row in rows], np.int32)
    batches = (
        tf.data.Dataset.from_tensor_slices((paths, windows))
        .repeat()
        .map(crop, num_parallel_calls=THREADS)
        .batch(BATCH)
        .prefetch(2)
        .with_options(options)
    )
    return iter(batches)
