"""The network, alone: needs jax and flax."""

from thyrojax.model.inception_v3 import InceptionV3, normalise
from thyrojax.model.initialise import initial_array, initial_variables

__all__ = ["InceptionV3", "initial_array", "initial_variables", "normalise"]
