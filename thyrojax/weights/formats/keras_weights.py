"""Keras 3's .weights.h5, from `model.save_weights`: arrays by layer, without the model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thyrojax.weights import names
from thyrojax.weights.formats import hdf5, keras_h5, keras_vars
from thyrojax.weights.keras_graph import model_layers
from thyrojax.weights.types import (
    DESCRIPTION_KEY,
    Arrays,
    Reading,
    Request,
    Variant,
    describe,
)

NAME = "keras-weights"
DESCRIPTION = "Keras 3 .weights.h5"
ENDING = ".weights.h5"
NATIVE = ("valid", "average")
CHANNELS = (1, 3)


def recognises(path: Path) -> bool:
    """Whether it is HDF5 in Keras 3's layout."""
    return hdf5.recognises(path) and hdf5.has_level(path, keras_vars.LEVEL)


def read(path: Path, request: Request) -> Reading:
    """Reads the trunk, and the classifier on it where it is one dense layer on the pooled features.

    Raises:
      WeightsError: one line with every fault, as of the legacy format.
    """
    with hdf5.open_file(path) as file:
        return keras_vars.read(path, file, request)


def write(path: Path, arrays: Arrays, variant: Variant, metadata: Mapping[str, Any]) -> list[str]:
    """Writes weights for `keras.applications.InceptionV3(weights=FILE)` of Keras 3.

    It has a classifier where `arrays` have: then for `include_top=True, classes=N`.
    """
    import h5py

    held, notes = keras_h5.without_what_keras_lacks(arrays)
    with h5py.File(path, "w") as file:
        file.attrs[DESCRIPTION_KEY] = describe(held, variant, metadata)
        layers = model_layers(head=names.HEAD_BIAS in held)
        keras_vars.write(file, held, layers, has_scales=False)
    return notes
