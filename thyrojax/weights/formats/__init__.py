"""One module for each file format of weights, all with the same names.

`NAME`: the format's name on the command line. `DESCRIPTION`: what it is, for messages.
`recognises(path)`: whether the content of a file or folder is of that format; never raises but
OSError. `read(path, request)`: a `Reading`, or WeightsError. Formats that can be written have
`write(path, arrays, variant, metadata)`, which makes a new file (or folder) at `path` and returns
notes on what the format cannot hold; `ENDING` of a name that asks for it; `NATIVE`, what the
framework's own class computes whatever the file says (pooling, last_pool), None where the file
decides; and `CHANNELS`, the depths of the first kernel that it can hold.
"""

from __future__ import annotations

import importlib
from typing import Any

# In the order in which content is tried: those that look closest come first.
FORMATS = (
    "onnx_graph",
    "stablehlo",
    "keras_h5",
    "keras_weights",
    "keras_zip",
    "flax_safetensors",
    "timm",
    "orbax",
    "torchscript",
    "torchvision",
    "fid",
    "tflite",
    "tfjs",
    "slim",
    "slim_frozen",
)


def load(name: str) -> Any:
    """A format's module, imported where it is needed."""
    return importlib.import_module(f"thyrojax.weights.formats.{name}")


def by_name(name: str) -> Any:
    """The module whose NAME it is."""
    return next(module for module in map(load, FORMATS) if name == module.NAME)
