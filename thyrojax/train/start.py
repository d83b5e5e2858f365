"""How a run starts: its folder, and where its first state comes from."""

from __future__ import annotations

import dataclasses
import json
import platform
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import optax
import orbax.checkpoint as ocp

from thyrojax import config as config_file
from thyrojax.config import Config
from thyrojax.data import splits
from thyrojax.data.dataset import Dataset
from thyrojax.errors import ConfigError, WeightsError
from thyrojax.files import write_json, write_whole
from thyrojax.shapes import PyTree
from thyrojax.train import checkpoint
from thyrojax.train.state import TrainState, abstract_variables, create_state, random_variables

Say = Callable[[str], None]


def open_run(config: Config, dataset: Dataset, run: Path) -> dict[str, Any]:
    """Makes the run's folder, or checks that an existing one is of this configuration and data.

    Writes config.json, split.csv and data.json. Returns the rows of each part.

    Raises:
      ConfigError: the folder holds a run of another configuration or of other data.
      DataError: the parts cannot be drawn, or a given split.csv does not fit.
    """
    if run.exists() and not run.is_dir():
        raise ConfigError(f"{run}: found a file, expected a folder for the run")
    if (run / "config.json").exists():
        _check_same(config, dataset, run)
        return splits.read_split(run / "split.csv", dataset.records)
    if run.is_dir() and any(run.iterdir()):
        raise ConfigError(f"{run}: found a folder that holds no run, expected a new or empty one")
    if config.split:
        parts = splits.read_split(Path(config.split), dataset.records)
    else:
        parts = splits.draw_split(dataset.records, config)
    run.mkdir(parents=True, exist_ok=True)
    splits.write_split(run / "split.csv", dataset.records, parts)
    write_json(run / "data.json", {**dataset.info, "folder": str(dataset.folder.absolute())})
    write_json(run / "versions.json", _versions())
    # Last, because its presence is what makes the folder a run.
    write_whole(run / "config.json", config_file.to_json(config).encode())
    return parts


def _versions() -> dict[str, str]:
    packages = ("thyrojax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
    devices = jax.local_devices()
    return {
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in packages},
        "devices": f"{len(devices)} {devices[0].device_kind}",
    }


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
    info = json.loads((run / "data.json").read_text())
    if info["fingerprint"] != dataset.fingerprint:
        raise ConfigError(
            f"{run / 'data.json'}: found data with fingerprint {info['fingerprint'][:12]}..., "
            f"now {dataset.fingerprint[:12]}..., expected the same data to go on with this run"
        )


def starting_state(
    config: Config,
    optimizer: optax.GradientTransformation,
    run: Path,
    checkpoints: ocp.CheckpointManager,
    say: Say,
) -> TrainState:
    """The first state, from the first of these that there is:

    1. the run's own latest checkpoint,
    2. the weights that the configuration names, with new heads,
    3. random weights: asked for with "none", or because a tag could not be fetched (said so).

    Raises:
      WeightsError: a weight file is not what it should be.
      RunError: the checkpoint is damaged.
    """
    latest = checkpoints.latest_step()
    if latest is not None:
        say(f"resuming {run} from step {latest}")
        return checkpoint.restore(checkpoints, abstract_state(config, optimizer), latest)
    variables, origin = _variables(config, say)
    write_json(run / "weights.json", origin)
    return create_state(variables, optimizer, config)


def abstract_state(config: Config, optimizer: optax.GradientTransformation) -> TrainState:
    """Shapes of a configuration's state."""
    return jax.eval_shape(
        lambda variables: create_state(variables, optimizer, config), abstract_variables(config)
    )


def _variables(config: Config, say: Say) -> tuple[PyTree, dict[str, Any]]:
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
    variables, notes = weights.fill(abstract_variables(config), read, config.seed)
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
