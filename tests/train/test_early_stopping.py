"""Patience: where a run ends early, and that it ends there however often it is killed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import pytest

from thyrojax.config import Config
from thyrojax.errors import ConfigError
from thyrojax.runs import digest_run, find_runs
from thyrojax.train import checkpoint, loop
from thyrojax.train.early_stopping import out_of_patience, validation_aucs
from thyrojax.train.programs import Steps

AUCS = [0.6, 0.7, 0.7, 0.65, 0.7, 0.9]  # with a patience of 2 it ends after the fourth


@pytest.mark.parametrize(
    ("aucs", "patience", "expected"),
    [
        ([0.6, 0.7, 0.7, 0.65], 2, True),  # a tie is not better
        ([0.6, 0.7, 0.7], 2, False),
        ([0.6, 0.7, 0.7], 1, True),
        ([0.6, 0.5, 0.55, 0.61], 3, False),  # better at the last moment
        ([0.6, 0.5, 0.55, 0.6], 3, True),
        ([0.9] * 50, 0, False),  # 0 is endless
        ([], 1, False),
        ([0.5], 1, False),
    ],
)
def test_patience_counts_validations_since_the_best(
    aucs: list[float], patience: int, expected: bool
) -> None:
    assert out_of_patience(aucs, patience) is expected


def test_aucs_are_those_up_to_the_restored_step(tmp_path: Path) -> None:
    lines = [{"step": 2, "loss": 1.0}, {"step": 2, "val_auc": 0.5}, {"step": 4, "val_auc": 0.75}]
    text = "".join(json.dumps(line) + "\n" for line in lines) + '{"step": 6, "val'
    (tmp_path / "metrics.jsonl").write_text(text)
    assert validation_aucs(tmp_path) == [0.5, 0.75]
    assert validation_aucs(tmp_path, 3) == [0.5]
    assert validation_aucs(tmp_path / "nowhere", 3) == []


def test_patience_below_zero_is_refused() -> None:
    with pytest.raises(ConfigError, match="patience: found -1, expected a whole number >= 0"):
        Config(patience=-1)


@pytest.fixture
def config(small_config: Config, phantom_set: Path) -> Config:
    """A validation after every step, of seven."""
    return replace(small_config, batch_size=8, steps=7, eval_every=0.1, patience=2, log_every=100)


def train(config: Config, data: Path, run: Path) -> list[str]:
    said: list[str] = []
    assert loop.train(config, data, run, quiet=True, say=said.append)
    return said


def no_steps(*_: object) -> Steps:
    """In place of the network's, which take long to compile and have no say in this."""
    zero = jnp.zeros(())
    metrics = {"loss": zero, "accuracy": zero, "gradient_norm": zero}
    return Steps(
        train=lambda state, batch: (state.replace(step=state.step + 1), metrics),
        score=lambda _, images: images[:, 0, 0, 0],
    )


@pytest.mark.slow
def test_a_run_ends_early_and_a_kill_between_line_and_checkpoint_changes_nothing(
    config: Config, phantom_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = {"at": 0}

    def figures(*_: object) -> dict[str, float]:
        auc = AUCS[step["at"]]
        step["at"] += 1
        return {"val_loss": 1.0, "val_auc": auc, "val_accuracy": 0.5}

    monkeypatch.setattr(loop, "part_figures", figures)
    monkeypatch.setattr(loop, "steps_of", no_steps)
    said = train(config, phantom_set, tmp_path / "whole")
    assert said[-1] == "finished early at step 4 of 7: no better AUC in 2 validations"
    assert find_runs(tmp_path / "whole")[0].state == "finished early at step 4 of 7"
    before = (tmp_path / "whole" / "metrics.jsonl").read_bytes()

    # Started again, it does nothing but say so.
    assert train(config, phantom_set, tmp_path / "whole")[-1] == said[-1]
    assert (tmp_path / "whole" / "metrics.jsonl").read_bytes() == before
    assert step["at"] == 4

    # Killed after the line of a validation, before its checkpoint: of one in the middle, of the
    # last. The line is written anew.
    step["at"] = 0
    real_save, killed = checkpoint.save, {1, 3}

    def killed_before_save(manager: Any, state: Any, *rest: Any) -> None:
        if int(state.step) not in killed:
            killed.add(int(state.step))
            raise KeyboardInterrupt
        real_save(manager, state, *rest)

    monkeypatch.setattr(checkpoint, "save", killed_before_save)
    for taken in (1, 3):
        with pytest.raises(KeyboardInterrupt):
            train(config, phantom_set, tmp_path / "killed")
        step["at"] = taken
    assert train(config, phantom_set, tmp_path / "killed")[-1] == said[-1]
    assert killed == {1, 2, 3, 4}
    assert (tmp_path / "killed" / "metrics.jsonl").read_bytes() == before
    assert digest_run(tmp_path / "killed") == digest_run(tmp_path / "whole")
