"""TensorFlow Lite's .tflite (LiteRT), float and quantised: an inference graph in a FlatBuffer.

Its container is read by `thyrojax.weights.formats.tflite_graph`. Converters fold BatchNorm into the
kernels and biases and may change every name, so the network is found by its graph
(`thyrojax.weights.topology`).
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from pathlib import Path

import numpy as np

from thyrojax.weights import folded
from thyrojax.weights.formats import tflite_graph
from thyrojax.weights.formats.tflite_graph import Model, Tensor
from thyrojax.weights.operators import Layer
from thyrojax.weights.types import Reading, Request, raise_faults

NAME = "tflite"
DESCRIPTION = "TensorFlow Lite .tflite"
recognises = tflite_graph.recognises


def read(path: Path, request: Request) -> Reading:
    """Reads the trunk, and the classifier on it where it is one dense layer on the pooled features.

    Raises:
      WeightsError: one line with every fault: a graph that is not Inception-v3's, an array of
        another shape or type or not finite, or a file that is damaged.
    """
    try:
        model = tflite_graph.load(path)
    except ValueError as error:
        raise_faults(path, [str(error)])  # which also keeps it on one line
        raise
    return folded.read_network(
        path,
        model.graph,
        request,
        floats=partial(_floats, model),
        stored_input=partial(_stored_input, model),
        precision_notes=partial(_precision_notes, model),
    )


def _floats(model: Model, key: str, layer: Layer | None) -> np.ndarray:
    """A constant as float32; whole numbers of a bias count its layer's input times kernel."""
    tensor = model.tensors[key]
    values = tensor.values()
    if values.dtype.kind == "f":
        with np.errstate(all="ignore"):  # what is not finite is found in the arrays
            return values.astype(np.float32)
    if layer is None or values.dtype.itemsize < 4:
        return _dequantise(values, tensor)
    given = model.tensors.get(layer.node.inputs[0])
    inputs = given.scales if given else np.empty(0, np.float32)
    kernel = model.tensors[layer.kernel].scales
    if len(inputs) != 1 or kernel.shape not in ((1,), values.shape):
        raise ValueError(
            f"found {len(inputs)} scales of the input and {len(kernel)} of the kernel, expected 1 "
            f"and 1 or {len(values)}"
        )
    with np.errstate(all="ignore"):
        return (values * (inputs.astype(np.float64) * kernel)).astype(np.float32)


def _precision_notes(model: Model, used: Collection[str]) -> list[str]:
    kinds = {model.tensors[key].dtype for key in used}
    bits = [kind.itemsize * 8 for kind in kinds if kind and kind.kind in "iu"]
    notes = []
    if bits:
        notes.append(f"weights are quantised to {min(bits)} bits, values are approximate")
    if np.dtype("<f2") in kinds:
        notes.append("weights are stored in float16, values are rounded to it")
    return notes


def _dequantise(values: np.ndarray, tensor: Tensor) -> np.ndarray:
    """(number - zero point) * scale, for the whole or along one axis."""
    scales, zeros = tensor.scales, tensor.zero_points
    axis = tensor.axis if len(scales) > 1 else 0
    long = values.shape[axis] if 0 <= axis < values.ndim else -1
    zeros = np.zeros(1, np.int64) if not len(zeros) else zeros
    if len(scales) not in (1, long) or len(zeros) not in (1, long) or abs(zeros).max() > 2**15:
        raise ValueError(
            f"found {len(scales)} scales and {len(zeros)} zero points along axis {axis} of "
            f"{values.shape}, expected one each, or as many as values there"
        )
    along = [1] * values.ndim
    along[axis] = -1
    scales, zeros = scales.reshape(along if len(scales) > 1 else -1), zeros.astype(np.float32)
    zeros = zeros.reshape(along if len(zeros) > 1 else -1)
    result = values.astype(np.float32)
    with np.errstate(all="ignore"):
        result -= zeros
        result *= scales
    return result


def _stored_input(model: Model, given: str) -> tuple[folded.Affine | None, bool]:
    """Scale and offset from grey levels to values, of an input that is quantised to 8 bits; and
    whether it comes to the graph like that. Else the graph quantises it itself."""
    quantised = [
        node.outputs[0]
        for node in model.graph.nodes
        if node.kind == "same" and node.inputs[:1] == (given,)
    ]
    for key in (given, *quantised):
        tensor = model.tensors.get(key)
        if tensor is None or tensor.dtype not in (np.dtype("u1"), np.dtype("i1")):
            continue
        if len(tensor.scales) == 1 and len(tensor.zero_points) == 1:
            black = float(np.iinfo(tensor.dtype).min) - float(tensor.zero_points[0])
            return (tensor.scales, tensor.scales * np.float32(black)), key == given
    return None, False
