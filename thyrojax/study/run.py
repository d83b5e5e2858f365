"""Does the work of a study, unit by unit: what is finished stays, what was begun is gone on with.

WORKDIR/runs/ARM/seedS[-foldF]/ is a run folder; predictions/[SCORING_]{val,test}.csv are added, and
last unit.json, which makes the unit a finished one. Parts of the units may be done by machines that
share the folder and nothing else.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import resource
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from thyrojax import weights
from thyrojax.analysis.predictions import Predictions, write_predictions
from thyrojax.config import Config
from thyrojax.data import splits
from thyrojax.data.dataset import Dataset, open_dataset
from thyrojax.errors import ConfigError, RunError, one_line
from thyrojax.evaluate import predictions_table
from thyrojax.files import write_json
from thyrojax.shapes import Float, Int
from thyrojax.study.changes import score_changed
from thyrojax.study.frozen import frozen_scores
from thyrojax.study.plan import Scoring, Unit
from thyrojax.train.loop import train
from thyrojax.train.provenance import versions
from thyrojax.train.scoring import score_rows
from thyrojax.trained_run import open_trained, scoring_mapping
from thyrojax.weights import store

Say = Callable[[str], None]
Scored = dict[str, dict[str, np.ndarray]]  # scoring -> part -> scores
PARTS = {"validation": "val", "test": "test"}  # as split.csv and as files have it


def run_units(
    units: Sequence[Unit],
    sets: Mapping[str, Path],
    workdir: Path,
    shard: tuple[int, int] = (1, 1),
    say: Say = print,
) -> bool:
    """Runs those units of a shard that are not finished.

    Args:
      units: of the whole study.
      sets: the built sets by the name that arms call them.
      workdir: of the study.
      shard: (i, n): every n-th unit from the i-th on, from 1.
      say: takes a line for each unit.

    Returns:
      False where SIGTERM stopped a training.

    Raises:
      ConfigError: a unit was finished with another configuration or other data.
      ThyrojaxError: as `train` and scoring.
    """
    first, of = shard
    for number, unit in list(enumerate(units, 1))[first - 1 :: of]:
        if is_finished(unit, workdir):
            continue
        say(f"{number} of {len(units)}: {unit.folder}")
        if not run_unit(unit, sets[unit.arm.data], workdir, say):
            return False
    return True


def is_finished(unit: Unit, workdir: Path) -> bool:
    """Whether a unit's results are there.

    Raises:
      ConfigError: they are, of another configuration, of other scorings or of other data.
      RunError: they cannot be read.
    """
    path = unit_file(unit, workdir)
    if not path.is_file():
        return False
    told = read_unit(unit, workdir)
    # What the configuration has gained since was as it is by default.
    told["config"] = {**dataclasses.asdict(Config()), **told.get("config", {})}
    told["data"] = {"fingerprint": told.get("data", {}).get("fingerprint")}
    told.setdefault("files", _file_digests(unit.config))
    now = {**_identity(unit), "data": {"fingerprint": unit.fingerprint}}
    for name, value in now.items():
        if told.get(name) != value:
            raise ConfigError(
                f"{path}: found a finished unit of {_difference(told.get(name), value)}, expected "
                "the study as it is now; take a new --workdir, or remove this unit's folder"
            )
    return True


def unit_file(unit: Unit, workdir: Path) -> Path:
    """WORKDIR/runs/ARM/SEED/unit.json."""
    return workdir / "runs" / unit.folder / "unit.json"


def read_unit(unit: Unit, workdir: Path) -> dict[str, Any]:
    """What a finished unit tells of itself.

    Raises:
      RunError: the file cannot be read.
    """
    path = unit_file(unit, workdir)
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise RunError(
            f"{path}: found {one_line(str(error))}, expected what a finished unit tells of itself; "
            "without this file the unit is run again"
        ) from error


def predictions_file(unit: Unit, scoring: Scoring, part: str, workdir: Path) -> Path:
    """Where a unit's scores of a part (val or test) are."""
    name = f"{scoring.name}_{part}.csv" if scoring.name else f"{part}.csv"
    return workdir / "runs" / unit.folder / "predictions" / name


def run_unit(unit: Unit, data: Path, workdir: Path, say: Say) -> bool:
    """Trains and scores one unit; False where SIGTERM stopped it.

    Raises:
      WeightsError: the weights that it starts from are not at hand.
      RunError: it was begun without them.
      ThyrojaxError: as `train` and scoring.
    """
    run = workdir / "runs" / unit.folder
    resumed, started = (run / "checkpoints").is_dir(), time.perf_counter()
    if run.is_dir() and not (run / "config.json").exists():
        shutil.rmtree(run)  # killed before there was a run
    dataset = open_dataset(data, cache_mb=unit.config.cache_mb)
    if unit.arm.method == "frozen":
        parts = splits.chosen_split(unit.config, dataset.records, dataset.near_duplicates)
        trained_seconds, scored = 0.0, _frozen(unit, dataset, parts)
    else:
        _check_start(unit.config, run, say)
        if not train(unit.config, data, run, quiet=True, say=say):
            return False
        trained_seconds = time.perf_counter() - started
        parts = splits.read_run_split(run, unit.config, dataset.records, dataset.near_duplicates)
        scored = _trained(unit, run, dataset, parts)
    for scoring in unit.arm.scorings:
        margin = _margin(unit, scoring)
        for part, name in PARTS.items():
            table = _table(unit, dataset, parts[part], scored[scoring.name][part], part, margin)
            write_predictions(predictions_file(unit, scoring, name, workdir), table)
    write_json(
        run / "unit.json",
        {
            **_identity(unit),
            "data": {name: dataset.info[name] for name in ("source", "subject", "fingerprint")},
            "n_train": len(parts["train"]),
            "n_test": len(parts["test"]),
            "resumed": resumed,
            "training_seconds": trained_seconds,
            "seconds": time.perf_counter() - started,
            "peak_memory_bytes": _peak_memory(),
            "versions": versions(),
        },
    )
    if not unit.arm.keep:
        shutil.rmtree(run / "checkpoints", ignore_errors=True)
    return True


def _identity(unit: Unit) -> dict[str, Any]:
    """What a finished unit must have been made with, as JSON holds it."""
    of = {
        "config": dataclasses.asdict(unit.config),
        "method": unit.arm.method,
        "scorings": [
            {
                "name": scoring.name,
                "margin": scoring.margin,
                "change": dataclasses.asdict(scoring.change) if scoring.change else None,
            }
            for scoring in unit.arm.scorings
        ],
        "files": _file_digests(unit.config),
    }
    found: dict[str, Any] = json.loads(json.dumps(of))
    return found


def _file_digests(config: Config) -> dict[str, str | None]:
    """SHA-256 of the files that the configuration names; None where it names none, or it is gone.

    Tags of weights always mean the same file.
    """
    no_files = ("", "none", *weights.CATALOG)
    named = {"split": config.split, "weights": config.weights}
    return {
        name: None if text in no_files else _file_digest(Path(text)) for name, text in named.items()
    }


def _file_digest(path: Path) -> str | None:
    if not path.exists():
        return None
    told = path.stat()
    return _digest_as_of(path, told.st_size, told.st_mtime_ns)


@functools.cache
def _digest_as_of(path: Path, size: int, modified: int) -> str:
    return store.digest(path)


def _check_start(config: Config, run: Path, say: Say) -> None:
    """A single run may start from random weights without a network; an arm's label would lie."""
    if config.weights == "none":
        return
    weights.locate(config.weights, announce=say)
    told = run / "weights.json"
    if told.is_file() and json.loads(told.read_text(encoding="utf-8"))["source"] is None:
        raise RunError(
            f"{told}: found a start from random weights, expected {config.weights}; remove this "
            "run's folder"
        )


def _difference(before: Any, now: Any) -> str:
    if isinstance(before, dict) and isinstance(now, dict):
        changed = [
            f"{name} {before.get(name)!r} (now {now.get(name)!r})"
            for name in {**before, **now}
            if before.get(name) != now.get(name)
        ]
        return "; ".join(changed)
    return f"{before!r} (now {now!r})"


def _margin(unit: Unit, scoring: Scoring) -> int:
    return unit.config.margin_eval if scoring.margin is None else scoring.margin


def _frozen(unit: Unit, dataset: Dataset, parts: splits.Parts) -> Scored:
    return {
        scoring.name: frozen_scores(
            dataset, parts, unit.config, _margin(unit, scoring), scoring.change
        )
        for scoring in unit.arm.scorings
    }


def _trained(unit: Unit, run: Path, dataset: Dataset, parts: splits.Parts) -> Scored:
    # The last state, not the best on validation: a fold's validation part is small, and choosing
    # among its noisy figures helps whichever arm is noisier.
    trained = open_trained(run, "latest")
    mapping = scoring_mapping(trained.config)
    variables = mapping.put(trained.variables)
    found: Scored = {}
    plain: dict[tuple[str, int], np.ndarray] = {}
    for scoring in unit.arm.scorings:
        margin = _margin(unit, scoring)
        found[scoring.name] = {}
        for part in PARTS:
            of = (mapping, variables, dataset, parts[part], trained.config, margin)
            # The cutoff knows nothing of a change: it is of the validation part as it is.
            if scoring.change and part == "test":
                found[scoring.name][part] = score_changed(*of, scoring.change)
                continue
            if (part, margin) not in plain:
                plain[part, margin] = score_rows(*of)
            found[scoring.name][part] = plain[part, margin]
    return found


def _table(
    unit: Unit,
    dataset: Dataset,
    rows: Int[np.ndarray, " n"],
    scores: Float[np.ndarray, " n"],
    part: str,
    margin: int,
) -> Predictions:
    """Predictions with fold, seed, the box's shape, and whether its patient has several images."""
    table = predictions_table(dataset, rows, scores, part, margin)
    boxes = [dataset.records[row].box for row in rows]
    images = Counter(record.patient_id for record in dataset.records)
    columns = {
        **table.columns,
        "box_shape": tuple("taller" if box.height > box.width else "wider" for box in boxes),
        "views": tuple("several" if images[p] > 1 else "one" for p in table.patient_ids),
        "fold": (str(unit.config.fold),) * len(table),
        "seed": (str(unit.config.seed),) * len(table),
    }
    return dataclasses.replace(table, columns=columns)


def _peak_memory() -> int:
    """Of this process, bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
