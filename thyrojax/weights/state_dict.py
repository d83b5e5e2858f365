"""A state dict under torchvision's names, from whatever file, to our arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from thyrojax.weights import names, names_torch
from thyrojax.weights.types import Arrays, Request, raise_faults, shape_fault, value_fault

FIRST = names_torch.to_torch(names.FIRST_KERNEL)
HEADS = ("fc.", "AuxLogits.")
FLOATS = ("float16", "bfloat16", "float32", "float64")


@dataclass(frozen=True)
class Tensor:
    """A tensor of a file, not yet read: `read` gives it as an array or raises ValueError."""

    shape: tuple[int, ...]
    dtype: str  # NumPy's name, or "bfloat16"
    read: Callable[[], np.ndarray]


@dataclass(frozen=True)
class Assembled:
    """Our arrays, the keys that they came from, and why others were left out."""

    arrays: Arrays
    used: tuple[str, ...]
    ignored: dict[str, str]


def find_prefix(keys: Mapping[str, object]) -> list[str]:
    """What stands before torchvision's names, such as `module.`: one for each network there is."""
    return [key.removesuffix(FIRST) for key in keys if key.endswith(FIRST)]


def assemble(path: Path, tensors: Mapping[str, Tensor], request: Request) -> Assembled:
    """Fills every array from a state dict; all faults are told at once.

    Args:
      path: for messages.
      tensors: key -> tensor; all under one prefix, or outside the network.
      request: what is wanted.

    Raises:
      WeightsError: no network or several, keys that are missing or unknown, wrong shapes or types,
        values that are damaged, not finite, or negative variances.
    """
    prefixes = find_prefix(tensors)
    if len(prefixes) != 1:
        found = " and ".join(repr(prefix) for prefix in prefixes[:4]) or "none"
        raise_faults(path, [f"found networks under prefixes {found}, expected one with a {FIRST}"])
    (prefix,) = prefixes
    ignored = {
        key: f"outside of the network {prefix!r}" for key in tensors if not key.startswith(prefix)
    }
    inner = {key[len(prefix) :]: tensors[key] for key in tensors if key.startswith(prefix)}
    shapes = request.shapes()
    head, reasons = _heads(inner, request)
    shapes |= head
    ignored |= {prefix + key: reason for key, reason in reasons.items()}

    wanted = {prefix + names_torch.to_torch(target): target for target in shapes}
    unknown = []
    for key in inner:
        if key.endswith("." + names_torch.COUNTER):
            ignored.setdefault(prefix + key, "counter of BatchNorm's training steps")
        elif prefix + key not in wanted and key not in reasons:
            unknown.append(prefix + key)
    return Assembled(read_all(path, tensors, wanted, shapes, unknown), tuple(wanted), ignored)


def read_all(
    path: Path,
    tensors: Mapping[str, Tensor],
    wanted: Mapping[str, str],
    shapes: names.Shapes,
    unknown: Iterable[str],
) -> Arrays:
    """Our arrays from tensors, each of which is checked before its values are read.

    Args:
      path: for messages.
      tensors: key -> tensor, in torch's layout.
      wanted: key -> our path.
      shapes: our path -> our shape.
      unknown: keys that should not be there.

    Raises:
      WeightsError: as `assemble`.
    """
    faults = [f"{key}: found an unknown key, expected none" for key in unknown]
    for key, target in wanted.items():
        if key not in tensors:
            faults.append(f"{key}: found none, expected it for {target}")
        elif fault := _tensor_fault(tensors[key], target, shapes[target]):
            faults.append(f"{key}: {fault}")
    raise_faults(path, faults)

    arrays: Arrays = {}
    for key, target in wanted.items():
        try:
            values = tensors[key].read()
        except ValueError as error:
            faults.append(f"{key}: {error}")
            continue
        arrays[target] = names_torch.values_from_torch(values.astype(np.float32, copy=False))
        if fault := value_fault(target, arrays[target]):
            faults.append(f"{key}: {fault}")
    raise_faults(path, faults)
    return arrays


def _tensor_fault(tensor: Tensor, target: str, shape: tuple[int, ...]) -> str | None:
    if tensor.dtype not in FLOATS:
        return f"found values of type {tensor.dtype}, expected floats"
    expected = names_torch.shape_to_torch(shape)
    if target == names.FIRST_KERNEL and tensor.shape == (expected[0], 1, *expected[2:]):
        return None
    return None if tensor.shape == expected else shape_fault("", tensor.shape, expected)


def _heads(tensors: Mapping[str, Tensor], request: Request) -> tuple[names.Shapes, dict[str, str]]:
    """Shapes of the classifiers that are to be kept, and why the keys of others are not."""
    shapes: names.Shapes = {}
    reasons: dict[str, str] = {}
    for head, make_shapes in (("fc.", names.head_shapes), ("AuxLogits.", names.aux_shapes)):
        keys = [key for key in tensors if key.startswith(head)]
        if request.head == "drop":
            reasons |= dict.fromkeys(keys, "classifier: not asked for")
            continue
        bias = tensors.get(f"{head}bias" if head == "fc." else f"{head}fc.bias")
        if bias is None and set(keys) == {"fc.weight"}:
            shape = tensors["fc.weight"].shape[:1]
            bias = Tensor(shape, "float32", lambda: np.zeros(0))  # that it is missing is a fault
        if bias is None or len(bias.shape) != 1 or not bias.shape[0]:
            reasons |= dict.fromkeys(keys, "foreign head")
            continue
        wanted = make_shapes(bias.shape[0], request.depth_multiplier)
        known = {names_torch.to_torch(path): shape for path, shape in wanted.items()}
        others = [
            key for key in keys if key not in known and not key.endswith("." + names_torch.COUNTER)
        ]
        weight = tensors.get("fc.weight")
        if head == "fc." and (others or weight is None or _width(weight) != request.trunk.features):
            reasons |= dict.fromkeys(keys, "foreign head")
        else:
            shapes |= wanted
    return shapes, reasons


def _width(tensor: Tensor) -> int | None:
    return tensor.shape[1] if len(tensor.shape) == 2 else None
