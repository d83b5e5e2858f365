"""Steps that the runs of one process share, so that a study compiles each shape once."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from thyrojax.config import Config
from thyrojax.shapes import Float
from thyrojax.train.members import score_members, train_members
from thyrojax.train.schedule import make_optimizer
from thyrojax.train.step import make_score_step, make_train_step

# What the host alone reads, and no step depends on.
HOST_FIELDS = (
    "name",
    *("crop_shape", "border", "margin_min", "margin_max", "margin_eval", "margin_unit"),
    *("flip", "vertical_flip", "gain", "contrast", "time_gain", "rotation", "zoom", "speckle"),
    *("blur", "erase", "mixup", "cutmix"),
    *("feed", "cache_mb", "on_bad_record", "steps_per_dispatch"),
    *("split", "split_seed", "split_by", "train_share", "near_duplicates"),
    *("validation_fraction", "test_fraction", "folds", "fold", "inner_folds", "inner_fold"),
    *("weights", "mapping"),
    *("eval_every", "patience", "log_every", "log_images", "keep_every", "grace_seconds"),
)
# What beside them scoring does not depend on.
TRAINING_FIELDS = (
    *("seed", "aux_weight", "remat"),
    *("epochs", "steps", "batch_size", "accumulate", "optimizer", "lr", "trunk_lr_scale"),
    *("layer_lr_decay", "head_epochs", "unfreeze_epochs", "freeze_bn", "warmup_fraction"),
    *("schedule", "weight_decay", "momentum", "clip_norm", "label_smoothing", "focal_gamma"),
    *("class_weights", "ema", "swa_start"),
)
_DEFAULTS = {field.name: field.default for field in dataclasses.fields(Config)}
_KEPT = 8  # shapes
MOST_MAPS = 20_000  # of the 65,530 memory maps that Linux allows a process


class Steps(NamedTuple):
    """The per-device steps of all members of a run; `mapping` spreads them over devices."""

    train: Callable[..., Any]
    score: Callable[..., Any]


def steps_of(config: Config, n_train: int, class_weights: Float[np.ndarray, " classes"]) -> Steps:
    """A run's steps: the same functions as before where they would do the same.

    Args:
      config: of the run.
      n_train: training records.
      class_weights: as `make_train_step`.
    """
    make_room()
    weights = tuple(float(weight) for weight in class_weights)
    return Steps(_train_step(without(config, HOST_FIELDS), n_train, weights), score_step_of(config))


def score_step_of(config: Config) -> Callable[..., Any]:
    """A run's scoring step, that of `steps_of`."""
    return _score_step(without(config, (*HOST_FIELDS, *TRAINING_FIELDS)))


def without(config: Config, fields: tuple[str, ...]) -> Config:
    """A configuration with some fields as they are by default."""
    plain: dict[str, Any] = {name: _DEFAULTS[name] for name in fields}
    return dataclasses.replace(config, **plain)


@functools.lru_cache(maxsize=_KEPT)
def _train_step(config: Config, n_train: int, weights: tuple[float, ...]) -> Callable[..., Any]:
    optimizer = make_optimizer(config, n_train)
    step = make_train_step(config, optimizer, np.asarray(weights, np.float32))
    return train_members(config, step)


@functools.lru_cache(maxsize=_KEPT)
def _score_step(config: Config) -> Callable[..., Any]:
    return score_members(config, make_score_step(config))


def make_room() -> None:
    """Forgets all compiled programs where they take more than `MOST_MAPS`.

    JAX frees none by itself, and on a CPU a step's takes some 1,500 maps; the compiler crashes on
    the way to the last one that Linux allows.
    """
    maps = Path("/proc/self/maps")
    if maps.is_file() and maps.read_bytes().count(b"\n") > MOST_MAPS:
        jax.clear_caches()
