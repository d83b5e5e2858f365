"""The network, alone: needs jax and flax."""

from thyrojax.model.fold import fold_batch_norm
from thyrojax.model.inception_v3 import InceptionV3, normalise
from thyrojax.model.initialise import initial_array, initial_variables
from thyrojax.model.units import Part

__all__ = [
    "InceptionV3",
    "Part",
    "fold_batch_norm",
    "initial_array",
    "initial_variables",
    "normalise",
]
