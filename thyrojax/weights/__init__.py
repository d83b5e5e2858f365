"""Weights of Inception-v3: fetched by tag, read from files, fitted to a network.

Usable with `thyrojax.model` alone; h5py is imported where a file is read.
"""

from thyrojax.weights.catalog import CATALOG, fetch
from thyrojax.weights.convert import Weights, fill, locate, read

__all__ = ["CATALOG", "Weights", "fetch", "fill", "locate", "read"]
