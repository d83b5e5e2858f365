"""Orbax checkpoints of a run: saved in the background, checked leaf by leaf when restored.

Beside the state (item `default`) a step has `contents`: a digest of every leaf, what the run is of,
the validation's figures and what the next line of metrics.jsonl needs. Both become visible with the
step, or neither.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from thyrojax import processes
from thyrojax.config import Config
from thyrojax.errors import ConfigError, RunError, one_line
from thyrojax.train.digests import is_sealed, leaf_digests, sealed, state_digest, state_layout
from thyrojax.train.file_seals import damaged_files, seal_files
from thyrojax.train.state import TrainState

BEST_METRIC = "val_auc"
STATE, CONTENTS = "default", "contents"  # names of the items; Orbax's own metrics are a third
CONTENT_NAMES = {"step", "of", "metrics", "since_line", "leaves", "layout", "sha256"}

# What a state is the state of: with another value of one of these its numbers mean another thing.
MODEL_FIELDS = (
    "grey",
    "pooling",
    "aux_head",
    "depth_multiplier",
    "bn_epsilon",
    "optimizer",
    "trunk_lr_scale",
    "ema",
    "swa_start",
    "members",
)


class DamagedCheckpoint(RunError):
    """A checkpoint whose files are missing, unreadable, or not what was saved."""


class Restored(NamedTuple):
    """A state, and the steps since the last line of metrics.jsonl: metric -> one value a step."""

    state: TrainState
    since_line: dict[str, list[float]]
    leaves: dict[str, dict[str, Any]]  # of `leaf_digests`


def open_checkpoints(
    run: Path, read_only: bool = False, keep_steps: int = 0
) -> ocp.CheckpointManager:
    """The manager of RUN/checkpoints; close it to wait for saves under way.

    Kept are the best by validation AUC, multiples of `keep_steps`, and the last two: were the last
    one damaged, the run would otherwise be lost. Keeping only the N best could drop the newest and
    break a resume. What is to go goes after the new one is whole.

    Raises:
      RunError: the metrics of a checkpoint cannot be read, and nothing may be written. Else they
        are renamed, and the checkpoint is a damaged one.
    """
    for metrics in (run / "checkpoints").glob("[0-9]*/metrics/metrics"):
        if _json(metrics) is None:  # Orbax could not even list the steps
            if read_only:
                raise RunError(f"{metrics}: found no JSON object, expected a checkpoint's metrics")
            if processes.is_first():
                os.replace(metrics, metrics.with_name("metrics.damaged"))
    if not read_only:
        processes.wait_for_all()
    policies: list[Any] = [
        checkpoint_managers.LatestN(2),
        checkpoint_managers.BestN(get_metric_fn=_rank, n=1, keep_checkpoints_without_metrics=False),
    ]
    if keep_steps:
        policies.append(checkpoint_managers.EveryNSteps(keep_steps))
    together = ocp.options.MultiprocessingOptions()
    if read_only and processes.several():  # each reads on its own: none waits for one that failed
        own = jax.process_index()
        together = ocp.options.MultiprocessingOptions(primary_host=own, active_processes={own})
    options = ocp.CheckpointManagerOptions(
        preservation_policy=checkpoint_managers.AnyPreservationPolicy(policies),
        best_fn=_rank,
        cleanup_tmp_directories=not read_only,
        read_only=read_only,
        multiprocessing_options=together,
    )
    return ocp.CheckpointManager(
        (run / "checkpoints").absolute(),
        options=options,
        # Named here, because Orbax takes a step with `default` for one without items otherwise.
        item_handlers={
            STATE: ocp.StandardCheckpointHandler(),
            CONTENTS: ocp.JsonCheckpointHandler(),
        },
    )


def _rank(metrics: dict[str, float]) -> float:
    return metrics[BEST_METRIC]


def identity(config: Config, data: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint is of: data and label names (entries of a data.json), and the model."""
    fields = dataclasses.asdict(config)
    return {
        "fingerprint": data["fingerprint"],
        "label_names": list(data["label_names"]),
        **{name: fields[name] for name in MODEL_FIELDS},
    }


def save(
    manager: ocp.CheckpointManager,
    state: TrainState,
    metrics: dict[str, float] | None,
    of: dict[str, Any],
    since_line: dict[str, list[float]],
) -> None:
    """Starts saving a state, once the one before is whole; that one's files are then sealed.

    Args:
      manager: of `open_checkpoints`.
      state: one copy, no device axis; of several processes, one that lies on a device of each.
      metrics: of its validation; None where the run was stopped between two.
      of: the `identity` of the run.
      since_line: as in `Restored`.
    """
    step, leaves = int(state.step), leaf_digests(state)
    processes.check_same({f"state after step {step}": state_digest(leaves)})
    contents = sealed(
        {
            "step": step,
            "of": of,
            "metrics": metrics,
            "since_line": since_line,
            "leaves": leaves,
            "layout": state_layout(state),
        }
    )
    manager.wait_until_finished()
    seal_files(Path(manager.directory))
    items = {STATE: ocp.args.StandardSave(state), CONTENTS: ocp.args.JsonSave(contents)}
    manager.save(step, args=ocp.args.Composite(**items), metrics=metrics)


def restore(
    manager: ocp.CheckpointManager, abstract: TrainState, step: int, of: dict[str, Any]
) -> Restored:
    """What was saved at `step`, on the first device, every leaf as its digest says.

    Raises:
      DamagedCheckpoint: it is not.
      ConfigError: it is of another `identity`.
      RunError: another version of thyrojax has written it, whose checkpoints held other things.
    """
    folder = Path(manager.directory) / str(step)
    if wrong_files := damaged_files(folder):
        raise DamagedCheckpoint(f"{folder}: {wrong_files}")
    contents = _contents(manager, folder, step)
    _check_version(contents.keys() ^ CONTENT_NAMES | contents["of"].keys() ^ of.keys(), folder)
    differing = [
        f"{name} {contents['of'][name]!r}, now {value!r}"
        for name, value in of.items()
        if contents["of"][name] != value
    ]
    if differing:
        raise ConfigError(
            f"{folder}: found a checkpoint with {'; '.join(differing)}, expected one of this run's "
            "data and configuration"
        )
    layout, saved_layout = state_layout(abstract), contents["layout"]
    odd = {x for x in {*layout, *saved_layout} if layout.get(x, "") != saved_layout.get(x, "")}
    _check_version(odd, folder)
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    target = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), abstract
    )
    found = _read(manager, folder, step, STATE, ocp.args.StandardRestore(target))
    leaves, expected = leaf_digests(found), contents["leaves"]
    wrong = [
        name for name in sorted({*leaves, *expected}) if leaves.get(name) != expected.get(name)
    ]
    if wrong:
        raise DamagedCheckpoint(
            f"{folder}: found {len(wrong)} of {len(expected)} leaves that are not as they were "
            f"saved (the first is {wrong[0]}), expected all as their digests say"
        )
    return Restored(found, contents["since_line"], leaves)


def _check_version(odd: set[str], folder: Path) -> None:
    if odd:
        raise RunError(
            f"{folder}: found a checkpoint of another version of thyrojax ({len(odd)} things "
            f"differ, the first is {min(odd)}), expected one that this version wrote; go on with "
            "that version, or anew"
        )


def _contents(manager: ocp.CheckpointManager, folder: Path, step: int) -> dict[str, Any]:
    contents = _read(manager, folder, step, CONTENTS, ocp.args.JsonRestore())
    if not is_sealed(contents) or contents.get("step") != step:
        raise DamagedCheckpoint(
            f"{folder / CONTENTS}: found a list of digests that is not as it was saved, expected "
            f"that of step {step}"
        )
    # The best checkpoint is chosen by this file, before anything of it has been restored.
    metrics = folder / "metrics" / "metrics"
    found = _json(metrics)
    if found != contents["metrics"]:
        raise DamagedCheckpoint(
            f"{metrics}: found {found or 'none'}, expected {contents['metrics'] or 'none'}"
        )
    return contents


def _json(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _read(manager: ocp.CheckpointManager, folder: Path, step: int, item: str, args: Any) -> Any:
    try:
        return manager.restore(step, args=ocp.args.Composite(**{item: args}))[item]
    # Orbax and TensorStore tell of damage by errors of many types, plain Exception among them.
    except Exception as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise DamagedCheckpoint(
            f"{folder / item}: found files that do not restore ({one_line(lines[0], 160)}), "
            "expected those that were saved"
        ) from None


def restore_last_good(
    manager: ocp.CheckpointManager,
    abstract: TrainState,
    of: dict[str, Any],
    say: Callable[[str], None],
) -> Restored | None:
    """The latest checkpoint that is whole; None where there is none at all.

    Later ones that are damaged are told of and moved to RUN/damaged, since their steps are to be
    taken and saved again.

    Raises:
      RunError: there are checkpoints, and all are damaged; they stay where they are.
      ConfigError: as `restore`.
    """
    damaged: dict[int, str] = {}
    for step in sorted(manager.all_steps(), reverse=True):
        found = _restored_by_all(manager, abstract, step, of)
        if isinstance(found, str):
            damaged[step] = found
            continue
        if processes.is_first():
            for bad, reason in damaged.items():
                say(f"{reason}; moved to {_set_aside(manager, bad)}, going on from step {step}")
        if damaged:
            processes.wait_for_all()
            manager.reload()
        return found
    if damaged:
        raise RunError("; ".join(damaged.values()))
    return None


def _restored_by_all(
    manager: ocp.CheckpointManager, abstract: TrainState, step: int, of: dict[str, Any]
) -> Restored | str:
    """What every process found whole, or what is wrong with it for one of them."""
    several, reason = processes.several(), ""
    reader = (
        open_checkpoints(Path(manager.directory).parent, read_only=True) if several else manager
    )
    try:
        found = restore(reader, abstract, step, of)
    except DamagedCheckpoint as error:
        reason = str(error)
    finally:
        if several:
            reader.close()
    reasons = [x for x in processes.gathered(reason) if x]
    return reasons[0] if reasons else found


def _set_aside(manager: ocp.CheckpointManager, step: int) -> Path:
    folder = Path(manager.directory) / str(step)
    aside = folder.parent.with_name("damaged") / folder.name
    shutil.rmtree(aside, ignore_errors=True)  # damaged once before, at the same step
    aside.parent.mkdir(exist_ok=True)
    os.replace(folder, aside)
    return aside


def choose_step(manager: ocp.CheckpointManager, run: Path, which: str) -> int:
    """The step of the "best" or "latest" checkpoint; before the first validation, the latest.

    Raises:
      RunError: the run has none.
    """
    best = manager.best_step() if which == "best" else None
    step = manager.latest_step() if best is None else best
    if step is None:
        raise RunError(f"{run / 'checkpoints'}: found no checkpoint, expected a trained run")
    return step
