"""Maps of a set's nodules: which calls are shown, what explains them, how much lies in the box."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from thyrojax.analysis.cutoff import call_positive
from thyrojax.config import Config
from thyrojax.data import stream
from thyrojax.data.crop import Window
from thyrojax.data.dataset import Dataset
from thyrojax.data.records import Box
from thyrojax.model.explain import (
    SanityStep,
    gradcam,
    integrated_gradients,
    mass_in_box,
    sanity_check,
    smoothgrad,
    upsample,
)
from thyrojax.shapes import Float, Int, PyTree, UInt8
from thyrojax.train.state import make_model
from thyrojax.train.step import network_input
from thyrojax.trained_run import record_window

Method = Literal["gradcam", "smoothgrad", "integrated-gradients"]
METHODS: tuple[str, ...] = get_args(Method)
LAST_LAYER = "mixed10"
WRONG_SHOWN, RIGHT_SHOWN = 6, 2  # of each class
NO_MASS = "the map is 0 everywhere: nothing in the input speaks for the target class"


@dataclass(frozen=True, eq=False)
class Explained:
    """The map of one nodule's target class over the network's input.

    `box` and `map` are in pixels of the input; what the window cuts off a box is left out of both
    `box` and `box_share`. `box_share` is what `mass_in_box` of an even map would be.
    """

    map: Float[np.ndarray, "size size"]  # not negative, of any scale
    box: tuple[float, float, float, float]
    box_share: float
    mass_in_box: float | None  # None where the map is 0 everywhere
    gap: float | None  # of integrated gradients only, see `Attribution`
    difference: float | None
    crop: UInt8[np.ndarray, "size size"]

    @property
    def note(self) -> str:
        return NO_MASS if self.mass_in_box is None else ""


def box_in_input(
    box: Box, cut: Window, size: int, clip: bool = True
) -> tuple[float, float, float, float]:
    """A box of the frame in pixels of the network's input; clipped, what the window holds of it."""
    edges = [
        (edge - start) * size / length
        for edge, start, length in zip(
            box, (cut.left, cut.top) * 2, (cut.width, cut.height) * 2, strict=True
        )
    ]
    x_min, y_min, x_max, y_max = (min(max(x, 0.0), float(size)) if clip else x for x in edges)
    return x_min, y_min, x_max, y_max


def choose_shown(
    labels: Int[np.ndarray, " n"], scores: Float[np.ndarray, " n"], cutoff: float
) -> list[int]:
    """Positions of the calls that are shown: of each class the surest wrong, then the surest right.

    Six and two, or as many as there are.
    """
    called = call_positive(scores, cutoff)
    chosen: list[int] = []
    for label in (0, 1):
        distance = np.abs(label - scores)
        wrong = np.flatnonzero((labels == label) & (called != label))
        right = np.flatnonzero((labels == label) & (called == label))
        chosen += wrong[np.argsort(-distance[wrong], kind="stable")][:WRONG_SHOWN].tolist()
        chosen += right[np.argsort(distance[right], kind="stable")][:RIGHT_SHOWN].tolist()
    return chosen


class Maps(NamedTuple):
    """Maps of a batch on their own grid; of integrated gradients also `Attribution`'s two."""

    maps: jax.Array
    gap: jax.Array | None = None
    difference: jax.Array | None = None


MakeMaps = Callable[[PyTree, Any, Any, int], Maps]


def _make_maps(config: Config, method: Method, layer: str) -> MakeMaps:
    """(variables, crops in 0..255, targets, number of the batch) to maps.

    Of several members, the means over them: maps are in units of each one's logit, so that the mean
    is the map of the mean logit (of Grad-CAM and integrated gradients, of its positive parts).
    """
    model = make_model(config)

    def maps(variables: PyTree, crops: Any, targets: Any, number: int) -> Maps:
        images = network_input(jnp.asarray(crops), config)
        targets = jnp.asarray(targets)
        if method == "gradcam":
            return Maps(gradcam(model, variables, images, targets, layer))
        if method == "smoothgrad":
            key = jax.random.fold_in(jax.random.key(config.seed), number)
            return Maps(smoothgrad(model, variables, images, key, targets))
        found = integrated_gradients(model, variables, images, targets)
        # As with Grad-CAM, what speaks for the class.
        return Maps(jnp.maximum(found.maps, 0.0), found.gap, found.difference)

    def mean_maps(variables: PyTree, crops: Any, targets: Any, number: int) -> Maps:
        of_each = [
            maps(jax.tree.map(lambda x, k=k: x[k], variables), crops, targets, number)
            for k in range(config.members)
        ]
        return jax.tree.map(lambda *x: sum(x) / config.members, *of_each)

    return maps if config.members == 1 else mean_maps


def _batch_size(method: Method) -> int:
    """One size for all calls, so that XLA compiles once; gradients down to the input take memory.

    16 is also as many as `choose_shown` chooses.
    """
    return 2 * (WRONG_SHOWN + RIGHT_SHOWN) if method == "gradcam" else 4


def _batches(
    dataset: Dataset,
    rows: Int[np.ndarray, " n"],
    targets: Int[np.ndarray, " n"],
    config: Config,
    margin: int,
    batch_size: int,
) -> Iterator[tuple[stream.Batch, np.ndarray]]:
    """Batches of crops with the targets of their rows, 0 in the padding."""
    position = {int(row): n for n, row in enumerate(rows)}
    for batch in stream.evaluation_batches(dataset, rows, config, margin, batch_size):
        chosen = [targets[position[i]] if i >= 0 else 0 for i in batch["index"].tolist()]
        yield batch, np.asarray(chosen, np.int32)


def explain_rows(
    variables: PyTree,
    config: Config,
    dataset: Dataset,
    rows: Int[np.ndarray, " n"],
    targets: Int[np.ndarray, " n"],
    margin: int,
    method: Method = "gradcam",
    layer: str = LAST_LAYER,
) -> Iterator[Explained]:
    """Explains the target class of each row, in order.

    Args:
      variables: one copy, on one device.
      rows: positions in the set's records, each once.
      layer: of Grad-CAM.
    """
    maps_of = _make_maps(config, method, layer)
    size = config.input_size
    batches = _batches(dataset, rows, targets, config, margin, _batch_size(method))
    for number, (batch, classes) in enumerate(batches):
        raw = maps_of(variables, batch["image"], classes, number)
        maps = upsample(raw.maps, size)
        real = batch["index"][batch["mask"]]
        boxes = np.zeros((len(classes), 4), np.float32)
        for place, row in enumerate(real):
            record = dataset.records[row]
            boxes[place] = box_in_input(record.box, record_window(record, config, margin), size)
        masses = mass_in_box(maps, jnp.asarray(boxes))
        found = jax.device_get((maps, masses, raw.gap, raw.difference))
        for place in range(len(real)):
            x_min, y_min, x_max, y_max = map(float, boxes[place])
            mass = float(found[1][place])
            yield Explained(
                map=found[0][place],
                box=(x_min, y_min, x_max, y_max),
                box_share=(x_max - x_min) * (y_max - y_min) / size**2,
                mass_in_box=None if np.isnan(mass) else mass,
                gap=None if found[2] is None else float(found[2][place]),
                difference=None if found[3] is None else float(found[3][place]),
                crop=batch["image"][place, :, :, 0].round().astype(np.uint8),
            )


def check_sanity(
    variables: PyTree,
    config: Config,
    dataset: Dataset,
    rows: Int[np.ndarray, " n"],
    targets: Int[np.ndarray, " n"],
    margin: int,
    method: Method = "gradcam",
    layer: str = LAST_LAYER,
) -> tuple[SanityStep, ...]:
    """`model.explain.sanity_check` on the maps of some rows; one compilation.

    Its random layers are drawn from other seeds than the run's: from those training started, and a
    trained head is still near its own.
    """
    maps = _make_maps(config, method, layer)
    batches = list(_batches(dataset, rows, targets, config, margin, _batch_size(method)))

    def maps_of(changed: PyTree) -> np.ndarray:
        return np.concatenate(
            [
                np.asarray(maps(changed, batch["image"], classes, n).maps)[batch["mask"]]
                for n, (batch, classes) in enumerate(batches)
            ]
        )

    seed = config.seed + config.members
    return sanity_check(maps_of, variables, seed, members=config.members)


def png(image: UInt8[np.ndarray, "height width"]) -> bytes:
    """A grey image as a PNG file."""
    import cv2

    return cv2.imencode(".png", image)[1].tobytes()


def grey(values: Float[np.ndarray, "height width"]) -> UInt8[np.ndarray, "height width"]:
    """A map as a grey image, its largest value white; black where it is 0 everywhere."""
    largest = float(values.max())
    scaled = values * (255.0 / largest) if largest > 0.0 else np.zeros_like(values)
    return scaled.round().astype(np.uint8)
