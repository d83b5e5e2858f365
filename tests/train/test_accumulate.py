"""A step in micro-batches: the update of the whole batch, in less memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from thyrojax.config import Config
from thyrojax.errors import ConfigError
from thyrojax.model import Part
from thyrojax.train import accumulate, loop
from thyrojax.train import step as step_module
from thyrojax.train.accumulate import in_parts
from thyrojax.train.mapping import make_mapping
from thyrojax.train.schedule import make_optimizer
from thyrojax.train.state import TrainState, create_state, random_variables
from thyrojax.train.step import make_score_step, make_train_step

pytestmark = pytest.mark.usefixtures("half_network")

WEIGHTS = np.array([0.75, 1.5], np.float32)


@pytest.fixture
def in_float64(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Where nothing but a wrong row, mask or mean can show (see test_step)."""
    network = step_module.make_model
    monkeypatch.setattr(
        step_module, "make_model", lambda *options: network(*options).clone(dtype=jnp.float64)
    )
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def config(small_config: Config) -> Config:
    return replace(small_config, optimizer="sgd", lr=1e-2, warmup_fraction=0.0, batch_size=8)


def batch_of(config: Config) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    size, rows = config.input_size, config.batch_size
    return {
        "image": rng.uniform(0, 255, (rows, size, size, 1)),
        "label": rng.integers(0, 2, rows).astype(np.int32),
        "target": rng.uniform(0, 1, rows),
    }


class Stepper:
    """The step of a configuration over some devices, and states at its start."""

    def __init__(self, config: Config, n_devices: int) -> None:
        self.optimizer = make_optimizer(config, 10)
        self.config = config
        self.mapping = make_mapping(
            config.mapping,
            make_train_step(config, self.optimizer, WEIGHTS),
            make_score_step(config),
            config.batch_size,
            jax.devices()[:n_devices],
            config.accumulate,
        )

    def start(self) -> TrainState:
        variables = jax.tree.map(np.float64, random_variables(self.config))
        return create_state(variables, self.optimizer, self.config)

    def take(self, state: TrainState, batch: dict[str, Any]) -> tuple[TrainState, dict[str, float]]:
        taken, metrics = self.mapping.train(self.mapping.put(jax.device_get(state)), batch)
        found = self.mapping.get(metrics)
        return jax.device_get(self.mapping.get(taken)), {k: float(x) for k, x in found.items()}


def assert_close(one: Any, other: Any, relative: float = 1e-8) -> None:
    def compare(path: Any, a: Any, b: Any) -> None:
        atol = relative * max(float(np.abs(b).max()), 1e-3)
        np.testing.assert_allclose(a, b, rtol=0, atol=atol, err_msg=jax.tree_util.keystr(path))

    jax.tree_util.tree_map_with_path(compare, one, other)


@pytest.mark.slow
@pytest.mark.usefixtures("in_float64")
def test_with_frozen_statistics_it_is_the_step_of_the_whole_batch(config: Config) -> None:
    """Dropout, mixed targets, class weights, both heads; one device against two, in two parts."""
    whole_config = replace(config, freeze_bn=True, aux_head=True, label_smoothing=0.1)
    whole = Stepper(whole_config, 1)
    batch = batch_of(config)
    expected, expected_metrics = whole.take(whole.start(), batch)
    parts = Stepper(replace(whole_config, accumulate=2, mapping="shard_map"), 2)
    found, metrics = parts.take(parts.start(), batch)
    assert_close(found, expected, 1e-6)  # pooled features are float32
    assert metrics == pytest.approx(expected_metrics, rel=1e-6)
    assert_close(found.batch_stats, whole.start().batch_stats, 1e-12)


@pytest.mark.slow
@pytest.mark.usefixtures("in_float64")
def test_statistics_are_those_of_each_micro_batch_in_turn(config: Config) -> None:
    """By hand from small batches: every second row, over whatever devices hold them."""
    config = replace(config, dropout=0.0, ema=0.0)
    small = Stepper(replace(config, batch_size=4), 1)
    batch = batch_of(config)
    start = state = small.start()
    changes = []
    for j in range(2):
        state, _ = small.take(
            state.replace(step=start.step, params=start.params, opt_state=start.opt_state),
            {name: x[j::2] for name, x in batch.items()},
        )
        changes.append(jax.tree.map(np.subtract, state.params, start.params))
    parts = Stepper(replace(config, accumulate=2), 2)
    found, _ = parts.take(parts.start(), batch)
    assert_close(found.batch_stats, state.batch_stats)
    expected = jax.tree.map(lambda p, x, y: p + (x + y) / 2, start.params, *changes)
    # Pooled features are float32, and batch statistics enlarge the rounding of them.
    assert_close(found.params, expected, 1e-6)
    moved = max(float(np.abs(x).max()) for x in jax.tree.leaves(changes))
    assert moved > 1e-5


def toy(stats: Any, rows: dict[str, Any], part: Part | None) -> tuple[Any, Any]:
    """A gradient through many layers of memory, and statistics that go on."""

    def loss(w: Any) -> Any:
        x = rows["x"]
        for _ in range(30):
            x = jnp.sin(w * x)
        return jnp.mean(x)

    value, gradient = jax.value_and_grad(loss)(jnp.float32(0.9))
    return 0.5 * stats + jnp.max(rows["x"]), (value, gradient)


ROWS = {"x": np.random.default_rng(0).normal(size=(12, 50, 100)).astype(np.float32)}


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_parts_are_chained_and_averaged_unrolled_or_not(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accumulate, "_backend", lambda: backend)

    @jax.jit
    def found(stats: Any, rows: Any) -> Any:
        return in_parts(toy, 3, stats, rows)

    assert ("while" in found.lower(0.0, ROWS).as_text()) == (backend == "gpu")
    stats, (value, gradient) = found(0.0, ROWS)
    _, expected = toy(0.0, ROWS, None)
    np.testing.assert_allclose((value, gradient), expected, rtol=1e-5)
    in_turn = 0.0
    for j in range(3):
        in_turn = 0.5 * in_turn + ROWS["x"][j::3].max()
    np.testing.assert_allclose(stats, in_turn, rtol=1e-6)
    # Over members, as `members` maps a step.
    many = jax.vmap(found)(jnp.array([0.0, 1.0]), {"x": np.stack([ROWS["x"], -ROWS["x"]])})
    np.testing.assert_allclose(many[1][0][0], value, rtol=1e-6)
    np.testing.assert_allclose(many[1][0][1], -value, rtol=1e-6)


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_memory_is_that_of_one_part(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accumulate, "_backend", lambda: backend)

    def bytes_of(parts: int) -> int:
        program = jax.jit(lambda stats, rows: in_parts(toy, parts, stats, rows))
        return program.lower(0.0, ROWS).compile().memory_analysis().temp_size_in_bytes

    whole = bytes_of(1)
    assert whole > 10 * ROWS["x"].nbytes
    assert bytes_of(6) < 0.25 * whole


def test_a_part_has_the_same_rows_of_the_batch_whatever_the_devices() -> None:
    rows = np.arange(24)
    for n_devices in (1, 2, 4):
        taken = [
            np.asarray(Part(1, 3).take(jnp.asarray(own))) for own in rows.reshape(n_devices, -1)
        ]
        np.testing.assert_array_equal(np.concatenate(taken), rows[1::3])


def test_a_batch_that_does_not_divide_is_refused(
    config: Config, phantom_set: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="batch_size: found 8, expected a multiple of accumulate"):
        replace(config, accumulate=3)
    with pytest.raises(ConfigError, match="accumulate: found 0, expected a whole number"):
        replace(config, accumulate=0)
    # Of 8 images each of 8 devices has one.
    fault = "accumulate: found 2, expected a divisor of the 1 images"
    with pytest.raises(ConfigError, match=fault):
        loop.train(replace(config, accumulate=2), phantom_set, tmp_path / "run", quiet=True)
