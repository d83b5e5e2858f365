"""The real ImageNet weights against the golden file: Keras' own features, and known classes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from thyrojax.model import InceptionV3, normalise
from thyrojax.weights import Weights, fill, read

pytestmark = pytest.mark.slow

TOLERANCE = 2e-5


@pytest.fixture(scope="module")
def golden(shared: Path) -> dict[str, np.ndarray]:
    with np.load(shared / "golden" / "inception_v3_imagenet.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def weights(shared: Path) -> Weights:
    return read(shared / "weights" / "keras" / "inceptionv3_v1.h5")


def endpoints(
    weights: Weights, images: np.ndarray, pooling: Literal["valid", "padded"], classes: int = 0
) -> dict[str, Any]:
    """Pooled features, logits and channel means of every stage, in float32 at highest precision."""
    network = InceptionV3(num_classes=classes, pooling=pooling)
    pixels = jax.ShapeDtypeStruct(images.shape, jnp.float32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), pixels)
    variables, notes = fill(shapes, weights)
    assert not [note for note in notes if "fresh" in note]

    def run(variables: Any, images: Any) -> dict[str, Any]:
        ends: Any = network.apply(variables, normalise(images))
        return {k: v.mean(axis=(1, 2)) if v.ndim == 4 else v for k, v in ends.items()}

    with jax.default_matmul_precision("highest"):
        return jax.device_get(jax.jit(run)(variables, images))


def test_features_stages_and_classes_are_those_of_keras(
    weights: Weights, golden: dict[str, np.ndarray], shared: Path
) -> None:
    with np.load(shared / "weights" / "slim" / "imagenet_head_1001.npz") as head:
        fc = {f"params/fc/{name}": head[name] for name in ("kernel", "bias")}
    weights = dataclasses.replace(weights, arrays=weights.arrays | fc)
    found = endpoints(weights, golden["input_uint8"], "valid", classes=1001)

    np.testing.assert_allclose(found["pool"], golden["pool"], rtol=0, atol=TOLERANCE)
    for i in range(11):
        expected = golden[f"channel_mean_mixed{i}"]
        np.testing.assert_allclose(found[f"mixed{i}"], expected, rtol=0, atol=TOLERANCE)
    logits = golden["slim_head_logits_1001"]
    np.testing.assert_allclose(found["logits"], logits, rtol=0, atol=5e-5)
    top = dict(zip(golden["names"].tolist(), found["logits"].argmax(axis=1).tolist(), strict=True))
    # Egyptian cat, espresso, missile
    assert {k: top[k] for k in ("chelsea", "coffee", "rocket")} == {
        "chelsea": 286, "coffee": 968, "rocket": 658,
    }  # fmt: skip


def test_padded_pooling_is_that_of_torchvision(
    weights: Weights, golden: dict[str, np.ndarray]
) -> None:
    found = endpoints(weights, golden["input_uint8"], "padded")["pool"]
    np.testing.assert_allclose(found, golden["pool_torchvision_pooling"], rtol=0, atol=TOLERANCE)
    assert np.abs(found - golden["pool"]).max() > 0.5  # the two poolings are not the same network


def test_grey_network_is_the_same_function_of_grey_images(
    weights: Weights, golden: dict[str, np.ndarray]
) -> None:
    grey = golden["input_uint8"][:2, ::3, ::3, :1]  # 100 px
    found = endpoints(weights, grey, "valid")["pool"]
    expected = endpoints(weights, np.repeat(grey, 3, axis=-1), "valid")["pool"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)
