"""Training and scoring over either feed, behind one pair of functions."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from thyrojax import processes
from thyrojax.config import Config
from thyrojax.data import resident, resident_frames, stream
from thyrojax.data.dataset import Dataset
from thyrojax.data.draws import margin_of
from thyrojax.shapes import Float, Int, PyTree
from thyrojax.train.averaging import make_statistics_step, statistics_batches
from thyrojax.train.crop_sheet import Crops
from thyrojax.train.mapping import Mapping, map_over_devices
from thyrojax.train.scoring import member_scores, of_all_processes
from thyrojax.train.state import AXIS, member_seeds, stack_members

Metrics = dict[str, Any]  # name -> values of one step, or of several, as they lie on the devices


class Feeding(NamedTuple):
    """A run's steps with their data.

    `advance(state, step, count)` takes steps step, step + 1, ... (from 0), `count` of them, donates
    the state and waits for nothing; its metrics are for `Mapping.get`. `score(variables)` gives the
    probability of malignant of every validation record, in order, by each member. `look(step)`
    gives the first `log_images` crops of a step, counted from 0, or fewer, of the first member; all
    processes call it together.
    `bad_records()` are those found unreadable and skipped since the last call: (step from 1, or 0
    where it was before the first, image_id, reason). `statistics(variables)` gives the
    `averaging.make_statistics_step` of each of the run's first `statistics_batches`. `summary` is
    one line.
    """

    advance: Callable[[PyTree, int, int], tuple[PyTree, list[Metrics]]]
    score: Callable[[PyTree], Float[np.ndarray, "n members"]]
    look: Callable[[int], Crops]
    bad_records: Callable[[], list[tuple[int, str, str]]]
    statistics: Callable[[PyTree], list[PyTree]]
    summary: str


def stream_feeding(
    config: Config,
    mapping: Mapping,
    dataset: Dataset,
    train_rows: Int[np.ndarray, " train"],
    validation_rows: Int[np.ndarray, " validation"],
    first_step: int,
) -> Feeding:
    """Batches cut on the host, ahead of the steps. Errors are those of `stream.TrainFeed`."""
    feed = stream.TrainFeed(dataset, train_rows, config)
    batches = _of_members(feed, config, first_step, mapping.rows)
    told = 0

    def advance(state: PyTree, step: int, count: int) -> tuple[PyTree, list[Metrics]]:
        pending = []
        for _ in range(count):
            state, metrics = mapping.train(state, next(batches))
            pending.append(metrics)
        return state, pending

    def bad_records() -> list[tuple[int, str, str]]:
        nonlocal told
        new = feed.bad_records[told:]
        told += len(new)
        if config.on_bad_record == "skip":  # each process meets those of its rows
            new = sorted(tuple(one) for of_one in processes.gathered(new) for one in of_one)
        # The feed counts from 0, the log says how many steps were taken.
        return [(step + 1, image_id, reason) for step, image_id, reason in new]

    statistics_of = map_over_devices(
        config.mapping,
        make_statistics_step(config),
        ("state", "rows"),
        ("state",),
        mapping.devices,
    )

    def statistics(variables: PyTree) -> list[PyTree]:
        # A feed of its own: what it finds unreadable is told of when training comes to it.
        again = _of_members(stream.TrainFeed(dataset, train_rows, config), config, 0, mapping.rows)
        count = statistics_batches(config, len(train_rows))
        found = [
            statistics_of(variables, jax.tree.map(mapping.split, batch))
            for batch in itertools.islice(again, count)
        ]
        return [mapping.get(one) for one in found]

    return Feeding(
        advance,
        lambda variables: member_scores(
            mapping, variables, dataset, validation_rows, config, config.margin_eval
        ),
        lambda step: _crops(feed.batch(config.seed, step, slice(config.log_images))),
        bad_records,
        statistics,
        f"stream feed: at most {feed.memory_bound(mapping.rows) / 1e6:,.0f} MB on the host",
    )


def _of_members(
    feed: stream.TrainFeed, config: Config, first_step: int, rows: slice
) -> Iterator[dict[str, np.ndarray]]:
    """What steps are given: each member's batches, by its seed, the members as second axis."""
    of_each = [feed.batches(seed, first_step, rows) for seed in member_seeds(config)]
    for batches in zip(*of_each, strict=True):
        names = [name for name in ("image", "label", "target") if name in batches[0]]
        yield stack_members([{name: one[name] for name in names} for one in batches], axis=1)


def resident_feeding(
    config: Config,
    mapping: Mapping,
    dataset: Dataset,
    train_rows: Int[np.ndarray, " train"],
    validation_rows: Int[np.ndarray, " validation"],
    train_step: Callable[..., Any],
    score_step: Callable[..., Any],
) -> Feeding:
    """Frames on the devices, crops cut by the step. Errors are those of `resident_frames.load`.

    `steps_per_dispatch` steps run without a word from the host; what is left before a log line is
    taken one by one, so that there are two programs and not one for each number of steps.
    """
    everything = np.concatenate([train_rows, validation_rows]).astype(np.int32)
    held = resident_frames.load(
        dataset, everything, config, AXIS, mapping.devices, count=len(train_rows)
    )
    of = (config, AXIS, held.n_devices, held.sharded)
    makes = [
        resident.make_batch(dataclasses.replace(config, seed=seed), len(train_rows), *of[1:])
        for seed in member_seeds(config)
    ]
    crops = resident.make_crops(*of)

    def make(frames: PyTree, step: Any) -> dict[str, jax.Array]:
        found = [make_one(frames, step) for make_one in makes]
        if len(found) == 1:
            return found[0]
        return jax.tree.map(lambda *x: jnp.stack(x, axis=1), *found)

    programs = {
        count: map_over_devices(
            config.mapping,
            scanned_steps(train_step, make, count),
            ("state", "rows", "all"),
            ("state", "all"),
            mapping.devices,
            donate=True,
        )
        for count in sorted({1, config.steps_per_dispatch})
    }
    scored = map_over_devices(
        config.mapping,
        lambda variables, frames, place, margin: score_step(
            variables, crops(frames, place, margin)
        ),
        ("state", "rows", "rows", "rows"),
        ("rows",),
        mapping.devices,
    )
    some = map_over_devices(
        config.mapping,
        lambda frames, step: jax.tree.map(lambda x: x[: config.log_images], makes[0](frames, step)),
        ("rows", "all"),
        ("rows",),
        mapping.devices,
    )
    statistics_step = make_statistics_step(config)
    statistics_of = map_over_devices(
        config.mapping,
        lambda variables, frames, step: statistics_step(variables, make(frames, step)),
        ("state", "rows", "all"),
        ("state",),
        mapping.devices,
    )
    margins = [margin_of(dataset.records[i], config.margin_eval, config) for i in validation_rows]

    def advance(state: PyTree, step: int, count: int) -> tuple[PyTree, list[Metrics]]:
        pending = []
        while count:
            taken = config.steps_per_dispatch if count >= config.steps_per_dispatch else 1
            state, metrics = programs[taken](state, held.frames, np.int32(step))
            pending.append(metrics)
            step, count = step + taken, count - taken
        return state, pending

    def score(variables: PyTree) -> Float[np.ndarray, "validation members"]:
        size, rows = config.batch_size, mapping.rows
        scores = np.full((len(validation_rows), config.members), np.nan)
        own = np.zeros(len(validation_rows), bool)
        for start in range(0, len(validation_rows), size):
            place = np.arange(start, min(start + size, len(validation_rows)))
            padded = np.resize(place, size)[rows]  # the last batch repeats its first rows
            found = scored(
                variables,
                held.frames,
                mapping.split(np.int32(len(train_rows)) + padded.astype(np.int32)),
                mapping.split(np.asarray(margins, np.int32)[padded]),
            )
            mine = place[rows]
            by_member = mapping.unsplit(found).reshape(-1, config.members)
            scores[mine], own[mine] = by_member[: len(mine)], True
        return of_all_processes(scores, own)

    def statistics(variables: PyTree) -> list[PyTree]:
        steps = range(statistics_batches(config, len(train_rows)))
        found = [statistics_of(variables, held.frames, np.int32(step)) for step in steps]
        return [mapping.get(one) for one in found]

    skipped = [(0, dataset.records[place].image_id, reason) for place, reason in held.bad]

    def bad_records() -> list[tuple[int, str, str]]:
        new = skipped.copy()
        skipped.clear()
        return new

    def look(step: int) -> Crops:
        batch = some(held.frames, np.int32(step))
        # The first device's rows, which are the first of the batch; no others are fetched.
        first = {name: np.asarray(x.addressable_shards[0].data) for name, x in batch.items()}
        size = config.input_size
        image = first.pop("image").reshape(-1, size, size, 1)
        return _crops({"image": image, **{name: x.reshape(-1) for name, x in first.items()}})

    return Feeding(advance, score, look, bad_records, statistics, f"resident feed: {held.summary}")


def _crops(batch: dict[str, np.ndarray]) -> Crops:
    target = batch.get("target", batch["label"]).astype(np.float32)
    return Crops(batch["image"], batch["label"], target, batch["margin"])


def scanned_steps(
    train_step: Callable[..., Any], make_batch: Callable[..., Any], count: int
) -> Callable[[PyTree, PyTree, Any], tuple[PyTree, Metrics]]:
    """The per-device function (state, frames, first step) to `count` steps of training.

    `make_batch` is of `resident.make_batch`. Of several steps, the metrics have an axis of steps.
    """

    def one(state: PyTree, step: Any, frames: PyTree) -> tuple[PyTree, Metrics]:
        return train_step(state, make_batch(frames, step))

    def steps(state: PyTree, frames: PyTree, first: Any) -> tuple[PyTree, Metrics]:
        if count == 1:
            return one(state, first, frames)
        numbers = first + jnp.arange(count, dtype=jnp.int32)
        return lax.scan(lambda state, step: one(state, step, frames), state, numbers)

    return steps
