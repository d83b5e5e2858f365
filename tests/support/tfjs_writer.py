"""TensorFlow.js models made by hand: layers models under Keras' names, and graph models."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np

from thyrojax.weights import names
from thyrojax.weights.graph import BLOCKS, STEM, Branch, Conv, Fork, trunk
from thyrojax.weights.types import Arrays

UNITS = trunk(0.05).units
Weights = dict[str, np.ndarray]
Json = dict[str, Any]

# Keras' name of an array, by ours.
ARRAYS = {
    "params/{}/conv/kernel": "conv2d{}/kernel",
    "params/{}/bn/bias": "batch_normalization{}/beta",
    "batch_stats/{}/bn/mean": "batch_normalization{}/moving_mean",
    "batch_stats/{}/bn/var": "batch_normalization{}/moving_variance",
}


def as_keras(arrays: Arrays, first: int = 0, prefix: str = "", scales: bool = False) -> Weights:
    """Arrays of ours under Keras' names, the first layer with number `first`."""
    pairs = ARRAYS | ({"params/{}/bn/scale": "batch_normalization{}/gamma"} if scales else {})
    weights = {}
    for i, unit in enumerate(UNITS, start=first):
        for ours, theirs in pairs.items():
            number = f"_{i}" if i else ""
            weights[prefix + theirs.format(number)] = arrays[ours.format(unit.path)]
    if names.HEAD_BIAS in arrays:
        weights["predictions/kernel"] = arrays[names.HEAD_KERNEL]
        weights["predictions/bias"] = arrays[names.HEAD_BIAS]
    return weights


def quantise(values: np.ndarray, kind: str) -> tuple[np.ndarray, Json]:
    """As TensorFlow.js' own writer does: the range of the values over all numbers of the type."""
    if kind == "float16":
        return values.astype(np.float16), {"dtype": "float16", "original_dtype": "float32"}
    low, high = float(values.min()), float(values.max())
    scale = (high - low) / np.iinfo(kind).max or 1.0
    numbers = np.round((values.astype(np.float64) - low) / scale).astype(kind)
    return numbers, {"dtype": kind, "min": low, "scale": scale, "original_dtype": "float32"}


def write_model(
    folder: Path,
    weights: Weights,
    kind: str = "float32",
    topology: Json | None = None,
    n_groups: int = 1,
    shard_bytes: int = 100_000,
    more: Json | None = None,
) -> Path:
    """A model.json with shards beside it."""
    folder.mkdir(exist_ok=True)
    manifest = []
    parts = [dict(list(weights.items())[i::n_groups]) for i in range(n_groups)]
    for g, part in enumerate(parts, start=1):
        entries, content = [], b""
        for name, values in part.items():
            entry: Json = {"name": name, "shape": list(values.shape), "dtype": str(values.dtype)}
            stored = values
            if values.dtype == np.float32 and kind != "float32":
                stored, entry["quantization"] = quantise(values, kind)
            entries.append(entry)
            content += stored.tobytes()
        n = -(-len(content) // shard_bytes)
        paths = [f"group{g}-shard{i + 1}of{n}.bin" for i in range(n)]
        for i, path in enumerate(paths):
            (folder / path).write_bytes(content[i * shard_bytes : (i + 1) * shard_bytes])
        manifest.append({"paths": paths, "weights": entries})
    model = {
        "format": "layers-model",
        "generatedBy": "keras v2.15.0",
        "modelTopology": topology or {},
        "weightsManifest": manifest,
    }
    path = folder / "model.json"
    path.write_text(json.dumps(model | (more or {})))
    return path


def topology(epsilon: float = 0.01, pool: str = "AveragePooling2D") -> Json:
    """A Keras model's description, of those layers that matter."""
    layers = [{"class_name": "Rescaling", "config": {"name": "rescaling", "scale": 1 / 255}}]
    for i in range(94):
        number = f"_{i}" if i else ""
        settings = {"name": f"batch_normalization{number}", "epsilon": epsilon, "scale": False}
        layers.append({"class_name": "BatchNormalization", "config": settings})
    for i in range(9):
        kind = pool if i == 8 else "AveragePooling2D"
        settings = {"name": f"pool_{i}", "padding": "same", "strides": [1, 1], "pool_size": [3, 3]}
        layers.append({"class_name": kind, "config": settings})
    layers += [
        {"class_name": "GlobalAveragePooling2D", "config": {"name": "avg_pool"}},
        {"class_name": "Dense", "config": {"name": "predictions"}},
    ]
    return {"class_name": "Functional", "config": {"layers": layers}}


# Graph models: nodes as the protocol buffer's JSON has them.


def text(value: str) -> str:
    return base64.b64encode(value.encode()).decode()


def plane(*values: int) -> Json:
    return {"list": {"i": [str(value) for value in values]}}


def graph_model(arrays: Arrays, fused: bool = True) -> tuple[Json, Weights]:
    """Topology and weights of a graph; kernels and biases are those of `arrays`, no BatchNorm."""
    nodes: list[Json] = [{"name": "image", "op": "Placeholder"}]
    weights: Weights = {}

    def constant(name: str, values: np.ndarray) -> str:
        weights[name] = values
        nodes.append({"name": name, "op": "Const", "attr": {"dtype": {"type": "DT_FLOAT"}}})
        return name

    def add(op: str, inputs: list[str], **attributes: Any) -> str:
        name = f"node_{len(nodes)}"
        nodes.append({"name": name, "op": op, "input": inputs, "attr": attributes})
        return name

    def unit(x: str, path: str) -> str:
        unit = next(unit for unit in UNITS if unit.path == path)
        kernel = constant(f"{path}/w", arrays[f"params/{path}/conv/kernel"])
        bias = constant(f"{path}/b", arrays[f"params/{path}/bn/bias"])
        settings = {
            "strides": plane(1, unit.stride, unit.stride, 1),
            "padding": {"s": text(unit.padding)},
            "data_format": {"s": text("NHWC")},
        }
        if fused:
            both = {"list": {"s": [text("BiasAdd"), text("Relu")]}}
            return add(
                "_FusedConv2D", [f"{x}:0", kernel, bias, "^image"], fused_ops=both, **settings
            )
        return add("Relu", [add("BiasAdd", [add("Conv2D", [x, kernel], **settings), bias])])

    def branch(x: str, prefix: str, steps: Branch) -> str:
        for step in steps:
            if isinstance(step, Fork):
                x = join([unit(x, prefix + conv.name) for conv in step.convs])
            elif isinstance(step, Conv):
                x = unit(x, prefix + step.name)
            else:
                x = add(
                    "MaxPool" if step.kind == "max" else "AvgPool",
                    [x],
                    ksize=plane(1, 3, 3, 1),
                    strides=plane(1, step.stride, step.stride, 1),
                    padding={"s": text("VALID" if step.stride == 2 else "SAME")},
                )
        return x

    def join(ends: list[str]) -> str:
        return add("ConcatV2", [*ends, axis])

    axis = constant("axis", np.array(3, np.int32))
    x = branch("image", "", STEM)
    for block in BLOCKS:
        x = join([branch(x, f"{block.name}/", steps) for steps in block.branches])
    x = add("Mean", [x, constant("axes", np.array([1, 2], np.int32))])
    x = add("MatMul", [x, constant("head/w", arrays[names.HEAD_KERNEL])])
    x = add("BiasAdd", [x, constant("head/b", arrays[names.HEAD_BIAS])])
    add("Identity", [add("Softmax", [x])])
    return {"node": nodes[::-1]}, weights  # in an order that does not help
