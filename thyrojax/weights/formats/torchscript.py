"""TorchScript archives: NVIDIA's translation of the FID network, and torchvision's class itself.

Read as data: the archive's pickle holds the modules' attributes; its code is not looked at. The
archive `inception-2015-12-05.pt` of StyleGAN and clean-fid has the layer names of the graph of 2015
under `layers`, and the classifier of 1008 classes as `output`. What it calls the arrays in a layer
is not published; they are told by their rank and by `mean`, `var`, `beta` and so on in their names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from thyrojax.weights import names_2015, names_torch
from thyrojax.weights.formats import torch_file
from thyrojax.weights.formats.restricted_pickle import Module, StoredTensor
from thyrojax.weights.graph import Unit
from thyrojax.weights.state_dict import Tensor, assemble, find_prefix
from thyrojax.weights.types import VARIANTS, Reading, Request, raise_faults

NAME = "torchscript"
DESCRIPTION = "TorchScript archive of the FID network or of torchvision's class (.pt)"

MAX_DEPTH = 12
# A layer's vector -> our key in torchvision's names, by what its own name has in it.
VECTORS = (
    ("mean", "bn.running_mean"),
    ("var", "bn.running_var"),
    ("beta", "bn.bias"),
    ("bias", "bn.bias"),
    ("gamma", "bn.weight"),
    ("weight", "bn.weight"),
)


def recognises(path: Path) -> bool:
    """Whether it is an archive of torch with code in it."""
    return torch_file.is_torchscript(path)


def read(path: Path, request: Request) -> Reading:
    """Reads the modules' tensors under torchvision's names.

    Raises:
      WeightsError: a pickle that asks for anything but plain data, a damaged file, or every fault
        of the network in it, on one line.
    """
    found, read_storage = torch_file.read(path)
    if not isinstance(found, Module):
        raise_faults(path, [f"found {type(found).__name__}, expected a TorchScript module"])
    stored = dict(_tensors(found, ""))
    tensors = {key: torch_file.tensor(value, read_storage) for key, value in stored.items()}
    if find_prefix(tensors):
        assembled = assemble(path, tensors, request)
        notes = []
        if getattr(found, "attributes", {}).get("transform_input"):
            notes.append("transform_input: set, so that the module takes ImageNet's mean and std")
        return Reading(
            assembled.arrays,
            assembled.used,
            assembled.ignored,
            VARIANTS["torchvision"],
            notes=tuple(notes),
        )
    renamed, sources, ignored = _rename_2015(path, tensors, request.trunk.units)
    assembled = assemble(path, renamed, request)
    ignored |= {sources[key]: reason for key, reason in assembled.ignored.items()}
    used = tuple(sources[key] for key in assembled.used if key in sources)
    return Reading(assembled.arrays, used, ignored, VARIANTS["fid2015"])


def _tensors(module: Any, prefix: str, depth: int = 0) -> Iterator[tuple[str, StoredTensor]]:
    """Every tensor of a module and of those within it, under its attributes' names."""
    attributes = getattr(module, "attributes", None)
    for name, value in (attributes or {}).items():
        key = f"{prefix}{name}"
        if isinstance(value, StoredTensor):
            yield key, value
        elif isinstance(value, Module) and depth < MAX_DEPTH:
            yield from _tensors(value, f"{key}.", depth + 1)


def _rename_2015(
    path: Path, tensors: Mapping[str, Tensor], units: tuple[Unit, ...]
) -> tuple[dict[str, Tensor], dict[str, str], dict[str, str]]:
    """The tensors under torchvision's names; where each came from; and what was left out."""
    # A scope is a module or part of a name, so that both are compared without what parts them.
    layers = {
        name.replace("/", "_"): unit.path.replace("/", ".")
        for name, unit in zip(names_2015.unit_names(), units, strict=True)
    }
    renamed: dict[str, Tensor] = {}
    sources: dict[str, str] = {}
    ignored: dict[str, str] = {}
    faults: list[str] = []
    for key, tensor in tensors.items():
        target = _target(key, tensor, layers)
        if target is None:
            ignored[key] = "not of the network"
        elif target in renamed:
            faults.append(f"{sources[target]} and {key}: found two arrays for {target}")
        else:
            renamed[target], sources[target] = tensor, key
    raise_faults(path, faults)
    for unit in units:  # the layers of 2015 have no scale
        scale = names_torch.to_torch(f"params/{unit.path}/bn/scale")
        ones = partial(np.ones, unit.outputs, np.float32)
        renamed.setdefault(scale, Tensor((unit.outputs,), "float32", ones))
    return renamed, sources, ignored


def _target(key: str, tensor: Tensor, layers: Mapping[str, str]) -> str | None:
    """torchvision's key for a tensor of NVIDIA's archive."""
    place, _, name = key.removeprefix("layers.").rpartition(".")
    if place == "output":
        return f"fc.{name}"
    scope = place.replace(".", "_")
    # The arrays may be the layer's own, or those of a `conv` and a `bn` within it.
    for layer in (scope, scope.removesuffix("_conv"), scope.removesuffix("_bn")):
        unit = layers.get(layer)
        if unit is None:
            continue
        if len(tensor.shape) == 4:
            return f"{unit}.conv.weight"
        for part, vector in VECTORS:
            if part in name:
                return f"{unit}.{vector}"
    return None
