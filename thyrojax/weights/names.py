"""The weight names of Inception-v3: ours, and how each foreign format's names map to them.

Our names are paths in the Flax variables, "/" between the levels: `params/UNIT/conv/kernel`,
`params/UNIT/bn/scale`, `params/UNIT/bn/bias`, `batch_stats/UNIT/bn/mean`, `batch_stats/UNIT/bn/var`
for the 94 units of the trunk, and `params/fc/kernel`, `params/fc/bias` for the head.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

FEATURES = 2048  # width of the pooled features that a head reads
HEAD_KERNEL = "params/fc/kernel"
HEAD_BIAS = "params/fc/bias"
FIRST_KERNEL = "params/Conv2d_1a_3x3/conv/kernel"


class Unit(NamedTuple):
    """One convolution and its BatchNorm: path of the Flax module, kernel height, width, depths."""

    path: str
    height: int
    width: int
    inputs: int
    outputs: int

    @property
    def kernel_shape(self) -> tuple[int, ...]:
        return (self.height, self.width, self.inputs, self.outputs)


# In the order in which Keras, TF-slim, torchvision and the FID network of 2015 create them, at
# depth_multiplier 1. Paths are torchvision's.
UNITS: tuple[Unit, ...] = (
    Unit("Conv2d_1a_3x3", 3, 3, 3, 32),
    Unit("Conv2d_2a_3x3", 3, 3, 32, 32),
    Unit("Conv2d_2b_3x3", 3, 3, 32, 64),
    Unit("Conv2d_3b_1x1", 1, 1, 64, 80),
    Unit("Conv2d_4a_3x3", 3, 3, 80, 192),
    Unit("Mixed_5b/branch1x1", 1, 1, 192, 64),
    Unit("Mixed_5b/branch5x5_1", 1, 1, 192, 48),
    Unit("Mixed_5b/branch5x5_2", 5, 5, 48, 64),
    Unit("Mixed_5b/branch3x3dbl_1", 1, 1, 192, 64),
    Unit("Mixed_5b/branch3x3dbl_2", 3, 3, 64, 96),
    Unit("Mixed_5b/branch3x3dbl_3", 3, 3, 96, 96),
    Unit("Mixed_5b/branch_pool", 1, 1, 192, 32),
    Unit("Mixed_5c/branch1x1", 1, 1, 256, 64),
    Unit("Mixed_5c/branch5x5_1", 1, 1, 256, 48),
    Unit("Mixed_5c/branch5x5_2", 5, 5, 48, 64),
    Unit("Mixed_5c/branch3x3dbl_1", 1, 1, 256, 64),
    Unit("Mixed_5c/branch3x3dbl_2", 3, 3, 64, 96),
    Unit("Mixed_5c/branch3x3dbl_3", 3, 3, 96, 96),
    Unit("Mixed_5c/branch_pool", 1, 1, 256, 64),
    Unit("Mixed_5d/branch1x1", 1, 1, 288, 64),
    Unit("Mixed_5d/branch5x5_1", 1, 1, 288, 48),
    Unit("Mixed_5d/branch5x5_2", 5, 5, 48, 64),
    Unit("Mixed_5d/branch3x3dbl_1", 1, 1, 288, 64),
    Unit("Mixed_5d/branch3x3dbl_2", 3, 3, 64, 96),
    Unit("Mixed_5d/branch3x3dbl_3", 3, 3, 96, 96),
    Unit("Mixed_5d/branch_pool", 1, 1, 288, 64),
    Unit("Mixed_6a/branch3x3", 3, 3, 288, 384),
    Unit("Mixed_6a/branch3x3dbl_1", 1, 1, 288, 64),
    Unit("Mixed_6a/branch3x3dbl_2", 3, 3, 64, 96),
    Unit("Mixed_6a/branch3x3dbl_3", 3, 3, 96, 96),
    Unit("Mixed_6b/branch1x1", 1, 1, 768, 192),
    Unit("Mixed_6b/branch7x7_1", 1, 1, 768, 128),
    Unit("Mixed_6b/branch7x7_2", 1, 7, 128, 128),
    Unit("Mixed_6b/branch7x7_3", 7, 1, 128, 192),
    Unit("Mixed_6b/branch7x7dbl_1", 1, 1, 768, 128),
    Unit("Mixed_6b/branch7x7dbl_2", 7, 1, 128, 128),
    Unit("Mixed_6b/branch7x7dbl_3", 1, 7, 128, 128),
    Unit("Mixed_6b/branch7x7dbl_4", 7, 1, 128, 128),
    Unit("Mixed_6b/branch7x7dbl_5", 1, 7, 128, 192),
    Unit("Mixed_6b/branch_pool", 1, 1, 768, 192),
    Unit("Mixed_6c/branch1x1", 1, 1, 768, 192),
    Unit("Mixed_6c/branch7x7_1", 1, 1, 768, 160),
    Unit("Mixed_6c/branch7x7_2", 1, 7, 160, 160),
    Unit("Mixed_6c/branch7x7_3", 7, 1, 160, 192),
    Unit("Mixed_6c/branch7x7dbl_1", 1, 1, 768, 160),
    Unit("Mixed_6c/branch7x7dbl_2", 7, 1, 160, 160),
    Unit("Mixed_6c/branch7x7dbl_3", 1, 7, 160, 160),
    Unit("Mixed_6c/branch7x7dbl_4", 7, 1, 160, 160),
    Unit("Mixed_6c/branch7x7dbl_5", 1, 7, 160, 192),
    Unit("Mixed_6c/branch_pool", 1, 1, 768, 192),
    Unit("Mixed_6d/branch1x1", 1, 1, 768, 192),
    Unit("Mixed_6d/branch7x7_1", 1, 1, 768, 160),
    Unit("Mixed_6d/branch7x7_2", 1, 7, 160, 160),
    Unit("Mixed_6d/branch7x7_3", 7, 1, 160, 192),
    Unit("Mixed_6d/branch7x7dbl_1", 1, 1, 768, 160),
    Unit("Mixed_6d/branch7x7dbl_2", 7, 1, 160, 160),
    Unit("Mixed_6d/branch7x7dbl_3", 1, 7, 160, 160),
    Unit("Mixed_6d/branch7x7dbl_4", 7, 1, 160, 160),
    Unit("Mixed_6d/branch7x7dbl_5", 1, 7, 160, 192),
    Unit("Mixed_6d/branch_pool", 1, 1, 768, 192),
    Unit("Mixed_6e/branch1x1", 1, 1, 768, 192),
    Unit("Mixed_6e/branch7x7_1", 1, 1, 768, 192),
    Unit("Mixed_6e/branch7x7_2", 1, 7, 192, 192),
    Unit("Mixed_6e/branch7x7_3", 7, 1, 192, 192),
    Unit("Mixed_6e/branch7x7dbl_1", 1, 1, 768, 192),
    Unit("Mixed_6e/branch7x7dbl_2", 7, 1, 192, 192),
    Unit("Mixed_6e/branch7x7dbl_3", 1, 7, 192, 192),
    Unit("Mixed_6e/branch7x7dbl_4", 7, 1, 192, 192),
    Unit("Mixed_6e/branch7x7dbl_5", 1, 7, 192, 192),
    Unit("Mixed_6e/branch_pool", 1, 1, 768, 192),
    Unit("Mixed_7a/branch3x3_1", 1, 1, 768, 192),
    Unit("Mixed_7a/branch3x3_2", 3, 3, 192, 320),
    Unit("Mixed_7a/branch7x7x3_1", 1, 1, 768, 192),
    Unit("Mixed_7a/branch7x7x3_2", 1, 7, 192, 192),
    Unit("Mixed_7a/branch7x7x3_3", 7, 1, 192, 192),
    Unit("Mixed_7a/branch7x7x3_4", 3, 3, 192, 192),
    Unit("Mixed_7b/branch1x1", 1, 1, 1280, 320),
    Unit("Mixed_7b/branch3x3_1", 1, 1, 1280, 384),
    Unit("Mixed_7b/branch3x3_2a", 1, 3, 384, 384),
    Unit("Mixed_7b/branch3x3_2b", 3, 1, 384, 384),
    Unit("Mixed_7b/branch3x3dbl_1", 1, 1, 1280, 448),
    Unit("Mixed_7b/branch3x3dbl_2", 3, 3, 448, 384),
    Unit("Mixed_7b/branch3x3dbl_3a", 1, 3, 384, 384),
    Unit("Mixed_7b/branch3x3dbl_3b", 3, 1, 384, 384),
    Unit("Mixed_7b/branch_pool", 1, 1, 1280, 192),
    Unit("Mixed_7c/branch1x1", 1, 1, 2048, 320),
    Unit("Mixed_7c/branch3x3_1", 1, 1, 2048, 384),
    Unit("Mixed_7c/branch3x3_2a", 1, 3, 384, 384),
    Unit("Mixed_7c/branch3x3_2b", 3, 1, 384, 384),
    Unit("Mixed_7c/branch3x3dbl_1", 1, 1, 2048, 448),
    Unit("Mixed_7c/branch3x3dbl_2", 3, 3, 448, 384),
    Unit("Mixed_7c/branch3x3dbl_3a", 1, 3, 384, 384),
    Unit("Mixed_7c/branch3x3dbl_3b", 3, 1, 384, 384),
    Unit("Mixed_7c/branch_pool", 1, 1, 2048, 192),
)


def trunk_shapes() -> dict[str, tuple[int, ...]]:
    """Path and shape of every array of the trunk: 94 units with a kernel and four vectors each."""
    shapes: dict[str, tuple[int, ...]] = {}
    for unit in UNITS:
        shapes[f"params/{unit.path}/conv/kernel"] = unit.kernel_shape
        shapes[f"params/{unit.path}/bn/scale"] = (unit.outputs,)
        shapes[f"params/{unit.path}/bn/bias"] = (unit.outputs,)
        shapes[f"batch_stats/{unit.path}/bn/mean"] = (unit.outputs,)
        shapes[f"batch_stats/{unit.path}/bn/var"] = (unit.outputs,)
    return shapes


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
        if match := _KERAS_LAYER.fullmatch(level):
            return KerasName(match[1], int(match[2] or 0), array.removesuffix(":0"))
    return None


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
