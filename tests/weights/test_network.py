"""Filling a network from weights: the trunk as it was, heads that fit, grey input folded."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from thyrojax.errors import WeightsError
from thyrojax.model import InceptionV3
from thyrojax.weights import VARIANTS, Weights, compare, fill, network_of, read
from thyrojax.weights.types import Arrays


def shapes_of(network: InceptionV3, channels: int = 3) -> dict[str, Any]:
    images = jax.ShapeDtypeStruct((1, 75, 75, channels), jnp.float32)
    return jax.eval_shape(network.init, jax.random.key(0), images)


@pytest.fixture(scope="module")
def weights(plain_file: Path) -> Weights:
    return read(plain_file)


def with_head(weights: Weights, classes: int) -> Weights:
    head = {
        "params/fc/kernel": np.full((2048, classes), 3, "f4"),
        "params/fc/bias": np.full(classes, 4, "f4"),
    }
    return dataclasses.replace(weights, arrays=weights.arrays | head)


def test_filled_tree_has_the_networks_names_shapes_and_types(weights: Weights) -> None:
    shapes = shapes_of(InceptionV3(num_classes=2, aux_head=True))
    variables, _ = fill(shapes, weights)
    kinds = [jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), t) for t in (variables, shapes)]
    assert kinds[0] == kinds[1]


def test_trunk_is_that_of_the_weights(weights: Weights) -> None:
    variables = flatten_dict(fill(shapes_of(InceptionV3(num_classes=2)), weights)[0], sep="/")
    for name, array in weights.arrays.items():
        np.testing.assert_array_equal(variables[name], array)


def test_fresh_heads_are_drawn_from_the_seed_as_the_network_draws_them(weights: Weights) -> None:
    shapes = shapes_of(InceptionV3(num_classes=40, aux_head=True))
    variables, notes = fill(shapes, weights, seed=1)
    assert notes == (
        "fc: fresh from seed 1, the weights have none",
        "AuxLogits: fresh from seed 1, the weights have none",
    )
    head, aux = variables["params"]["fc"], variables["params"]["AuxLogits"]
    # A normal distribution cut off at two standard deviations has 0.8796 of its deviation.
    assert np.abs(head["kernel"]).max() <= 0.02
    assert head["kernel"].std() == pytest.approx(0.0088, rel=0.02)
    assert aux["fc"]["kernel"].std() == pytest.approx(0.0088, rel=0.02)
    assert aux["conv1"]["conv"]["kernel"].std() == pytest.approx((2 / (25 * 128)) ** 0.5, rel=0.02)
    assert not head["bias"].any()
    assert (aux["conv0"]["bn"]["scale"] == 1).all()
    assert (variables["batch_stats"]["AuxLogits"]["conv0"]["bn"]["var"] == 1).all()

    same = fill(shapes, weights, seed=1)[0]["params"]["fc"]["kernel"]
    other = fill(shapes, weights, seed=2)[0]["params"]["fc"]["kernel"]
    np.testing.assert_array_equal(head["kernel"], same)
    assert (head["kernel"] != other).any()


def test_head_of_the_same_class_count_is_kept(weights: Weights) -> None:
    variables, notes = fill(shapes_of(InceptionV3(num_classes=7)), with_head(weights, 7))
    assert (variables["params"]["fc"]["kernel"] == 3).all()
    assert (variables["params"]["fc"]["bias"] == 4).all()
    assert notes == ()


def test_head_of_another_class_count_is_replaced_and_said_so(weights: Weights) -> None:
    variables, notes = fill(shapes_of(InceptionV3(num_classes=2)), with_head(weights, 7))
    assert variables["params"]["fc"]["kernel"].shape == (2048, 2)
    assert (variables["params"]["fc"]["kernel"] != 3).all()
    assert notes == ("fc: classifier fresh from seed 0, 7 classes became 2",)


def test_network_without_a_head_leaves_it_out(weights: Weights) -> None:
    variables, notes = fill(shapes_of(InceptionV3(num_classes=0)), with_head(weights, 7))
    assert "fc" not in variables["params"]
    assert notes == ("fc: left out, the network has none",)


def test_grey_network_has_the_first_kernel_summed(weights: Weights) -> None:
    kernel = np.random.default_rng(0).normal(size=(3, 3, 3, 32)).astype(np.float32)
    first = {"params/Conv2d_1a_3x3/conv/kernel": kernel}
    coloured = dataclasses.replace(weights, arrays=weights.arrays | first)
    variables, notes = fill(shapes_of(InceptionV3(num_classes=0), channels=1), coloured)
    assert notes == ("Conv2d_1a_3x3: kernel summed over its input channels, for grey images",)
    folded = variables["params"]["Conv2d_1a_3x3"]["conv"]["kernel"]
    assert folded.shape == (3, 3, 1, 32)

    grey = np.random.default_rng(1).uniform(-1, 1, (2, 9, 9, 1)).astype(np.float32)
    order = ("NHWC", "HWIO", "NHWC")

    def convolve(images: np.ndarray, kernel: np.ndarray) -> jax.Array:
        arrays = jnp.asarray(images), jnp.asarray(kernel)
        return jax.lax.conv_general_dilated(*arrays, (2, 2), "VALID", dimension_numbers=order)

    expected = convolve(np.repeat(grey, 3, axis=-1), kernel)
    found = convolve(grey, folded)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_narrower_network_is_refused(weights: Weights) -> None:
    shapes = shapes_of(InceptionV3(num_classes=2, depth_multiplier=0.5))
    with pytest.raises(WeightsError, match=r"their own depth_multiplier only"):
        fill(shapes, weights)


def test_network_with_other_parts_is_refused(weights: Weights) -> None:
    shapes = shapes_of(InceptionV3(num_classes=2))
    shapes["params"]["Mixed_8"] = {"kernel": jax.ShapeDtypeStruct((1,), jnp.float32)}
    with pytest.raises(
        WeightsError, match=r"params/Mixed_8/kernel: found an array that the weights"
    ):
        fill(shapes, weights)


def test_classifiers_of_another_class_count_are_replaced_and_their_trunk_kept(
    new_arrays: Callable[..., Arrays],
) -> None:
    """Both of them: a new main head beside an old auxiliary one is a known mistake of others."""
    arrays = new_arrays(classes=1000, aux=True)
    given = Weights(
        arrays, VARIANTS["slim"], "test", (), {}, Path("test"), "", depth_multiplier=0.05
    )
    network = InceptionV3(num_classes=2, aux_head=True, depth_multiplier=0.05)
    variables, notes = fill(shapes_of(network), given)
    assert notes == (
        "fc: classifier fresh from seed 0, 1000 classes became 2",
        "AuxLogits: classifier fresh from seed 0, 1000 classes became 2",
    )
    aux = variables["params"]["AuxLogits"]
    assert aux["fc"]["kernel"].shape == (38, 2)
    for unit in ("conv0", "conv1"):
        kernel = arrays[f"params/AuxLogits/{unit}/conv/kernel"]
        np.testing.assert_array_equal(aux[unit]["conv"]["kernel"], kernel)


def test_weights_for_other_input_are_changed_to_the_networks_own(
    new_arrays: Callable[..., Arrays],
) -> None:
    given = Weights(
        new_arrays(), VARIANTS["gluon"], "test", (), {}, Path("test"), "", depth_multiplier=0.05
    )
    network, theirs = network_of(given)
    ours, notes = fill(shapes_of(network), given)
    assert notes == ("Conv2d_1a_3x3: changed from (x/255-mean)/std to x/127.5-1",)
    changed = flatten_dict(ours, sep="/")
    own = dataclasses.replace(given, arrays=changed, variant=VARIANTS["torchvision"])
    assert theirs["params"].keys() == ours["params"].keys()
    assert compare(given, own).verdict == "same function"
