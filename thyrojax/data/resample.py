"""Cutting and resizing inside jit: `crop.crop_numpy` for a frame that lives on an accelerator.

A crop is read at four places of the frame for every pixel of the output ("taps"): two rows times
two columns, each with a weight. Without rotation the taps are separable, one vector for the rows
and one for the columns, from whole numbers alone, so that they are exact. `tools/bench_crop.py`
measures the samplers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from thyrojax.config import Border
from thyrojax.shapes import Array, Float, Int, UInt8


class Taps(NamedTuple):
    """Where an axis of a frame is read: two rows (or columns) for each place, and their weights.

    All of one shape: [size, 1] or [1, size] where the places are separable, else [size, size].
    """

    first: Int[Array, ...]
    second: Int[Array, ...]
    first_weight: Float[Array, ...]  # 0 where the tap lies outside a frame with border 0
    second_weight: Float[Array, ...]


# Where outputs lie in a window along one axis: the input before each, and the way beyond it (0..1).
Places = tuple[Any, Any]


def grid_places(length: Int[Array, ""], size: int) -> Places:
    """Where `size` outputs lie over `length` inputs, int32 [size] and float32 [size].

    Half-pixel centres, held inside the inputs: (i + 0.5) length / size - 0.5. Times 2 size this is
    a whole number, so that only the last division rounds. At the last input the way beyond is 0, so
    that nothing outside the window shows.
    """
    place = (2 * jnp.arange(size, dtype=jnp.int32) + 1) * length - size
    place = jnp.clip(place, 0, (length - 1) * 2 * size)
    first = place // (2 * size)
    return first, (place - first * (2 * size)).astype(jnp.float32) / (2 * size)


def free_places(position: Float[Array, ...]) -> Places:
    """The places of positions in pixels of the window (0 = centre of its first), be they in it."""
    first = jnp.floor(position)
    return first.astype(jnp.int32), position - first


def frame_taps(
    places: Places, start: Int[Array, ""], frame_length: Int[Array, ""], border: Border
) -> Taps:
    """The taps in a frame of places in a window, which never reach beyond the frame.

    Args:
      places: of `grid_places` or `free_places`.
      start: of the window along this axis, in pixels of the frame.
      frame_length: of the frame itself, whatever it is padded to.
      border: what stands for what lies outside the frame.
    """
    first, part = places
    before, after = start + first, start + first + 1
    before_weight, after_weight = 1.0 - part, part
    if border in ("constant", "shift"):
        before_weight *= (before >= 0) & (before < frame_length)
        after_weight *= (after >= 0) & (after < frame_length)
    return Taps(
        _inside(before, frame_length, border),
        _inside(after, frame_length, border),
        before_weight,
        after_weight,
    )


def _inside(tap: Int[Array, ...], length: Int[Array, ""], border: Border) -> Int[Array, ...]:
    """As `crop._inside`, with a length that is known when it runs."""
    if border == "reflect":
        last = jnp.maximum(length - 1, 1)
        tap = last - jnp.abs(tap % (2 * last) - last)
    return jnp.clip(tap, 0, length - 1)


def gather(
    frames: UInt8[Array, "frames height width"], frame: Int[Array, ""], rows: Taps, columns: Taps
) -> Float[Array, "size size"]:
    """The crop of one frame: four taps read one by one, in float32."""

    def tap(row: Int[Array, ...], column: Int[Array, ...]) -> Float[Array, ...]:
        # Three indices rather than a flat one: faster, and good beyond 2^31 bytes of frames.
        pixel = frames.at[frame, row, column].get(
            mode="promise_in_bounds", wrap_negative_indices=False
        )
        return pixel.astype(jnp.float32)

    above = tap(rows.first, columns.first) * columns.first_weight
    above += tap(rows.first, columns.second) * columns.second_weight
    below = tap(rows.second, columns.first) * columns.first_weight
    below += tap(rows.second, columns.second) * columns.second_weight
    return above * rows.first_weight + below * rows.second_weight


def multiply(
    frames: UInt8[Array, "frames height width"], frame: Int[Array, ""], rows: Taps, columns: Taps
) -> Float[Array, "size size"]:
    """The same as two matrix products, for hardware that gathers slowly; separable taps only."""
    height, width = frames.shape[1:]
    pixels = lax.dynamic_index_in_dim(frames, frame, keepdims=False).astype(jnp.float32)

    def matrix(taps: Taps, length: int) -> Float[Array, "size length"]:
        lines = jnp.arange(length)[None]
        first, second, first_weight, second_weight = (x.reshape(-1, 1) for x in taps)
        return first_weight * (first == lines) + second_weight * (second == lines)

    highest = lax.Precision.HIGHEST  # in bfloat16 a crop would be wrong by a grey level
    squeezed = jnp.dot(matrix(rows, height), pixels, precision=highest)
    return jnp.dot(squeezed, matrix(columns, width).T, precision=highest)


Sampler = Callable[[Any, Any, Taps, Taps], Any]

# Crops a second by tools/bench_crop.py, jax 0.12, 384 x 384 from frames of 800 x 600, 32 a batch;
# OpenCV on two threads in the same run, on two cores that were busy with other work:
#
#          gather  map_coordinates  rows, then columns  products on a slice  on the frame  OpenCV
#   cpu     9,479              957               1,160                  270           124   7,043
#
# No other device was at hand. A GPU gathers as it reads; a TPU has matrix units and no fast gather.
SAMPLERS: dict[str, Sampler] = {"cpu": gather, "gpu": gather, "tpu": multiply}


def best_sampler(separable: bool, backend: str | None = None) -> Sampler:
    """The measured choice for a backend (default: jax's own)."""
    backend = jax.default_backend() if backend is None else backend
    return SAMPLERS.get(backend, gather) if separable else gather


def crop(
    frames: UInt8[Array, "frames height width"],
    frame: Int[Array, ""],
    frame_size: tuple[Int[Array, ""], Int[Array, ""]],
    corner: tuple[Int[Array, ""], Int[Array, ""]],
    places: tuple[Places, Places],
    border: Border,
) -> Float[Array, "size size"]:
    """What a frame's window shows at some places, float32 in 0..255.

    At the places of `grid_places` equal to `crop.crop_numpy` to 1e-3 grey levels. For one row of a
    batch: to be used under vmap, with `frames` unmapped.

    Args:
      frames: padded to a common size; the padding is never read.
      frame: number of the frame.
      frame_size: its own height and width.
      corner: top and left of the window.
      places: of the rows and of the columns, in the window: [size] each, or [size, size] each.
      border: what stands for what lies outside the frame.
    """
    rows = frame_taps(places[0], corner[0], frame_size[0], border)
    columns = frame_taps(places[1], corner[1], frame_size[1], border)
    separable = places[0][0].ndim == 1
    if separable:
        # Made once for a crop: fused into the sampling they would be made again for every pixel.
        rows, columns = lax.optimization_barrier((rows, columns))
        rows, columns = Taps(*(x[:, None] for x in rows)), Taps(*(x[None, :] for x in columns))
    return best_sampler(separable)(frames, frame, rows, columns)
