"""The names of TF-slim's variables, and how they map to ours.

They are those of `tf_slim.nets.inception_v3`, irregular where that is: a block's branches are
numbered, and within a branch the convolutions are lettered, `SCOPE/weights` and
`SCOPE/BatchNorm/beta`, `gamma`, `moving_mean`, `moving_variance`. The classifiers are 1x1
convolutions with `weights` and `biases`.
"""

from __future__ import annotations

from functools import cache

from thyrojax.weights.graph import BLOCKS, STEM, Conv

_FIVES = {
    "branch1x1": "Branch_0/Conv2d_0a_1x1",
    "branch5x5_1": "Branch_1/Conv2d_0a_1x1",
    "branch5x5_2": "Branch_1/Conv2d_0b_5x5",
    "branch3x3dbl_1": "Branch_2/Conv2d_0a_1x1",
    "branch3x3dbl_2": "Branch_2/Conv2d_0b_3x3",
    "branch3x3dbl_3": "Branch_2/Conv2d_0c_3x3",
    "branch_pool": "Branch_3/Conv2d_0b_1x1",
}
_SEVENS = {
    "branch1x1": "Branch_0/Conv2d_0a_1x1",
    "branch7x7_1": "Branch_1/Conv2d_0a_1x1",
    "branch7x7_2": "Branch_1/Conv2d_0b_1x7",
    "branch7x7_3": "Branch_1/Conv2d_0c_7x1",
    "branch7x7dbl_1": "Branch_2/Conv2d_0a_1x1",
    "branch7x7dbl_2": "Branch_2/Conv2d_0b_7x1",
    "branch7x7dbl_3": "Branch_2/Conv2d_0c_1x7",
    "branch7x7dbl_4": "Branch_2/Conv2d_0d_7x1",
    "branch7x7dbl_5": "Branch_2/Conv2d_0e_1x7",
    "branch_pool": "Branch_3/Conv2d_0b_1x1",
}
_FORKS = {
    "branch1x1": "Branch_0/Conv2d_0a_1x1",
    "branch3x3_1": "Branch_1/Conv2d_0a_1x1",
    "branch3x3_2a": "Branch_1/Conv2d_0b_1x3",
    "branch3x3_2b": "Branch_1/Conv2d_0c_3x1",
    "branch3x3dbl_1": "Branch_2/Conv2d_0a_1x1",
    "branch3x3dbl_2": "Branch_2/Conv2d_0b_3x3",
    "branch3x3dbl_3a": "Branch_2/Conv2d_0c_1x3",
    "branch3x3dbl_3b": "Branch_2/Conv2d_0d_3x1",
    "branch_pool": "Branch_3/Conv2d_0b_1x1",
}
_SCOPES: dict[str, dict[str, str]] = {
    "Mixed_5b": _FIVES,
    "Mixed_5c": _FIVES
    | {"branch5x5_1": "Branch_1/Conv2d_0b_1x1", "branch5x5_2": "Branch_1/Conv_1_0c_5x5"},
    "Mixed_5d": _FIVES,
    "Mixed_6a": {
        "branch3x3": "Branch_0/Conv2d_1a_1x1",  # 3x3, whatever it is called
        "branch3x3dbl_1": "Branch_1/Conv2d_0a_1x1",
        "branch3x3dbl_2": "Branch_1/Conv2d_0b_3x3",
        "branch3x3dbl_3": "Branch_1/Conv2d_1a_1x1",  # as well
    },
    "Mixed_6b": _SEVENS,
    "Mixed_6c": _SEVENS,
    "Mixed_6d": _SEVENS,
    "Mixed_6e": _SEVENS,
    "Mixed_7a": {
        "branch3x3_1": "Branch_0/Conv2d_0a_1x1",
        "branch3x3_2": "Branch_0/Conv2d_1a_3x3",
        "branch7x7x3_1": "Branch_1/Conv2d_0a_1x1",
        "branch7x7x3_2": "Branch_1/Conv2d_0b_1x7",
        "branch7x7x3_3": "Branch_1/Conv2d_0c_7x1",
        "branch7x7x3_4": "Branch_1/Conv2d_1a_3x3",
    },
    "Mixed_7b": _FORKS | {"branch3x3_2b": "Branch_1/Conv2d_0b_3x1"},
    "Mixed_7c": _FORKS,
}
_ARRAYS = {
    ("params", "conv/kernel"): "weights",
    ("params", "bn/scale"): "BatchNorm/gamma",
    ("params", "bn/bias"): "BatchNorm/beta",
    ("batch_stats", "bn/mean"): "BatchNorm/moving_mean",
    ("batch_stats", "bn/var"): "BatchNorm/moving_variance",
    ("params", "fc/kernel"): "weights",
    ("params", "fc/bias"): "biases",
}
HEAD, AUX = "Logits", "AuxLogits"
# Our path of a unit or a classifier -> the scope of its variables within `InceptionV3/`.
_OTHERS = {
    "fc": f"{HEAD}/Conv2d_1c_1x1",
    "AuxLogits/conv0": f"{AUX}/Conv2d_1b_1x1",
    "AuxLogits/conv1": f"{AUX}/Conv2d_2a_5x5",
    "AuxLogits/fc": f"{AUX}/Conv2d_2b_1x1",
}


@cache
def scopes() -> dict[str, str]:
    """Our path of each unit and classifier -> its scope within the network's."""
    stem = {step.name: step.name for step in STEM if isinstance(step, Conv)}
    blocks = {
        f"{block.name}/{name}": f"{block.name}/{scope}"
        for block in BLOCKS
        for name, scope in _SCOPES[block.name].items()
    }
    return stem | blocks | _OTHERS


def to_slim(path: str) -> str:
    """Their name, within the network's scope, for one of our paths."""
    tree, _, rest = path.partition("/")
    if rest in ("fc/kernel", "fc/bias", "AuxLogits/fc/kernel", "AuxLogits/fc/bias"):
        unit, _, array = rest.rpartition("/")
        return f"{scopes()[unit]}/{_ARRAYS[tree, f'fc/{array}']}"
    unit, layer, array = rest.rsplit("/", 2)
    return f"{scopes()[unit]}/{_ARRAYS[tree, f'{layer}/{array}']}"
