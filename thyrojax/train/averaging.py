"""Stochastic weight averaging: the even mean of the parameters that a run has come past.

Izmailov et al. 2018, "Averaging weights leads to wider optima and better generalization". From the
share `swa_start` of the steps on, the parameters of each validation enter the mean, one time each.
BatchNorm's statistics belong to parameters, and those of a mean are nobody's: they are computed
anew, over the first training batches of the seed, each time that the mean has changed (section
3.2). With `freeze_bn` nothing has ever been normalised by a batch, and the statistics stay.

The state's `swa` holds what is evaluated: before the first of the mean, the parameters and
statistics of the last validation, or of the stop in between.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from thyrojax.config import Config
from thyrojax.shapes import PyTree
from thyrojax.train.mapping import Mapping, map_over_devices
from thyrojax.train.members import over_members
from thyrojax.train.state import AXIS, TrainState, make_model
from thyrojax.train.step import network_input

MOST_BATCHES = 64  # that statistics are computed over


def statistics_batches(config: Config, n_train: int) -> int:
    """How many batches statistics are computed over: an epoch's, at most `MOST_BATCHES`."""
    return min(math.ceil(n_train / config.batch_size), MOST_BATCHES)


def make_statistics_step(
    config: Config, axis_name: str | None = AXIS
) -> Callable[[dict[str, PyTree], dict[str, Any]], PyTree]:
    """The per-device function (variables, batch) to the batch's own statistics, as `batch_stats`.

    The network normalises by the batch, as in training, over all devices; nothing is dropped out.
    """
    # Flax keeps the share bn_momentum of the old value: none of it.
    model = make_model(config, axis_name).clone(bn_momentum=0.0, dropout=0.0)

    def statistics_step(variables: dict[str, PyTree], batch: dict[str, Any]) -> PyTree:
        images = network_input(batch["image"], config)
        _, found = model.apply(variables, images, train=True, mutable=["batch_stats"])
        return found["batch_stats"]

    return over_members(config, statistics_step, (0, 1), 0)


def pooled_statistics(batches: Sequence[PyTree]) -> PyTree:
    """Mean and variance over batches of one size, from the mean and the variance of each.

    The variance of all is the mean of the variances and the variance of the means.
    """
    found = {
        path: np.stack([np.asarray(flat[path], np.float64) for flat in map(flatten_dict, batches)])
        for path in flatten_dict(batches[0])
    }
    pooled = {}
    for path, values in found.items():
        pooled[path] = values.mean(axis=0)
        if path[-1] == "var":
            pooled[path] += found[(*path[:-1], "mean")].var(axis=0)
    return unflatten_dict({path: x.astype(np.float32) for path, x in pooled.items()})


def average_step(state: TrainState, adding: Any) -> TrainState:
    """The per-device function that adds the parameters to the mean, where `adding` is 1.

    With 0 and an empty mean, `swa` is what the state has; with 0 and others in it, as it was.
    """
    count, added = state.swa["count"], jnp.asarray(adding, jnp.int32)
    share = added / jnp.maximum(count + added, 1)

    def mean(old: jax.Array, new: jax.Array) -> jax.Array:
        moved = old + (new - old) * share.astype(old.dtype)
        return jnp.where(count == 0, new, moved)

    swa = {
        "count": count + added,
        "params": jax.tree.map(mean, state.swa["params"], state.params),
        "batch_stats": jax.tree.map(
            lambda old, new: jnp.where(count == 0, new, old),
            state.swa["batch_stats"],
            state.batch_stats,
        ),
    }
    return dataclasses.replace(state, swa=swa)


class Averaging(NamedTuple):
    """What a run does about its average; nothing without `swa_start`.

    `validated(state, step)` is the state after a validation's step, before it is scored;
    `stopped(state)` the one that is saved between two. Both donate the state.
    """

    validated: Callable[[TrainState, int], TrainState]
    stopped: Callable[[TrainState], TrainState]


def make_averaging(
    config: Config,
    mapping: Mapping,
    total_steps: int,
    statistics: Callable[[PyTree], Sequence[PyTree]],
) -> Averaging:
    """The averaging of a run.

    Args:
      config: of the run.
      mapping: that the state lies on.
      total_steps: of the run.
      statistics: from variables on the devices to the `make_statistics_step` of the run's first
        `statistics_batches`, one copy each.
    """
    if config.swa_start == 0.0:
        return Averaging(lambda state, step: state, lambda state: state)
    average = map_over_devices(
        config.mapping, average_step, ("state", "all"), ("state",), mapping.devices, donate=True
    )

    def validated(state: TrainState, step: int) -> TrainState:
        adding = step >= config.swa_start * total_steps
        state = average(state, np.int32(adding))
        if not adding or config.freeze_bn:
            return state
        variables = {name: state.swa[name] for name in ("params", "batch_stats")}
        found = pooled_statistics(statistics(variables))
        return dataclasses.replace(state, swa={**state.swa, "batch_stats": mapping.put(found)})

    return Averaging(validated, lambda state: average(state, np.int32(0)))
