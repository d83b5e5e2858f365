"""The same per-device function over all devices: `jax.pmap`, or `jax.shard_map` under jit.

Of several processes each gives its rows of a batch to its own devices; all hold the same state.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from thyrojax.errors import ConfigError
from thyrojax.shapes import PyTree
from thyrojax.train.state import AXIS

Kind = Literal["pmap", "shard_map"]
Role = Literal["state", "rows", "all"]


class Mapping(NamedTuple):
    """A train step and a scoring step over devices, and the ways in and out.

    `put` copies a tree to every device and `get` takes one copy back; `split` shapes rows for
    functions of `map_over_devices`, and `unsplit` is the way back for an array of rows.
    `train(state, batch)` donates the state; its metrics are as on devices, for `get`. Batches are
    this process's `rows` of the whole, in order.
    """

    devices: list[Any]  # of all processes, those of each together
    rows: slice  # of a batch, on this process's devices
    put: Callable[[PyTree], PyTree]
    get: Callable[[PyTree], PyTree]
    split: Callable[[Any], Any]
    unsplit: Callable[[Any], np.ndarray]
    train: Callable[[PyTree, dict[str, Any]], tuple[PyTree, dict[str, Any]]]
    score: Callable[[PyTree, Any], np.ndarray]


def make_mapping(
    kind: Kind,
    train_step: Callable[..., Any],
    score_step: Callable[..., Any],
    batch_size: int,
    devices: list[Any] | None = None,
    accumulate: int = 1,
) -> Mapping:
    """Spreads per-device steps over `devices` (default: all of all processes).

    Raises:
      ConfigError: the batch does not divide over the devices, or a device's rows not into
        `accumulate` micro-batches.
    """
    devices = sorted(
        jax.devices() if devices is None else devices, key=lambda device: device.process_index
    )
    if batch_size % len(devices):
        raise ConfigError(
            f"batch_size: found {batch_size}, expected a multiple of the {len(devices)} devices"
        )
    if batch_size % (len(devices) * accumulate):
        raise ConfigError(
            f"accumulate: found {accumulate}, expected a divisor of the "
            f"{batch_size // len(devices)} images that each device has of batch_size {batch_size}"
        )
    here = [i for i, x in enumerate(devices) if x.process_index == jax.process_index()]
    n, per_device = len(here), batch_size // len(devices)
    rows = slice(here[0] * per_device, (here[-1] + 1) * per_device)
    spread = n < len(devices)  # over several processes
    by_rows = NamedSharding(_mesh(devices), PartitionSpec(AXIS))
    put: Callable[[PyTree], PyTree]
    if kind == "pmap":
        copied = map_over_devices(kind, lambda tree: tree, ("state",), ("state",), devices)

        def put(tree: PyTree) -> PyTree:
            copies = jax.tree.map(lambda x: np.broadcast_to(x, (n, *np.shape(x))), tree)
            # Where a step leaves them: it would be compiled twice otherwise.
            return copied(copies) if spread else jax.device_put(copies, by_rows)

        def get(tree: PyTree) -> PyTree:
            one = _without_axis(jax.tree.map(lambda x: x.addressable_data(0), tree))
            return _one_for_all(one, devices) if spread else one

        def split(array: Any) -> Any:
            return np.reshape(array, (n, -1, *np.shape(array)[1:]))
    else:
        everywhere = NamedSharding(_mesh(devices), PartitionSpec())

        def put(tree: PyTree) -> PyTree:
            if not spread:
                return jax.device_put(tree, everywhere)
            # `device_put` would send all of it between processes, to see that it is the same.
            return jax.tree.map(
                lambda x: jax.make_array_from_process_local_data(everywhere, np.asarray(x)), tree
            )

        def get(tree: PyTree) -> PyTree:
            return tree

        def split(array: Any) -> Any:
            return jax.make_array_from_process_local_data(by_rows, array) if spread else array

    def unsplit(array: Any) -> np.ndarray:
        if spread and kind == "shard_map":  # under pmap a process sees its own part only
            parts = sorted(array.addressable_shards, key=lambda part: part.index[0].start)
            return np.concatenate([np.asarray(part.data) for part in parts])
        rows = np.asarray(array)
        return rows.reshape(-1, *rows.shape[2:]) if kind == "pmap" else rows

    train = _mapped(kind, train_step, ("state", "rows"), ("state", "all"), (*devices,), donate=True)
    score = _mapped(kind, score_step, ("state", "rows"), ("rows",), (*devices,))
    return Mapping(
        devices,
        rows,
        put,
        get,
        split,
        unsplit,
        train=lambda state, batch: train(state, jax.tree.map(split, batch)),
        score=lambda variables, images: unsplit(score(variables, split(images))),
    )


def map_over_devices(
    kind: Kind,
    function: Callable[..., Any],
    inputs: Sequence[Role],
    outputs: Sequence[Role],
    devices: list[Any],
    donate: bool = False,
) -> Callable[..., Any]:
    """A per-device function over `devices`, its axis named `AXIS`.

    The gradient idiom of the step, `pmean(grad(loss))`, is right under pmap and under
    shard_map(check_vma=False), and wrong under shard_map's default.

    Args:
      kind: pmap or shard_map.
      function: from one device's arguments to one device's results.
      inputs: of each argument, whether it is as `Mapping.put` makes it ("state"), has its rows
        spread over the devices ("rows"; `Mapping.split`), or is one value for all ("all").
      outputs: the same of each result; of one result, a tuple of one.
      devices: of all processes, the same in each.
      donate: whether the first argument's memory may be used for the results.
    """
    donated = (0,) if donate else ()
    if kind == "pmap":
        axes = tuple(None if role == "all" else 0 for role in inputs)
        return jax.pmap(
            function, axis_name=AXIS, in_axes=axes, devices=devices, donate_argnums=donated
        )

    def spec(role: Role) -> PartitionSpec:
        return PartitionSpec(AXIS) if role == "rows" else PartitionSpec()

    found = tuple(spec(role) for role in outputs)
    mapped = jax.shard_map(
        function,
        mesh=_mesh(devices),
        in_specs=tuple(spec(role) for role in inputs),
        out_specs=found if len(found) > 1 else found[0],
        check_vma=False,
    )
    return jax.jit(mapped, donate_argnums=donated)


@functools.lru_cache(maxsize=16)
def _mapped(
    kind: Kind,
    step: Callable[..., Any],
    inputs: tuple[Role, ...],
    outputs: tuple[Role, ...],
    devices: tuple[Any, ...],
    donate: bool = False,
) -> Callable[..., Any]:
    """`map_over_devices`, once: a step that was mapped before is not compiled again."""
    return map_over_devices(kind, step, inputs, outputs, [*devices], donate)


@jax.jit
def _without_axis(tree: PyTree) -> PyTree:
    """A device's part without its axis of devices, of length 1: one program for all leaves."""
    return jax.tree.map(lambda x: x[0], tree)


def _one_for_all(tree: PyTree, devices: list[Any]) -> PyTree:
    """Each process's copy, which is the same, as one array on the first device of each."""
    first = {x.process_index: x for x in reversed(devices)}
    sharding = NamedSharding(_mesh([first[i] for i in sorted(first)]), PartitionSpec())
    return jax.tree.map(
        lambda x: jax.make_array_from_single_device_arrays(x.shape, sharding, [x]), tree
    )


def _mesh(devices: list[Any]) -> Mesh:
    return Mesh(np.asarray(devices), (AXIS,), axis_types=(AxisType.Auto,))
