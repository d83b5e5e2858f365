"""The arrays of a Keras 3 file: `layers/CLASS_NUMBER/vars/0`, 1 and so on, models within models.

The number counts the layers of a class in the model's order (`thyrojax.weights.keras_graph`), from
none. Later versions of Keras also keep the layer's own name, whose number is that of its creation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from thyrojax.weights import names, names_keras
from thyrojax.weights.formats import hdf5, keras_config
from thyrojax.weights.formats.keras_trunk import Source, find, finish
from thyrojax.weights.graph import Unit
from thyrojax.weights.keras_graph import Layer, order_in_files, paths
from thyrojax.weights.names_keras import KerasName
from thyrojax.weights.types import DESCRIPTION_KEY, Arrays, Reading, Request, raise_faults

if TYPE_CHECKING:
    import h5py

MAX_COLOURS = 4
LEVEL = "vars"  # by which the layout is told from the legacy one
_ARRAY = re.compile(rf"(?:(.+)/)?{LEVEL}/(\d{{1,6}})")

# What a model that was trained has beside its layers, and why it is left out.
TRAINING = {"optimizer": "optimizer slot", "metrics": "state of a metric"}

# Arrays by how many a BatchNorm has; without gamma where it was made with scale=False.
_NORM_ARRAYS = {
    3: ("beta", "moving_mean", "moving_variance"),
    4: ("gamma", "beta", "moving_mean", "moving_variance"),
}


class _Group(NamedTuple):
    """A layer of the file: its path, the model it is in, class and number, and its arrays."""

    path: str
    scope: str
    layer: tuple[str, int] | None
    arrays: dict[int, hdf5.Stored]

    def key(self, index: int) -> str:
        return f"{self.path}/{LEVEL}/{index}" if self.path else f"{LEVEL}/{index}"

    def array_names(self) -> Sequence[str]:
        """What the arrays are, as far as their number and shapes tell."""
        n = len(self.arrays)
        shapes = [self.arrays[i].shape for i in sorted(self.arrays)]
        numbers = [f"{LEVEL}/{i}" for i in range(n)]
        if sorted(self.arrays) != list(range(n)):
            return [f"{LEVEL}/{i}" for i in sorted(self.arrays)]
        if self.layer and self.layer[0] == "batch_normalization":
            return _NORM_ARRAYS.get(n, numbers)
        is_convolution = self.layer is not None and n <= 2
        if is_convolution or [len(shape) for shape in shapes] == [2, 1]:
            return ("kernel", "bias")[:n]
        return numbers


def read(
    path: Path,
    file: hdf5.File,
    request: Request,
    layers: Sequence[keras_config.Layer] = (),
    description: str = "",
    ignored: Mapping[str, str] | None = None,
) -> Reading:
    """Reads the trunk, and the classifier on it where it is one dense layer on the pooled features.

    Args:
      path: for messages.
      layers: of the model's description, where there is one.
      description: ours, where it is not in an attribute of `file`.
      ignored: what else is beside the arrays, and why it is left out.

    Raises:
      WeightsError: one line with every fault, as of the legacy format.
    """
    listed = hdf5.inventory(file)
    faults = listed.faults
    raise_faults(path, faults)
    left_out = dict(ignored or {}) | dict.fromkeys(listed.empty_groups, "no parameters")
    groups = _groups(listed.arrays, left_out, faults)
    raise_faults(path, faults)

    units = request.trunk.units
    scope = _scope(groups, units, faults)
    raise_faults(path, faults)
    within = [group for group in groups if group.scope == scope and group.layer]
    numbers, by_name = _creation_numbers(file, within, units)
    sources = _sources(groups, numbers)
    found = find(path, sources, units, faults)

    norms = {s.layer for name, s in _flat(found.trunk) if name.startswith("batch_stats/")}
    has_scales = any(name.endswith("/bn/scale") for name in found.trunk)
    variant = keras_config.read_variant(layers, norms, has_scales, faults)
    text = description or "".join(file.names(file.root, DESCRIPTION_KEY))
    variant, metadata = keras_config.add_description(text, variant, bool(layers), faults)
    order = {layer.path: i for i, layer in enumerate(layers)}
    end = max((order.get(layer, -1) for layer in found.layers()), default=-1)
    after = {
        source.layer: order[source.layer] > end
        if end >= 0 and source.layer in order
        else found.is_after(source) or not (source.name or _reads_images(source))
        for source in found.others
    }

    def label(kind: str, number: int) -> str:
        if by_name:
            return f"layer {kind}_{number}" if number else f"layer {kind}"
        place = number - found.first[kind]
        in_file = found.first[kind] + order_in_files().index(place)
        return f"{scope}{kind}_{in_file}" if in_file else f"{scope}{kind}"

    return finish(
        path,
        found,
        request,
        after=after,
        plain_head=keras_config.has_plain_head(layers, norms),
        label=label,
        ignored=left_out,
        variant=variant,
        metadata=metadata,
        faults=faults,
    )


def _reads_images(source: Source) -> bool:
    """Whether a layer outside of the trunk's model stands before it, as far as its arrays tell."""
    layer = names_keras.parse_keras_layer(source.layer.rpartition("/")[2])
    if layer and layer[0] == "conv2d":
        return len(source.shape) == 4 and source.shape[2] <= MAX_COLOURS
    if layer:
        return len(source.shape) == 1 and source.shape[0] <= MAX_COLOURS
    return "/normalization" in f"/{source.layer}"


def _flat(trunk: Mapping[str, Sequence[Source]]) -> list[tuple[str, Source]]:
    return [(name, source) for name, sources in trunk.items() for source in sources]


def _groups(
    arrays: Mapping[str, hdf5.Stored], ignored: dict[str, str], faults: list[str]
) -> list[_Group]:
    """The layers with arrays; what is no layer's goes to `ignored`."""
    groups: dict[str, _Group] = {}
    for key, stored in arrays.items():
        match = _ARRAY.fullmatch(key)
        levels = (match[1] or "").split("/") if match else []
        if match is None:
            faults.append(f"{key}: found an array outside of Keras 3's layout, expected .../vars/0")
        elif levels[0] in TRAINING:
            ignored[key] = TRAINING[levels[0]]
        elif levels[-1].startswith("seed_generator"):
            ignored[key] = "state of a random number generator"
        else:
            path = match[1] or ""
            scope = path[: len(path) - len(levels[-1])]
            layer = names_keras.parse_keras_layer(levels[-1])
            group = groups.setdefault(path, _Group(path, scope, layer, {}))
            group.arrays[int(match[2])] = stored
    return list(groups.values())


def _shapes(groups: Sequence[_Group], kind: str) -> dict[int, tuple[int, ...]]:
    return {
        group.layer[1]: group.arrays[0].shape
        for group in groups
        if group.layer and group.layer[0] == kind and 0 in group.arrays
    }


def _scope(groups: Sequence[_Group], units: Sequence[Unit], faults: list[str]) -> str:
    """The model, among those in the file, that the trunk is in."""
    expected = names_keras.expected_shapes(units)["conv2d"]
    votes: dict[str, int] = {}
    for scope in {group.scope for group in groups if group.layer}:
        shapes = _shapes([group for group in groups if group.scope == scope], "conv2d")
        kernels = [shape for shape in shapes.values() if shape in expected]
        votes[scope] = len(kernels)
    scopes = sorted(votes, key=lambda scope: (-votes[scope], scope))
    if len(scopes) > 1 and votes[scopes[1]] >= len(expected) // 2:
        faults.append(f"found a trunk in {scopes[0]} and another in {scopes[1]}, expected one")
    return scopes[0] if scopes else ""


def _creation_numbers(
    file: hdf5.File, groups: Sequence[_Group], units: Sequence[Unit]
) -> tuple[dict[str, int], bool]:
    """Path of each layer -> its number in the order of creation; whether names told it."""
    named: dict[str, int] = {}
    for group in groups:
        name = file.names(file.root[f"{group.path}/{LEVEL}"], "name")
        layer = names_keras.parse_keras_layer(name[0]) if len(name) == 1 else None
        if layer and group.layer and layer[0] == group.layer[0]:
            named[group.path] = layer[1]
    if len(named) == len(groups):
        return named, True

    order = order_in_files()
    numbers: dict[str, int] = {}
    for kind, shapes in names_keras.expected_shapes(units).items():
        places = names_keras.find_trunk(_shapes(groups, kind), [shapes[i] for i in order])
        first = places[0][0] if places else 0
        for group in groups:
            if group.layer and group.layer[0] == kind:
                place = group.layer[1] - first
                inside = 0 <= place < len(order)
                numbers[group.path] = first + order[place] if inside else group.layer[1]
    return numbers, False


def _sources(groups: Sequence[_Group], numbers: Mapping[str, int]) -> list[Source]:
    sources: list[Source] = []
    for group in groups:
        stored = [group.arrays[i] for i in sorted(group.arrays)]
        for i, name, array in zip(sorted(group.arrays), group.array_names(), stored, strict=True):
            layer = None
            if group.layer and group.path in numbers:
                layer = KerasName(group.layer[0], numbers[group.path], name)
            sources.append(Source(group.key(i), group.path, group.path, name, layer, array))
    return sources


def write(file: h5py.File, arrays: Arrays, layers: Sequence[Layer], has_scales: bool) -> None:
    """Fills a new file with the arrays of a model, each under its layer's path.

    Layers without arrays have a group too, which Keras 2 looks for.
    """
    file.create_group(LEVEL)
    for path, layer in paths(layers).items():
        group = file.create_group(f"{path}/{LEVEL}")
        group.attrs["name"] = layer.name
        for i, name in enumerate(array_paths(layer, has_scales).values()):
            group.create_dataset(str(i), data=arrays[name], track_times=False)


def array_paths(layer: Layer, has_scales: bool) -> dict[str, str]:
    """Keras' name of each array of a layer -> our path, in Keras' order."""
    if layer.kind == "Dense":
        return {"kernel": names.HEAD_KERNEL, "bias": names.HEAD_BIAS}
    if layer.unit is None:
        return {}
    kind = "conv2d" if layer.kind == "Conv2D" else "batch_normalization"
    return {
        array: path.format(layer.unit.path)
        for array, path in names_keras.KERAS_ARRAYS[kind].items()
        if array != "gamma" or has_scales
    }
