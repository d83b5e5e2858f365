"""TensorFlow.js: a layers model, which is a Keras network in JSON and shards, or a graph model.

The container is read by `thyrojax.weights.formats.tfjs_shards`. In a layers model weights have
Keras' names (`conv2d_12/kernel`), and `modelTopology` is a Keras model's description; in a graph
model names mean nothing, and `thyrojax.weights.formats.tfjs_graph` goes by the graph.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from thyrojax.weights import names_keras
from thyrojax.weights.formats import keras_config, tfjs_graph, tfjs_shards
from thyrojax.weights.formats.keras_trunk import Found, Source, find, finish
from thyrojax.weights.formats.tfjs_shards import Model
from thyrojax.weights.types import Reading, Request, raise_faults

NAME = "tfjs"
DESCRIPTION = "TensorFlow.js model.json"
recognises = tfjs_shards.recognises

PREPARING = ("Normalization",)  # layers that change images before the trunk, unless Rescaling


def read(path: Path, request: Request) -> Reading:
    """Reads the trunk, and the classifier on it where it is one dense layer on the pooled features.

    Args:
      path: model.json, or the folder with it.

    Raises:
      WeightsError: one line with every fault: a weight that is missing, doubled, unknown, not
        finite, of another shape or type; shards missing, of another size or outside the folder; or
        a graph that is not Inception-v3's.
    """
    try:
        model = tfjs_shards.load(path)
    except ValueError as error:
        raise_faults(path, [str(error)])  # which also keeps it on one line
        raise
    raise_faults(path, model.faults)
    if model.format == "graph-model" or "node" in model.topology:
        return tfjs_graph.read(path, model, request)
    return _read_layers(path, model, request)


def _read_layers(path: Path, model: Model, request: Request) -> Reading:
    faults: list[str] = []
    ignored: dict[str, str] = {}
    sources: list[Source] = []
    for key, stored in model.weights.items():
        name = names_keras.parse_keras_key(key)
        group, _, array = key.rpartition("/")
        if stored.is_slot:
            ignored[key] = "optimizer slot"
        elif name is None and stored.fault() is not None:
            ignored[key] = f"not a weight: {stored.kind}"
        else:
            sources.append(Source(key, group.rpartition("/")[2], group, array, name, stored))
    found = find(path, sources, request.trunk.units, faults)

    layers = _layers(model, faults)
    norms = keras_config.find_norms(layers, found.first, len(request.trunk.units))
    has_scales = any(name.endswith("/bn/scale") for name in found.trunk)
    reading = finish(
        path,
        found,
        request,
        after=_after(layers, found),
        plain_head=keras_config.has_plain_head(layers, norms),
        label=lambda kind, number: f"{kind}_{number}",
        ignored=ignored,
        variant=keras_config.read_variant(layers, norms, has_scales, faults),
        metadata={},
        faults=faults,
    )
    notes = tfjs_shards.precision_notes([model.weights[key] for key in reading.used])
    notes += [
        f"input: the model has a {layer.kind} layer, which is left out"
        for layer in layers
        if layer.kind in PREPARING
    ]
    return replace(reading, notes=tuple(notes))


def _layers(model: Model, faults: list[str]) -> list[keras_config.Layer]:
    """The layers of the topology: a Keras model's, bare or under `model_config`."""
    description = model.topology.get("model_config", model.topology)
    try:
        return keras_config.parse(json.dumps(description))
    except (ValueError, RecursionError) as error:
        faults.append(f"modelTopology: {error}")
        return []


def _after(layers: Sequence[keras_config.Layer], found: Found) -> dict[str, bool]:
    """Layer -> whether the model has it after the trunk: by the topology, else by its number."""
    after = {source.layer: found.is_after(source) for source in found.others}
    places = {layer.name: i for i, layer in enumerate(layers)}
    trunk = found.layers()
    if trunk <= places.keys():
        end = max(places[layer] for layer in trunk)
        after |= {layer: places[layer] > end for layer in after if layer in places}
    return after
