"""A run done again: the same bytes, or what differs; other data and weights are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jax.numpy as jnp
import pytest

from thyrojax import weights
from thyrojax.cli import main
from thyrojax.errors import ConfigError, RunError
from thyrojax.runs import digest_run
from thyrojax.train import comparison, provenance, reproduce
from thyrojax.train.state import TrainState


@pytest.fixture(scope="module")
def again(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reproduction of the small run, finished."""
    new = tmp_path_factory.mktemp("again") / "run"
    said: list[str] = []
    found = reproduce.reproduce(small_run, None, new, quiet=True, say=said.append)
    assert found is not None
    assert found.lines()[-1] == "verdict: bitwise equal", found.lines()
    assert "starting from random weights" in said
    return new


@pytest.mark.slow
def test_a_run_done_again_comes_to_the_same_bytes(small_run: Path, again: Path) -> None:
    for name in ("metrics.jsonl", "split.csv", "config.json"):
        assert (again / name).read_bytes() == (small_run / name).read_bytes()
    assert digest_run(again) == digest_run(small_run)
    written = json.loads((again / "reproduction.json").read_text())
    assert written["verdict"] == "bitwise equal"
    assert written["run"] == str(small_run)
    assert written["metrics"]["differing"] == written["state"]["differing"] == 0
    assert written["state"]["digest"] == written["state"]["other_digest"] == digest_run(again)[0]
    assert set(written["differing"]) <= {"git_commit"}  # somebody may commit meanwhile


@pytest.mark.slow
def test_a_changed_digit_of_the_metrics_is_told(
    small_run: Path, again: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, new = tmp_path / "run", tmp_path / "new"
    shutil.copytree(small_run, run)
    shutil.copytree(again, new)  # there is nothing left to train
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    loss = json.loads(lines[1])["loss"]
    lines[1] = lines[1].replace(str(loss), str(loss + 1.0))
    (run / "metrics.jsonl").write_text("".join(lines))
    command = ["train", "--reproduce", str(run), "--workdir", str(new), "--quiet"]
    with pytest.raises(SystemExit) as stop:
        main(command)
    assert stop.value.code == 1
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("versions and devices: ")
    assert printed[1].startswith(f"metrics.jsonl: 1 of {len(lines)} lines differ; line 2: loss ")
    assert printed[2].endswith(", equal")
    assert printed[3] == "verdict: different"
    assert json.loads((new / "reproduction.json").read_text())["verdict"] == "different"


@pytest.mark.slow
def test_other_data_are_refused(
    small_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from thyrojax.data.builder import build
    from thyrojax.data.sources.phantom import read

    other = build(read(n_patients=30), tmp_path / "other", False)
    command = ["train", "--reproduce", str(small_run), "--workdir", str(tmp_path / "new")]
    assert main([*command, "--data", str(other)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{other}: found data with fingerprint" in line
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_other_weights_another_folder_and_an_unfinished_run_are_refused(
    small_run: Path, tmp_path: Path
) -> None:
    new, some = tmp_path / "new", tmp_path / "some.h5"
    some.write_bytes(b"weights")
    with pytest.raises(
        ConfigError, match=r"weights.json: found random weights, now .*some.h5 with"
    ):
        reproduce.reproduce(small_run, None, new, str(some))
    run = tmp_path / "run"
    shutil.copytree(small_run, run)
    origin = {"source": "w", "sha256": "0" * 64, "tag": None, "note": ""}
    (run / "weights.json").write_text(json.dumps(origin))
    with pytest.raises(ConfigError, match=r"found weights of sha256 000000000000\.\.\., now none"):
        reproduce.reproduce(run, None, new)
    with pytest.raises(ConfigError, match="found the run itself"):
        reproduce.reproduce(small_run, None, small_run)
    (new / "notes").mkdir(parents=True)
    with pytest.raises(ConfigError, match="new: found something that is no run"):
        reproduce.reproduce(small_run, None, new)
    shutil.rmtree(run / "checkpoints" / "6")
    with pytest.raises(RunError, match=r"found a run at step \d that has not ended"):
        reproduce.reproduce(run, None, new)


def test_weights_that_were_not_to_be_had_must_not_be_had_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_config: object
) -> None:
    from dataclasses import replace

    found = tmp_path / "weights.h5"
    found.write_bytes(b"fetched since")
    monkeypatch.setattr(weights, "locate", lambda name, announce: found)
    (tmp_path / "weights.json").write_text('{"sha256": null}')
    config = replace(small_config, weights="imagenet")
    with pytest.raises(ConfigError, match=r"now imagenet with .*expected --weights none"):
        reproduce._check_weights(config, tmp_path, print)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["quickstart", "--reproduce", "run"], "--reproduce: found quickstart beside it"),
        (["--reproduce", "run", "--lr=1"], "--reproduce: found --lr=1 beside it"),
        (["--reproduce", "run", "--lr", "1"], "--reproduce: found 1 --lr beside it"),
        (["quickstart"], "found no PRESET or no --data"),
        (["--data", "set"], "found no PRESET or no --data"),
    ],
)
def test_a_preset_or_a_run_to_reproduce_is_given(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["train", *words, "--workdir", "new"])
    assert stop.value.code == 2
    assert told in capsys.readouterr().err


def test_versions_that_differ_from_any_start_are_told() -> None:
    now = provenance.versions()
    assert provenance.differences([now]) == {}
    before = {**now, "jax": "0.1", "command": "another"}
    assert provenance.differences([now, before]) == {"jax": ("0.1", now["jax"])}


# ---- comparing


def state_of(value: float) -> TrainState:
    kernel = jnp.array([1.0, value, 3.0])
    return TrainState(jnp.asarray(4, jnp.int32), {"fc": {"kernel": kernel}}, {}, (), {})


def written(folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / "metrics.jsonl").write_text(text)
    return folder


def test_rounding_is_told_from_another_result(tmp_path: Path) -> None:
    lines = '{"step": 2, "loss": 0.5}\n{"step": 4, "loss": %s}\n'
    run = written(tmp_path / "run", lines % 20.0)
    for name, loss, verdict in (("a", 20.0, "equal to rounding"), ("b", 20.1, "different")):
        other = written(tmp_path / name, lines % loss)
        metrics = comparison.compare_metrics(run, other)
        states = comparison.compare_states(state_of(2.0), state_of(2.25))
        assert comparison.verdict(metrics, states) == verdict
        assert (states.differing, states.largest) == (1, 0.25)
        assert states.largest_leaf == "params/fc/kernel"
    assert metrics.first == "line 2: loss 20.0, now 20.1"
    assert metrics.largest == {"loss": pytest.approx(0.1 / 20.1)}
    assert comparison.told(metrics, states) == [
        "metrics.jsonl: 1 of 2 lines differ; line 2: loss 20.0, now 20.1; "
        "largest differences: loss 0.005",
        "state after step 4: 1 of 2 leaves differ, by at most 0.25 (params/fc/kernel)",
    ]


@pytest.mark.parametrize(
    "text",
    [
        '{"step": 2, "loss": 0.5}\n',
        '{"step": 2, "loss": 0.5}\n{"step": 5, "loss": 0.5}\n',
        '{"step": 2, "loss": 0.5}\n{"step": 4, "rate": 0.5}\n',
        '{"step": 2, "loss": 0.5}\nno json\n',
    ],
)
def test_other_lines_are_no_rounding(tmp_path: Path, text: str) -> None:
    run = written(tmp_path / "run", '{"step": 2, "loss": 0.5}\n{"step": 4, "loss": 0.5}\n')
    metrics = comparison.compare_metrics(run, written(tmp_path / "other", text))
    same = comparison.compare_states(state_of(2.0), state_of(2.0))
    assert metrics.first.startswith("line 2: ")
    assert comparison.verdict(metrics, same) == "different"


def test_a_missing_metrics_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"metrics.jsonl: found No such file"):
        comparison.compare_metrics(tmp_path, tmp_path)
