"""Stochastic weight averaging: what the mean is, whose statistics it gets, what is scored with."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from thyrojax import weights
from thyrojax.config import Config
from thyrojax.data import splits, stream
from thyrojax.data.dataset import open_dataset
from thyrojax.errors import ConfigError
from thyrojax.evaluate import evaluate, open_trained
from thyrojax.model import normalise
from thyrojax.runs import digest_run
from thyrojax.train import checkpoint, loop
from thyrojax.train.averaging import MOST_BATCHES, average_step, statistics_batches
from thyrojax.train.feeds import Feeding
from thyrojax.train.state import TrainState, evaluation_variables, make_model
from thyrojax.trained_run import restore_run

STEPS, FIRST = 6, 3  # 0.4 of 6 steps is 2.4: the mean is of steps 3 to 6


@pytest.fixture(scope="module")
def config(small_config: Config) -> Config:
    """A validation and a kept checkpoint after each step."""
    return replace(
        small_config,
        batch_size=8,
        steps=STEPS,
        eval_every=0.1,
        keep_every=1,
        ema=0.0,
        swa_start=0.4,
        lr=1e-2,
        warmup_fraction=0.0,
    )


def train(config: Config, data: Path, run: Path) -> bool:
    return loop.train(config, data, run, quiet=True, say=lambda line: None)


@pytest.fixture(scope="module")
def averaged(config: Config, phantom_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("averaged") / "run"
    assert train(config, phantom_set, run)
    return run


def state_of(run: Path, step: int) -> TrainState:
    return jax.device_get(restore_run(run, step)[1].state)


def first_batches(config: Config, data: Path, run: Path) -> list[np.ndarray]:
    dataset = open_dataset(data)
    rows = splits.read_split(run / "split.csv", dataset.records)["train"]
    feed = stream.TrainFeed(dataset, rows, config)
    count = -(-len(rows) // config.batch_size)
    assert statistics_batches(config, len(rows)) == count < MOST_BATCHES
    return [feed.batch(config.seed, step)["image"] for step in range(count)]


@pytest.mark.slow
def test_the_average_is_the_mean_of_the_parameters_that_were_saved(averaged: Path) -> None:
    states = {step: state_of(averaged, step) for step in range(1, STEPS + 1)}
    for step in (FIRST, FIRST + 1, STEPS):
        saved = [states[past].params for past in range(FIRST, step + 1)]
        expected = jax.tree.map(lambda *x: np.mean(np.float64(x), axis=0), *saved)
        swa = states[step].swa
        assert swa["count"] == step - FIRST + 1
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6),
            swa["params"],
            expected,
        )
    # The mean is neither the last parameters nor the mean of all of them.
    kernel = "params", "fc", "kernel"
    last = flatten_dict({"params": states[STEPS].params})[kernel]
    assert np.abs(flatten_dict(states[STEPS].swa)[kernel] - last).max() > 1e-3
    # Before the first of it, what is evaluated is what has been trained.
    before = states[FIRST - 1]
    assert before.swa["count"] == 0
    for name in ("params", "batch_stats"):
        jax.tree.map(np.testing.assert_array_equal, before.swa[name], getattr(before, name))


@pytest.mark.slow
def test_statistics_are_those_of_the_first_training_batches_under_the_average(
    averaged: Path, config: Config, phantom_set: Path
) -> None:
    swa = state_of(averaged, STEPS).swa
    batches = first_batches(config, phantom_set, averaged)
    # The first convolution sees the crops, which no batch has normalised: by hand over all at once.
    kernel = swa["params"]["Conv2d_1a_3x3"]["conv"]["kernel"]
    convolved = jax.lax.conv_general_dilated(
        normalise(jnp.asarray(np.concatenate(batches))),
        kernel,
        (2, 2),
        "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    found = swa["batch_stats"]["Conv2d_1a_3x3"]["bn"]
    pixels = np.float64(convolved).reshape(-1, kernel.shape[-1])
    np.testing.assert_allclose(found["mean"], pixels.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["var"], pixels.var(0), rtol=1e-4)

    # All of them: from running values that begin at 0 and keep nine tenths, and from moments.
    model = make_model(replace(config, dropout=0.0))
    empty = jax.tree.map(np.zeros_like, swa["batch_stats"])
    step = jax.jit(
        lambda images: model.apply(
            {"params": swa["params"], "batch_stats": empty},
            normalise(images),
            train=True,
            mutable=["batch_stats"],
        )[1]["batch_stats"]
    )
    own = [flatten_dict(jax.tree.map(lambda x: np.float64(x) / 0.1, step(x))) for x in batches]
    for path, value in flatten_dict(swa["batch_stats"]).items():
        mean = np.mean([one[(*path[:-1], "mean")] for one in own], axis=0)
        if path[-1] == "mean":
            expected = mean
        else:
            squares = [one[path] + one[(*path[:-1], "mean")] ** 2 for one in own]
            expected = np.mean(squares, axis=0) - mean**2
        np.testing.assert_allclose(value, expected, rtol=2e-3, atol=1e-4, err_msg=str(path))
    # They are not those of the trained network, which moved on with every step.
    running = flatten_dict(state_of(averaged, STEPS).batch_stats)
    path = ("Conv2d_1a_3x3", "bn", "mean")
    assert np.abs(running[path] - found["mean"]).max() > 1e-3


@pytest.mark.slow
def test_the_average_is_what_is_evaluated_and_what_other_formats_get(
    averaged: Path, config: Config, phantom_set: Path
) -> None:
    trained = open_trained(averaged, "latest")
    swa = state_of(averaged, STEPS).swa
    for name in ("params", "batch_stats"):
        jax.tree.map(np.testing.assert_array_equal, trained.variables[name], swa[name])
    assert set(trained.variables) == {"params", "batch_stats"}
    lines = map(json.loads, (averaged / "metrics.jsonl").read_text().splitlines())
    told = {line["step"]: line["val_auc"] for line in lines if "val_auc" in line}
    figures = evaluate(averaged, phantom_set, "val", which="latest")
    assert figures["auc"] == pytest.approx(told[STEPS], abs=1e-9)
    best = state_of(averaged, open_trained(averaged, "best").step).swa
    read = weights.read(averaged, depth_multiplier=config.depth_multiplier)
    for name, array in read.arrays.items():
        assert np.array_equal(array, flatten_dict(best, sep="/")[name]), name
    assert read.ignored["swa/count"] == "counter of what is in the average"


@pytest.mark.slow
def test_a_run_killed_in_mid_average_comes_to_the_same_end(
    averaged: Path,
    config: Config,
    phantom_set: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, real_save, saves = tmp_path / "run", checkpoint.save, itertools.count(1)

    def killed_before_a_save(*arguments: Any) -> None:
        if next(saves) == 4:  # the mean has begun; the line in metrics.jsonl is there
            raise KeyboardInterrupt
        real_save(*arguments)

    monkeypatch.setattr(checkpoint, "save", killed_before_a_save)
    with pytest.raises(KeyboardInterrupt):
        train(config, phantom_set, run)
    assert int(state_of(run, 3).swa["count"]) == 1
    assert train(config, phantom_set, run)
    assert (run / "metrics.jsonl").read_bytes() == (averaged / "metrics.jsonl").read_bytes()
    assert digest_run(run) == digest_run(averaged)


@pytest.mark.slow
def test_a_stop_between_validations_saves_what_is_to_be_evaluated(
    config: Config, phantom_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_feeding = loop.stream_feeding
    stopping: list[Any] = []

    class Stop(loop.StopRequest):
        def __enter__(self) -> Any:
            stopping.append(self)
            return super().__enter__()

    def feeding_with_stop(*arguments: Any) -> Feeding:
        feeding = real_feeding(*arguments)

        def advance(state: Any, step: int, count: int) -> Any:
            stopping[-1]._asked.set()
            return feeding.advance(state, step, count)

        return feeding._replace(advance=advance)

    monkeypatch.setattr(loop, "stream_feeding", feeding_with_stop)
    monkeypatch.setattr(loop, "StopRequest", Stop)
    run = tmp_path / "run"
    assert not train(replace(config, eval_every=100.0, log_every=100), phantom_set, run)
    state = state_of(run, 1)
    assert state.swa["count"] == 0
    jax.tree.map(np.testing.assert_array_equal, state.swa["params"], state.params)


def test_an_average_begins_with_the_first_and_is_left_alone_by_a_stop() -> None:
    def state(value: float, count: int, mean: float) -> TrainState:
        leaves = {name: {"x": jnp.full(2, mean)} for name in ("params", "batch_stats")}
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params={"x": jnp.full(2, value)},
            batch_stats={"x": jnp.full(2, value)},
            opt_state=(),
            ema={},
            swa={"count": jnp.asarray(count, jnp.int32), **leaves},
        )

    for count, adding, expected in ((0, 1, 5.0), (0, 0, 5.0), (3, 1, 2.0), (3, 0, 1.0)):
        found = average_step(state(5.0, count, 1.0), adding).swa
        assert (float(found["params"]["x"][0]), int(found["count"])) == (expected, count + adding)


def test_statistics_that_were_frozen_stay(small_config: Config) -> None:
    from thyrojax.train.averaging import make_averaging
    from thyrojax.train.mapping import make_mapping

    config = replace(small_config, ema=0.0, swa_start=0.5, freeze_bn=True)
    mapping = make_mapping(
        "pmap", lambda state, batch: (state, {}), lambda v, x: x, 1, jax.devices()[:1]
    )
    one = {"x": jnp.ones(2)}
    swa = {"count": jnp.zeros((), jnp.int32), "params": one, "batch_stats": one}
    state = mapping.put(TrainState(jnp.zeros((), jnp.int32), one, one, (), {}, swa))

    def never(variables: object) -> Any:
        raise AssertionError("frozen statistics were computed anew")

    found = mapping.get(make_averaging(config, mapping, 10, never).validated(state, 5))
    assert int(found.swa["count"]) == 1
    np.testing.assert_array_equal(evaluation_variables(found)["batch_stats"]["x"], one["x"])


def test_two_kinds_of_averages_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"ema: found 0.9, expected 0 with swa_start"):
        Config(ema=0.9, swa_start=0.5)
    with pytest.raises(ConfigError, match=r"swa_start: found 1.0, expected 0 <= swa_start < 1"):
        Config(swa_start=1.0)
