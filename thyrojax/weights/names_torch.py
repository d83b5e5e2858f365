"""The names of torchvision's and timm's state dicts, and how they map to ours.

Both call a unit's arrays `Mixed_5b.branch1x1.conv.weight` (kernel, OIHW), `.bn.weight`,
`.bn.bias`, `.bn.running_mean`, `.bn.running_var`, `.bn.num_batches_tracked`, and the classifiers
`fc.weight`, `fc.bias`, `AuxLogits.fc.weight` and so on. pytorch-fid has the same.
"""

from __future__ import annotations

import numpy as np

# Ours -> theirs: the last two levels of a path, the first of which is in both.
_ARRAYS = {
    ("params", "conv/kernel"): "conv.weight",
    ("params", "bn/scale"): "bn.weight",
    ("params", "bn/bias"): "bn.bias",
    ("batch_stats", "bn/mean"): "bn.running_mean",
    ("batch_stats", "bn/var"): "bn.running_var",
    ("params", "fc/kernel"): "fc.weight",
    ("params", "fc/bias"): "fc.bias",
}
COUNTER = "num_batches_tracked"  # of each BatchNorm, whose value evaluation does not use


def to_torch(path: str) -> str:
    """Their key for one of our paths."""
    tree, _, rest = path.partition("/")
    *parents, layer, array = rest.split("/")
    return ".".join([*parents, _ARRAYS[tree, f"{layer}/{array}"]])


def values_to_torch(values: np.ndarray) -> np.ndarray:
    """Their layout of an array of ours: HWIO to OIHW, dense kernels transposed. A view."""
    return values.transpose((3, 2, 0, 1)) if values.ndim == 4 else values.T


def values_from_torch(values: np.ndarray) -> np.ndarray:
    """Our layout of an array of theirs. A view."""
    return values.transpose((2, 3, 1, 0)) if values.ndim == 4 else values.T


def shape_to_torch(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Their shape of an array of ours."""
    return (shape[3], shape[2], shape[0], shape[1]) if len(shape) == 4 else shape[::-1]
