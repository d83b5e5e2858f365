"""The network as Keras has it: its layers, their names, and the order in which Keras keeps them.

Layers and names are those of `keras.applications.InceptionV3` in a fresh session. The order is that
of `model.layers`, by which Keras' files are written and read: layers furthest from the output come
first, and among those of one distance the one that a depth-first walk from the output meets first
(`map_graph` in Keras' `ops/function.py`). It differs from the order of creation, by which the
layers are numbered in their names.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from thyrojax.weights.graph import BLOCKS, LAST_BLOCK, STEM, Branch, Fork, Pool, Unit, trunk
from thyrojax.weights.types import KERAS_VARIANT, LastPool, Pooling

_WORD_BEGINS = (re.compile("(.)([A-Z][a-z]+)"), re.compile("([a-z])([A-Z])"))


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer of the model.

    Attributes:
      kind: Keras' class.
      name: within the model.
      inputs: the layers that it reads, in order.
      unit: of the trunk, for convolutions and BatchNorms.
      settings: what its class is made with, beside the name and what depends on the weights
        (depths, epsilon, whether BatchNorm has scales).
    """

    kind: str
    name: str
    inputs: tuple[Layer, ...]
    unit: Unit | None = None
    settings: dict[str, Any] = field(default_factory=dict)


def snake_case(kind: str) -> str:
    """A class as Keras spells it within names: `conv2d`, `batch_normalization`, `p_re_lu`."""
    for boundary in _WORD_BEGINS:
        kind = boundary.sub(r"\1_\2", kind)
    return kind.lower()


class Counters:
    """Names as Keras gives them out: NAME, NAME_1, NAME_2 and so on."""

    def __init__(self) -> None:
        self._given: Counter[str] = Counter()

    def next(self, name: str) -> str:
        number = self._given[name]
        self._given[name] += 1
        return f"{name}_{number}" if number else name


class _Builder:
    """Makes layers in Keras' order of creation."""

    def __init__(self, pooling: Pooling, last_pool: LastPool) -> None:
        self.units = iter(trunk().units)
        self.pooling, self.last_pool = pooling, last_pool
        self.counters = Counters()

    def add(
        self, kind: str, *inputs: Layer, name: str = "", unit: Unit | None = None, **settings: Any
    ) -> Layer:
        name = name or self.counters.next(snake_case(kind))
        return Layer(kind, name, inputs, unit, settings)

    def unit(self, before: Layer) -> Layer:
        unit = next(self.units)
        convolution = self.add(
            "Conv2D",
            before,
            unit=unit,
            kernel_size=[unit.height, unit.width],
            strides=[unit.stride, unit.stride],
            padding=unit.padding.lower(),
            use_bias=False,
        )
        normalised = self.add("BatchNormalization", convolution, unit=unit)
        return self.add("Activation", normalised, activation="relu")

    def pool(self, pool: Pool, before: Layer, block: str) -> Layer:
        kind = "MaxPooling2D" if pool.kind == "max" else "AveragePooling2D"
        if pool.kind == "average" and block == LAST_BLOCK and self.last_pool == "max":
            kind = "MaxPooling2D"
        padding = "same" if pool.stride == 1 else "valid"
        if kind == "AveragePooling2D" and self.pooling == "padded":
            # Keras' own padding is not counted by its average; zeros put there before it are.
            before = self.add("ZeroPadding2D", before, padding=[[1, 1], [1, 1]])
            padding = "valid"
        strides = [pool.stride, pool.stride]
        return self.add(kind, before, pool_size=[3, 3], strides=strides, padding=padding)

    def join(self, parts: Iterable[Layer], name: str) -> Layer:
        return self.add("Concatenate", *parts, name=name, axis=3)

    def branch(self, branch: Branch, before: Layer, block: str, fork_name: str) -> Layer:
        for step in branch:
            if isinstance(step, Pool):
                before = self.pool(step, before, block)
            elif isinstance(step, Fork):
                before = self.join([self.unit(before) for _ in step.convs], fork_name)
            else:
                before = self.unit(before)
        return before


@cache
def model_layers(
    head: bool = False,
    pooling: Pooling = KERAS_VARIANT.pooling,
    last_pool: LastPool = KERAS_VARIANT.last_pool,
) -> tuple[Layer, ...]:
    """The layers of the model, in the order of `model.layers`.

    Args:
      head: whether it ends with a dense layer, else with the pooled features.
    """
    builder = _Builder(pooling, last_pool)
    layer = builder.add("InputLayer")
    layer = builder.branch(STEM, layer, "", "")
    forked = 0  # blocks with branches that fork
    for i, block in enumerate(BLOCKS):
        outputs: list[Layer] = []
        fork_name = f"mixed9_{forked}"  # of a block's first fork; Keras leaves the second nameless
        for branch in block.branches:
            outputs.append(builder.branch(branch, layer, block.name, fork_name))
            if isinstance(branch[-1], Fork):
                fork_name = ""
        forked += not fork_name
        layer = builder.join(outputs, f"mixed{i}")
    layer = builder.add("GlobalAveragePooling2D", layer, name="avg_pool")
    if head:
        layer = builder.add("Dense", layer, name="predictions", activation="softmax")
    return _in_order(layer)


def _in_order(output: Layer) -> tuple[Layer, ...]:
    """All layers that an output depends on, in the order of `model.layers`."""
    met: dict[Layer, None] = {}
    finished: dict[Layer, None] = {}

    def walk(layer: Layer) -> None:
        if layer not in met:
            met[layer] = None
            for before in layer.inputs:
                walk(before)
            finished[layer] = None

    walk(output)
    distance = dict.fromkeys(met, 0)
    for layer in reversed(finished):  # every layer after all that read it
        for before in layer.inputs:
            distance[before] = max(distance[before], distance[layer] + 1)
    return tuple(sorted(met, key=lambda layer: -distance[layer]))  # stable: as met


def paths(layers: Iterable[Layer]) -> dict[str, Layer]:
    """Path of each layer in a file of Keras 3: numbered by class in the model's order."""
    counters = Counters()
    return {f"layers/{counters.next(snake_case(layer.kind))}": layer for layer in layers}


@cache
def order_in_files() -> tuple[int, ...]:
    """Place of each unit in the order of creation, by place among Keras 3's files' paths."""
    place = {unit.path: i for i, unit in enumerate(trunk().units)}
    return tuple(
        place[layer.unit.path] for layer in model_layers() if layer.unit and layer.kind == "Conv2D"
    )
