"""What bfloat16 touches: convolutions and what lies between them, nothing that sums or is kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn

from thyrojax.config import Config
from thyrojax.train.schedule import make_optimizer
from thyrojax.train.state import abstract_variables, create_state
from thyrojax.train.step import make_score_step, make_train_step


@pytest.fixture(scope="module")
def traced_step(small_config: Config) -> tuple[ClosedJaxpr, Any]:
    """One device's training step, traced on shapes, and the shapes of its results."""
    config = replace(small_config, dtype="bfloat16", aux_head=True)
    optimizer = make_optimizer(config, 10)
    state = jax.eval_shape(
        lambda variables: create_state(variables, optimizer, config), abstract_variables(config)
    )
    batch = {
        "image": jax.ShapeDtypeStruct((2, config.input_size, config.input_size, 1), jnp.uint8),
        "label": jax.ShapeDtypeStruct((2,), jnp.int32),
    }
    step = make_train_step(config, optimizer, np.ones(2, np.float32), axis_name=None)
    return jax.make_jaxpr(step, return_shape=True)(state, batch)


def equations(jaxpr: Jaxpr) -> Iterator[JaxprEqn]:
    """Every operation, those of functions within included."""
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            for inner in value if isinstance(value, (tuple, list)) else (value,):
                if isinstance(inner, ClosedJaxpr):
                    yield from equations(inner.jaxpr)
                elif isinstance(inner, Jaxpr):
                    yield from equations(inner)


def test_bfloat16_step_keeps_its_state_and_metrics_in_float32(
    traced_step: tuple[ClosedJaxpr, Any],
) -> None:
    _, (state, metrics) = traced_step
    kinds = {leaf.dtype.name for leaf in jax.tree.leaves((state, metrics))}
    assert kinds == {"float32", "int32"}  # int32: counts of steps


def test_bfloat16_step_convolves_in_bfloat16_and_sums_in_float32(
    traced_step: tuple[ClosedJaxpr, Any],
) -> None:
    traced, _ = traced_step
    of: dict[str, list[str]] = {}
    for equation in equations(traced.jaxpr):
        kinds = of.setdefault(equation.primitive.name, [])
        kinds.extend(x.aval.dtype.name for x in equation.invars if hasattr(x.aval, "dtype"))
    assert set(of["conv_general_dilated"]) == {"bfloat16"}
    # The products are the 1x1 convolutions, and the two heads and the loss in float32.
    assert of["dot_general"].count("bfloat16") > of["dot_general"].count("float32") > 0
    for name in ("reduce_sum", "exp", "log", "rsqrt", "sqrt"):
        assert "bfloat16" not in of[name], name


def test_bfloat16_scores_are_float32(small_config: Config) -> None:
    config = replace(small_config, dtype="bfloat16", fold_bn=True)
    images = jax.ShapeDtypeStruct((2, 75, 75, 1), jnp.uint8)
    scores = jax.eval_shape(make_score_step(config), abstract_variables(config), images)
    assert (scores.shape, scores.dtype) == ((2,), jnp.dtype("float32"))
