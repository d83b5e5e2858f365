"""A run done again from what its folder tells, and compared with what it came to.

Data and weights are checked first: with others it would be another run. Versions and devices may
differ, and are told: bytes are the same only on the same ones, and not on every accelerator.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thyrojax import processes
from thyrojax.config import Config
from thyrojax.data import splits
from thyrojax.data.dataset import Dataset
from thyrojax.errors import ConfigError, DataError, RunError, WeightsError
from thyrojax.files import write_json
from thyrojax.runs import has_ended
from thyrojax.train import comparison, provenance
from thyrojax.train.comparison import MetricsDifference, StateDifference, Verdict
from thyrojax.train.loop import train
from thyrojax.train.start import Say, make_run
from thyrojax.train.state import TrainState
from thyrojax.trained_run import label_names, open_run_data, restore_run


@dataclass(frozen=True)
class Reproduction:
    """What doing a run again has shown."""

    run: Path
    verdict: Verdict
    differing: dict[str, tuple[Any, Any]]  # versions and devices: name -> (then, now)
    metrics: MetricsDifference
    state: StateDifference

    def lines(self) -> list[str]:
        """All of it in words, the verdict last."""
        if self.differing:
            found = [f"{name} {then}, now {now}" for name, (then, now) in self.differing.items()]
            first = f"versions and devices: {'; '.join(found)}"
        else:
            first = "versions and devices: as they were"
        return [first, *comparison.told(self.metrics, self.state), f"verdict: {self.verdict}"]


def reproduce(
    run: Path,
    data: Path | None,
    new: Path,
    weights: str | None = None,
    *,
    quiet: bool = False,
    say: Say = print,
) -> Reproduction | None:
    """Trains `run` again in the folder `new`, and writes new/reproduction.json.

    Where `new` is a reproduction that was stopped or killed it goes on with it.

    Args:
      run: a run that has ended.
      data: its set; None where it still is where it was.
      new: a folder for the run that is made, new or empty.
      weights: what the run began from, where `config.weights` is no longer the place.
      quiet: no progress bar.
      say: takes lines that tell how it goes.

    Returns:
      None where SIGTERM stopped it.

    Raises:
      RunError: `run` has not ended, or is damaged.
      DataError: the data are not the run's.
      WeightsError: the weights are not to be had.
      ConfigError: the weights are not the run's, or `new` holds something else.
    """
    config, restored = restore_run(run, "latest")
    if not has_ended(run):
        raise RunError(
            f"{run}: found a run at step {int(restored.state.step)} that has not ended, expected "
            "one that has; go on with it first"
        )
    dataset = open_run_data(run, data, config)
    if label_names(run) != dataset.info["label_names"]:
        raise DataError(
            f"{dataset.folder}: found label_names {dataset.info['label_names']}, expected "
            f"{label_names(run)}, which the run was trained with"
        )
    config = dataclasses.replace(config, weights=weights or config.weights)
    _check_weights(config, run, say)
    processes.first_then_others(lambda: _begin(run, new, config, dataset))
    starts = provenance.read_starts(run)
    differing = provenance.differences(starts or [_json(run / "versions.json")])
    for name, (then, now) in differing.items():
        say(f"{name}: {then}, now {now}")
    if not train(config, dataset.folder, new, quiet=quiet, say=say):
        return None
    return _compared(run, new, restored.state, differing)


def _check_weights(config: Config, run: Path, say: Say) -> None:
    from thyrojax.weights import locate
    from thyrojax.weights.store import digest

    path = run / "weights.json"
    then, now = _json(path).get("sha256"), None
    if config.weights != "none":
        try:
            now = digest(locate(config.weights, announce=say))
        except WeightsError:
            if then is not None:
                raise
    if then == now:
        return
    was, found = (f"weights of sha256 {x[:12]}..." if x else "random weights" for x in (then, now))
    how = "--weights FILE with them" if then else "--weights none"
    raise ConfigError(f"{path}: found {was}, now {config.weights} with {found}, expected {how}")


def _begin(run: Path, new: Path, config: Config, dataset: Dataset) -> None:
    """Makes the folder of the reproduction, or checks that it is one that was begun."""
    if new.absolute() == run.absolute():
        raise ConfigError(f"{new}: found the run itself, expected another folder")
    if (new / "config.json").exists():
        if (new / "split.csv").read_bytes() != (run / "split.csv").read_bytes():
            raise ConfigError(f"{new / 'split.csv'}: found other parts than those of {run}")
        return  # `train` checks the rest
    if new.exists() and (not new.is_dir() or any(new.iterdir())):
        raise ConfigError(f"{new}: found something that is no run, expected a new or empty folder")
    parts = splits.read_run_split(run, config, dataset.records, dataset.near_duplicates)
    make_run(config, dataset, new, parts)


def _compared(
    run: Path, new: Path, state: TrainState, differing: dict[str, tuple[Any, Any]]
) -> Reproduction:
    metrics = comparison.compare_metrics(run, new)
    states = comparison.compare_states(state, restore_run(new, "latest")[1].state)
    found = Reproduction(run, comparison.verdict(metrics, states), differing, metrics, states)
    if processes.is_first():
        content = dataclasses.asdict(found)
        content["run"] = str(run.absolute())
        content["differing"] = {
            name: {"then": then, "now": now} for name, (then, now) in differing.items()
        }
        write_json(new / "reproduction.json", content)
    return found


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise RunError(f"{path}: found {error!r}, expected what `thyrojax train` wrote") from None
