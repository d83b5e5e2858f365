"""What a study will cost: time from its own finished units, or from a measured machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from thyrojax.config import Config, total_steps
from thyrojax.data import splits
from thyrojax.data.dataset import Dataset, open_dataset
from thyrojax.study.plan import Unit
from thyrojax.study.run import is_finished, read_unit

# Of 2 cores of an AMD EPYC with AVX-512, jax 0.12.0.1 (docs/speed.md): training images/s at 384 px
# in float32, times pixels; what starting and compiling take; memory beside the batch, and of it.
PIXELS_PER_SECOND = 1.5 * 384**2
START_SECONDS = 40.0
STATE_BYTES = 0.9e9
BYTES_PER_PIXEL = 2300.0  # of a training batch
SCORING_SPEED = 5.0  # times that of training


class Estimate(NamedTuple):
    """One unit: seconds and bytes expected, and whether it is finished."""

    unit: Unit
    seconds: float
    memory: float
    finished: bool


def estimate_units(
    units: Sequence[Unit], sets: Mapping[str, Path], workdir: Path
) -> tuple[list[Estimate], str]:
    """Every unit's cost, and a sentence on where the figures are from.

    Work is pixels that pass through the network in training; scoring counts by its own speed.
    """
    opened = {name: open_dataset(path) for name, path in sets.items()}
    work = [_work(unit, opened[unit.arm.data]) for unit in units]
    finished = [is_finished(unit, workdir) for unit in units]
    rates = [
        amount / max(told["seconds"] - START_SECONDS, 1.0)
        for unit, amount, done in zip(units, work, finished, strict=True)
        if done and unit.arm.method == "train"
        for told in [read_unit(unit, workdir)]
        if not told["resumed"]  # whose time is that of the last start alone
    ]
    source = (
        f"times from {len(rates)} finished units of this study"
        if rates
        else "times as on 2 cores of an AMD EPYC (docs/speed.md)"
    )
    rate = float(np.median(rates)) if rates else PIXELS_PER_SECOND
    return [
        Estimate(
            unit,
            START_SECONDS + amount / rate,
            STATE_BYTES + BYTES_PER_PIXEL * unit.config.batch_size * unit.config.input_size**2,
            done,
        )
        for unit, amount, done in zip(units, work, finished, strict=True)
    ], source


def _work(unit: Unit, dataset: Dataset) -> float:
    """Pixels of training, and those of scoring over how much faster that is."""
    config: Config = unit.config
    pixels = config.input_size**2
    parts = splits.chosen_split(config, dataset.records, dataset.near_duplicates)
    scored = len(parts["test"]) + len(parts["validation"])
    if unit.arm.method == "frozen":
        return len(dataset) * pixels / SCORING_SPEED
    steps = total_steps(config, len(parts["train"]))
    validations = max(config.epochs / config.eval_every, 1.0) * len(parts["validation"])
    seen = scored * len(unit.arm.scorings) + validations
    return steps * config.batch_size * pixels + seen * pixels / SCORING_SPEED
