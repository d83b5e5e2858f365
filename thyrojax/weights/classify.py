"""What a classifier makes of whole images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thyrojax.errors import WeightsError
from thyrojax.images import load_colour_image
from thyrojax.shapes import Float, UInt8
from thyrojax.weights.labels import labels_for
from thyrojax.weights.network import network_of, preprocess
from thyrojax.weights.store import Weights

IMAGENET_SIZE = 299  # px
SMALLEST_SIZE, LARGEST_SIZE = 75, 4096  # px; below, a stage of the network has no output
BATCH = 16


@dataclass(frozen=True)
class Guess:
    """One class, its probability (0..1), and its number."""

    name: str
    probability: float
    index: int


def classify(weights: Weights, images: Sequence[Path], top: int = 5) -> list[list[Guess]]:
    """The likeliest classes of image files, likeliest first, by the weights' own classifier.

    Of each the central square is resized to the size that the file's metadata states (`input_size`
    or that of an export), else 299x299; and made grey for weights that take grey images. The
    publishers' evaluations keep the shape of things too, but take seven eighths of the square.

    Args:
      top: how many classes, all where there are fewer.

    Raises:
      WeightsError: weights without a classifier, or with metadata that do not fit it.
      DataError: an image is missing or cannot be decoded.
    """
    if not weights.classes:
        raise WeightsError(
            f"{weights.path}: found no classifier on these features, expected one (1000 classes "
            "of ImageNet, for example)"
        )
    if top < 1:
        raise WeightsError(f"top: found {top}, expected at least 1")
    size = _input_size(weights)
    try:
        labels = labels_for(weights.classes, weights.metadata.get("labels"))
    except WeightsError as error:
        raise WeightsError(f"{weights.path}: {error}") from None
    frames = np.zeros((len(images), size, size, weights.channels), np.uint8)
    for frame, path in zip(frames, images, strict=True):
        frame[:] = _load(path, size, weights.channels)
    answers = []
    for row in _probabilities(weights, frames):
        best = np.argsort(-row, kind="stable")[:top]
        answers.append([Guess(labels[i], float(row[i]), int(i)) for i in best])
    return answers


def _input_size(weights: Weights) -> int:
    """Side in px that the weights were made for."""
    export = weights.metadata.get("export")
    found: Any = weights.metadata.get("input_size")
    if found is None and isinstance(export, dict):
        found = export.get("input_size")
    if found is None:
        return IMAGENET_SIZE
    if type(found) is not int or not SMALLEST_SIZE <= found <= LARGEST_SIZE:
        raise WeightsError(
            f"{weights.path}: found input_size {found!r:.40}, expected {SMALLEST_SIZE} to "
            f"{LARGEST_SIZE} px"
        )
    return found


def _load(path: Path, size: int, channels: int) -> UInt8[np.ndarray, "size size channels"]:
    import cv2

    image = load_colour_image(path, size, square=True)
    if channels == 1:
        return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]
    return image


def _probabilities(
    weights: Weights, images: UInt8[np.ndarray, "n height width channels"]
) -> Float[np.ndarray, "n classes"]:
    """Softmax of the logits, computed in float32 at the highest precision, in batches of one size
    so that the network is compiled once."""
    import jax

    network, variables = network_of(weights)

    @jax.jit
    def run(variables: Any, inputs: Any) -> Any:
        with jax.default_matmul_precision("highest"):
            logits = network.apply(variables, inputs)["logits"]
        return jax.nn.softmax(logits)

    size = min(BATCH, len(images))
    rows = [np.zeros((0, weights.classes), np.float32)]
    for start in range(0, len(images), size or 1):
        batch = images[start : start + size]
        padded = np.pad(batch, ((0, size - len(batch)), (0, 0), (0, 0), (0, 0)))
        inputs = preprocess(padded, weights.variant.preprocessing)
        rows.append(np.asarray(run(variables, inputs))[: len(batch)])
    return np.concatenate(rows)
