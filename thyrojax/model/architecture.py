"""The network described from the network itself: stages, branches, shapes and parameter counts.

The model is traced once on shapes. Every layer's input and output is marked in the trace, and the
data flow between the marks gives the order of layers, the branches of each block and the pools
between them; nothing here knows what Inception-v3 looks like.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal, Var

from thyrojax.model.inception_v3 import InceptionV3
from thyrojax.model.units import BatchDropout, ConvBN

_IN, _OUT = "into ", "out of "
_IMAGES = "images"
_POOLS = {"reduce_window_sum": "average pool", "reduce_window_max": "maximum pool"}


class _Feed(NamedTuple):
    """One of the things that a value is made of: a marked value, and what was done to it since."""

    source: str
    steps: tuple[tuple[Any, ...], ...]
    shape: tuple[int, ...]


def describe(model: InceptionV3, images: jax.ShapeDtypeStruct) -> dict[str, Any]:
    """The model's structure for images of one shape, as JSON holds it. Computes no parameter.

    Args:
      model: the network.
      images: [batch, height, width, channels], normalised.

    Returns:
      `input` [height, width, channels]; `parameters` and `statistics`, the numbers of learned
      values and of BatchNorm's running ones; and `stages` in the order of the computation, each
      with `name`, `kind` (its class), `follows` (the stage that feeds it, or "images"),
      `endpoint` (its key in what the model returns, or null), `before` (pools between the two),
      `input` and `output` shapes without the batch, its own `parameters` and `statistics`, and
      `branches`: one list of layers from the stage's input to its output for each operand of the
      concatenation at its end. Layers of the same `name` in several branches are one layer, which
      those branches share. A layer has `name` ("" for pools), `kind`, `kernel`, `stride` and
      `padding` (null where it has none) and `output`, its shape without the batch.
    """
    modules: dict[str, nn.Module] = {}
    with nn.intercept_methods(_marking(modules)):
        traced, (ends, variables) = jax.make_jaxpr(model.init_with_output, return_shape=True)(
            jax.random.key(0), images
        )
    inputs, outputs, returned = _follow(traced)
    endpoints = {
        feeds[0].source: name
        for name, feeds in zip(sorted(ends), returned[: len(ends)], strict=True)
        if len(feeds) == 1 and not feeds[0].steps
    }
    counts = {
        collection: {name: _count(tree) for name, tree in variables.get(collection, {}).items()}
        for collection in ("params", "batch_stats")
    }
    stages = []
    for path, module in modules.items():
        if "/" in path:
            continue
        (feed,) = inputs[path]
        shape, ends_of_branches = outputs[path]
        if _is_layer(module):
            branches = [[_layer(path, module, shape)]]
        else:
            branches = [_chain(path, end, modules, inputs, outputs) for end in ends_of_branches]
        stages.append(
            {
                "name": path,
                "kind": type(module).__name__,
                "follows": feed.source,
                "endpoint": endpoints.get(path),
                "before": _pools(feed),
                "input": list(feed.shape[1:]),
                "output": list(shape[1:]),
                "parameters": counts["params"].get(path, 0),
                "statistics": counts["batch_stats"].get(path, 0),
                "branches": branches,
            }
        )
    return {
        "network": type(model).__name__,
        "input": list(images.shape[1:]),
        "parameters": sum(counts["params"].values()),
        "statistics": sum(counts["batch_stats"].values()),
        "stages": stages,
    }


def _is_layer(module: nn.Module) -> bool:
    return isinstance(module, ConvBN | nn.Dense | BatchDropout)


def _marking(modules: dict[str, nn.Module]) -> Callable[..., Any]:
    """An interceptor that marks input and output of each layer and of each stage in the trace."""

    def mark(call: Callable[..., Any], arguments: Any, options: Any, context: Any) -> Any:
        module, path = context.module, context.module.path
        stage = len(path) == 1
        if context.method_name != "__call__" or not (stage or (path and _is_layer(module))):
            return call(*arguments, **options)
        name = "/".join(path)
        modules[name] = module
        x, *rest = arguments
        y = call(checkpoint_name(x, _IN + name), *rest, **options)
        return checkpoint_name(y, _OUT + name)

    return mark


Feeds = tuple[_Feed, ...]


def _follow(
    traced: ClosedJaxpr,
) -> tuple[dict[str, Feeds], dict[str, tuple[tuple[int, ...], Feeds]], list[Feeds]]:
    """What feeds each mark's input; each mark's output shape and feeds; and what feeds each result.

    Values that do not come from the images (parameters, random keys) are passed over.
    """
    jaxpr = traced.jaxpr
    images = jaxpr.invars[-1]
    known: dict[Var, Feeds] = {images: (_Feed(_IMAGES, (), _shape(images)),)}
    inputs: dict[str, Feeds] = {}
    outputs: dict[str, tuple[tuple[int, ...], Feeds]] = {}
    for equation in jaxpr.eqns:
        operands = [known[x] for x in equation.invars if not isinstance(x, Literal) and x in known]
        if not operands:
            continue
        shape = _shape(equation.outvars[0])
        mark = equation.params["name"] if equation.primitive.name == "name" else ""
        if mark.startswith(_IN):
            inputs[mark.removeprefix(_IN)] = operands[0]
            feeds: Feeds = (_Feed(mark, (), shape),)
        elif mark.startswith(_OUT):
            outputs[mark.removeprefix(_OUT)] = (shape, operands[0])
            feeds = (_Feed(mark.removeprefix(_OUT), (), shape),)
        elif equation.primitive.name == "concatenate":
            feeds = tuple(feed for operand in operands for feed in operand)
        else:
            feeds = _joined(operands, _step(equation), shape)
        known |= dict.fromkeys(equation.outvars, feeds)
    results = [known.get(x, ()) if isinstance(x, Var) else () for x in jaxpr.outvars]
    return inputs, outputs, results


def _shape(value: Var) -> tuple[int, ...]:
    return tuple(getattr(value.aval, "shape", ()))


def _joined(
    operands: Sequence[Feeds], step: tuple[tuple[Any, ...], ...], shape: tuple[int, ...]
) -> Feeds:
    """The operands' feeds, one for each source, after one more step."""
    steps: dict[str, dict[tuple[Any, ...], None]] = {}
    for feed in (feed for operand in operands for feed in operand):
        steps.setdefault(feed.source, {}).update(dict.fromkeys(feed.steps))
    return tuple(_Feed(source, (*done, *step), shape) for source, done in steps.items())


def _step(equation: JaxprEqn) -> tuple[tuple[Any, ...], ...]:
    """What an operation means for the description: a pool or a part of one, or nothing."""
    name, options = equation.primitive.name, equation.params
    if name in _POOLS:
        kernel, strides = options["window_dimensions"], options["window_strides"]
        padding = "SAME" if any(map(any, options["padding"])) else "VALID"
        return ((_POOLS[name], kernel[1:3], strides[1], padding),)
    if name == "slice":  # a pool as the maximum of shifted slices
        strides = options["strides"] or (1,) * len(options["start_indices"])
        return (("slice", options["start_indices"], max(strides)),)
    if name == "reduce_sum" and options["axes"] == (1, 2):
        return (("mean over the grid", None, None, None),)
    return ()


def _chain(
    stage: str,
    feed: _Feed,
    modules: dict[str, nn.Module],
    inputs: dict[str, Feeds],
    outputs: dict[str, tuple[tuple[int, ...], Feeds]],
) -> list[dict[str, Any]]:
    """The layers from a stage's input to one of the values that its output is made of."""
    layers = _pools(feed)
    if feed.source == _IN + stage:
        return layers
    (before,) = inputs[feed.source]
    earlier = _chain(stage, before, modules, inputs, outputs)
    return [*earlier, _layer(feed.source, modules[feed.source], outputs[feed.source][0]), *layers]


def _pools(feed: _Feed) -> list[dict[str, Any]]:
    """The pools among a feed's steps; slices of one pool are one layer."""
    slices = [step for step in feed.steps if step[0] == "slice"]
    pools = [step for step in feed.steps if step[0] != "slice"]
    if slices:
        kernel = tuple(1 + max(starts[axis] for _, starts, _ in slices) for axis in (1, 2))
        stride = max(stride for _, _, stride in slices)
        pools.append(("maximum pool", kernel, stride, "VALID"))
    return [
        _entry("", kind, kernel, stride, padding, feed.shape)
        for kind, kernel, stride, padding in pools
    ]


def _layer(name: str, module: nn.Module, shape: tuple[int, ...]) -> dict[str, Any]:
    own_name = name.rpartition("/")[2]
    if isinstance(module, ConvBN):
        options = (module.kernel, module.stride, module.padding)
        return _entry(own_name, "convolution", *options, shape)
    kind = "dense" if isinstance(module, nn.Dense) else "dropout"
    return _entry(own_name, kind, None, None, None, shape)


def _entry(
    name: str,
    kind: str,
    kernel: Sequence[int] | None,
    stride: int | None,
    padding: str | None,
    shape: tuple[int, ...],
) -> dict[str, Any]:
    return {
        "name": name,
        "kind": kind,
        "kernel": None if kernel is None else list(kernel),
        "stride": stride,
        "padding": padding,
        "output": list(shape[1:]),
    }


def _count(tree: Any) -> int:
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))
