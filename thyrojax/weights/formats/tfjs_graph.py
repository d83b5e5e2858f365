"""Graph models of TensorFlow.js: a TensorFlow graph in JSON, whose constants are in the shards.

The JSON is that of the protocol buffer GraphDef: numbers of 64 bits and texts (in base64) come as
strings. Converters fold BatchNorm into the convolutions, so the network is found by its graph.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from thyrojax.weights import folded
from thyrojax.weights.formats import tfjs_shards
from thyrojax.weights.formats.tfjs_shards import Model, Stored
from thyrojax.weights.operators import Graph, Kind, Layer, Node
from thyrojax.weights.types import Reading, Request, raise_faults

MAX_NODES = 20_000
MAX_INPUTS = 64
MAX_SETTING = 64  # numbers of a constant that sets up an operator

KINDS: dict[str, Kind] = {
    "Conv2D": "convolution",
    "_FusedConv2D": "convolution",
    "AvgPool": "average pool",
    "MaxPool": "max pool",
    "ConcatV2": "concatenation",
    "Relu": "relu",
    "BiasAdd": "add",
    "Add": "add",
    "AddV2": "add",
    "Sub": "subtract",
    "Mul": "multiply",
    "RealDiv": "divide",
    "Pad": "pad",
    "Mean": "mean",
    "Reshape": "reshape",
    "Squeeze": "reshape",
    "MatMul": "dense",
    "_FusedMatMul": "dense",
    "Softmax": "softmax",
    "Sigmoid": "sigmoid",
    "Identity": "same",
    "Cast": "same",
}
# What an operator fuses to itself -> the activation that it is here.
FUSED = {(): "", ("BiasAdd",): "", ("BiasAdd", "Relu"): "relu", ("Relu",): "relu"}
# Of what remains, these are no operators of the network.
NO_OPERATORS = ("Const", "Placeholder", "NoOp")


def read(path: Path, model: Model, request: Request) -> Reading:
    """Reads the trunk, and the classifier on it where it is one dense layer on the pooled features.

    Raises:
      WeightsError: one line with every fault, as of `thyrojax.weights.formats.tfjs.read`.
    """
    try:
        graph = _graph(model)
    except ValueError as error:
        raise_faults(path, [str(error)])  # which also keeps it on one line
        raise
    return folded.read_network(
        path,
        graph,
        request,
        floats=partial(_floats, model.weights),
        stored_input=lambda key: (None, False),
        precision_notes=partial(_precision_notes, model.weights),
    )


def _floats(weights: Mapping[str, Stored], key: str, layer: Layer | None) -> np.ndarray:
    if fault := weights[key].fault():
        raise ValueError(fault)
    return weights[key].floats()


def _precision_notes(weights: Mapping[str, Stored], used: Collection[str]) -> list[str]:
    return tfjs_shards.precision_notes([weights[key] for key in used])


def _graph(model: Model) -> Graph:
    """The operators of a topology, in an order in which they can be computed.

    Raises:
      ValueError: found and expected.
    """
    listed = model.topology.get("node")
    if not isinstance(listed, list) or len(listed) > MAX_NODES:
        raise ValueError(f"modelTopology: found no list of up to {MAX_NODES} nodes, expected one")
    by_name: dict[str, Mapping[str, Any]] = {}
    for i, node in enumerate(listed):
        name = node.get("name") if isinstance(node, dict) else None
        operator = node.get("op") if isinstance(node, dict) else None
        if not isinstance(name, str) or not isinstance(operator, str) or name in by_name:
            raise ValueError(f"node[{i}]: found no name and op of its own, expected both")
        by_name[name] = node
    inputs = {name: _inputs(name, node, by_name) for name, node in by_name.items()}
    nodes = []
    for name in _in_order(inputs):
        if by_name[name]["op"] not in NO_OPERATORS:
            nodes.append(_node(name, by_name[name], inputs[name], model.weights))
    return Graph(
        nodes=tuple(nodes),
        shapes={name: stored.shape for name, stored in model.weights.items()},
        constants=frozenset(model.weights),
    )


def _inputs(name: str, node: Mapping[str, Any], known: Collection[str]) -> tuple[str, ...]:
    """Names of the nodes that one reads; what only has to run before it is left out."""
    listed = node.get("input", [])
    if not isinstance(listed, list) or len(listed) > MAX_INPUTS:
        raise ValueError(f"{name}: found no list of up to {MAX_INPUTS} inputs, expected one")
    inputs = tuple(
        text.removesuffix(":0") for text in listed if isinstance(text, str) and text[:1] != "^"
    )
    for text in inputs:
        if text.partition(":")[0] not in known:
            raise ValueError(f"{name}: found input {text[:100]}, expected a node of the graph")
    return inputs


def _in_order(inputs: Mapping[str, Sequence[str]]) -> list[str]:
    """The nodes, each after all that it reads."""
    readers: dict[str, list[str]] = {}
    open_inputs: dict[str, int] = {}
    for name, texts in inputs.items():
        sources = {text.partition(":")[0] for text in texts}
        open_inputs[name] = len(sources)
        for source in sources:
            readers.setdefault(source, []).append(name)
    ready = [name for name, n in open_inputs.items() if n == 0]
    for name in ready:  # grows while it is read
        for reader in readers.get(name, ()):
            open_inputs[reader] -= 1
            if open_inputs[reader] == 0:
                ready.append(reader)
    if len(ready) < len(inputs):
        raise ValueError("modelTopology: found a loop in the graph, expected none")
    return ready


def _node(
    name: str, node: Mapping[str, Any], inputs: tuple[str, ...], weights: Mapping[str, Stored]
) -> Node:
    operator = node["op"]
    kind = KINDS.get(operator, "other")
    attributes = node.get("attr")
    attributes = attributes if isinstance(attributes, dict) else {}
    more: dict[str, Any] = {}
    if operator.startswith("_Fused"):
        fused = tuple(_texts(attributes, "fused_ops"))
        more["activation"] = FUSED.get(fused, " and ".join(fused))
        inputs = inputs[: 3 if "BiasAdd" in fused else 2]
    if kind in ("convolution", "average pool", "max pool"):
        more["padding"] = "".join(_texts(attributes, "padding"))
        more["strides"] = _plane(attributes, "strides")
        more["dilations"] = _plane(attributes, "dilations")
        if _texts(attributes, "data_format") not in ([], ["NHWC"]):
            kind = "other"
    if kind in ("average pool", "max pool"):
        more["window"] = _plane(attributes, "ksize")
    elif kind == "dense" and (_flag(attributes, "transpose_a") or _flag(attributes, "transpose_b")):
        kind = "other"
    elif kind in ("concatenation", "mean", "pad"):
        numbers = _setting(inputs, weights)
        if numbers is None:
            kind = "other"
        elif kind == "pad":
            more["border"] = tuple((int(a), int(b)) for a, b in numbers.reshape(-1, 2))
        else:
            more["axes"] = tuple(int(axis) for axis in numbers.reshape(-1))
    return Node(kind, operator, inputs, (name,), **more)


def _setting(inputs: Sequence[str], weights: Mapping[str, Stored]) -> np.ndarray | None:
    """The whole numbers that an operator's last input sets it up with; None where it does not."""
    stored = weights.get(inputs[-1]) if inputs else None
    if stored is None or stored.dtype.kind != "i" or stored.size > MAX_SETTING * 4:
        return None
    return stored.values() if stored.size else None


def _items(attributes: Mapping[str, Any], name: str, kind: str) -> list[Any]:
    """The values of an attribute: one, or a list."""
    attribute = attributes.get(name)
    if not isinstance(attribute, dict):
        return []
    listed = attribute.get("list", {})
    found = listed.get(kind, []) if isinstance(listed, dict) else []
    values = [attribute[kind]] if kind in attribute else found
    return values if isinstance(values, list) and len(values) <= MAX_INPUTS else []


def _texts(attributes: Mapping[str, Any], name: str) -> list[str]:
    texts = []
    for value in _items(attributes, name, "s"):
        try:
            texts.append(base64.b64decode(value, validate=True).decode("ascii"))
        except (ValueError, TypeError, binascii.Error):
            texts.append("unknown")
    return texts


def _plane(attributes: Mapping[str, Any], name: str) -> tuple[int, int]:
    """Height and width of four numbers for batch, height, width and channels; (1, 1) where there
    are none, (0, 0) where they are not of a plane."""
    values = _items(attributes, name, "i")
    if not values:
        return (1, 1)
    try:
        batch, height, width, channels = (int(value) for value in values)
    except (ValueError, TypeError):
        return (0, 0)
    return (height, width) if (batch, channels) == (1, 1) else (0, 0)


def _flag(attributes: Mapping[str, Any], name: str) -> bool:
    return _items(attributes, name, "b") == [True]
