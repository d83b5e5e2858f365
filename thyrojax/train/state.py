"""The state of a run: one plain pytree, from which training continues exactly."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from thyrojax.config import Config
from thyrojax.model import InceptionV3, initial_variables
from thyrojax.shapes import Array, Int, PyTree

AXIS = "batch"  # name of the mapped device axis


@flax.struct.dataclass
class TrainState:
    """All that changes from step to step; randomness is a function of (seed, step), so is the data.

    `ema` is {} or {"params", "batch_stats"}, the decayed average of both. `swa` is {}, or {"count",
    "params", "batch_stats"} of `averaging`: how many parameters are in their even average, and what
    is evaluated.

    Of a run with several `members`, all leaves but the two counters have them as first axis.
    """

    step: Int[Array, ...]  # () int32: steps taken
    params: PyTree
    batch_stats: PyTree
    opt_state: PyTree
    ema: PyTree
    swa: PyTree = flax.struct.field(default_factory=dict)


def make_model(config: Config, axis_name: str | None = None) -> InceptionV3:
    """The two-output network of a configuration."""
    return InceptionV3(
        num_classes=2,
        pooling=config.pooling,
        aux_head=config.aux_head,
        dropout=config.dropout,
        depth_multiplier=config.depth_multiplier,
        bn_momentum=config.bn_momentum,
        bn_epsilon=config.bn_epsilon,
        dtype=jnp.dtype(config.dtype),
        axis_name=axis_name,
        pointwise=config.pointwise,
        kernel_gradient=config.kernel_gradient,
        stem_on_depth=config.stem_on_depth,
        merge_branches=config.merge_branches,
    )


def example_images(config: Config) -> jax.ShapeDtypeStruct:
    """Shape of one normalised input image of a configuration."""
    channels = 1 if config.grey else 3
    return jax.ShapeDtypeStruct((1, config.input_size, config.input_size, channels), jnp.float32)


@functools.cache
def abstract_variables(config: Config) -> dict[str, PyTree]:
    """Shapes of {"params", "batch_stats"}, without computing anything."""
    model = make_model(config)
    return jax.eval_shape(model.init, jax.random.key(0), example_images(config))


def abstract_state(config: Config, optimizer: optax.GradientTransformation) -> TrainState:
    """Shapes of a configuration's state."""
    members = () if config.members == 1 else (config.members,)
    variables = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((*members, *x.shape), x.dtype), abstract_variables(config)
    )
    return jax.eval_shape(lambda found: create_state(found, optimizer, config), variables)


def random_variables(config: Config) -> dict[str, PyTree]:
    """Random {"params", "batch_stats"} from the seed, or from each member's."""
    shapes = abstract_variables(config)
    return stack_members([initial_variables(shapes, seed) for seed in member_seeds(config)])


def member_seeds(config: Config) -> list[int]:
    """The seed of each network of a run."""
    return list(range(config.seed, config.seed + config.members))


def stack_members(members: Sequence[PyTree], axis: int = 0) -> PyTree:
    """Trees of the host's arrays as one with an axis of members; of one member, its tree."""
    if len(members) == 1:
        return members[0]
    return jax.tree.map(lambda *leaves: np.stack(leaves, axis), *members)


def create_state(
    variables: dict[str, PyTree], optimizer: optax.GradientTransformation, config: Config
) -> TrainState:
    """The state at step 0. Every leaf is an array of its own, so that the state can be donated."""
    params, batch_stats = variables["params"], variables["batch_stats"]

    def copies() -> dict[str, PyTree]:
        return jax.tree.map(jnp.array, {"params": params, "batch_stats": batch_stats})

    init = optimizer.init if config.members == 1 else jax.vmap(optimizer.init)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=batch_stats,
        opt_state=jax.jit(init)(params),  # else one program for each shape
        ema=copies() if config.ema else {},
        swa={"count": jnp.zeros((), jnp.int32), **copies()} if config.swa_start else {},
    )


def evaluation_variables(state: TrainState) -> dict[str, Any]:
    """What predictions are made with: the averages where the run keeps them."""
    averages = state.swa or state.ema
    if averages:
        return {name: averages[name] for name in ("params", "batch_stats")}
    return {"params": state.params, "batch_stats": state.batch_stats}
