"""What exports for inference have in common: their input and outputs, and how they say so.

Input `image`: float32 [batch, height, width, channels], RGB or grey levels 0..255; the
preprocessing of the weights is within. Whole numbers would not do: crops resized as the network was
trained on are not whole, and rounding them changes the answer. Outputs: `pool` [batch, features]
and, with a classifier, `logits` and `probabilities` [batch, classes].
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from thyrojax.errors import WeightsError
from thyrojax.weights import names
from thyrojax.weights.types import Arrays, Variant, describe

INPUT = "image"
MIN_SIZE = 75  # px, below which the last blocks have nothing to read
MAX_SIZE = 2**14
MAX_NAME = 100  # characters of a name from a description that a message shows


def settle(
    path: Path, arrays: Arrays, variant: Variant, metadata: Mapping[str, Any]
) -> tuple[int | None, str]:
    """What an export's input is fixed to, and the export's description.

    Args:
      metadata: of the weights; `export` may have `input_size`, the side in px to fix.

    Returns:
      The side, None where any will do; and `types.describe`'s JSON, in which `export` tells what
      the input is, with the side as `fixed_size`.

    Raises:
      WeightsError: a side that the network cannot take.
    """
    asked = metadata.get("export")
    size = asked.get("input_size") if isinstance(asked, dict) else None
    if size is not None and (type(size) is not int or not MIN_SIZE <= size <= MAX_SIZE):
        raise WeightsError(
            f"{path}: found an input size of {size!r:.40} px, expected {MIN_SIZE} to {MAX_SIZE}"
        )
    export = {
        "input": INPUT,
        "layout": "NHWC",
        "type": "float32",
        "range": [0, 255],
        "colours": "grey" if arrays[names.FIRST_KERNEL].shape[2] == 1 else "RGB",
        "fixed_size": size,
    }
    about = {**metadata, "export": export}
    if size is not None:
        about["input_size"] = size
    return size, describe(arrays, variant, about)


def notes(arrays: Arrays) -> list[str]:
    """What no export holds."""
    return ["AuxLogits: left out, inference does not use it"] if names.AUX_BIAS in arrays else []


def parse(text: bytes) -> dict[str, Any]:
    """A description as it was written, {} for what is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def probe_size(description: Mapping[str, Any]) -> int:
    """Side in px of images to try an export with: what its input is fixed to, else a small one."""
    from thyrojax.weights.comparison import PROBE_SIZE

    export = description.get("export")
    size = export.get("fixed_size") if isinstance(export, dict) else None
    return size if isinstance(size, int) else PROBE_SIZE


def refuse(path: Path, kind: str, description: Mapping[str, Any]) -> NoReturn:
    """Says what the file is, and where its weights are to be had.

    Raises:
      WeightsError: always.
    """
    source = description.get("source")
    known = source if isinstance(source, dict) else {}
    file, sha256 = (str(known.get(name, "?"))[:MAX_NAME] for name in ("file", "sha256"))
    line = (
        f"{path}: found {kind} that thyrojax made of {file} (sha256 {sha256}), which can be run "
        "and not converted, expected that file"
    )
    raise WeightsError("".join(c if c.isprintable() else "?" for c in line))
