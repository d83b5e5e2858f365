"""Several networks in one run: each is the run of its own seed, and their mean is scored."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from thyrojax import weights
from thyrojax.analysis import roc
from thyrojax.analysis.predictions import read_predictions
from thyrojax.config import Config
from thyrojax.data import splits
from thyrojax.data.dataset import open_dataset
from thyrojax.errors import ConfigError, WeightsError
from thyrojax.evaluate import evaluate, open_trained, predict
from thyrojax.explanations import explain
from thyrojax.model.explain import randomised
from thyrojax.model.initialise import initial_array
from thyrojax.nodule_maps import explain_rows
from thyrojax.runs import digest_run
from thyrojax.train import checkpoint, loop
from thyrojax.train import step as step_module
from thyrojax.train.feeds import resident_feeding, stream_feeding
from thyrojax.train.mapping import make_mapping
from thyrojax.train.members import over_members, score_members, train_members
from thyrojax.train.schedule import make_optimizer
from thyrojax.train.state import TrainState, create_state, random_variables, stack_members
from thyrojax.train.step import make_score_step, make_train_step

pytestmark = pytest.mark.usefixtures("half_network")

SEEDS = (3, 4)


@pytest.fixture(scope="module")
def config(small_config: Config) -> Config:
    """A run in which rounding stays rounding (see test_feeds), of one network."""
    return replace(
        small_config,
        seed=SEEDS[0],
        optimizer="sgd",
        lr=1e-2,
        freeze_bn=True,
        batch_size=8,
        steps=4,
        eval_every=0.4,
        gain=0.2,
        clip_norm=1.0,
        mixup=0.3,
    )


def train(config: Config, data: Path, run: Path) -> None:
    assert loop.train(config, data, run, quiet=True, say=lambda line: None)


@pytest.fixture(scope="module")
def together(config: Config, phantom_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("members") / "together"
    train(replace(config, members=2), phantom_set, run)
    evaluate(run, phantom_set, "test")
    return run


@pytest.fixture(scope="module")
def alone(together: Path, config: Config, phantom_set: Path) -> list[Path]:
    """A run of each seed on the parts of the run of both."""
    runs = [together.with_name(f"alone{seed}") for seed in SEEDS]
    for seed, run in zip(SEEDS, runs, strict=True):
        own = replace(config, seed=seed, split=str(together / "split.csv"))
        train(own, phantom_set, run)
        evaluate(run, phantom_set, "test", which="latest")
    return runs


def lines_of(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def assert_close(one: Any, other: Any, atol: float = 1e-6) -> None:
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=atol), one, other)


@pytest.mark.slow
def test_a_member_is_the_run_of_its_seed(together: Path, alone: list[Path]) -> None:
    ours = open_trained(together, "latest").variables
    theirs = [open_trained(run, "latest").variables for run in alone]
    assert_close(ours, stack_members(jax.device_get(theirs)))
    kernels = [one["params"]["fc"]["kernel"] for one in theirs]
    assert np.abs(kernels[0] - kernels[1]).max() > 1e-3
    # What a line tells of training is the mean over the members.
    for found, *each in zip(lines_of(together), *map(lines_of, alone), strict=True):
        for name in set(found) & {"loss", "accuracy", "gradient_norm"}:
            assert found[name] == pytest.approx(np.mean([x[name] for x in each]), rel=1e-4), name
        if "val_auc" in found:
            own = [found[f"val_auc_seed_{seed}"] for seed in SEEDS]
            assert own == [x["val_auc"] for x in each]


@pytest.mark.slow
def test_the_mean_score_is_validated_evaluated_and_predicted(
    together: Path, alone: list[Path], phantom_set: Path, tmp_path: Path
) -> None:
    evaluate(together, phantom_set, "test", which="latest")
    of_each = [read_predictions(run / "predictions" / "val.csv") for run in alone]
    mean = np.mean([found.scores for found in of_each], axis=0)
    found = read_predictions(together / "predictions" / "val.csv")
    np.testing.assert_allclose(found.scores, mean, atol=1e-6)
    last = [line for line in lines_of(together) if "val_auc" in line][-1]
    assert last["val_auc"] == roc.auc(found.labels, found.scores)
    right = np.where(found.labels == 1, mean, 1 - mean)
    assert last["val_loss"] == pytest.approx(-np.log(right).mean(), rel=1e-5)

    image = tmp_path / "frame.png"
    Image.fromarray(open_dataset(phantom_set).frame(0)).save(image)
    box = tuple(map(float, open_dataset(phantom_set).records[0].box))
    scores = [predict(run, image, box, "latest")["score"] for run in (together, *alone)]
    assert scores[0] == pytest.approx(np.mean(scores[1:]), abs=1e-6)


@pytest.mark.slow
def test_maps_are_means_over_the_members(
    together: Path, alone: list[Path], phantom_set: Path
) -> None:
    dataset, rows, targets = open_dataset(phantom_set), np.arange(3), np.array([0, 1, 1])

    def maps_of(run: Path) -> np.ndarray:
        trained = open_trained(run, "latest")
        of = (trained.variables, trained.config, dataset, rows, targets, 50)
        return np.stack([found.map for found in explain_rows(*of, layer="mixed2")])

    expected = np.mean([maps_of(run) for run in alone], axis=0)
    assert expected.max() > 0
    np.testing.assert_allclose(maps_of(together), expected, atol=1e-4 * expected.max())
    found = explain(together, phantom_set, n=2)
    assert found["n"] == 2


@pytest.mark.slow
def test_a_stopped_run_of_members_goes_on_to_the_same_end(
    together: Path,
    config: Config,
    phantom_set: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real_save = checkpoint.save

    def save_and_stop(*arguments: Any) -> None:
        real_save(*arguments)
        raise KeyboardInterrupt

    run, both = tmp_path / "run", replace(config, members=2)
    monkeypatch.setattr(checkpoint, "save", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        train(both, phantom_set, run)
    monkeypatch.setattr(checkpoint, "save", real_save)
    train(both, phantom_set, run)
    assert (run / "metrics.jsonl").read_bytes() == (together / "metrics.jsonl").read_bytes()
    assert digest_run(run) == digest_run(together)


@pytest.mark.slow
def test_members_are_fed_from_the_accelerator_too(
    together: Path, config: Config, phantom_set: Path, tmp_path: Path
) -> None:
    resident = replace(config, members=2, feed="resident", steps_per_dispatch=2)
    resident = replace(resident, member_mapping="vmap", mapping="shard_map")
    train(resident, phantom_set, tmp_path / "run")
    found, expected = (open_trained(run, "latest") for run in (tmp_path / "run", together))
    assert_close(found.variables, expected.variables)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mapping_kind", "member_mapping"), [("pmap", "unroll"), ("shard_map", "vmap")]
)
def test_members_step_as_each_alone_over_devices_too(
    mapping_kind: Any, member_mapping: Any, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In float64, as in test_step, with batch statistics, Adam and dropout. Adam divides gradients
    # that are nearly 0 by little more: their rounding is seen at 1e-8.
    network = step_module.make_model
    monkeypatch.setattr(
        step_module, "make_model", lambda *options: network(*options).clone(dtype=jnp.float64)
    )
    adam = replace(config, optimizer="adamw", freeze_bn=False, mapping=mapping_kind, mixup=0.0)
    adam = replace(adam, member_mapping=member_mapping)
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (2, 8, 2, 75, 75, 1)).astype(np.float32)  # step, row, member
    labels = rng.integers(0, 2, (2, 8, 2), np.int32)

    def end(config: Config, n_devices: int, of: Callable[[np.ndarray], np.ndarray]) -> TrainState:
        optimizer = make_optimizer(config, 10)
        train_step = make_train_step(config, optimizer, np.ones(2, np.float32))
        mapping = make_mapping(
            config.mapping,
            train_members(config, train_step),
            score_members(config, make_score_step(config)),
            config.batch_size,
            jax.devices()[:n_devices],
        )
        start = jax.tree.map(np.float64, random_variables(config))
        state = mapping.put(create_state(start, optimizer, config))
        for image, label in zip(images, labels, strict=True):
            state, _ = mapping.train(state, {"image": of(image), "label": of(label)})
        return jax.device_get(mapping.get(state))

    with jax.enable_x64(True):
        both = end(replace(adam, members=2), 2, lambda x: x)
        assert int(both.step) == 2
        for k, seed in enumerate(SEEDS):
            one = end(replace(adam, seed=seed), 1, lambda x, k=k: x[:, k])
            for name in ("params", "batch_stats", "opt_state", "ema"):
                jax.tree.map(
                    lambda x, y, k=k: np.testing.assert_allclose(x[k], y, rtol=1e-6, atol=1e-7),
                    getattr(both, name),
                    getattr(one, name),
                )


@pytest.mark.slow
def test_statistics_for_averages_are_each_members_own_from_either_feed(
    config: Config, phantom_set: Path
) -> None:
    dataset = open_dataset(phantom_set)
    parts = splits.draw_split(dataset.records, config)
    rows = parts["train"][:16], parts["validation"]  # two batches

    def never(*_: object) -> Any:
        raise AssertionError("a step was taken")

    def found(config: Config) -> Any:
        mapping = make_mapping(config.mapping, never, never, config.batch_size, jax.devices()[:2])
        if config.feed == "resident":
            feeding = resident_feeding(config, mapping, dataset, *rows, never, never)
        else:
            feeding = stream_feeding(config, mapping, dataset, *rows, 0)
        batches = feeding.statistics(mapping.put(random_variables(config)))
        assert len(batches) == 2
        return jax.device_get(batches)

    both = replace(config, members=2, mapping="shard_map", member_mapping="vmap")
    streamed = found(both)
    # Batches of 8 in float32: what a layer rounds, the next one's normalisation makes larger.
    assert_close(
        found(replace(both, feed="resident", mapping="pmap", member_mapping="unroll")),
        streamed,
        atol=1e-3,
    )
    second = found(replace(config, seed=SEEDS[1]))
    assert_close(jax.tree.map(lambda x: x[1], streamed), second, atol=1e-3)
    first = jax.tree.map(lambda x: x[0], streamed)
    apart = jax.tree.map(lambda x, y: float(np.abs(x - y).max()), first, second)
    assert min(jax.tree.leaves(apart)) > 1e-2


@pytest.mark.parametrize("member_mapping", ["vmap", "unroll", "auto"])
def test_a_function_of_one_member_becomes_that_of_all(member_mapping: Any) -> None:
    config = Config(members=3, member_mapping=member_mapping)

    def function(tree: dict[str, Any], shared: jax.Array, rows: jax.Array) -> tuple[Any, Any]:
        return {"sum": tree["a"] @ rows.T + shared[None], "none": {}}, shared

    rng = np.random.default_rng(0)
    a, shared, rows = rng.normal(size=(3, 2, 4)), rng.normal(size=5), rng.normal(size=(5, 3, 4))
    of_all = over_members(config, function, ({"a": 0}, None, 1), ({"sum": 2, "none": 0}, None))
    found, same = jax.jit(of_all)({"a": a}, shared, rows)
    assert found["sum"].shape == (2, 5, 3)
    for k in range(3):
        np.testing.assert_allclose(found["sum"][..., k], a[k] @ rows[:, k].T + shared, atol=1e-6)
    np.testing.assert_array_equal(same, np.float32(shared))
    products = str(jax.make_jaxpr(of_all)({"a": a}, shared, rows)).count("dot_general")
    assert products == (1 if member_mapping == "vmap" else 3)  # here, on a CPU, auto unrolls


def test_random_layers_of_members_are_drawn_for_each() -> None:
    variables = {"params": {"fc": {"kernel": jnp.zeros((2, 64, 2))}}}
    found = randomised(variables, 7, members=2)["params"]["fc"]["kernel"]
    for k in range(2):
        np.testing.assert_array_equal(found[k], initial_array("params/fc/kernel", (64, 2), 7 + k))


@pytest.mark.slow
def test_a_run_of_members_is_no_file_of_weights(together: Path) -> None:
    with pytest.raises(WeightsError, match="found a run of 2 networks, expected one of one"):
        weights.read(together, depth_multiplier=0.05)


def test_less_than_one_member_is_refused() -> None:
    with pytest.raises(ConfigError, match="members: found 0, expected a whole number >= 1"):
        Config(members=0)
    with pytest.raises(ConfigError, match=r"members: found 2, expected no seed of 2\^63 or more"):
        Config(members=2, seed=2**63 - 1)
