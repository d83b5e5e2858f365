"""TensorFlow's frozen graphs (.pb) of Inception-v3: TF-slim's, the one of 2015, and others.

The network is found by what its operators compute (`thyrojax.weights.topology`), whatever their
names: those of slim, the older ones of classify_image_graph_def.pb (`conv/conv2d_params`,
`mixed/tower/conv/batchnorm`), those of a graph within another. Only the auxiliary head, which few
frozen graphs have, is found by slim's names.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from thyrojax.errors import WeightsError
from thyrojax.weights import folded, names_slim
from thyrojax.weights.formats import frozen_graph, graphdef
from thyrojax.weights.formats.frozen_graph import Frozen
from thyrojax.weights.formats.graphdef import Operator
from thyrojax.weights.formats.tf_constants import BatchNorm, Constants
from thyrojax.weights.graph import aux_units
from thyrojax.weights.operators import Index, Layer, Node, Step
from thyrojax.weights.state_dict import FLOATS
from thyrojax.weights.topology import Found, find_network
from thyrojax.weights.types import (
    VARIANTS,
    Arrays,
    Reading,
    Request,
    Variant,
    raise_faults,
    value_fault,
)

NAME = "slim-frozen"
DESCRIPTION = "TensorFlow frozen graph .pb"
recognises = graphdef.recognises

MAX_AUX_STEPS = 8  # arithmetic after one of its convolutions


def read(path: Path, request: Request) -> Reading:
    """Reads the trunk, the classifier where it is one dense layer, and slim's auxiliary head.

    Raises:
      WeightsError: one line with every fault: a graph that is not Inception-v3's, an array of
        another shape or type or not finite, or a file that is damaged.
    """
    try:
        operators = graphdef.load(path)
        frozen = frozen_graph.build(operators)
    except ValueError as error:
        raise WeightsError(f"{path}: {error}") from None
    graph = frozen.graph
    found = find_network(graph, request)
    raise_faults(path, found.faults)
    aux = _aux_head(Index(graph), request) if request.head == "keep" else {}
    if request.head == "drop":
        found.head = None
    raise_faults(path, _size_faults(path, [found.head, aux.get("AuxLogits/fc")], graph.shapes))

    values = _Values(frozen.constants)
    layers = found.layers | {unit: layer for unit, layer in aux.items() if unit != "AuxLogits/fc"}
    norms = {unit: frozen.constants.batch_norm(layer.steps) for unit, layer in layers.items()}
    epsilon = _epsilon(norms, values)
    arrays: Arrays = {}
    for unit, layer in layers.items():
        arrays |= _unit_arrays(unit, layer, norms[unit], epsilon, values)
    if found.head:
        arrays |= _dense_arrays("params/fc", found.head, values)
    if aux:
        arrays |= _dense_arrays("params/AuxLogits/fc", aux["AuxLogits/fc"], values)
    before = folded.affine(found.before, 1, values.read) if found.before else None
    faults = list(values.faults)
    if not faults:
        for name, array in arrays.items():
            if fault := value_fault(name, array):
                faults.append(f"{name}: {fault}")
    raise_faults(path, faults)

    if before is None:
        # Of the networks with a max pool in the last block, all in circulation are those of 2015.
        preprocessing = VARIANTS["fid2015" if found.last_pool == "max" else "slim"].preprocessing
        note = f"input: the graph does not say how images are prepared; {preprocessing} assumed"
    else:
        arrays, preprocessing, note = folded.settle_input(arrays, before, None, False)
    notes = [note, *frozen.notes, *found.notes]
    if None in norms.values():
        notes.insert(0, folded.NOTE)
    if found.head and found.ending:
        notes.append(f"classifier: the graph ends in {found.ending}, these arrays give logits")
    variant = Variant(found.pooling, found.last_pool, epsilon, preprocessing)
    ignored = _ignored(operators, frozen, found, request)
    used = tuple(frozen.constants.used)
    return Reading(arrays, used, ignored, variant, {}, tuple(notes))


class _Values:
    """The values of constants; what is wrong with them is collected."""

    def __init__(self, constants: Constants) -> None:
        self._constants = constants
        self._shapes = constants.shapes()
        self.faults: dict[str, None] = {}

    def read(self, key: str) -> np.ndarray:
        try:
            return self._constants.values(key)
        except ValueError as error:
            self.faults[str(error)] = None
            return np.zeros(self._shapes[key], np.float32)

    def vector(self, key: str | None, length: int) -> np.ndarray:
        """One value for each channel; ones for no key."""
        if key is None:
            return np.ones(length, np.float32)
        return np.array(np.broadcast_to(self.read(key).reshape(-1), length))


def _epsilon(norms: Mapping[str, BatchNorm | None], values: _Values) -> float:
    """The one that all BatchNorms have."""
    found = {
        float(str(values.read(norm.epsilon).reshape(-1)[0])) for norm in norms.values() if norm
    }
    if len(found) > 1:
        values.faults[f"BatchNorm: found epsilons {sorted(found)}, expected one for all"] = None
    epsilon = found.pop() if found else folded.EPSILON
    if not 0 < epsilon < 1:
        values.faults[f"BatchNorm: found epsilon {epsilon}, expected 0 to 1"] = None
    return epsilon


def _unit_arrays(
    unit: str, layer: Layer, norm: BatchNorm | None, epsilon: float, values: _Values
) -> Arrays:
    """A unit's arrays; where the graph has no BatchNorm, an identity with the convolution's bias.

    A copy of each: the values must outlive the file, which may be replaced.
    """
    kernel = values.read(layer.kernel)
    outputs = kernel.shape[-1]
    if norm is not None:
        scale, bias = values.vector(norm.scale, outputs), values.vector(norm.offset, outputs)
        mean, variance = values.vector(norm.mean, outputs), values.vector(norm.variance, outputs)
    else:
        scale, bias = folded.affine(layer.steps, outputs, values.read)
        mean = np.zeros(outputs, np.float32)
        variance = np.full(outputs, np.float32(1) - np.float32(epsilon))
    return {
        f"params/{unit}/conv/kernel": kernel,
        f"params/{unit}/bn/scale": scale,
        f"params/{unit}/bn/bias": bias,
        f"batch_stats/{unit}/bn/mean": mean,
        f"batch_stats/{unit}/bn/var": variance,
    }


def _dense_arrays(path: str, layer: Layer, values: _Values) -> Arrays:
    kernel = values.read(layer.kernel)
    features, classes = kernel.shape[-2:]
    kernel = kernel.reshape(features, classes)  # of a 1x1 convolution
    scale, bias = folded.affine(layer.steps, classes, values.read)
    with np.errstate(all="ignore"):  # what is not finite is found in the arrays
        return {f"{path}/kernel": kernel * scale, f"{path}/bias": bias}


def _aux_head(index: Index, request: Request) -> dict[str, Layer]:
    """The auxiliary head's convolutions by our path; nothing where it is not slim's own."""
    shapes = index.graph.shapes
    convolutions = {
        node.inputs[1]: node
        for node in index.graph.nodes
        if node.kind == "convolution" and len(node.inputs) == 2
    }
    layers: dict[str, Layer] = {}
    for unit in ("AuxLogits/conv0", "AuxLogits/conv1", "AuxLogits/fc"):
        ending = f"{names_slim.scopes()[unit]}/weights"
        keys = [key for key in convolutions if key.endswith(ending) and key in shapes]
        if len(keys) != 1:
            return {}
        node = convolutions[keys[0]]
        layers[unit] = Layer(node, _steps_after(index, node))
    units = aux_units(request.depth_multiplier)
    expected: dict[str, tuple[int, ...]] = {unit.path: unit.kernel_shape for unit in units}
    classes = shapes[layers["AuxLogits/fc"].kernel][-1:]
    expected["AuxLogits/fc"] = (1, 1, units[-1].outputs, *classes)
    for unit, layer in layers.items():
        vectors = [shapes[step.constant] for step in layer.steps]
        lengths = {math.prod(vector) for vector in vectors}
        if shapes[layer.kernel] != expected[unit] or lengths - {1, expected[unit][-1]}:
            return {}
    return layers


def _steps_after(index: Index, node: Node) -> tuple[Step, ...]:
    """The arithmetic that follows a convolution."""
    steps: list[Step] = []
    while len(steps) < MAX_AUX_STEPS:
        readers = index.readers(node.outputs[0])
        step = index.step(readers[0]) if len(readers) == 1 else None
        if step is None:
            break
        steps.append(step)
        node = readers[0]
    return tuple(steps)


def _size_faults(
    path: Path, dense: Sequence[Layer | None], shapes: Mapping[str, tuple[int, ...]]
) -> list[str]:
    """A classifier may have any number of classes, but not more than the file can hold: one value
    may stand for many."""
    size = path.stat().st_size
    return [
        f"{layer.kernel}: found shape {shapes[layer.kernel]} in a file of {size} bytes, expected "
        "all its values there"
        for layer in dense
        if layer is not None and 2 * math.prod(shapes[layer.kernel]) > size
    ]


def _ignored(
    operators: Sequence[Operator], frozen: Frozen, found: Found, request: Request
) -> dict[str, str]:
    """Every constant that is not used, and why."""
    constants = frozen.constants
    within = {node.outputs[0].partition("#")[0] for node in frozen.nodes if id(node) in found.nodes}
    reasons = dict.fromkeys(constants.stored.keys() - constants.used, "read by no operator")
    for operator in operators:
        same = operator.inputs[:1] if operator.name in frozen.first else ()
        for tensor in operator.inputs[len(same) :]:
            key = frozen.first.get(tensor, tensor)
            if key not in reasons:
                continue
            is_float = constants.stored[key].dtype in FLOATS
            if not is_float or operator.kind in frozen_graph.IMAGES:
                reasons[key] = f"not a weight: setting of {operator.kind}"
            elif operator.kind == frozen_graph.GLOBAL and operator.name in within:
                reasons[key] = "scale that is not used: scale_after_normalization is false"
            elif request.head == "drop" and (operator.name in within or "AuxLogits/" in key):
                reasons[key] = "classifier: not asked for"
            else:
                reasons[key] = f"foreign head: operand of {operator.kind}"
    return dict(sorted(reasons.items()))
