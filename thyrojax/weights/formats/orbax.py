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
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from thyrojax.errors import WeightsError
from thyrojax.weights import names
from thyrojax.weights.types import (
    VARIANTS,
    Arrays,
    Reading,
    Request,
    Variant,
    describe,
    parse_description,
    raise_faults,
    shape_fault,
    value_fault,
)

NAME = "orbax"
DESCRIPTION = "Orbax checkpoint of a run, or of a network"
ENDING = ".orbax"
NATIVE = None
CHANNELS = (1, 3)

DESCRIPTION_FILE = "thyrojax.json"
MAX_JSON_BYTES = 2**22
BEST_METRIC = "val_auc"
FLOATS = ("float16", "bfloat16", "float32", "float64")


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
      WeightsError: one line with every fault: no checkpoint, a damaged one, one of another width,
        an array that is missing, unknown, not finite, of another shape or type.
    """
    place = _find(path)
    variant, metadata = _about(place, request)
    tree = _list(path, place.folder)
    prefix = "ema/" if any(key.startswith("ema/") for key in tree) else ""
    shapes, ignored, faults = _sort(tree, prefix, request)
    raise_faults(path, faults)
    arrays = _restore(path, place.folder, prefix, shapes)
    for name, array in arrays.items():
        if fault := value_fault(name, array):
            faults.append(f"{prefix}{name}: {fault}")
    raise_faults(path, faults)
    return Reading(arrays, tuple(prefix + name for name in shapes), ignored, variant, metadata)


def _find(path: Path) -> _Place:
    if (path / "_METADATA").is_file():
        return _Place(path, None)
    if (path / "default" / "_METADATA").is_file():
        run = path.parent.parent
        return _Place(path / "default", run if (run / "config.json").is_file() else None)
    steps = {
        int(folder.name): folder
        for folder in (path / "checkpoints").iterdir()
        if folder.name.isdigit() and (folder / "default" / "_METADATA").is_file()
    }
    if not steps:
        raise WeightsError(f"{path / 'checkpoints'}: found no checkpoint, expected a trained run")
    best = max(steps, key=lambda step: (_score(steps[step]), step))
    return _Place(steps[best] / "default", path)


def _score(step: Path) -> float:
    metrics = step / "metrics" / "metrics"
    value = _json(metrics).get(BEST_METRIC) if metrics.is_file() else None
    return value if isinstance(value, float) and not math.isnan(value) else -math.inf


def _json(path: Path) -> dict[str, Any]:
    if path.stat().st_size > MAX_JSON_BYTES:
        raise WeightsError(f"{path}: found a file of {path.stat().st_size} bytes, expected JSON")
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
            f"{place.run}: found a run of depth_multiplier {width}, expected "
            f"{request.depth_multiplier} (--depth-multiplier {width} reads it)"
        )
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


def _list(path: Path, folder: Path) -> dict[str, Any]:
    """Key, with slashes -> Orbax's description of the array: its shape and dtype."""
    import orbax.checkpoint as ocp

    try:
        with ocp.PyTreeCheckpointer() as checkpointer:
            found = checkpointer.metadata(folder.absolute()).item_metadata.tree
    except Exception as error:  # whatever a database makes of damage
        raise WeightsError(f"{path}: found {_line(error)}, expected an Orbax checkpoint") from None
    from jax.tree_util import tree_flatten_with_path

    leaves, _ = tree_flatten_with_path(found)
    return {
        "/".join(str(getattr(k, "key", getattr(k, "name", k))) for k in keys): leaf
        for keys, leaf in leaves
    }


def _sort(
    tree: Mapping[str, Any], prefix: str, request: Request
) -> tuple[names.Shapes, dict[str, str], list[str]]:
    """What is to be read, why the rest is not, and what is wrong with either."""
    shapes = request.shapes()
    ignored: dict[str, str] = {}
    for bias, make_shapes in (
        (names.HEAD_BIAS, names.head_shapes),
        (names.AUX_BIAS, names.aux_shapes),
    ):
        if prefix + bias in tree:
            size = math.prod(tree[prefix + bias].shape)
            head = make_shapes(size, request.depth_multiplier)
            if request.head == "keep":
                shapes |= head
            else:
                ignored |= {prefix + name: "classifier: not asked for" for name in head}
    faults = []
    for key, leaf in tree.items():
        name = key.removeprefix(prefix)
        if key.startswith(prefix) and name in shapes:
            if str(leaf.dtype) not in FLOATS:
                faults.append(f"{key}: found values of type {leaf.dtype}, expected floats")
            elif fault := shape_fault(name, leaf.shape, shapes[name]):
                faults.append(f"{key}: {fault}")
        elif key.startswith("opt_state/"):
            ignored[key] = "optimizer state"
        elif key == "step":
            ignored[key] = "counter of training steps"
        elif prefix and key.startswith(("params/", "batch_stats/")):
            ignored[key] = "the average of it is read instead"
        elif key not in ignored:
            faults.append(f"{key}: found an unknown array, expected none")
    faults += [
        f"{prefix}{name}: found none, expected an array of shape {shape}"
        for name, shape in shapes.items()
        if prefix + name not in tree
    ]
    return shapes, ignored, faults


def _restore(path: Path, folder: Path, prefix: str, shapes: names.Shapes) -> Arrays:
    """Restores these arrays and no others, as float32."""
    import orbax.checkpoint as ocp
    from flax.traverse_util import flatten_dict, unflatten_dict

    keys = [prefix + name for name in shapes]
    item = unflatten_dict(dict.fromkeys(keys, 0), sep="/")
    arguments = unflatten_dict(
        dict.fromkeys(keys, ocp.RestoreArgs(restore_type=np.ndarray, dtype=np.float32)), sep="/"
    )
    try:
        with ocp.PyTreeCheckpointer() as checkpointer:
            found = checkpointer.restore(
                folder.absolute(),
                args=ocp.args.PyTreeRestore(
                    item=item, restore_args=arguments, partial_restore=True
                ),
            )
    except Exception as error:  # whatever a database makes of damage
        raise WeightsError(f"{path}: found {_line(error)}, expected an Orbax checkpoint") from None
    flat = flatten_dict(found, sep="/")
    return {name: np.asarray(flat[prefix + name]) for name in shapes}


def _line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"damage ({lines[0][:200] if lines else type(error).__name__})"


def write(path: Path, arrays: Arrays, variant: Variant, metadata: Mapping[str, Any]) -> list[str]:
    """Writes a folder. It can hold all that there is."""
    import orbax.checkpoint as ocp
    from flax.traverse_util import unflatten_dict

    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path.absolute(), unflatten_dict(contiguous, sep="/"))
    (path / DESCRIPTION_FILE).write_text(describe(arrays, variant, metadata) + "\n")
    return []
