"""The table of weight names: complete, and the same as the network's."""

from __future__ import annotations

import math
from typing import Literal

import jax
import jax.numpy as jnp
import pytest
from flax.traverse_util import flatten_dict

from thyrojax.model import InceptionV3
from thyrojax.weights import names, names_keras


def test_names_and_shapes_are_those_of_the_network() -> None:
    network = InceptionV3(num_classes=2)
    variables = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 299, 299, 3)))
    found = {name: leaf.shape for name, leaf in flatten_dict(variables, sep="/").items()}
    head = {names.HEAD_KERNEL: (names.FEATURES, 2), names.HEAD_BIAS: (2,)}
    assert found == names.trunk_shapes() | head


def test_trunk_has_as_many_parameters_as_keras_counts() -> None:
    # keras.applications.InceptionV3(include_top=False).count_params(), whose BatchNorm has no gamma
    shapes = names.trunk_shapes()
    assert len(names.UNITS) == 94
    assert sum(math.prod(s) for n, s in shapes.items() if not n.endswith("scale")) == 21_802_784


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("conv2d_188/conv2d_188/kernel", ("conv2d", 188, "kernel")),
        ("conv2d/kernel:0", ("conv2d", 0, "kernel")),
        ("inception_v3/conv2d_7/kernel:0", ("conv2d", 7, "kernel")),
        ("conv2d_1/conv2d_1_1/kernel:0", ("conv2d", 1, "kernel")),
        ("batch_normalization_v1_3/beta:0", ("batch_normalization", 3, "beta")),
        ("batch_normalization/moving_mean", ("batch_normalization", 0, "moving_mean")),
        ("depthwise_conv2d_3/kernel", None),
        ("conv2d_transpose_3/kernel", None),
        ("predictions/predictions/kernel", None),
        ("kernel", None),
    ],
)
def test_keras_keys_are_taken_apart(key: str, name: tuple[str, int, str] | None) -> None:
    assert names_keras.parse_keras_key(key) == name


def test_trunk_is_found_by_its_shapes_wherever_the_numbers_begin() -> None:
    expected = [(1,), (2,), (2,), (3,)]
    shapes = {0: (7,), 40: (1,), 41: (2,), 42: (2,), 43: (3,), 44: (2,)}
    assert names_keras.find_trunk(shapes, expected)[0] == (40, 4)


def test_trunk_with_a_layer_missing_is_still_found_in_its_place() -> None:
    expected = [(1,), (2,), (2,), (3,)]
    assert names_keras.find_trunk({41: (2,), 42: (2,), 43: (3,)}, expected)[0] == (40, 3)


@pytest.mark.parametrize("depth_multiplier", [0.05, 0.5, 1.0])
@pytest.mark.parametrize("last_pool", ["average", "max"])
def test_shapes_of_any_width_are_the_networks(
    depth_multiplier: float, last_pool: Literal["average", "max"]
) -> None:
    network = InceptionV3(
        num_classes=7, aux_head=True, depth_multiplier=depth_multiplier, last_pool=last_pool
    )
    variables = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 299, 299, 3)))
    found = {name: leaf.shape for name, leaf in flatten_dict(variables, sep="/").items()}
    expected = names.trunk_shapes(depth_multiplier) | names.head_shapes(7, depth_multiplier)
    assert found == expected | names.aux_shapes(7, depth_multiplier)
