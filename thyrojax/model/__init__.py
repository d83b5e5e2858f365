"""The network, alone: needs jax and flax."""

from thyrojax.model.inception_v3 import (
    InceptionV3,
    conv_initializer,
    head_initializer,
    normalise,
)

__all__ = ["InceptionV3", "conv_initializer", "head_initializer", "normalise"]
