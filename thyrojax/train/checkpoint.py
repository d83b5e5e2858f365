"""Orbax checkpoints of a run: saved in the background, the latest and the best are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from thyrojax.errors import RunError
from thyrojax.train.state import TrainState

BEST_METRIC = "val_auc"


def open_checkpoints(run: Path, read_only: bool = False) -> ocp.CheckpointManager:
    """The manager of RUN/checkpoints; close it to wait for saves under way.

    Keeping only the N best could drop the newest and break a resume, hence two policies.
    """
    options = ocp.CheckpointManagerOptions(
        preservation_policy=checkpoint_managers.AnyPreservationPolicy(
            [
                checkpoint_managers.LatestN(1),
                checkpoint_managers.BestN(get_metric_fn=_rank, n=1),
            ]
        ),
        best_fn=_rank,
        cleanup_tmp_directories=not read_only,
        read_only=read_only,
    )
    return ocp.CheckpointManager((run / "checkpoints").absolute(), options=options)


def _rank(metrics: dict[str, float]) -> float:
    return metrics[BEST_METRIC]


def save(manager: ocp.CheckpointManager, state: TrainState, metrics: dict[str, float]) -> None:
    """Starts saving a state (one copy, no device axis) with its validation metrics."""
    step = int(state.step)
    manager.save(step, args=ocp.args.StandardSave(state), metrics=metrics)


def restore(manager: ocp.CheckpointManager, abstract: TrainState, step: int) -> TrainState:
    """The state saved at `step`, on the first device.

    Raises:
      RunError: the files do not hold a state of this configuration.
    """
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    target = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), abstract
    )
    try:
        return manager.restore(step, args=ocp.args.StandardRestore(target))
    except (ValueError, KeyError, OSError) as error:
        raise RunError(
            f"{manager.directory / str(step)}: found a checkpoint that does not restore "
            f"({_first_line(error)}), expected a state of this run's configuration"
        ) from None


def choose_step(manager: ocp.CheckpointManager, run: Path, which: str) -> int:
    """The step of the "best" or "latest" checkpoint.

    Raises:
      RunError: the run has none.
    """
    step = manager.best_step() if which == "best" else manager.latest_step()
    if step is None:
        raise RunError(f"{run / 'checkpoints'}: found no checkpoint, expected a trained run")
    return step


def _first_line(error: Any) -> str:
    lines = str(error).splitlines()
    return lines[0][:160] if lines else type(error).__name__
