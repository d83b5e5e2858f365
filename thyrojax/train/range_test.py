"""The learning-rate range test (Smith 2017, "Cyclical Learning Rates", section 3.3).

A network is trained for some steps whose rate rises from so low that nothing is learned to so high
that all is lost; the loss over the rates tells which of them are of use. Smith's rate rises evenly;
here it rises by a factor, and losses are smoothed, the test stopped and a rate suggested as by
fastai's `lr_find` (Howard & Gugger 2020, "fastai: A Layered API for Deep Learning").
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import optax

from thyrojax.config import Config
from thyrojax.data import splits
from thyrojax.data.dataset import open_dataset
from thyrojax.errors import ConfigError
from thyrojax.files import write_csv, write_whole
from thyrojax.report.figures import BLUE, GREY, VERMILLION, new_figure, render
from thyrojax.shapes import Float
from thyrojax.train.feeds import resident_feeding, stream_feeding
from thyrojax.train.loop import class_weights
from thyrojax.train.mapping import make_mapping
from thyrojax.train.schedule import make_optimizer
from thyrojax.train.start import Say, starting_variables
from thyrojax.train.state import create_state
from thyrojax.train.step import make_score_step, make_train_step

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SMOOTHING = 0.98  # share of the old average that a step keeps
DIVERGED = 4.0  # a smoothed loss of so many times the best ends the test
BELOW_LOWEST = 10.0  # the suggestion is the lowest loss's rate divided by this
LEAST_STEPS = 10


class RangeTest(NamedTuple):
    """A test's steps, and what they suggest.

    `smoothed` is the losses' average with decay `SMOOTHING`, without its bias to its start at 0.
    `lowest` is the step with the least of it, not counting the first tenth of the test, whose
    averages are of few batches (nor do they count for `diverged`). `suggested` is the rate of that
    step divided by `BELOW_LOWEST` (fastai's `minimum`), or None where the smoothed loss did not
    fall.
    """

    rates: Float[np.ndarray, " steps"]
    losses: Float[np.ndarray, " steps"]
    smoothed: Float[np.ndarray, " steps"]
    diverged: bool
    lowest: int
    suggested: float | None


def sweep(loss_of: Callable[[int], float], rates: Float[np.ndarray, " steps"]) -> RangeTest:
    """Takes steps 0, 1, ..., each at its rate, until the last or until the loss has diverged.

    Args:
      loss_of: takes a step and returns the loss of its batch before it.
      rates: rising.
    """
    losses: list[float] = []
    smoothed: list[float] = []
    average, diverged = 0.0, False
    first = len(rates) // 10
    for step in range(len(rates)):
        losses.append(loss_of(step))
        average = SMOOTHING * average + (1.0 - SMOOTHING) * losses[-1]
        smoothed.append(average / (1.0 - SMOOTHING ** (step + 1)))
        best = min(smoothed[first:], default=math.inf)
        diverged = not math.isfinite(losses[-1]) or smoothed[-1] > DIVERGED * best
        if diverged:
            break
    first = min(first, len(smoothed) - 1)
    values = np.asarray(smoothed)
    lowest = first + int(np.argmin(np.where(np.isfinite(values), values, np.inf)[first:]))
    return RangeTest(
        rates[: len(losses)],
        np.asarray(losses),
        values,
        diverged,
        lowest,
        float(rates[lowest]) / BELOW_LOWEST if lowest > first else None,
    )


def run_range_test(
    config: Config, data: Path, out: Path, *, low: float, high: float, steps: int, say: Say
) -> RangeTest:
    """Tests the rates of a configuration, and writes lr_range.csv, .png and .svg to `out`.

    The rates are of the heads, as `config.lr` is; `trunk_lr_scale` and `layer_lr_decay` hold, and
    all that is not frozen moves from the first step on. The training part is the one that a run
    of this configuration draws. No parameter is kept.

    Args:
      config: a run's configuration; its lr, schedule, epochs, steps and phases have no part.
      data: a built set.
      out: a folder, made as needed.
      low: the first step's rate.
      high: the last step's rate.
      steps: how many, one batch each.
      say: takes lines that tell how it goes.

    Raises:
      ConfigError: rates or steps that are no range, or a batch that the devices cannot share.
      DataError, WeightsError: the data or the weights cannot be used.
    """
    _check_range(low, high, steps)
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out}: found a file, expected a folder for the test")
    config = replace(
        config,
        head_epochs=0.0,
        unfreeze_epochs=0.0,
        ema=0.0,
        swa_start=0.0,
        members=1,
        steps_per_dispatch=1,
    )
    dataset = open_dataset(data, cache_mb=config.cache_mb if config.feed == "stream" else 0)
    parts = splits.chosen_split(config, dataset.records, dataset.near_duplicates)
    rows = parts["train"]
    labels = np.asarray([record.label for record in dataset.records])

    rising = optax.exponential_decay(low, steps - 1, high / low)
    optimizer = make_optimizer(config, len(rows), rising)
    train_step = make_train_step(config, optimizer, class_weights(labels[rows], config))
    score_step = make_score_step(config)
    mapping = make_mapping(
        config.mapping, train_step, score_step, config.batch_size, accumulate=config.accumulate
    )
    variables, _ = starting_variables(config, say)
    state = mapping.put(create_state(variables, optimizer, config))
    parts_of = (config, mapping, dataset, rows, parts["validation"])
    if config.feed == "resident":
        feeding = resident_feeding(*parts_of, train_step, score_step)
    else:
        feeding = stream_feeding(*parts_of, 0)
    rates = np.geomspace(low, high, steps)

    def loss_of(step: int) -> float:
        nonlocal state
        state, metrics = feeding.advance(state, step, 1)
        loss = float(np.asarray(mapping.get(metrics[0])["loss"]))
        if (step + 1) % LEAST_STEPS == 0:
            say(f"step {step + 1} of {steps}: rate {rates[step]:.1e}, loss {loss:.3f}")
        return loss

    found = sweep(loss_of, rates)
    if found.diverged:
        say(f"the loss diverged at step {len(found.losses)} of {steps}")
    numbers = np.arange(1, len(found.losses) + 1)
    table = np.stack([numbers, found.rates, found.losses, found.smoothed], axis=1)
    header = ("step", "lr", "loss", "smoothed_loss")
    write_csv(out / "lr_range.csv", [header, *([f"{x:.6g}" for x in row] for row in table)])
    drawn = render(draw_range_test, found)
    write_whole(out / "lr_range.png", drawn.png)
    write_whole(out / "lr_range.svg", drawn.svg)
    return found


def _check_range(low: float, high: float, steps: int) -> None:
    if not (math.isfinite(low) and low > 0.0):
        raise ConfigError(f"--low: found {low}, expected a number > 0")
    if not (math.isfinite(high) and high > low):
        raise ConfigError(f"--high: found {high}, expected a number > --low ({low})")
    if steps < LEAST_STEPS:
        raise ConfigError(f"--steps: found {steps}, expected a whole number >= {LEAST_STEPS}")


def draw_range_test(test: RangeTest) -> Figure:
    """Loss over rate: of each batch, smoothed, the lowest, and the suggested rate."""
    from matplotlib.ticker import FuncFormatter

    figure = new_figure(4.8, 3.6)
    axes = figure.subplots()
    axes.set_xscale("log")
    axes.plot(test.rates, test.losses, color=GREY, lw=0.8, label="each batch")
    axes.plot(test.rates, test.smoothed, color=BLUE, label="smoothed")
    if test.suggested is not None:
        axes.plot(
            test.rates[test.lowest],
            test.smoothed[test.lowest],
            marker="D",
            ms=7,
            ls="none",
            color=VERMILLION,
            label=f"lowest, at {test.rates[test.lowest]:.1e}",
        )
        axes.axvline(
            test.suggested, color=VERMILLION, ls="--", lw=1.2, label=f"lr={test.suggested:.1e}"
        )
    shown = test.smoothed[np.isfinite(test.smoothed)]
    if len(shown):  # single batches, and the end of a test that diverged, may leave the picture
        least, most = float(shown.min()), float(min(shown.max(), 1.5 * shown[0]))
        axes.set_ylim(max(0.0, least - 0.5 * (most - least)), most + 0.5 * (most - least) + 1e-6)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:.0e}"))
    axes.set_xlabel("rate of the heads")
    axes.set_ylabel("loss")
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    return figure
