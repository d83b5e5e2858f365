"""Weights of Inception-v3: fetched by tag, read from files of any format, written as any other.

Usable with `thyrojax.model` alone; what a format needs is imported where a file of it is read.
"""

from thyrojax.weights.catalog import CATALOG, fetch
from thyrojax.weights.store import Weights, locate, read, write
from thyrojax.weights.network import fill, network_of, preprocess
from thyrojax.weights.types import VARIANTS, Variant

__all__ = [
    "CATALOG",
    "VARIANTS",
    "Variant",
    "Weights",
    "fetch",
    "fill",
    "locate",
    "network_of",
    "preprocess",
    "read",
    "write",
]
