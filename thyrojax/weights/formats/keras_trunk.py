"""The trunk among a Keras file's arrays, and the head on it; the same for every layout."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from thyrojax.weights import names, names_keras
from thyrojax.weights.graph import Unit
from thyrojax.weights.types import (
    Arrays,
    Reading,
    Request,
    Variant,
    raise_faults,
    shape_fault,
    value_fault,
)

MAX_CLASSES = 2**15  # ImageNet's larger set has 21,841


class Stored(Protocol):
    """An array of a file, not yet read."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def fault(self) -> str | None:
        """Why it cannot be read; None where it can."""

    def floats(self) -> np.ndarray:
        """Its values as float32.

        Raises:
          ValueError: found and expected, where the file is damaged there.
        """


class Source(NamedTuple):
    """An array of the file.

    Attributes:
      key: its path in the file.
      layer: where the model's order of layers has it.
      group: what it shares with the other arrays of its layer.
      array: which of its layer's arrays it is.
      name: which layer of the trunk it may be of, numbered in the order of creation.
    """

    key: str
    layer: str
    group: str
    array: str
    name: names_keras.KerasName | None
    stored: Stored

    @property
    def shape(self) -> tuple[int, ...]:
        return self.stored.shape


class Found(NamedTuple):
    """Where the trunk is.

    Attributes:
      first: number of its first layer of each class.
      trunk: our path -> the arrays that claim it.
      others: arrays of all other layers.
    """

    first: dict[str, int]
    trunk: dict[str, list[Source]]
    others: list[Source]

    def layers(self) -> set[str]:
        """The layers that the trunk's arrays are in."""
        return {source.layer for sources in self.trunk.values() for source in sources}

    def is_after(self, source: Source) -> bool:
        """Whether an array's layer was created after the trunk's first of its class."""
        return source.name is not None and source.name.number > self.first[source.name.kind]


def find(path: Path, sources: Sequence[Source], units: Sequence[Unit], faults: list[str]) -> Found:
    """Finds the trunk by the shapes of a numbered series of layers.

    Raises:
      WeightsError: there is none, or more than one.
    """
    sources = _without_namesakes(sources, units)
    first = _first_numbers(sources, units, faults)
    raise_faults(path, faults)  # without the trunk, all further faults would be its echo
    found = Found(first, {}, [])
    for source in sources:
        name = source.name
        place = name.number - first[name.kind] if name else -1
        if name is None or not 0 <= place < len(units):
            found.others.append(source)
        elif target := names_keras.KERAS_ARRAYS[name.kind].get(name.array):
            found.trunk.setdefault(target.format(units[place].path), []).append(source)
        else:
            known = ", ".join(names_keras.KERAS_ARRAYS[name.kind])
            faults.append(f"{source.key}: found an unknown array, expected only {known}")
    return found


def finish(
    path: Path,
    found: Found,
    request: Request,
    *,
    after: Mapping[str, bool],
    plain_head: bool,
    label: Callable[[str, int], str],
    ignored: dict[str, str],
    variant: Variant,
    metadata: dict[str, Any],
    faults: list[str],
) -> Reading:
    """Reads the trunk, and the head where it is asked for and one dense layer.

    Args:
      after: layer -> whether the model has it after the trunk, for all other layers with arrays.
      plain_head: False where the model is known to have more than a dense layer on the mean.
      label: what the file calls a layer of the trunk, from its class and number.
      ignored: what has been left out so far.

    Raises:
      WeightsError: one line with every fault.
    """
    tops = _tops(found.others, after, faults)
    shapes = request.shapes()
    matched = _match(found, request.trunk.units, shapes, label, faults)
    head = _classifier(found.others, request.trunk.features) if plain_head else {}
    if request.head == "keep":
        for name, source in head.items():
            _check(name, source, source.shape, faults)
        matched |= head
    else:
        tops |= {source.key: "classifier: not asked for" for source in head.values()}
    raise_faults(path, faults)
    arrays = _read_arrays(matched, shapes, faults)
    raise_faults(path, faults)
    used = tuple(source.key for source in matched.values())
    taken = set(used)
    rest = {key: reason for key, reason in tops.items() if key not in taken}
    return Reading(arrays, used, ignored | rest, variant, metadata)


def _without_namesakes(sources: Sequence[Source], units: Sequence[Unit]) -> list[Source]:
    """Takes the names from layers outside of the model that the whole trunk is in.

    A model within another may have layers of the same names: one that was loaded from a file keeps
    those that it had, and what is put on it is numbered from none again.
    """
    wanted = {unit.kernel_shape for unit in units}
    scopes = {s.key: names_keras.scope_of(s.key) for s in sources if s.name}
    kernels = Counter(
        scopes[s.key] for s in sources if s.name and s.array == "kernel" and s.shape in wanted
    )
    (best, n), *others = kernels.most_common(2) or [("", 0)]
    if n < len(units) or (others and others[0][1] > len(units) // 2):
        return list(sources)
    return [s if scopes.get(s.key) == best else s._replace(name=None) for s in sources]


def _first_numbers(
    sources: Sequence[Source], units: Sequence[Unit], faults: list[str]
) -> dict[str, int]:
    """The number of the trunk's first layer of each class; that there is none is a fault."""
    first: dict[str, int] = {}
    for kind, shapes in names_keras.expected_shapes(units).items():
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


def _tops(others: Sequence[Source], after: Mapping[str, bool], faults: list[str]) -> dict[str, str]:
    """Key -> reason for what stands on top of the trunk; what would change the trunk is a fault.

    A dense layer cannot be within it.
    """
    kernels = {source.group: source.shape for source in others if source.array == "kernel"}
    reasons: dict[str, str] = {}
    for source in others:
        if source.array in ("kernel", "bias") and len(kernels.get(source.group, ())) == 2:
            reasons[source.key] = "foreign head: dense layer"
        elif after[source.layer]:
            reasons[source.key] = "foreign head: layer after the trunk"
        else:
            faults.append(
                f"{source.key}: found an array neither of Inception-v3's trunk nor of a head after "
                "it, expected none"
            )
    return reasons


def _match(
    found: Found,
    units: Sequence[Unit],
    shapes: names.Shapes,
    label: Callable[[str, int], str],
    faults: list[str],
) -> dict[str, Source]:
    """Our path -> the one source that fills it, of the right shape and readable."""
    has_gamma = any(path.endswith("/bn/scale") for path in found.trunk)
    matched: dict[str, Source] = {}
    for kind, targets in names_keras.KERAS_ARRAYS.items():
        for array, target in targets.items():
            for place, unit in enumerate(units):
                path = target.format(unit.path)
                sources = found.trunk.get(path, [])
                if len(sources) == 1:
                    matched[path] = sources[0]
                    _check(path, sources[0], shapes[path], faults)
                elif sources:
                    keys = " and ".join(source.key for source in sources)
                    faults.append(f"{keys}: found {len(sources)} arrays for {path}, expected one")
                elif array != "gamma" or has_gamma:
                    layer = label(kind, found.first[kind] + place)
                    faults.append(f"{layer}/{array}: found none, expected it for {path}")
    return matched


def _classifier(others: Sequence[Source], features: int) -> dict[str, Source]:
    """The head's two paths -> their sources; nothing where the head is anything else."""
    kernels = [source for source in others if source.array == "kernel"]
    biases = [source for source in others if source.array == "bias"]
    if len(others) != 2 or not kernels or not biases or kernels[0].group != biases[0].group:
        return {}
    kernel, bias = kernels[0], biases[0]
    if len(bias.shape) != 1 or kernel.shape != (features, *bias.shape):
        return {}
    if not 0 < bias.shape[0] <= MAX_CLASSES:
        return {}
    return {names.HEAD_KERNEL: kernel, names.HEAD_BIAS: bias}


def _check(path: str, source: Source, expected: tuple[int, ...], faults: list[str]) -> None:
    fault = shape_fault(path, source.shape, expected) or source.stored.fault()
    if fault:
        faults.append(f"{source.key}: {fault}")


def _read_arrays(matched: Mapping[str, Source], shapes: names.Shapes, faults: list[str]) -> Arrays:
    """Our path -> values; BatchNorm scales that the file leaves out are one."""
    arrays: dict[str, np.ndarray] = {}
    for path, source in matched.items():
        try:
            values = source.stored.floats()
        except ValueError as error:
            faults.append(f"{source.key}: {error}")
            continue
        if fault := value_fault(path, values):
            faults.append(f"{source.key}: {fault}")
        arrays[path] = values
    for path, shape in shapes.items():
        if path.endswith("/bn/scale") and path not in arrays:
            arrays[path] = np.ones(shape, np.float32)
    return arrays
