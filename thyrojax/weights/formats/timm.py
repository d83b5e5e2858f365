"""timm's `inception_v3` as `model.safetensors`: torchvision's names, which timm's class shares.

The tags differ in what they were trained on, which the file does not tell: `gluon_in1k` takes
ImageNet's mean and deviation, the others +-1 (`thyrojax.weights.types.VARIANTS`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from thyrojax.weights import names, names_torch
from thyrojax.weights.formats import safetensors_file
from thyrojax.weights.state_dict import FIRST, assemble
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

NAME = "timm"
DESCRIPTION = "safetensors of timm's inception_v3"
ENDING = ".timm.safetensors"
NATIVE = ("padded", "average")
CHANNELS = (1, 3)  # timm.create_model("inception_v3", in_chans=1)


def recognises(path: Path) -> bool:
    """Whether it is safetensors with torchvision's name of the first kernel, and not with ours."""
    found = safetensors_file.keys(path)
    return names.FIRST_KERNEL not in found and any(key.endswith(FIRST) for key in found)


def read(path: Path, request: Request) -> Reading:
    """Reads the trunk, and the classifiers where they are plain.

    Raises:
      WeightsError: one line with every fault, as `state_dict.assemble`; a damaged file.
    """
    tensors, metadata = safetensors_file.read(path)
    text = safetensors_file.description(metadata)
    try:
        variant, about = parse_description(text, VARIANTS["timm"])
    except ValueError as error:
        raise_faults(path, [f"metadata {DESCRIPTION_KEY}: {error}"])
    found = assemble(path, tensors, request)
    return Reading(found.arrays, found.used, found.ignored, variant, about)


def write(path: Path, arrays: Arrays, variant: Variant, metadata: Mapping[str, Any]) -> list[str]:
    """Writes what `load_state_dict(load_file(FILE), strict=True)` takes."""
    given = {names_torch.to_torch(path): array for path, array in arrays.items()}
    counters = [
        key.replace("running_var", names_torch.COUNTER) for key in given if "running_var" in key
    ]
    # The counters first: eight bytes each, so that they lie at multiples of eight.
    state: dict[str, np.ndarray] = dict.fromkeys(counters, np.zeros((), np.int64))
    state |= {key: names_torch.values_to_torch(array) for key, array in given.items()}
    text = describe(arrays, variant, metadata)
    safetensors_file.write(path, state, {"format": "pt", DESCRIPTION_KEY: text})
    return []
