"""Runs a trained network: over a part of its data, on one image, or for its pooled features."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from thyrojax import config as config_file
from thyrojax.analysis.cutoff import Cutoff, youden_cutoff
from thyrojax.analysis.operating_point import summarise, write_metrics
from thyrojax.analysis.predictions import Predictions, write_predictions
from thyrojax.config import Config
from thyrojax.data import splits
from thyrojax.data.crop import Window, crop_opencv, window
from thyrojax.data.dataset import Dataset, Record, open_dataset
from thyrojax.data.records import Box, box_fault, load_image
from thyrojax.errors import ConfigError, DataError, RunError
from thyrojax.files import write_json, write_whole
from thyrojax.shapes import Float, Int, PyTree, UInt8
from thyrojax.train import checkpoint
from thyrojax.train.mapping import Mapping, make_mapping
from thyrojax.train.schedule import make_optimizer
from thyrojax.train.scoring import score_rows
from thyrojax.train.start import abstract_state
from thyrojax.train.state import evaluation_variables
from thyrojax.train.step import make_score_step, make_train_step

Which = Literal["best", "latest"]
PARTS = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}


@dataclass(frozen=True)
class TrainedRun:
    """A run folder with the variables of one of its checkpoints."""

    folder: Path
    config: Config
    step: int
    variables: PyTree  # one copy, on the first device


def open_trained(run: Path, which: Which = "best") -> TrainedRun:
    """Opens a run and restores its best (by validation AUC) or latest checkpoint.

    Raises:
      RunError: not a run folder, no checkpoint, or a damaged one.
      ConfigError: config.json is damaged.
    """
    if not (run / "config.json").is_file():
        raise RunError(f"{run}: found no config.json, expected a folder made by `thyrojax train`")
    config = config_file.from_json(run / "config.json")
    if not (run / "checkpoints").is_dir():
        raise RunError(f"{run / 'checkpoints'}: found no such folder, expected a trained run")
    checkpoints = checkpoint.open_checkpoints(run, read_only=True)
    step = checkpoint.choose_step(checkpoints, run, which)
    state = checkpoint.restore(checkpoints, abstract_state(config, make_optimizer(config, 1)), step)
    checkpoints.close()
    return TrainedRun(run, config, step, evaluation_variables(state))


def evaluate(
    run: Path,
    data: Path | None = None,
    part: str = "test",
    margin: int | None = None,
    which: Which = "best",
) -> dict[str, Any]:
    """Scores a part of a run's data and measures it.

    Writes RUN/predictions/PART.csv (PART: train, val or test) and the figures: RUN/metrics.json for
    the test part, RUN/metrics_PART.json for another. The cutoff is Youden's on the validation part,
    which is scored too; where that is the part reported, the cutoff is 0.5.

    Args:
      data: the built set; by default the one that the run was trained on.
      part: "train", "val" or "test".
      margin: pixels; by default the configuration's `margin_eval`.

    Returns:
      The figures, as `analysis.operating_point.summarise` gives them.

    Raises:
      RunError, ConfigError, DataError: the run, an option or the data cannot be used.
    """
    if part not in PARTS:
        raise ConfigError(f"split: found {part!r}, expected train, val or test")
    if margin is not None and margin < 0:
        raise ConfigError(f"margin: found {margin}, expected a whole number of pixels >= 0")
    trained = open_trained(run, which)
    config = trained.config
    margin = config.margin_eval if margin is None else margin
    dataset = _open_run_data(run, data, config)
    parts = splits.read_split(run / "split.csv", dataset.records)
    mapping = scoring_mapping(config)
    variables = mapping.put(trained.variables)

    def score(name: str) -> Predictions:
        rows = parts[PARTS[name]]
        scores = score_rows(mapping, variables, dataset, rows, config, margin)
        return predictions_table(dataset, rows, scores, PARTS[name], margin)

    part = "val" if part == "validation" else part
    predictions = score(part)
    cutoff = Cutoff(0.5, "0.5, fixed")
    if part != "val":
        validation = score("val")
        write_predictions(run / "predictions" / "val.csv", validation)
        cutoff = Cutoff(youden_cutoff(validation.labels, validation.scores), "validation, Youden")
    figures = {
        **summarise(
            predictions.labels,
            predictions.scores,
            cutoff.value,
            cutoff.source,
            predictions.patient_ids,
        ),
        "split": PARTS[part],
        "margin": margin,
        "step": trained.step,
    }
    write_predictions(run / "predictions" / f"{part}.csv", predictions)
    if part == "test":
        _write_examples(run, dataset, parts["test"], predictions.scores, config, margin)
    write_metrics(run / ("metrics.json" if part == "test" else f"metrics_{part}.json"), figures)
    return figures


def scoring_mapping(config: Config) -> Mapping:
    """A mapping for scoring, over as many devices as divide the run's batch."""
    devices = jax.local_devices()
    devices = devices[: math.gcd(len(devices), config.batch_size)]
    ones = np.ones(2, np.float32)
    train_step = make_train_step(config, make_optimizer(config, 1), ones)  # traced only when used
    return make_mapping(
        config.mapping, train_step, make_score_step(config), config.batch_size, devices
    )


def _open_run_data(run: Path, data: Path | None, config: Config) -> Dataset:
    try:
        info = json.loads((run / "data.json").read_text())
        fingerprint, folder = info["fingerprint"], Path(info["folder"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{run / 'data.json'}: found {error!r}, expected what `thyrojax train` wrote"
        ) from None
    dataset = open_dataset(data or folder, cache_mb=config.cache_mb)
    if dataset.fingerprint != fingerprint:
        raise DataError(
            f"{dataset.folder}: found data with fingerprint {dataset.fingerprint[:12]}..., "
            f"expected {fingerprint[:12]}..., which the run was trained on"
        )
    return dataset


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


EXAMPLES_OF_EACH_KIND = 2


def _write_examples(
    run: Path,
    dataset: Dataset,
    rows: Int[np.ndarray, " n"],
    scores: Float[np.ndarray, " n"],
    config: Config,
    margin: int,
) -> None:
    """RUN/examples.json and its images: of each class the surest right and the surest wrong."""
    examples: list[dict[str, Any]] = []
    for label in (0, 1):
        of_class = [i for i, row in enumerate(rows) if dataset.records[row].label == label]
        sure_right = sorted(of_class, key=lambda i: abs(label - scores[i]))
        n = EXAMPLES_OF_EACH_KIND
        for i in dict.fromkeys(sure_right[:n] + sure_right[n:][-n:]):
            record, frame = dataset.records[rows[i]], dataset.frame(int(rows[i]))
            cut = record_window(record, frame, config, margin)
            crop = crop_opencv(frame, cut, config.input_size, config.border)
            name = f"{len(examples):02d}"
            write_whole(run / "examples" / f"{name}.png", _png(frame))
            write_whole(run / "examples" / f"{name}_input.png", _png(crop.round().astype(np.uint8)))
            examples.append(
                {
                    "image_id": record.image_id,
                    "label": label,
                    "score": float(scores[i]),
                    "frame": f"examples/{name}.png",
                    "box": list(record.box),
                    "window": list(cut),
                    "input": f"examples/{name}_input.png",
                }
            )
    write_json(run / "examples.json", examples)


def record_window(
    record: Record, frame: UInt8[np.ndarray, "height width"], config: Config, margin: int
) -> Window:
    """The window of a record's nodule under a configuration's crop."""
    height, width = frame.shape
    return window(record.box, margin, config.crop_shape, config.border, height, width)


def _png(image: UInt8[np.ndarray, "height width"]) -> bytes:
    import cv2

    return cv2.imencode(".png", image)[1].tobytes()


def predict(
    run: Path, image: Path, box: tuple[float, ...], which: Which = "best"
) -> dict[str, Any]:
    """Score and call of one nodule.

    Args:
      image: an image file.
      box: x_min, y_min, x_max, y_max in pixels, half-open; fractions are rounded outward.

    Returns:
      `score`, `call` ("benign" or "malignant", or the data's own label names), `cutoff` and
      `cutoff_from` (0.5 where the run has not been evaluated), `window` [left, top, width, height],
      `margin`, `step`.

    Raises:
      DataError: the image cannot be read, or the box does not fit it.
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
    cut = window(whole, config.margin_eval, config.crop_shape, config.border, height, width)
    crop = crop_opencv(frame, cut, config.input_size, config.border)
    score = float(jax.jit(make_score_step(config))(trained.variables, crop[None, :, :, None])[0])
    cutoff, cutoff_from = _run_cutoff(run)
    return {
        "image": str(image),
        "score": score,
        "call": _label_names(run)[int(score >= cutoff)],
        "cutoff": cutoff,
        "cutoff_from": cutoff_from,
        "window": list(cut),
        "margin": config.margin_eval,
        "step": trained.step,
    }


def _run_cutoff(run: Path) -> tuple[float, str]:
    path = run / "metrics.json"
    if not path.exists():
        return 0.5, "0.5: the run has not been evaluated"
    try:
        metrics = json.loads(path.read_text())
        return float(metrics["cutoff"]), str(metrics["cutoff_from"])
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{path}: found {error!r}, expected what `thyrojax evaluate` wrote"
        ) from None


def _label_names(run: Path) -> list[str]:
    try:
        return list(json.loads((run / "data.json").read_text())["label_names"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{run / 'data.json'}: found {error!r}, expected what `thyrojax train` wrote"
        ) from None
