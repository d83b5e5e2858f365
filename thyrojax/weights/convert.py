"""The whole of a conversion: read, change as asked, write, and prove on a probe what came out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from thyrojax.errors import WeightsError
from thyrojax.weights import change, store
from thyrojax.weights.store import Say, Weights
from thyrojax.weights.types import PREPROCESSING, Variant


@dataclass(frozen=True)
class Conversion:
    """What `convert` did.

    Attributes:
      source: as it was read; `written`: what was to be written.
      target, format: the new file.
      ignored: reason -> how many keys of the source were left out for it.
      notes: a line on each thing that is not as in the source.
      probe: output -> largest relative difference between source and target on probe images, each
        computed as its own framework's class would; {} where it was not asked for or cannot be had.
    """

    source: Weights
    written: Weights
    target: Path
    format: str
    ignored: dict[str, int]
    notes: tuple[str, ...]
    probe: dict[str, float]


def convert(
    source: str | Path,
    target: Path,
    to: str | None = None,
    *,
    classes: Literal["keep", "drop", "1000"] = "keep",
    fold_grey: bool = False,
    preprocessing: str | None = None,
    variant: str | None = None,
    depth_multiplier: float = 1.0,
    input_size: int | None = None,
    overwrite: bool = False,
    probe: bool = True,
    announce: Say | None = None,
) -> Conversion:
    """Converts a file of weights to another format.

    Args:
      source: a tag, a file or a folder, as of `read`.
      target: the new file; `to`: its format, by default what its ending says.
      classes: keeps the classifiers, drops them, or drops number 0 (background) of 1001.
      fold_grey: for images of one channel.
      preprocessing: what the new file shall expect (a key of `PREPROCESSING`); the first unit takes
        up the difference exactly.
      variant, depth_multiplier: as of `read`.
      input_size: side in px that exports for inference are fixed to, where they can be.
      overwrite: replaces what stands at `target`.
      probe: computes the largest difference between source and target.

    Raises:
      WeightsError: the source cannot be read whole, the target cannot hold it or cannot be written.
    """
    if preprocessing is not None and preprocessing not in PREPROCESSING:
        known = ", ".join(PREPROCESSING)
        raise WeightsError(f"preprocessing: found {preprocessing!r}, expected one of {known}")
    module = store.choose_format(target, to)
    if input_size is not None and not hasattr(module, "run"):
        raise WeightsError(
            f"input size: found {input_size} px for {module.NAME}, expected none: only exports "
            "for inference have one"
        )
    store.check_target(target, module, overwrite)
    read = store.read(source, variant=variant, depth_multiplier=depth_multiplier, announce=announce)
    written, notes = _change(read, classes, fold_grey, preprocessing)
    if input_size is not None:
        written = replace(
            written, metadata={**written.metadata, "export": {"input_size": input_size}}
        )
    notes += store.write(written, target, module.NAME, overwrite)
    differences: dict[str, float] = {}
    if probe:
        differences = _probe(module, read, written, target)
    return Conversion(
        source=read,
        written=written,
        target=target,
        format=module.NAME,
        ignored=dict(Counter(read.ignored.values())),
        notes=(*read.notes, *notes, *_native_notes(module, written.variant)),
        probe=differences,
    )


def _change(
    weights: Weights, classes: Literal["keep", "drop", "1000"], grey: bool, wanted: str | None
) -> tuple[Weights, list[str]]:
    notes = []
    arrays, variant, metadata = weights.arrays, weights.variant, dict(weights.metadata)
    arrays = change.change_classes(arrays, classes)
    if classes == "1000" and weights.classes == 1001:
        notes.append("classifiers: class 0 (background) dropped, 1000 classes left")
        metadata = _without_first_label(metadata)
    elif classes == "drop" and weights.classes:
        notes.append(f"classifiers: {weights.classes} classes dropped")
        metadata.pop("labels", None)
    if wanted is not None and wanted != variant.preprocessing:
        arrays = change.fold_preprocessing(arrays, variant.preprocessing, wanted)
        notes.append(f"Conv2d_1a_3x3: changed from {variant.preprocessing} to {wanted}")
        variant = replace(variant, preprocessing=wanted)
    if grey and weights.channels == 3:
        arrays = change.fold_grey(arrays, variant.preprocessing)
        notes.append("Conv2d_1a_3x3: kernel summed over its input channels, for grey images")
    return replace(weights, arrays=arrays, variant=variant, metadata=metadata), notes


def _without_first_label(metadata: dict[str, Any]) -> dict[str, Any]:
    labels = metadata.get("labels")
    return {**metadata, "labels": labels[1:]} if labels else metadata


def _native_notes(module: Any, variant: Variant) -> list[str]:
    """What a framework's class will compute otherwise than the source."""
    native = store.native_variant(module, variant)
    notes = []
    if native.pooling != variant.pooling:
        notes.append(
            f"pooling: {module.DESCRIPTION} is {native.pooling}, these weights are for "
            f"{variant.pooling}: its own class computes another function"
        )
    if native.epsilon != variant.epsilon:
        notes.append(
            f"epsilon: {module.DESCRIPTION} has {native.epsilon:g}, these weights are for "
            f"{variant.epsilon:g}: its own class computes another function"
        )
    if native.last_pool != variant.last_pool:
        notes.append(
            f"last pool: {module.DESCRIPTION} is {native.last_pool}, these weights are for "
            f"{variant.last_pool}: its own class computes another function"
        )
    return notes


def _probe(module: Any, source: Weights, written: Weights, target: Path) -> dict[str, float]:
    """Source under its variant against the file as written under what its class computes."""
    from thyrojax.weights import comparison

    colours = min(source.channels, written.channels)
    if hasattr(module, "run"):
        images = comparison.probe_images(written.channels, module.probe_size(target))
        found = module.run(target, images)
    else:
        back = store.read(target, depth_multiplier=source.depth_multiplier)
        native = store.native_variant(module, written.variant)
        images = comparison.probe_images(colours)
        found = comparison.outputs(replace(back, variant=native), images)
    expected = comparison.outputs(source, images)
    if "logits" in expected:  # of 1001 classes the last 1000, where the background was dropped
        dropped = source.classes - written.classes
        expected["logits"] = expected["logits"][:, dropped:]
    return comparison.outputs_difference(expected, found)
