"""Runs a trained network: over a part of its data, at several margins, or on one image."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from thyrojax.analysis.cutoff import Cutoff, youden_cutoff
from thyrojax.analysis.operating_point import summarise, write_metrics
from thyrojax.analysis.predictions import Predictions, write_predictions
from thyrojax.data import splits
from thyrojax.data.crop import crop_opencv, margin_pixels, window
from thyrojax.data.dataset import Dataset
from thyrojax.data.records import Box, box_fault, load_image
from thyrojax.errors import ConfigError, DataError
from thyrojax.files import write_json
from thyrojax.gallery import make_gallery, write_gallery
from thyrojax.shapes import Float, Int
from thyrojax.train.members import score_members
from thyrojax.train.scoring import score_rows
from thyrojax.train.step import make_score_step
from thyrojax.trained_run import (
    TrainedRun,
    Which,
    label_names,
    open_run_data,
    open_trained,
    part_names,
    run_cutoff,
    scoring_mapping,
)

__all__ = ["TrainedRun", "evaluate", "open_trained", "predict", "predictions_table"]


def evaluate(
    run: Path,
    data: Path | None = None,
    part: str = "test",
    margin: int | None = None,
    which: Which = "best",
    margins: Sequence[int] = (),
) -> dict[str, Any]:
    """Scores a part of a run's data and measures it.

    Writes RUN/predictions/PART.csv (PART: train, val or test) and the figures: RUN/metrics.json for
    the test part, RUN/metrics_PART.json for another. The cutoff is Youden's on the validation part,
    which is scored too; where that is the part reported, the cutoff is 0.5. Of the test part also
    what the report shows: examples.json, crop_shapes.json and examples/ (`gallery`).

    With `margins`, RUN/predictions/PART_marginM.csv and val_marginM.csv for each, and
    RUN/predictions/margins.json: `step`, and for each part the margins there are. Files of other
    checkpoints go.

    Args:
      data: the built set; by default the one that the run was trained on.
      part: "train", "val" or "test".
      margin: pixels; by default the configuration's `margin_eval`.
      margins: pixels; scored beside, without a say in the figures.

    Returns:
      The figures, as `analysis.operating_point.summarise` gives them.

    Raises:
      RunError, ConfigError, DataError: the run, an option or the data cannot be used.
    """
    part, part_in_split = part_names(part)
    for name, given in (("margin", [] if margin is None else [margin]), ("margins", margins)):
        if any(value < 0 for value in given):
            raise ConfigError(f"{name}: found {min(given)}, expected a whole number of pixels >= 0")
    trained = open_trained(run, which)
    config = trained.config
    margin = config.margin_eval if margin is None else margin
    dataset = open_run_data(run, data, config)
    parts = splits.read_run_split(run, config, dataset.records, dataset.near_duplicates)
    mapping = scoring_mapping(config)
    variables = mapping.put(trained.variables)

    def score(name: str, at: int) -> Predictions:
        in_split = part_names(name)[1]
        rows = parts[in_split]
        scores = score_rows(mapping, variables, dataset, rows, config, at)
        return predictions_table(dataset, rows, scores, in_split, at)

    scored = {(name, margin): score(name, margin) for name in dict.fromkeys(("val", part))}
    cutoff = Cutoff(0.5, "0.5, fixed")
    if part != "val":
        validation = scored["val", margin]
        cutoff = Cutoff(youden_cutoff(validation.labels, validation.scores), "validation, Youden")
    predictions = scored[part, margin]
    figures = {
        **summarise(
            predictions.labels,
            predictions.scores,
            cutoff.value,
            cutoff.source,
            predictions.patient_ids,
            clusters=True,
        ),
        "split": part_in_split,
        "margin": margin,
        "step": trained.step,
    }
    gallery = None
    if part == "test":
        gallery = make_gallery(
            trained, dataset, parts["test"], predictions.scores, cutoff.value, margin
        )
    for name in dict.fromkeys(("val", part)):
        for at in margins:
            if (name, at) not in scored:
                scored[name, at] = score(name, at)

    for name in dict.fromkeys(("val", part)):
        write_predictions(run / "predictions" / f"{name}.csv", scored[name, margin])
    _write_margins(
        run / "predictions",
        trained.step,
        {pair: table for pair, table in scored.items() if pair[1] in margins},
    )
    if gallery:
        write_gallery(run, gallery)
    write_metrics(run / ("metrics.json" if part == "test" else f"metrics_{part}.json"), figures)
    return figures


def _write_margins(folder: Path, step: int, scored: dict[tuple[str, int], Predictions]) -> None:
    """PART_marginM.csv for each (part, margin), and the list of all of this checkpoint.

    What another checkpoint scored goes, whatever its part; so does what is not listed.
    """
    index = folder / "margins.json"
    margins: dict[str, list[int]] = {}
    try:
        listed = json.loads(index.read_text())
        if listed["step"] == step:
            margins = {name: [*map(int, at)] for name, at in listed["margins"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass  # no list, or none of ours: nothing is known of such files
    index.unlink(missing_ok=True)
    for name, at in scored:
        margins[name] = sorted({*margins.get(name, ()), at})
    names = {f"{name}_margin{at}.csv" for name, values in margins.items() for at in values}
    for path in folder.glob("*_margin*.csv"):
        if re.fullmatch(r"(train|val|test)_margin\d+\.csv", path.name) and path.name not in names:
            path.unlink()
    for (name, at), predictions in scored.items():
        write_predictions(folder / f"{name}_margin{at}.csv", predictions)
    if margins:
        write_json(index, {"step": step, "margins": margins})


def predictions_table(
    dataset: Dataset,
    rows: Int[np.ndarray, " n"],
    scores: Float[np.ndarray, " n"],
    part: str,
    margin: int,
) -> Predictions:
    """Scores of a set's rows with all that the set knows of them, as predictions.csv has it."""
    records = [dataset.records[row] for row in rows]

    def column(value_of: Any) -> tuple[str, ...]:
        return tuple("" if value_of(r) is None else f"{value_of(r)}" for r in records)

    return Predictions(
        image_ids=tuple(record.image_id for record in records),
        patient_ids=tuple(record.patient_id for record in records),
        labels=np.asarray([record.label for record in records], np.int64),
        scores=scores,
        columns={
            "split": (part,) * len(records),
            "margin": (str(margin),) * len(records),
            "size_mm": column(lambda r: None if r.size_mm is None else f"{r.size_mm:.6g}"),
            "tirads": column(lambda r: r.tirads),
            "composition": column(lambda r: r.composition),
            "echogenicity": column(lambda r: r.echogenicity),
            "calcification": column(lambda r: r.calcification),
            "margin_feature": column(lambda r: r.margin),
            "shape": column(lambda r: r.shape),
            "reader_label": column(lambda r: r.reader_label),
        },
    )


def predict(
    run: Path,
    image: Path,
    box: tuple[float, ...],
    which: Which = "best",
    pixel_spacing_mm: float | None = None,
) -> dict[str, Any]:
    """Score and call of one nodule.

    Args:
      image: an image file.
      box: x_min, y_min, x_max, y_max in pixels, half-open; fractions are rounded outward.
      pixel_spacing_mm: of the image, mm per pixel; needed where the run's margins are in mm.

    Returns:
      `score`, `call` ("benign" or "malignant", or the data's own label names), `cutoff` and
      `cutoff_from` (0.5 where the run has not been evaluated; says so where it was at another step
      or margin), `window` [left, top, width, height],
      `margin` (pixels), `step`.

    Raises:
      DataError: the image cannot be read, the box does not fit it, or the spacing is lacking or
        makes the margin too wide.
      RunError: the run cannot be used.
    """
    from thyrojax.data.records import box_outward

    if not all(math.isfinite(edge) for edge in box):
        raise DataError(f"--box: found {' '.join(map(str, box))}, expected four finite numbers")
    frame = load_image(image)
    height, width = frame.shape
    whole: Box = box_outward(*box)
    fault = box_fault(whole, width, height, str(image), "--box")
    if fault:
        raise DataError(str(fault))
    trained = open_trained(run, which)
    config = trained.config
    if config.margin_unit == "mm" and (pixel_spacing_mm is None or not pixel_spacing_mm > 0.0):
        raise DataError(
            f"--pixel-spacing: found {pixel_spacing_mm}, expected mm per pixel > 0: this run's "
            "margins are in mm"
        )
    try:
        margin = margin_pixels(config.margin_eval, config.margin_unit, pixel_spacing_mm)
    except ValueError as error:
        raise DataError(f"{image}, {error}") from None
    cut = window(whole, margin, config.crop_shape, config.border, height, width)
    crop = crop_opencv(frame, cut, config.input_size, config.border)
    score_step = jax.jit(score_members(config, make_score_step(config)))
    score = float(np.mean(score_step(trained.variables, crop[None, :, :, None])))
    cutoff, cutoff_from = run_cutoff(run, trained.step, config.margin_eval)
    return {
        "image": str(image),
        "score": score,
        "call": label_names(run)[int(score >= cutoff)],
        "cutoff": cutoff,
        "cutoff_from": cutoff_from,
        "window": list(cut),
        "margin": margin,
        "step": trained.step,
    }
