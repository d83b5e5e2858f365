"""The legacy .h5 of Keras 2 and 3: a whole model or its weights, whatever stands on top.

Layout: a group for each layer, in it the layer's arrays, at the file's root (weights) or under
`model_weights` (model, beside `optimizer_weights`). Names are in `thyrojax.weights.names_keras`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from thyrojax.weights import names, names_keras
from thyrojax.weights.formats import hdf5
from thyrojax.weights.graph import Unit
from thyrojax.weights.types import (
    KERAS_VARIANT,
    Arrays,
    Reading,
    Request,
    raise_faults,
    shape_fault,
    value_fault,
)

NAME = "keras-h5"
DESCRIPTION = "Keras legacy .h5"
recognises = hdf5.recognises


class _Source(NamedTuple):
    """An array of the file: its path, the model's layer it is under, and what its name says."""

    key: str
    layer: str
    name: names_keras.KerasName | None
    stored: hdf5.Stored

    @property
    def shape(self) -> tuple[int, ...]:
        return self.stored.shape


def read(path: Path, request: Request) -> Reading:
    """Reads the trunk, and the classifier on it where it is one dense layer on the pooled features.

    Raises:
      WeightsError: one line with every fault: an array that is missing, doubled, unknown, not
        finite, of another shape or type; or a file that is damaged or not of this layout.
    """
    with hdf5.open_file(path) as file:
        listed = hdf5.inventory(file)
        faults = listed.faults
        if any("/vars/" in key for key in listed.arrays):
            faults.append("found the layout of a Keras 3 .weights.h5, expected the legacy one")
        raise_faults(path, faults)

        ignored = dict.fromkeys(listed.empty_groups, "no parameters")
        layers = file.get("model_weights", file)
        sources: list[_Source] = []
        for key, stored in listed.arrays.items():
            inner = key.removeprefix("model_weights/")
            if key.startswith("optimizer_weights/"):
                ignored[key] = "optimizer slot"
            else:
                name = names_keras.parse_keras_key(inner)
                sources.append(_Source(key, inner.split("/")[0], name, stored))

        units = request.trunk.units
        first = _first_numbers(sources, units, faults)
        raise_faults(path, faults)  # without the trunk, all further faults would be its echo
        trunk, others = _assign(sources, units, first, faults)
        after = _after_trunk(hdf5.read_names(layers, "layer_names"), trunk)
        tops = _tops(others, first, after, faults)
        shapes = request.shapes()
        matched = _match(trunk, units, shapes, first, faults)
        if request.head == "keep":
            matched |= _classifier(others, request.trunk.features, faults)
        raise_faults(path, faults)

        arrays = _read_arrays(matched, shapes, faults)
        raise_faults(path, faults)
    used = tuple(source.key for source in matched.values())
    ignored |= {key: reason for key, reason in tops.items() if key not in used}
    return Reading(arrays, used, ignored, KERAS_VARIANT)


def _first_numbers(
    sources: Sequence[_Source], units: Sequence[Unit], faults: list[str]
) -> dict[str, int]:
    """The number of the trunk's first layer of each class; that there is none is a fault."""
    expected: dict[str, list[tuple[int, ...]]] = {
        "conv2d": [unit.kernel_shape for unit in units],
        "batch_normalization": [(unit.outputs,) for unit in units],
    }
    first: dict[str, int] = {}
    for kind, shapes in expected.items():
        found = {
            source.name.number: source.shape
            for source in sources
            if source.name and source.name.kind == kind and source.name.array in ("kernel", "beta")
        }
        places = names_keras.find_trunk(found, shapes)
        agree = places[0][1] if places else 0
        if agree < len(shapes) // 2:
            faults.append(
                f"{kind}: found {len(found)} layers of which {agree} have a fitting shape and "
                f"place, expected the {len(shapes)} of Inception-v3"
            )
        elif len(places) == 2 and places[1][1] == agree:
            faults.append(
                f"{kind}: found a trunk at {kind}_{places[0][0]} and another at "
                f"{kind}_{places[1][0]}, expected one"
            )
        else:
            first[kind] = places[0][0]
    return first


def _assign(
    sources: Sequence[_Source],
    units: Sequence[Unit],
    first: Mapping[str, int],
    faults: list[str],
) -> tuple[dict[str, list[_Source]], list[_Source]]:
    """Our path -> its sources, for the layers of the trunk; and the sources in all other layers."""
    trunk: dict[str, list[_Source]] = {}
    others: list[_Source] = []
    for source in sources:
        name = source.name
        place = name.number - first[name.kind] if name else -1
        if name is None or not 0 <= place < len(units):
            others.append(source)
        elif target := names_keras.KERAS_ARRAYS[name.kind].get(name.array):
            trunk.setdefault(target.format(units[place].path), []).append(source)
        else:
            known = ", ".join(names_keras.KERAS_ARRAYS[name.kind])
            faults.append(f"{source.key}: found an unknown array, expected only {known}")
    return trunk, others


def _after_trunk(order: Sequence[str], trunk: Mapping[str, Sequence[_Source]]) -> dict[str, bool]:
    """Layer -> whether the model has it after the trunk, for other layers in a known order."""
    layers = {source.layer for found in trunk.values() for source in found}
    if not layers <= set(order):
        return {}
    end = max(order.index(layer) for layer in layers)
    return {layer: i > end for i, layer in enumerate(order) if layer not in layers}


def _tops(
    others: Sequence[_Source],
    first: Mapping[str, int],
    after: Mapping[str, bool],
    faults: list[str],
) -> dict[str, str]:
    """Key -> reason for what stands on top of the trunk; what would change the trunk is a fault.

    A dense layer cannot be within it. For the others the model's order of layers decides, and where
    the file does not tell it the order of creation.
    """
    kernels = {
        source.key.rpartition("/")[0]: source.shape
        for source in others
        if _leaf(source) == "kernel"
    }
    reasons: dict[str, str] = {}
    for source in others:
        name = source.name
        created_after = name is not None and name.number > first[name.kind]
        if _leaf(source) in ("kernel", "bias") and len(kernels.get(_parent(source), ())) == 2:
            reasons[source.key] = "foreign head: dense layer"
        elif after.get(source.layer, created_after):
            reasons[source.key] = "foreign head: layer after the trunk"
        else:
            faults.append(
                f"{source.key}: found an array neither of Inception-v3's trunk nor of a head after "
                "it, expected none"
            )
    return reasons


def _parent(source: _Source) -> str:
    return source.key.rpartition("/")[0]


def _leaf(source: _Source) -> str:
    return source.key.rpartition("/")[2].removesuffix(":0")


def _match(
    trunk: Mapping[str, Sequence[_Source]],
    units: Sequence[Unit],
    shapes: names.Shapes,
    first: Mapping[str, int],
    faults: list[str],
) -> dict[str, _Source]:
    """Our path -> the one source that fills it, of the right shape and readable."""
    has_gamma = any(path.endswith("/bn/scale") for path in trunk)
    matched: dict[str, _Source] = {}
    for kind, targets in names_keras.KERAS_ARRAYS.items():
        for array, target in targets.items():
            for place, unit in enumerate(units):
                path = target.format(unit.path)
                found = trunk.get(path, [])
                if len(found) == 1:
                    matched[path] = found[0]
                    _check(path, found[0], shapes[path], faults)
                elif found:
                    keys = " and ".join(source.key for source in found)
                    faults.append(f"{keys}: found {len(found)} arrays for {path}, expected one")
                elif array != "gamma" or has_gamma:
                    faults.append(
                        f"{kind}_{first[kind] + place}/{array}: found none, expected it for {path}"
                    )
    return matched


def _classifier(others: Sequence[_Source], features: int, faults: list[str]) -> dict[str, _Source]:
    """The head's two paths -> their sources; nothing where the head is anything else."""
    kernels = [source for source in others if _leaf(source) == "kernel"]
    biases = [source for source in others if _leaf(source) == "bias"]
    if len(others) != 2 or not kernels or not biases or _parent(kernels[0]) != _parent(biases[0]):
        return {}
    kernel, bias = kernels[0], biases[0]
    if len(bias.shape) != 1 or not bias.shape[0] or kernel.shape != (features, *bias.shape):
        return {}
    _check(names.HEAD_KERNEL, kernel, kernel.shape, faults)
    _check(names.HEAD_BIAS, bias, bias.shape, faults)
    return {names.HEAD_KERNEL: kernel, names.HEAD_BIAS: bias}


def _check(path: str, source: _Source, expected: tuple[int, ...], faults: list[str]) -> None:
    fault = shape_fault(path, source.shape, expected) or hdf5.storage_fault(source.stored)
    if fault:
        faults.append(f"{source.key}: {fault}")


def _read_arrays(matched: Mapping[str, _Source], shapes: names.Shapes, faults: list[str]) -> Arrays:
    """Our path -> values; BatchNorm scales that the file leaves out are one."""
    arrays: dict[str, np.ndarray] = {}
    for path, source in matched.items():
        try:
            values = hdf5.read_floats(source.stored)
        except hdf5.DAMAGE as error:
            faults.append(f"{source.key}: found damage ({hdf5.damage(error)}), expected values")
            continue
        if fault := value_fault(path, values):
            faults.append(f"{source.key}: {fault}")
        arrays[path] = values
    for path, shape in shapes.items():
        if path.endswith("/bn/scale") and path not in arrays:
            arrays[path] = np.ones(shape, np.float32)
    return arrays
