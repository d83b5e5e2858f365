"""Weights of Inception-v3: fetched by tag, read from files of any format, written as any other.

Usable with `thyrojax.model` alone; what a format needs is imported where a file of it is read.
"""

from thyrojax.weights.catalog import CATALOG, fetch
from thyrojax.weights.comparison import compare
from thyrojax.weights.convert import convert
from thyrojax.weights.inspection import inspect
from thyrojax.weights.network import fill, network_of, preprocess
from thyrojax.weights.store import Weights, locate, read, write
from thyrojax.weights.types import VARIANTS, Variant

__all__ = [
    "CATALOG",
    "VARIANTS",
    "Variant",
    "Weights",
    "compare",
    "convert",
    "fetch",
    "fill",
    "inspect",
    "locate",
    "network_of",
    "preprocess",
    "read",
    "write",
]
