"""How a run starts: its folder, and where its first state comes from."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import optax
import orbax.checkpoint as ocp

from thyrojax import config as config_file
from thyrojax import processes
from thyrojax.config import Config
from thyrojax.data import splits
from thyrojax.data.dataset import Dataset
from thyrojax.data.draws import MOST_ROWS
from thyrojax.errors import ConfigError, RunError, WeightsError, one_line
from thyrojax.files import write_json, write_whole
from thyrojax.shapes import PyTree
from thyrojax.train import checkpoint
from thyrojax.train.digests import leaf_digests, state_digest
from thyrojax.train.provenance import versions
from thyrojax.train.schedule import check_phases, warmup_steps
from thyrojax.train.state import (
    TrainState,
    abstract_state,
    abstract_variables,
    create_state,
    member_seeds,
    random_variables,
    stack_members,
)

Say = Callable[[str], None]


def open_run(config: Config, dataset: Dataset, run: Path) -> dict[str, Any]:
    """Makes the run's folder, or checks that an existing one is of this configuration and data.

    Returns the rows of each part.

    Raises:
      ConfigError: the folder holds a run of another configuration or of other data, or the steps
        are too many or do not suit the data.
      RunError: the folder's data.json is missing or damaged.
      DataError: the parts cannot be drawn, or a given split.csv does not fit.
    """
    if run.exists() and not run.is_dir():
        raise ConfigError(f"{run}: found a file, expected a folder for the run")
    if not processes.is_first() and not (run / "config.json").exists():
        raise ConfigError(
            f"{run}: found no config.json, which process 0 has written, expected a folder that all "
            "processes share"
        )
    if (run / "config.json").exists():
        _check_same(config, dataset, run)
        return splits.read_run_split(run, config, dataset.records, dataset.near_duplicates)
    if run.is_dir() and any(run.iterdir()):
        raise ConfigError(f"{run}: found a folder that holds no run, expected a new or empty one")
    parts = splits.chosen_split(config, dataset.records, dataset.near_duplicates)
    _check_steps(config, len(parts["train"]))
    make_run(config, dataset, run, parts)
    return parts


def _check_steps(config: Config, n_train: int) -> None:
    check_phases(config, n_train)
    steps = config_file.total_steps(config, n_train)
    if 0 < steps <= warmup_steps(config, steps):
        raise ConfigError(
            f"warmup_fraction: found {config.warmup_fraction}, {warmup_steps(config, steps)} of "
            f"{steps} steps, expected fewer"
        )
    if steps * config.batch_size > MOST_ROWS:
        raise ConfigError(
            f"steps: found {steps} of {config.batch_size} images, expected at most {MOST_ROWS} "
            "images in all"
        )


def make_run(config: Config, dataset: Dataset, run: Path, parts: splits.Parts) -> None:
    """Makes the folder of a run on given parts of the data, which `open_run` then opens.

    Writes config.json, split.csv, near_duplicates.csv (the pairs that the split joined), data.json
    and versions.json.

    Raises:
      ConfigError: the folder cannot be made.
    """
    pairs = splits.joined_pairs(config, dataset.near_duplicates)
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{run}: found {error.strerror or error}, expected a place where a run can be written"
        ) from None
    splits.write_split(run / "split.csv", dataset.records, parts)
    splits.write_joined(run / "near_duplicates.csv", dataset.records, pairs)
    write_json(run / "data.json", {**dataset.info, "folder": str(dataset.folder.absolute())})
    write_json(run / "versions.json", versions())
    # Last, because its presence is what makes the folder a run.
    write_whole(run / "config.json", config_file.to_json(config).encode())


def _check_same(config: Config, dataset: Dataset, run: Path) -> None:
    before = dataclasses.asdict(config_file.from_json(run / "config.json"))
    now = dataclasses.asdict(config)
    changed = [
        f"{name} {before[name]!r}, now {now[name]!r}" for name in now if before[name] != now[name]
    ]
    if changed:
        raise ConfigError(
            f"{run / 'config.json'}: found {'; '.join(changed)}, expected the same options to go "
            "on with this run, or a new folder"
        )
    info = _read_info(run / "data.json")
    if info["fingerprint"] != dataset.fingerprint:
        raise ConfigError(
            f"{run / 'data.json'}: found data with fingerprint {info['fingerprint'][:12]}..., "
            f"now {dataset.fingerprint[:12]}..., expected the same data to go on with this run"
        )
    if info["label_names"] != dataset.info["label_names"]:
        raise ConfigError(
            f"{run / 'data.json'}: found label_names {info['label_names']}, now "
            f"{dataset.info['label_names']}, expected the same to go on with this run"
        )


def _read_info(path: Path) -> dict[str, Any]:
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
        return {**info, **{name: info[name] for name in ("fingerprint", "label_names")}}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{path}: found {one_line(repr(error))}, expected what `thyrojax train` wrote"
        ) from None


def check_processes(state: TrainState) -> None:
    """That all processes start from the same state, with the same packages.

    Raises:
      RunError: they do not.
    """
    if processes.several():
        found = {name: metadata.version(name) for name in ("thyrojax", "jax", "jaxlib")}
        step = int(state.step)
        processes.check_same({**found, f"state at step {step}": state_digest(leaf_digests(state))})


def starting_state(
    config: Config,
    optimizer: optax.GradientTransformation,
    run: Path,
    checkpoints: ocp.CheckpointManager,
    of: dict[str, Any],
    say: Say,
) -> tuple[TrainState, dict[str, list[float]]]:
    """The first state, and its `checkpoint.Restored.since_line`, from the first that there is of:

    1. the run's own latest checkpoint that is whole,
    2. the weights that the configuration names, with new heads,
    3. random weights: asked for with "none", or because a tag could not be fetched (said so).

    Raises:
      WeightsError: a weight file is not what it should be.
      RunError: every checkpoint is damaged.
      ConfigError: the checkpoint is not of `of`, the run's `checkpoint.identity`.
    """
    found = checkpoint.restore_last_good(checkpoints, abstract_state(config, optimizer), of, say)
    if found is not None:
        say(f"resuming {run} from step {int(found.state.step)}")
        return found.state, found.since_line
    variables, origin = starting_variables(config, say)
    if processes.is_first():
        write_json(run / "weights.json", origin)
    return create_state(variables, optimizer, config), {}


def starting_variables(config: Config, say: Say) -> tuple[PyTree, dict[str, Any]]:
    """Variables at step 0, and what weights.json says of them."""
    from thyrojax import weights

    origin: dict[str, Any] = {"source": None, "sha256": None, "tag": None, "note": ""}
    if config.weights == "none":
        say("starting from random weights")
        return random_variables(config), origin
    tag = config.weights if config.weights in weights.CATALOG else None
    try:
        weights.locate(config.weights, announce=say)
    except WeightsError as error:
        if tag is None:
            raise
        # A machine without a network still trains; the run's weights.json tells how it began.
        say(f"{error}; starting from random weights")
        return random_variables(config), {**origin, "note": str(error)}
    read = weights.read(config.weights)
    shapes = abstract_variables(config)
    filled = [weights.fill(shapes, read, seed) for seed in member_seeds(config)]
    variables, notes = stack_members([variables for variables, _ in filled]), filled[0][1]
    if (read.variant.pooling, read.variant.last_pool) != (config.pooling, "average"):
        notes = (*notes, f"pooling {config.pooling}, the weights were trained with another")
    note = "; ".join(notes)
    say(f"starting from {read.path}" + (f" ({note})" if note else ""))
    return variables, {
        "source": str(read.path),
        "sha256": read.sha256,
        "tag": tag,
        "note": note,
    }
