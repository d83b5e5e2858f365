"""The network's shape, its modes, and its equivalences. Parity with other frameworks' weights is in
tests/weights."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from thyrojax.model import InceptionV3, initial_array, initial_variables, normalise
from thyrojax.model.inception_v3 import head_initializer
from thyrojax.model.units import max_pool

KERAS_PARAMETERS = 21_802_784  # keras.applications.InceptionV3(include_top=False).count_params()


def shapes(model: InceptionV3, size: int = 299, channels: int = 3) -> dict[str, tuple[int, ...]]:
    images = jax.ShapeDtypeStruct((1, size, size, channels), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    return {name: leaf.shape for name, leaf in flatten_dict(variables, sep="/").items()}


def small(**options: object) -> tuple[InceptionV3, dict, jax.Array]:
    """A network of 16 channels everywhere, random variables, and two grey images of 75 px."""
    model = InceptionV3(num_classes=2, depth_multiplier=0.05, **options)
    images = jax.random.uniform(jax.random.key(1), (2, 75, 75, 1), minval=-1.0)
    rng = np.random.default_rng(0)
    leaves = {
        path: rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        if path[-1] in ("scale", "var")
        else rng.normal(0.0, 0.15, leaf.shape).astype(np.float32)
        for path, leaf in flatten_dict(
            jax.eval_shape(model.init, jax.random.key(0), images)
        ).items()
    }
    return model, unflatten_dict(leaves), images


def run(model: InceptionV3, variables: dict, images: jax.Array) -> dict[str, jax.Array]:
    return jax.jit(model.apply)(variables, images)


def run_training(
    model: InceptionV3, variables: dict, images: jax.Array, key: int = 0, frozen: bool = False
) -> tuple[dict[str, jax.Array], dict]:
    """Endpoints and updated statistics of a training pass."""

    @jax.jit
    def apply(variables: dict, images: jax.Array, key: jax.Array) -> tuple[dict, dict]:
        return model.apply(
            variables,
            images,
            train=True,
            use_running_average=frozen,
            mutable=["batch_stats"],
            rngs={"dropout": key},
        )

    ends, updated = apply(variables, images, jax.random.key(key))
    return ends, updated["batch_stats"]


def test_trunk_has_the_parameters_that_keras_counts() -> None:
    leaves = shapes(InceptionV3(num_classes=0))
    counted = [name for name in leaves if not name.endswith("/scale")]  # Keras has no gamma
    assert sum(int(np.prod(leaves[name])) for name in counted) == KERAS_PARAMETERS
    assert sum(name.endswith("/conv/kernel") for name in leaves) == 94


def test_auxiliary_head_has_torchvisions_parameters() -> None:
    # torchvision.models.inception_v3(num_classes=1000): 27,161,264 parameters without statistics.
    leaves = shapes(InceptionV3(num_classes=1000, aux_head=True))
    learned = [name for name in leaves if name.startswith("params/")]
    assert sum(int(np.prod(leaves[name])) for name in learned) == 27_161_264


@pytest.mark.parametrize(("size", "grid"), [(75, 1), (160, 3), (299, 8), (384, 10)])
def test_last_grid_follows_the_input_size(size: int, grid: int) -> None:
    model = InceptionV3(num_classes=5)
    images = jax.ShapeDtypeStruct((3, size, size, 1), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    ends = jax.eval_shape(model.apply, variables, images)
    assert ends["mixed10"].shape == (3, grid, grid, 2048)
    assert ends["pool"].shape == (3, 2048)
    assert ends["logits"].shape == (3, 5)
    assert {f"mixed{i}" for i in range(11)} <= set(ends)


@pytest.mark.parametrize("size", [75, 160, 299, 384])
def test_auxiliary_head_works_at_every_size(size: int) -> None:
    model = InceptionV3(num_classes=2, aux_head=True)
    images = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    assert variables["params"]["AuxLogits"]["conv1"]["conv"]["kernel"].shape == (5, 5, 128, 768)
    ends, _ = jax.eval_shape(
        lambda v, x: model.apply(
            v, x, train=True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(0)}
        ),
        variables,
        images,
    )
    assert ends["aux_logits"].shape == (2, 2)
    assert "aux_logits" not in jax.eval_shape(model.apply, variables, images)


def test_images_below_75_px_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 75x75"):
        shapes(InceptionV3(), size=74)


def test_depth_multiplier_scales_widths_down_to_16() -> None:
    leaves = shapes(InceptionV3(num_classes=2, depth_multiplier=0.25))
    assert leaves["params/Conv2d_1a_3x3/conv/kernel"] == (3, 3, 3, 16)  # 32 / 4 = 8, raised to 16
    assert leaves["params/Conv2d_4a_3x3/conv/kernel"] == (3, 3, 20, 48)
    assert leaves["params/fc/kernel"] == (512, 2)


def test_grey_channel_with_folded_kernel_is_the_function_of_three_equal_channels() -> None:
    grey, variables, images = small()
    colour = InceptionV3(num_classes=2, depth_multiplier=0.05)
    kernel = jax.random.normal(jax.random.key(2), (3, 3, 3, 16))
    unit = {"conv": {"kernel": kernel}, "bn": variables["params"]["Conv2d_1a_3x3"]["bn"]}
    folded = {**unit, "conv": {"kernel": kernel.sum(axis=2, keepdims=True)}}
    with_three = {**variables, "params": {**variables["params"], "Conv2d_1a_3x3": unit}}
    with_one = {**variables, "params": {**variables["params"], "Conv2d_1a_3x3": folded}}
    expected = run(colour, with_three, jnp.repeat(images, 3, axis=-1))["logits"]
    np.testing.assert_allclose(run(grey, with_one, images)["logits"], expected, rtol=1e-4)


def test_pooling_variants_differ_only_where_padding_is_counted() -> None:
    model, variables, images = small()
    valid = run(model, variables, images)
    padded = run(model.clone(pooling="padded"), variables, images)
    # At 75 px mixed0 has a 7x7 grid: its inner 5x5 pools see no padding.
    inner = (slice(None), slice(1, -1), slice(1, -1))
    np.testing.assert_allclose(valid["mixed0"][inner], padded["mixed0"][inner], rtol=1e-6)
    assert float(jnp.abs(valid["mixed0"] - padded["mixed0"]).max()) > 1e-3


def test_bfloat16_computes_with_float32_parameters_statistics_and_logits() -> None:
    model, variables, images = small(dtype=jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    ends, statistics = run_training(model, variables, images)
    assert ends["mixed10"].dtype == jnp.bfloat16
    assert ends["logits"].dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(statistics)} == {jnp.dtype("float32")}
    exact = run(model.clone(dtype=jnp.float32), variables, images)["logits"]
    found = run(model, variables, images)["logits"]
    np.testing.assert_allclose(found, exact, atol=0.02 * float(jnp.abs(exact).max()))


def test_frozen_statistics_stay_while_dropout_is_on() -> None:
    model, variables, images = small(dropout=0.5)

    first, statistics = run_training(model, variables, images, key=0, frozen=True)
    second, _ = run_training(model, variables, images, key=1, frozen=True)
    assert float(jnp.abs(first["logits"] - second["logits"]).max()) > 0
    jax.tree.map(np.testing.assert_array_equal, statistics, variables["batch_stats"])


def test_running_statistics_follow_flax_momentum_convention() -> None:
    model, variables, images = small(bn_momentum=0.75)
    _, statistics = run_training(model, variables, images)
    kernel = variables["params"]["Conv2d_1a_3x3"]["conv"]["kernel"]
    convolved = jax.lax.conv_general_dilated(
        images, kernel, (2, 2), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    before = variables["batch_stats"]["Conv2d_1a_3x3"]["bn"]["mean"]
    expected = 0.75 * before + 0.25 * convolved.mean((0, 1, 2))
    found = statistics["Conv2d_1a_3x3"]["bn"]["mean"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


def testmax_pool_and_its_gradient_are_flaxs_behind_a_relu() -> None:
    import flax.linen as nn

    x = jax.random.normal(jax.random.key(0), (2, 10, 11, 3))

    def through(pool: object, x: jax.Array) -> jax.Array:
        return jnp.sum(jnp.sin(pool(nn.relu(x))))

    def reference(x: jax.Array) -> jax.Array:
        return nn.max_pool(x, (3, 3), (2, 2), "VALID")

    np.testing.assert_array_equal(max_pool(x), reference(x))
    ours = jax.grad(lambda x: through(max_pool, x))(x)
    np.testing.assert_allclose(ours, jax.grad(lambda x: through(reference, x))(x), atol=1e-6)


def test_normalise_maps_grey_levels_to_plus_minus_one() -> None:
    images = jnp.asarray([0, 255, 51], jnp.uint8).reshape(1, 1, 3, 1)
    np.testing.assert_allclose(normalise(images).ravel(), [-1.0, 1.0, -0.6], atol=1e-6)


def test_numpy_initial_values_have_the_distributions_of_the_modules_own() -> None:
    model = InceptionV3(num_classes=2, depth_multiplier=0.05, aux_head=True)
    images = jax.ShapeDtypeStruct((1, 75, 75, 1), jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    found = flatten_dict(initial_variables(shapes, seed=0), sep="/")
    assert {name: leaf.shape for name, leaf in found.items()} == {
        name: leaf.shape for name, leaf in flatten_dict(shapes, sep="/").items()
    }
    key = jax.random.key(1)
    kernel = found["params/AuxLogits/conv1/conv/kernel"]  # 5 x 5 x 16 x 38
    own = jax.nn.initializers.he_normal()(key, kernel.shape)
    assert kernel.std() == pytest.approx(float(own.std()), rel=0.02)
    assert np.abs(kernel).max() == pytest.approx(float(jnp.abs(own).max()), rel=0.01)
    dense = initial_array("params/fc/kernel", (2048, 2), seed=0)
    own = head_initializer(key, (2048, 2), jnp.float32)
    assert dense.std() == pytest.approx(float(own.std()), rel=0.05)
    np.testing.assert_array_equal(found["params/fc/bias"], 0.0)
    np.testing.assert_array_equal(found["batch_stats/Mixed_5b/branch1x1/bn/var"], 1.0)
    again = initial_array("params/fc/kernel", (2048, 2), seed=0)
    np.testing.assert_array_equal(dense, again)
    assert np.abs(dense - initial_array("params/fc/kernel", (2048, 2), seed=1)).max() > 0
