"""The network that the Frechet inception distance is defined by, as a state dict of pytorch-fid.

The file `pt_inception-2015-12-05-6726825d.pth`: torchvision's names, 1008 classes and no auxiliary
head. Average pools do not count padding, and the last block has a max pool. A file is told by its
1008 classes; where those are cut off and it is not ours, `variant="fid"` must say it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thyrojax.weights.formats import torch_file, torchvision
from thyrojax.weights.types import Arrays, Reading, Request, Variant

NAME = "fid"
DESCRIPTION = "FID network of 2015, a state dict of pytorch-fid (.pth)"
ENDING = ".fid.pth"
NATIVE = ("valid", "max")
CHANNELS = (3,)


def recognises(path: Path) -> bool:
    """Whether torch saved it, with 1008 classes or as we write it."""
    return torch_file.kind(path) in ("archive", "stream") and torchvision.is_fid(path)


def read(path: Path, request: Request) -> Reading:
    """Reads it as torchvision's. Errors as there."""
    return torchvision.read(path, request)


def write(path: Path, arrays: Arrays, variant: Variant, metadata: Mapping[str, Any]) -> list[str]:
    """Writes what pytorch_fid's `fid_inception_v3` takes with `strict=True`."""
    kept = {name: array for name, array in arrays.items() if "/AuxLogits/" not in name}
    torchvision.write(path, kept, variant, metadata, NAME)
    left_out = len(kept) < len(arrays)
    return ["AuxLogits: left out, the FID network has none"] if left_out else []
