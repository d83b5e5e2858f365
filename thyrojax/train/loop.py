"""Training a run from its configuration, in the order in which things happen."""

from __future__ import annotations

import contextlib
import math
import time
from pathlib import Path
from typing import Any

import numpy as np

from thyrojax.config import Config
from thyrojax.data import stream
from thyrojax.data.dataset import open_dataset
from thyrojax.errors import RunError
from thyrojax.shapes import Float, Int
from thyrojax.train import checkpoint
from thyrojax.train.logs import RunLog
from thyrojax.train.mapping import Mapping, make_mapping
from thyrojax.train.schedule import make_optimizer, make_schedule
from thyrojax.train.scoring import part_figures, score_rows
from thyrojax.train.start import Say, open_run, starting_state
from thyrojax.train.state import evaluation_variables
from thyrojax.train.step import make_score_step, make_train_step


def train(config: Config, data: Path, run: Path, *, quiet: bool = False, say: Say = print) -> None:
    """Trains `run` to its last step, from its latest checkpoint where it has one.

    Args:
      config: the run's configuration.
      data: a built set (`data.builder.build`).
      run: the run's folder, new or to be continued.
      quiet: no progress bar.
      say: takes the lines that tell how the run starts and how its validations go.

    Raises:
      ConfigError: the folder holds a run of another configuration, or an option cannot be used.
      DataError, WeightsError: the data or the weights cannot be used.
      RunError: a loss or gradient is not finite (the step is named), or a checkpoint is damaged.
    """
    # ---- Data: which nodules are for training, which for validation.
    dataset = open_dataset(data, cache_mb=config.cache_mb)
    labels = np.asarray([record.label for record in dataset.records])
    parts = open_run(config, dataset, run)
    train_rows, validation_rows = parts["train"], parts["validation"]
    epoch = len(train_rows) / config.batch_size  # in steps
    total_steps = config.steps or math.ceil(config.epochs * epoch)
    validate_every = max(round(config.eval_every * epoch), 1)

    # ---- The step, over all devices.
    optimizer = make_optimizer(config, total_steps)
    learning_rate = make_schedule(config, total_steps)
    mapping = make_mapping(
        config.mapping,
        make_train_step(config, optimizer, class_weights(labels[train_rows], config)),
        make_score_step(config),
        config.batch_size,
    )

    # ---- The state to start from.
    with contextlib.ExitStack() as stack:
        checkpoints = stack.enter_context(checkpoint.open_checkpoints(run))  # ends saves under way
        state = starting_state(config, optimizer, run, checkpoints, say)
        first_step = int(state.step)
        state = mapping.put(state)

        # ---- The steps. Between two log lines nothing waits for the device.
        batches = stream.TrainFeed(dataset, train_rows, config).batches(config.seed, first_step)
        log = stack.enter_context(RunLog(run, first_step, total_steps, quiet))
        pending: list[dict[str, Any]] = []
        started = time.perf_counter()
        for step in range(first_step + 1, total_steps + 1):
            batch = next(batches)
            state, metrics = mapping.train(
                state, {"image": batch["image"], "label": batch["label"]}
            )
            pending.append(metrics)
            validate = step % validate_every == 0 or step == total_steps

            if validate or step % config.log_every == 0:
                figures = _means(pending, step, mapping)
                seconds = time.perf_counter() - started
                log.training(
                    {
                        "step": step,
                        "epoch": step / epoch,
                        **figures,
                        "learning_rate": float(learning_rate(step - 1)),
                        "images_per_second": len(pending) * config.batch_size / seconds,
                    }
                )
                pending = []
                started = time.perf_counter()

            if validate:
                scores = score_rows(
                    mapping,
                    evaluation_variables(state),
                    dataset,
                    validation_rows,
                    config,
                    config.margin_eval,
                )
                found = part_figures(labels[validation_rows], scores)
                log.validation({"step": step, "epoch": step / epoch, **found})
                checkpoint.save(checkpoints, mapping.get(state), found)
                say(
                    f"step {step} of {total_steps}: validation AUC {found['val_auc']:.3f}, "
                    f"loss {found['val_loss']:.3f}, accuracy {found['val_accuracy']:.3f}"
                )
                started = time.perf_counter()


def class_weights(labels: Int[np.ndarray, " n"], config: Config) -> Float[np.ndarray, " 2"]:
    """Weight of each class in the loss: 1, or balanced (n / (2 n_class)), whose mean is 1."""
    if config.class_weights == "none":
        return np.ones(2, np.float32)
    counts = np.bincount(labels, minlength=2)
    return (len(labels) / (2.0 * np.maximum(counts, 1))).astype(np.float32)


def _means(pending: list[dict[str, Any]], last_step: int, mapping: Mapping) -> dict[str, float]:
    """The metrics of the steps since the last log line, fetched and averaged.

    Raises:
      RunError: one of them is not finite; the message names the first such step.
    """
    fetched = [{name: float(x) for name, x in mapping.get(one).items()} for one in pending]
    for step, one in enumerate(fetched, start=last_step - len(fetched) + 1):
        bad = [f"{name} {value}" for name, value in one.items() if not math.isfinite(value)]
        if bad:
            raise RunError(
                f"step {step}: found {', '.join(bad)}, expected finite numbers; "
                "a lower lr or a longer warmup_fraction may help"
            )
    return {name: float(np.mean([one[name] for one in fetched])) for name in fetched[0]}
