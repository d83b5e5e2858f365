"""Whether two sets of weights are the same: array by array, and by what their networks answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from thyrojax.shapes import UInt8
from thyrojax.weights import change
from thyrojax.weights.network import network_of, preprocess
from thyrojax.weights.store import Weights

PROBE_SIZE = 139  # px; small, since what can differ shows at any size
SAME_FUNCTION = 1e-5  # relative difference up to which two networks are taken to be one

Outputs = dict[str, np.ndarray]


@dataclass(frozen=True)
class Leaf:
    """One array in two sets of weights.

    Attributes:
      path: in our names.
      state: "equal" (every bit), "differs", "shape" (of another shape), "first only" or
        "second only".
      largest: largest absolute difference, NaN where there is none to take.
      relative: that divided by the largest absolute value of the first.
    """

    path: str
    state: str
    largest: float = float("nan")
    relative: float = float("nan")


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    Attributes:
      leaves: every array of either, in the first's order.
      variants: fields of the variant that differ, with both values.
      probe: output ("pool", "logits") -> largest difference on the probe images, relative to the
        largest value of the first; {} where no probe was run.
    """

    leaves: tuple[Leaf, ...]
    variants: dict[str, tuple[object, object]]
    probe: dict[str, float]

    @property
    def verdict(self) -> str:
        """What it comes to.

        "identical"; "same arrays" under another variant; "same function", on the probe; "same
        trunk", on the probe or in every array, where only classifiers differ or are missing; or
        "different".
        """
        unequal = [leaf for leaf in self.leaves if leaf.state != "equal"]
        if not unequal:
            return "same arrays" if self.variants else "identical"
        same = bool(self.probe) and max(self.probe.values()) <= SAME_FUNCTION
        heads = [leaf for leaf in unequal if leaf.path.startswith(change.HEADS)]
        # What the probe shows is the trunk, and a classifier that both have in one shape.
        shown = all(
            leaf.path.startswith("params/fc/") and leaf.state == "differs" for leaf in heads
        )
        if same and shown:
            return "same function"
        pool_same = self.probe.get("pool", 1.0) <= SAME_FUNCTION
        trunk_equal = len(heads) == len(unequal) and not self.variants
        return "same trunk" if pool_same or trunk_equal else "different"


def compare(first: Weights, second: Weights, probe: bool = True) -> Comparison:
    """Compares two sets of weights, each under its own variant: pooling, last pool, preprocessing.

    Arrays are compared value by value. The probe is two images, one smooth and one of noise, grey
    where either network takes grey images.

    Raises:
      WeightsError: probe asked for, and the first kernel cannot be folded to grey.
    """
    leaves = tuple(_compare_leaves(first.arrays, second.arrays))
    ours, theirs = vars(first.variant), vars(second.variant)
    variants = {name: (ours[name], theirs[name]) for name in ours if ours[name] != theirs[name]}
    return Comparison(leaves, variants, probe_difference(first, second) if probe else {})


def _compare_leaves(
    first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]
) -> list[Leaf]:
    leaves = []
    for path in [*first, *(path for path in second if path not in first)]:
        if path not in second:
            leaves.append(Leaf(path, "first only"))
        elif path not in first:
            leaves.append(Leaf(path, "second only"))
        elif first[path].shape != second[path].shape:
            leaves.append(Leaf(path, "shape"))
        else:
            a, b = first[path], second[path]
            largest = float(np.abs(a.astype(np.float64) - b).max(initial=0.0))
            scale = float(np.abs(a).max(initial=0.0))
            state = "equal" if largest == 0.0 else "differs"
            leaves.append(Leaf(path, state, largest, largest / scale if scale else largest))
    return leaves


def probe_difference(first: Weights, second: Weights) -> dict[str, float]:
    """Output -> largest difference on the probe images, relative to the first's largest value."""
    colours = min(first.channels, second.channels)
    images = probe_images(colours)
    return outputs_difference(outputs(first, images), outputs(second, images))


def outputs_difference(first: Outputs, second: Outputs) -> dict[str, float]:
    """For each output that both have in one shape, the largest difference, relative to the first's
    largest value."""
    differences = {}
    for name in ("pool", "logits"):
        a, b = first.get(name), second.get(name)
        if a is not None and b is not None and a.shape == b.shape:
            differences[name] = float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-30))
    return differences


def probe_images(
    channels: int, size: int = PROBE_SIZE
) -> UInt8[np.ndarray, "2 size size channels"]:
    """A smooth image and one of noise, always the same."""
    y, x = np.mgrid[0:size, 0:size] / size
    waves = [np.sin(2 * np.pi * (k * x + y / k)) * np.cos(3 * np.pi * y * k) for k in (1, 2, 3)]
    smooth = np.stack(waves, axis=-1) * 127.5 + 127.5
    noise = np.random.default_rng(0).integers(0, 256, (size, size, 3))
    return np.stack([smooth, noise])[..., :channels].round().astype(np.uint8)


def outputs(weights: Weights, images: UInt8[np.ndarray, "n height width channels"]) -> Outputs:
    """`pool` and, with a classifier, `logits` of images of 0..255, in float32 at the highest
    precision. Grey images go to networks for colours as three equal channels, and a network for
    grey images sees the mean of the colours."""
    if images.shape[-1] == 1 and weights.channels == 3:
        images = np.repeat(images, 3, axis=-1)
    elif images.shape[-1] == 3 and weights.channels == 1:
        weights = replace(weights, arrays=change.spread_grey(weights.arrays))
    import jax

    network, variables = network_of(weights)

    @jax.jit
    def run(variables: Any, inputs: Any) -> dict[str, Any]:
        with jax.default_matmul_precision("highest"):
            ends = network.apply(variables, inputs)
        return {name: ends[name] for name in ("pool", "logits") if name in ends}

    return jax.device_get(run(variables, preprocess(images, weights.variant.preprocessing)))
