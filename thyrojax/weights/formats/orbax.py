"""Orbax checkpoints: of a run of `thyrojax train`, or a folder with the network alone.

What is written is an Orbax checkpoint of {"params", "batch_stats"}, beside a thyrojax.json with the
description. Without thyrojax it is read by

    import orbax.checkpoint as ocp
    variables = ocp.StandardCheckpointer().restore(FOLDER)  # an absolute path

Of a run the best checkpoint by validation AUC is read, and of its state what predictions are made
with: the averages where the run keeps them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from thyrojax.errors import WeightsError
from thyrojax.weights import own_names
from thyrojax.weights.formats import orbax_store
from thyrojax.weights.types import (
    VARIANTS,
    Arrays,
    Reading,
    Request,
    Variant,
    describe,
    parse_description,
)

NAME = "orbax"
DESCRIPTION = "Orbax checkpoint of a run, or of a network"
ENDING = ".orbax"
NATIVE = None
CHANNELS = (1, 3)
OWN_FILES = ("_METADATA", "thyrojax.json")  # of a folder that may be replaced

DESCRIPTION_FILE = "thyrojax.json"
MAX_JSON_BYTES = 2**22
BEST_METRIC = "val_auc"


class _Place(NamedTuple):
    """Where the checkpoint is, and the run that it is of."""

    folder: Path  # with Orbax's _METADATA
    run: Path | None


def recognises(path: Path) -> bool:
    """Whether it is a run folder, a step of its checkpoints, or a folder of Orbax's own layout."""
    if not path.is_dir():
        return False
    run = (path / "config.json").is_file() and (path / "checkpoints").is_dir()
    return run or any((path / name).is_file() for name in ("_METADATA", "default/_METADATA"))


def read(path: Path, request: Request) -> Reading:
    """Reads the network of a checkpoint; all else of it is named as ignored.

    Raises:
      WeightsError: one line with every fault, as `own_names.assemble`; no checkpoint, a damaged
        one, or a run of another width.
    """
    place = _find(path)
    variant, metadata = _about(place, request)
    files = orbax_store.list_arrays(path, place.folder)
    averages = [top for top in ("swa/", "ema/") if any(key.startswith(top) for key in files)]
    prefix = averages[0] if averages else ""
    reasons = _reasons(files, prefix)
    wanted = [(key, file) for key, file in files.items() if key not in reasons]
    tensors = orbax_store.open_arrays(path, place.folder, wanted)
    found = own_names.assemble(path, tensors, request, prefix, reasons)
    notes: tuple[str, ...] = ()
    if place.run is None and reasons:
        notes = ("no config.json of a run: pooling and epsilon are taken to be the default",)
    return Reading(found.arrays, found.used, found.ignored, variant, metadata, notes)


def _find(path: Path) -> _Place:
    if not (path / "checkpoints").is_dir():
        folder = path if (path / "_METADATA").is_file() else path / "default"
        above = path.resolve().parents[:2]
        runs = [parent.parent for parent in above if parent.name == "checkpoints"]
        return _Place(folder, next((run for run in runs if (run / "config.json").is_file()), None))
    steps = {
        int(folder.name): folder
        for folder in (path / "checkpoints").iterdir()
        if folder.name.isdecimal() and (folder / "default" / "_METADATA").is_file()
    }
    if not steps:
        raise WeightsError(f"{path / 'checkpoints'}: found no checkpoint, expected a trained run")
    best = max(steps, key=lambda step: (_score(steps[step]), step))
    return _Place(steps[best] / "default", path)


def _score(step: Path) -> float:
    metrics = step / "metrics" / "metrics"
    value = _json(metrics).get(BEST_METRIC) if metrics.is_file() else None
    return float(value) if isinstance(value, int | float) and 0 <= value <= 1 else -math.inf


def _json(path: Path) -> dict[str, Any]:
    if (size := path.stat().st_size) > MAX_JSON_BYTES:
        raise WeightsError(f"{path}: found {size} bytes, expected at most {MAX_JSON_BYTES}")
    try:
        content = json.loads(path.read_text())
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise WeightsError(f"{path}: found no JSON object, expected one")
    return content


def _about(place: _Place, request: Request) -> tuple[Variant, dict[str, Any]]:
    """The variant and the metadata, from the run's configuration or from our description."""
    description = place.folder / DESCRIPTION_FILE
    if place.run is None:
        text = json.dumps(_json(description)) if description.is_file() else ""
        try:
            return parse_description(text, VARIANTS["keras"])
        except ValueError as error:
            raise WeightsError(f"{description}: {error}") from None
    config = _json(place.run / "config.json")
    width = config.get("depth_multiplier", 1.0)
    if width != request.depth_multiplier:
        raise WeightsError(
            f"{place.run}: found a run of depth_multiplier {width!r}, expected "
            f"{request.depth_multiplier} (--depth-multiplier {width!r} reads it)"
        )
    if (members := config.get("members", 1)) != 1:
        raise WeightsError(f"{place.run}: found a run of {members} networks, expected one of one")
    variant = Variant(config.get("pooling", ""), epsilon=config.get("bn_epsilon", 0.0))
    if fault := variant.fault():
        raise WeightsError(f"{place.run / 'config.json'}: {fault}")
    data = place.run / "data.json"
    labels = _json(data).get("label_names") if data.is_file() else None
    crop = {
        "shape": config.get("crop_shape"),
        "border": config.get("border"),
        "margin": config.get("margin_eval"),
        "interpolation": "bilinear, half-pixel, not antialiased",
    }
    metadata = {
        "labels": labels or ["benign", "malignant"],
        "input_size": config.get("input_size"),
        "crop": crop,
    }
    return variant, metadata


def _reasons(keys: Iterable[str], prefix: str) -> dict[str, str]:
    """Why what is not of the network is left out."""
    reasons = {}
    for key in keys:
        if key.startswith("opt_state/"):
            reasons[key] = "optimizer state"
        elif key == "step":
            reasons[key] = "counter of training steps"
        elif key == "swa/count":
            reasons[key] = "counter of what is in the average"
        elif prefix and key.startswith(("params/", "batch_stats/")):
            reasons[key] = "the average of it is read instead"
    return reasons


def write(path: Path, arrays: Arrays, variant: Variant, metadata: Mapping[str, Any]) -> list[str]:
    """Writes a folder. It can hold all that there is."""
    import orbax.checkpoint as ocp
    from flax.traverse_util import unflatten_dict

    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path.absolute(), unflatten_dict(contiguous, sep="/"))
    (path / DESCRIPTION_FILE).write_text(describe(arrays, variant, metadata) + "\n")
    return []
