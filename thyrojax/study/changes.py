"""Nodules changed before they are scored: how much a score hangs on what should not matter.

Each imitates something that differs between scanners, exports and readers. `gain`, `blur` and
`speckle` are of the crop as the network sees it; the others come before the window is cut.

| kind | what | strength |
|---|---|---|
| gain | every pixel times a factor, cut off at 255 | the factor |
| blur | Gaussian: a lower frequency, a poor focus | standard deviation, pixels of the input |
| speckle | multiplied Rayleigh noise (Burckhardt 1978) | its standard deviation over its mean |
| box | every edge of the box moved: another reader | largest move, pixels of the frame |
| jpeg | the frame exported once more | JPEG quality, 1 to 100 |
| downscale | the frame exported at a lower resolution and enlarged again | factor |
"""

from __future__ import annotations

import hashlib

import numpy as np

from thyrojax.config import Config
from thyrojax.data.crop import crop_opencv, window
from thyrojax.data.dataset import Dataset
from thyrojax.data.draws import margin_of
from thyrojax.data.records import Box
from thyrojax.shapes import Float, Int, PyTree, UInt8
from thyrojax.study.plan import Change
from thyrojax.train.mapping import Mapping

_RAYLEIGH_SPREAD = float(np.sqrt(4.0 / np.pi - 1.0))  # standard deviation over mean: 0.5227


def score_changed(
    mapping: Mapping,
    variables: PyTree,
    dataset: Dataset,
    rows: Int[np.ndarray, " n"],
    config: Config,
    margin: int,
    change: Change,
) -> Float[np.ndarray, " n"]:
    """Probability of malignant of each row after a change, in the order of `rows`.

    Noise depends on the nodule's id, the kind and its strength alone, so that all networks see the
    same. Raises DataError as `Dataset.frame`.
    """
    size, scores = config.batch_size, np.empty(len(rows))
    for start in range(0, len(rows), size):
        taken = rows[start : start + size]
        crops = np.zeros((size, config.input_size, config.input_size, 1), np.float32)
        for place, row in enumerate(taken.tolist()):
            crops[place, :, :, 0] = changed_crop(dataset, row, config, margin, change)
        found = mapping.score(variables, crops).reshape(size, config.members)
        scores[start : start + size] = found.mean(axis=1)[: len(taken)]
    return scores


def changed_crop(
    dataset: Dataset, row: int, config: Config, margin: int, change: Change
) -> Float[np.ndarray, "size size"]:
    """One nodule's crop after a change, float32 in 0..255."""
    record = dataset.records[row]
    frame, box = dataset.frame(row), record.box
    key = f"{record.image_id}/{change.kind}/{change.strength}"
    random = np.random.default_rng(np.frombuffer(hashlib.sha256(key.encode()).digest(), np.uint32))
    if change.kind == "box":
        box = moved_box(box, round(change.strength), record.height, record.width, random)
    if change.kind in ("jpeg", "downscale"):
        frame = exported(frame, change)
    cut = window(
        box,
        margin_of(record, margin, config),
        config.crop_shape,
        config.border,
        record.height,
        record.width,
    )
    crop = crop_opencv(frame, cut, config.input_size, config.border)
    if change.kind == "gain":
        return np.clip(crop * np.float32(change.strength), 0.0, 255.0)
    if change.kind == "blur":
        return blurred(crop, change.strength)
    if change.kind == "speckle":
        noise = random.rayleigh(size=crop.shape) / np.sqrt(np.pi / 2.0)  # of mean 1
        factor = 1.0 + change.strength / _RAYLEIGH_SPREAD * (noise - 1.0)
        return np.clip(crop * factor, 0.0, 255.0).astype(np.float32)
    return crop


def moved_box(box: Box, most: int, height: int, width: int, random: np.random.Generator) -> Box:
    """A box whose four edges are each moved by up to `most` pixels, within the frame.

    It keeps at least a third of each side.
    """
    x_min, x_max = _moved(box.x_min, box.x_max, most, width, random)
    y_min, y_max = _moved(box.y_min, box.y_max, most, height, random)
    return Box(x_min, y_min, x_max, y_max)


def _moved(
    low: int, high: int, most: int, length: int, random: np.random.Generator
) -> tuple[int, int]:
    inward = (high - low) // 3  # from both sides together two thirds
    first, second = random.integers(-most, most + 1, size=2).tolist()
    return max(low + min(first, inward), 0), min(high - min(second, inward), length)


def exported(frame: UInt8[np.ndarray, "height width"], change: Change) -> np.ndarray:
    """A frame after JPEG at a quality, or reduced by a factor (area) and enlarged (bilinear)."""
    import cv2

    if change.kind == "jpeg":
        done, stream = cv2.imencode(
            ".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, round(change.strength)]
        )
        assert done
        return np.asarray(cv2.imdecode(stream, cv2.IMREAD_GRAYSCALE), np.uint8)
    height, width = frame.shape
    smaller = (max(round(width / change.strength), 1), max(round(height / change.strength), 1))
    reduced = cv2.resize(frame, smaller, interpolation=cv2.INTER_AREA)
    return np.asarray(
        cv2.resize(reduced, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8
    )


def blurred(
    crop: Float[np.ndarray, "size size"], deviation: float
) -> Float[np.ndarray, "size size"]:
    """A Gaussian blur, the crop mirrored about its edge pixels."""
    import cv2

    if deviation == 0.0:
        return crop
    return np.asarray(
        cv2.GaussianBlur(crop, (0, 0), deviation, borderType=cv2.BORDER_REFLECT_101), np.float32
    )
