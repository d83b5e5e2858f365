"""Runs that differ in what the host alone reads share their compiled steps."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from thyrojax.config import Config
from thyrojax.train import programs, step
from thyrojax.train.loop import train
from thyrojax.train.mapping import make_mapping
from thyrojax.train.members import score_members, train_members
from thyrojax.train.programs import HOST_FIELDS, TRAINING_FIELDS, score_step_of, steps_of
from thyrojax.train.schedule import make_optimizer
from thyrojax.train.state import (
    abstract_state,
    create_state,
    evaluation_variables,
    random_variables,
)
from thyrojax.train.step import make_score_step, make_train_step

pytestmark = pytest.mark.usefixtures("half_network")

ONES = np.ones(2, np.float32)


class _Read(Exception):
    pass


def blind(config: Config, names: tuple[str, ...]) -> Config:
    """The configuration, which raises where one of some fields is read."""

    class Blind(Config):
        def __post_init__(self) -> None:
            pass

        def __getattribute__(self, name: str) -> Any:
            if name in names:
                raise _Read(name)
            return super().__getattribute__(name)

    return Blind(**{f.name: getattr(config, f.name) for f in fields(Config)})


@pytest.fixture(params=[{}, {"members": 2, "accumulate": 2, "ema": 0.9, "clip_norm": 1.0}])
def config(request: pytest.FixtureRequest, small_config: Config) -> Config:
    changes = {"aux_head": True, "fold_bn": True, "head_epochs": 0.5, "steps": 6, "dropout": 0.5}
    return replace(small_config, **changes, **request.param)


def test_steps_do_not_read_what_they_are_shared_over(config: Config) -> None:
    seen = blind(config, HOST_FIELDS)
    with pytest.raises(_Read):
        _ = seen.margin_max
    train_step = train_members(seen, make_train_step(seen, make_optimizer(seen, 40), ONES, None))
    state = abstract_state(config, make_optimizer(config, 40))
    size, members = config.input_size, (config.members,) if config.members > 1 else ()
    batch = {
        "image": jax.ShapeDtypeStruct((4, *members, size, size, 1), jnp.uint8),
        "label": jax.ShapeDtypeStruct((4, *members), jnp.int32),
    }
    taken, _ = jax.eval_shape(train_step, state, batch)
    assert jax.tree.structure(taken) == jax.tree.structure(state)

    seen = blind(config, (*HOST_FIELDS, *TRAINING_FIELDS))
    score_step = score_members(seen, make_score_step(seen))
    images = jax.ShapeDtypeStruct((4, size, size, 1), jnp.uint8)
    assert jax.eval_shape(score_step, evaluation_variables(state), images).shape == (4, *members)


def test_what_would_do_something_else_is_not_shared(small_config: Config) -> None:
    steps = steps_of(small_config, 40, ONES)
    assert steps == steps_of(replace(small_config, margin_max=7, crop_shape="frame"), 40, ONES)
    assert steps.score is score_step_of(replace(small_config, lr=0.5, seed=4))
    for other in (
        steps_of(replace(small_config, lr=0.5), 40, ONES),
        steps_of(replace(small_config, seed=4), 40, ONES),
        steps_of(small_config, 41, ONES),
        steps_of(small_config, 40, np.asarray([0.5, 1.5], np.float32)),
    ):
        assert other.train is not steps.train
    assert score_step_of(replace(small_config, fold_bn=True)) is not steps.score
    assert score_step_of(replace(small_config, bn_epsilon=1e-5)) is not steps.score


@pytest.mark.slow
def test_a_second_run_is_not_traced_again(
    small_config: Config, phantom_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    traced = []

    def counted(images: Any, config: Config) -> Any:
        traced.append(config.name)
        return network_input(images, config)

    network_input = step.network_input
    monkeypatch.setattr(step, "network_input", counted)
    config = replace(small_config, steps=2, weight_decay=0.0123)  # no other test's
    assert train(config, phantom_set, tmp_path / "one", quiet=True)
    before = len(traced)
    assert before >= 1
    other = replace(config, crop_shape="rectangle", margin_max=20, name="other")
    assert train(other, phantom_set, tmp_path / "other", quiet=True)
    assert len(traced) == before


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/maps").is_file(), reason="counts Linux memory maps")
def test_many_shapes_in_one_process_leave_room_for_more(
    small_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def maps() -> int:
        return Path("/proc/self/maps").read_bytes().count(b"\n")

    found: list[int] = []
    for lr in (0.011, 0.012, 0.013):  # the third forgets what was before
        if len(found) < 2:
            monkeypatch.setattr(programs, "MOST_MAPS", maps() + 100)
        config = replace(small_config, lr=lr)
        optimizer = make_optimizer(config, 40)
        mapping = make_mapping("pmap", *steps_of(config, 40, ONES), 8, jax.devices()[:1])
        state = mapping.put(create_state(random_variables(config), optimizer, config))
        batch = {"image": np.zeros((8, 75, 75, 1), np.float32), "label": np.zeros(8, np.int32)}
        jax.block_until_ready(mapping.train(state, batch)[1])
        found.append(maps())
    assert found[1] > found[0] + 200
    assert found[2] < found[1] + 100
