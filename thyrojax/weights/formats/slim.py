"""Checkpoints of TF-slim's Inception-v3, of both versions of TensorFlow's.

The container is read by `thyrojax.weights.formats.tf_bundle`, the names are in
`thyrojax.weights.names_slim`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from thyrojax.errors import WeightsError
from thyrojax.weights import names, names_slim
from thyrojax.weights.formats import tf_bundle
from thyrojax.weights.state_dict import FLOATS, Tensor
from thyrojax.weights.types import (
    VARIANTS,
    Arrays,
    Reading,
    Request,
    raise_faults,
    shape_fault,
    value_fault,
)

NAME = "slim"
DESCRIPTION = "TF-slim checkpoint (.index, or one file of version 1)"
recognises = tf_bundle.recognises

# The first whose name no other has: Mixed_7a's last two are also called Conv2d_1a_3x3.
LANDMARK = names_slim.to_slim("params/Conv2d_2b_3x3/conv/kernel")
_SHADOW = "/ExponentialMovingAverage"
# What TensorFlow's optimizers call what they keep of each variable.
_SLOT = re.compile(
    r".*/(Adam|AdamW|AdaMax|RMSProp|Momentum|Adagrad|AdagradDA|Adadelta|Ftrl|LARSOptimizer)(_\d+)?"
)
_COUNTERS = ("global_step", "beta1_power", "beta2_power", "local_step", "biased")


def read(path: Path, request: Request) -> Reading:
    """Reads the trunk, and slim's own heads.

    Where the file has moving averages of all weights only, those are read.

    Raises:
      WeightsError: one line with every fault: a variable that is missing, unknown, not finite, in
        parts, of another shape or type; or files that are damaged.
    """
    try:
        tensors = tf_bundle.load(path)
    except ValueError as error:
        raise WeightsError(f"{path}: {error}") from None
    prefix = _find_prefix(path, tensors)
    shapes, reasons = _heads(tensors, prefix, request)
    keys, notes = _keys(tensors, prefix, shapes)

    faults: list[str] = []
    for target, key in keys.items():
        if key not in tensors:
            faults.append(f"{key}: found none, expected it for {target}")
        elif fault := _fault(target, tensors[key], shapes[target]):
            faults.append(f"{key}: {fault}")
    used = set(keys.values())
    ignored = {key: reasons.get(key) or _reason(key, prefix) for key in tensors if key not in used}
    faults += [
        f"{key}: found an unknown variable, expected none" for key in ignored if not ignored[key]
    ]
    raise_faults(path, faults)

    arrays: Arrays = {}
    for target, key in keys.items():
        try:
            # A copy: the values must outlive the file, which may be replaced.
            arrays[target] = _values(target, tensors[key], shapes[target])
        except ValueError as error:
            faults.append(f"{key}: {error}")
            continue
        if fault := value_fault(target, arrays[target]):
            faults.append(f"{key}: {fault}")
    raise_faults(path, faults)
    for target, shape in shapes.items():
        if target not in arrays:  # scales, of which slim's own networks have none
            arrays[target] = np.ones(shape, np.float32)
    return Reading(arrays, tuple(keys.values()), ignored, VARIANTS["slim"], {}, tuple(notes))


def _find_prefix(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """What stands before the names of the network's variables: mostly `InceptionV3/`."""
    found = {
        key.removesuffix(_SHADOW).removesuffix(LANDMARK)
        for key in tensors
        if key.removesuffix(_SHADOW).endswith(LANDMARK)
    }
    if len(found) == 1:
        return found.pop()
    if any(".ATTRIBUTES/" in key for key in tensors):
        kind = "a checkpoint of objects, as Keras and TensorFlow 2 write them"
    else:
        kind = " and ".join(repr(prefix) for prefix in sorted(found)[:4]) or "none"
        kind = f"networks under {kind} among {len(tensors)} variables"
    raise WeightsError(
        f"{path}: found {kind}, expected one Inception-v3 of TF-slim with a {LANDMARK}"
    )


def _keys(
    tensors: Mapping[str, Tensor], prefix: str, shapes: names.Shapes
) -> tuple[dict[str, str], list[str]]:
    """Our path -> the variable that fills it, and what to say of moving averages.

    As TensorFlow's `ExponentialMovingAverage.variables_to_restore` has it, a file of averages keeps
    them for the weights and has the statistics of BatchNorm as they are.
    """
    plain = {path: prefix + names_slim.to_slim(path) for path in shapes}
    scales = [path for path in plain if path.endswith("/bn/scale")]
    if not any(plain[path] + suffix in tensors for path in scales for suffix in ("", _SHADOW)):
        plain = {path: key for path, key in plain.items() if path not in scales}
    shadows = {path: key + _SHADOW for path, key in plain.items() if key + _SHADOW in tensors}
    if not shadows:
        return plain, []
    if all(key in tensors for key in plain.values()):
        return plain, [f"moving averages: {len(shadows)} left out, the weights themselves are used"]
    return plain | shadows, [f"moving averages: {len(shadows)} used in the weights' place"]


def _heads(
    tensors: Mapping[str, Tensor], prefix: str, request: Request
) -> tuple[names.Shapes, dict[str, str]]:
    """Shapes of all that is wanted, and why variables of heads that are not are left out."""
    shapes = request.shapes()
    reasons: dict[str, str] = {}
    for scope, bias, make in (
        (names_slim.HEAD, names.HEAD_BIAS, names.head_shapes),
        (names_slim.AUX, names.AUX_BIAS, names.aux_shapes),
    ):
        keys = [key for key in tensors if key.startswith(f"{prefix}{scope}/")]
        if request.head == "drop":
            reasons |= dict.fromkeys(keys, "classifier: not asked for")
            continue
        key = prefix + names_slim.to_slim(bias)
        biases = tensors.get(key) or tensors.get(key + _SHADOW)
        if not keys:
            continue
        if biases is None or len(biases.shape) != 1 or biases.shape[0] < 1:
            reasons |= dict.fromkeys(keys, "foreign head: not slim's own")
            continue
        wanted = make(biases.shape[0], request.depth_multiplier)
        known = {prefix + names_slim.to_slim(path) for path in wanted}
        others = [key for key in keys if _variable(key) not in known and not _reason(key, prefix)]
        if others or not _fits(tensors, prefix, wanted, request):
            reasons |= dict.fromkeys(keys, "foreign head: not slim's own")
        else:
            shapes |= wanted
    return shapes, reasons


def _fits(
    tensors: Mapping[str, Tensor], prefix: str, wanted: names.Shapes, request: Request
) -> bool:
    """Whether a head is the network's own: on its features, and its convolutions all there.

    For images of less than 299 px slim gives the auxiliary head a smaller kernel of another name.
    """
    for path in wanted:
        key = prefix + names_slim.to_slim(path)
        tensor = tensors.get(key) or tensors.get(key + _SHADOW)
        if path.endswith("/kernel") and tensor is None:
            return False
        if path == names.HEAD_KERNEL and tensor is not None:
            return tensor.shape[:3] == (1, 1, request.trunk.features)
    return True


def _variable(key: str) -> str:
    return key.removesuffix(_SHADOW)


def _reason(key: str, prefix: str) -> str:
    """Why a variable that is not wanted may be there; "" where there is no reason."""
    if key.rpartition("/")[2] in _COUNTERS:
        return "counter"
    if _SLOT.fullmatch(key):
        return "optimizer slot"
    if "ExponentialMovingAverage" in key:
        return "moving average"
    if key.startswith(tf_bundle.PART):
        return "part of a variable"
    return "" if key.startswith(prefix) else f"outside of the network {prefix!r}"


def _theirs(path: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Their shape of an array of ours: the classifiers are 1x1 convolutions."""
    return (1, 1, *shape) if path in (names.HEAD_KERNEL, names.AUX_KERNEL) else shape


def _fault(path: str, tensor: Tensor, shape: tuple[int, ...]) -> str | None:
    if tensor.dtype not in FLOATS:
        return f"found values of type {tensor.dtype}, expected floats"
    return shape_fault(path, tensor.shape, _theirs(path, shape))


def _values(path: str, tensor: Tensor, shape: tuple[int, ...]) -> np.ndarray:
    with np.errstate(all="ignore"):  # what is not finite is told afterwards
        values = np.array(tensor.read(), np.float32)
    return values.reshape(shape) if len(values.shape) != len(shape) else values
