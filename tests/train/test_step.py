"""One training step: the same on any number of devices, and what each option changes in it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from jax.sharding import Mesh, PartitionSpec

from thyrojax.config import Config
from thyrojax.errors import ConfigError
from thyrojax.train import step as step_module
from thyrojax.train.loop import class_weights
from thyrojax.train.mapping import make_mapping
from thyrojax.train.schedule import label_parts, make_optimizer, make_schedule
from thyrojax.train.state import TrainState, abstract_variables, create_state, random_variables
from thyrojax.train.step import make_score_step, make_train_step

pytestmark = pytest.mark.usefixtures("half_network")

ONES = np.ones(2, np.float32)


def batch_of(config: Config, step: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(step)
    size = config.input_size
    labels = np.arange(config.batch_size) % 2
    images = rng.uniform(0, 255, (config.batch_size, size, size, 1)).astype(np.float32)
    images[labels == 1] *= 0.5
    return {"image": images, "label": labels.astype(np.int32)}


def take_steps(
    config: Config, n_devices: int, steps: int = 2, dtype: Any = np.float32
) -> tuple[TrainState, list[dict[str, float]], np.ndarray]:
    """State, metrics and scores after some steps on so many devices."""
    optimizer = make_optimizer(config, 10)
    mapping = make_mapping(
        config.mapping,
        make_train_step(config, optimizer, ONES),
        make_score_step(config),
        config.batch_size,
        jax.devices()[:n_devices],
    )
    variables = jax.tree.map(lambda leaf: leaf.astype(dtype), random_variables(config))
    state = mapping.put(create_state(variables, optimizer, config))
    metrics = []
    for step in range(steps):
        state, found = mapping.train(state, batch_of(config, step))
        metrics.append({name: float(x) for name, x in mapping.get(found).items()})
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    scores = mapping.score(variables, batch_of(config, 99)["image"])
    return jax.device_get(mapping.get(state)), metrics, scores


def largest_difference(one: Any, other: Any) -> float:
    """Largest difference of any leaf, relative to that leaf's largest value (at least 1e-3)."""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return max(float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-3)) for a, b in pairs)


@pytest.mark.slow
def test_devices_and_mappings_take_one_and_the_same_step(
    small_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In float64, because in float32 a ReLU near zero may fall to either side, and two steps of
    # training make a large difference of that. In float64 nothing but an error in the reductions
    # (of the gradient, of BatchNorm's statistics) or in dropout's rows can show.
    config_of_one = replace(small_config, optimizer="sgd", lr=1e-2)
    network = step_module.make_model
    monkeypatch.setattr(
        step_module, "make_model", lambda *options: network(*options).clone(dtype=jnp.float64)
    )
    with jax.enable_x64(True):
        state, metrics, scores = take_steps(config_of_one, 1, dtype=np.float64)
        for mapping in ("pmap", "shard_map"):
            config = replace(config_of_one, mapping=mapping)
            other, other_metrics, other_scores = take_steps(config, 8, dtype=np.float64)
            assert other.step == state.step == 2
            for found, expected in zip(other_metrics, metrics, strict=True):
                assert found == pytest.approx(expected, rel=1e-7)
            assert largest_difference(other.params, state.params) < 1e-7
            assert largest_difference(other.batch_stats, state.batch_stats) < 1e-7
            np.testing.assert_allclose(other_scores, scores, atol=1e-7)


def test_mean_of_gradients_is_right_where_the_gradient_of_a_mean_is_not() -> None:
    # True value: d/dw mean_i(w x_i) = mean(0..15) = 7.5, on 8 devices of 2 rows.
    x, devices = jnp.arange(16.0), jax.devices()

    def loss(w: jax.Array, x: jax.Array) -> jax.Array:
        return jnp.mean(w * x)

    def mean_of_gradients(w: jax.Array, x: jax.Array) -> jax.Array:
        return jax.lax.pmean(jax.grad(loss)(w, x), "batch")

    def gradient_of_mean(w: jax.Array, x: jax.Array) -> jax.Array:
        return jax.grad(lambda w: jax.lax.pmean(loss(w, x), "batch"))(w)

    def pmapped(function: Any) -> float:
        return float(
            jax.pmap(function, "batch", in_axes=(None, 0))(jnp.ones(()), x.reshape(8, 2))[0]
        )

    mesh = Mesh(np.asarray(devices), ("batch",))
    rows, everywhere = PartitionSpec("batch"), PartitionSpec()

    def sharded(function: Any) -> float:
        mapped = jax.shard_map(
            function, mesh=mesh, in_specs=(everywhere, rows), out_specs=everywhere, check_vma=False
        )
        return float(jax.jit(mapped)(jnp.ones(()), x))

    assert pmapped(mean_of_gradients) == sharded(mean_of_gradients) == 7.5
    assert pmapped(gradient_of_mean) != 7.5  # why the step reduces gradients, and not the loss


def test_batch_that_does_not_divide_over_the_devices_is_refused() -> None:
    with pytest.raises(ConfigError, match="batch_size: found 12, expected a multiple of the 8"):
        make_mapping("pmap", lambda state, batch: (state, {}), lambda v, x: x, 12)


def test_balanced_class_weights_average_to_one(small_config: Config) -> None:
    labels = np.asarray([0, 0, 0, 1])
    weights = class_weights(labels, replace(small_config, class_weights="balanced"))
    np.testing.assert_allclose(weights, [4 / 6, 2.0])
    assert weights[labels].mean() == pytest.approx(1.0)
    np.testing.assert_array_equal(class_weights(labels, small_config), ONES)


def test_schedule_warms_up_and_falls_to_zero(small_config: Config) -> None:
    rate = make_schedule(replace(small_config, lr=0.1, warmup_fraction=0.2), 100)
    assert float(rate(0)) == 0.0
    assert float(rate(10)) == pytest.approx(0.05)
    assert float(rate(20)) == pytest.approx(0.1)
    assert float(rate(60)) == pytest.approx(0.05)  # half of the cosine
    assert float(rate(100)) == pytest.approx(0.0, abs=1e-8)
    constant = make_schedule(replace(small_config, schedule="constant", warmup_fraction=0.0), 100)
    assert float(constant(0)) == float(constant(99)) == pytest.approx(small_config.lr)


def test_both_heads_are_new_and_all_else_is_trunk(small_config: Config) -> None:
    params = abstract_variables(replace(small_config, aux_head=True))["params"]
    groups = flatten_dict(label_parts(params, small_config))
    heads = {path[0] for path, group in groups.items() if group == "head"}
    assert heads == {"fc", "AuxLogits"}


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "rmsprop"])
def test_trunk_moves_at_its_own_rate(optimizer: str, small_config: Config) -> None:
    def first_updates(scale: float) -> tuple[float, float]:
        config = replace(
            small_config,
            optimizer=optimizer,
            trunk_lr_scale=scale,
            warmup_fraction=0.0,
            weight_decay=0.0,
        )
        params = {"fc": {"kernel": jnp.ones((2, 2))}, "Mixed_5b": {"kernel": jnp.ones((2, 2))}}
        transformation = make_optimizer(config, 10)
        gradient = jax.tree.map(jnp.ones_like, params)
        updates, _ = transformation.update(gradient, transformation.init(params), params)
        return float(updates["fc"]["kernel"][0, 0]), float(updates["Mixed_5b"]["kernel"][0, 0])

    head, trunk = first_updates(0.25)
    assert head < 0
    assert trunk == pytest.approx(0.25 * head, rel=1e-5)
    assert first_updates(0.0) == (pytest.approx(head), 0.0)


def test_weight_decay_spares_batch_norm_and_biases(small_config: Config) -> None:
    config = replace(small_config, warmup_fraction=0.0, weight_decay=0.5, lr=1.0)
    params = {"fc": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}}
    transformation = make_optimizer(config, 10)
    gradient = jax.tree.map(jnp.zeros_like, params)
    updates, _ = transformation.update(gradient, transformation.init(params), params)
    assert float(jnp.abs(updates["fc"]["kernel"]).min()) > 0
    assert float(jnp.abs(updates["fc"]["bias"]).max()) == 0


@pytest.mark.slow
def test_frozen_trunk_and_statistics_stay_and_the_average_follows(small_config: Config) -> None:
    config = replace(
        small_config,
        trunk_lr_scale=0.0,
        freeze_bn=True,
        ema=0.75,
        warmup_fraction=0.0,
        aux_head=True,
        optimizer="sgd",
        lr=1e-2,
    )
    before = random_variables(config)
    state, metrics, _ = take_steps(config, 1, steps=1)
    assert largest_difference(state.batch_stats, before["batch_stats"]) == 0.0
    for name, leaf in flatten_dict(state.params).items():
        moved = np.abs(leaf - flatten_dict(before["params"])[name]).max()
        # Both heads learn, whose BatchNorm parameters and convolutions are new as well.
        assert (moved > 0) == (name[0] in ("fc", "AuxLogits")), name
    kernel = "params", "fc", "kernel"
    # The decay of the first step is (1 + 0) / (10 + 0).
    expected = 0.1 * before["params"]["fc"]["kernel"] + 0.9 * state.params["fc"]["kernel"]
    np.testing.assert_allclose(flatten_dict(state.ema)[kernel], expected, rtol=1e-5)
    assert np.isfinite(metrics[0]["loss"])


def test_folded_scoring_gives_the_scores_of_the_plain_network(small_config: Config) -> None:
    variables = random_variables(small_config)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 75, 75, 1), np.uint8)
    expected, found = (
        jax.jit(make_score_step(replace(small_config, fold_bn=fold_bn)))(variables, images)
        for fold_bn in (False, True)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5)
