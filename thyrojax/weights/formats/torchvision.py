"""State dicts of torchvision's `inception_v3`, as torch saved them; timm's `.bin` and `.pth` too.

With or without the auxiliary head, under any one prefix (`module.`), as the file itself or anywhere
within a training checkpoint. torchvision's published weights were trained at +-1, which its class
restores from mean and deviation (`transform_input`); so does whoever loads a file written here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from thyrojax.errors import WeightsError
from thyrojax.weights import names_torch
from thyrojax.weights.formats import torch_file, torch_write
from thyrojax.weights.formats.pickle_names import Table
from thyrojax.weights.state_dict import Tensor, assemble, find_prefix
from thyrojax.weights.types import (
    DESCRIPTION_KEY,
    VARIANTS,
    Arrays,
    Reading,
    Request,
    Variant,
    describe,
    parse_description,
)

NAME = "torchvision"
DESCRIPTION = "torchvision's inception_v3, a state dict (.pth)"
ENDING = ".pth"
NATIVE = ("padded", "average")
CHANNELS = (3,)

FID_CLASSES, FID_FORMAT = 1008, "fid"
FORMAT_KEY = f"{DESCRIPTION_KEY}_format"  # in `_metadata`, beside the description

# Parts of a path under which a checkpoint keeps an average of the network over its training
# (timm's `state_dict_ema`, `model_ema`), and those under which it keeps no network.
_AVERAGE = re.compile(r"(^|[._])(ema|averaged?|swa|shadow|teacher)([._]|$)", re.IGNORECASE)
_OPTIMIZER = re.compile(r"(^|[._])(optim\w*|exp_avg\w*|momentum\w*|grads?)([._]|$)", re.IGNORECASE)


class Checkpoint(NamedTuple):
    """The one network of a file; `ignored` and `notes` as of a `Reading`."""

    format: str
    tensors: dict[str, Tensor]
    ignored: dict[str, str]
    notes: tuple[str, ...]
    variant: Variant
    metadata: dict[str, Any]


def recognises(path: Path) -> bool:
    """Whether torch saved it as data, and it is not the FID network's."""
    return torch_file.kind(path) in ("archive", "stream") and not is_fid(path)


def is_fid(path: Path) -> bool:
    """Whether a file of torch's says that it is the FID network's, or has the classes of 2015."""
    try:
        return open_checkpoint(path).format == FID_FORMAT
    except WeightsError:
        return False


def read(path: Path, request: Request) -> Reading:
    """Reads the one network of the file; a plain one is preferred to an average of it.

    Raises:
      WeightsError: a pickle that asks for anything but plain data, a damaged file, or every fault
        of the state dict, on one line.
    """
    found = open_checkpoint(path)
    done = assemble(path, found.tensors, request)
    ignored = found.ignored | done.ignored
    return Reading(done.arrays, done.used, ignored, found.variant, found.metadata, found.notes)


def open_checkpoint(path: Path) -> Checkpoint:
    """Finds the network in a file of torch's, and what it says of itself.

    Raises:
      WeightsError: as `torch_file.read`; or a description that cannot be read.
    """
    saved = torch_file.read(path)
    tensors, ignored = saved.tensors(), dict(saved.tree.others)
    notes = _choose(tensors, ignored)
    classes = {tensor.shape for key, tensor in tensors.items() if key.endswith("fc.bias")}
    implied = FID_FORMAT if classes == {(FID_CLASSES,)} else NAME
    about = saved.root.attributes.get("_metadata") if isinstance(saved.root, Table) else None
    about = about if isinstance(about, Table) else {}
    said = {key: value for key, value in about.items() if isinstance(value, str)}
    try:
        variant, metadata = parse_description(said.get(DESCRIPTION_KEY, ""), VARIANTS[implied])
    except ValueError as error:
        raise WeightsError(f"{path}: _metadata {DESCRIPTION_KEY}: {error}") from None
    format_name = said.get(FORMAT_KEY, implied)
    return Checkpoint(format_name, tensors, ignored, tuple(notes), variant, metadata)


def _choose(tensors: dict[str, Tensor], ignored: dict[str, str]) -> list[str]:
    """Moves the networks that are averages of another, and what is like one, to `ignored`.

    Where several are left, the reader says so.
    """
    prefixes = find_prefix(tensors)
    slots = [prefix for prefix in prefixes if _OPTIMIZER.search(prefix)]
    averages = [prefix for prefix in prefixes if _AVERAGE.search(prefix) and prefix not in slots]
    plain = [prefix for prefix in prefixes if prefix not in slots + averages]
    notes = []
    if not plain and len(averages) == 1:
        notes.append(f"network: {averages[0]!r}, an average over training, is all the file has")
        averages = []
    elif len(plain) == 1:
        notes += [f"network: taken from {plain[0]!r}, not from {other!r}" for other in averages]
    for others, reason in ((averages, "another copy of the network"), (slots, "optimizer slot")):
        for key in [key for key in tensors if key.startswith(tuple(others))]:
            ignored[key] = reason
            del tensors[key]
    return notes


def write(
    path: Path,
    arrays: Arrays,
    variant: Variant,
    metadata: Mapping[str, Any],
    format_name: str = NAME,
) -> list[str]:
    """Writes what `load_state_dict(torch.load(FILE), strict=True)` takes.

    The network to load it into: `inception_v3(weights=None, num_classes=N, aux_logits=...)`, with
    `fc = torch.nn.Identity()` for weights without a classifier.
    """
    state: dict[str, np.ndarray] = {}
    versions: dict[str, Any] = {"": {"version": 1}}
    for ours, array in arrays.items():
        key = names_torch.to_torch(ours)
        state[key] = names_torch.values_to_torch(array)
        if key.endswith(".running_var"):
            layer = key.removesuffix(".running_var")
            state[f"{layer}.{names_torch.COUNTER}"] = np.zeros((), np.int64)
            versions[layer] = {"version": 2}  # of BatchNorm with that counter
    about = {DESCRIPTION_KEY: describe(arrays, variant, metadata), FORMAT_KEY: format_name}
    torch_write.write(path, state, {**versions, **about})
    return []
