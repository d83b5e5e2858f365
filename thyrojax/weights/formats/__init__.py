"""One module for each file format of weights, all with the same three names.

`NAME`: what the format is called in messages. `recognises(path)`: whether the file's content is of
that format. `read(path, head)`: its arrays under our paths (`thyrojax.weights.names`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from thyrojax.errors import WeightsError

MAX_FAULTS = 50  # told in one message


@dataclass(frozen=True)
class Variant:
    """What a set of weights expects of the network and of its input.

    `pooling`: whether the average pools in the blocks count zero padding ("padded") or not
    ("valid"). `epsilon`: added to BatchNorm variances. `preprocessing`: from grey levels 0..255.
    """

    pooling: Literal["valid", "padded"]
    epsilon: float
    preprocessing: str


KERAS_VARIANT = Variant(pooling="valid", epsilon=1e-3, preprocessing="x/127.5-1")


@dataclass(frozen=True, eq=False)
class Reading:
    """A file in our names: path -> float32 array, and what became of every key of the file."""

    arrays: dict[str, np.ndarray]
    used: tuple[str, ...]  # keys of the file
    ignored: dict[str, str]  # key of the file -> why it was left out
    variant: Variant


def raise_faults(path: Path, faults: Sequence[str]) -> None:
    """Does nothing where there are no faults.

    Raises:
      WeightsError: one line with every fault (of more than 50, the first 50 and how many more).
    """
    if faults:
        rest = [f"and {len(faults) - MAX_FAULTS} more"] if len(faults) > MAX_FAULTS else []
        line = f"{path}: " + "; ".join([*faults[:MAX_FAULTS], *rest])
        raise WeightsError("".join(c if c.isprintable() else "?" for c in line))
