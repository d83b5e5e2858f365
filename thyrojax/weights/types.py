"""What all formats of weights share: the variant, and what a reader is asked for and returns."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from thyrojax.errors import WeightsError
from thyrojax.weights import names
from thyrojax.weights.graph import Trunk, trunk

MAX_FAULTS = 50  # told in one message
MAX_DESCRIPTION_BYTES = 2**20
DESCRIPTION_KEY = "thyrojax"  # under which every format that can keeps the description

Pooling = Literal["valid", "padded"]
LastPool = Literal["average", "max"]
Arrays = dict[str, np.ndarray]  # our path (`thyrojax.weights.names`) -> float32 array

# Name -> scale and offset of each colour: what the network sees is grey level * scale + offset.
# Formulas are of grey levels 0..255.
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as torchvision's
PREPROCESSING: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "x/127.5-1": ((1 / 127.5,) * 3, (-1.0,) * 3),
    "(x-128)/128": ((1 / 128,) * 3, (-1.0,) * 3),
    "(x/255-mean)/std": (
        tuple(1 / (255 * deviation) for deviation in _DEVIATION),
        tuple(-mean / deviation for mean, deviation in zip(_MEAN, _DEVIATION, strict=True)),
    ),
    "x/255": ((1 / 255,) * 3, (0.0,) * 3),
}
OWN_PREPROCESSING = "x/127.5-1"  # of `thyrojax.model.normalise`


@dataclass(frozen=True)
class Variant:
    """What a set of weights expects of the network and of its input.

    Attributes:
      pooling: whether the average pools in the blocks count zero padding ("padded") or not
        ("valid").
      last_pool: the pool within the last block.
      epsilon: added to BatchNorm variances.
      preprocessing: a key of `PREPROCESSING`.
    """

    pooling: Pooling
    last_pool: LastPool = "average"
    epsilon: float = 1e-3
    preprocessing: str = OWN_PREPROCESSING

    def fault(self) -> str | None:
        """What is wrong with values that came from outside."""
        if self.pooling not in get_args(Pooling):
            return f"pooling: found {self.pooling!r}, expected valid or padded"
        if self.last_pool not in get_args(LastPool):
            return f"last_pool: found {self.last_pool!r}, expected average or max"
        if not isinstance(self.epsilon, float) or not 0 < self.epsilon < 1:
            return f"epsilon: found {self.epsilon!r}, expected a number between 0 and 1"
        if not isinstance(self.preprocessing, str) or self.preprocessing not in PREPROCESSING:
            known = ", ".join(PREPROCESSING)
            return f"preprocessing: found {self.preprocessing!r}, expected one of {known}"
        return None


# By whose networks they are. What torchvision publishes was trained at +-1: its own class turns
# mean and deviation back into that (`transform_input`), so that is what the weights expect.
VARIANTS: dict[str, Variant] = {
    "keras": Variant("valid"),
    "slim": Variant("valid"),
    "torchvision": Variant("padded"),
    "timm": Variant("padded"),
    "gluon": Variant("padded", preprocessing="(x/255-mean)/std"),
    "fid": Variant("valid", last_pool="max"),
    "fid2015": Variant("valid", last_pool="max", preprocessing="(x-128)/128"),
}
KERAS_VARIANT = VARIANTS["keras"]


@dataclass(frozen=True)
class Request:
    """What a reader is asked for.

    Attributes:
      head: "keep" takes the classifiers (main and auxiliary) where they are plain dense layers on
        this network's features, and ignores others by name; "drop" ignores all.
      depth_multiplier: width of the network that the file must hold.
    """

    head: Literal["keep", "drop"] = "keep"
    depth_multiplier: float = 1.0

    @property
    def trunk(self) -> Trunk:
        return trunk(self.depth_multiplier)

    def shapes(self) -> names.Shapes:
        """Path and shape of every array of the trunk, for colour images."""
        return names.trunk_shapes(self.depth_multiplier)


@dataclass(frozen=True, eq=False)
class Reading:
    """A file in our names.

    Attributes:
      arrays: of the trunk, whole; of the head and of the auxiliary head, each whole or absent.
      used: the keys of the file that the arrays came from.
      ignored: every other key of the file, and why it was left out.
      variant: from the file's description where it has one, else what the format implies.
      metadata: the rest of the description (`describe`), {} in files of others.
      notes: what else a user should know, a line each.
    """

    arrays: Arrays
    used: tuple[str, ...]
    ignored: dict[str, str]
    variant: Variant
    metadata: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def raise_faults(path: Path, faults: Sequence[str]) -> None:
    """Does nothing where there are no faults.

    Raises:
      WeightsError: one line with every fault (of more than 50, the first 50 and how many more).
    """
    if faults:
        rest = [f"and {len(faults) - MAX_FAULTS} more"] if len(faults) > MAX_FAULTS else []
        line = f"{path}: " + "; ".join([*faults[:MAX_FAULTS], *rest])
        raise WeightsError("".join(c if c.isprintable() else "?" for c in line))


def shape_fault(path: str, found: Sequence[int], expected: Sequence[int]) -> str | None:
    """What is wrong with an array's shape; the first kernel may be for grey images."""
    found, expected = tuple(found), tuple(expected)
    grey = (*expected[:2], 1, *expected[3:])
    if found == expected or (path == names.FIRST_KERNEL and found == grey):
        return None
    return f"found shape {found}, expected {expected}"


def value_fault(path: str, values: np.ndarray) -> str | None:
    """What is wrong with an array's values."""
    finite = np.isfinite(values)
    if not finite.all():
        return f"found {values.size - int(finite.sum())} values not finite, expected numbers"
    if path.endswith("/bn/var") and values.min() < 0:
        return "found a negative variance, expected none below 0"
    return None


def classes(arrays: Mapping[str, np.ndarray]) -> int:
    """Outputs of the classifier, 0 where there is none."""
    return len(arrays[names.HEAD_BIAS]) if names.HEAD_BIAS in arrays else 0


def describe(
    arrays: Mapping[str, np.ndarray], variant: Variant, metadata: Mapping[str, Any]
) -> str:
    """The JSON text that travels in a written file, under `DESCRIPTION_KEY` where it has keys.

    Keys: `variant` (`pooling`, `last_pool`, `epsilon`, `preprocessing`), `classes`, `channels`,
    and those of `metadata`: `source` (`format`, `file`, `sha256`), `labels`, `input_size` (px),
    `crop`.
    """
    known = {
        "variant": vars(variant),
        "classes": classes(arrays),
        "channels": int(arrays[names.FIRST_KERNEL].shape[2]),
    }
    return json.dumps({**metadata, **known}, sort_keys=True)


def parse_description(text: str | bytes, otherwise: Variant) -> tuple[Variant, dict[str, Any]]:
    """The variant and the metadata of a description.

    Args:
      text: what `describe` wrote; "" for none.
      otherwise: the variant where there is no description.

    Raises:
      ValueError: found and expected, for the caller to name the file.
    """
    if not text:
        return otherwise, {}
    if len(text) > MAX_DESCRIPTION_BYTES:
        raise ValueError(f"found a description of {len(text)} bytes, expected a short one")
    try:
        metadata = json.loads(text)
        variant = replace(otherwise, **metadata.pop("variant"))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise ValueError("found a description that cannot be read, expected our JSON") from None
    if fault := variant.fault():
        raise ValueError(fault)
    metadata.pop("classes", None)
    metadata.pop("channels", None)
    return variant, metadata
