"""The legacy .h5 of Keras 2 and 3: a whole model or its weights, whatever stands on top.

Layout: a group for each layer, in it the layer's arrays, at the file's root (weights) or under
`model_weights` (model, beside `optimizer_weights`). Names are in `thyrojax.weights.names_keras`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from thyrojax.weights import change, names, names_keras
from thyrojax.weights.formats import hdf5, keras_config, keras_vars
from thyrojax.weights.formats.keras_trunk import Found, Source, find, finish
from thyrojax.weights.keras_graph import model_layers
from thyrojax.weights.types import (
    DESCRIPTION_KEY,
    Arrays,
    Reading,
    Request,
    Variant,
    describe,
    raise_faults,
)

NAME = "keras-h5"
DESCRIPTION = "Keras legacy .h5"
ENDING = ".h5"
NATIVE = ("valid", "average")
CHANNELS = (1, 3)

# What Keras 2 takes for a file of its first version, with other kernels, where it is not told.
WRITTEN_AS = {"backend": "tensorflow", "keras_version": "2.15.0"}


def recognises(path: Path) -> bool:
    """Whether it is HDF5, even damaged, and not in Keras 3's layout."""
    return hdf5.recognises(path) and not hdf5.has_level(path, keras_vars.LEVEL)


def read(path: Path, request: Request) -> Reading:
    """Reads the trunk, and the classifier on it where it is one dense layer on the pooled features.

    Raises:
      WeightsError: one line with every fault: an array that is missing, doubled, unknown, not
        finite, of another shape or type; or a file that is damaged or not of this layout.
    """
    with hdf5.open_file(path) as file:
        listed = hdf5.inventory(file)
        faults = listed.faults
        for key in listed.arrays:
            if f"/{keras_vars.LEVEL}/" in key:
                faults.append(f"{key}: found an array in Keras 3's layout among legacy ones")
        raise_faults(path, faults)

        ignored = dict.fromkeys(listed.empty_groups, "no parameters")
        sources: list[Source] = []
        for key, stored in listed.arrays.items():
            inner = key.removeprefix("model_weights/")
            if key.startswith("optimizer_weights/"):
                ignored[key] = "optimizer slot"
            else:
                group, _, array = key.rpartition("/")
                name = names_keras.parse_keras_key(inner)
                layer = inner.split("/")[0]
                sources.append(Source(key, layer, group, array.removesuffix(":0"), name, stored))
        found = find(path, sources, request.trunk.units, faults)

        order = file.names(file.root.get("model_weights", file.root), "layer_names")
        after = _after(order, found)
        layers = _model(file, faults)
        norms = keras_config.find_norms(layers, found.first, len(request.trunk.units))
        has_scales = any(name.endswith("/bn/scale") for name in found.trunk)
        variant = keras_config.read_variant(layers, norms, has_scales, faults)
        text = "".join(file.names(file.root, DESCRIPTION_KEY))
        variant, metadata = keras_config.add_description(text, variant, bool(norms), faults)
        return finish(
            path,
            found,
            request,
            after=after,
            plain_head=keras_config.has_plain_head(layers, norms),
            label=lambda kind, number: f"{kind}_{number}",
            ignored=ignored,
            variant=variant,
            metadata=metadata,
            faults=faults,
        )


def _after(order: Sequence[str], found: Found) -> dict[str, bool]:
    """Layer -> whether the model has it after the trunk.

    The model's order of layers decides, and where the file does not tell it that of creation.
    """
    layers = found.layers()
    after = {source.layer: found.is_after(source) for source in found.others}
    if layers <= set(order):
        places = {layer: i for i, layer in enumerate(order)}
        end = max(places[layer] for layer in layers)
        after |= {layer: places[layer] > end for layer in after if layer in places}
    return after


def _model(file: hdf5.File, faults: list[str]) -> list[keras_config.Layer]:
    """The layers of the model's description; none in files of weights alone."""
    text = "".join(file.names(file.root, "model_config"))
    try:
        return keras_config.parse(text) if text else []
    except ValueError as error:
        faults.append(str(error))
        return []


def write(path: Path, arrays: Arrays, variant: Variant, metadata: Mapping[str, Any]) -> list[str]:
    """Writes weights for `keras.applications.InceptionV3(weights=FILE)` of Keras 2 and 3.

    It has a classifier where `arrays` have: then for `include_top=True, classes=N`.
    """
    import h5py

    held, notes = without_what_keras_lacks(arrays)
    if path.name.endswith(".weights.h5"):
        notes.append("name: Keras takes .weights.h5 for its newer format, so rename it to load it")
    layers = [
        layer
        for layer in model_layers(head=names.HEAD_BIAS in held)
        if keras_vars.array_paths(layer, has_scales=False)
    ]
    with h5py.File(path, "w") as file:
        file.attrs[DESCRIPTION_KEY] = describe(held, variant, metadata)
        file.attrs["layer_names"] = np.array([layer.name for layer in layers], "S")
        for key, value in WRITTEN_AS.items():
            file.attrs[key] = np.bytes_(value)
        for layer in layers:
            group = file.create_group(layer.name)
            found = keras_vars.array_paths(layer, has_scales=False)
            weight_names = [f"{layer.name}/{array}:0" for array in found]
            group.attrs["weight_names"] = np.array(weight_names, "S")
            for name, ours in zip(weight_names, found.values(), strict=True):
                group.create_dataset(name, data=held[ours], track_times=False)
    return notes


def without_what_keras_lacks(arrays: Arrays) -> tuple[Arrays, list[str]]:
    """The network as Keras' own class has it, and notes on what became of the rest."""
    held, notes = without_aux_head(arrays)
    n_scaled = sum(
        bool((array != 1).any()) for path, array in held.items() if path.endswith("/bn/scale")
    )
    if n_scaled:
        notes.append(
            f"BatchNorm scales of {n_scaled} units: folded into kernels and means, Keras' class "
            "has none"
        )
    return change.fold_scales(held), notes


def without_aux_head(arrays: Arrays) -> tuple[Arrays, list[str]]:
    held = {path: array for path, array in arrays.items() if "/AuxLogits/" not in path}
    left_out = ["AuxLogits: left out, Keras' class has none"] if len(held) < len(arrays) else []
    return held, left_out
