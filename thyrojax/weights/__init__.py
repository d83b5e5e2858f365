"""Weights of Inception-v3: fetched by tag, read from files of any format, written as any other.

Usable with `thyrojax.model` alone; what a format needs is imported where a file of it is read.
"""

from thyrojax.weights.cache import verify_cache
from thyrojax.weights.catalog import CATALOG, catalog_rows
from thyrojax.weights.classify import classify
from thyrojax.weights.comparison import compare
from thyrojax.weights.convert import convert
from thyrojax.weights.fetching import fetch
from thyrojax.weights.inspection import inspect
from thyrojax.weights.labels import labels_for
from thyrojax.weights.network import fill, network_of, preprocess
from thyrojax.weights.store import Weights, locate, read, write
from thyrojax.weights.types import VARIANTS, Variant

__all__ = [
    "CATALOG",
    "VARIANTS",
    "Variant",
    "Weights",
    "catalog_rows",
    "classify",
    "compare",
    "convert",
    "fetch",
    "fill",
    "inspect",
    "labels_for",
    "locate",
    "network_of",
    "preprocess",
    "read",
    "verify_cache",
    "write",
]
