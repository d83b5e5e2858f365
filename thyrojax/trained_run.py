"""A trained run, opened: its variables, its data, its cutoff, and a way to score with it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax

from thyrojax import config as config_file
from thyrojax.config import Config
from thyrojax.data.crop import Window, window
from thyrojax.data.dataset import Dataset, Record, open_dataset
from thyrojax.data.draws import margin_of
from thyrojax.errors import ConfigError, DataError, RunError
from thyrojax.shapes import PyTree
from thyrojax.train import checkpoint
from thyrojax.train.mapping import Mapping, make_mapping
from thyrojax.train.programs import score_step_of
from thyrojax.train.schedule import make_optimizer
from thyrojax.train.state import abstract_state, evaluation_variables

Which = Literal["best", "latest"]
_PARTS = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}


@dataclass(frozen=True)
class TrainedRun:
    """A run folder with the variables of one of its checkpoints."""

    folder: Path
    config: Config
    step: int
    variables: PyTree  # one copy, on the first device


def open_trained(run: Path, which: Which = "best") -> TrainedRun:
    """Opens a run and restores its best (by validation AUC) or latest checkpoint.

    Raises: as `restore_run`.
    """
    config, found = restore_run(run, which)
    return TrainedRun(run, config, int(found.state.step), evaluation_variables(found.state))


def restore_run(run: Path, which: Which | int) -> tuple[Config, checkpoint.Restored]:
    """A run's configuration, and its best or latest checkpoint or the one of a step.

    Raises:
      RunError: not a run folder, no such checkpoint, or a damaged one.
      ConfigError: config.json is damaged, or the checkpoint is of another run.
    """
    if not (run / "config.json").is_file():
        raise RunError(f"{run}: found no config.json, expected a folder made by `thyrojax train`")
    config = config_file.from_json(run / "config.json")
    if not (run / "checkpoints").is_dir():
        raise RunError(f"{run / 'checkpoints'}: found no such folder, expected a trained run")
    checkpoints = checkpoint.open_checkpoints(run, read_only=True)
    try:
        step = which if isinstance(which, int) else checkpoint.choose_step(checkpoints, run, which)
        if step not in checkpoints.all_steps():
            steps = ", ".join(map(str, sorted(checkpoints.all_steps())))
            raise RunError(f"{run}: found no checkpoint of step {step}, expected one of {steps}")
        abstract = abstract_state(config, make_optimizer(config, 1))
        of = checkpoint.identity(config, data_info(run))
        return config, checkpoint.restore(checkpoints, abstract, step, of)
    finally:
        checkpoints.close()


def part_names(part: str) -> tuple[str, str]:
    """A part's name in files (train, val, test) and in split.csv (train, validation, test).

    Raises:
      ConfigError: no such part.
    """
    if part not in _PARTS:
        raise ConfigError(f"split: found {part!r}, expected train, val or test")
    return "val" if part == "validation" else part, _PARTS[part]


def open_run_data(run: Path, data: Path | None, config: Config) -> Dataset:
    """The set that a run was trained on, at `data` or where it was then.

    Raises:
      RunError: data.json is missing or damaged.
      DataError: the set cannot be opened, or is another one.
    """
    info = data_info(run)
    fingerprint, folder = info["fingerprint"], Path(info["folder"])
    dataset = open_dataset(data or folder, cache_mb=config.cache_mb)
    if dataset.fingerprint != fingerprint:
        raise DataError(
            f"{dataset.folder}: found data with fingerprint {dataset.fingerprint[:12]}..., "
            f"expected {fingerprint[:12]}..., which the run was trained on"
        )
    return dataset


def scoring_mapping(config: Config) -> Mapping:
    """A mapping for scoring, over as many devices as divide the run's batch."""
    devices = jax.local_devices()
    devices = devices[: math.gcd(len(devices), config.batch_size)]
    step = score_step_of(config)
    return make_mapping(config.mapping, _not_trained, step, config.batch_size, devices)


def _not_trained(*_: Any) -> Any:
    raise AssertionError("a mapping for scoring was asked for a training step")


def record_window(record: Record, config: Config, margin: int) -> Window:
    """The window of a record's nodule under a configuration's crop; `margin` is in its unit.

    Raises:
      DataError: the margin is in millimetres, and the record has no pixel spacing.
    """
    pixels = margin_of(record, margin, config)
    return window(record.box, pixels, config.crop_shape, config.border, record.height, record.width)


def run_cutoff(run: Path, step: int, margin: int) -> tuple[float, str]:
    """The cutoff of the run's evaluation and where it is from; 0.5 where there was none.

    Args:
      step, margin: of the scores that are to be called. Where the evaluation was at another step
        or margin, the second value says so.

    Raises:
      RunError: metrics.json is damaged.
    """
    path = run / "metrics.json"
    if not path.exists():
        return 0.5, "0.5: the run has not been evaluated"
    try:
        metrics = json.loads(path.read_text())
        cutoff, source = float(metrics["cutoff"]), str(metrics["cutoff_from"])
        told = [
            f"{name} {metrics[name]} and not {value}"
            for name, value in (("step", step), ("margin", margin))
            if metrics.get(name, value) != value
        ]
        return cutoff, f"{source}; of {', '.join(told)}" if told else source
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{path}: found {error!r}, expected what `thyrojax evaluate` wrote"
        ) from None


def label_names(run: Path) -> list[str]:
    """The data's names of class 0 and class 1.

    Raises:
      RunError: data.json is missing or damaged.
    """
    return list(data_info(run)["label_names"])


def data_info(run: Path) -> dict[str, Any]:
    """A run's data.json: `fingerprint`, `folder`, `label_names` and more.

    Raises:
      RunError: it is missing or damaged.
    """
    try:
        info = json.loads((run / "data.json").read_text())
        return {**info, **{name: info[name] for name in ("fingerprint", "folder", "label_names")}}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{run / 'data.json'}: found {error!r}, expected what `thyrojax train` wrote"
        ) from None
