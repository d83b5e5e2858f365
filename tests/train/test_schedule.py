"""Which parameters move at which step, and how fast."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict

from thyrojax.config import Config
from thyrojax.errors import ConfigError
from thyrojax.runs import digest_run
from thyrojax.train import checkpoint, loop
from thyrojax.train.schedule import (
    BLOCKS,
    check_phases,
    first_steps,
    label_parts,
    make_optimizer,
    make_schedule,
)
from thyrojax.train.state import abstract_variables, random_variables
from thyrojax.trained_run import restore_run

STEM = ("Conv2d_1a_3x3", "Conv2d_4a_3x3")
# One kernel for each layer of the network, and both heads.
PARAMS = {
    layer: {"kernel": jnp.linspace(0.5, 2.0, 4).reshape(2, 2)}
    for layer in ("fc", "AuxLogits", *BLOCKS, *STEM)
}


@pytest.fixture
def config(small_config: Config) -> Config:
    """SGD without momentum or decay at a constant rate of 1: an update is its part's rate.

    An epoch of 4 records is 2 steps of 2, and there are 20 epochs.
    """
    return replace(
        small_config,
        optimizer="sgd",
        momentum=0.0,
        weight_decay=0.0,
        lr=1.0,
        trunk_lr_scale=0.5,
        schedule="constant",
        warmup_fraction=0.0,
        steps=0,
        epochs=20.0,
        batch_size=2,
    )


def ones(step: int) -> Any:
    return jax.tree.map(jnp.ones_like, PARAMS)


def updates_of(
    config: Config, steps: int, gradient: Callable[[int], Any] = ones
) -> list[dict[str, float]]:
    """The update of each layer (of its kernel's first number) at each step."""
    optimizer = make_optimizer(config, 4)
    update = jax.jit(optimizer.update)
    state, params, found = optimizer.init(PARAMS), PARAMS, []
    for step in range(steps):
        updates, state = update(gradient(step), state, params)
        params = optax.apply_updates(params, updates)
        found.append({layer: float(leaves["kernel"][0, 0]) for layer, leaves in updates.items()})
    return found


def first_moved(updates: list[dict[str, float]]) -> dict[str, int | None]:
    """The first step that moved each layer."""
    return {
        layer: next((step for step, found in enumerate(updates) if found[layer]), None)
        for layer in PARAMS
    }


def test_blocks_are_those_of_the_network_from_its_top(small_config: Config) -> None:
    layers = set(abstract_variables(small_config)["params"])
    assert {layer for layer in layers if layer.startswith("Mixed")} == set(BLOCKS)
    assert list(BLOCKS) == sorted(BLOCKS, reverse=True)
    leaves = {layer: {"kernel": 0} for layer in layers}

    def layers_of(part: str, config: Config) -> set[str]:
        parts = label_parts(leaves, config)
        return {layer for layer in layers if parts[layer]["kernel"] == part}

    assert layers_of("trunk", small_config) == layers - {"fc"}
    assert layers_of("stem", replace(small_config, layer_lr_decay=0.5)) == {
        *("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3")
    }


def test_layer_lr_decay_slows_each_block_below_the_top_one(config: Config) -> None:
    (found,) = updates_of(replace(config, layer_lr_decay=0.5), 1)
    assert found["fc"] == found["AuxLogits"] == -1.0
    for depth, block in enumerate(BLOCKS):
        assert found[block] == pytest.approx(-0.5 * 0.5**depth, rel=1e-6), block
    for layer in STEM:
        assert found[layer] == pytest.approx(-0.5 * 0.5**11, rel=1e-6)
    (plain,) = updates_of(config, 1)
    assert {plain[layer] for layer in (*BLOCKS, *STEM)} == {-0.5}


def test_heads_move_alone_for_head_epochs(config: Config) -> None:
    moved = first_moved(updates_of(replace(config, head_epochs=1.5), 5))
    assert moved == {layer: 0 if layer in ("fc", "AuxLogits") else 3 for layer in PARAMS}


def test_blocks_are_unfrozen_from_the_top_each_so_many_epochs(config: Config) -> None:
    options = replace(config, head_epochs=2.0, unfreeze_epochs=1.0)
    moved = first_moved(updates_of(options, 26))
    assert moved.pop("fc") == moved.pop("AuxLogits") == 0
    # An epoch is two steps. The stem is the twelfth part, 4 + 2 * 11 = 26: not within these.
    assert moved == {
        **{block: 4 + 2 * depth for depth, block in enumerate(BLOCKS)},
        **dict.fromkeys(STEM),
    }
    assert first_steps(options, 4)["stem"] == 26
    # Without a phase of the heads, the top block moves with them.
    moved = first_moved(updates_of(replace(config, unfreeze_epochs=1.0), 3))
    assert [moved["fc"], moved["Mixed_7c"], moved["Mixed_7b"], moved["Mixed_7a"]] == [0, 0, 2, None]


def test_frozen_trunk_stays_frozen(config: Config) -> None:
    found = updates_of(replace(config, trunk_lr_scale=0.0, weight_decay=0.1, momentum=0.9), 3)
    moved = first_moved(found)
    assert [layer for layer in PARAMS if moved[layer] is not None] == ["fc", "AuxLogits"]


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "rmsprop"])
def test_a_part_starts_as_if_it_had_not_been_there_before(config: Config, optimizer: str) -> None:
    options = replace(
        config,
        optimizer=optimizer,
        momentum=0.9,
        weight_decay=0.5,
        lr=0.1,
        head_epochs=2.0,
        schedule="cosine",
    )

    def gradient(step: int) -> Any:
        # Before the trunk's time its gradient is large, after it another one: no trace may be left.
        return jax.tree.map(lambda x: jnp.full_like(x, 1e3 if step < 4 else 0.1 * step), PARAMS)

    found = updates_of(options, 8, gradient)
    assert all(update["Mixed_5b"] == 0.0 for update in found[:4])
    # A new optimizer at step 4, at the rates that the run's schedule has from there.
    rate = make_schedule(options, 40)
    new = make_optimizer(replace(options, head_epochs=0.0), 4, lambda step: rate(step + 4))
    state, params = new.init(PARAMS), PARAMS
    for step in range(4, 8):
        updates, state = new.update(gradient(step), state, params)
        params = optax.apply_updates(params, updates)
        expected = updates["Mixed_5b"]["kernel"][0, 0]
        assert found[step]["Mixed_5b"] == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop"])
def test_momentum_goes_on_where_the_gradient_ends(config: Config, optimizer: str) -> None:
    def at_first(step: int) -> Any:
        return jax.tree.map(lambda x: jnp.full_like(x, 1.0 - step), PARAMS)

    for momentum in (0.0, 0.5):
        options = replace(config, optimizer=optimizer, momentum=momentum)
        second = updates_of(options, 2, at_first)[1]
        assert (second["fc"] < 0.0) == (second["Mixed_5b"] < 0.0) == (momentum > 0.0)


def test_clip_norm_cuts_the_norm_of_the_whole_gradient(config: Config) -> None:
    gradient = ones(0)
    norm = float(optax.tree.norm(gradient))  # of 15 layers of 4 ones each
    assert norm == pytest.approx(60**0.5)
    (found,) = updates_of(replace(config, clip_norm=norm / 4), 1)
    assert found["fc"] == pytest.approx(-0.25, rel=1e-5)
    assert found["Mixed_5b"] == pytest.approx(-0.125, rel=1e-5)
    (short,) = updates_of(replace(config, clip_norm=norm * 1.01), 1)
    assert short["fc"] == -1.0  # shorter gradients are left alone
    # Before the optimizer: Adam's first step has the length of the rate, whatever the gradient's.
    adam = replace(config, clip_norm=norm / 4, optimizer="adamw")
    (found,) = updates_of(adam, 1)
    assert found["fc"] == pytest.approx(-1.0, rel=1e-5)


FIELDS: list[dict[str, Any]] = [
    {},
    {"layer_lr_decay": 0.5},
    {"head_epochs": 3.0},
    {"head_epochs": 0.01, "unfreeze_epochs": 0.5, "clip_norm": 1.0},
]


@pytest.mark.parametrize("fields", FIELDS)
def test_structure_of_the_state_needs_no_number_of_records(
    config: Config, fields: dict[str, Any]
) -> None:
    options = replace(config, optimizer="adamw", **fields)

    def shapes(n_train: int) -> Any:
        return jax.eval_shape(make_optimizer(options, n_train).init, PARAMS)

    assert shapes(1) == shapes(12345)


def test_going_on_from_a_saved_state_is_going_on(config: Config) -> None:
    options = replace(config, optimizer="adamw", head_epochs=1.0, unfreeze_epochs=1.0)
    update = jax.jit(make_optimizer(options, 4).update)
    again = jax.jit(make_optimizer(options, 4).update)
    state = make_optimizer(options, 4).init(PARAMS)
    for _ in range(3):
        _, state = update(ones(0), state, PARAMS)
    restored = jax.tree.map(jnp.asarray, jax.tree.map(np.asarray, state))
    expected, found = update(ones(0), state, PARAMS), again(ones(0), restored, PARAMS)
    jax.tree.map(np.testing.assert_array_equal, expected, found)


@pytest.mark.slow
def test_run_has_its_phases_however_it_is_interrupted(
    small_config: Config, phantom_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Validations are at the same steps as the phases: one epoch, and the end before the second.
    options = replace(
        small_config, ema=0.0, head_epochs=1.0, unfreeze_epochs=1.0, clip_norm=1.0, weight_decay=0.1
    )

    def trunk_moved(run: Path, step: int) -> set[str]:
        before = flatten_dict(random_variables(options)["params"])
        after = flatten_dict(restore_run(run, step)[1].state.params)
        return {path[0] for path, leaf in after.items() if np.any(leaf != before[path])}

    def silently(run: Path) -> bool:
        return loop.train(options, phantom_set, run, quiet=True, say=lambda line: None)

    real_save = checkpoint.save

    def save_and_stop(*arguments: object) -> None:
        real_save(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        silently(tmp_path / "broken")
    monkeypatch.setattr(checkpoint, "save", real_save)
    _, first = digest_run(tmp_path / "broken")
    assert trunk_moved(tmp_path / "broken", first) == {"fc"}
    assert silently(tmp_path / "broken")
    assert silently(tmp_path / "whole")
    assert digest_run(tmp_path / "broken") == digest_run(tmp_path / "whole")
    assert trunk_moved(tmp_path / "whole", options.steps) == {"fc", "Mixed_7c"}


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"head_epochs": 2.0}, r"head_epochs: found 2\.0, expected 0 where trunk_lr_scale is 0"),
        ({"unfreeze_epochs": 1.0}, r"unfreeze_epochs: found 1\.0, expected 0 where trunk_lr_scale"),
        ({"layer_lr_decay": 0.9}, r"layer_lr_decay: found 0\.9, expected 1 where trunk_lr_scale"),
    ],
)
def test_fields_of_a_moving_trunk_are_refused_for_a_frozen_one(
    fields: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        Config(trunk_lr_scale=0.0, **fields)


def test_heads_that_move_alone_to_the_end_are_refused(config: Config) -> None:
    with pytest.raises(ConfigError, match=r"head_epochs: found 3\.0, expected fewer than epochs"):
        Config(head_epochs=3.0, epochs=3.0)
    # With steps, an epoch is only known with the data: here it is two.
    options = replace(config, steps=7, epochs=1.0, head_epochs=3.0)
    check_phases(options, 4)
    with pytest.raises(ConfigError, match=r"head_epochs: found 3\.0, 6 steps of this set, expect"):
        check_phases(replace(options, steps=6), 4)
