"""One training of a run at a time, and how the last one ended."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from thyrojax.errors import RunError
from thyrojax.train.occupation import LOCK_FILE, last_ending, occupied

TRAINING = """
import sys, time
from pathlib import Path
from thyrojax.train.occupation import occupied

with occupied(Path(sys.argv[1])):
    print("in", flush=True)
    time.sleep(60)
"""


def test_a_run_is_trained_once_at_a_time(tmp_path: Path) -> None:
    assert last_ending(tmp_path) is None
    with occupied(tmp_path):
        assert last_ending(tmp_path) == "training"
        with (
            pytest.raises(RunError, match="found a training of it under way, expected none"),
            occupied(tmp_path),
        ):
            pass
        assert last_ending(tmp_path) == "training"
    assert last_ending(tmp_path) == "left"
    with pytest.raises(ValueError, match="damage"), occupied(tmp_path):
        raise ValueError("damage")
    assert last_ending(tmp_path) == "failed"


def test_a_killed_training_frees_its_run(tmp_path: Path) -> None:
    command = [sys.executable, "-c", TRAINING, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "in\n"
        assert last_ending(tmp_path) == "training"
        process.kill()
    assert last_ending(tmp_path) == "killed"
    with occupied(tmp_path):
        assert last_ending(tmp_path) == "training"


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).mkdir()
    with pytest.raises(RunError, match=r"training.lock: found Is a directory"), occupied(tmp_path):
        pass
