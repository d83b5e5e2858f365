"""Which parameters move at which step, and how fast, from optax's parts."""

from __future__ import annotations

import jax
import optax

from thyrojax import config as config_file
from thyrojax.config import Config
from thyrojax.errors import ConfigError
from thyrojax.shapes import PyTree

HEADS = ("fc", "AuxLogits")  # what is new in fine-tuning; everything else is the trunk
# From the top of the network down; below them is the stem, five convolutions that are one part.
BLOCKS = (
    *("Mixed_7c", "Mixed_7b", "Mixed_7a"),
    *("Mixed_6e", "Mixed_6d", "Mixed_6c", "Mixed_6b", "Mixed_6a"),
    *("Mixed_5d", "Mixed_5c", "Mixed_5b"),
)


def warmup_steps(config: Config, total_steps: int) -> int:
    """Steps of the linear warm-up."""
    return round(config.warmup_fraction * total_steps)


def make_schedule(config: Config, total_steps: int) -> optax.Schedule:
    """The heads' rate at each step: linear warm-up from 0, then cosine to 0 or constant."""
    warmup = warmup_steps(config, total_steps)
    if config.schedule == "cosine":
        return optax.warmup_cosine_decay_schedule(
            0.0 if warmup else config.lr, config.lr, warmup, total_steps
        )
    return optax.join_schedules(
        [optax.linear_schedule(0.0, config.lr, max(warmup, 1)), optax.constant_schedule(config.lr)],
        [warmup],
    )


def trunk_parts(config: Config) -> tuple[str, ...]:
    """The parts of the trunk that have a rate or a time of their own, from the top down."""
    by_block = config.layer_lr_decay < 1.0 or config.unfreeze_epochs > 0.0
    return (*BLOCKS, "stem") if by_block else ("trunk",)


def label_parts(params: PyTree, config: Config) -> PyTree:
    """ "head", or the part of the trunk, for every leaf."""
    parts = trunk_parts(config)

    def part(layer: str) -> str:
        if layer in HEADS:
            return "head"
        return layer if layer in parts else parts[-1]

    return jax.tree_util.tree_map_with_path(lambda path, _: part(path[0].key), params)


def first_steps(config: Config, n_train: int) -> dict[str, int]:
    """The step, from 0, that is the first to move each part of the trunk.

    The heads move alone for `head_epochs`; then the whole trunk with them, or with
    `unfreeze_epochs` the top block, and one part more each so many epochs (Howard & Ruder 2018,
    section 3.3). Parts whose time is not within the run stay as they were.
    """
    epoch = n_train / config.batch_size
    return {
        part: round((config.head_epochs + depth * config.unfreeze_epochs) * epoch)
        for depth, part in enumerate(trunk_parts(config))
    }


def check_phases(config: Config, n_train: int) -> None:
    """That the trunk's time comes, which only the size of the training part can tell.

    Raises:
      ConfigError: `head_epochs` are as many steps as the run, or more.
    """
    first = next(iter(first_steps(config, n_train).values()))
    total_steps = config_file.total_steps(config, n_train)
    if config.head_epochs and first >= total_steps:
        raise ConfigError(
            f"head_epochs: found {config.head_epochs}, {first} steps of this set, expected fewer "
            f"than the run's {total_steps}, or trunk_lr_scale 0 to train the heads alone"
        )


def kernels_only(params: PyTree) -> PyTree:
    """True for the leaves that weight decay applies to: kernels, not BatchNorm nor biases."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def make_optimizer(
    config: Config, n_train: int, schedule: optax.Schedule | None = None
) -> optax.GradientTransformation:
    """The optimizer of a run over `n_train` training records, a function of the step alone.

    The heads' rate is the schedule's, that of the trunk `trunk_lr_scale` of it, times
    `layer_lr_decay` for each block below the top one (Howard & Ruder 2018, section 3.2) and once
    more for the stem. A part's moments and its weight decay begin with its first step, as if it had
    not been there before. The structure of the state depends on the configuration alone.

    Args:
      config: the run's configuration.
      n_train: what an epoch is; any number will do where only the state's shapes are wanted.
      schedule: the heads' rate where it is not `make_schedule`'s.
    """
    schedule = schedule or make_schedule(config, config_file.total_steps(config, n_train))
    transformations = {"head": _transformation(config, schedule)}
    for depth, (part, first) in enumerate(first_steps(config, n_train).items()):
        scale = config.trunk_lr_scale * config.layer_lr_decay**depth
        waits = config.head_epochs + depth * config.unfreeze_epochs > 0.0
        transformations[part] = _trunk_transformation(config, schedule, scale, first, waits)
    by_part = optax.multi_transform(transformations, lambda params: label_parts(params, config))
    if not config.clip_norm:
        return by_part
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), by_part)


def _trunk_transformation(
    config: Config, schedule: optax.Schedule, scale: float, first: int, waits: bool
) -> optax.GradientTransformation:
    if scale == 0.0:
        return optax.set_to_zero()
    if not waits:
        return _transformation(config, lambda step: scale * schedule(step))
    # Its own steps are counted from its first one.
    moving = _transformation(config, lambda step: scale * schedule(step + first))
    return optax.conditionally_mask(moving, lambda step: step >= first)


def _transformation(config: Config, rate: optax.Schedule) -> optax.GradientTransformation:
    if config.optimizer == "adamw":
        return optax.adamw(rate, weight_decay=config.weight_decay, mask=kernels_only)
    # For the other two, weight decay is the classic L2 term of the gradient.
    decay = optax.add_decayed_weights(config.weight_decay, mask=kernels_only)
    if config.optimizer == "sgd":
        return optax.chain(decay, optax.sgd(rate, momentum=config.momentum, nesterov=True))
    # decay 0.9, epsilon 1.0: RMSProp as Szegedy et al. 2016, section 8, trained this network.
    return optax.chain(decay, optax.rmsprop(rate, decay=0.9, eps=1.0, momentum=config.momentum))
