"""Our own interchange form: safetensors under our flat Flax names, described in its metadata.

Keys are the paths of `thyrojax.weights.names`; arrays are float32 in Flax's layout (HWIO). The
metadata has the description (`types.describe`) and the same again in plain words.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thyrojax.weights import names
from thyrojax.weights.formats import safetensors_file
from thyrojax.weights.state_dict import FLOATS, Tensor
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
    shape_fault,
    value_fault,
)

NAME = "flax"
DESCRIPTION = "safetensors under our own flat Flax names"
ENDING = ".safetensors"
NATIVE = None
CHANNELS = (1, 3)


def recognises(path: Path) -> bool:
    """Whether it is safetensors with a name of ours, or with a header that is damaged."""
    found = safetensors_file.keys(path)
    return names.FIRST_KERNEL in found or found == ["?"]


def read(path: Path, request: Request) -> Reading:
    """Reads a file of ours; other float types become float32.

    Raises:
      WeightsError: one line with every fault: a damaged file, an array that is missing, unknown,
        not finite, of another shape or type.
    """
    tensors, metadata = safetensors_file.read(path)
    try:
        variant, about = parse_description(
            safetensors_file.description(metadata), VARIANTS["keras"]
        )
    except ValueError as error:
        raise_faults(path, [f"metadata {DESCRIPTION_KEY}: {error}"])
    shapes, ignored = _wanted(tensors, request)
    faults = [
        f"{key}: found an unknown array, expected none"
        for key in tensors
        if key not in shapes and key not in ignored
    ]
    for key, shape in shapes.items():
        if key not in tensors:
            faults.append(f"{key}: found none, expected an array of shape {shape}")
        elif tensors[key].dtype not in FLOATS:
            faults.append(f"{key}: found values of type {tensors[key].dtype}, expected floats")
        elif fault := shape_fault(key, tensors[key].shape, shape):
            faults.append(f"{key}: {fault}")
    raise_faults(path, faults)
    arrays: Arrays = {key: tensors[key].read() for key in shapes}
    for key, array in arrays.items():
        if fault := value_fault(key, array):
            faults.append(f"{key}: {fault}")
    raise_faults(path, faults)
    return Reading(arrays, tuple(shapes), ignored, variant, about)


def _wanted(tensors: Mapping[str, Tensor], request: Request) -> tuple[names.Shapes, dict[str, str]]:
    shapes = request.shapes()
    ignored: dict[str, str] = {}
    for bias, make_shapes in (
        (names.HEAD_BIAS, names.head_shapes),
        (names.AUX_BIAS, names.aux_shapes),
    ):
        if bias not in tensors:
            continue
        n_classes = tensors[bias].shape[0] if tensors[bias].shape else 0
        head = make_shapes(n_classes, request.depth_multiplier)
        if request.head == "keep":
            shapes |= head
        else:
            ignored |= {key: "classifier: not asked for" for key in head if key in tensors}
    return shapes, ignored


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
