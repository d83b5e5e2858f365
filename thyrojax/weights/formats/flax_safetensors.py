"""Our own interchange form: safetensors under our flat Flax names, described in its metadata.

Keys are the paths of `thyrojax.weights.names`; arrays are float32 in Flax's layout (HWIO). The
metadata has the description (`types.describe`) and the same again in plain words.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thyrojax.weights import names, own_names
from thyrojax.weights.formats import safetensors_file
from thyrojax.weights.types import (
    DESCRIPTION_KEY,
    VARIANTS,
    Arrays,
    Reading,
    Request,
    Variant,
    classes,
    describe,
    parse_description,
    raise_faults,
)

NAME = "flax"
DESCRIPTION = "safetensors under our own flat Flax names"
ENDING = ".safetensors"
NATIVE = None
CHANNELS = (1, 3)


def recognises(path: Path) -> bool:
    """Whether it is safetensors with a name of ours, or with a header that is damaged."""
    found = safetensors_file.keys(path)
    return names.FIRST_KERNEL in found or found == [safetensors_file.DAMAGED]


def read(path: Path, request: Request) -> Reading:
    """Reads a file of ours; other float types become float32.

    Raises:
      WeightsError: one line with every fault, as `own_names.assemble`; a damaged file.
    """
    tensors, metadata = safetensors_file.read(path)
    try:
        variant, about = parse_description(
            safetensors_file.description(metadata), VARIANTS["keras"]
        )
    except ValueError as error:
        raise_faults(path, [f"metadata {DESCRIPTION_KEY}: {error}"])
    found = own_names.assemble(path, tensors, request)
    return Reading(found.arrays, found.used, found.ignored, variant, about)


def write(path: Path, arrays: Arrays, variant: Variant, metadata: Mapping[str, Any]) -> list[str]:
    """Writes the file. It can hold all that there is."""
    source = metadata.get("source", {})
    plain = {
        "pooling": variant.pooling,
        "last_pool": variant.last_pool,
        "epsilon": repr(variant.epsilon),
        "preprocessing": variant.preprocessing,
        "classes": str(classes(arrays)),
        "channels": str(arrays[names.FIRST_KERNEL].shape[2]),
        **{f"source_{name}": str(value) for name, value in source.items()},
    }
    description = {DESCRIPTION_KEY: describe(arrays, variant, metadata)}
    safetensors_file.write(path, arrays, {"format": "flax", **plain, **description})
    return []
