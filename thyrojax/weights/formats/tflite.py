"""TensorFlow Lite's .tflite (LiteRT), float and quantised: an inference graph in a FlatBuffer.

Its container is read by `thyrojax.weights.formats.tflite_graph`. Converters fold BatchNorm into the
kernels and biases and may change every name, so the network is found by its graph
(`thyrojax.weights.topology`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from thyrojax.errors import WeightsError
from thyrojax.weights import folded
from thyrojax.weights.formats import tflite_graph
from thyrojax.weights.formats.tflite_graph import Model, Tensor
from thyrojax.weights.operators import Layer
from thyrojax.weights.topology import Found, find_network
from thyrojax.weights.types import Reading, Request, Variant, raise_faults, value_fault

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
        raise WeightsError(f"{path}: {error}") from None
    found = find_network(model.graph, request)
    raise_faults(path, found.faults)
    if request.head == "drop":
        found.head = None
    source = _Source(model)
    arrays = folded.fill(found, request, source.kernel, source.floats)
    faults = source.faults
    if not faults:
        for name, array in arrays.items():
            if fault := value_fault(name, array):
                faults.append(f"{name}: {fault}")
    raise_faults(path, faults)

    before = None
    if found.before is not None:
        before = folded.affine(found.before, 1, source.floats)
        raise_faults(path, faults)
    arrays, preprocessing, note = folded.settle_input(arrays, before, *_stored_input(model, found))
    notes = [folded.NOTE, *source.notes(), note, *found.notes]
    if found.head and found.ending:
        notes.append(f"classifier: the graph ends in {found.ending}, these arrays give logits")
    variant = Variant(found.pooling, found.last_pool, folded.EPSILON, preprocessing)
    ignored = _ignored(model, found, source.used, request)
    return Reading(arrays, tuple(source.used), ignored, variant, {}, tuple(notes))


class _Source:
    """The values of a model's constants, and which of them were asked for."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.used: dict[str, None] = {}
        self.faults: list[str] = []

    def kernel(self, layer: Layer) -> np.ndarray:
        """[height, width, inputs, outputs] or [inputs, outputs]."""
        values = self.floats(layer.kernel)
        graph = self._model.graph
        axes = graph.kernel_axes if layer.node.kind == "convolution" else graph.dense_axes
        return values.transpose(axes) if values.ndim == len(axes) else values

    def floats(self, key: str, layer: Layer | None = None) -> np.ndarray:
        """A constant as float32; whole numbers of a bias count its layer's input times kernel."""
        self.used[key] = None
        tensor = self._model.tensors[key]
        try:
            values = tensor.values()
            if values.dtype.kind == "f":
                with np.errstate(all="ignore"):
                    return values.astype(np.float32)
            if layer is not None and values.dtype.itemsize >= 4:
                source = self._model.tensors.get(layer.node.inputs[0])
                inputs = source.scales if source else np.empty(0, np.float32)
                kernel = self._model.tensors[layer.kernel].scales
                if len(inputs) != 1 or kernel.shape not in ((1,), values.shape):
                    raise ValueError(
                        f"found {len(inputs)} scales of the input and {len(kernel)} of the kernel, "
                        f"expected 1 and 1 or {len(values)}"
                    )
                scales = inputs.astype(np.float64) * kernel
                return (values * scales).astype(np.float32)
            return _dequantise(values, tensor)
        except ValueError as error:
            self.faults.append(f"{key}: {error}")
            return np.zeros(tensor.shape, np.float32)

    def notes(self) -> list[str]:
        kinds = {self._model.tensors[key].dtype for key in self.used}
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


def _stored_input(model: Model, found: Found) -> tuple[folded.Affine | None, bool]:
    """Scale and offset from grey levels to values, of an input that is quantised to 8 bits; and
    whether it comes to the graph like that. Else the graph quantises it itself."""
    quantised = [
        node.outputs[0]
        for node in model.graph.nodes
        if node.kind == "same" and node.inputs[:1] == (found.input,)
    ]
    for key in (found.input, *quantised):
        tensor = model.tensors.get(key)
        if tensor is None or tensor.dtype not in (np.dtype("u1"), np.dtype("i1")):
            continue
        if len(tensor.scales) == 1 and len(tensor.zero_points) == 1:
            black = float(np.iinfo(tensor.dtype).min) - float(tensor.zero_points[0])
            return (tensor.scales, tensor.scales * np.float32(black)), key == found.input
    return None, False


def _ignored(model: Model, found: Found, used: dict[str, None], request: Request) -> dict[str, str]:
    """Every constant that is not used, and why."""
    reasons = dict.fromkeys(model.graph.constants - used.keys(), "read by no operator")
    for node in model.graph.nodes:
        for key in node.inputs:
            if key not in reasons:
                continue
            if id(node) not in found.nodes:
                reasons[key] = f"foreign head: operand of {node.name}"
            elif node.kind in ("dense", "convolution", "add") and request.head == "drop":
                reasons[key] = "classifier: not asked for"
            else:
                reasons[key] = f"not a weight: setting of {node.name}"
    return dict(sorted(reasons.items()))
