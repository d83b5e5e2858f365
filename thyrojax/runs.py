"""Run folders from outside: which there are, how far each has come, and what it holds."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from thyrojax import config as config_file
from thyrojax.config import total_steps
from thyrojax.errors import ConfigError, RunError
from thyrojax.train.early_stopping import out_of_patience, validation_aucs
from thyrojax.train.occupation import last_ending

FINISHED, FINISHED_EARLY = "finished", "finished early"
_TOLD = {
    "training": "training, ",
    "killed": "killed, ",
    "failed": "broken off, ",
    "left": "stopped, ",
}


@dataclass(frozen=True)
class RunSummary:
    """A run folder, as far as it can be told without opening a checkpoint."""

    folder: Path
    # "finished", "finished early at step 4 of 9", "stopped, step 4 of 9" (also training, killed,
    # broken off, or none of these), "killed, no checkpoint", or what is wrong
    state: str
    written: datetime  # local time of the latest change
    best_auc: float | None  # of its validations
    test_auc: float | None  # of its evaluation
    n_bytes: int  # on disk


def find_runs(folder: Path) -> list[RunSummary]:
    """The runs below a folder (or the folder itself), in the order of their paths.

    Raises:
      RunError: no such folder.
    """
    if not folder.is_dir():
        raise RunError(f"{folder}: found no such folder, expected one with runs below it")
    return [_summary(run) for run in _run_folders(folder)]


def _run_folders(folder: Path) -> Iterator[Path]:
    for path, folders, files in os.walk(folder):
        if "config.json" in files and "data.json" in files:
            folders.clear()  # no run lies in another
            yield Path(path)
        folders.sort()


def _summary(run: Path) -> RunSummary:
    # Files come and go while a run trains.
    found = [path.lstat() for path in run.rglob("*") if path.exists() and not path.is_dir()]
    return RunSummary(
        folder=run,
        state=_state(run),
        written=datetime.fromtimestamp(max(stat.st_mtime for stat in found)),
        best_auc=max(validation_aucs(run), default=None),
        test_auc=_test_auc(run),
        n_bytes=sum(stat.st_size for stat in found),
    )


def _test_auc(run: Path) -> float | None:
    try:
        return float(json.loads((run / "metrics.json").read_text())["auc"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def has_ended(run: Path) -> bool:
    """Whether a run has come to its last step, or to that of its patience."""
    return _state(run).startswith((FINISHED, FINISHED_EARLY))


def _state(run: Path) -> str:
    steps = [int(path.name) for path in (run / "checkpoints").glob("*") if path.name.isdecimal()]
    told = _TOLD.get(last_ending(run) or "", "")
    if not steps:
        return f"{told}no checkpoint"
    try:
        config = config_file.from_json(run / "config.json")
        with (run / "split.csv").open(newline="") as file:
            n_train = sum(row["part"] == "train" for row in csv.DictReader(file))
    except (ConfigError, OSError, KeyError) as error:
        return f"step {max(steps)}; {error}"
    total, step = total_steps(config, n_train), max(steps)
    if step >= total:
        return FINISHED
    early = out_of_patience(validation_aucs(run, step), config.patience)
    return f"{FINISHED_EARLY + ' at ' if early else told}step {step} of {total}"


def digest_run(run: Path, step: int | None = None) -> tuple[str, int]:
    """One sha256 over every leaf of a checkpoint (the latest by default), and its step.

    Raises: as `trained_run.restore_run`.
    """
    from thyrojax.train.digests import state_digest
    from thyrojax.trained_run import restore_run

    _, found = restore_run(run, "latest" if step is None else step)
    return state_digest(found.leaves), int(found.state.step)
