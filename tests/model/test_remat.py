"""Blocks computed twice: the same values, gradients and statistics, in less memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import ClosedJaxpr, Jaxpr

from thyrojax.config import Config
from thyrojax.model import InceptionV3, initial_variables
from thyrojax.train.schedule import make_optimizer
from thyrojax.train.state import abstract_variables, create_state
from thyrojax.train.step import make_train_step


def network(**options: Any) -> InceptionV3:
    return InceptionV3(num_classes=2, aux_head=True, depth_multiplier=0.05, **options)


def gradients(model: InceptionV3) -> Callable[..., Any]:
    """A function of variables and images to (loss, (endpoints, statistics)) and gradients."""

    def loss(params: Any, statistics: Any, images: jax.Array) -> Any:
        ends: Any
        ends, updated = model.apply(
            {"params": params, **statistics},
            images,
            train=True,
            rngs={"dropout": jax.random.key(3)},
            mutable=["batch_stats"],
        )
        return jnp.sum(jnp.sin(ends["logits"]) + jnp.cos(ends["aux_logits"])), (ends, updated)

    return jax.value_and_grad(loss, has_aux=True)


@pytest.mark.slow
def test_same_parameters_values_gradients_and_statistics_in_less_memory() -> None:
    with jax.enable_x64(True):
        plain = network(dtype=jnp.float64)
        rng = np.random.default_rng(0)
        images = rng.uniform(-1, 1, (8, 75, 75, 1))
        shapes = jax.eval_shape(plain.init, jax.random.key(0), images)
        other = plain.clone(remat=True)
        assert jax.eval_shape(other.init, jax.random.key(0), images) == shapes
        variables = jax.tree.map(np.float64, initial_variables(shapes, seed=0))
        params = variables.pop("params")
        memory, found = [], []
        for model in (plain, other):
            program = jax.jit(gradients(model)).lower(params, variables, images).compile()
            memory.append(program.memory_analysis().temp_size_in_bytes)
            found.append(program(params, variables, images))
        # Running statistics are among them: had they moved twice, they would be elsewhere.
        assert jax.tree.structure(found[0]) == jax.tree.structure(found[1])
        for one, two in zip(*map(jax.tree.leaves, found), strict=True):
            np.testing.assert_allclose(two, one, rtol=0, atol=1e-9 * max(np.abs(one).max(), 1e-3))
    assert memory[1] < 0.6 * memory[0]


def count(jaxpr: Jaxpr, name: str) -> int:
    """Operations of a name, those of functions within included."""
    total = 0
    for equation in jaxpr.eqns:
        total += equation.primitive.name == name
        for value in equation.params.values():
            for inner in value if isinstance(value, (tuple, list)) else (value,):
                if isinstance(inner, ClosedJaxpr):
                    total += count(inner.jaxpr, name)
                elif isinstance(inner, Jaxpr):
                    total += count(inner, name)
    return total


def test_devices_do_not_sum_twice_what_is_computed_twice(small_config: Config) -> None:
    """By the step, which takes the option from the configuration."""
    shapes = jax.eval_shape(
        lambda v: create_state(v, make_optimizer(small_config, 10), small_config),
        abstract_variables(small_config),
    )
    batch = {
        "image": jax.ShapeDtypeStruct((2, 75, 75, 1), jnp.uint8),
        "label": jax.ShapeDtypeStruct((2,), jnp.int32),
    }
    sums, convolutions = [], []
    for remat in (False, True):
        config = replace(small_config, remat=remat)
        optimizer = make_optimizer(config, 10)
        train_step = make_train_step(config, optimizer, np.ones(2, np.float32))
        traced = jax.make_jaxpr(train_step, axis_env=[("batch", 2)])(shapes, batch)
        sums.append(count(traced.jaxpr, "psum"))
        convolutions.append(count(traced.jaxpr, "conv_general_dilated"))
    assert sums[0] == sums[1] > 2 * 94  # forward and back, of each layer
    assert convolutions[1] > 1.2 * convolutions[0]
