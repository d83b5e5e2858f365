"""Several networks in one run: the steps of one, mapped by `jax.vmap` over an axis of members.

Member k is the run of seed + k on the same parts of the data: its heads start from its seed, and so
do the order, margins and augmentation of its batches and its dropout. One after the other they
would come to the same. The score of a run is the mean of its members' (a deep ensemble,
Lakshminarayanan et al. 2017, section 2.4).

Arrays of the state have the members as first axis, arrays of a batch as second: its rows come first
and are what is spread over the devices.
"""

from __future__ import annotations

from collections.abc import Callable
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
    step_of_each = jax.vmap(train_step, in_axes=(_AXES, 1, 0), out_axes=(_AXES, 0))

    def step(state: TrainState, batch: dict[str, Any]) -> tuple[TrainState, dict[str, jax.Array]]:
        keys = jnp.stack([jax.random.key(seed) for seed in member_seeds(config)])
        state, metrics = step_of_each(state, batch, keys)
        return state, jax.tree.map(jnp.mean, metrics)

    return step


def score_members(config: Config, score_step: Callable[..., Any]) -> Callable[..., Any]:
    """The per-device scoring step of all members: (variables, images) to scores [batch, members].

    Of one member, the same as it was: scores [batch].
    """
    return score_step if config.members == 1 else jax.vmap(score_step, (0, None), out_axes=1)
