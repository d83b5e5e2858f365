"""State dicts of torchvision's `inception_v3`, as torch saved them; timm's `.bin` and `.pth` too.

With or without the auxiliary head, under any one prefix (`module.`), as the file itself or within a
training checkpoint. torchvision's published weights were trained at +-1, which its class restores
from mean and deviation (`transform_input`); so does whoever loads a file written here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from thyrojax.errors import WeightsError
from thyrojax.weights import names_torch
from thyrojax.weights.formats import torch_file, torch_write
from thyrojax.weights.formats.restricted_pickle import StoredTensor
from thyrojax.weights.state_dict import FIRST, Tensor, assemble, find_prefix
from thyrojax.weights.types import (
    DESCRIPTION_KEY,
    VARIANTS,
    Arrays,
    Reading,
    Request,
    Variant,
    describe,
    parse_description,
    raise_faults,
)

NAME = "torchvision"
DESCRIPTION = "torchvision's inception_v3, a state dict (.pth)"
ENDING = ".pth"
NATIVE = ("padded", "average")
CHANNELS = (3,)

# Where training checkpoints keep the network; the last few an average of it.
PLAIN = ("state_dict", "model_state_dict", "model", "net", "network", "params", "module")
AVERAGES = ("model_ema", "state_dict_ema", "ema", "ema_state_dict", "params_ema")

FID_CLASSES = 1008


def is_torch(path: Path) -> bool:
    """Whether torch saved it: an archive without code, or the stream of before 1.6."""
    archive = torch_file.is_archive(path) and not torch_file.is_torchscript(path)
    return archive or torch_file.is_old_stream(path)


def recognises(path: Path) -> bool:
    """Whether torch saved it, and it is not the FID network's."""
    return is_torch(path) and not is_fid(path)


def is_fid(path: Path) -> bool:
    """Whether the file says that its last block has a max pool, or has the classes of 2015."""
    try:
        found, read_storage = torch_file.read(path)
        state, _, _ = _find_state(path, found)
        variant, _ = _variant(path, state, _tensors(state, read_storage, {}))
    except WeightsError:
        return False
    return variant.last_pool == "max"


def read(path: Path, request: Request) -> Reading:
    """Reads the one network of the file; a plain one is preferred to an average of it.

    Raises:
      WeightsError: a pickle that asks for anything but plain data, a damaged file, or every fault
        of the state dict, on one line.
    """
    found, read_storage = torch_file.read(path)
    state, ignored, notes = _find_state(path, found)
    tensors = _tensors(state, read_storage, ignored)
    variant, metadata = _variant(path, state, tensors)
    assembled = assemble(path, tensors, request)
    return Reading(
        assembled.arrays,
        assembled.used,
        ignored | assembled.ignored,
        variant,
        metadata,
        tuple(notes),
    )


def _tensors(
    state: Mapping[Any, Any], read_storage: torch_file.ReadStorage, ignored: dict[str, str]
) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for key, value in state.items():
        if isinstance(value, StoredTensor):
            tensors[str(key)] = torch_file.tensor(value, read_storage)
        else:
            ignored[str(key)] = "no tensor"
    return tensors


def _variant(
    path: Path, state: Mapping[Any, Any], tensors: Mapping[str, Tensor]
) -> tuple[Variant, dict[str, Any]]:
    sizes = [tensor.shape for key, tensor in tensors.items() if key.endswith("fc.bias")]
    implied = VARIANTS["fid" if sizes == [(FID_CLASSES,)] else "torchvision"]
    about = getattr(state, "_metadata", None)
    text = about.get(DESCRIPTION_KEY, "") if isinstance(about, Mapping) else ""
    try:
        return parse_description(text if isinstance(text, str) else "", implied)
    except ValueError as error:
        raise WeightsError(f"{path}: _metadata {DESCRIPTION_KEY}: {error}") from None


def _find_state(path: Path, found: Any) -> tuple[Mapping[Any, Any], dict[str, str], list[str]]:
    """The state dict, why the rest of the checkpoint is left out, and what to know."""
    if not isinstance(found, Mapping):
        kind = getattr(found, "name", type(found).__name__)
        raise_faults(path, [f"found an object of {kind}, expected a state dict"])
    if _is_state(found):
        return found, {}, []
    places = [name for name in (*PLAIN, *AVERAGES) if name in found and _is_state(found[name])]
    if not places:
        keys = ", ".join(str(key) for key in list(found)[:6]) or "nothing"
        raise_faults(path, [f"found {keys}, expected a state dict with a {FIRST}"])
    chosen = places[0]
    ignored = {
        str(key): "another copy of the network" if key in places else "not the network"
        for key in found
        if key != chosen
    }
    notes = [f"network: taken from {chosen!r}, not from {name!r}" for name in places[1:]]
    if chosen in AVERAGES:
        notes.append(f"network: {chosen!r}, an average over training, is all that the file has")
    return found[chosen], ignored, notes


def _is_state(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(
        find_prefix({key: None for key in value if isinstance(key, str)})
    )


def write(path: Path, arrays: Arrays, variant: Variant, metadata: Mapping[str, Any]) -> list[str]:
    """Writes what `load_state_dict(torch.load(FILE), strict=True)` takes.

    The network to load it into: `inception_v3(weights=None, num_classes=N, aux_logits=...)`, with
    `fc = torch.nn.Identity()` for weights without a classifier.
    """
    state: OrderedDict[str, np.ndarray] = OrderedDict()
    versions: dict[str, Any] = {"": {"version": 1}}
    for ours, array in arrays.items():
        key = names_torch.to_torch(ours)
        state[key] = names_torch.values_to_torch(array)
        if key.endswith(".running_var"):
            layer = key.removesuffix(".running_var")
            state[f"{layer}.{names_torch.COUNTER}"] = np.zeros((), np.int64)
            versions[layer] = {"version": 2}  # of BatchNorm with that counter
    text = describe(arrays, variant, metadata)
    torch_write.write(path, state, {**versions, DESCRIPTION_KEY: text})
    return []
