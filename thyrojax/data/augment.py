"""Changes to training crops that a scanner, a probe or a tissue could have made, and mixing.

Written once for NumPy and jax.numpy (`xp`), so that both feeds make the same of the same draws
(`draws.draw`). Which of them are on is the configuration's; the draws say how much. In the order in
which they are made:

- `flip`: left and right are a matter of how the probe is held. Up and down are not: sound comes
  from above, so shadows and enhancement lie below what casts them; hence `vertical_flip` is off.
- `rotation`, `zoom`: the probe's tilt and the depth setting, within a few degrees and per cent.
- `speckle`: the grain of coherent sound. Fully developed speckle has a Rayleigh amplitude
  (Burckhardt 1978) and multiplies the echo; here it is two input pixels wide.
- `blur`: a probe of lower frequency, or a poor focus.
- `time_gain`: the time-gain compensation set too steep or too flat: brightness falls or rises
  linearly with depth, and is kept in the middle.
- `gain`, `contrast`: overall gain; dynamic range, as the distance from the mean brightness.
- `erase`: a grey rectangle, never over the box (after Zhong et al. 2020), so that the surroundings
  cannot be relied upon.
- `mixup` (Zhang et al. 2018) and `cutmix` (Yun et al. 2019) mix whole rows of a batch, labels
  included. They imitate no scanner; they only smooth what is learned.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from thyrojax.config import Config
from thyrojax.data import draws, random_bits
from thyrojax.data.draws import Draws

_SPECKLE = 2  # stream of random bits; a counter is (the row's number, a grain)
_RAYLEIGH_MEAN, _RAYLEIGH_DEVIATION = math.sqrt(math.pi / 2.0), math.sqrt(2.0 - math.pi / 2.0)
_ERASED = (0.02, 0.2)  # share of the crop that a rectangle covers before the box is spared
_ASPECT = (0.3, 1.0 / 0.3)  # of its height to its width
# By the steps of rotation and of zoom (up to a factor of 2); the latter's reciprocals.
_COSINES = np.cos(np.deg2rad(np.arange(360 * draws.STEPS_PER_DEGREE) / draws.STEPS_PER_DEGREE))
_COSINES = _COSINES.astype(np.float32)
_NEARER = draws.STEPS_PER_ZOOM / np.maximum(np.arange(2 * draws.STEPS_PER_ZOOM + 1), 1)
_NEARER = _NEARER.astype(np.float32)


def turns(config: Config) -> bool:
    """Whether crops are rotated or zoomed, so that their rows and columns are not the frame's."""
    return bool(config.rotation or config.zoom)


def changes(config: Config) -> bool:
    """Whether crops are changed by more than geometry."""
    return bool(
        config.speckle
        or config.blur
        or config.time_gain
        or config.gain
        or config.contrast
        or config.erase
    )


def mixes(config: Config) -> bool:
    """Whether rows of a batch are mixed with each other."""
    return bool(config.mixup or config.cutmix)


def turned_positions(xp: Any, width: Any, height: Any, size: int, row: Draws) -> tuple[Any, Any]:
    """Where each pixel of a rotated and zoomed crop lies in its window, before any flip.

    To 2^-12 of a pixel, in whole numbers and products that are rounded one by one: an accelerator
    that computes a position twice, in a tap and in its weight, must not find two.

    Args:
      width, height: of the window in pixels.
      size: of the crop.
      row: one row's draws; `rotation` (degrees, clockwise as seen) and `zoom` are used.

    Returns:
      Columns and rows, float32 [size, size], 0 at the centre of the window's first pixel; they may
      lie outside the window, up to 8,000 pixels from its centre.
    """
    turn = xp.rint(row["rotation"] * draws.STEPS_PER_DEGREE).astype(xp.int32)
    zoom = xp.rint(row["zoom"] * draws.STEPS_PER_ZOOM).astype(xp.int32)
    cosines, full = xp.asarray(_COSINES), len(_COSINES)
    nearer = xp.asarray(_NEARER)[zoom]
    cosine = cosines[turn % full] * nearer
    sine = cosines[(turn - full // 4) % full] * nearer

    def stride(share: Any, length: Any) -> Any:
        """Of half an output's step across the window, in 2^-18 of a pixel."""
        pixels = share * xp.asarray(length, xp.float32)
        return xp.rint(pixels * xp.asarray(2.0**17 / size, xp.float32)).astype(xp.int32)

    place = 2 * xp.arange(size, dtype=xp.int32) - (size - 1)
    right, down = place[None, :], place[:, None]
    columns = stride(cosine, width) * right + stride(sine, height) * down + (width - 1) * 2**17
    rows = stride(cosine, height) * down - stride(sine, width) * right + (height - 1) * 2**17
    pixel = xp.asarray(2.0**-12, xp.float32)
    columns, rows = (((x + 2**5) >> 6).astype(xp.float32) * pixel for x in (columns, rows))
    return columns, rows


def change_crop(xp: Any, image: Any, row: Draws, config: Config, seed: int, box: Any) -> Any:
    """A crop after all changes but geometry and mixing.

    Args:
      xp: numpy or jax.numpy.
      image: float32 [size, size] in 0..255, already flipped.
      row: its draws, scalars.
      config: which changes are on.
      seed: the run's.
      box: bool [size, size], True where the crop shows the box; used by `erase`.

    Returns:
      float32 [size, size] in 0..255.
    """
    changed = image
    if config.speckle:
        changed = changed * _grain(xp, len(image), row, seed)
    if config.blur:
        changed = _blurred(xp, changed, row["blur"], math.ceil(3.0 * config.blur))
    if config.time_gain:
        depth = (2.0 * xp.arange(len(image), dtype=xp.float32) + 1.0) / len(image) - 1.0
        changed = changed * (1.0 + row["time_gain"] * depth)[:, None]
    if config.gain or config.contrast:
        gain, contrast = row["gain"], row["contrast"]
        mean = changed.mean(dtype=xp.float32)
        changed = changed * (gain * contrast) + mean * gain * (1.0 - contrast)
    if changed is not image:
        changed = xp.clip(changed, 0.0, 255.0)
    if config.erase:
        erased = _rectangle(xp, len(image), row) & ~box
        changed = xp.where(erased, 255.0 * row["erase_grey"], changed)
    return changed.astype(xp.float32)


def box_in_turned_crop(columns: Any, rows: Any, edges: Any) -> Any:
    """Where a crop of `turned_positions` shows its nodule's box, bool [size, size].

    Args:
      columns, rows: positions of the crop's pixels in its window.
      edges: the box in the window's pixels: x_min, y_min, x_max, y_max, half-open.
    """
    x_min, y_min, x_max, y_max = (edge - 0.5 for edge in edges)
    return (columns >= x_min) & (columns < x_max) & (rows >= y_min) & (rows < y_max)


def box_in_upright_crop(xp: Any, width: Any, height: Any, size: int, edges: Any) -> Any:
    """The same for an upright crop of a window of `width` x `height` pixels.

    In whole numbers, since pixels often fall on an edge of the box, where rounding would decide.
    """
    x_min, y_min, x_max, y_max = (2 * size * edge for edge in edges)
    place = 2 * xp.arange(size, dtype=xp.int32) + 1
    columns, rows = (place * width)[None, :], (place * height)[:, None]
    return (columns >= x_min) & (columns < x_max) & (rows >= y_min) & (rows < y_max)


def mix(
    xp: Any, images: Any, others: Any, labels: Any, other_labels: Any, drawn: Draws, config: Config
) -> tuple[Any, Any]:
    """Rows mixed with their partners.

    Args:
      xp: numpy or jax.numpy.
      images, others: the rows and their partners, float32 [rows, size, size, 1].
      labels, other_labels: 0 or 1, [rows].
      drawn: the rows' draws.
      config: `mixup` blends, `cutmix` pastes a rectangle; with both, each row has one of them.

    Returns:
      Images, and targets float32 [rows]: the share of malignant in each.
    """
    size = images.shape[1]
    weight = drawn["mix"]
    share = weight[:, None, None, None]
    mixed = images * (1.0 - share) + others * share
    if config.cutmix:
        # The square's share of the picture is the weight; what falls outside is not pasted.
        half = xp.sqrt(weight) * (size / 2.0)
        inside, edges = [], []
        for centre in ("cut_y", "cut_x"):
            middle = drawn[centre] * size
            start = xp.clip(xp.floor(middle - half + 0.5), 0, size).astype(xp.int32)[:, None]
            end = xp.clip(xp.floor(middle + half + 0.5), 0, size).astype(xp.int32)[:, None]
            place = xp.arange(size, dtype=xp.int32)[None, :]
            inside.append((place >= start) & (place < end))
            edges.append((end - start)[:, 0].astype(xp.float32))
        pasted = (inside[0][:, :, None] & inside[1][:, None, :])[..., None]
        cut = drawn["cut"]
        mixed = xp.where(cut[:, None, None, None], xp.where(pasted, others, images), mixed)
        weight = xp.where(cut, edges[0] * edges[1] / float(size * size), weight)
    targets = labels * (1.0 - weight) + other_labels * weight
    return mixed.astype(xp.float32), targets.astype(xp.float32)


def _grain(xp: Any, size: int, row: Draws, seed: int) -> Any:
    """Speckle's factor for each pixel: mean 1, standard deviation `row["speckle"]`."""
    side = (size + 1) // 2 + 1
    grains = xp.arange(side * side, dtype=xp.uint32)
    number = xp.full_like(grains, 0) + row["number"]
    words, _ = random_bits.threefry(xp, (seed % 2**32, _SPECKLE), (number, grains))
    amplitude = xp.sqrt(-2.0 * xp.log(random_bits.uniform(xp, words) + 2.0**-25))
    field = ((amplitude - _RAYLEIGH_MEAN) / _RAYLEIGH_DEVIATION).reshape(side, side)
    for axis in (0, 1):  # between four grains, with the same variance everywhere
        field = xp.moveaxis(field, axis, 0)
        near, far = field[:-1], field[1:]
        field = xp.stack([0.75 * near + 0.25 * far, 0.25 * near + 0.75 * far], axis=1)
        field = xp.moveaxis(field.reshape(-1, field.shape[-1])[:size], 0, axis)
    return xp.maximum(1.0 + row["speckle"] * field / 0.625, 0.0).astype(xp.float32)


def _blurred(xp: Any, image: Any, deviation: Any, radius: int) -> Any:
    """A Gaussian over rows and columns, cut at `radius`, edges repeated."""
    size = len(image)
    taps = xp.arange(-radius, radius + 1, dtype=xp.float32)
    weights = xp.exp(-0.5 * (taps / xp.maximum(deviation, 1e-2)) ** 2)
    weights = weights / weights.sum()
    padded = xp.pad(image, radius, mode="edge")
    rows = sum(weights[k] * padded[k : k + size] for k in range(2 * radius + 1))
    return sum(weights[k] * rows[:, k : k + size] for k in range(2 * radius + 1))


def _rectangle(xp: Any, size: int, row: Draws) -> Any:
    """Where the erasing rectangle lies, bool [size, size]; nowhere unless `row["erase"]`."""
    area = _ERASED[0] + (_ERASED[1] - _ERASED[0]) * row["erase_area"]
    aspect = _ASPECT[0] * (_ASPECT[1] / _ASPECT[0]) ** row["erase_aspect"]
    place = (xp.arange(size, dtype=xp.float32) + 0.5) / size
    high = abs(place - row["erase_y"]) <= 0.5 * xp.sqrt(area * aspect)
    wide = abs(place - row["erase_x"]) <= 0.5 * xp.sqrt(area / aspect)
    return high[:, None] & wide[None, :] & row["erase"]
