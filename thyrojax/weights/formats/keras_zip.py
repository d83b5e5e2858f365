"""Keras 3's .keras: a zip of the model's description and its arrays, from `model.save`.

Read as data: nothing is unpacked to disk, and no layer of the description is made into an object.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from thyrojax.errors import WeightsError
from thyrojax.weights import names
from thyrojax.weights.formats import hdf5, keras_config, keras_h5, keras_vars
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
MAX_DIRECTORY_BYTES = 2**20
WRITTEN_AS = "3.9.0"  # version of Keras whose layout it is; later ones are the same in it
WRITTEN_ON = (1980, 1, 1, 0, 0, 0)  # the zip's earliest, so that equal networks are equal files

_LOCAL, _END, _END_64 = b"PK\x03\x04", b"PK\x05\x06", b"PK\x06\x07"
_END_BYTES, _COMMENT_BYTES = 22, 2**16

# What Python's zip reader makes of damage.
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, struct.error, RuntimeError, NotImplementedError, EOFError,
    ValueError, KeyError, IndexError, OverflowError, OSError,
)  # fmt: skip


def recognises(path: Path) -> bool:
    """Whether it is a zip, even damaged, whose first file is one of a .keras."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(100)
    if not start.startswith(_LOCAL) or len(start) < 30:
        return False
    name = start[30 : 30 + int.from_bytes(start[26:28], "little")]
    return name in (WEIGHTS.encode(), MODEL.encode(), METADATA.encode())


def read(path: Path, request: Request) -> Reading:
    """Reads the trunk, and the classifier on it where it is one dense layer on the pooled features.

    Raises:
      WeightsError: one line with every fault, as of the legacy format; or a zip that is damaged,
        locked, ambiguous, or holds more than it says.
    """
    contents, others = _unpack(path)
    faults: list[str] = []
    try:
        layers = keras_config.parse(contents[MODEL].getvalue())
    except ValueError as error:
        faults.append(f"{MODEL}: {error}")
    description = ""
    try:
        metadata = json.loads(contents[METADATA].getvalue()) if METADATA in contents else {}
        if isinstance(metadata, dict) and DESCRIPTION_KEY in metadata:
            description = json.dumps(metadata[DESCRIPTION_KEY])
    except (ValueError, RecursionError):
        faults.append(f"{METADATA}: found text that is not JSON, expected JSON")
    raise_faults(path, faults)
    ignored = dict.fromkeys(others, "asset")
    ignored[MODEL] = "description of the model: only its layers' names and options were looked at"
    if METADATA in contents:
        ignored[METADATA] = "date and version"
    with hdf5.open_file(path, contents[WEIGHTS]) as file:
        return keras_vars.read(path, file, request, layers, description, ignored)


def _unpack(path: Path) -> tuple[dict[str, io.BytesIO], list[str]]:
    """The contents of the files that matter, and the names of the others."""
    _check_directory(path)
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            _check_entries(path, entries)
            contents = {
                entry.filename: _read_entry(archive, entry)
                for entry in entries
                if entry.filename in (WEIGHTS, MODEL, METADATA)
            }
    except _DAMAGE as error:
        raise WeightsError(
            f"{path}: found a damaged zip ({hdf5.damage(error)}), expected a whole one"
        ) from None
    return contents, [entry.filename for entry in entries if entry.filename not in contents]


def _check_directory(path: Path) -> None:
    """Bounds the zip's list of files, which Python reads whole whatever its size."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - _END_BYTES - _COMMENT_BYTES))
        tail = file.read()
    end = tail.rfind(_END)
    if end < 0 or len(tail) - end < _END_BYTES:
        raise WeightsError(f"{path}: found a zip that is cut off, expected a whole one")
    (listed,) = struct.unpack_from("<L", tail, end + 12)
    if listed > MAX_DIRECTORY_BYTES or tail[max(0, end - 20) :].startswith(_END_64):
        raise WeightsError(
            f"{path}: found a zip whose list of files takes {listed} bytes, expected at most "
            f"{MAX_DIRECTORY_BYTES}"
        )


def _check_entries(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    faults: list[str] = []
    limits = {MODEL: keras_config.MAX_BYTES, METADATA: MAX_DESCRIPTION_BYTES}
    for name in (WEIGHTS, MODEL):
        n = sum(entry.filename == name for entry in entries)
        if n != 1:
            faults.append(f"{name}: found {n} files of this name, expected one")
    if sum(entry.filename == METADATA for entry in entries) > 1:
        faults.append(f"{METADATA}: found several files of this name, expected one")
    for entry in entries:
        if entry.filename not in (WEIGHTS, MODEL, METADATA):
            continue
        limit = limits.get(entry.filename, MAX_EXPANSION * entry.compress_size)
        if entry.flag_bits & 1:
            faults.append(f"{entry.filename}: found it encrypted, expected it plain")
        elif entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            faults.append(
                f"{entry.filename}: found compression {entry.compress_type}, expected none or "
                "deflate"
            )
        elif entry.file_size > limit:
            faults.append(
                f"{entry.filename}: found {entry.file_size} bytes from {entry.compress_size}, "
                f"expected at most {limit}"
            )
    raise_faults(path, faults)


def _read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> io.BytesIO:
    """The contents, of which the zip's reader gives no more than the size that was checked."""
    content = io.BytesIO()
    with archive.open(entry) as file:
        while piece := file.read(2**20):
            content.write(piece)
    content.seek(0)
    return content


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
