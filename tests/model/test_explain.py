"""Maps against closed forms, on a network that hands one channel on, and on real weights.

The constructed network: every unit on the path takes the middle pixel of channel 0 and hands it on,
all other kernels are 0, and the head's logit 1 is the mean of that channel. So the logit is known
to come from bright pixels alone, and from where they are.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from thyrojax.data.crop import Window, crop_numpy
from thyrojax.images import load_colour_image
from thyrojax.model import InceptionV3, normalise
from thyrojax.model.explain import (
    BLOCK_OF_END,
    CASCADE,
    gradcam,
    integrated_gradients,
    mass_in_box,
    randomised,
    sanity_check,
    smoothgrad,
    upsample,
)
from thyrojax.weights import network_of, read

SIZE = 139  # grids of 15, 7 and 3
MODEL = InceptionV3(num_classes=2, depth_multiplier=0.05)


def variables_of(value: Any) -> dict[str, Any]:
    shapes = jax.eval_shape(
        MODEL.init, jax.random.key(0), jax.ShapeDtypeStruct((1, SIZE, SIZE, 1), jnp.float32)
    )
    return unflatten_dict(
        {path: value(path, leaf.shape) for path, leaf in flatten_dict(shapes).items()}
    )


def random_value(path: tuple[str, ...], shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng([len("/".join(path)), *map(ord, path[1][-3:])])
    if path[-1] in ("scale", "var"):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    return rng.normal(0.0, 0.15, shape).astype(np.float32)


def passing_value(path: tuple[str, ...], shape: tuple[int, ...]) -> np.ndarray:
    value = np.zeros(shape, np.float32)
    if path[-1] in ("scale", "var"):
        value += 1.0
    if path[-2:] == ("conv", "kernel"):
        value[shape[0] // 2, shape[1] // 2, 0, 0] = 1.0
    if path[-2:] == ("fc", "kernel"):
        value[0, 1] = 1.0
    return value


@pytest.fixture(scope="module")
def random_variables() -> dict[str, Any]:
    return variables_of(random_value)


@pytest.fixture(scope="module")
def passing_variables() -> dict[str, Any]:
    return variables_of(passing_value)


@pytest.fixture(scope="module")
def images() -> jax.Array:
    return jax.random.uniform(jax.random.key(1), (3, SIZE, SIZE, 1), minval=-1.0)


@pytest.fixture(scope="module")
def patches() -> tuple[jax.Array, jax.Array]:
    """Black images with one bright square each, and the squares' boxes."""
    boxes = np.asarray([[0, 0, 50, 50], [86, 86, 139, 139], [0, 86, 50, 139]], np.float32)
    pixels = np.full((3, SIZE, SIZE, 1), -1.0, np.float32)
    for image, (x_min, y_min, x_max, y_max) in zip(pixels, boxes.astype(int), strict=True):
        image[y_min:y_max, x_min:x_max] = 1.0
    return jnp.asarray(pixels), jnp.asarray(boxes)


def test_gradcam_of_the_last_layer_is_its_closed_form(
    random_variables: dict[str, Any], images: jax.Array
) -> None:
    # Behind mixed10: logit = mean over the grid of A @ W + b, so the gradient is W / cells.
    ends = jax.jit(MODEL.apply)(random_variables, images)
    for target in (0, 1):
        weights = random_variables["params"]["fc"]["kernel"][:, target] / 9.0
        expected = np.maximum(np.asarray(ends["mixed10"]) @ weights, 0.0)
        found = gradcam(MODEL, random_variables, images, target)
        assert found.shape == (3, 3, 3)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_each_image_may_have_its_own_target(
    random_variables: dict[str, Any], images: jax.Array
) -> None:
    mixed = gradcam(MODEL, random_variables, images, jnp.asarray([0, 1, 0]))
    for row, target in enumerate((0, 1, 0)):
        alone = gradcam(MODEL, random_variables, images, target)
        np.testing.assert_allclose(mixed[row], alone[row], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("layer", ["mixed0", "mixed3", "mixed7", "mixed10"])
def test_gradcam_puts_its_mass_where_the_patch_is_that_drives_the_logit(
    layer: str, passing_variables: dict[str, Any], patches: tuple[jax.Array, jax.Array]
) -> None:
    pixels, boxes = patches
    maps = gradcam(MODEL, passing_variables, pixels, 1, layer)
    masses = mass_in_box(upsample(maps, SIZE), boxes)
    # Chance is the box's area, 0.14 of the input; a cell of the 3x3 grid is a third of its side
    # and is smeared over the neighbours by the bilinear resize.
    assert float(masses.min()) > 0.55
    assert not np.any(gradcam(MODEL, passing_variables, pixels, 0, layer))


def test_every_end_of_the_network_is_its_blocks_output(random_variables: dict[str, Any]) -> None:
    images = jnp.zeros((1, SIZE, SIZE, 1))

    def run(variables: dict[str, Any], images: jax.Array) -> Any:
        return MODEL.apply(variables, images, capture_intermediates=True, mutable=["intermediates"])

    ends, state = jax.eval_shape(run, random_variables, images)
    for end, block in BLOCK_OF_END.items():
        assert ends[end].shape == state["intermediates"][block]["__call__"][0].shape
    assert set(CASCADE) == set(random_variables["params"])


def test_gradcam_refuses_what_it_cannot_explain(
    random_variables: dict[str, Any], images: jax.Array
) -> None:
    with pytest.raises(ValueError, match="found 'pool', expected mixed0 to mixed10"):
        gradcam(MODEL, random_variables, images, 1, "pool")
    with pytest.raises(ValueError, match="no classes"):
        gradcam(MODEL.clone(num_classes=0), random_variables, images)


def test_integrated_gradients_of_a_linear_logit_are_exact_and_complete(
    passing_variables: dict[str, Any], patches: tuple[jax.Array, jax.Array]
) -> None:
    # Above 0 the constructed network is linear: from a black start the logit grows from grey 0 on.
    pixels, boxes = patches
    found = integrated_gradients(MODEL, passing_variables, pixels, 1, steps=8, baseline=0.0)
    np.testing.assert_allclose(found.gap, 0.0, atol=1e-5)
    np.testing.assert_allclose(found.maps.sum((1, 2)), found.difference, rtol=1e-5)
    assert float(found.difference.min()) > 0.05
    np.testing.assert_allclose(mass_in_box(found.maps, boxes), 1.0, atol=1e-6)


def test_completeness_gap_closes_with_more_steps(
    random_variables: dict[str, Any], images: jax.Array
) -> None:
    few, many = (integrated_gradients(MODEL, random_variables, images, 1, n) for n in (2, 64))
    np.testing.assert_allclose(few.difference, many.difference)
    assert float(jnp.abs(many.gap).mean()) < 0.2 * float(jnp.abs(few.gap).mean())
    assert float(jnp.abs(many.gap / many.difference).max()) < 0.1


def test_smoothgrad_finds_the_pixels_that_are_read_and_follows_its_key(
    passing_variables: dict[str, Any], patches: tuple[jax.Array, jax.Array]
) -> None:
    pixels, boxes = patches
    key = jax.random.key(0)
    maps = smoothgrad(MODEL, passing_variables, pixels, key, 1, samples=4, noise=0.05)
    # Dark pixels stay behind the first ReLU but for noise beyond ten deviations.
    np.testing.assert_allclose(mass_in_box(maps, boxes), 1.0, atol=1e-6)
    again = smoothgrad(MODEL, passing_variables, pixels, key, 1, samples=4, noise=0.05)
    np.testing.assert_array_equal(maps, again)
    still = smoothgrad(MODEL, passing_variables, pixels, key, 1, samples=1, noise=0.0)
    logit = jax.jit(lambda x: MODEL.apply(passing_variables, x)["logits"][:, 1].sum())
    gradient = jax.grad(logit)(pixels)
    np.testing.assert_allclose(still, jnp.abs(gradient)[..., 0], atol=1e-7)


def test_upsampling_is_the_crops_resize() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 7, 7), dtype=np.uint8)
    found = upsample(jnp.asarray(pixels, jnp.float32), 139)
    for pixel, one in zip(pixels, found, strict=True):
        expected = crop_numpy(pixel, Window(0, 0, 7, 7), 139, "constant")
        np.testing.assert_allclose(one, expected, atol=1e-3)


def test_mass_in_box_weighs_cut_pixels_by_their_area() -> None:
    even = jnp.ones((1, 4, 5))
    corner = jnp.zeros((1, 4, 5)).at[0, 3, 4].set(7.0)
    maps = jnp.concatenate([even, even, corner, corner, jnp.zeros((1, 4, 5))])
    boxes = jnp.asarray(
        [[0, 0, 5, 2], [0.5, 0.25, 2.0, 1.5], [4.5, 3.25, 9, 9], [0, 0, 4, 3], [0, 0, 5, 4.0]]
    )
    # By hand: 10/20; 1.5 x 1.25 of 20; 0.5 x 0.75 of the one pixel; none of it; no mass at all.
    expected = [0.5, 1.875 / 20.0, 0.375, 0.0, np.nan]
    np.testing.assert_allclose(mass_in_box(maps, boxes), expected, rtol=1e-6)


def test_randomised_layers_change_and_no_others(random_variables: dict[str, Any]) -> None:
    changed = flatten_dict(randomised(random_variables, 3, ["fc", "Mixed_7c"]))
    for path, leaf in flatten_dict(random_variables).items():
        same = np.array_equal(changed[path], leaf)
        assert same == (path[1] not in ("fc", "Mixed_7c")), path
    everything = flatten_dict(randomised(random_variables, 3))
    kernels = [path for path in everything if path[-1] == "kernel"]
    assert not any(
        np.array_equal(everything[p], flatten_dict(random_variables)[p]) for p in kernels
    )
    with pytest.raises(ValueError, match="found Mixed_9z"):
        randomised(random_variables, 3, ["Mixed_9z"])


def test_randomising_destroys_a_map_that_means_something(
    passing_variables: dict[str, Any], patches: tuple[jax.Array, jax.Array]
) -> None:
    pixels, boxes = patches

    def maps_of(variables: dict[str, Any]) -> np.ndarray:
        return np.asarray(gradcam(MODEL, variables, pixels, 1, "mixed7"))

    steps = sanity_check(maps_of, passing_variables, seed=1)
    assert [step.layer for step in steps] == list(CASCADE)
    # One channel is in use: a random head gives it another weight, and the map another scale.
    assert steps[0].rank_correlation == pytest.approx(1.0)
    assert steps[-1].n == 3
    assert steps[-1].rank_correlation is not None
    assert abs(steps[-1].rank_correlation) < 0.35
    random = jnp.asarray(maps_of(randomised(passing_variables, 1)))
    # Above 0.55 before, see above; 0.14 is chance.
    assert float(mass_in_box(upsample(random, SIZE), boxes).max()) < 0.3


def test_rank_correlation_is_spearmans_and_flat_maps_are_left_out() -> None:
    # Ranks 1 2 3 4 against 2 1 4 3: 1 - 6 * 4 / (4 * 15) = 0.6. The second map is flat.
    before = np.asarray([[[1.0, 2.0], [3.0, 9.0]], [[5.0, 5.0], [5.0, 5.0]]])
    after = np.asarray([[[0.2, 0.1], [0.9, 0.8]], [[1.0, 2.0], [3.0, 4.0]]])
    variables = {"params": {"fc": {"bias": np.ones(2, np.float32)}}}

    def maps_of(given: dict[str, Any]) -> np.ndarray:
        return before if given is variables else after

    (step,) = sanity_check(maps_of, variables, layers=["fc"])
    assert step.layer == "fc"
    assert step.n == 1
    assert step.rank_correlation == pytest.approx(0.6)
    (flat,) = sanity_check(lambda _: before[1:], variables, layers=["fc"])
    assert flat.rank_correlation is None


@pytest.mark.slow
def test_randomising_imagenet_weights_destroys_their_maps(shared: Path) -> None:
    # Grad-CAM passes the test of Adebayo et al. 2018 (section 5): it depends on the head at once.
    weights = read(shared / "weights" / "keras" / "inceptionv3_v1.h5")
    with np.load(shared / "weights" / "slim" / "imagenet_head_1001.npz") as head:
        fc = {f"params/fc/{name}": head[name] for name in ("kernel", "bias")}
    model, variables = network_of(replace(weights, arrays={**weights.arrays, **fc}))
    photos = [
        load_colour_image(shared / "golden" / "photos" / name, 299, square=True)
        for name in ("chelsea.png", "coffee.png", "rocket.jpg")
    ]
    images = normalise(jnp.asarray(np.stack(photos)))
    classes = jnp.asarray([286, 968, 658])  # Egyptian cat, espresso, missile

    def maps_of(given: dict[str, Any]) -> np.ndarray:
        return np.asarray(gradcam(model, given, images, classes))

    maps = jnp.asarray(maps_of(variables))
    assert maps.shape == (3, 8, 8)
    # As seen in the photographs: the inside of the cup, and the rocket between its masts.
    boxes = jnp.asarray([[70, 60, 210, 155], [105, 85, 195, 285.0]])
    shares = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) / 299.0**2
    masses = mass_in_box(upsample(maps[1:], 299), boxes)
    assert np.all(np.asarray(masses) > 1.8 * np.asarray(shares))
    for step in sanity_check(maps_of, variables, 1, CASCADE[:4]):
        assert step.n >= 2
        assert step.rank_correlation is not None
        assert abs(step.rank_correlation) < 0.5, step
