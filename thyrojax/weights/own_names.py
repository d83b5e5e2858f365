"""Arrays under our own names, from whatever file, each of them accounted for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from thyrojax.weights import names
from thyrojax.weights.state_dict import FLOATS, Assembled, Tensor
from thyrojax.weights.types import Arrays, Request, raise_faults, shape_fault, value_fault

_HEADS = (
    (("params/fc/",), names.HEAD_BIAS, names.HEAD_KERNEL, names.head_shapes),
    (
        ("params/AuxLogits/", "batch_stats/AuxLogits/"),
        names.AUX_BIAS,
        names.AUX_KERNEL,
        names.aux_shapes,
    ),
)


def assemble(
    path: Path,
    tensors: Mapping[str, Tensor],
    request: Request,
    prefix: str = "",
    reasons: Mapping[str, str] | None = None,
) -> Assembled:
    """Takes every array that is asked for; all faults are told at once.

    Args:
      path: for messages.
      tensors: key -> tensor, in our layout.
      request: what is wanted.
      prefix: what stands before our names.
      reasons: keys that are not of the network, and why they are left out.

    Raises:
      WeightsError: arrays that are missing, unknown, of another shape or type, damaged or not
        finite.
    """
    shapes = request.shapes()
    ignored = dict(reasons or {})
    for starts, bias, kernel, make_shapes in _HEADS:
        keys = [key for key in tensors if key.startswith(tuple(prefix + s for s in starts))]
        if request.head == "drop":
            ignored |= dict.fromkeys(keys, "classifier: not asked for")
        elif keys:
            outputs = _outputs(tensors.get(prefix + bias) or tensors.get(prefix + kernel))
            shapes |= make_shapes(outputs, request.depth_multiplier)

    faults = [
        f"{key}: found an unknown array, expected none"
        for key in tensors
        if key not in ignored and key.removeprefix(prefix) not in shapes
    ]
    misshapen = 0
    for name, shape in shapes.items():
        tensor = tensors.get(prefix + name)
        if tensor is None:
            faults.append(f"{prefix}{name}: found none, expected an array of shape {shape}")
        elif tensor.dtype not in FLOATS:
            faults.append(f"{prefix}{name}: found values of type {tensor.dtype}, expected floats")
        elif fault := shape_fault(name, tensor.shape, shape):
            misshapen += 1
            faults.append(f"{prefix}{name}: {fault}")
    if misshapen > len(shapes) / 2:
        width = f"depth_multiplier {request.depth_multiplier} (--depth-multiplier)"
        faults.insert(0, f"found a network of another width, expected {width}")
    raise_faults(path, faults)

    arrays: Arrays = {}
    for name in shapes:
        try:
            values = tensors[prefix + name].read()
        except ValueError as error:
            faults.append(f"{prefix}{name}: {error}")
            continue
        with np.errstate(over="ignore", invalid="ignore"):  # what becomes infinite is told of
            arrays[name] = values.astype(np.float32, copy=False)
        if fault := value_fault(name, arrays[name]):
            faults.append(f"{prefix}{name}: {fault}")
    raise_faults(path, faults)
    return Assembled(arrays, tuple(prefix + name for name in shapes), ignored)


def _outputs(tensor: Tensor | None) -> int:
    """How many classes a head has by its bias or kernel; at least one, so that none is a fault."""
    return max(1, tensor.shape[-1]) if tensor is not None and tensor.shape else 1
