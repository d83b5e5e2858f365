"""Initial values of the network's variables, drawn with NumPy.

The same distributions as the modules' own initialisers. Compiling those for 94 convolutions takes
XLA minutes on CPU; this takes a second, and each array depends on the seed and its own name only.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from thyrojax.model.inception_v3 import HEAD_DEVIATION
from thyrojax.shapes import Float

# Standard deviation of a unit normal cut off at 2. The He normal initialiser makes up for it, the
# truncated normal one does not, here as in JAX.
CUT_DEVIATION = 0.87962566103423978


def initial_array(name: str, shape: Sequence[int], seed: int) -> Float[np.ndarray, ...]:
    """Initial value of one array, float32.

    Convolution kernels: He normal (He et al. 2015); dense kernels: normal of deviation 0.01; both
    cut off at two deviations. BatchNorm scales and variances 1; all else 0.

    Args:
      name: path with slashes, "params/Mixed_5b/branch1x1/conv/kernel".
      shape: of the array; a kernel's last axis is its output.
      seed: whole number >= 0.
    """
    if name.endswith(("/bn/scale", "/bn/var")):
        return np.ones(shape, np.float32)
    if not name.endswith("/kernel"):
        return np.zeros(shape, np.float32)
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    he_deviation = np.sqrt(2.0 / np.prod(shape[:-1])) / CUT_DEVIATION
    deviation = he_deviation if "/conv/" in name else HEAD_DEVIATION
    values = rng.standard_normal(int(np.prod(shape)), np.float32)
    while len(outside := np.flatnonzero(np.abs(values) > 2.0)):
        values[outside] = rng.standard_normal(len(outside), np.float32)
    return values.reshape(shape) * np.float32(deviation)


def initial_variables(shapes: Any, seed: int) -> dict[str, Any]:
    """Initial {"params", "batch_stats"} for shapes from `jax.eval_shape(network.init, ...)`."""
    from flax.traverse_util import flatten_dict, unflatten_dict

    leaves = {
        name: initial_array(name, leaf.shape, seed)
        for name, leaf in flatten_dict(shapes, sep="/").items()
    }
    return unflatten_dict(leaves, sep="/")
