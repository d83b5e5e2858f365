"""Arrays of ours from a network without BatchNorm, found by its graph: kernels and biases.

A unit's BatchNorm is filled with an identity, and what its convolution adds becomes the BatchNorm's
bias; what multiplies it, where the converter left that apart, the BatchNorm's scale.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from thyrojax.weights import names
from thyrojax.weights.operators import ARITHMETIC, Graph, Layer, Step
from thyrojax.weights.topology import Found, find_network
from thyrojax.weights.types import (
    OWN_PREPROCESSING,
    PREPROCESSING,
    VARIANTS,
    Arrays,
    Reading,
    Request,
    Variant,
    raise_faults,
    value_fault,
)

NOTE = (
    "BatchNorm: the converter folded it into the convolutions; filled with an identity, whose bias "
    "is the convolution's"
)

EPSILON = VARIANTS["slim"].epsilon
VARIANCE = np.float32(1.0) - np.float32(EPSILON)  # plus EPSILON, in float32, this is 1 exactly

# By how far a known preprocessing may differ, at black or at white, from what a file's numbers give
# (the network sees about -1..1): rounding to 8 bits moves zero by up to 1/255.
TOLERANCE = 0.03
# Converters move a division by 127.5 from before the trunk into its first kernel. With BatchNorm
# folded in, the mean absolute value of ImageNet's first kernel is 0.38 for inputs of -1..1.
SMALL_KERNEL = 0.03
_FIRST_SCALE = "params/Conv2d_1a_3x3/bn/scale"

Affine = tuple[np.ndarray, np.ndarray]  # scale and offset
# The values of a constant in float32, and the layer that it is the bias of.
Floats = Callable[[str, Layer | None], np.ndarray]


def read_network(
    path: Path,
    graph: Graph,
    request: Request,
    floats: Floats,
    stored_input: Callable[[str], tuple[Affine | None, bool]],
    precision_notes: Callable[[Collection[str]], list[str]],
) -> Reading:
    """What a graph holds, as all formats with graphs give it.

    Args:
      path: for messages.
      floats: the values of a constant; ValueError where they cannot be had.
      stored_input: for the key of the graph's input, scale and offset from grey levels to its
        values where it is quantised, and whether it comes to the graph like that.
      precision_notes: lines on how exact the values under some keys are.

    Raises:
      WeightsError: one line with every fault: a graph that is not Inception-v3's, an array of
        another shape or type or not finite.
    """
    found = find_network(graph, request)
    raise_faults(path, found.faults)
    if request.head == "drop":
        found.head = None
    values = _Values(graph, floats)
    arrays = _fill(found, request, values)
    before = None
    if found.before is not None:
        before = affine(found.before, 1, values.floats)
    if not values.faults:
        for name, array in arrays.items():
            if fault := value_fault(name, array):
                values.faults.append(f"{name}: {fault}")
    raise_faults(path, values.faults)
    arrays, preprocessing, note = settle_input(arrays, before, *stored_input(found.input))
    notes = [NOTE, *precision_notes(values.used), note, *found.notes]
    if found.head and found.ending:
        notes.append(f"classifier: the graph ends in {found.ending}, these arrays give logits")
    return Reading(
        arrays=arrays,
        used=tuple(values.used),
        ignored=_ignored(graph, found, values.used, request),
        variant=Variant(found.pooling, found.last_pool, EPSILON, preprocessing),
        notes=tuple(notes),
    )


class _Values:
    """The values of a graph's constants, which of them were asked for, and what is wrong."""

    def __init__(self, graph: Graph, floats: Floats) -> None:
        self._graph, self._floats = graph, floats
        self.used: dict[str, None] = {}
        self.faults: list[str] = []

    def floats(self, key: str, layer: Layer | None = None) -> np.ndarray:
        self.used[key] = None
        try:
            return self._floats(key, layer)
        except ValueError as error:
            self.faults.append(f"{key}: {error}")
            return np.zeros(self._graph.shapes[key], np.float32)

    def kernel(self, layer: Layer) -> np.ndarray:
        """[height, width, inputs, outputs] or [inputs, outputs]."""
        graph = self._graph
        axes = graph.kernel_axes if layer.node.kind == "convolution" else graph.dense_axes
        return self.floats(layer.kernel).transpose(axes)


def _fill(found: Found, request: Request, values: _Values) -> Arrays:
    """Arrays of the trunk, and of the head where there is one."""
    arrays: Arrays = {}
    for unit in request.trunk.units:
        layer = found.layers[unit.path]
        scale, bias = affine(layer.steps, unit.outputs, partial(values.floats, layer=layer))
        arrays[f"params/{unit.path}/conv/kernel"] = values.kernel(layer)
        arrays[f"params/{unit.path}/bn/scale"] = scale
        arrays[f"params/{unit.path}/bn/bias"] = bias
        arrays[f"batch_stats/{unit.path}/bn/mean"] = np.zeros(unit.outputs, np.float32)
        arrays[f"batch_stats/{unit.path}/bn/var"] = np.full(unit.outputs, VARIANCE)
    if head := found.head:
        kernel = values.kernel(head)
        features, classes = kernel.shape[-2:]
        scale, bias = affine(head.steps, classes, partial(values.floats, layer=head))
        kernel = kernel.reshape(features, classes)  # of a 1x1 convolution
        arrays[names.HEAD_KERNEL] = kernel if (scale == 1).all() else kernel * scale
        arrays[names.HEAD_BIAS] = bias
    return arrays


def _ignored(graph: Graph, found: Found, used: Collection[str], request: Request) -> dict[str, str]:
    """Every constant that is not used, and why."""
    reasons = dict.fromkeys(sorted(graph.constants.difference(used)), "read by no operator")
    for node in graph.nodes:
        for key in node.inputs:
            if key not in reasons:
                continue
            if id(node) not in found.nodes:
                reasons[key] = f"foreign head: operand of {node.name}"
            elif node.kind in ("dense", "convolution", *ARITHMETIC) and request.head == "drop":
                reasons[key] = "classifier: not asked for"
            else:
                reasons[key] = f"not a weight: setting of {node.name}"
    return reasons


def affine(steps: Sequence[Step], channels: int, floats: Callable[[str], np.ndarray]) -> Affine:
    """Arithmetic in a row as one scale and one offset for each channel."""
    scale, offset = np.ones(channels, np.float32), np.zeros(channels, np.float32)
    with np.errstate(all="ignore"):  # what is not finite is found in the arrays
        for kind, constant in steps:
            values = floats(constant).reshape(-1)
            if kind == "add":
                offset = offset + values
            elif kind == "subtract":
                offset = offset - values
            elif kind == "multiply":
                scale, offset = scale * values, offset * values
            else:
                scale, offset = scale / values, offset / values
    return scale, offset


def known_preprocessing(scale: np.ndarray, offset: np.ndarray) -> str | None:
    """The key of `PREPROCESSING` nearest to grey level * scale + offset, None where all are far.

    Args:
      scale, offset: one value, or one for each colour.
    """
    nearest, distance = None, np.inf
    for name, (known_scale, known_offset) in PREPROCESSING.items():
        slope = 255 * (np.asarray(known_scale) - scale)
        black = np.asarray(known_offset) - offset
        far = np.maximum(np.abs(black), np.abs(black + slope)).max()
        apart = (np.abs(slope) + np.abs(black)).max()
        if far <= TOLERANCE and apart < distance:
            nearest, distance = name, apart
    return nearest


def settle_input(
    arrays: Arrays, before: Affine | None, stored: Affine | None, takes_grey_levels: bool
) -> tuple[Arrays, str, str]:
    """Finds out what preprocessing the arrays expect. One that has no name moves into the first
    unit, which has no padding, exactly: the arrays then expect `OWN_PREPROCESSING`.

    Args:
      arrays: of the trunk.
      before: scale and offset within the graph, before the trunk; None where there is more.
      stored: scale and offset from grey levels to the values of a quantised input, None of others.
      takes_grey_levels: whether the graph's own input is quantised; else `stored` is only the range
        that the graph was made for.

    Returns:
      The arrays, a key of `PREPROCESSING`, and a note.
    """
    assumed = f"input: the file does not say how images are prepared; {OWN_PREPROCESSING} assumed"
    if before is None:
        return arrays, OWN_PREPROCESSING, assumed
    one, nothing = np.ones(1, np.float32), np.zeros(1, np.float32)
    inside = bool((before[0] != 1).any() or (before[1] != 0).any())
    if stored and takes_grey_levels:
        ways, reason = [stored], "quantised"
    elif inside:  # floats: grey levels, or these over 255
        ways, reason = [(one, nothing), (one / 255, nothing)], "the graph itself prepares images"
    else:
        ways, reason = [stored] if stored else [], "by the range that it was quantised for"
    whole = [(scale * before[0], offset * before[0] + before[1]) for scale, offset in ways]
    for way in whole:
        if (name := known_preprocessing(*way)) is not None:
            return arrays, name, f"input: {reason}, {name}"
    if not takes_grey_levels and not inside:
        kernel = arrays[names.FIRST_KERNEL] * arrays[_FIRST_SCALE]
        if np.abs(kernel).mean() >= SMALL_KERNEL:
            return arrays, OWN_PREPROCESSING, assumed
        whole, reason = [(one, nothing)], "the first kernel is so small that it is for grey levels"
    scale, offset = whole[0]
    note = (
        f"input: {reason}, x * {scale.tolist()} + {offset.tolist()}; Conv2d_1a_3x3 changed to "
        f"{OWN_PREPROCESSING}"
    )
    return _move_input(arrays, scale, offset), OWN_PREPROCESSING, note


def _move_input(arrays: Arrays, scale: np.ndarray, offset: np.ndarray) -> Arrays:
    """Arrays for `OWN_PREPROCESSING` from those for grey level * scale + offset."""
    kernel = arrays[names.FIRST_KERNEL].astype(np.float64)
    own_scale, own_offset = (values[0] for values in PREPROCESSING[OWN_PREPROCESSING])
    ratio = np.broadcast_to(scale / own_scale, kernel.shape[2])
    shift = np.broadcast_to(offset - own_offset * ratio, kernel.shape[2])
    constant = np.einsum("hwio,i->o", kernel, shift)
    return arrays | {
        names.FIRST_KERNEL: (kernel * ratio[:, None]).astype(np.float32),
        names.FIRST_MEAN: (arrays[names.FIRST_MEAN] - constant).astype(np.float32),
    }
