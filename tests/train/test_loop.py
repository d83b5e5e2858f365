"""A run from its first step to its last: what it writes, how it goes on, when it stops."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from thyrojax.config import Config, from_json
from thyrojax.data import splits, stream
from thyrojax.data.dataset import open_dataset
from thyrojax.errors import ConfigError, RunError
from thyrojax.evaluate import evaluate, open_trained
from thyrojax.train import checkpoint
from thyrojax.train.logs import RunLog, keep_lines_up_to
from thyrojax.train.loop import train


def lines_of(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def silently(config: Config, data: Path, run: Path) -> list[str]:
    said: list[str] = []
    train(config, data, run, quiet=True, say=said.append)
    return said


@pytest.mark.slow
def test_run_folder_holds_what_the_design_promises(small_run: Path, phantom_set: Path) -> None:
    names = {path.name for path in small_run.iterdir()}
    assert {
        "config.json",
        "checkpoints",
        "metrics.jsonl",
        "split.csv",
        "data.json",
        "weights.json",
        "versions.json",
        "predictions",
        "metrics.json",
        "examples.json",
        "architecture.json",
    } <= names
    assert any(name.startswith("events.out.tfevents.") for name in names)
    config = from_json(small_run / "config.json")
    assert config.steps == 6
    training = [line for line in lines_of(small_run) if "loss" in line]
    assert [line["step"] for line in training] == sorted({line["step"] for line in training})
    assert training[-1]["step"] == 6
    assert {"epoch", "loss", "accuracy", "learning_rate"} <= set(training[0])
    timings = [json.loads(line) for line in (small_run / "timings.jsonl").read_text().splitlines()]
    assert [line["step"] for line in timings] == [line["step"] for line in training]
    assert all(line["images_per_second"] > 0 for line in timings)
    validation = [line for line in lines_of(small_run) if "val_auc" in line]
    assert validation[-1]["step"] == 6
    parts = splits.read_split(small_run / "split.csv", open_dataset(phantom_set).records)
    assert sum(map(len, parts.values())) == len(open_dataset(phantom_set))


@pytest.mark.slow
def test_evaluation_counts_every_test_nodule_once(small_run: Path, phantom_set: Path) -> None:
    from thyrojax.analysis.predictions import read_predictions

    records = open_dataset(phantom_set).records
    parts = splits.read_split(small_run / "split.csv", records)
    for name, part in (("val", "validation"), ("test", "test")):
        predictions = read_predictions(small_run / "predictions" / f"{name}.csv")
        assert list(predictions.image_ids) == [records[i].image_id for i in parts[part]]
    metrics = json.loads((small_run / "metrics.json").read_text())
    assert metrics["n"] == len(parts["test"])
    assert metrics["cutoff_from"].startswith("validation")
    assert {
        "auc",
        "auc_ci",
        "accuracy",
        "accuracy_ci",
        "sensitivity",
        "sensitivity_ci",
        "specificity",
        "specificity_ci",
        "cutoff",
        "n_patients",
    } <= set(metrics)


@pytest.mark.slow
def test_cutoff_is_never_chosen_on_the_part_reported(small_run: Path, phantom_set: Path) -> None:
    figures = evaluate(small_run, phantom_set, "val")
    assert figures["cutoff"] == 0.5
    assert (small_run / "metrics_val.json").exists()


@pytest.mark.slow
def test_same_seed_gives_the_same_run_and_a_finished_one_is_left_alone(
    small_run: Path, small_config: Config, phantom_set: Path, tmp_path: Path
) -> None:
    silently(small_config, phantom_set, tmp_path / "run")
    one, two = (open_trained(run, "latest").variables for run in (small_run, tmp_path / "run"))
    jax.tree.map(np.testing.assert_array_equal, one, two)
    before = lines_of(tmp_path / "run")
    silently(small_config, phantom_set, tmp_path / "run")
    assert lines_of(tmp_path / "run") == before


@pytest.mark.slow
def test_interrupted_run_goes_on_to_the_same_end(
    small_run: Path,
    small_config: Config,
    phantom_set: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real_save = checkpoint.save

    def save_and_stop(*arguments: object) -> None:
        real_save(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        silently(small_config, phantom_set, tmp_path / "run")
    monkeypatch.setattr(checkpoint, "save", real_save)
    first = max(line["step"] for line in lines_of(tmp_path / "run"))
    assert first < small_config.steps
    said = silently(small_config, phantom_set, tmp_path / "run")
    assert said[0] == f"resuming {tmp_path / 'run'} from step {first}"

    whole, broken = (open_trained(run, "latest") for run in (small_run, tmp_path / "run"))
    assert whole.step == broken.step == small_config.steps
    jax.tree.map(np.testing.assert_array_equal, whole.variables, broken.variables)

    def validations(run: Path) -> list[dict[str, float]]:
        return [line for line in lines_of(run) if "val_auc" in line]

    assert validations(small_run) == validations(tmp_path / "run")


@pytest.mark.slow
def test_non_finite_values_stop_the_run_and_name_the_step(
    small_config: Config, phantom_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_cut = stream.TrainFeed._cut

    def cut_with_damage(*arguments: object) -> tuple[dict, dict]:
        batch, drawn = real_cut(*arguments)
        if np.array_equal(batch["index"], third):
            batch["image"][0, 0, 0, 0] = np.nan
        return batch, drawn

    dataset = open_dataset(phantom_set)
    rows = splits.draw_split(dataset.records, small_config)["train"]
    third = stream.TrainFeed(dataset, rows, small_config).draws(small_config.seed, 2)["index"]
    monkeypatch.setattr(stream.TrainFeed, "_cut", cut_with_damage)
    with pytest.raises(RunError, match=r"step 3: found .*nan"):
        silently(small_config, phantom_set, tmp_path / "run")
    # What is not finite is not saved.
    assert checkpoint.open_checkpoints(tmp_path / "run").latest_step() in (None, 2)


@pytest.mark.slow
def test_run_of_another_configuration_or_data_is_refused(
    small_run: Path, phantom_set: Path, tmp_path: Path
) -> None:
    config = from_json(small_run / "config.json")
    with pytest.raises(ConfigError, match="seed 0, now 1"):
        silently(replace(config, seed=1), phantom_set, small_run)
    from thyrojax.data.builder import build
    from thyrojax.data.sources.phantom import read

    other = build(read(n_patients=50), tmp_path / "other", False)
    with pytest.raises(ConfigError, match="fingerprint"):
        silently(config, other, small_run)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds no run"):
        silently(config, phantom_set, tmp_path / "full")
    assert (tmp_path / "full" / "notes.txt").read_text() == "mine"


def test_log_lines_beyond_a_step_and_half_lines_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 2}\n{"step": 4}\n{"step": 4, "val_auc": 1}\n{"step": 6}\n{"st')
    keep_lines_up_to(path, 4)
    assert path.read_text() == '{"step": 2}\n{"step": 4}\n{"step": 4, "val_auc": 1}\n'


def test_a_bad_record_is_named_once_whatever_the_resumes(tmp_path: Path) -> None:
    found = {"step": 2, "bad_record": "image-7", "reason": "damage"}
    for first_step in (0, 3):
        with RunLog(tmp_path, first_step, 9, quiet=True) as log:
            log.bad_record(found)
            log.bad_record(found)
    assert lines_of(tmp_path) == [found]


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_seeds_that_no_generator_takes_are_refused(seed: int) -> None:
    with pytest.raises(ConfigError, match=rf"seed: found {seed}, expected a whole number from 0"):
        Config(seed=seed)
