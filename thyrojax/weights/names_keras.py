"""The names of Keras' layers and of their arrays, and how they map to ours."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from thyrojax.weights.graph import Unit

# Keras' legacy .h5. A layer is a class name and a number that counts the layers of that class since
# the session began, so the first of the trunk may be any number, and none where it would be 0.
# TensorFlow 1.13 called its BatchNorm layers batch_normalization_v1.
_KERAS_LAYER = re.compile(r"(conv2d|batch_normalization)(?:_v1)?(?:_(\d{1,9}))?")

# Per class of layer: array name in the file -> our path, with the unit's to be filled in.
KERAS_ARRAYS: dict[str, dict[str, str]] = {
    "conv2d": {"kernel": "params/{}/conv/kernel"},
    "batch_normalization": {
        "gamma": "params/{}/bn/scale",  # absent where the layer has scale=False: ones
        "beta": "params/{}/bn/bias",
        "moving_mean": "batch_stats/{}/bn/mean",
        "moving_variance": "batch_stats/{}/bn/var",
    },
}


class KerasName(NamedTuple):
    """A Keras layer's class (a key of `KERAS_ARRAYS`) and number, and one of its arrays."""

    kind: str
    number: int
    array: str


def parse_keras_key(key: str) -> KerasName | None:
    """The Keras layer that a dataset belongs to, from its path in the file.

    The outermost level that has a layer's name decides: a base nested in another model stands one
    level deeper (`inception_v3/conv2d_5/kernel:0`), and TensorFlow 1 repeats a layer's name within
    it, with a suffix (`conv2d_5/conv2d_5_1/kernel:0`). None where no level has one.
    """
    *levels, array = key.split("/")
    for level in levels:
        if layer := parse_keras_layer(level):
            return KerasName(*layer, array.removesuffix(":0"))
    return None


def scope_of(key: str) -> str:
    """The model that a layer is in: the levels above the one that decides in `parse_keras_key`."""
    levels = key.split("/")[:-1]
    depth = next((i for i, level in enumerate(levels) if parse_keras_layer(level)), len(levels))
    return "/".join(levels[:depth])


def parse_keras_layer(name: str) -> tuple[str, int] | None:
    """The class (a key of `KERAS_ARRAYS`) and number in a layer's name, None for other names."""
    match = _KERAS_LAYER.fullmatch(name)
    return (match[1], int(match[2] or 0)) if match else None


def expected_shapes(units: Sequence[Unit]) -> dict[str, list[tuple[int, ...]]]:
    """Per class of layer the shape of each one's kernel or beta, in the order of the units."""
    return {
        "conv2d": [unit.kernel_shape for unit in units],
        "batch_normalization": [(unit.outputs,) for unit in units],
    }


def find_trunk(
    shapes: Mapping[int, tuple[int, ...]], expected: Sequence[tuple[int, ...]]
) -> list[tuple[int, int]]:
    """Where in a numbered series of layers the trunk begins.

    Args:
      shapes: layer number -> shape of its array.
      expected: the trunk's shapes in creation order.

    Returns:
      (number of the trunk's first layer, how many of the expected shapes agree), best first; only
      the best two, since what matters is how good the best is and whether it is alone.
    """
    places: dict[tuple[int, ...], list[int]] = {}
    for place, shape in enumerate(expected):
        places.setdefault(shape, []).append(place)
    votes = Counter(
        number - place for number, shape in shapes.items() for place in places.get(shape, ())
    )
    return votes.most_common(2)
