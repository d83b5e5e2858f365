"""The network of a run as architecture.json tells it (`thyrojax.model.architecture.describe`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thyrojax.errors import RunError
from thyrojax.report.json_checks import Keys, check_keys, is_count, is_text, read_object

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """One convolution, pool or other layer. Pools have no name; shapes are without the batch."""

    name: str
    kind: str
    kernel: Shape | None
    stride: int | None
    output: Shape


@dataclass(frozen=True)
class Stage:
    """A stem's convolution, a block, or a head. Branches run from its input to its output."""

    name: str
    kind: str
    follows: str
    before: tuple[Layer, ...]
    input: Shape
    output: Shape
    parameters: int
    statistics: int
    branches: tuple[tuple[Layer, ...], ...]


@dataclass(frozen=True)
class Architecture:
    """The whole network; `parameters` are learned, `statistics` are BatchNorm's running values."""

    network: str
    input: Shape
    parameters: int
    statistics: int
    stages: tuple[Stage, ...]


def _is_shape(value: Any) -> bool:
    return isinstance(value, list) and 1 <= len(value) <= 3 and all(map(is_count, value))


def _is_layers(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, dict) for one in value)


_NETWORK_KEYS: Keys = (
    ("network", is_text, "a text"),
    ("input", _is_shape, "height, width, channels"),
    ("parameters", is_count, "a whole number"),
    ("statistics", is_count, "a whole number"),
    ("stages", lambda value: _is_layers(value) and bool(value), "a list of stages"),
)
_STAGE_KEYS: Keys = (
    ("name", is_text, "a text"),
    ("kind", is_text, "a text"),
    ("follows", is_text, "the stage before, or images"),
    ("before", _is_layers, "a list of pools"),
    ("input", _is_shape, "a shape"),
    ("output", _is_shape, "a shape"),
    ("parameters", is_count, "a whole number"),
    ("statistics", is_count, "a whole number"),
    (
        "branches",
        lambda value: (
            isinstance(value, list)
            and bool(value)
            and all(_is_layers(branch) and branch for branch in value)
        ),
        "a list of lists of layers",
    ),
)
_LAYER_KEYS: Keys = (
    ("name", is_text, "a text"),
    ("kind", is_text, "a text"),
    (
        "kernel",
        lambda value: value is None or (_is_shape(value) and len(value) == 2),
        "height and width, or null",
    ),
    ("stride", lambda value: value is None or is_count(value), "a whole number, or null"),
    ("output", _is_shape, "a shape"),
)


def read_architecture(path: Path) -> Architecture | None:
    """The network that was trained; None where the run has not recorded it.

    Raises:
      RunError: the file is malformed.
    """
    if not path.exists():
        return None
    value = read_object(path, "a network's description")
    check_keys(str(path), value, _NETWORK_KEYS)
    stages = tuple(
        _stage(f"{path}, stage {number}", stage)
        for number, stage in enumerate(value["stages"], start=1)
    )
    known = {"images", *(stage.name for stage in stages)}
    for stage in stages:
        if stage.follows not in known:
            raise RunError(
                f"{path}, {stage.name}: found follows {stage.follows!r}, expected a stage"
            )
    return Architecture(
        network=value["network"],
        input=tuple(value["input"]),
        parameters=value["parameters"],
        statistics=value["statistics"],
        stages=stages,
    )


def _stage(place: str, value: dict[str, Any]) -> Stage:
    check_keys(place, value, _STAGE_KEYS)
    return Stage(
        name=value["name"],
        kind=value["kind"],
        follows=value["follows"],
        before=tuple(_layer(place, one) for one in value["before"]),
        input=tuple(value["input"]),
        output=tuple(value["output"]),
        parameters=value["parameters"],
        statistics=value["statistics"],
        branches=tuple(tuple(_layer(place, one) for one in branch) for branch in value["branches"]),
    )


def _layer(place: str, value: dict[str, Any]) -> Layer:
    check_keys(f"{place}, layer", value, _LAYER_KEYS)
    kernel = value["kernel"]
    return Layer(
        name=value["name"],
        kind=value["kind"],
        kernel=None if kernel is None else tuple(kernel),
        stride=value["stride"],
        output=tuple(value["output"]),
    )
