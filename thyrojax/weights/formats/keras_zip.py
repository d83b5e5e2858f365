"""Keras 3's .keras: a zip of the model's description and its arrays, from `model.save`.

Read as data: nothing is unpacked to disk, and no layer of the description is made into an object.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from thyrojax.errors import WeightsError
from thyrojax.weights import names
from thyrojax.weights.formats import hdf5, keras_config, keras_h5, keras_vars, zip_directory
from thyrojax.weights.keras_graph import Layer, model_layers
from thyrojax.weights.types import (
    DESCRIPTION_KEY,
    MAX_DESCRIPTION_BYTES,
    Arrays,
    Reading,
    Request,
    Variant,
    describe,
    raise_faults,
)

NAME = "keras"
DESCRIPTION = "Keras 3 .keras"
ENDING = ".keras"
NATIVE = None
CHANNELS = (1, 3)

WEIGHTS, MODEL, METADATA = "model.weights.h5", "config.json", "metadata.json"
MAX_EXPANSION = 10  # of the arrays; floats deflate by a tenth, unused optimizer slots more
WRITTEN_AS = "3.9.0"  # version of Keras whose layout it is; later ones are the same in it
WRITTEN_ON = (1980, 1, 1, 0, 0, 0)  # the zip's earliest, so that equal networks are equal files


def recognises(path: Path) -> bool:
    """Whether it is a zip, even damaged, whose first file is one of a .keras."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return zip_directory.first_name(file.read(100)) in (WEIGHTS, MODEL, METADATA)


def read(path: Path, request: Request) -> Reading:
    """Reads the trunk, and the classifier on it where it is one dense layer on the pooled features.

    Raises:
      WeightsError: one line with every fault, as of the legacy format; or a zip that is damaged,
        locked, ambiguous, or holds more than it says.
    """
    contents, others = _unpack(path)
    faults: list[str] = []
    layers: list[keras_config.Layer] = []
    description = ""
    try:
        layers = keras_config.parse(contents[MODEL])
    except ValueError as error:
        faults.append(f"{MODEL}: {error}")
    try:
        metadata = json.loads(contents.get(METADATA, b"{}"))
        if isinstance(metadata, dict) and DESCRIPTION_KEY in metadata:
            description = json.dumps(metadata[DESCRIPTION_KEY])
    except (ValueError, RecursionError):
        faults.append(f"{METADATA}: found text that is not JSON, expected JSON")
    raise_faults(path, faults)
    ignored = dict.fromkeys(others, "asset")
    ignored[MODEL] = "description of the model: only its layers' names and options were looked at"
    if METADATA in contents and not description:
        ignored[METADATA] = "date and version"
    # The stream shares the bytes, so that they are in memory once.
    with hdf5.open_file(path, io.BytesIO(contents[WEIGHTS])) as file:
        return keras_vars.read(path, file, request, layers, description, ignored)


def _unpack(path: Path) -> tuple[dict[str, bytes], list[str]]:
    """The contents of the files that matter, and the names of the others."""
    try:
        with path.open("rb") as file:
            entries = zip_directory.list_entries(file)
            missing = [name for name in (WEIGHTS, MODEL) if name not in entries]
            if missing:
                raise ValueError(f"found no {' and no '.join(missing)}, expected both")
            limits = {
                MODEL: keras_config.MAX_BYTES,
                METADATA: MAX_DESCRIPTION_BYTES,
                WEIGHTS: MAX_EXPANSION * entries[WEIGHTS].packed,
            }
            contents = {
                name: zip_directory.read_entry(file, entries[name], limit)
                for name, limit in limits.items()
                if name in entries
            }
    except ValueError as error:
        raise WeightsError(f"{path}: {error}") from None
    return contents, [name for name in entries if name not in contents]


def write(path: Path, arrays: Arrays, variant: Variant, metadata: Mapping[str, Any]) -> list[str]:
    """Writes a model that `keras.saving.load_model(FILE)` opens, with softmax where it has classes.

    It takes images of any size, or of the one that `metadata` has as `input_size`, already
    preprocessed as the description says, as those of `keras.applications` do.
    """
    import h5py

    held, notes = keras_h5.without_aux_head(arrays)
    has_scales = any(
        bool((array != 1).any()) for name, array in held.items() if name.endswith("/bn/scale")
    )
    layers = model_layers(names.HEAD_BIAS in held, variant.pooling, variant.last_pool)
    exported = metadata.get("export") or metadata
    model = describe_model(layers, held, variant.epsilon, has_scales, exported.get("input_size"))
    about = {
        "keras_version": WRITTEN_AS,
        DESCRIPTION_KEY: json.loads(describe(held, variant, metadata)),
    }
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        keras_vars.write(file, held, layers, has_scales)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in (
            (METADATA, json.dumps(about).encode()),
            (MODEL, json.dumps(model).encode()),
            (WEIGHTS, content.getbuffer()),
        ):
            with archive.open(zipfile.ZipInfo(name, WRITTEN_ON), "w") as entry:
                entry.write(data)
    return notes


def describe_model(
    layers: tuple[Layer, ...],
    arrays: Mapping[str, np.ndarray],
    epsilon: float,
    has_scales: bool,
    input_size: int | None = None,
) -> dict[str, Any]:
    """The model as Keras 3 describes it in config.json; what is not said has Keras' defaults."""
    channels = arrays[names.FIRST_KERNEL].shape[2]
    described = []
    for layer in layers:
        settings = {"name": layer.name, "dtype": "float32", **layer.settings}
        if layer.kind == "InputLayer":
            settings["batch_shape"] = [None, input_size, input_size, channels]
        elif layer.kind == "BatchNormalization":
            settings |= {"axis": 3, "epsilon": epsilon, "scale": has_scales}
        elif layer.kind == "Conv2D" and layer.unit:
            kernel = arrays[f"params/{layer.unit.path}/conv/kernel"]
            settings["filters"] = kernel.shape[3]
        elif layer.kind == "Dense":
            settings["units"] = len(arrays[names.HEAD_BIAS])
        if layer.kind in ("Conv2D", "ZeroPadding2D") or "Pooling2D" in layer.kind:
            settings["data_format"] = "channels_last"
        tensors = [_tensor(before) for before in layer.inputs]
        read = tensors if layer.kind == "Concatenate" else tensors[0] if tensors else None
        described.append(
            {
                "module": "keras.layers",
                "class_name": layer.kind,
                "config": settings,
                "registered_name": None,
                "name": layer.name,
                "inbound_nodes": [{"args": [read], "kwargs": {}}] if tensors else [],
            }
        )
    return {
        "module": "keras.src.models.functional",
        "class_name": "Functional",
        "config": {
            "name": "inception_v3",
            "trainable": True,
            "layers": described,
            "input_layers": [layers[0].name, 0, 0],
            "output_layers": [layers[-1].name, 0, 0],
        },
        "registered_name": "Functional",
        "build_config": {"input_shape": None},
        "compile_config": {},
    }


def _tensor(layer: Layer) -> dict[str, Any]:
    """A layer's output, as another layer's input; Keras finds it by the layer's name."""
    rank = 2 if layer.kind == "GlobalAveragePooling2D" else 4
    return {
        "class_name": "__keras_tensor__",
        "config": {
            "shape": [None] * rank,
            "dtype": "float32",
            "keras_history": [layer.name, 0, 0],
        },
    }
