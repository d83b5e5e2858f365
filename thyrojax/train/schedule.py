"""Learning rate and optimizer of a configuration, from optax's parts."""

from __future__ import annotations

import jax
import optax

from thyrojax.config import Config
from thyrojax.shapes import PyTree

HEADS = ("fc", "AuxLogits")  # what is new in fine-tuning; everything else is the trunk


def make_schedule(config: Config, total_steps: int) -> optax.Schedule:
    """The head's rate at each step: linear warm-up from 0, then cosine to 0 or constant."""
    warmup = round(config.warmup_fraction * total_steps)
    if config.schedule == "cosine":
        return optax.warmup_cosine_decay_schedule(
            0.0 if warmup else config.lr, config.lr, warmup, total_steps
        )
    return optax.join_schedules(
        [optax.linear_schedule(0.0, config.lr, max(warmup, 1)), optax.constant_schedule(config.lr)],
        [warmup],
    )


def label_groups(params: PyTree) -> PyTree:
    """ "head" or "trunk" for every leaf."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: "head" if path[0].key in HEADS else "trunk", params
    )


def kernels_only(params: PyTree) -> PyTree:
    """True for the leaves that weight decay applies to: kernels, not BatchNorm nor biases."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def make_optimizer(config: Config, total_steps: int) -> optax.GradientTransformation:
    """One optimizer with two rates; a trunk scale of 0 leaves the trunk's parameters alone."""
    schedule = make_schedule(config, total_steps)

    def group(scale: float) -> optax.GradientTransformation:
        if scale == 0.0:
            return optax.set_to_zero()
        return _transformation(config, lambda step: scale * schedule(step))

    return optax.multi_transform(
        {"head": group(1.0), "trunk": group(config.trunk_lr_scale)}, label_groups
    )


def _transformation(config: Config, rate: optax.Schedule) -> optax.GradientTransformation:
    if config.optimizer == "adamw":
        return optax.adamw(rate, weight_decay=config.weight_decay, mask=kernels_only)
    # For the other two, weight decay is the classic L2 term of the gradient.
    decay = optax.add_decayed_weights(config.weight_decay, mask=kernels_only)
    if config.optimizer == "sgd":
        return optax.chain(decay, optax.sgd(rate, momentum=config.momentum, nesterov=True))
    # decay 0.9, epsilon 1.0: RMSProp as Szegedy et al. 2016, section 8, trained this network.
    return optax.chain(decay, optax.rmsprop(rate, decay=0.9, eps=1.0, momentum=config.momentum))
