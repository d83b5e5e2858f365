"""`thyrojax explain`: the calls of a trained run, a map for each, and its share inside the box."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from thyrojax.analysis.cutoff import call_positive
from thyrojax.data import splits
from thyrojax.errors import ConfigError
from thyrojax.files import write_csv, write_folder
from thyrojax.model.explain import BLOCK_OF_END, SanityStep
from thyrojax.nodule_maps import (
    LAST_LAYER,
    METHODS,
    Method,
    check_sanity,
    choose_shown,
    explain_rows,
    grey,
    png,
)
from thyrojax.shapes import Int
from thyrojax.train.scoring import score_rows
from thyrojax.trained_run import (
    Which,
    open_run_data,
    open_trained,
    part_names,
    run_cutoff,
    scoring_mapping,
)

SANITY_NODULES = 16
COLUMNS = (
    *("image_id", "label", "score", "method", "layer", "mass_in_box", "box_share"),
    *("target", "completeness_gap", "logit_difference", "map", "note"),
)

Say = Callable[[str], None]


def explain(
    run: Path,
    data: Path | None = None,
    part: str = "test",
    method: Method = "gradcam",
    layer: str | None = None,
    which: Which = "best",
    margin: int | None = None,
    target: Literal["called", "benign", "malignant"] = "called",
    n: int | None = None,
    sanity: bool = False,
    say: Say = lambda line: None,
) -> dict[str, Any]:
    """Explains the nodules of a part of a run's data.

    Writes RUN/explanations/PART.csv, a line a nodule, and into RUN/explanations/PART the input and
    the map of those that `choose_shown` chooses (NN_input.png, NN_map.png); with `sanity`,
    sanity.csv too. What an earlier call wrote of the part is replaced.

    Args:
      data, part, margin: as for `evaluate`.
      layer: of Grad-CAM, mixed0 to mixed10; None is mixed10.
      target: the class that is explained: the one called at the run's cutoff, or always one.
      n: only so many nodules, drawn by the run's seed.
      sanity: also how much the maps change as layers are made random, on 16 nodules.

    Returns:
      `split`, `n`, `method`, `layer`, `target`, `margin`, `margin_unit`, `step`, `mass_in_box` and
      `box_share` (medians; None without a map), `above_chance` (maps with more mass than the box's
      share), `without_map`, `completeness_gap` and `logit_difference` (medians of their sizes, None
      but for integrated gradients), `sanity` (list of steps) and `file`.

    Raises:
      RunError, ConfigError, DataError: the run, an option or the data cannot be used.
    """
    part, part_in_split = part_names(part)
    _check_options(method, layer, margin, n)
    layer = layer or LAST_LAYER
    trained = open_trained(run, which)
    config = trained.config
    margin = config.margin_eval if margin is None else margin
    cutoff, cutoff_from = run_cutoff(run, trained.step, margin)
    dataset = open_run_data(run, data, config)
    parts = splits.read_run_split(run, config, dataset.records, dataset.near_duplicates)
    rows = _sample(parts[part_in_split], n, config.seed)
    say(f"calls at cutoff {cutoff:.4f} ({cutoff_from})")
    mapping = scoring_mapping(config)
    scores = score_rows(mapping, mapping.put(trained.variables), dataset, rows, config, margin)
    labels = np.asarray([dataset.records[row].label for row in rows], np.int64)
    targets = call_positive(scores, cutoff).astype(np.int64)
    if target != "called":
        targets = np.full(len(rows), int(target == "malignant"), np.int64)

    shown = {
        place: f"{number:02d}" for number, place in enumerate(choose_shown(labels, scores, cutoff))
    }
    files: dict[str, bytes] = {}
    lines: list[dict[str, Any]] = []
    found = explain_rows(trained.variables, config, dataset, rows, targets, margin, method, layer)
    for place, one in enumerate(found):
        if place in shown:
            files[f"{shown[place]}_input.png"] = png(one.crop)
            files[f"{shown[place]}_map.png"] = png(grey(one.map))
        lines.append(
            {
                "image_id": dataset.records[rows[place]].image_id,
                "label": int(labels[place]),
                "score": float(scores[place]),
                "method": method,
                "layer": layer if method == "gradcam" else "input",
                "mass_in_box": one.mass_in_box,
                "box_share": one.box_share,
                "target": int(targets[place]),
                "completeness_gap": one.gap,
                "logit_difference": one.difference,
                "map": f"explanations/{part}/{shown[place]}_map.png" if place in shown else None,
                "note": one.note,
            }
        )
        if len(lines) % 100 == 0:
            say(f"explained {len(lines)} of {len(rows)}")
    steps: tuple[SanityStep, ...] = ()
    if sanity:
        say("sanity check")
        some = np.flatnonzero(np.isin(rows, _sample(rows, SANITY_NODULES, config.seed)))
        steps = check_sanity(
            trained.variables, config, dataset, rows[some], targets[some], margin, method, layer
        )
        files["sanity.csv"] = _csv([SanityStep._fields, *steps])
    write_folder(run / "explanations" / part, files)
    file = run / "explanations" / f"{part}.csv"
    write_csv(file, [COLUMNS, *([line[column] for column in COLUMNS] for line in lines)])
    return {
        "split": part_in_split,
        "n": len(lines),
        "method": method,
        "layer": lines[0]["layer"],
        "target": target,
        "margin": margin,
        "margin_unit": config.margin_unit,
        "step": trained.step,
        **_summary(lines),
        "sanity": [step._asdict() for step in steps],
        "file": str(file),
    }


def _check_options(method: str, layer: str | None, margin: int | None, n: int | None) -> None:
    if method not in METHODS:
        raise ConfigError(f"method: found {method!r}, expected one of {', '.join(METHODS)}")
    if layer is not None and method != "gradcam":
        raise ConfigError(f"layer: found {layer!r} with {method}, expected it with gradcam only")
    if layer is not None and layer not in BLOCK_OF_END:
        raise ConfigError(f"layer: found {layer!r}, expected mixed0 to mixed10")
    if margin is not None and margin < 0:
        raise ConfigError(f"margin: found {margin}, expected a whole number of pixels >= 0")
    if n is not None and n < 1:
        raise ConfigError(f"n: found {n}, expected a whole number >= 1")


def _sample(rows: Int[np.ndarray, " n"], n: int | None, seed: int) -> Int[np.ndarray, " m"]:
    """`n` of the rows, in their order; all where there are no more."""
    if n is None or n >= len(rows):
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, n, replace=False))


def _summary(lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    with_map = [line for line in lines if line["mass_in_box"] is not None]

    def median(values: Iterable[float | None]) -> float | None:
        known = [abs(value) for value in values if value is not None]
        return float(np.median(known)) if known else None

    return {
        "mass_in_box": median(line["mass_in_box"] for line in with_map),
        "box_share": median(line["box_share"] for line in with_map),
        "above_chance": sum(line["mass_in_box"] > line["box_share"] for line in with_map),
        "without_map": len(lines) - len(with_map),
        "completeness_gap": median(line["completeness_gap"] for line in lines),
        "logit_difference": median(line["logit_difference"] for line in lines),
    }


def _csv(rows: Sequence[Sequence[Any]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
