"""The mean score of several evaluated runs on the same nodules (Lakshminarayanan et al. 2017)."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from thyrojax.analysis import roc
from thyrojax.analysis.cutoff import Cutoff, youden_cutoff
from thyrojax.analysis.operating_point import summarise, write_metrics
from thyrojax.analysis.predictions import Predictions, read_predictions, write_predictions
from thyrojax.errors import ConfigError, DataError, RunError
from thyrojax.trained_run import data_info, part_names


def ensemble(runs: Sequence[Path], out: Path, part: str = "test") -> dict[str, Any]:
    """Averages what `evaluate` wrote for a part of the data in each run, and measures the mean.

    Writes OUT/predictions/PART.csv and val.csv, and OUT/metrics.json for the test part,
    OUT/metrics_PART.json for another. As in `evaluate`, the cutoff is Youden's on the mean scores
    of the validation part, or 0.5 where that is the part reported. Columns in which the runs
    differ, such as the margin, are left out.

    Args:
      runs: two or more, of one data set and one split.
      part: "train", "val" or "test".

    Returns:
      The figures as `analysis.operating_point.summarise` gives them, `split`, `runs` and `aucs`,
      each run's own.

    Raises:
      ConfigError: fewer than two runs, one twice, no such part, or OUT is a run.
      DataError: the runs are of different data, or a nodule of the part is in another part of one.
      RunError, PredictionsError: a run has not been evaluated on the part, or its files contradict
        each other or those of the first run.
    """
    name, in_split = part_names(part)
    if len({run.resolve() for run in runs}) < max(len(runs), 2):
        given = " ".join(map(str, runs))
        raise ConfigError(f"runs: found {given}, expected two or more, each once")
    if (out / "config.json").exists():
        raise ConfigError(f"--out: found {out}, a run, expected a folder of the ensemble's own")
    parts = {name: in_split, "val": "validation"}
    for run in runs[1:]:
        _check_same_data(runs[0], run)
        for one in parts.values():
            _check_same_part(runs[0], run, one)
    tables = {one: [_predictions(run, one, of) for run in runs] for one, of in parts.items()}
    for place, run in enumerate(runs):
        _check_margins(run, {one: found[place] for one, found in tables.items()})
    means = {one: _mean(runs, one, found) for one, found in tables.items()}
    cutoff = Cutoff(0.5, "0.5, fixed")
    if name != "val":
        validation = means["val"]
        cutoff = Cutoff(youden_cutoff(validation.labels, validation.scores), "validation, Youden")
    mean = means[name]
    figures = {
        **summarise(
            mean.labels,
            mean.scores,
            cutoff.value,
            cutoff.source,
            mean.patient_ids,
            clusters=True,
        ),
        "split": in_split,
        "runs": [str(run) for run in runs],
        "aucs": [float(roc.auc(found.labels, found.scores)) for found in tables[name]],
    }
    for one, found in means.items():
        write_predictions(out / "predictions" / f"{one}.csv", found)
    write_metrics(out / ("metrics.json" if name == "test" else f"metrics_{name}.json"), figures)
    return figures


def _check_same_data(first: Path, run: Path) -> None:
    expected, found = data_info(first), data_info(run)
    for key in ("fingerprint", "label_names"):
        if found[key] != expected[key]:
            raise DataError(
                f"{run / 'data.json'}: found {key} {found[key]}, expected {expected[key]}, that of "
                f"{first}: runs on one data set"
            )


def _check_same_part(first: Path, run: Path, part: str) -> None:
    """Each nodule of a part is in that part of both, so that none was learned from by one."""
    ours, theirs = _parts(first), _parts(run)
    here = {image_id for image_id, of in ours.items() if of == part}
    there = {image_id for image_id, of in theirs.items() if of == part}
    if here == there:
        return
    if not here & there:
        raise DataError(
            f"{run}: found no nodule in the {part} part that is in that of {first} too, expected "
            "the same; scores of folds are put together, not averaged: join the rows of their "
            "predictions files"
        )
    image_id = min(here ^ there)
    raise DataError(
        f"{run}: found {len(here ^ there)} nodules in the {part} part of this run or of {first} "
        f"but not of both ({image_id}: {theirs.get(image_id)} and {ours.get(image_id)}), expected "
        f"runs on one split, as `thyrojax train --split {first / 'split.csv'}` makes them"
    )


def _parts(run: Path) -> dict[str, str]:
    """The part of each image_id, of a run's split.csv."""
    path = run / "split.csv"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return {row["image_id"]: row["part"] for row in csv.DictReader(file)}
    except (OSError, UnicodeDecodeError, csv.Error, KeyError) as error:
        raise RunError(f"{path}: found {error!r}, expected what `thyrojax train` wrote") from None


def _predictions(run: Path, name: str, part: str) -> Predictions:
    """What the evaluation of a run wrote for a part: all of its nodules."""
    path = run / "predictions" / f"{name}.csv"
    if not path.exists():
        raise RunError(
            f"{path}: found no such file, expected what `thyrojax evaluate {run} --split {name}` "
            "writes"
        )
    found = read_predictions(path)
    expected = {image_id for image_id, of in _parts(run).items() if of == part}
    if set(found.image_ids) != expected:
        raise RunError(
            f"{path}: found {len(set(found.image_ids) ^ expected)} nodules more or less than the "
            f"{part} part of {run / 'split.csv'}, expected all of it; evaluate the run again"
        )
    return found


def _check_margins(run: Path, tables: Mapping[str, Predictions]) -> None:
    """The scores that choose the cutoff are of the margin of those that are called."""
    margins = {name: set(table.columns.get("margin", ())) for name, table in tables.items()}
    (name, of_part), *others = margins.items()
    for other, of_other in others:
        if of_other != of_part:
            found, expected = (" ".join(sorted(one)) or "none" for one in (of_other, of_part))
            raise RunError(
                f"{run / 'predictions' / other}.csv, margin: found {found}, expected {expected} as "
                f"in {name}.csv; evaluate the run again"
            )


def _mean(runs: Sequence[Path], name: str, tables: Sequence[Predictions]) -> Predictions:
    """Predictions with the mean scores, in the order of the first."""
    first, scores = tables[0], [tables[0].scores]
    columns = dict(first.columns)
    for run, table in zip(runs[1:], tables[1:], strict=True):
        row_of = {image_id: row for row, image_id in enumerate(table.image_ids)}
        rows = [row_of[image_id] for image_id in first.image_ids]
        if np.any(differing := table.labels[rows] != first.labels):
            row = int(np.argmax(differing))
            raise RunError(
                f"{run / 'predictions' / name}.csv, {first.image_ids[row]}: found label "
                f"{table.labels[rows][row]}, expected {first.labels[row]} as in {runs[0]}"
            )
        scores.append(table.scores[rows])
        columns = {
            key: values
            for key, values in columns.items()
            if key in table.columns and tuple(table.columns[key][row] for row in rows) == values
        }
    mean = np.mean(scores, axis=0)
    return Predictions(first.image_ids, first.patient_ids, first.labels, mean, columns)
