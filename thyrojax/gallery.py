"""What an evaluation leaves for the report to show: its surest calls, and a crop in each shape."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thyrojax.analysis.cutoff import call_positive
from thyrojax.config import Config
from thyrojax.data.crop import AROUND_BOX, crop_opencv, window
from thyrojax.data.dataset import Dataset, Record
from thyrojax.data.draws import margin_of
from thyrojax.files import write_folder, write_json
from thyrojax.nodule_maps import (
    LAST_LAYER,
    box_in_input,
    choose_shown,
    explain_rows,
    grey,
    png,
)
from thyrojax.shapes import Float, Int
from thyrojax.trained_run import TrainedRun, record_window

FOLDER = "examples"


@dataclass(frozen=True)
class Gallery:
    """RUN/examples.json, RUN/crop_shapes.json, and the images in RUN/examples that they name."""

    examples: list[dict[str, Any]]
    crop_shapes: dict[str, Any]
    images: dict[str, bytes]


def make_gallery(
    trained: TrainedRun,
    dataset: Dataset,
    rows: Int[np.ndarray, " n"],
    scores: Float[np.ndarray, " n"],
    cutoff: float,
    margin: int,
) -> Gallery:
    """The calls that `choose_shown` chooses, each with Grad-CAM of the class called.

    Args:
      rows: positions in the set's records of the part that was evaluated, with their `scores`.
      margin: of the evaluation, in pixels.
    """
    config = trained.config
    labels = np.asarray([dataset.records[row].label for row in rows], np.int64)
    called = call_positive(scores, cutoff).astype(np.int64)
    chosen = np.asarray(choose_shown(labels, scores, cutoff), np.int64)
    images: dict[str, bytes] = {}
    examples: list[dict[str, Any]] = []
    explained = explain_rows(
        trained.variables, config, dataset, rows[chosen], called[chosen], margin
    )
    for number, (place, found) in enumerate(zip(chosen, explained, strict=True)):
        row = int(rows[place])
        record, name = dataset.records[row], f"{number:02d}"
        images[f"{name}.png"] = png(dataset.frame(row))
        images[f"{name}_input.png"] = png(found.crop)
        images[f"{name}_map.png"] = png(grey(found.map))
        examples.append(
            {
                "image_id": record.image_id,
                "label": record.label,
                "score": float(scores[place]),
                "frame": f"{FOLDER}/{name}.png",
                "box": list(record.box),
                "window": list(record_window(record, config, margin)),
                "input": f"{FOLDER}/{name}_input.png",
                "map": f"{FOLDER}/{name}_map.png",
                "map_layer": LAST_LAYER,
                "map_class": int(called[place]),
                "box_in_input": list(found.box),
                "box_share": found.box_share,
                "mass_in_box": found.mass_in_box,
                "note": found.note,
            }
        )
    crop_shapes, crops = _crop_shapes(dataset, rows, config, margin)
    return Gallery(examples, crop_shapes, images | crops)


def write_gallery(run: Path, gallery: Gallery) -> None:
    """Writes a gallery in place of the one before; at no time do a list and other images stand.

    Raises:
      ThyrojaxError: the run folder cannot be written.
    """
    lists = {"examples.json": gallery.examples, "crop_shapes.json": gallery.crop_shapes}
    for name in lists:
        (run / name).unlink(missing_ok=True)
    write_folder(run / FOLDER, gallery.images)
    for name, content in lists.items():
        write_json(run / name, content)


def _crop_shapes(
    dataset: Dataset, rows: Int[np.ndarray, " n"], config: Config, margin: int
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """One nodule under each crop shape, and what the resize does to its shape."""
    row, choice = _far_from_square(dataset, rows, config, margin)
    record, frame = dataset.records[row], dataset.frame(row)
    size, ratio = config.input_size, record.box.height / record.box.width
    pixels = margin_of(record, margin, config)
    images = {"crop_frame.png": png(frame)}
    shapes: dict[str, Any] = {}
    in_input: dict[str, float] = {}
    for shape in AROUND_BOX:
        cut = window(record.box, pixels, shape, config.border, record.height, record.width)
        crop = crop_opencv(frame, cut, size, config.border)
        images[f"crop_{shape}.png"] = png(crop.round().astype(np.uint8))
        in_input[shape] = ratio * cut.width / cut.height
        shapes[shape] = {
            "window": list(cut),
            "input": f"{FOLDER}/crop_{shape}.png",
            "box_in_input": list(box_in_input(record.box, cut, size)),
        }
    content = {
        "image_id": record.image_id,
        "label": record.label,
        "choice": choice,
        "frame": f"{FOLDER}/crop_frame.png",
        "box": list(record.box),
        "margin": pixels,
        "input_size": size,
        "shapes": shapes,
        "aspect_ratio": ratio,
        "aspect_ratio_in_input": in_input,
    }
    return content, images


def _far_from_square(
    dataset: Dataset, rows: Int[np.ndarray, " n"], config: Config, margin: int
) -> tuple[int, str]:
    """The row whose box is farthest from square, its windows inside the frame if any row's are."""

    def fits(record: Record) -> bool:
        pixels = margin_of(record, margin, config)
        cuts = [
            # "constant": windows as they are before "shift" moves them.
            window(record.box, pixels, shape, "constant", record.height, record.width)
            for shape in AROUND_BOX
        ]
        return all(
            min(cut.left, cut.top) >= 0
            and cut.left + cut.width <= record.width
            and cut.top + cut.height <= record.height
            for cut in cuts
        )

    def distance(row: int) -> float:
        box = dataset.records[row].box
        return abs(math.log(box.height / box.width))

    fitting = [row for row in rows.tolist() if fits(dataset.records[row])]
    if fitting:
        choice = (
            f"Of the {len(fitting)} of {len(rows)} nodules whose windows of every shape lie inside "
            "their frame, the one whose box is farthest from square."
        )
    else:
        choice = (
            f"Of {len(rows)} nodules, the one whose box is farthest from square; none has its "
            "windows of every shape inside its frame."
        )
    return max(fitting or rows.tolist(), key=distance), choice
