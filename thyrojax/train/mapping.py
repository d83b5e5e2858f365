"""The same per-device function over all local devices: `jax.pmap`, or `jax.shard_map` under jit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from thyrojax.errors import ConfigError
from thyrojax.shapes import PyTree
from thyrojax.train.state import AXIS


class Mapping(NamedTuple):
    """A train step and a scoring step over devices, and the ways in and out.

    `put` copies a tree to every device and `get` takes one copy back. `train(state, batch)` donates
    the state; its metrics are as on devices, for `get`. Batches are whole, their rows in order.
    """

    n_devices: int
    put: Callable[[PyTree], PyTree]
    get: Callable[[PyTree], PyTree]
    train: Callable[[PyTree, dict[str, Any]], tuple[PyTree, dict[str, Any]]]
    score: Callable[[PyTree, Any], np.ndarray]


def make_mapping(
    kind: Literal["pmap", "shard_map"],
    train_step: Callable[..., Any],
    score_step: Callable[..., Any],
    batch_size: int,
    devices: list[Any] | None = None,
) -> Mapping:
    """Spreads per-device steps over `devices` (default: all local ones).

    The gradient idiom of the step, `pmean(grad(loss))`, is right under pmap and under
    shard_map(check_vma=False), and wrong under shard_map's default.

    Raises:
      ConfigError: the batch does not divide over the devices.
    """
    devices = jax.local_devices() if devices is None else devices
    if batch_size % len(devices):
        raise ConfigError(
            f"batch_size: found {batch_size}, expected a multiple of the {len(devices)} devices"
        )
    make = _pmap if kind == "pmap" else _shard_map
    return make(train_step, score_step, devices)


def _pmap(train_step: Any, score_step: Any, devices: list[Any]) -> Mapping:
    n = len(devices)
    train = jax.pmap(train_step, axis_name=AXIS, devices=devices, donate_argnums=0)
    score = jax.pmap(score_step, axis_name=AXIS, devices=devices)

    def split(array: Any) -> Any:
        return np.reshape(array, (n, -1, *np.shape(array)[1:]))

    return Mapping(
        n,
        put=lambda tree: jax.tree.map(lambda x: np.broadcast_to(x, (n, *np.shape(x))), tree),
        get=lambda tree: jax.tree.map(lambda x: x[0], tree),
        train=lambda state, batch: train(state, jax.tree.map(split, batch)),
        score=lambda variables, images: np.asarray(score(variables, split(images))).reshape(-1),
    )


def _shard_map(train_step: Any, score_step: Any, devices: list[Any]) -> Mapping:
    mesh = Mesh(np.asarray(devices), (AXIS,), axis_types=(AxisType.Auto,))
    everywhere, rows = PartitionSpec(), PartitionSpec(AXIS)

    def mapped(function: Any, out: Any) -> Any:
        return jax.shard_map(
            function, mesh=mesh, in_specs=(everywhere, rows), out_specs=out, check_vma=False
        )

    train = jax.jit(mapped(train_step, (everywhere, everywhere)), donate_argnums=0)
    score = jax.jit(mapped(score_step, rows))
    return Mapping(
        len(devices),
        put=lambda tree: jax.device_put(tree, NamedSharding(mesh, everywhere)),
        get=lambda tree: tree,
        train=train,
        score=lambda variables, images: np.asarray(score(variables, images)),
    )
