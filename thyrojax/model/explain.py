"""Which parts of an image speak for a class, and whether such maps deserve to be believed.

Images are as the network takes them, normalised. Maps are not negative but for
`integrated_gradients`; only the ratio of a map's values to one another means anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from thyrojax.model.inception_v3 import InceptionV3
from thyrojax.model.initialise import initial_array
from thyrojax.shapes import Array, Float, Int, PyTree

# The block whose output each end of the network is.
BLOCK_OF_END = {
    "mixed0": "Mixed_5b",
    "mixed1": "Mixed_5c",
    "mixed2": "Mixed_5d",
    "mixed3": "Mixed_6a",
    "mixed4": "Mixed_6b",
    "mixed5": "Mixed_6c",
    "mixed6": "Mixed_6d",
    "mixed7": "Mixed_6e",
    "mixed8": "Mixed_7a",
    "mixed9": "Mixed_7b",
    "mixed10": "Mixed_7c",
}
# From the head down to the first layer.
CASCADE = (
    "fc",
    *reversed(BLOCK_OF_END.values()),
    "Conv2d_4a_3x3",
    "Conv2d_3b_1x1",
    "Conv2d_2b_3x3",
    "Conv2d_2a_3x3",
    "Conv2d_1a_3x3",
)
BLACK = -1.0  # grey level 0, normalised

Target = int | Int[Array, "..."]


@partial(jax.jit, static_argnames=("model", "layer"))
def gradcam(
    model: InceptionV3,
    variables: PyTree,
    images: Float[Array, "batch height width channels"],
    target: Target = 1,
    layer: str = "mixed10",
) -> Float[Array, "batch rows columns"]:
    """Grad-CAM (Selvaraju et al. 2017, equations 1 and 2), on the layer's own grid.

    Each channel of the layer's end weighs as much as its mean gradient of the class' logit says;
    of the weighted sum over channels, what is below 0 is dropped. Behind `mixed10` there are only
    the global average and the dense head, so that the weights there are the head's.

    Args:
      target: the class, one for all images or one for each, [batch].
      layer: mixed0 to mixed10.

    Raises:
      ValueError: no such layer, or a network without classes.
    """
    if layer not in BLOCK_OF_END:
        raise ValueError(f"layer: found {layer!r}, expected mixed0 to mixed10")
    if not model.num_classes:
        raise ValueError("model: found no classes, expected a network with a head")
    end = jax.eval_shape(model.apply, variables, images)[layer]

    def logit_and_end(shift: jax.Array) -> tuple[jax.Array, jax.Array]:
        def add_shift(call: Any, args: Any, options: Any, context: Any) -> Any:
            output = call(*args, **options)
            is_end = context.module.name == BLOCK_OF_END[layer]
            return output + shift if is_end and context.method_name == "__call__" else output

        with nn.intercept_methods(add_shift):
            ends: Any = model.apply(variables, images)
        return jnp.sum(_chosen(ends["logits"], target)), ends[layer]

    gradient, activation = jax.grad(logit_and_end, has_aux=True)(jnp.zeros(end.shape, end.dtype))
    weights = jnp.mean(gradient.astype(jnp.float32), axis=(1, 2), keepdims=True)
    return nn.relu(jnp.sum(weights * activation.astype(jnp.float32), axis=-1))


class Attribution(NamedTuple):
    """Signed shares of a logit's difference, by pixel, and how well they add up to it."""

    maps: Float[Array, "batch height width"]
    difference: Float[Array, " batch"]  # logit of the image minus logit of the baseline
    gap: Float[Array, " batch"]  # sum of the map minus `difference`; 0 with endless steps


def integrated_gradients(
    model: InceptionV3,
    variables: PyTree,
    images: Float[Array, "batch height width channels"],
    target: Target = 1,
    steps: int = 64,
    baseline: float | Float[Array, ""] = BLACK,
) -> Attribution:
    """Integrated gradients (Sundararajan et al. 2017, equations 1 and 3), summed over channels.

    The path runs straight from an image of one value to the image; its integral is taken at the
    midpoints of `steps` equal pieces. A map's sum should be the difference that the image makes to
    the logit ("completeness"): `gap` says by how much it is not.

    Args:
      target: as for `gradcam`.
      steps: each costs one forward and one backward pass.
      baseline: normalised grey level of the path's start.
    """
    start = jnp.full(images.shape, baseline, images.dtype)
    total = jnp.zeros(images.shape, images.dtype)
    # Not lax.scan: XLA runs convolutions inside a loop on one CPU core and by a slow path.
    for step in range(steps):
        here = start + (step + 0.5) / steps * (images - start)
        total += _logits_and_gradient(model, variables, here, target)[1]
    maps = jnp.sum((images - start) * total / steps, axis=-1)
    last, first = (_logits_and_gradient(model, variables, x, target)[0] for x in (images, start))
    difference = last - first
    return Attribution(maps, difference, jnp.sum(maps, axis=(1, 2)) - difference)


def smoothgrad(
    model: InceptionV3,
    variables: PyTree,
    images: Float[Array, "batch height width channels"],
    key: Array,
    target: Target = 1,
    samples: int = 25,
    noise: float | Float[Array, ""] = 0.15,
) -> Float[Array, "batch height width"]:
    """SmoothGrad (Smilkov et al. 2017): the size of the logit's mean gradient over noisy copies.

    Channels are summed first, which is the gradient by the grey level of a grey image.

    Args:
      key: of the noise, which depends on an image's place in the batch too.
      target: as for `gradcam`.
      samples: each costs one forward and one backward pass.
      noise: standard deviation, as a share of the image's range of values.
    """
    lowest = jnp.min(images, axis=(1, 2, 3), keepdims=True)
    deviation = noise * (jnp.max(images, axis=(1, 2, 3), keepdims=True) - lowest)
    total = jnp.zeros(images.shape, images.dtype)
    for one in jax.random.split(key, samples):
        noisy = images + deviation * jax.random.normal(one, images.shape, images.dtype)
        total += _logits_and_gradient(model, variables, noisy, target)[1]
    return jnp.abs(jnp.sum(total / samples, axis=-1))


def _chosen(logits: jax.Array, target: Any) -> jax.Array:
    """The target's logit of each row."""
    classes = jnp.broadcast_to(jnp.asarray(target), (logits.shape[0],))
    return jnp.take_along_axis(logits, classes[:, None], axis=1)[:, 0]


@partial(jax.jit, static_argnames="model")
def _logits_and_gradient(
    model: InceptionV3, variables: PyTree, images: Array, target: Any
) -> tuple[jax.Array, jax.Array]:
    """The target's logit of each row, and its gradient by that row's image."""

    def logit(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        ends: Any = model.apply(variables, x)
        chosen = _chosen(ends["logits"], target)
        return jnp.sum(chosen), chosen

    gradient, logits = jax.grad(logit, has_aux=True)(images)
    return logits, gradient


@partial(jax.jit, static_argnames="size")
def upsample(
    maps: Float[Array, "batch rows columns"], size: int
) -> Float[Array, "batch size size"]:
    """Maps resized to the input's `size`: bilinear with half-pixel centres, as the crop is."""
    return jax.image.resize(maps, (maps.shape[0], size, size), "bilinear", antialias=False)


@jax.jit
def mass_in_box(
    maps: Float[Array, "batch height width"], boxes: Float[Array, "batch 4"]
) -> Float[Array, " batch"]:
    """Share of each map's sum that lies inside its box; NaN where the sum is not above 0.

    Args:
      maps: not negative.
      boxes: x_min, y_min, x_max, y_max in pixels of the maps; a pixel that an edge crosses counts
        by the part of it that is inside.
    """

    def cover(first: jax.Array, last: jax.Array, n: int) -> jax.Array:
        pixel = jnp.arange(n, dtype=maps.dtype)[None, :]
        inside = jnp.minimum(last[:, None], pixel + 1.0) - jnp.maximum(first[:, None], pixel)
        return jnp.clip(inside, 0.0, 1.0)

    rows = cover(boxes[:, 1], boxes[:, 3], maps.shape[1])
    columns = cover(boxes[:, 0], boxes[:, 2], maps.shape[2])
    inside = jnp.sum(maps * rows[:, :, None] * columns[:, None, :], axis=(1, 2))
    total = jnp.sum(maps, axis=(1, 2))
    share = jnp.minimum(inside / jnp.where(total > 0.0, total, 1.0), 1.0)  # two sums in float32
    return jnp.where(total > 0.0, share, jnp.nan)


def randomised(
    variables: dict[str, Any], seed: int, layers: Sequence[str] | None = None, members: int = 1
) -> dict[str, Any]:
    """The variables with some layers as `initial_variables` would draw them, the others as given.

    Args:
      layers: names as in `CASCADE`; None for all.
      members: networks along the first axis of each array, drawn from seed, seed + 1, ...; of one,
        there is no such axis.

    Raises:
      ValueError: a layer that the network does not have.
    """
    from flax.traverse_util import flatten_dict, unflatten_dict

    unknown = sorted(set(layers or ()) - set(variables["params"]))
    if unknown:
        raise ValueError(f"layers: found {', '.join(unknown)}, expected layers of the network")
    leaves = {}
    for path, leaf in flatten_dict(variables).items():
        if layers is None or path[1] in layers:
            name, shape = "/".join(path), leaf.shape[members > 1 :]
            drawn = [initial_array(name, shape, seed + k) for k in range(members)]
            leaf = jnp.asarray(np.stack(drawn).reshape(leaf.shape), leaf.dtype)
        leaves[path] = leaf
    return unflatten_dict(leaves)


class SanityStep(NamedTuple):
    """Agreement of the maps once everything from the head down to `layer` is random."""

    layer: str
    rank_correlation: float | None  # mean over the maps compared; None where there is none
    n: int  # maps compared: those that are not flat, before and after


def sanity_check(
    maps_of: Callable[[dict[str, Any]], Float[np.ndarray, "batch rows columns"]],
    variables: dict[str, Any],
    seed: int = 0,
    layers: Sequence[str] = CASCADE,
    members: int = 1,
) -> tuple[SanityStep, ...]:
    """Cascading randomisation (Adebayo et al. 2018, section 4.1): maps that stay explain nothing.

    Layers are made random one after the other, from the head downward, and stay so. Maps of the
    trained and of the changed network are compared by Spearman's rank correlation, image by image.

    Args:
      maps_of: the maps of some images under the given variables.
      layers: in this order.
      members: as for `randomised`.
    """
    from scipy.stats import rankdata

    def ranks(maps: Any) -> np.ndarray:
        flat = np.asarray(maps, np.float64).reshape(len(maps), -1)
        found = rankdata(flat, axis=1)
        return found - found.mean(axis=1, keepdims=True)

    trained = ranks(maps_of(variables))
    steps = []
    for n, layer in enumerate(layers, start=1):
        changed = ranks(maps_of(randomised(variables, seed, layers[:n], members)))
        size = np.sqrt((trained**2).sum(axis=1) * (changed**2).sum(axis=1))
        varied = size > 0.0
        agreement = (trained * changed).sum(axis=1)[varied] / size[varied]
        mean = float(agreement.mean()) if varied.any() else None
        steps.append(SanityStep(layer, mean, int(varied.sum())))
    return tuple(steps)
