"""Ways to compute the same network: same parameters, same values and gradients to rounding."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from thyrojax.model import InceptionV3, convolutions, fold_batch_norm, initial_array
from thyrojax.model.inception_v3 import BlockA, BlockC, BlockD, BlockE
from thyrojax.model.units import ConvBN


def network(size: int, **options: Any) -> tuple[InceptionV3, dict[str, Any], jax.Array]:
    """A network a quarter as wide, with trained-like BatchNorm, and four images."""
    model = InceptionV3(num_classes=2, depth_multiplier=0.25, **options)
    images = jax.random.uniform(jax.random.key(1), (4, size, size, 3), minval=-1.0)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    rng = np.random.default_rng(0)

    def drawn(path: tuple[str, ...], leaf: Any) -> np.ndarray:
        if path[-1] in ("scale", "var"):
            return rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        if path[-2] == "bn":
            return rng.normal(0.0, 0.2, leaf.shape).astype(np.float32)
        return initial_array("/".join(path), leaf.shape, seed=0)

    leaves = {path: drawn(path, leaf) for path, leaf in flatten_dict(shapes).items()}
    return model, unflatten_dict(leaves), images


Plain = tuple[InceptionV3, dict[str, Any], jax.Array, dict[str, jax.Array]]


@pytest.fixture(scope="module")
def plain() -> Plain:
    """The network as it is, and its endpoints."""
    model, variables, images = network(75)
    return model, variables, images, jax.jit(model.apply)(variables, images)


def assert_equal_to_rounding(found: Any, expected: Any, relative: float) -> None:
    """Each leaf's differences against its largest value."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)

    def compare(path: Any, a: jax.Array, b: jax.Array) -> None:
        bound = relative * float(jnp.abs(b).max())
        np.testing.assert_allclose(a, b, rtol=0, atol=bound, err_msg=jax.tree_util.keystr(path))

    jax.tree_util.tree_map_with_path(compare, found, expected)


REWRITES: list[dict[str, Any]] = [
    {"merge_branches": True},
    {"stem_on_depth": True},
    {"pointwise": "convolution"},
]


@pytest.mark.parametrize("rewrite", REWRITES, ids=lambda rewrite: next(iter(rewrite)))
def test_rewritten_network_has_the_same_parameters_and_values(
    rewrite: dict[str, Any], plain: Plain
) -> None:
    model, variables, images, expected = plain
    other = model.clone(**rewrite)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    assert jax.eval_shape(other.init, jax.random.key(0), images) == shapes
    found = jax.jit(other.apply)(variables, images)
    assert_equal_to_rounding(found, expected, 1e-5)


def valid_average(x: jax.Array) -> jax.Array:
    """The pool inside blocks that does not count padding."""
    return nn.avg_pool(x, (3, 3), (1, 1), "SAME", count_include_pad=False)


BLOCKS: dict[str, Callable[..., nn.Module]] = {
    "A": lambda conv, **merge: BlockA(conv, valid_average, 32, **merge),
    "C": lambda conv, **merge: BlockC(conv, valid_average, 128, **merge),
    "D": lambda conv, **merge: BlockD(conv, **merge),
    "E": lambda conv, **merge: BlockE(conv, valid_average, **merge),
}


@pytest.mark.parametrize("train", [False, True], ids=["running", "batch"])
@pytest.mark.parametrize("name", BLOCKS)
def test_merged_block_has_the_same_gradients_and_statistics(name: str, train: bool) -> None:
    conv = partial(ConvBN, use_running_average=not train, depth_multiplier=0.1)
    images = jax.random.normal(jax.random.key(1), (2, 9, 9, 24))
    variables = jax.jit(BLOCKS[name](conv).init)(jax.random.key(0), images)

    def gradients(block: nn.Module) -> Any:
        def loss(params: Any, images: jax.Array) -> Any:
            found, updated = block.apply(
                {**variables, "params": params}, images, mutable=["batch_stats"]
            )
            return jnp.mean(jnp.sin(found)), (found, updated)

        both = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
        return jax.jit(both)(variables["params"], images)

    found, expected = gradients(BLOCKS[name](conv, merge=True)), gradients(BLOCKS[name](conv))
    assert_equal_to_rounding(found, expected, 1e-5)


def test_maximum_pool_of_2015_is_not_moved_behind_the_convolution() -> None:
    model, variables, images = network(75, last_pool="max")
    other = model.clone(merge_branches=True)
    found, expected = (jax.jit(each.apply)(variables, images)["pool"] for each in (other, model))
    assert_equal_to_rounding(found, expected, 1e-5)


@pytest.mark.parametrize("merge", [False, True])
def test_folded_network_has_the_same_endpoints(merge: bool, plain: Plain) -> None:
    model, variables, images, expected = plain
    other = model.clone(folded=True, merge_branches=merge)
    folded = fold_batch_norm(variables, model.bn_epsilon)
    assert_equal_to_rounding(jax.jit(other.apply)(folded, images), expected, 1e-5)
    shapes = jax.eval_shape(other.init, jax.random.key(0), images)
    assert jax.tree.map(jnp.shape, folded) == jax.tree.map(jnp.shape, shapes)


def test_folding_is_arithmetic_on_each_output_channel() -> None:
    unit = {"conv": {"kernel": jnp.full((1, 1, 1, 2), 3.0)}}
    norm = {"scale": jnp.asarray([2.0, 1.0]), "bias": jnp.asarray([0.5, 0.0])}
    running = {"mean": jnp.asarray([4.0, 0.0]), "var": jnp.asarray([3.0, 0.0])}
    variables = {
        "params": {"unit": {**unit, "bn": norm}},
        "batch_stats": {"unit": {"bn": running}},
    }
    conv = fold_batch_norm(variables, epsilon=1.0)["params"]["unit"]["conv"]
    # 2 * (3 x - 4) / sqrt(3 + 1) + 0.5 = 3 x - 3.5
    np.testing.assert_allclose(conv["kernel"].ravel(), [3.0, 3.0])
    np.testing.assert_allclose(conv["bias"], [-3.5, 0.0])


def test_pointwise_convolution_as_a_product_is_the_convolution() -> None:
    x = jax.random.normal(jax.random.key(0), (2, 5, 5, 7))
    kernel = jax.random.normal(jax.random.key(1), (1, 1, 7, 4))
    names = convolutions.DIMENSION_NAMES
    expected = convolutions.plain(x, kernel, (1, 1), "SAME", dimension_numbers=names)
    found = convolutions.pointwise_as_product(x, kernel, (1, 1), "SAME", dimension_numbers=names)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


PADDINGS = [(1, "SAME"), (2, "VALID"), (1, ((1, 0), (0, 2)))]


def kernel_gradients(convolve: Any, stride: int, padding: Any) -> Any:
    """A program of (input, kernel) to the gradients of both."""

    def loss(x: jax.Array, kernel: jax.Array) -> jax.Array:
        names = convolutions.DIMENSION_NAMES
        found = convolve(x, kernel, (stride, stride), padding, dimension_numbers=names)
        return jnp.sum(jnp.sin(found))

    return jax.jit(jax.grad(loss, argnums=(0, 1)))


@pytest.mark.parametrize("places", [(3, 3), (1, 7), (1, 1)])
@pytest.mark.parametrize(("stride", "padding"), PADDINGS)
def test_gradient_of_a_wide_kernel_is_a_product_for_each_place(
    places: tuple[int, int], stride: int, padding: Any
) -> None:
    x = jax.random.normal(jax.random.key(0), (2, 9, 8, 150))
    kernel = jax.random.normal(jax.random.key(1), (*places, 150, convolutions.WIDE // 150))
    found = kernel_gradients(convolutions.gradient_in_parts, stride, padding)
    expected = kernel_gradients(convolutions.plain, stride, padding)
    assert_equal_to_rounding(found(x, kernel), expected(x, kernel), 1e-5)
    assert found.lower(x, kernel).as_text().count("dot_general") == places[0] * places[1]
    assert "dot_general" not in found.lower(x, kernel[..., :-1]).as_text()


@pytest.mark.parametrize("places", [(3, 3), (7, 1)])
@pytest.mark.parametrize(("stride", "padding"), PADDINGS)
def test_gradient_of_a_narrow_kernel_is_a_sum_over_bands_of_rows(
    places: tuple[int, int], stride: int, padding: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = jax.random.normal(jax.random.key(0), (2, 27, 8, 5))
    kernel = jax.random.normal(jax.random.key(1), (*places, 5, 4))
    expected = kernel_gradients(convolutions.plain, stride, padding)
    # Of four bands the last has fewer rows.
    rows = jax.eval_shape(
        lambda x: jax.lax.conv_general_dilated(
            x, kernel, (stride,) * 2, padding, dimension_numbers=convolutions.DIMENSION_NAMES
        ),
        x,
    )
    monkeypatch.setattr(convolutions, "BAND_BYTES", rows.size * 4 // 4 + 1)
    found = kernel_gradients(convolutions.gradient_in_parts, stride, padding)
    assert_equal_to_rounding(found(x, kernel), expected(x, kernel), 1e-5)
    whole = expected.lower(x, kernel).as_text().count("stablehlo.convolution")
    assert found.lower(x, kernel).as_text().count("stablehlo.convolution") == whole + 3
    monkeypatch.setattr(convolutions, "MOST_BANDS", 2)
    found = kernel_gradients(convolutions.gradient_in_parts, stride, padding)
    assert found.lower(x, kernel).as_text().count("stablehlo.convolution") == whole + 1


def test_gradients_of_kernels_are_left_to_xla_elsewhere_than_on_a_cpu() -> None:
    traced = kernel_gradients(convolutions.gradient_in_parts, 1, "SAME").trace(
        jnp.ones((1, 4, 4, 150)), jnp.ones((3, 3, 150, 80))
    )
    assert "dot_general" in traced.lower(lowering_platforms=("cpu",)).as_text()
    for platform in ("cuda", "rocm", "tpu"):
        assert "dot_general" not in traced.lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.parametrize(("height", "width"), [(8, 9), (9, 8), (3, 4), (299, 384)])
def test_stem_on_depth_is_the_strided_convolution(height: int, width: int) -> None:
    x = jax.random.normal(jax.random.key(0), (1, height, width, 1))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 1, 5))
    names = convolutions.DIMENSION_NAMES

    def result(way: Callable[..., jax.Array]) -> Any:
        def loss(x: jax.Array, kernel: jax.Array) -> Any:
            y = way(x, kernel, (2, 2), "VALID", dimension_numbers=names)
            return jnp.mean(jnp.sin(y)), y

        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))(x, kernel)

    found, expected = result(convolutions.stem_on_depth), result(convolutions.plain)
    assert_equal_to_rounding(found, expected, 1e-5)


def test_stem_on_depth_refuses_what_it_is_not_made_for() -> None:
    with pytest.raises(ValueError, match=r"found a 3x3 kernel at stride \(1, 1\), SAME"):
        convolutions.stem_on_depth(jnp.ones((1, 9, 9, 1)), jnp.ones((3, 3, 1, 4)), (1, 1), "SAME")


@pytest.mark.parametrize("outputs", [4, 256])
def test_gradients_of_float64_keep_their_digits(
    outputs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convolutions, "BAND_BYTES", 1000)
    with jax.enable_x64(True):
        x = jax.random.normal(jax.random.key(0), (2, 9, 8, 150), jnp.float64)
        kernel = jax.random.normal(jax.random.key(1), (3, 3, 150, outputs), jnp.float64)
        found = kernel_gradients(convolutions.gradient_in_parts, 1, "SAME")(x, kernel)
        expected = kernel_gradients(convolutions.plain, 1, "SAME")(x, kernel)
        for one, other in zip(found, expected, strict=True):
            assert one.dtype == jnp.float64
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)
