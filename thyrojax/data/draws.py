"""What a training batch is to hold: a function of (seed, step), on host and accelerator alike.

Every row of every batch has a number of its own, step * batch_size + row. It says which epoch the
row is of and where in that epoch's order it stands, and it is the counter of all that is drawn for
it. So any row can be had alone, on any device, and an epoch sees every nodule once. All is drawn
whether used or not, so that switching one augmentation off leaves the others as they were.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from thyrojax.config import Config
from thyrojax.data import random_bits
from thyrojax.data.crop import margin_pixels
from thyrojax.data.dataset import Record
from thyrojax.errors import DataError
from thyrojax.shapes import Float, Int

Draws = dict[str, Any]  # name -> array [rows]

# What each stream of random bits is for; a counter's second word.
_ORDER, _BATCH = 0, 1
_STREAMS = (
    ("margin", "flip"),
    ("vertical_flip", "gain"),
    ("contrast", "time_gain"),
    ("rotation", "zoom"),
    ("speckle", "blur"),
    ("erase", "erase_grey"),
    ("erase_area", "erase_aspect"),
    ("erase_x", "erase_y"),
    ("mix", "cut"),
    ("cut_x", "cut_y"),
)
MOST_ROWS = 2**32  # of a whole run: the numbers of rows are 32 bits
QUANTILES = 1025  # of the Beta distribution of mixing weights
# Turns are drawn in whole steps, so that host and device can look up the same sines.
STEPS_PER_DEGREE, STEPS_PER_ZOOM = 64, 1024


def most_bad(n_records: int) -> int:
    """How many of a part's records may be unreadable with `on_bad_record="skip"`: 1 %."""
    return n_records // 100


def margin_bounds(
    config: Config, records: Sequence[Record]
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """The least and the largest training margin of each record in whole pixels, int32.

    Raises:
      DataError: margins in millimetres, and a record without pixel spacing.
    """
    low, high = (
        np.array([margin_of(record, margin, config) for record in records], np.int32)
        for margin in (config.margin_min, config.margin_max)
    )
    return low, high


def margin_of(record: Record, margin: int, config: Config) -> int:
    """A margin in the configuration's unit as whole pixels of a record's frame.

    Raises:
      DataError: it is in millimetres, and the record has no pixel spacing; it is more than
        `crop.MOST_MARGIN` pixels.
    """
    if config.margin_unit == "mm" and not record.pixel_spacing_mm:
        raise DataError(
            f"{record.image_id}: found no pixel spacing, expected one for margins in mm; "
            "take margin_unit px"
        )
    try:
        return margin_pixels(margin, config.margin_unit, record.pixel_spacing_mm)
    except ValueError as error:
        raise DataError(f"{record.image_id}, {error}") from None


def mixing_weights(config: Config) -> Float[np.ndarray, "2 quantiles"]:
    """Quantiles of the partner's weight under mixup and under CutMix, at equal steps of 0..1.

    Beta(a, a) each (Zhang et al. 2018, Yun et al. 2019); zeros where it is off.
    """
    table = np.zeros((2, QUANTILES), np.float32)
    for row, alpha in enumerate((config.mixup, config.cutmix)):
        if alpha:
            from scipy.stats import beta

            table[row] = beta.ppf(np.linspace(0.0, 1.0, QUANTILES), alpha, alpha)
    return table


def draw(
    xp: Any,
    config: Config,
    count: int,
    step: Any,
    rows: Int[Any, " rows"],
    *,
    margin_low: Int[Any, " n"],
    margin_high: Int[Any, " n"],
    weights: Float[Any, "2 quantiles"],
    seed: int,
) -> Draws:
    """The draws of some rows of one batch.

    Args:
      xp: numpy or jax.numpy.
      config: margins, augmentation and batch size.
      count: of the records of the part.
      step: the batch's number from 0, an int or a scalar of jax.
      rows: numbers of the rows in the whole batch, int32.
      margin_low, margin_high: `margin_bounds` of the part's records.
      weights: `mixing_weights`.
      seed: any whole number; its lowest 32 bits count.

    Returns:
      Arrays [rows]: `position` int32 in the part's records; `margin` int32, pixels; `flip` and
      `vertical_flip` bool; `gain`, `contrast`, `zoom` float32 factors; `time_gain` float32 slope;
      `rotation` float32, degrees (in whole steps, as `zoom`); `speckle` and `blur` float32 standard
      deviations; `erase` bool and `erase_area`, `erase_aspect`, `erase_x`, `erase_y`, `erase_grey`
      float32 in [0, 1);
      `partner` int32, the row of the batch that is mixed in; `mix` float32, its weight; `cut` bool,
      whether it is pasted (CutMix) rather than blended; `cut_x`, `cut_y` float32 in [0, 1);
      `number` uint32, the row's own.
    """
    seed = seed % 2**32
    unsigned = xp.asarray(rows).astype(xp.uint32)
    # In uint32 throughout: NumPy's scalars and jax's would overflow otherwise.
    number = xp.full_like(unsigned, config.batch_size) * xp.asarray(step, xp.uint32) + unsigned
    size = xp.full_like(number, count)
    epoch, place = number // size, number % size
    position = random_bits.shuffled(xp, seed, _ORDER, epoch, place, count)

    names = [name for pair in _STREAMS for name in pair]
    streams = xp.arange(1, len(_STREAMS) + 1, dtype=xp.uint32)[:, None]
    counters = xp.broadcast_arrays(number[None], streams)
    words = random_bits.threefry(xp, (seed, _BATCH), tuple(counters))
    shares = random_bits.uniform(xp, xp.stack(words, axis=1).reshape(len(names), -1))
    drawn: Draws = dict(zip(names, shares, strict=True))

    def around(name: str, centre: float, most: float) -> Any:
        return (centre - most + 2.0 * most * drawn[name]).astype(xp.float32)

    def stepwise(name: str, most: float, steps: int) -> Any:
        number = math.floor(most * steps)
        steps_drawn = random_bits.whole(xp, drawn[name], -number, number)
        return steps_drawn.astype(xp.float32) * xp.asarray(1.0 / steps, xp.float32)

    cut = drawn["cut"] < (1.0 if not config.mixup else 0.5) if config.cutmix else drawn["cut"] < 0.0
    # Which of the two tables, then linear between its quantiles.
    at = drawn["mix"] * (QUANTILES - 1)
    below = xp.floor(at).astype(xp.int32)
    kind = cut.astype(xp.int32)
    table = xp.asarray(weights)
    lower, upper = table[kind, below], table[kind, below + 1]
    part = at - below.astype(xp.float32)
    return {
        "number": number,
        "position": position,
        "margin": random_bits.whole(
            xp, drawn["margin"], margin_low[position], margin_high[position]
        ),
        "flip": drawn["flip"] < (0.5 if config.flip else 0.0),
        "vertical_flip": drawn["vertical_flip"] < (0.5 if config.vertical_flip else 0.0),
        "gain": around("gain", 1.0, config.gain),
        "contrast": around("contrast", 1.0, config.contrast),
        "time_gain": around("time_gain", 0.0, config.time_gain),
        "rotation": stepwise("rotation", config.rotation, STEPS_PER_DEGREE),
        "zoom": 1.0 + stepwise("zoom", config.zoom, STEPS_PER_ZOOM),
        "speckle": (config.speckle * drawn["speckle"]).astype(xp.float32),
        "blur": (config.blur * drawn["blur"]).astype(xp.float32),
        "erase": drawn["erase"] < config.erase,
        **{
            name: drawn[name]
            for name in ("erase_area", "erase_aspect", "erase_x", "erase_y", "erase_grey")
        },
        "partner": _partner(xp, config, seed, step, rows),
        "mix": lower + (upper - lower) * part,
        "cut": cut,
        "cut_x": drawn["cut_x"],
        "cut_y": drawn["cut_y"],
    }


def _partner(xp: Any, config: Config, seed: int, step: Any, rows: Any) -> Any:
    """The row that each row is mixed with: one shift for the whole batch, never onto itself."""
    rows = xp.asarray(rows).astype(xp.int32)
    if config.batch_size == 1:
        return rows
    counter = xp.full_like(rows, 1).astype(xp.uint32)[:1]
    word = random_bits.threefry(
        xp, (seed, _BATCH), (counter * xp.asarray(step, xp.uint32), counter * 0)
    )[0]
    shift = random_bits.whole(xp, random_bits.uniform(xp, word), 1, config.batch_size - 1)
    return (rows + shift) % config.batch_size
