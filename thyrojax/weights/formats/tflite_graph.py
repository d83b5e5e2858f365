"""The container of TensorFlow Lite: a FlatBuffer with operators, tensors and their values.

Numbers of fields and operators are those of tensorflow/compiler/mlir/lite/schema/schema.fbs
(version 3). Nothing is read but what stands in the file, and no value before it is asked for.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thyrojax.weights import flatbuffer
from thyrojax.weights.flatbuffer import Table
from thyrojax.weights.operators import Graph, Kind, Node

IDENTIFIER = b"TFL3"
MAX_OPERANDS = 64
MAX_DIMENSIONS = 8

# Number in the schema -> name there, and what it computes.
OPERATORS: dict[int, tuple[str, Kind]] = {
    0: ("ADD", "add"),
    1: ("AVERAGE_POOL_2D", "average pool"),
    2: ("CONCATENATION", "concatenation"),
    3: ("CONV_2D", "convolution"),
    4: ("DEPTHWISE_CONV_2D", "other"),
    6: ("DEQUANTIZE", "same"),
    9: ("FULLY_CONNECTED", "dense"),
    14: ("LOGISTIC", "sigmoid"),
    17: ("MAX_POOL_2D", "max pool"),
    18: ("MUL", "multiply"),
    19: ("RELU", "relu"),
    21: ("RELU6", "other"),
    22: ("RESHAPE", "reshape"),
    23: ("RESIZE_BILINEAR", "other"),
    25: ("SOFTMAX", "softmax"),
    34: ("PAD", "pad"),
    39: ("TRANSPOSE", "other"),
    40: ("MEAN", "mean"),
    41: ("SUB", "subtract"),
    42: ("DIV", "divide"),
    43: ("SQUEEZE", "reshape"),
    53: ("CAST", "same"),
    114: ("QUANTIZE", "same"),
}
ACTIVATIONS = {0: "", 1: "relu", 2: "relu_n1_to_1", 3: "relu6", 4: "tanh", 5: "sign"}
# Field of an operator's options that holds the activation.
ACTIVATION_FIELDS: dict[Kind, int] = {
    "convolution": 3,
    "average pool": 5,
    "max pool": 5,
    "concatenation": 1,
    "dense": 0,
    "add": 0,
    "subtract": 0,
    "multiply": 0,
    "divide": 0,
}
NO_OPTIONS = Table(memoryview(b""), 0, ())
DTYPES = {0: "<f4", 1: "<f2", 2: "<i4", 3: "u1", 4: "<i8", 7: "<i2", 9: "i1", 10: "<f8"}


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor, or what a file says of one that the operators make.

    Attributes:
      key: its name; with "#" and its number where others have the same or it has none.
      shape: as stored.
      dtype: NumPy's; None for types that hold no plain numbers.
      raw: the bytes of its values, none where it has none.
      scales, zero_points: of quantisation, for the whole or along `axis`; none where not quantised.
    """

    key: str
    shape: tuple[int, ...]
    dtype: np.dtype | None
    raw: np.ndarray
    scales: np.ndarray
    zero_points: np.ndarray
    axis: int

    def values(self) -> np.ndarray:
        """The numbers as stored, a view into the file.

        Raises:
          ValueError: they are of another size or type than the file says.
        """
        if self.dtype is None:
            raise ValueError("found a type without plain numbers, expected floats or integers")
        size = math.prod(self.shape) * self.dtype.itemsize
        if len(self.raw) != size:
            raise ValueError(f"found {len(self.raw)} bytes, expected {size} for {self.shape}")
        return self.raw.view(self.dtype).reshape(self.shape)


@dataclass(frozen=True, eq=False)
class Model:
    """A file: its operators, and its tensors by key."""

    graph: Graph
    tensors: dict[str, Tensor]
    inputs: tuple[str, ...]


def recognises(path: Path) -> bool:
    """Whether the file has the identifier of TensorFlow Lite."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(8)[4:] == IDENTIFIER


def load(path: Path) -> Model:
    """The operators and tensors of a file, which stays open for as long as the tensors live.

    Raises:
      ValueError: it is damaged, or of more than one graph.
      OSError: it cannot be read.
    """
    with path.open("rb") as file:
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    root = flatbuffer.root(data)
    if (version := root.number(0, "I")) != 3:
        raise ValueError(f"found version {version} of TensorFlow Lite's schema, expected 3")
    subgraphs = list(root.tables(2))
    if len(subgraphs) != 1:
        raise ValueError(f"found {len(subgraphs)} graphs, expected one")
    tensors = _tensors(subgraphs[0], [_buffer(data, table) for table in root.tables(4)])
    codes = [_operator_code(table) for table in root.tables(1)]
    nodes = _nodes(subgraphs[0], codes, tensors)
    graph = Graph(
        nodes=nodes,
        shapes={tensor.key: tensor.shape for tensor in tensors},
        constants=frozenset(tensor.key for tensor in tensors if len(tensor.raw)),
        kernel_axes=(1, 2, 3, 0),
        dense_axes=(1, 0),
    )
    inputs = _keys(subgraphs[0].values(1, "<i4"), tensors)
    return Model(graph, {tensor.key: tensor for tensor in tensors}, inputs)


def _buffer(data: memoryview, table: Table) -> np.ndarray:
    """The bytes of a buffer: in the FlatBuffer, or behind it in files of more than 2 GB."""
    offset, size = table.number(1, "Q"), table.number(2, "Q")
    return flatbuffer.view(data, offset, size) if offset > 1 else table.values(0, "u1")


def _operator_code(table: Table) -> tuple[str, Kind]:
    code = max(table.number(0, "b"), table.number(3, "i"))
    if code == 32:
        return f"custom operator {table.text(1)}", "other"
    return OPERATORS.get(code, (f"operator {code}", "other"))


def _tensors(subgraph: Table, buffers: Sequence[np.ndarray]) -> list[Tensor]:
    tables = list(subgraph.tables(0))
    texts = [table.text(3) for table in tables]
    seen: set[str] = set()
    tensors = []
    for i, (table, text) in enumerate(zip(tables, texts, strict=True)):
        key = text if text and text not in seen else f"{text}#{i}"
        if key in seen:
            raise ValueError(f"{key}: found two tensors of that name, expected one")
        seen.add(key)
        shape = table.values(0, "<i4")
        number = table.number(2, "I")
        if len(shape) > MAX_DIMENSIONS or (shape < 0).any():
            raise ValueError(f"{key}: found shape {shape[:9].tolist()}, expected up to 8 sizes")
        if number >= max(len(buffers), 1):
            raise ValueError(f"{key}: found buffer {number}, expected one of {len(buffers)}")
        dtype = DTYPES.get(table.number(1, "b"))
        quantisation = table.table(4)
        nothing = np.empty(0, "<f4")
        tensors.append(
            Tensor(
                key=key,
                shape=tuple(shape.tolist()),
                dtype=None if dtype is None or table.table(6) else np.dtype(dtype),
                raw=buffers[number] if number else np.empty(0, np.uint8),
                scales=nothing if quantisation is None else quantisation.values(2, "<f4"),
                zero_points=nothing if quantisation is None else quantisation.values(3, "<i8"),
                axis=0 if quantisation is None else quantisation.number(6, "i"),
            )
        )
    return tensors


def _keys(numbers: np.ndarray, tensors: Sequence[Tensor]) -> tuple[str, ...]:
    """Keys of tensors by number; -1 is one that is left out."""
    if len(numbers) > MAX_OPERANDS:
        raise ValueError(f"found {len(numbers)} operands, expected at most {MAX_OPERANDS}")
    if len(numbers) and not (numbers.min() >= -1 and numbers.max() < len(tensors)):
        raise ValueError(f"found a tensor beyond the {len(tensors)} that there are")
    return tuple("" if i < 0 else tensors[i].key for i in numbers.tolist())


def _nodes(
    subgraph: Table, codes: Sequence[tuple[str, Kind]], tensors: Sequence[Tensor]
) -> tuple[Node, ...]:
    by_key = {tensor.key: tensor for tensor in tensors}
    constants = {tensor.key for tensor in tensors if len(tensor.raw)}
    stored: dict[str, str] = {}  # a constant that an operator dequantises -> the one in the file
    operators = [
        (table, _keys(table.values(1, "<i4"), tensors), _keys(table.values(2, "<i4"), tensors))
        for table in subgraph.tables(3)
    ]
    waiting = {key for _, _, outputs in operators for key in outputs}
    nodes = []
    for table, inputs, outputs in operators:
        code = table.number(0, "I")
        if code >= len(codes):
            raise ValueError(f"found operator code {code}, expected one of {len(codes)}")
        name, kind = codes[code]
        missing = not outputs or "" in outputs
        if missing or not waiting.isdisjoint(inputs) or not waiting.issuperset(outputs):
            raise ValueError(
                f"{name} ({', '.join(outputs)}): found a tensor used before it is made, or made "
                "twice or not at all, expected operators in order"
            )
        waiting.difference_update(outputs)
        inputs = tuple(stored.get(key, key) for key in inputs)
        if kind == "same" and inputs and inputs[0] in constants:
            stored[outputs[0]] = inputs[0]
            continue
        options = table.table(4) or NO_OPTIONS
        nodes.append(_node(name, kind, inputs, outputs, options, by_key))
    return tuple(nodes)


def _node(
    name: str,
    kind: Kind,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    options: Table,
    tensors: dict[str, Tensor],
) -> Node:
    more: dict[str, Any] = {}
    if (field := ACTIVATION_FIELDS.get(kind)) is not None:
        more["activation"] = ACTIVATIONS.get(options.number(field, "b"), "unknown")
    if kind in ("convolution", "average pool", "max pool"):
        more["padding"] = {0: "SAME", 1: "VALID"}.get(options.number(0, "b"), "unknown")
        more["strides"] = (options.number(2, "i"), options.number(1, "i"))
    if kind == "convolution":
        more["dilations"] = (options.number(5, "i", 1), options.number(4, "i", 1))
        more["clamped"] = _starts_at_zero(tensors[outputs[0]])
    elif kind in ("average pool", "max pool"):
        more["window"] = (options.number(4, "i"), options.number(3, "i"))
    elif kind == "concatenation":
        more["axes"] = (options.number(0, "i"),)
    elif kind == "dense" and options.number(1, "b"):
        kind = "other"  # weights in a shuffled order
    elif kind in ("mean", "pad"):
        numbers = tensors[inputs[1]] if len(inputs) > 1 and inputs[1] else None
        if numbers is None or not 0 < len(numbers.raw) <= 8 * 2 * MAX_DIMENSIONS:
            kind = "other"
        elif kind == "mean":
            more["axes"] = tuple(int(axis) for axis in numbers.values().reshape(-1))
        else:
            more["border"] = tuple((int(a), int(b)) for a, b in numbers.values().reshape(-1, 2))
    return Node(kind, name, inputs, outputs, **more)


def _starts_at_zero(tensor: Tensor) -> bool:
    """Whether a quantised tensor holds nothing below zero, which is as good as a ReLU."""
    if tensor.dtype is None or tensor.dtype.kind not in "iu" or len(tensor.zero_points) != 1:
        return False
    return int(tensor.zero_points[0]) == np.iinfo(tensor.dtype).min
