"""Pooled ImageNet features of whole images."""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from thyrojax.files import write_whole
from thyrojax.images import load_colour_image
from thyrojax.model import InceptionV3, normalise
from thyrojax.shapes import Array, Float, Num, PyTree

FEATURE_SIZE = 299  # the size that the weights were trained at
BATCH = 16


def load_network(
    name: str, size: int = FEATURE_SIZE, channels: int = 3
) -> tuple[InceptionV3, PyTree]:
    """A headless network for images of `size` px and its variables, from a tag or a file.

    Raises:
      WeightsError: no such tag or file, or a file that cannot be used.
    """
    from thyrojax import weights

    read = weights.read(name, head="drop")
    model = InceptionV3(
        num_classes=0,
        pooling=read.variant.pooling,
        last_pool=read.variant.last_pool,
        bn_epsilon=read.variant.epsilon,
    )
    shape = jax.ShapeDtypeStruct((1, size, size, channels), np.float32)
    variables, _ = weights.fill(jax.eval_shape(model.init, jax.random.key(0), shape), read)
    return model, variables


def pooled_features(
    model: InceptionV3, variables: PyTree, images: Num[np.ndarray, "n height width channels"]
) -> Float[np.ndarray, "n features"]:
    """Pooled features of images of 0..255, in float32 at the highest precision.

    Batches are of one size (the last one padded), so that the network is compiled once.
    """
    size = min(BATCH, len(images))
    pools = []
    for start in range(0, len(images), size):
        batch = images[start : start + size]
        padded = np.pad(batch, ((0, size - len(batch)), (0, 0), (0, 0), (0, 0)))
        pools.append(np.asarray(_pool(model, variables, padded))[: len(batch)])
    return np.concatenate(pools)


@functools.partial(jax.jit, static_argnums=0)
def _pool(
    model: InceptionV3, variables: PyTree, images: Num[Array, "b h w c"]
) -> Float[Array, "b features"]:
    with jax.default_matmul_precision("highest"):
        ends: Any = model.apply(variables, normalise(images))
    return ends["pool"]


def write_features(name: str, images: Sequence[Path], out: Path) -> tuple[int, int]:
    """Writes `pool` float32 [n, 2048] and `names` [n] of image files as an .npz.

    Returns:
      The shape of `pool`.

    Raises:
      WeightsError, DataError: the weights or an image cannot be used; nothing is written then.
    """
    frames = np.stack([load_colour_image(path, FEATURE_SIZE) for path in images])
    pool = pooled_features(*load_network(name), frames)
    content = io.BytesIO()
    np.savez(content, pool=pool, names=np.asarray([str(path) for path in images]))
    write_whole(out, content.getvalue())
    return pool.shape[0], pool.shape[1]
