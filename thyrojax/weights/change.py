"""Changes of weights that leave the function the same, or change it in a way that is asked for."""

from __future__ import annotations

from typing import Literal

import numpy as np

from thyrojax.errors import WeightsError
from thyrojax.weights import names
from thyrojax.weights.types import PREPROCESSING, Arrays

HEADS = ("params/fc/", "params/AuxLogits/", "batch_stats/AuxLogits/")


def fold_preprocessing(arrays: Arrays, given: str, wanted: str) -> Arrays:
    """Weights that give for images preprocessed one way what these give for another.

    The first convolution has no padding, so a scale and an offset of its input move into its
    kernel and its BatchNorm's mean without any difference but rounding.

    Args:
      arrays: for input preprocessed by `given`.
      given, wanted: keys of `PREPROCESSING`.
    """
    if given == wanted:
        return arrays
    kernel = arrays[names.FIRST_KERNEL].astype(np.float64)
    colours = kernel.shape[2]
    # given = wanted * ratio + shift, from the grey level that both are functions of
    (scale, offset), (new_scale, new_offset) = (
        np.asarray(PREPROCESSING[name], np.float64)[:, :colours] for name in (given, wanted)
    )
    if colours == 1 and any(len(set(values)) > 1 for values in PREPROCESSING[given]):
        raise WeightsError(
            f"preprocessing: found {given} with one colour, expected one that is equal for all"
        )
    ratio = scale / new_scale
    shift = offset - new_offset * ratio
    constant = np.einsum("hwio,i->o", kernel, shift)
    return arrays | {
        names.FIRST_KERNEL: (kernel * ratio[:, None]).astype(np.float32),
        names.FIRST_MEAN: (arrays[names.FIRST_MEAN] - constant).astype(np.float32),
    }


def fold_grey(arrays: Arrays, preprocessing: str) -> Arrays:
    """Weights for grey images of one channel, from those for three colours: the same function of
    three equal colours.

    Raises:
      WeightsError: a preprocessing that differs between the colours.
    """
    kernel = arrays[names.FIRST_KERNEL]
    if kernel.shape[2] == 1:
        return arrays
    if any(len(set(values)) > 1 for values in PREPROCESSING[preprocessing]):
        raise WeightsError(
            f"preprocessing: found {preprocessing}, which differs between the colours, expected "
            "one that does not (fold it first)"
        )
    red, green, blue = (kernel[:, :, i : i + 1] for i in range(3))
    return arrays | {names.FIRST_KERNEL: (red + green) + blue}


def spread_grey(arrays: Arrays) -> Arrays:
    """Weights for three colours from those for grey images: the mean of the colours is seen.

    Two thirds rounded equally and the exact rest, so that `fold_grey` gives back every bit.
    """
    kernel = arrays[names.FIRST_KERNEL]
    third = kernel / np.float32(3.0)
    return arrays | {
        names.FIRST_KERNEL: np.concatenate([third, third, kernel - (third + third)], axis=2)
    }


def fold_scales(arrays: Arrays) -> Arrays:
    """The same network with all BatchNorm scales one, for frameworks that have none.

    A scale moves into the kernel and the running mean. Units whose scales are one stay as they are.
    """
    changed: Arrays = {}
    for path, scale in arrays.items():
        if not path.endswith("/bn/scale") or (scale == 1).all():
            continue
        unit = path.removeprefix("params/").removesuffix("/bn/scale")
        kernel, mean = f"params/{unit}/conv/kernel", f"batch_stats/{unit}/bn/mean"
        changed[path] = np.ones_like(scale)
        changed[kernel] = arrays[kernel] * scale
        changed[mean] = arrays[mean] * scale
    return arrays | changed


def without_heads(arrays: Arrays) -> Arrays:
    """The trunk alone."""
    return {path: array for path, array in arrays.items() if not path.startswith(HEADS)}


def change_classes(arrays: Arrays, wanted: Literal["keep", "drop", "1000"]) -> Arrays:
    """The heads as asked: kept, left out, or without the background class that is number 0 of 1001.

    Raises:
      WeightsError: "1000" of a head with neither 1000 nor 1001 classes.
    """
    if wanted == "keep":
        return arrays
    if wanted == "drop":
        return without_heads(arrays)
    found = len(arrays.get(names.HEAD_BIAS, ()))
    if found == 1000:
        return arrays
    if found != 1001:
        raise WeightsError(f"classes: found {found or 'no'} classes, expected 1001 or 1000")
    heads = (names.HEAD_KERNEL, names.HEAD_BIAS, names.AUX_KERNEL, names.AUX_BIAS)
    return arrays | {path: arrays[path][..., 1:] for path in heads if path in arrays}
