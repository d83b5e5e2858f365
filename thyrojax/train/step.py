"""One training step and one scoring step, per device; `mapping` spreads them over devices.

Needs jax, flax, optax and numpy only, so that any accelerator machine can time it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from thyrojax.config import Config
from thyrojax.model import Part, fold_batch_norm, normalise
from thyrojax.shapes import Array, Float, Num, PyTree
from thyrojax.train.accumulate import in_parts
from thyrojax.train.loss import batch_loss
from thyrojax.train.state import AXIS, TrainState, make_model

Metrics = dict[str, jax.Array]


def network_input(
    images: Num[Array, "batch size size 1"], config: Config
) -> Float[Array, "batch size size channels"]:
    """Grey crops of 0..255 as the network takes them: normalised, with one channel or three."""
    images = normalise(images)
    return images if config.grey else jnp.repeat(images, 3, axis=-1)


def make_train_step(
    config: Config,
    optimizer: optax.GradientTransformation,
    class_weights: Float[np.ndarray, " classes"],
    axis_name: str | None = AXIS,
) -> Callable[[TrainState, dict[str, Any]], tuple[TrainState, Metrics]]:
    """The per-device step: (state, batch) to (state, metrics).

    A batch has `image` [b, size, size, 1] in 0..255, `label` [b] and, where rows are mixed,
    `target` [b], the share of malignant; metrics are `loss`, `accuracy` and `gradient_norm`. Under
    `axis_name` the gradient is `pmean(grad(loss))` and BatchNorm statistics are those of the whole
    batch, so any number of devices computes the same step. With None it is the step of one device.
    A third argument is the key that dropout draws from, in place of the seed's (`members`).

    With `accumulate` the gradient is the mean over that many micro-batches of every so many-th row,
    one after the other at the same parameters: the update of the whole batch. Only BatchNorm sees
    the difference: a micro-batch is normalised by its own statistics, over all devices, and moves
    the running ones, so that they move `accumulate` times a step. Frozen, it does not.
    """
    model = make_model(config, axis_name).clone(remat=config.remat)

    def mean(tree: PyTree) -> PyTree:
        return tree if axis_name is None else jax.lax.pmean(tree, axis_name)

    def train_step(
        state: TrainState, batch: dict[str, Any], key: jax.Array | None = None
    ) -> tuple[TrainState, Metrics]:
        # The same key on every device: what differs by example (dropout) slices a global mask.
        key = jax.random.fold_in(jax.random.key(config.seed) if key is None else key, state.step)

        def of_part(
            batch_stats: PyTree, rows: dict[str, Any], part: Part | None
        ) -> tuple[PyTree, tuple[PyTree, jax.Array, jax.Array]]:
            targets = rows.get("target", rows["label"])

            def loss_of(params: PyTree) -> tuple[jax.Array, tuple[PyTree, jax.Array]]:
                ends: Any
                ends, updated = model.apply(
                    {"params": params, "batch_stats": batch_stats},
                    network_input(rows["image"], config),
                    train=True,
                    use_running_average=config.freeze_bn,
                    part=part,
                    rngs={"dropout": key},
                    mutable=["batch_stats"],
                )
                loss = batch_loss(ends, targets, class_weights, config)
                right = jnp.argmax(ends["logits"], -1) == rows["label"]
                return loss, (updated["batch_stats"], jnp.mean(right.astype(jnp.float32)))

            (loss, (updated, accuracy)), gradient = jax.value_and_grad(loss_of, has_aux=True)(
                state.params
            )
            return updated, (gradient, loss, accuracy)

        batch_stats, found = in_parts(of_part, config.accumulate, state.batch_stats, batch)
        gradient, loss, accuracy = mean(found)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = state.ema
        if config.ema:
            # TensorFlow's ramp, so that the average of a short run is not mostly its start.
            decay = jnp.minimum(config.ema, (1.0 + state.step) / (10.0 + state.step))
            ema = optax.incremental_update(
                {"params": params, "batch_stats": batch_stats}, ema, 1.0 - decay
            )
        metrics = {
            "loss": loss,
            "accuracy": accuracy,
            "gradient_norm": optax.tree.norm(gradient),
        }
        taken = dataclasses.replace(
            state,
            step=state.step + 1,
            params=params,
            batch_stats=batch_stats,
            opt_state=opt_state,
            ema=ema,
        )
        return taken, metrics

    return train_step


def make_score_step(
    config: Config,
) -> Callable[[dict[str, PyTree], Num[Array, "batch size size 1"]], Float[Array, " batch"]]:
    """The per-device scoring step: (variables, crops in 0..255) to probabilities of malignant.

    Where `config.fold_bn` says so, it folds BatchNorm into the convolutions first.
    """
    model = make_model(config).clone(folded=config.fold_bn)

    def score_step(
        variables: dict[str, PyTree], images: Num[Array, "batch size size 1"]
    ) -> Float[Array, " batch"]:
        if config.fold_bn:
            variables = fold_batch_norm(variables, config.bn_epsilon)
        ends: Any = model.apply(variables, network_input(images, config))
        return jax.nn.softmax(ends["logits"])[:, 1]

    return score_step
