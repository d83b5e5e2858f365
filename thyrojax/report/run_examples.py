"""What evaluation and explanation leave of single nodules: pictures, crop shapes, maps' figures."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thyrojax.analysis.predictions import Predictions
from thyrojax.errors import RunError
from thyrojax.report.json_checks import (
    Keys,
    check_keys,
    is_count,
    is_number,
    is_numbers,
    is_share,
    is_text,
    load_json,
    run_file,
)

Four = tuple[float, float, float, float]
CROP_SHAPES = ("square", "rectangle", "square_cover")  # the paper's two first


@dataclass(frozen=True)
class Example:
    """One test nodule to be shown. Files are whole paths; box and window are in frame pixels.

    Without explanations there is no map. `mass_in_box` is None also where the map is 0 everywhere.
    """

    image_id: str
    label: int
    score: float
    frame: Path
    network_input: Path
    box: Four  # x_min, y_min, x_max, y_max
    window: Four  # left, top, width, height
    map: Path | None  # grey, over the network's input
    mass_in_box: float | None
    box_in_input: Four | None  # x_min, y_min, x_max, y_max in pixels of the input
    map_layer: str


@dataclass(frozen=True)
class Crop:
    """One way of cutting a nodule: its window in the frame, what the network gets of it."""

    window: Four
    network_input: Path
    aspect_ratio: float  # of the nodule in the input


@dataclass(frozen=True)
class CropShapes:
    """One nodule cut in every shape; ratios are the nodule's height over its width."""

    image_id: str
    label: int
    frame: Path
    box: Four
    margin: float
    choice: str  # a sentence on why this nodule, "" where the run does not say
    aspect_ratio: float
    crops: dict[str, Crop]


@dataclass(frozen=True)
class Explanation:
    """Where one nodule's map lies: `mass_in_box` of it in the box, against the box's own share."""

    image_id: str
    label: int
    score: float
    method: str
    layer: str
    mass_in_box: float | None
    box_share: float
    note: str


@dataclass(frozen=True)
class SanityStep:
    """Agreement of the maps once everything from the head down to `layer` is random."""

    layer: str
    rank_correlation: float | None
    n: int


_FILE = "a file of the run folder"
_LABEL: Keys = (("label", lambda value: is_count(value) and value <= 1, "0 or 1"),)
_BOX: Keys = (("box", lambda value: is_numbers(value, 4), "x_min, y_min, x_max, y_max"),)
_WINDOW: Keys = (
    (
        "window",
        lambda value: is_numbers(value, 4) and min(value[2:]) > 0,
        "left, top, width, height",
    ),
)
_EXAMPLE_KEYS: Keys = (
    ("image_id", is_text, "a text"),
    *_LABEL,
    ("score", is_share, "a number from 0 to 1"),
    ("frame", is_text, _FILE),
    ("input", is_text, _FILE),
    *_BOX,
    *_WINDOW,
)
_MAP_KEYS: Keys = (
    ("map", lambda value: value is None or is_text(value), _FILE),
    (
        "mass_in_box",
        # A sum of float32 may pass 1 by its rounding.
        lambda value: value is None or (is_number(value) and -1e-5 <= value <= 1 + 1e-5),
        "a number from 0 to 1, or null",
    ),
    (
        "box_in_input",
        lambda value: value is None or is_numbers(value, 4),
        "x_min, y_min, x_max, y_max",
    ),
    ("map_layer", lambda value: value is None or is_text(value), "a text"),
)
_CROP_SHAPES_KEYS: Keys = (
    ("image_id", is_text, "a text"),
    *_LABEL,
    ("frame", is_text, _FILE),
    *_BOX,
    ("margin", lambda value: is_number(value) and value >= 0, "a number of pixels"),
    ("shapes", lambda value: _is_of_shapes(value, dict), f"some of {', '.join(CROP_SHAPES)}"),
    ("aspect_ratio", lambda value: is_number(value) and value > 0, "height over width"),
    (
        "aspect_ratio_in_input",
        lambda value: (
            _is_of_shapes(value, int | float)
            and all(is_number(ratio) and ratio > 0 for ratio in value.values())
        ),
        "height over width by shape",
    ),
)
_CROP_KEYS: Keys = (*_WINDOW, ("input", is_text, _FILE))


def _is_of_shapes(value: Any, kind: Any) -> bool:
    return (
        isinstance(value, dict)
        and bool(value)
        and set(value) <= set(CROP_SHAPES)
        and all(isinstance(one, kind) for one in value.values())
    )


def read_examples(path: Path) -> tuple[Example, ...]:
    """The nodules that evaluation chose to be shown; none where there is no such file.

    Raises:
      RunError: the file is malformed, or a picture is missing.
    """
    if not path.exists():
        return ()
    values = load_json(path)
    if not isinstance(values, list):
        raise RunError(f"{path}: found {type(values).__name__}, expected a list of examples")
    examples = []
    for number, value in enumerate(values, start=1):
        place = f"{path}, example {number}"
        check_keys(place, value, _EXAMPLE_KEYS, _MAP_KEYS)
        inside, drawn = value.get("box_in_input"), value.get("map")
        examples.append(
            Example(
                image_id=value["image_id"],
                label=value["label"],
                score=float(value["score"]),
                frame=run_file(place, path.parent, value["frame"], "frame"),
                network_input=run_file(place, path.parent, value["input"], "input"),
                box=_four(value["box"]),
                window=_four(value["window"]),
                map=None if drawn is None else run_file(place, path.parent, drawn, "map"),
                mass_in_box=value.get("mass_in_box"),
                box_in_input=None if inside is None else _four(inside),
                map_layer=value.get("map_layer") or "",
            )
        )
    return tuple(examples)


def read_crop_shapes(path: Path) -> CropShapes | None:
    """One nodule in every crop shape; None where there is no such file.

    Raises:
      RunError: the file is malformed, or a picture is missing.
    """
    if not path.exists():
        return None
    value = load_json(path)
    check_keys(str(path), value, _CROP_SHAPES_KEYS, (("choice", is_text, "a text"),))
    ratios = value["aspect_ratio_in_input"]
    crops = {}
    for name in (name for name in CROP_SHAPES if name in value["shapes"]):
        place, crop = f"{path}, {name}", value["shapes"][name]
        check_keys(place, crop, _CROP_KEYS)
        if name not in ratios:
            raise RunError(
                f"{path}, aspect_ratio_in_input: found no {name}, expected one for each shape"
            )
        network_input = run_file(place, path.parent, crop["input"], "input")
        crops[name] = Crop(_four(crop["window"]), network_input, float(ratios[name]))
    return CropShapes(
        image_id=value["image_id"],
        label=value["label"],
        frame=run_file(str(path), path.parent, value["frame"], "frame"),
        box=_four(value["box"]),
        margin=float(value["margin"]),
        choice=value.get("choice", ""),
        aspect_ratio=float(value["aspect_ratio"]),
        crops=crops,
    )


def _four(values: list[Any]) -> Four:
    first, second, third, fourth = map(float, values)
    return first, second, third, fourth


_EXPLANATION_COLUMNS = (
    *("image_id", "label", "score", "method", "layer", "mass_in_box", "box_share", "note"),
)
_SANITY_COLUMNS = ("layer", "rank_correlation", "n")


def read_explanations(path: Path, predictions: Predictions) -> tuple[Explanation, ...]:
    """The maps' figures of the test part; none where `thyrojax explain` has not run.

    Raises:
      RunError: the file is malformed, or of nodules that have no prediction.
    """
    known = set(predictions.image_ids)
    rows = []
    for place, cells in _read_rows(path, _EXPLANATION_COLUMNS):
        if cells["image_id"] not in known:
            raise RunError(
                f"{place}: found {cells['image_id']!r}, expected a nodule of predictions/test.csv"
            )
        if cells["label"] not in ("0", "1"):
            raise RunError(f"{place}, label: found {cells['label']!r}, expected 0 or 1")
        shares = {
            name: _share(f"{place}, {name}", cells[name])
            for name in ("score", "box_share", "mass_in_box")
        }
        for name in ("score", "box_share"):
            if shares[name] is None:
                raise RunError(f"{place}, {name}: found nothing, expected a number from 0 to 1")
        if shares["mass_in_box"] is None and not cells["note"]:
            raise RunError(f"{place}: found no mass_in_box and no note, expected one of them")
        rows.append(
            Explanation(
                image_id=cells["image_id"],
                label=int(cells["label"]),
                score=shares["score"] or 0.0,
                method=cells["method"],
                layer=cells["layer"],
                mass_in_box=shares["mass_in_box"],
                box_share=shares["box_share"] or 0.0,
                note=cells["note"],
            )
        )
    return tuple(rows)


def read_sanity(path: Path) -> tuple[SanityStep, ...]:
    """The randomisation check of the maps; none where it has not been done.

    Raises:
      RunError: the file is malformed.
    """
    steps = []
    for place, cells in _read_rows(path, _SANITY_COLUMNS):
        correlation = cells["rank_correlation"]
        steps.append(
            SanityStep(
                layer=cells["layer"],
                rank_correlation=_number(f"{place}, rank_correlation", correlation, -1.0, 1.0),
                n=_count(f"{place}, n", cells["n"]),
            )
        )
    return tuple(steps)


def _read_rows(path: Path, columns: Sequence[str]) -> list[tuple[str, dict[str, str]]]:
    """Each row of a CSV file by column, with its place in words; none without the file."""
    if not path.exists():
        return []
    rows = []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            table = csv.DictReader(file)
            missing = [name for name in columns if name not in (table.fieldnames or ())]
            if missing:
                raise RunError(f"{path}: found no column {', '.join(missing)}, expected it")
            for number, cells in enumerate(table, start=1):
                place = f"{path}, row {number}"
                if None in cells or None in cells.values():
                    raise RunError(f"{place}: found a ragged row, expected one as the header")
                rows.append((place, cells))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RunError(f"{path}: found no readable CSV ({error}), expected a table") from None
    return rows


def _share(place: str, cell: str) -> float | None:
    return _number(place, cell, 0.0, 1.0)


def _number(place: str, cell: str, low: float, high: float) -> float | None:
    """A cell's number; None where it is empty."""
    if cell == "":
        return None
    try:
        value = float(cell)
    except ValueError:
        value = float("nan")
    # Sums of float32 may pass 1 by their rounding.
    if not low - 1e-5 <= value <= high + 1e-5:
        raise RunError(f"{place}: found {cell!r}, expected a number from {low:g} to {high:g}")
    return min(max(value, low), high)


def _count(place: str, cell: str) -> int:
    if not cell.isdecimal():
        raise RunError(f"{place}: found {cell!r}, expected a whole number")
    return int(cell)
