"""Run folders from outside, and the two commands that show them."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from thyrojax import config as config_file
from thyrojax.cli import main
from thyrojax.config import Config, total_steps
from thyrojax.runs import find_runs
from thyrojax.train import checkpoint
from thyrojax.train.digests import leaf_digests, state_digest
from thyrojax.train.occupation import LOCK_FILE, occupied
from thyrojax.train.schedule import make_optimizer
from thyrojax.train.state import abstract_state


def make_run(folder: Path, config: Config, steps: list[int]) -> Path:
    """A run with zeros in its checkpoints, made without training."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(config_file.to_json(config))
    data = {"fingerprint": "f", "label_names": ["benign", "malignant"], "folder": "."}
    (folder / "data.json").write_text(json.dumps(data))
    rows = "".join(f"i{i},p{i},{'train' if i < 10 else 'test'}\n" for i in range(15))
    (folder / "split.csv").write_text("image_id,patient_id,part\n" + rows)
    lines = [json.dumps({"step": step, "val_auc": 0.5 + step / 100}) for step in steps]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + '\n{"step"')
    abstract = abstract_state(config, make_optimizer(config, 1))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), abstract)
    manager = checkpoint.open_checkpoints(folder)
    for step in steps:
        of = checkpoint.identity(config, data)
        state = zeros.replace(step=jnp.asarray(step, jnp.int32))
        checkpoint.save(manager, state, {"val_auc": 0.5 + step / 100}, of, {})
    manager.close()
    return folder


@pytest.fixture(scope="module")
def runs(small_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("listed")
    make_run(folder / "a", small_config, [3, 6])
    (folder / "a" / "metrics.json").write_text('{"auc": 0.625}')
    make_run(folder / "deeper" / "b", small_config, [4])
    make_run(folder / "new", small_config, [])
    return folder


def test_total_steps_are_given_or_come_from_epochs() -> None:
    assert total_steps(Config(steps=7), 100) == 7
    assert total_steps(Config(epochs=1.5, batch_size=32), 100) == 5  # 4.69, rounded up


def test_runs_are_listed_with_their_state(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = find_runs(runs)
    assert [run.folder.relative_to(runs) for run in found] == [
        Path("a"),
        Path("deeper/b"),
        Path("new"),
    ]
    assert [run.state for run in found] == ["finished", "step 4 of 6", "no checkpoint"]
    assert [run.best_auc for run in found] == [0.56, 0.54, None]
    assert [run.test_auc for run in found] == [0.625, None, None]
    files = [path for path in (runs / "a").rglob("*") if path.is_file()]
    assert found[0].n_bytes == sum(path.stat().st_size for path in files)
    assert main(["runs", str(runs)]) == 0
    listed = capsys.readouterr().out
    assert len(listed.splitlines()) == 4
    assert main(["runs", "list", str(runs)]) == 0
    assert capsys.readouterr().out == listed
    assert main(["runs", str(runs / "nowhere")]) == 2
    assert "nowhere: found no such folder" in capsys.readouterr().err


def test_digest_is_over_the_saved_state(
    runs: Path, small_config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    abstract = abstract_state(small_config, make_optimizer(small_config, 1))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), abstract)
    expected = state_digest(leaf_digests(zeros.replace(step=jnp.asarray(3, jnp.int32))))
    assert main(["digest", str(runs / "a"), "--step", "3"]) == 0
    assert capsys.readouterr().out == f"{expected}  step 3\n"
    assert main(["runs", "digest", str(runs / "a")]) == 0
    latest = capsys.readouterr().out
    assert latest.endswith("  step 6\n")
    assert not latest.startswith(expected)


def test_digest_refuses_what_is_not_there_or_damaged(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["digest", str(runs / "a"), "--step", "5"]) == 2
    assert "found no checkpoint of step 5, expected one of 3, 6" in capsys.readouterr().err
    shutil.copytree(runs / "a", tmp_path / "a")
    (tmp_path / "a" / "checkpoints" / "6" / "contents" / "metadata").unlink()
    assert main(["digest", str(tmp_path / "a")]) == 2
    assert "6/contents: found files that do not restore" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        main(["runs", "digest"])
    assert stop.value.code == 2


def test_how_a_training_ended_is_told(runs: Path, tmp_path: Path) -> None:
    for name in ("deeper/b", "new", "a"):
        shutil.copytree(runs / name, tmp_path / Path(name).name)
    states = {}
    with contextlib.ExitStack() as stack:
        for name in ("a", "b", "new"):
            stack.enter_context(occupied(tmp_path / name))
        states["training"] = [run.state for run in find_runs(tmp_path)]
    states["left"] = [run.state for run in find_runs(tmp_path)]
    for name in ("a", "b", "new"):
        (tmp_path / name / LOCK_FILE).write_text("training")  # without a lock on it
    states["killed"] = [run.state for run in find_runs(tmp_path)]
    assert states == {
        "training": ["finished", "training, step 4 of 6", "training, no checkpoint"],
        "left": ["finished", "stopped, step 4 of 6", "stopped, no checkpoint"],
        "killed": ["finished", "killed, step 4 of 6", "killed, no checkpoint"],
    }
