"""The scores of a study's conditions, read back: folds pooled, seeds side by side, calls made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from thyrojax.analysis.cutoff import youden_cutoff
from thyrojax.analysis.predictions import Predictions, read_predictions, take
from thyrojax.errors import RunError
from thyrojax.shapes import Bool, Float, Int
from thyrojax.study.plan import Combined, Condition, Unit
from thyrojax.study.run import predictions_file


class Scored(NamedTuple):
    """One network's scores of its test part, and of its validation part, which gives the cutoff."""

    seed: int
    fold: int
    test: Predictions
    validation: Predictions


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one condition gave; nodules in the order of their ids.

    Attributes:
      name, label, x: of the condition.
      seeds: of the networks, or (-1,) where they were averaged.
      image_ids, patient_ids, labels: of the nodules.
      columns: what else is known of the nodules.
      scores: of each seed.
      cutoffs: for each score, Youden's of its own network's validation part.
      folds: the fold that each nodule was tested in.
    """

    name: str
    label: str
    x: float | None
    seeds: tuple[int, ...]
    image_ids: tuple[str, ...]
    patient_ids: tuple[str, ...]
    labels: Int[np.ndarray, " cases"]
    columns: dict[str, tuple[str, ...]]
    scores: Float[np.ndarray, "seeds cases"]
    cutoffs: Float[np.ndarray, "seeds cases"]
    folds: tuple[str, ...]

    @property
    def called(self) -> Bool[np.ndarray, "seeds cases"]:
        """Whether each score reaches its cutoff."""
        return self.scores >= self.cutoffs

    def predictions(self) -> Predictions:
        """Scores averaged over the seeds, as a predictions file holds them."""
        dropped = ("seed",)
        columns = {name: cells for name, cells in self.columns.items() if name not in dropped}
        return Predictions(
            self.image_ids, self.patient_ids, self.labels, self.scores.mean(axis=0), columns
        )


def read_outcomes(
    conditions: Sequence[Condition],
    combined: Sequence[Combined],
    units: Sequence[Unit],
    workdir: Path,
) -> list[Outcome]:
    """Every condition's outcome, from the files of its units; then those that are means of others.

    A combined condition of which a part is not there is left out, and one over seeds where there
    is one seed.

    Raises:
      RunError: the folds of one seed test a nodule twice, or two seeds test other nodules.
      PredictionsError: a file cannot be used.
    """
    scored: dict[str, list[Scored]] = {}
    for condition in conditions:
        scored[condition.name] = [
            Scored(
                unit.config.seed,
                unit.config.fold,
                read_predictions(predictions_file(unit, condition.scoring, "test", workdir)),
                read_predictions(predictions_file(unit, condition.scoring, "val", workdir)),
            )
            for unit in units
            if unit.arm.name == condition.arm.name
        ]
    found = [
        _pooled(c.name, c.label, c.x, scored[c.name]) for c in conditions if not c.arm.ingredient
    ]
    seeds = {unit.config.seed for unit in units}
    for one in combined:
        if one.over_seeds and len(seeds) == 1:
            continue  # it would be another's twin
        if all(name in scored for name in one.conditions):
            found.append(_pooled(one.name, one.label, None, _averaged(one, scored)))
    return found


def _averaged(combined: Combined, scored: Mapping[str, Sequence[Scored]]) -> list[Scored]:
    """Mean scores by fold, and by seed unless all seeds are averaged.

    So are those of the validation part; where no two networks have a nodule of it in common (inner
    folds), each nodule keeps the score of the one that was not trained on it.
    """
    groups: dict[tuple[int, int], list[Scored]] = {}
    for name in combined.conditions:
        for one in scored[name]:
            groups.setdefault((-1 if combined.over_seeds else one.seed, one.fold), []).append(one)
    return [
        Scored(seed, fold, _mean([g.test for g in group]), _mean_or_joined(group))
        for (seed, fold), group in groups.items()
    ]


def _mean_or_joined(group: Sequence[Scored]) -> Predictions:
    tables = [one.validation for one in group]
    ids = [name for table in tables for name in table.image_ids]
    return _joined(tables) if len(set(ids)) == len(ids) else _mean(tables)


def _mean(tables: Sequence[Predictions]) -> Predictions:
    ordered = [_by_id(table) for table in tables]
    first = ordered[0]
    if any(table.image_ids != first.image_ids for table in ordered):
        raise RunError("combined: found networks of different nodules, expected the same ones")
    mean = np.mean([table.scores for table in ordered], axis=0)
    return Predictions(
        first.image_ids, first.patient_ids, first.labels, np.clip(mean, 0.0, 1.0), first.columns
    )


def _by_id(table: Predictions) -> Predictions:
    return take(table, np.array(sorted(range(len(table)), key=table.image_ids.__getitem__)))


def _pooled(name: str, label: str, x: float | None, scored: Sequence[Scored]) -> Outcome:
    """Folds of each seed put together, seeds stacked."""
    seeds = tuple(sorted({one.seed for one in scored}))
    tables, cutoffs = [], []
    for seed in seeds:
        of_seed = sorted((one for one in scored if one.seed == seed), key=lambda one: one.fold)
        pooled = _joined([one.test for one in of_seed])
        cut = np.concatenate([_cutoffs(one) for one in of_seed])
        order = np.array(sorted(range(len(pooled)), key=pooled.image_ids.__getitem__))
        tables.append(take(pooled, order))
        cutoffs.append(cut[order])
    first = tables[0]
    for seed, table in zip(seeds, tables, strict=True):
        alike = table.image_ids == first.image_ids and np.array_equal(table.labels, first.labels)
        if not alike:
            raise RunError(
                f"{name}, seed {seed}: found other nodules or labels than seed {seeds[0]} has, "
                "expected the same; take a new --workdir"
            )
    if len(set(first.image_ids)) < len(first):
        raise RunError(f"{name}: found nodules that two folds test, expected each in one")
    return Outcome(
        name=name,
        label=label,
        x=x,
        seeds=seeds,
        image_ids=first.image_ids,
        patient_ids=first.patient_ids,
        labels=first.labels,
        columns=first.columns,
        scores=np.stack([table.scores for table in tables]),
        cutoffs=np.stack(cutoffs),
        folds=first.columns["fold"],
    )


def _joined(tables: Sequence[Predictions]) -> Predictions:
    def text(of: str) -> tuple[str, ...]:
        return tuple(cell for table in tables for cell in getattr(table, of))

    return Predictions(
        text("image_ids"),
        text("patient_ids"),
        np.concatenate([table.labels for table in tables]),
        np.concatenate([table.scores for table in tables]),
        {
            name: tuple(cell for table in tables for cell in table.columns[name])
            for name in tables[0].columns
        },
    )


def _cutoffs(one: Scored) -> Float[np.ndarray, " cases"]:
    cutoff = youden_cutoff(one.validation.labels, one.validation.scores)
    return np.full(len(one.test), cutoff)
