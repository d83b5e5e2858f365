"""A TensorFlow graph in the terms of `thyrojax.weights.operators`.

Kinds of operators, their settings and the order of their inputs are those of
tensorflow/core/ops/{nn,math,array}_ops.cc.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from thyrojax.weights.formats.graphdef import Operator
from thyrojax.weights.formats.tf_constants import FORMULAS, Constants
from thyrojax.weights.operators import Graph, Kind, Node

MAX_SETTINGS = 16  # whole numbers of one constant: axes, paddings

KINDS: dict[str, Kind] = {
    "Add": "add",
    "AddV2": "add",
    "AvgPool": "average pool",
    "BiasAdd": "add",
    "Cast": "same",
    "CheckNumerics": "same",
    "Concat": "concatenation",
    "ConcatV2": "concatenation",
    "Conv2D": "convolution",
    "Div": "divide",
    "ExpandDims": "reshape",
    "Identity": "same",
    "MatMul": "dense",
    "MaxPool": "max pool",
    "Mean": "mean",
    "Mul": "multiply",
    "Pad": "pad",
    "PlaceholderWithDefault": "same",
    "RealDiv": "divide",
    "Relu": "relu",
    "Reshape": "reshape",
    "Sigmoid": "sigmoid",
    "Snapshot": "same",
    "Softmax": "softmax",
    "Squeeze": "reshape",
    "StopGradient": "same",
    "Sub": "subtract",
}
# They make, or ask for, no values of the network: what reads them reads the graph's input.
ABSENT = ("Const", "NoOp", "Placeholder", "Rank", "Shape", "ShapeN", "Size")
IMAGES = (
    "DecodeJpeg",
    "DecodePng",
    "ResizeArea",
    "ResizeBicubic",
    "ResizeBilinear",
    "ResizeNearestNeighbor",
)
FUSED = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
GLOBAL = "BatchNormWithGlobalNormalization"  # of 2015
LAID_OUT = ("AvgPool", "BiasAdd", "Conv2D", "MaxPool", *FUSED)  # have a setting for it
DEFAULT_EPSILON = 1e-4  # of FusedBatchNorm in TensorFlow's list of operators


@dataclass(eq=False)
class Frozen:
    """A graph, its constants, and lines on what of it is left out.

    Attributes:
      first: a tensor that is another, which is a constant -> that one.
    """

    nodes: list[Node] = field(default_factory=list)
    constants: Constants = field(default_factory=Constants)
    first: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def graph(self) -> Graph:
        shapes = self.constants.shapes()
        return Graph(tuple(self.nodes), shapes, frozenset(shapes))


def build(operators: Sequence[Operator]) -> Frozen:
    """Takes operators, in an order in which they can be computed, apart into nodes and constants.

    Raises:
      ValueError: a constant is damaged, or images do not have their channels last.
    """
    frozen = Frozen()
    for operator in operators:
        if operator.kind == "Const":
            frozen.constants.stored[operator.name] = operator.tensor()
        inputs = tuple(frozen.first.get(tensor, tensor) for tensor in operator.inputs)
        known = frozen.constants.has
        same = KINDS.get(operator.kind) == "same" and inputs and known(inputs[0])
        if same or _lays_out(operator, inputs, frozen.constants):
            frozen.first[operator.name] = inputs[0]
        elif (
            operator.kind in FORMULAS
            and all(map(known, inputs))
            and frozen.constants.add_formula(operator.name, operator.kind, *inputs)
        ):
            continue
        elif operator.kind in IMAGES:
            frozen.notes.append(f"input: {operator.kind} ({operator.name}) is left out")
        elif operator.kind not in ABSENT:
            frozen.nodes += _nodes(operator, inputs, frozen.constants)
    return frozen


def _lays_out(operator: Operator, inputs: Sequence[str], constants: Constants) -> bool:
    """Whether it only puts a vector along the channels, as Keras does before BatchNorm."""
    if operator.kind != "Reshape" or len(inputs) != 2:
        return False
    length, sizes = constants.length(inputs[0]), _integers(constants, inputs[1])
    return length > 0 and sizes[-1:] in ((length,), (-1,)) and set(sizes[:-1]) <= {1}


def _nodes(operator: Operator, inputs: tuple[str, ...], constants: Constants) -> list[Node]:
    if operator.kind in LAID_OUT and operator.text("data_format") not in ("", "NHWC"):
        raise ValueError(
            f"{operator.name}: found data_format {operator.text('data_format')}, expected NHWC"
        )
    if operator.kind in (*FUSED, GLOBAL):
        nodes = _batch_norm(operator, inputs, constants)
        return nodes or [Node("other", operator.kind, inputs, (operator.name,))]
    kind = KINDS.get(operator.kind, "other")
    more: dict[str, Any] = {}
    if kind in ("convolution", "average pool", "max pool"):
        more["padding"] = operator.text("padding")
        more["strides"] = _plane(operator.integers("strides"))
    if kind == "convolution":
        more["dilations"] = _plane(operator.integers("dilations") or (1, 1, 1, 1))
    elif kind in ("average pool", "max pool"):
        more["window"] = _plane(operator.integers("ksize"))
    elif kind == "reshape":
        inputs = inputs[:1]  # the others say to what shape
    elif kind == "dense" and (operator.flag("transpose_a") or operator.flag("transpose_b")):
        kind = "other"
    elif kind == "concatenation":
        at = 0 if operator.kind == "Concat" else -1
        axes = _integers(constants, inputs[at]) if len(inputs) > 1 else ()
        inputs = inputs[1:] if at == 0 else inputs[:-1]
        more["axes"] = axes
    elif kind in ("mean", "pad"):
        values = _integers(constants, inputs[1]) if len(inputs) == 2 else ()
        inputs = inputs[:1]
        if kind == "mean":
            more["axes"] = values
        elif len(values) % 2 == 0:
            more["border"] = tuple(zip(values[::2], values[1::2], strict=True))
    return [Node(kind, operator.kind, inputs, (operator.name,), **more)]


def _plane(values: Sequence[int]) -> tuple[int, int]:
    """Height and width of four settings, those of batch and channels being one; else zeros."""
    if len(values) != 4 or (values[0], values[3]) != (1, 1):
        return 0, 0
    return values[1], values[2]


def _integers(constants: Constants, key: str) -> tuple[int, ...]:
    """Whole numbers of a constant, in a row; none where it is anything else."""
    tensor = constants.stored.get(key)
    if tensor is None or tensor.dtype not in ("int32", "int64"):
        return ()
    if not 0 <= math.prod(tensor.shape) <= MAX_SETTINGS:
        return ()
    try:
        return tuple(tensor.read().reshape(-1).tolist())
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


def _batch_norm(operator: Operator, inputs: tuple[str, ...], constants: Constants) -> list[Node]:
    """A BatchNorm as a product and a sum; nothing where it is not of constants: in training."""
    if len(inputs) != 5 or not all(map(constants.has, inputs[1:])):
        return []
    scale: str | None
    if operator.kind == GLOBAL:
        source, mean, variance, offset, scale = inputs
        epsilon = operator.float("variance_epsilon")
        if not operator.flag("scale_after_normalization"):
            scale = None
    else:
        source, scale, offset, mean, variance = inputs
        epsilon = operator.float("epsilon")
        epsilon = DEFAULT_EPSILON if epsilon is None else epsilon
        if operator.flag("is_training", True):
            return []
    if epsilon is None:
        return []
    name = operator.name
    parts = {
        part: f"{name}#{part}" for part in ("epsilon", "sum", "root", "inverse", "moved", "shift")
    }
    constants.numbers[parts["epsilon"]] = np.float32(epsilon)
    inverse = parts["root"] if scale is None else parts["inverse"]
    whole = [
        constants.add_formula(parts["sum"], "Add", variance, parts["epsilon"]),
        constants.add_formula(parts["root"], "Rsqrt", parts["sum"]),
        scale is None or constants.add_formula(inverse, "Mul", parts["root"], scale),
        constants.add_formula(parts["moved"], "Mul", mean, inverse),
        constants.add_formula(parts["shift"], "Sub", offset, parts["moved"]),
    ]
    if not all(whole):
        return []
    product = f"{name}#product"
    return [
        Node("multiply", operator.kind, (source, inverse), (product,)),
        Node("add", operator.kind, (product, parts["shift"]), (name,)),
    ]
