"""Several networks in one run: the steps of one, mapped over an axis of members.

Member k is the run of seed + k on the same parts of the data: its heads start from its seed, and so
do the order, margins and augmentation of its batches and its dropout. One after the other they
would come to the same. The score of a run is the mean of its members' (a deep ensemble,
Lakshminarayanan et al. 2017, section 2.4).

Arrays of the state have the members as first axis, arrays of a batch as second: its rows come first
and are what is spread over the devices.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from thyrojax.config import Config
from thyrojax.train.state import TrainState, member_seeds

# Counters are of all; the average is not touched by a step.
_AXIS_OF: dict[str, Any] = {"params": 0, "batch_stats": 0, "opt_state": 0, "ema": 0}
_AXES = TrainState(**{"step": None, "swa": None, **_AXIS_OF})


def train_members(config: Config, train_step: Callable[..., Any]) -> Callable[..., Any]:
    """The per-device step of all members, from that of one; of one member, the same.

    Metrics are means over the members: one that is not finite makes the mean so.
    """
    if config.members == 1:
        return train_step
    step_of_each = over_members(config, train_step, (_AXES, 1, 0), (_AXES, 0))

    def step(state: TrainState, batch: dict[str, Any]) -> tuple[TrainState, dict[str, jax.Array]]:
        keys = jnp.stack([jax.random.key(seed) for seed in member_seeds(config)])
        state, metrics = step_of_each(state, batch, keys)
        return state, jax.tree.map(jnp.mean, metrics)

    return step


def score_members(config: Config, score_step: Callable[..., Any]) -> Callable[..., Any]:
    """The per-device scoring step of all members: (variables, images) to scores [batch, members].

    Of one member, the same as it was: scores [batch].
    """
    return over_members(config, score_step, (0, None), 1)


def over_members(
    config: Config, function: Callable[..., Any], in_axes: Any, out_axes: Any
) -> Callable[..., Any]:
    """A function of one member as that of all, by `member_mapping`; of one member, the same.

    Args:
      config: of the run.
      function: of one member.
      in_axes: a tuple, as `jax.vmap` takes it: the members' axis of each argument, None for what
        is given to all.
      out_axes: as `jax.vmap` takes it; None for what is the same for all.
    """
    if config.members == 1:
        return function
    by = config.member_mapping
    if by == "vmap" or (by == "auto" and jax.default_backend() != "cpu"):
        return jax.vmap(function, in_axes, out_axes)

    def one_after_the_other(*arguments: Any) -> Any:
        found: list[Any] = []
        for k in range(config.members):
            own = _map_axes(partial(_taken, k), in_axes, arguments)
            if found:  # so that no two members' activations are held at once
                own, found[-1] = jax.lax.optimization_barrier((own, found[-1]))
            found.append(function(*own))
        return _map_axes(lambda axis, *xs: jnp.stack(xs, axis), out_axes, *found)

    return one_after_the_other


def _taken(k: int, axis: int, array: jax.Array) -> jax.Array:
    return jax.lax.index_in_dim(array, k, axis, keepdims=False)


def _map_axes(function: Callable[..., Any], axes: Any, first: Any, *rest: Any) -> Any:
    """`function(axis, *leaves)` where there is an axis; the first tree's leaf where it is None."""

    def of_leaf(axis: int | None, leaf: Any, *others: Any) -> Any:
        return leaf if axis is None else function(axis, leaf, *others)

    def is_none(x: Any) -> bool:
        return x is None

    of_leaves = jax.tree.broadcast(axes, first, is_leaf=is_none)
    return jax.tree.map(of_leaf, of_leaves, first, *rest, is_leaf=is_none)
