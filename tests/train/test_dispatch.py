"""What a run does between two log lines: one program, on the state's memory, without waiting."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from thyrojax.config import Config
from thyrojax.train import loop
from thyrojax.train.feeds import Feeding
from thyrojax.train.mapping import make_mapping, map_over_devices
from thyrojax.train.schedule import make_optimizer
from thyrojax.train.state import abstract_variables, create_state, make_model, random_variables
from thyrojax.train.step import make_score_step, make_train_step

Kind = Literal["pmap", "shard_map"]
KINDS: list[Kind] = ["pmap", "shard_map"]


@pytest.mark.parametrize("n_devices", [1, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_is_compiled_once_for_a_new_state_and_for_its_own(
    kind: Kind, n_devices: int
) -> None:
    traced = []

    def train_step(state: Any, batch: Any) -> Any:
        traced.append("train")
        return {"sum": state["sum"] + batch["x"].sum(), "step": state["step"] + 1}, {"loss": 0.0}

    def score_step(variables: Any, images: Any) -> Any:
        traced.append("score")
        return images * variables["sum"]

    mapping = make_mapping(kind, train_step, score_step, 4, jax.devices()[:n_devices])
    state = mapping.put({"sum": jnp.zeros(()), "step": np.zeros((), np.int32)})
    for _ in range(3):
        mapping.score(state, np.ones(4, np.float32))
        state, _ = mapping.train(state, {"x": np.ones(4, np.float32)})
    assert traced == ["score", "train"]
    assert float(mapping.get(state)["sum"]) == 3 * 4 / n_devices


@pytest.mark.parametrize("kind", KINDS)
def test_the_whole_state_is_donated(kind: Kind, small_config: Config) -> None:
    config = replace(small_config, mapping=kind)
    optimizer = make_optimizer(config, 10)
    train_step = make_train_step(config, optimizer, np.ones(2, np.float32))
    devices = jax.devices()[:2]
    mapping = make_mapping(kind, train_step, make_score_step(config), 4, devices)
    state = mapping.put(create_state(random_variables(config), optimizer, config))
    images = np.zeros((4, config.input_size, config.input_size, 1), np.uint8)
    batch = {"image": images, "label": np.zeros(4, np.int32)}
    program: Any = map_over_devices(
        kind, train_step, ("state", "rows"), ("state", "all"), devices, donate=True
    )
    analysis = program.lower(state, jax.tree.map(mapping.split, batch)).compile().memory_analysis()
    assert analysis.alias_size_in_bytes == sum(
        leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(state)
    )
    mapping.train(state, batch)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))


class Watched:
    """A metric that tells when it is waited for or read."""

    def __init__(self, value: Any, happened: list[str]) -> None:
        self._value, self._happened = value, happened

    def block_until_ready(self) -> Watched:
        self._happened.append("waited")
        return self

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        self._happened.append("read")
        return np.asarray(self._value)


def test_nothing_is_waited_for_nor_read_between_two_log_lines(
    small_config: Config, phantom_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[str] = []
    make_feeding = loop.stream_feeding

    def watched_feeding(*args: Any, **options: Any) -> Feeding:
        feeding = make_feeding(*args, **options)

        def advance(state: Any, step: int, count: int) -> Any:
            happened.append(f"step {step + count}")
            state, metrics = feeding.advance(state, step, count)
            return state, [
                {name: Watched(value, happened) for name, value in one.items()} for one in metrics
            ]

        return feeding._replace(advance=advance)

    monkeypatch.setattr(loop, "stream_feeding", watched_feeding)
    # Under shard_map a metric goes to NumPy as it is.
    config = replace(
        small_config, mapping="shard_map", steps=6, log_every=3, eval_every=1e3, grace_seconds=1e6
    )
    loop.train(config, phantom_set, tmp_path / "run", quiet=True, say=lambda line: None)
    # In the first stretch every step is waited for, since nobody knows how long one takes.
    assert happened.index("read") > happened.index("step 3")
    second = happened[happened.index("step 4") :]
    assert second[:3] == ["step 4", "step 5", "step 6"]
    assert set(second[3:]) == {"read"}


def test_kernel_gradient_chooses_how_gradients_of_kernels_are_computed() -> None:
    def products(way: Literal["parts", "whole"]) -> int:
        config = Config(input_size=75, depth_multiplier=0.4, batch_size=2, kernel_gradient=way)
        model = make_model(config)
        images = jnp.zeros((2, 75, 75, 1))

        def loss(params: Any, batch_stats: Any) -> jax.Array:
            ends: Any = model.apply({"params": params, "batch_stats": batch_stats}, images)
            return jnp.sum(ends["logits"])

        shapes = abstract_variables(config)
        gradient = jax.jit(jax.grad(loss)).lower(shapes["params"], shapes["batch_stats"])
        return gradient.as_text().count("dot_general")

    # Mixed_6a has a wide 3x3 kernel, the last two blocks have one each, and two of 1x3 and of 3x1.
    assert products("parts") - products("whole") == 9 + 2 * (9 + 4 * 3)
