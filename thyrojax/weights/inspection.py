"""What a file of weights is, told without converting it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thyrojax.weights import formats, names, store
from thyrojax.weights.store import Say
from thyrojax.weights.types import Variant


@dataclass(frozen=True)
class Inspection:
    """A file of weights.

    Attributes:
      path, format, description, sha256: the file.
      variant: pooling, last pool, epsilon and preprocessing that the weights expect.
      classes: of the classifier, 0 where there is none; `aux_head`: whether there is that one.
      channels: colours of the images.
      parameters: of the network without classifiers, as Keras counts them: kernels, biases,
        running statistics, and the BatchNorm scales that are not one.
      head_parameters: of the classifiers.
      used: how many keys of the file the arrays came from.
      ignored: reason -> the keys of the file that are left out for it.
      metadata: what a file written by thyrojax says of itself; `notes`: what else to know.
    """

    path: Path
    format: str
    description: str
    sha256: str
    size: int
    variant: Variant
    classes: int
    aux_head: bool
    channels: int
    parameters: int
    head_parameters: int
    used: int
    ignored: dict[str, tuple[str, ...]]
    metadata: dict[str, Any]
    notes: tuple[str, ...]


def inspect(
    source: str | Path,
    *,
    variant: str | None = None,
    depth_multiplier: float = 1.0,
    announce: Say | None = None,
) -> Inspection:
    """Reads a file of weights, recognised by content, and says what it holds. Options as `read`.

    Raises:
      WeightsError: one line: as `read`.
    """
    weights = store.read(
        source, variant=variant, depth_multiplier=depth_multiplier, announce=announce
    )
    ignored: dict[str, list[str]] = {}
    for key, reason in weights.ignored.items():
        ignored.setdefault(reason, []).append(key)
    trunk = names.trunk_shapes(depth_multiplier)
    counted = {
        path: array.size
        for path, array in weights.arrays.items()
        if not (path.endswith("/bn/scale") and (array == 1).all())
    }
    parameters = sum(size for path, size in counted.items() if path in trunk)
    return Inspection(
        path=weights.path,
        format=weights.format,
        description=formats.by_name(weights.format).DESCRIPTION,
        sha256=weights.sha256,
        size=sum(part.stat().st_size for part in store.parts(weights.path)),
        variant=weights.variant,
        classes=weights.classes,
        aux_head=weights.has_aux_head,
        channels=weights.channels,
        parameters=parameters,
        head_parameters=sum(counted.values()) - parameters,
        used=len(weights.used),
        ignored={reason: tuple(keys) for reason, keys in ignored.items()},
        metadata=dict(weights.metadata),
        notes=weights.notes,
    )
