"""From weights to a network that can run: its variables, and the module that they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from thyrojax.shapes import Float, Num
from thyrojax.weights import change, names
from thyrojax.weights.store import Tree, Weights
from thyrojax.weights.types import OWN_PREPROCESSING, PREPROCESSING, raise_faults

HEADS = ("fc", "AuxLogits")  # parts that a network may have in its own size, or not at all


def fill(shapes: Tree, weights: Weights, seed: int = 0) -> tuple[Tree, tuple[str, ...]]:
    """Variables for a network from weights, without initialising it first.

    The trunk comes from the weights. So does each head whose class count fits; else its last layer
    is fresh: as the network itself would initialise it (dense kernels truncated normal, standard
    deviation 0.01; convolutions He normal; biases 0), drawn from `seed`. Weights for another
    preprocessing than `thyrojax.model.normalise` are changed to that one exactly. Where the network
    takes grey images of one channel, the first kernel is summed over its input channels: the same
    function as of three equal channels, since the preprocessing is the same for all three.

    Args:
      shapes: `jax.eval_shape(network.init, ...)`: nested dicts with `shape` and `dtype` as leaves.
      weights: from `read`.
      seed: of fresh heads.

    Returns:
      The variables, float32 NumPy arrays, shared with `weights` where unchanged; and a note on each
      part that is not as in the file.

    Raises:
      WeightsError: one line: the network's trunk is of another width or of other parts.
    """
    from flax.traverse_util import flatten_dict, unflatten_dict

    wanted = {name: leaf.shape for name, leaf in flatten_dict(shapes, sep="/").items()}
    _check_trunk(weights, wanted)
    given, notes = weights.arrays, []
    if weights.variant.preprocessing != OWN_PREPROCESSING:
        given = change.fold_preprocessing(given, weights.variant.preprocessing, OWN_PREPROCESSING)
        notes.append(
            f"Conv2d_1a_3x3: changed from {weights.variant.preprocessing} to {OWN_PREPROCESSING}"
        )
    colours = wanted[names.FIRST_KERNEL][2]
    if colours == 1 and weights.channels == 3:
        given = change.fold_grey(given, OWN_PREPROCESSING)
        notes.append("Conv2d_1a_3x3: kernel summed over its input channels, for grey images")
    elif colours == 3 and weights.channels == 1:
        given = change.spread_grey(given)
        notes.append("Conv2d_1a_3x3: kernel spread over three equal channels")

    variables = {name: given[name] for name in wanted if _part(name) not in HEADS}
    for head in HEADS:
        filled, note = _fill_head(head, wanted, given, seed)
        variables |= filled
        notes += note
    return unflatten_dict(variables, sep="/"), tuple(notes)


def _fill_head(
    head: str, wanted: Mapping[str, tuple[int, ...]], given: Mapping[str, np.ndarray], seed: int
) -> tuple[dict[str, np.ndarray], list[str]]:
    from thyrojax.model import initial_array

    leaves = [name for name in wanted if _part(name) == head]
    known = [name for name in given if _part(name) == head]
    if not leaves:
        return {}, [f"{head}: left out, the network has none"] if known else []
    fitting = [name for name in leaves if name in given and given[name].shape == wanted[name]]
    filled = {
        name: given[name] if name in fitting else initial_array(name, wanted[name], seed)
        for name in leaves
    }
    if len(fitting) == len(leaves):
        return filled, []
    if not known:
        return filled, [f"{head}: fresh from seed {seed}, the weights have none"]
    bias = next(name for name in leaves if name.endswith("fc/bias"))
    (classes,), found = wanted[bias], len(given[bias])
    return filled, [f"{head}: classifier fresh from seed {seed}, {found} classes became {classes}"]


def _part(name: str) -> str:
    return name.split("/")[1]


def _check_trunk(weights: Weights, wanted: Mapping[str, tuple[int, ...]]) -> None:
    """Whether these weights fit a network of such shapes."""
    trunk = {n: a.shape for n, a in weights.arrays.items() if _part(n) not in HEADS}
    faults = [
        f"{name}: found an array that the weights do not have"
        for name in wanted
        if name not in trunk and _part(name) not in HEADS
    ]
    others = []
    for name, shape in trunk.items():
        found = wanted.get(name)
        if name == names.FIRST_KERNEL and found and found[2] in (1, 3):
            found = (*found[:2], shape[2], *found[3:])
        if found != shape:
            others.append(f"{name} of shape {found} in the network, expected {shape}")
    if others:
        faults.append(
            f"found {others[0]}, and {len(others) - 1} more; these weights fit a network of their "
            "own depth_multiplier only"
        )
    raise_faults(weights.path, faults)


def network_of(weights: Weights) -> tuple[Any, Tree]:
    """The network that the weights are of, without auxiliary head, and its variables.

    For images preprocessed as `weights.variant.preprocessing` says (`preprocess`), with as many
    channels as the weights have.

    Returns:
      A `thyrojax.model.InceptionV3` and {"params", "batch_stats"}.
    """
    from thyrojax.model import InceptionV3

    network = InceptionV3(
        num_classes=weights.classes,
        pooling=weights.variant.pooling,
        last_pool=weights.variant.last_pool,
        bn_epsilon=weights.variant.epsilon,
        depth_multiplier=weights.depth_multiplier,
    )
    params = {name: tree for name, tree in weights.params.items() if name != "AuxLogits"}
    stats = {name: tree for name, tree in weights.batch_stats.items() if name != "AuxLogits"}
    return network, {"params": params, "batch_stats": stats}


def preprocess(
    images: Num[np.ndarray, "n height width channels"], preprocessing: str
) -> Float[np.ndarray, "n height width channels"]:
    """Grey levels 0..255 to what weights of a preprocessing (a key of `PREPROCESSING`) expect."""
    scale, offset = np.asarray(PREPROCESSING[preprocessing], np.float32)[:, : images.shape[-1]]
    return images.astype(np.float32) * scale + offset
