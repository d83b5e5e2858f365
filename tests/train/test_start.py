"""What a run folder tells of how it came to be."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import pytest

from thyrojax.config import Config
from thyrojax.data.dataset import open_dataset
from thyrojax.errors import ConfigError, RunError
from thyrojax.train import start
from thyrojax.train.provenance import DECISIVE, read_starts, record_start


def test_versions_name_the_command_the_source_and_the_devices(
    small_config: Config, phantom_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["/usr/bin/thyrojax", "train", "a preset.py"])
    start.open_run(small_config, open_dataset(phantom_set), tmp_path / "run")
    found = json.loads((tmp_path / "run" / "versions.json").read_text())
    assert found["command"] == "thyrojax train 'a preset.py'"
    assert found["devices"].startswith(f"{jax.local_device_count()} ")
    assert found["jax"] == jax.__version__
    assert set(DECISIVE) < set(found)
    assert re.fullmatch(r"\d+ x .+", found["processor"])
    if (Path(start.__file__).parents[2] / ".git").exists():
        assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", found["git_commit"])


def test_every_start_is_recorded_also_after_a_line_cut_off(tmp_path: Path) -> None:
    assert read_starts(tmp_path) == []
    record_start(tmp_path, 0)
    with (tmp_path / "starts.jsonl").open("a") as file:
        file.write('{"time": "2026-')  # killed in mid-line
    record_start(tmp_path, 4)
    found = read_starts(tmp_path)
    assert [line["step"] for line in found] == [0, 4]
    assert found[1]["jax"] == jax.__version__
    assert found[1]["time"].endswith("+00:00")
    assert {"devices", "processes", "git_commit", "command"} <= set(found[1])


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "starts.jsonl").mkdir()
    with pytest.raises(RunError, match=r"starts.jsonl: found Is a directory, expected a place"):
        record_start(tmp_path, 0)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        (
            {"steps": 2**31, "batch_size": 8},
            "steps: found 2147483648 of 8 images, expected at most",
        ),
        ({"steps": 2, "head_epochs": 50.0}, "head_epochs: found 50.0, "),
        (
            {"steps": 2, "warmup_fraction": 0.8},
            "warmup_fraction: found 0.8, 2 of 2 steps, expected fewer",
        ),
    ],
)
def test_steps_that_do_not_suit_the_data_leave_no_folder(
    fields: dict[str, Any], told: str, small_config: Config, phantom_set: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=re.escape(told)):
        start.open_run(replace(small_config, **fields), open_dataset(phantom_set), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_without_its_data_json_is_one_line(
    small_config: Config, phantom_set: Path, tmp_path: Path
) -> None:
    dataset = open_dataset(phantom_set)
    start.open_run(small_config, dataset, tmp_path / "run")
    path = tmp_path / "run" / "data.json"
    for content in ("", "{}"):
        path.write_text(content)
        with pytest.raises(RunError, match=r"data\.json: found .*, expected what `thyrojax train`"):
            start.open_run(small_config, dataset, tmp_path / "run")


def test_a_given_split_leaves_nothing_to_draw() -> None:
    for field, value in (("train_share", 0.25), ("inner_folds", 3)):
        with pytest.raises(ConfigError, match=rf"{field}: found {value}, expected \d with a given"):
            Config(split="s.csv", **{field: value})


def test_data_whose_labels_have_other_names_are_refused(
    small_config: Config, phantom_set: Path, tmp_path: Path
) -> None:
    dataset = open_dataset(phantom_set)
    start.open_run(small_config, dataset, tmp_path / "run")
    dataset.info["label_names"] = ["malignant", "benign"]
    with pytest.raises(ConfigError, match=r"found label_names \['benign', .*now \['malignant', "):
        start.open_run(small_config, dataset, tmp_path / "run")
