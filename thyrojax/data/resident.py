"""The resident feed: the step itself picks its rows and cuts their crops on the accelerator.

Per step nothing crosses from the host but the step's number. Frames are either on every device or
split over the devices; then each device cuts, for all of them, the crops of the frames that it
holds, and the crops are exchanged. Needs jax and numpy only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from thyrojax.config import Config
from thyrojax.data import augment, draws, resample
from thyrojax.data.crop import window_edges
from thyrojax.data.resident_frames import ResidentFrames
from thyrojax.shapes import Array, Bool, Float, Int

Rows = dict[str, Any]  # name -> array [rows]


def make_batch(
    config: Config,
    count: int,
    axis_name: str | None = None,
    n_devices: int = 1,
    sharded: bool = False,
) -> Callable[[ResidentFrames, Any], dict[str, jax.Array]]:
    """The per-device function (frames, step) to this device's rows of training batch `step`.

    They are the rows that the stream feed gives for (config.seed, step), to 1e-3 grey levels:
    `image` float32 [rows, size, size, 1] in 0..255, `label`, `index`, `margin` int32 [rows], and
    with mixup or CutMix `target` float32 [rows]. A row whose record is bad becomes the next good
    row of the batch, cyclically; a batch without any is not a number, so that the run stops there.

    Args:
      config: of the run.
      count: of the training records, which are the first of the resident ones.
      axis_name: of the mapped devices (pmap, or shard_map with check_vma=False); None for one.
      n_devices: over which the batch is spread.
      sharded: whether the frames are split over them (`resident_frames.Resident.sharded`).
    """
    crops = make_crops(config, axis_name, n_devices, sharded)
    here = config.batch_size // n_devices

    def batch(resident: ResidentFrames, step: Any) -> dict[str, jax.Array]:
        resident = _of_this_device(resident)
        first = 0 if axis_name is None else lax.axis_index(axis_name) * here

        def drawn_for(rows: Int[Array, " rows"]) -> Rows:
            return draws.draw(
                jnp,
                config,
                count,
                step,
                rows,
                margin_low=resident.margin_low,
                margin_high=resident.margin_high,
                weights=resident.mixing,
                seed=config.seed,
            )

        def cut(rows: Int[Array, " rows"]) -> tuple[dict[str, jax.Array], Rows]:
            """The rows, or those that replace them, and their draws."""
            any_good: Any = True
            if resident.bad.size:
                every = drawn_for(jnp.arange(config.batch_size, dtype=jnp.int32))
                good = ~resident.bad[every["position"]]
                rows, any_good = next_good(good, rows), good.any()
            drawn = drawn_for(rows)
            position = drawn["position"]
            image = crops(resident, position, drawn["margin"], drawn)
            found = {
                "image": jnp.where(any_good, image, jnp.nan) if resident.bad.size else image,
                "label": resident.label[position],
                "index": resident.place[position],
                "margin": drawn["margin"],
            }
            return found, drawn

        rows = first + jnp.arange(here, dtype=jnp.int32)
        found, drawn = cut(rows)
        if not augment.mixes(config):
            return found
        if n_devices == 1:
            others = {name: values[drawn["partner"]] for name, values in found.items()}
        else:  # cut again rather than fetched from where they are: that costs less
            others, _ = cut(drawn["partner"])
        image, target = augment.mix(
            jnp,
            found["image"],
            others["image"],
            found["label"],
            others["label"],
            drawn,
            config,
        )
        return {**found, "image": image, "target": target}

    return batch


def next_good(good: Bool[Array, " batch"], rows: Int[Array, " rows"]) -> Int[Array, " rows"]:
    """The row of a batch that stands for each: itself, or the next good one, cyclically."""
    batch = good.shape[0]
    ahead = (rows[:, None] + jnp.arange(batch, dtype=jnp.int32)[None]) % batch
    return (rows + jnp.argmax(good[ahead], axis=1).astype(jnp.int32)) % batch


def make_crops(
    config: Config, axis_name: str | None = None, n_devices: int = 1, sharded: bool = False
) -> Callable[..., Float[Array, "rows size size 1"]]:
    """The per-device function (frames, position, margin) to crops [rows, size, size, 1].

    `position` int32 [rows] counts the resident records, `margin` int32 [rows] is in pixels. With a
    fourth argument, the rows' draws, crops are flipped, turned and changed by them; without it, as
    for evaluation, they are plain. Arguments after `config` are those of `make_batch`.
    """

    def crops(
        resident: ResidentFrames,
        position: Int[Array, " rows"],
        margin: Int[Array, " rows"],
        drawn: Rows | None = None,
    ) -> Float[Array, "rows size size 1"]:
        resident = _of_this_device(resident)
        rows = {**(drawn or {}), "position": position, "margin": margin}
        if sharded:
            image = _exchanged(resident, rows, config, axis_name, n_devices)
        else:
            image = _cut(resident, resident.frame[position], rows, config)
        if drawn and augment.changes(config):
            image = jax.vmap(lambda one, row: _changed(resident, one, row, config))(image, rows)
        return image[..., None]

    return crops


def _cut(
    resident: ResidentFrames, frame: Int[Array, " rows"], rows: Rows, config: Config
) -> Float[Array, "rows size size"]:
    """The rows' crops, turned and flipped; `frame` counts the frames of this device."""

    def one(frame: Any, row: Rows) -> Float[Array, "size size"]:
        position = row["position"]
        window = _window(resident, row, config)
        size = (resident.height[position], resident.width[position])
        corner = (window[1], window[0])
        places = _places(window, row, config)
        return resample.crop(resident.frames, frame, size, corner, places, config.border)

    return jax.vmap(one)(frame, rows)


def _exchanged(
    resident: ResidentFrames, rows: Rows, config: Config, axis_name: str | None, n_devices: int
) -> Float[Array, "rows size size"]:
    """The same where every device has a block of the frames: each cuts what it can for all.

    A crop is moved as it is, once, from the device that has its frame to the one that has its row.
    """
    every = jax.tree.map(lambda x: lax.all_gather(x, axis_name, tiled=True), rows)
    block, size = resident.frames.shape[0], config.input_size
    place, own = resident.frame[every["position"]], lax.axis_index(axis_name)
    owner = place // block  # of each row's frame; all devices know it of all rows
    mine, frame = owner == own, jnp.clip(place - block * own, 0, block - 1)
    batch = mine.shape[0]
    here = batch // n_devices
    # Rows are numbered among those that go from one device to one other.
    grouped = owner.reshape(n_devices, here)
    earlier = jnp.tril(jnp.ones((1, here, here), bool), -1)
    number = ((grouped[:, :, None] == grouped[:, None]) & earlier).sum(-1).reshape(batch)
    most = most_of_a_pair(here, n_devices)
    # On average a device has its share of the rows: twice that is enough, but for a rare batch, of
    # which then each cuts all rows, and what it does not have are zeros of a sum. That is as right
    # and only slower.
    capacity = min(-(-2 * batch // n_devices), batch)
    usual = (number.max() < most) & (jnp.bincount(owner, length=n_devices).max() <= capacity)

    def moved() -> Float[Array, "rows size size"]:
        chosen = jnp.argsort(~mine, stable=True)[:capacity]
        cut = _cut(resident, frame[chosen], jax.tree.map(lambda x: x[chosen], every), config)
        to = jnp.where(mine[chosen], chosen // here * most + number[chosen], n_devices * most)
        sent = jnp.zeros((n_devices * most, size, size), jnp.float32)
        sent = sent.at[to].set(cut, mode="drop")
        found = lax.all_to_all(sent, axis_name, 0, 0, tiled=True)  # by the device that sent it
        return found[lax.dynamic_slice_in_dim(owner * most + number, own * here, here)]

    def summed() -> Float[Array, "rows size size"]:
        cut = _cut(resident, frame, every, config)
        cut = jnp.where(mine.reshape(-1, 1, 1), cut, 0.0)
        return lax.psum_scatter(cut, axis_name, scatter_dimension=0, tiled=True)

    return lax.cond(usual, moved, summed)


def most_of_a_pair(rows: int, n_devices: int) -> int:
    """Crops that there is room for from one device to one other, of so many rows of each device.

    Their number is about Poisson's, of mean rows / n_devices; six standard deviations and two more
    are exceeded by at most about one pair in ten million.
    """
    mean = rows / n_devices
    return min(math.ceil(mean + 6 * math.sqrt(mean)) + 2, rows)


def _window(resident: ResidentFrames, row: Rows, config: Config) -> tuple[Any, Any, Any, Any]:
    """Left, top, width and height of a row's window."""
    position = row["position"]
    box = resident.box[position]
    return window_edges(
        (box[0], box[1], box[2], box[3]),
        row["margin"],
        config.crop_shape,
        config.border,
        resident.height[position],
        resident.width[position],
        jnp.minimum,
        jnp.maximum,
    )


def _places(
    window: tuple[Any, Any, Any, Any], row: Rows, config: Config
) -> tuple[resample.Places, resample.Places]:
    """Where a row's crop reads its window: rows and columns, as `resample.crop` takes them."""
    _, _, width, height = window
    size = config.input_size
    if "rotation" in row and augment.turns(config):
        columns, rows = augment.turned_positions(jnp, width, height, size, row)
        columns, rows = _mirrored(columns, row, 0, 1), _mirrored(rows, row, 0, 1)
        return resample.free_places(rows), resample.free_places(columns)
    return (
        jax.tree.map(lambda x: _mirrored(x, row, 0, None), resample.grid_places(height, size)),
        jax.tree.map(lambda x: _mirrored(x, row, None, 0), resample.grid_places(width, size)),
    )


def _mirrored(array: Any, row: Rows, down: int | None, across: int | None) -> Any:
    """Flipped as the row's draws say along the axis that runs down and the one that runs across."""
    for name, axis in (("vertical_flip", down), ("flip", across)):
        if name in row and axis is not None and array.shape[axis] > 1:
            array = jnp.where(row[name], jnp.flip(array, axis), array)
    return array


def _changed(
    resident: ResidentFrames, image: Float[Array, "size size"], row: Rows, config: Config
) -> Float[Array, "size size"]:
    """A crop after all changes but geometry."""
    left, top, width, height = _window(resident, row, config)
    size = config.input_size
    box = resident.box[row["position"]]
    edges = (box[0] - left, box[1] - top, box[2] - left, box[3] - top)
    if augment.turns(config):
        columns, rows = augment.turned_positions(jnp, width, height, size, row)
        inside = augment.box_in_turned_crop(columns, rows, edges)
    else:
        inside = augment.box_in_upright_crop(jnp, width, height, size, edges)
    inside = _mirrored(inside, row, 0, 1)
    return augment.change_crop(jnp, image, row, config, config.seed, inside)


def _of_this_device(resident: ResidentFrames) -> ResidentFrames:
    """Without the axis of devices, which shard_map leaves at length 1 and pmap takes away."""
    if resident.frames.ndim == 3:
        return resident
    return ResidentFrames(*(x.reshape(x.shape[1:]) for x in resident))
