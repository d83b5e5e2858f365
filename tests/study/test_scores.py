"""Scores read back: folds are pooled, networks of inner folds averaged."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from thyrojax.analysis.cutoff import youden_cutoff
from thyrojax.config import Config
from thyrojax.errors import RunError
from thyrojax.study.plan import Arm, Combined, Unit, conditions_of
from thyrojax.study.run import predictions_file
from thyrojax.study.scores import read_outcomes

ARMS = [Arm("whole", "one network"), *(Arm(f"inner{k}", "", ingredient=True) for k in range(2))]
MEAN = Combined("folds", "mean of inner folds", ("inner0", "inner1"))
TEST = {"t0": 0, "t1": 1, "t2": 0, "t3": 1}


def write(path: Path, labels: dict[str, int], scores: list[float], split: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image_id", "patient_id", "label", "score", "split", "fold"])
        for (name, label), score in zip(labels.items(), scores, strict=True):
            rows.writerow([name, name, label, score, split, 0])


def units(workdir: Path, validation: list[dict[str, int]]) -> list[Unit]:
    made = [Unit(arm, replace(Config(), seed=0), "") for arm in ARMS]
    for place, unit in enumerate(made):
        (scoring,) = unit.arm.scorings
        scores = [0.1 + 0.1 * place, 0.9, 0.5, 0.4 + 0.2 * place]
        write(predictions_file(unit, scoring, "test", workdir), TEST, scores, "test")
        labels = validation[place]
        of_class = [0.3 + 0.4 * label + 0.1 * place for label in labels.values()]
        write(predictions_file(unit, scoring, "val", workdir), labels, of_class, "validation")
    return made


def test_inner_folds_are_averaged_and_their_validation_parts_put_together(tmp_path: Path) -> None:
    parts = [{"v0": 0, "v1": 1}, {"v0": 0, "v2": 1}, {"v1": 1, "v3": 0}]
    made = units(tmp_path, parts)
    whole, folds = read_outcomes(conditions_of(ARMS), [MEAN], made, tmp_path)
    assert (whole.name, folds.name) == ("whole", "folds")  # an ingredient has no row of its own
    np.testing.assert_allclose(folds.scores, [[0.25, 0.9, 0.5, 0.7]])
    # v0 and v2 by the first network, v1 and v3 by the second.
    cutoff = youden_cutoff(np.array([0, 1, 1, 0]), np.array([0.4, 0.8, 0.9, 0.5]))
    np.testing.assert_allclose(folds.cutoffs, cutoff)


def test_seeds_of_other_nodules_are_refused(tmp_path: Path) -> None:
    arms = ARMS[:1]
    first, second = (Unit(arms[0], replace(Config(), seed=seed), "") for seed in range(2))
    for unit, prefix in ((first, "t"), (second, "u")):
        for part in ("test", "val"):
            labels = {f"{prefix}{k}": k % 2 for k in range(4)}
            path = predictions_file(unit, arms[0].scorings[0], part, tmp_path)
            write(path, labels, [0.1, 0.9, 0.1, 0.9], part)
    with pytest.raises(RunError, match="whole, seed 1: found other nodules or labels than seed 0"):
        read_outcomes(conditions_of(arms), [], [first, second], tmp_path)


def test_validation_parts_that_overlap_in_part_are_refused(tmp_path: Path) -> None:
    made = units(tmp_path, [{"v0": 0, "v1": 1}, {"v0": 0, "v1": 1}, {"v0": 0, "v2": 1}])
    with pytest.raises(RunError, match="combined: found networks of different nodules"):
        read_outcomes(conditions_of(ARMS), [MEAN], made, tmp_path)
