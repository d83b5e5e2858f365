"""Inception-v3 found in a graph of operators by what they compute, whatever their names.

For formats that keep a whole inference graph. The graph is walked backwards from the last
concatenation, since every tensor has one producer but may have many readers, and held against
`thyrojax.weights.graph`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from thyrojax.weights.graph import BLOCKS, LAST_BLOCK, STEM, Block, Branch, Conv, Fork, Pool, Unit
from thyrojax.weights.operators import Graph, Index, Layer, Node, Step
from thyrojax.weights.types import LastPool, Pooling, Request, shape_fault

MAX_CONCATENATIONS = 200  # Inception-v3 has 11 or 15
MAX_STEPS = 8  # arithmetic operators after one convolution
MAX_BEFORE = 32  # operators between the input and the trunk


@dataclass(eq=False)
class Found:
    """The network in a graph.

    Attributes:
      layers: unit's path -> its convolution.
      head: the classifier, None where there is none or another.
      ending: what the classifier ends in: "", "softmax" or "sigmoid".
      before: arithmetic on the input; None where it is more than arithmetic.
      pooling, last_pool: as `thyrojax.weights.types.Variant`.
      input: the tensor that the trunk, or what comes before it, begins with.
      nodes: `id` of every operator of the trunk and the classifier, and before them.
      faults, notes: lines.
    """

    layers: dict[str, Layer] = field(default_factory=dict)
    head: Layer | None = None
    ending: str = ""
    before: tuple[Step, ...] | None = ()
    pooling: Pooling = "valid"
    last_pool: LastPool = "average"
    input: str = ""
    nodes: set[int] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find_network(graph: Graph, request: Request) -> Found:
    """The Inception-v3 of a graph. What does not fit is among `Found.faults`."""
    index = Index(graph)
    ends = [node for node in graph.nodes if node.kind == "concatenation"]
    best = Found()
    if len(ends) > MAX_CONCATENATIONS:
        best.faults.append(
            f"found {len(ends)} concatenations, expected at most {MAX_CONCATENATIONS}"
        )
        return best
    for end in reversed(ends):
        walk = _Walk(index, request)
        walk.trunk(end.outputs[0])
        if len(walk.found.layers) > len(best.layers):
            best = walk.found
        if not walk.found.faults:
            return best
    units = request.trunk.units
    if len(best.layers) < len(units) // 2:
        n_convolutions = sum(node.kind == "convolution" for node in graph.nodes)
        best.faults[:] = [
            f"found a graph of {len(graph.nodes)} operators and {n_convolutions} convolutions, of "
            f"which {len(best.layers)} are in place, expected the {len(units)} of Inception-v3"
        ]
    return best


class _Walk:
    """One attempt, from a tensor that may be the trunk's output back to the input."""

    def __init__(self, index: Index, request: Request) -> None:
        self.index, self.graph = index, index.graph
        self.units = {unit.path: unit for unit in request.trunk.units}
        self.features = request.trunk.features
        self.pools: dict[str, Pooling] = {}
        self.found = Found()

    def trunk(self, end: str) -> None:
        tensor: str | None = end
        for block in reversed(BLOCKS):
            if tensor is not None:
                tensor = self._block(block, tensor)
        if tensor is not None:
            tensor = self._branch("", STEM, [tensor])
        missing = len(self.units) - len(self.found.layers)
        if missing and not self.found.faults:
            self.found.faults.append(f"found {missing} units of the trunk missing, expected all")
        if tensor is not None:
            self._before(tensor)
        for pooling, n in Counter(self.pools.values()).most_common(1):
            self.found.pooling = pooling
            if n < len(self.pools):
                odd = ", ".join(where for where, kind in self.pools.items() if kind != pooling)
                self.found.faults.append(
                    f"{odd}: found average pools that treat the border otherwise than the "
                    "others', expected all alike"
                )
        if not self.found.faults:
            self._head(end)

    def _fault(self, where: str, node: Node | None, expected: str) -> None:
        found = f"{node.name} ({node.outputs[0]})" if node else "the graph's input"
        self.found.faults.append(f"{where}: found {found}, expected {expected}")

    def _block(self, block: Block, tensor: str) -> str | None:
        """The tensor that a block reads; None where no branch can be followed."""
        ends = list(self._leaves(tensor))
        widths = [
            len(branch[-1].convs) if isinstance(branch[-1], Fork) else 1
            for branch in block.branches
        ]
        if len(ends) != sum(widths):
            self._fault(block.name, self.index.producer(tensor), f"{sum(widths)} joined tensors")
            return None
        starts = []
        for branch, width in zip(block.branches, widths, strict=True):
            starts.append(self._branch(f"{block.name}/", branch, ends[:width]))
            ends = ends[width:]
        counts = Counter(start for start in starts if start is not None)
        if len(counts) > 1:
            self.found.faults.append(
                f"{block.name}: found branches that read {' and '.join(counts)}, expected one "
                "tensor for all"
            )
        return counts.most_common(1)[0][0] if counts else None

    def _leaves(self, tensor: str) -> Iterator[str]:
        """What a concatenation joins, with those within it resolved; cut off at 16."""
        waiting, n = [tensor], 0
        while waiting and n < 16:
            tensor = waiting.pop()
            node = self.index.producer(tensor)
            if (
                node is not None
                and node.kind == "concatenation"
                and not node.activation
                and node.axes in ((3,), (-1,))
            ):
                self.found.nodes.add(id(node))
                joined = [t for t in node.inputs[:16] if t not in self.graph.constants]
                waiting += reversed(joined)
                waiting = waiting[-64:]
            else:
                n += 1
                yield tensor

    def _branch(self, prefix: str, branch: Branch, ends: Sequence[str]) -> str | None:
        """The tensor that a branch reads."""
        tensors: list[str | None] = list(ends)
        for step in reversed(branch):
            if isinstance(step, Fork):
                pairs = zip(step.convs, tensors, strict=True)
                starts = [self._unit(self.units[prefix + conv.name], t) for conv, t in pairs]
                if len(set(starts)) > 1 and None not in starts:
                    where = prefix + step.convs[0].name
                    self.found.faults.append(f"{where}: found another input than its twin's")
                tensors = [next((start for start in starts if start is not None), None)]
            elif isinstance(step, Conv):
                tensors = [self._unit(self.units[prefix + step.name], tensors[0])]
            else:
                tensors = [self._pool(prefix, step, tensors[0])]
        return tensors[0]

    def _unit(self, unit: Unit, tensor: str | None) -> str | None:
        """Takes a convolution with all that follows it; returns the tensor that it reads."""
        steps: list[Step] = []
        passed: list[Node] = []
        rectified = False
        while tensor is not None:
            node = self.index.producer(tensor)
            if node is None or len(passed) > MAX_STEPS:
                self._fault(unit.path, node, "a convolution")
                return None
            passed.append(node)
            step = self.index.step(node)
            known = node.kind in ("relu", "convolution") or step is not None
            first_relu = not steps and not rectified
            if not known or node.activation not in ("", "relu"):
                self._fault(unit.path, node, "a convolution with bias and ReLU")
                return None
            if node.activation == "relu" or node.kind == "relu":
                if not first_relu:
                    self._fault(unit.path, node, "one ReLU, after the bias")
                    return None
                rectified = True
            if node.kind == "convolution":
                rectified = rectified or (node.clamped and not steps)
                return self._convolution(unit, node, steps, passed, rectified)
            if step is not None:
                steps.insert(0, step)
            tensor = self.index.source(node)
        return None

    def _convolution(
        self, unit: Unit, node: Node, steps: list[Step], passed: list[Node], rectified: bool
    ) -> str:
        source, border = self._without_border(node)
        if not rectified:
            self._fault(unit.path, node, "a ReLU after it")
        self._check_grid(unit, node, border)
        if len(node.inputs) < 2 or node.inputs[1] not in self.graph.constants:
            self._fault(unit.path, node, "a kernel in the file")
            return source
        if len(node.inputs) > 2 and node.inputs[2]:
            steps.insert(0, Step("add", node.inputs[2]))
        stored = self.graph.shapes[node.inputs[1]]
        if len(stored) == 4:
            stored = tuple(stored[axis] for axis in self.graph.kernel_axes)
        if fault := shape_fault(f"params/{unit.path}/conv/kernel", stored, unit.kernel_shape):
            self.found.faults.append(f"{unit.path}/kernel ({node.inputs[1]}): {fault}")
        self._check_steps(unit.path, steps, unit.outputs)
        self.found.layers[unit.path] = Layer(node, tuple(steps))
        self.found.nodes |= {id(operator) for operator in passed}
        return source

    def _check_grid(self, unit: Unit, node: Node, border: tuple[int, ...]) -> None:
        """Strides and padding. A border of zeros before a convolution is as good as padding."""
        height, width = (unit.height - 1) // 2, (unit.width - 1) // 2
        padding = node.padding
        if any(border):
            same = border == (height, height, width, width)
            padding = "SAME" if same and padding == "VALID" and unit.stride == 1 else "unknown"
        point = (unit.height, unit.width, unit.stride) == (1, 1, 1)  # no border either way
        strides = (unit.stride, unit.stride)
        found = (node.strides, node.dilations, padding)
        if found != (strides, (1, 1), unit.padding) and not (
            point and found[:2] == (strides, (1, 1)) and padding != "unknown"
        ):
            text = f"strides {node.strides}, dilations {node.dilations}, padding {padding}"
            self.found.faults.append(
                f"{unit.path}: found {text} ({node.outputs[0]}), expected strides {strides}, "
                f"dilations (1, 1), padding {unit.padding}"
            )

    def _check_steps(self, where: str, steps: Sequence[Step], channels: int) -> None:
        for step in steps:
            shape = self.graph.shapes.get(step.constant, ())
            wide = bool(shape) and shape[-1] not in (1, channels)
            if step.constant not in self.graph.constants or wide or any(n != 1 for n in shape[:-1]):
                self.found.faults.append(
                    f"{where}/{step.kind} ({step.constant}): found shape {shape}, expected a "
                    f"constant of {channels} values"
                )

    def _without_border(self, node: Node) -> tuple[str, tuple[int, ...]]:
        """What an operator reads before zeros are laid around it, and how many: top, bottom, left
        and right."""
        source = self.index.source(node)
        pad = self.index.producer(source)
        if pad is None or pad.kind != "pad":
            return self.index.first(source), ()
        self.found.nodes.add(id(pad))
        rows, columns = [*pad.border, (-1, -1), (-1, -1), (-1, -1)][1:3]
        return self.index.first(self.index.source(pad)), (*rows, *columns)

    def _pool(self, prefix: str, pool: Pool, tensor: str | None) -> str | None:
        """Takes a pool; returns the tensor that it reads."""
        if tensor is None:
            return None
        node = self.index.producer(tensor)
        last = prefix == f"{LAST_BLOCK}/"
        where, expected = f"{prefix}pool", f"a 3x3 {pool.kind} pool of stride {pool.stride}"
        kinds = (f"{pool.kind} pool", "max pool" if last else "")
        if node is None or node.kind not in kinds:
            self._fault(where, node, expected)
            return None
        source, border = self._without_border(node)
        self.found.nodes.add(id(node))
        strides = (pool.stride, pool.stride)
        layouts = {("VALID", ())} if pool.stride == 2 else {("SAME", ()), ("VALID", (1, 1, 1, 1))}
        if (
            (node.window, node.strides) != ((3, 3), strides)
            or (node.padding, border) not in layouts
            or node.activation
        ):
            self._fault(
                where, node, f"{expected}, padded {'not at all' if pool.stride == 2 else 'by 1'}"
            )
        if node.kind == "average pool":
            self.pools[prefix.rstrip("/")] = "padded" if border else "valid"
        elif pool.kind == "average":
            self.found.last_pool = "max"
        return source

    def _before(self, tensor: str) -> None:
        """What lies between the graph's input and the trunk."""
        steps: list[Step] = []
        understood = True
        for _ in range(MAX_BEFORE):
            node = self.index.producer(tensor)
            if node is None:
                break
            self.found.nodes.add(id(node))
            step = self.index.step(node)
            if step is not None and not node.activation:
                steps.insert(0, step)
            elif node.kind in ("convolution", "dense", "pad", "concatenation"):
                self._fault("before the trunk", node, "the input")
                return
            else:
                understood = False
                self.found.notes.append(
                    f"input: the graph has {node.name} before the trunk, which is left out"
                )
            tensor = self.index.source(node)
        if understood:
            # Colours may be counted from the constants' shapes only; the reader checks values.
            self._check_steps("before the trunk", steps, 3)
        self.found.before = tuple(steps) if understood else None
        self.found.input = tensor

    def _head(self, trunk: str) -> None:
        """Takes a dense layer (or 1x1 convolution) on the pooled features, where that is all."""
        chain: list[Node] = []
        tensor = trunk
        while (readers := self.index.readers(tensor)) and len(readers) == 1 and len(chain) < 16:
            chain.append(readers[0])
            if not readers[0].outputs:
                return
            tensor = readers[0].outputs[0]
        if self.index.readers(tensor) or not chain or not self._pools_all(chain[0]):
            return
        rest = [node for node in chain[1:] if node.kind != "reshape"]
        if not rest or rest[0].kind not in ("dense", "convolution"):
            if not rest:
                self.found.nodes |= {id(node) for node in chain}
            return
        layer, steps = rest.pop(0), []
        if len(layer.inputs) > 2 and layer.inputs[2]:
            steps.append(Step("add", layer.inputs[2]))
        while rest and not rest[0].activation and (step := self.index.step(rest[0])) is not None:
            steps.append(step)
            rest.pop(0)
        ending = rest[0].kind if rest else ""
        if len(rest) > 1 or ending not in ("", "softmax", "sigmoid") or layer.activation:
            return
        if not self._is_classifier(layer, steps):
            return
        self.found.head, self.found.ending = Layer(layer, tuple(steps)), ending
        self.found.nodes |= {id(node) for node in chain}

    def _pools_all(self, node: Node) -> bool:
        """Whether an operator takes the mean over the whole grid."""
        if node.activation:
            return False
        if node.kind == "mean":
            return sorted(axis % 4 for axis in node.axes) == [1, 2]
        grid = self.graph.shapes.get(node.outputs[0], (1, 1, 1, 1))[1:3]
        return node.kind == "average pool" and node.padding == "VALID" and grid == (1, 1)

    def _is_classifier(self, layer: Node, steps: Sequence[Step]) -> bool:
        """Whether a layer is one kernel on the features, with biases or without."""
        if len(layer.inputs) < 2 or layer.inputs[1] not in self.graph.constants:
            return False
        shape = self.graph.shapes[layer.inputs[1]]
        axes = self.graph.kernel_axes if layer.kind == "convolution" else self.graph.dense_axes
        if len(shape) != len(axes):
            return False
        ordered = tuple(shape[axis] for axis in axes)
        if ordered[:-1] not in ((self.features,), (1, 1, self.features)) or not ordered[-1]:
            return False
        n_faults = len(self.found.faults)
        self._check_steps("classifier", steps, ordered[-1])
        return len(self.found.faults) == n_faults
