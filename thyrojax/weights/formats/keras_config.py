"""The JSON of a Keras model's architecture, read as text: which layers, in which order, how made.

Nothing of it is ever made into an object; Lambda layers and custom classes are names like others.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from thyrojax.weights.keras_graph import Counters, snake_case
from thyrojax.weights.names_keras import parse_keras_layer
from thyrojax.weights.types import (
    KERAS_VARIANT,
    PREPROCESSING,
    LastPool,
    Pooling,
    Variant,
    parse_description,
)

MAX_BYTES = 2**23  # Inception-v3's takes some 260 kB
MAX_LAYERS = 5000
MAX_DEPTH = 12
AVERAGE_POOLS = 9  # of the network, at stride 1
DEFAULT_EPSILON = 1e-3  # of Keras' BatchNormalization
ONE, THREE = [1, 1], [3, 3]

# What may follow the trunk's last BatchNorm in the order of layers where the head is one dense
# layer on the mean over all places.
HEAD_KINDS = {
    "Activation", "Concatenate", "GlobalAveragePooling2D", "Dropout", "Dense", "Softmax",
}  # fmt: skip


class Layer(NamedTuple):
    """A layer as the file describes it.

    Attributes:
      path: where a Keras 3 file has its arrays.
      kind: its class; `name`: within its model; `settings`: what it was made with.
    """

    path: str
    kind: str
    name: str
    settings: dict[str, Any]


def parse(text: str | bytes) -> list[Layer]:
    """All layers of a model and of the models in it, in the models' order.

    Empty where the description names none, as that of a model with code of its own.

    Raises:
      ValueError: what was found and expected, for the caller to name the file.
    """
    if len(text) > MAX_BYTES:
        raise ValueError(f"found a model's description of {len(text)} bytes, expected a short one")
    try:
        model = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("found a model's description that is not JSON, expected JSON") from None
    layers: list[Layer] = []
    for layer in _walk(_layers_of(model), "layers/", 0):
        layers.append(layer)
        if len(layers) > MAX_LAYERS:
            raise ValueError(f"found a model of over {MAX_LAYERS} layers, expected fewer")
    return layers


def _layers_of(model: Any) -> list[Any]:
    settings = model.get("config") if isinstance(model, dict) else None
    # Keras before 2.3 had a list for a Sequential model.
    layers = settings.get("layers") if isinstance(settings, dict) else settings
    return layers if isinstance(layers, list) else []


def _walk(layers: Sequence[Any], prefix: str, depth: int) -> Iterator[Layer]:
    counters = Counters()
    for layer in layers:
        kind = layer.get("class_name") if isinstance(layer, dict) else None
        settings = layer.get("config") if isinstance(layer, dict) else None
        if not isinstance(kind, str):
            raise ValueError("found a model's layer without a class, expected class_name")
        path = prefix + counters.next(snake_case(kind[:100]))
        settings = settings if isinstance(settings, dict) else {}
        name = settings.get("name")
        yield Layer(path, kind, name if isinstance(name, str) else "", settings)
        if depth < MAX_DEPTH:
            yield from _walk(_layers_of(layer), f"{path}/layers/", depth + 1)


def find_norms(layers: Sequence[Layer], first: Mapping[str, int], n_units: int) -> set[str]:
    """Paths of the trunk's BatchNorms, by their names within one model; empty if it is not clear.

    Args:
      layers: from `parse`.
      first: per class the number of the trunk's first layer.
    """
    kind = "batch_normalization"
    wanted = {(kind, first[kind] + i) for i in range(n_units)}
    models: dict[str, set[str]] = {}
    for layer in layers:
        if parse_keras_layer(layer.name) in wanted:
            models.setdefault(layer.path.rpartition("/")[0], set()).add(layer.path)
    whole = [paths for paths in models.values() if len(paths) == n_units]
    return whole[0] if len(whole) == 1 else set()


def read_variant(
    layers: Sequence[Layer], trunk: Collection[str], has_scales: bool, faults: list[str]
) -> Variant:
    """What the model computes, from its trunk's layers and the pools beside them.

    Args:
      layers: from `parse`.
      trunk: paths of the trunk's BatchNorms; Keras' own variant where they are not among `layers`.
      has_scales: whether the file has scales for them.
      faults: gets what is not Inception-v3's.
    """
    norms = [layer for layer in layers if layer.path in trunk]
    preprocessing = _preprocessing(layers, faults)
    if len(norms) != len(trunk) or not norms:
        return replace(KERAS_VARIANT, preprocessing=preprocessing)
    scope = {layer.path.rpartition("/")[0] for layer in norms}
    beside = [layer for layer in layers if layer.path.rpartition("/")[0] in scope]
    pooling, last_pool = _pools(beside, faults)
    if any(layer.settings.get("center") is False for layer in norms):
        faults.append("model: found BatchNorm layers without beta, expected all with it")
    if any(layer.settings.get("scale", True) is not has_scales for layer in norms):
        faults.append(
            "model: found a description that disagrees with the arrays on BatchNorm's gamma, "
            "expected either all with it or all without"
        )
    epsilons = {repr(layer.settings.get("epsilon", DEFAULT_EPSILON)) for layer in norms}
    epsilon = norms[0].settings.get("epsilon", DEFAULT_EPSILON)
    if len(epsilons) > 1 or not isinstance(epsilon, float) or not 0 < epsilon < 1:
        found = ", ".join(sorted(epsilons)[:3])
        faults.append(f"model: found epsilon {found:.100}, expected one number between 0 and 1")
        epsilon = DEFAULT_EPSILON
    return Variant(pooling, last_pool, epsilon, preprocessing)


def _preprocessing(layers: Sequence[Layer], faults: list[str]) -> str:
    """What the model does itself with grey levels, by its Rescaling layer; else Keras' own."""
    found = [layer.settings for layer in layers if layer.kind == "Rescaling"]
    if not found:
        return KERAS_VARIANT.preprocessing
    pair = (found[0].get("scale"), found[0].get("offset", 0.0))
    for name, (scales, offsets) in PREPROCESSING.items():
        known = (scales[0], offsets[0])
        if len(found) == 1 and len(set(scales)) == 1 and _close(pair, known):
            return name
    faults.append(
        f"model: found {len(found)} Rescaling layers, the first with scale and offset {pair!r:.100}"
        ", expected none or one that is a known preprocessing"
    )
    return KERAS_VARIANT.preprocessing


def _close(found: Sequence[Any], expected: Sequence[float]) -> bool:
    return all(
        isinstance(a, int | float) and math.isclose(a, b, rel_tol=1e-5, abs_tol=1e-9)
        for a, b in zip(found, expected, strict=True)
    )


def _pools(layers: Sequence[Layer], faults: list[str]) -> tuple[Pooling, LastPool]:
    """What the pools within the blocks are; of the others there is no choice."""
    pools = [
        layer
        for layer in layers
        if layer.kind in ("AveragePooling2D", "MaxPooling2D")
        and layer.settings.get("strides") == ONE
        and layer.settings.get("pool_size") == THREE
    ]
    kinds = [layer.kind for layer in pools]
    paddings = [p.settings.get("padding") for p in pools if p.kind == "AveragePooling2D"]
    zeros = [
        layer
        for layer in layers
        if layer.kind == "ZeroPadding2D" and layer.settings.get("padding") == [ONE, ONE]
    ]
    averages = ["AveragePooling2D"] * AVERAGE_POOLS
    last_is_max = kinds == [*averages[1:], "MaxPooling2D"]
    n = len(paddings)
    padded = paddings == ["valid"] * n and len(zeros) == n
    if not (last_is_max or kinds == averages) or not (padded or paddings == ["same"] * n):
        faults.append(
            f"model: found pools of stride 1 that are not Inception-v3's ({len(pools)} of them, "
            f"{len(zeros)} paddings), expected {AVERAGE_POOLS}"
        )
    return "padded" if padded else "valid", "max" if last_is_max else "average"


def has_plain_head(layers: Sequence[Layer], trunk: Collection[str]) -> bool:
    """Whether nothing but a dense layer on the mean over all places follows the trunk.

    True where the model does not tell.
    """
    places = [i for i, layer in enumerate(layers) if layer.path in trunk]
    if not places:
        return True
    kinds = {layer.kind for layer in layers[places[-1] + 1 :]}
    return kinds <= HEAD_KINDS and "GlobalAveragePooling2D" in kinds


def add_description(
    text: str, variant: Variant, is_known: bool, faults: list[str]
) -> tuple[Variant, dict[str, Any]]:
    """The variant and the metadata with what our own description in the file says.

    Args:
      text: the description; "" for none.
      variant: otherwise; from the model where it `is_known`, which must not disagree.
      faults: gets what is wrong with the description.
    """
    try:
        described, metadata = parse_description(text, variant)
    except ValueError as error:
        faults.append(str(error))
        return variant, {}
    if is_known and replace(described, preprocessing=variant.preprocessing) != variant:
        faults.append(
            f"description: found {described.pooling}, {described.last_pool}, epsilon "
            f"{described.epsilon}, expected {variant.pooling}, {variant.last_pool}, "
            f"{variant.epsilon} as of the model"
        )
    return described, metadata
