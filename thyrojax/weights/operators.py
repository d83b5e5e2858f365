"""The operators of an inference graph, in terms that all formats with such graphs share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

Kind = Literal[
    "convolution",
    "average pool",
    "max pool",
    "concatenation",
    "relu",
    "add",
    "subtract",
    "multiply",
    "divide",
    "pad",
    "mean",
    "reshape",
    "dense",
    "softmax",
    "sigmoid",
    "same",  # changes how numbers are stored, not what they are
    "other",
]
ARITHMETIC = ("add", "subtract", "multiply", "divide")


@dataclass(frozen=True)
class Node:
    """An operator.

    Attributes:
      kind: what it computes; `name`: what its format calls it.
      inputs, outputs: keys of tensors; an input that is left out is "".
      window, strides, dilations: (height, width) of pools and convolutions.
      padding: "SAME" or "VALID", of pools and convolutions.
      border: of a pad with zeros, how many before and after along each axis.
      axes: of a mean or a concatenation.
      activation: computed on the result: "" for none, "relu" or another's name.
      clamped: the result is stored as numbers that stand for nothing below zero.
    """

    kind: Kind
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    window: tuple[int, int] = (0, 0)
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    padding: str = "VALID"
    border: tuple[tuple[int, int], ...] = ()
    axes: tuple[int, ...] = ()
    activation: str = ""
    clamped: bool = False


@dataclass(frozen=True, eq=False)
class Graph:
    """Operators in an order in which they can be computed, each tensor made by at most one.

    Attributes:
      shapes: of the tensors that have a known one.
      constants: the tensors whose values the file holds.
      kernel_axes: where height, width, inputs and outputs stand in a convolution's kernel.
      dense_axes: where inputs and outputs stand in a dense kernel.
    """

    nodes: tuple[Node, ...]
    shapes: Mapping[str, tuple[int, ...]]
    constants: frozenset[str]
    kernel_axes: tuple[int, int, int, int] = (0, 1, 2, 3)
    dense_axes: tuple[int, int] = (0, 1)


class Step(NamedTuple):
    """Arithmetic on a tensor with a constant of one value, or one value for each channel."""

    kind: Kind
    constant: str


class Layer(NamedTuple):
    """A convolution or dense layer, and the arithmetic that follows it, in order."""

    node: Node
    steps: tuple[Step, ...]

    @property
    def kernel(self) -> str:
        return self.node.inputs[1]


class Index:
    """A graph with the ways from a tensor to its producer and its readers.

    A tensor goes by the first name of those that differ in storage only.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._first: dict[str, str] = {}
        self._producers: dict[str, Node] = {}
        self._readers: dict[str, list[Node]] = {}
        for node in graph.nodes:
            if node.kind == "same" and node.inputs and node.outputs:
                self._first[node.outputs[0]] = self.first(node.inputs[0])
                continue
            self._producers |= dict.fromkeys(node.outputs, node)
            for tensor in {self.first(tensor) for tensor in node.inputs}:
                self._readers.setdefault(tensor, []).append(node)

    def first(self, tensor: str) -> str:
        return self._first.get(tensor, tensor)

    def producer(self, tensor: str) -> Node | None:
        return self._producers.get(self.first(tensor))

    def readers(self, tensor: str) -> Sequence[Node]:
        return self._readers.get(self.first(tensor), ())

    def source(self, node: Node) -> str:
        """The input that is no constant."""
        return next((t for t in node.inputs if t and t not in self.graph.constants), "")

    def step(self, node: Node) -> Step | None:
        """The operator as arithmetic with a constant; None where it is something else."""
        if node.kind not in ARITHMETIC or len(node.inputs) != 2:
            return None
        constants = [tensor for tensor in node.inputs if tensor in self.graph.constants]
        if len(constants) != 1:
            return None
        if node.kind in ("subtract", "divide") and constants[0] == node.inputs[0]:
            return None
        return Step(node.kind, constants[0])
