"""Training a run from its configuration, in the order in which things happen."""

from __future__ import annotations

import contextlib
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from thyrojax import config as config_file
from thyrojax import processes
from thyrojax.config import Config
from thyrojax.data import stream
from thyrojax.data.dataset import open_dataset
from thyrojax.errors import RunError
from thyrojax.files import write_json
from thyrojax.model.architecture import describe
from thyrojax.shapes import Float, Int
from thyrojax.train import checkpoint, distributed
from thyrojax.train.averaging import make_averaging
from thyrojax.train.early_stopping import out_of_patience, validation_aucs
from thyrojax.train.feeds import resident_feeding, stream_feeding
from thyrojax.train.file_seals import seal_files
from thyrojax.train.logs import RunLog
from thyrojax.train.mapping import Mapping, make_mapping
from thyrojax.train.occupation import occupied
from thyrojax.train.programs import steps_of
from thyrojax.train.provenance import record_start
from thyrojax.train.schedule import make_optimizer, make_schedule
from thyrojax.train.scoring import member_aucs, part_figures
from thyrojax.train.start import Say, check_processes, open_run, starting_state
from thyrojax.train.state import evaluation_variables, example_images, make_model
from thyrojax.train.stopping import StopRequest


def train(config: Config, data: Path, run: Path, *, quiet: bool = False, say: Say = print) -> bool:
    """Trains `run` to its last step, from its latest checkpoint where it has one.

    Stopped by SIGTERM it saves after the step under way; the next start goes on exactly.

    Args:
      config: the run's configuration.
      data: a built set (`data.builder.build`).
      run: the run's folder, new or to be continued.
      quiet: no progress bar.
      say: takes the lines that tell how the run starts and how its validations go.

    Returns:
      Whether the run has come to its end, the last step or that of `config.patience`; False where
      it was stopped.

    Raises:
      ConfigError: the folder holds a run of another configuration, or an option cannot be used.
      DataError, WeightsError: the data or the weights cannot be used.
      RunError: a loss or gradient is not finite (the step is named), every checkpoint is damaged
        or of another version, or another training of the run is under way.
    """
    # ---- Data: which nodules are for training, which for validation.
    # The resident feed reads each frame once, to have it elsewhere.
    dataset = open_dataset(data, cache_mb=config.cache_mb if config.feed == "stream" else 0)
    labels = np.asarray([record.label for record in dataset.records])
    parts = processes.first_then_others(lambda: open_run(config, dataset, run))
    drawn = run / "architecture.json"
    if processes.is_first() and not drawn.exists():  # it alone writes to the folder, tells of all
        write_json(drawn, describe(make_model(config), example_images(config)))
    train_rows, validation_rows = parts["train"], parts["validation"]
    epoch = len(train_rows) / config.batch_size  # in steps
    total_steps = config_file.total_steps(config, len(train_rows))
    validate_every = max(round(config.eval_every * epoch), 1)

    # ---- The step, over all devices.
    optimizer = make_optimizer(config, len(train_rows))
    learning_rate = make_schedule(config, total_steps)
    weights = class_weights(labels[train_rows], config)
    train_step, score_step = steps_of(config, len(train_rows), weights)
    mapping = make_mapping(
        config.mapping, train_step, score_step, config.batch_size, accumulate=config.accumulate
    )

    # ---- The state to start from.
    with contextlib.ExitStack() as stack:
        if processes.is_first():
            stack.enter_context(occupied(run))
        stop = stack.enter_context(StopRequest(config.grace_seconds, say))
        stack.callback(seal_files, run / "checkpoints")
        checkpoints = stack.enter_context(  # ends saves under way
            checkpoint.open_checkpoints(run, keep_steps=config.keep_every * validate_every)
        )
        stack.enter_context(distributed.leaving_when_lost())
        told_in = run
        if not processes.is_first():
            told_in = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            quiet, say = True, _not_said
        of = checkpoint.identity(config, dataset.info)
        state, since_line = starting_state(config, optimizer, run, checkpoints, of, say)
        check_processes(state)
        step = first_step = saved_step = int(state.step)
        if processes.is_first():
            record_start(run, first_step)
        state = mapping.put(state)

        # ---- What feeds it.
        parts_of = (config, mapping, dataset, train_rows, validation_rows)
        if config.feed == "resident":
            feeding = resident_feeding(*parts_of, train_step, score_step)
        else:
            feeding = stream_feeding(*parts_of, first_step)
        averaging = make_averaging(config, mapping, total_steps, feeding.statistics)
        say(feeding.summary)

        # ---- The steps. Between two log lines nothing waits for the device, but where the steps
        # under way would outlast a quarter of the grace period.
        log = stack.enter_context(RunLog(told_in, first_step, total_steps, quiet))
        ahead = 1
        aucs = validation_aucs(run, first_step)
        ended_early = out_of_patience(aucs, config.patience)
        while step < total_steps and not ended_early and not stop.asked:
            started, before, waited_for = time.perf_counter(), step, step
            line_at = min(
                _next_multiple(step, config.log_every),
                _next_multiple(step, validate_every),
                total_steps,
            )
            pending: list[dict[str, Any]] = []
            while step < line_at and not stop.asked:
                count = min(config.steps_per_dispatch, line_at - step)
                state, metrics = feeding.advance(state, step, count)
                pending += metrics
                step += count
                if step - waited_for >= ahead:
                    jax.block_until_ready(metrics[-1])
                    waited_for = step
                    stop.settle(0.0)
            since_line = _fetched(since_line, pending, before + 1, mapping)
            seconds = stop.settle(time.perf_counter() - started)
            ahead = max(1, int(config.grace_seconds / 4 * (step - before) / seconds))
            for found_at, image_id, reason in feeding.bad_records():
                log.bad_record({"step": found_at, "bad_record": image_id, "reason": reason})
            stream.check_few_bad(dataset.folder, log.bad_records, len(train_rows))
            if step < line_at:
                break
            log.training(
                {
                    "step": step,
                    "epoch": step / epoch,
                    **_means(since_line),
                    "learning_rate": float(learning_rate(step - 1)),
                },
                images_per_second=(step - before) * config.batch_size / seconds,
            )
            since_line = {}
            if config.log_images and (before == first_step or step % validate_every == 0):
                log.crops(before + 1, feeding.look(before), dataset.info["label_names"])

            if step % validate_every == 0 or step == total_steps:
                state = averaging.validated(state, step)
                scores = feeding.score(evaluation_variables(state))
                found = part_figures(labels[validation_rows], scores.mean(axis=1))
                found |= member_aucs(labels[validation_rows], scores, config)
                log.validation({"step": step, "epoch": step / epoch, **found})
                checkpoint.save(checkpoints, mapping.get(state), found, of, since_line)
                saved_step = step
                stop.settle(0.0)
                aucs.append(found["val_auc"])
                ended_early = out_of_patience(aucs, config.patience)
                say(
                    f"step {step} of {total_steps}: validation AUC {found['val_auc']:.3f}, "
                    f"loss {found['val_loss']:.3f}, accuracy {found['val_accuracy']:.3f}"
                )

        # ---- No better for too long, or asked to stop: saved where it is, between validations.
        if step < total_steps and ended_early:
            say(
                f"finished early at step {step} of {total_steps}: no better AUC in "
                f"{config.patience} validations"
            )
        elif step < total_steps:
            if step != saved_step:
                state = averaging.stopped(state)
                checkpoint.save(checkpoints, mapping.get(state), None, of, since_line)
            say(f"SIGTERM: stopped after step {step} of {total_steps}, to go on from there")
    return ended_early or step == total_steps


def _not_said(line: str) -> None:
    pass


def _next_multiple(step: int, of: int) -> int:
    return (step // of + 1) * of


def class_weights(labels: Int[np.ndarray, " n"], config: Config) -> Float[np.ndarray, " 2"]:
    """Weight of each class in the loss: 1, or balanced (n / (2 n_class)), whose mean is 1."""
    if config.class_weights == "none":
        return np.ones(2, np.float32)
    counts = np.bincount(labels, minlength=2)
    return (len(labels) / (2.0 * np.maximum(counts, 1))).astype(np.float32)


def _fetched(
    before: dict[str, list[float]],
    pending: list[dict[str, Any]],
    first_step: int,
    mapping: Mapping,
) -> dict[str, list[float]]:
    """The metrics of steps, fetched and put after those of the steps before: one value a step.

    Raises:
      RunError: one of them is not finite; the message names the first such step.
    """
    fetched = [mapping.get(one) for one in pending]  # of one step each, or of several
    if not fetched:
        return before
    values = {
        name: np.concatenate([np.atleast_1d(np.asarray(one[name])) for one in fetched])
        for name in fetched[0]
    }
    for place in range(len(values["loss"])):
        bad = [f"{name} {x[place]}" for name, x in values.items() if not math.isfinite(x[place])]
        if bad:
            raise RunError(
                f"step {first_step + place}: found {', '.join(bad)}, expected finite numbers; "
                "a lower lr or a longer warmup_fraction may help"
            )
    return {name: before.get(name, []) + x.astype(float).tolist() for name, x in values.items()}


def _means(values: dict[str, list[float]]) -> dict[str, float]:
    return {name: float(np.mean(x)) for name, x in sorted(values.items())}
