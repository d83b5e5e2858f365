"""Ways to compute a convolution that give the same values to rounding, at other speeds.

Each stands in for `jax.lax.conv_general_dilated` on NHWC images and HWIO kernels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from thyrojax.shapes import Array, Float

DIMENSION_NAMES = ("NHWC", "HWIO", "NHWC")

# Of `gradient_in_parts`, from docs/speed.md: channels in times channels out from which a product
# for each place pays (80 x 192 and 128 x 128 gained, 96 x 96 lost), and how much of an output's
# gradient a CPU's caches keep.
WIDE = 12_000
BAND_BYTES = 4_000_000
MOST_BANDS = 8  # each is a convolution to compile

plain = jax.lax.conv_general_dilated


def pointwise_as_product(
    x: Any,
    kernel: Any,
    strides: Any,
    padding: Any,
    others: Callable[..., jax.Array] = plain,
    **options: Any,
) -> jax.Array:
    """A 1x1 kernel at stride 1 as a matrix product, others by `others`.

    The gradient of a 1x1 kernel is then a matrix product too, two to four times as fast on CPU.
    """
    if kernel.shape[:2] == (1, 1) and tuple(strides) == (1, 1):
        contract = (((x.ndim - 1,), (0,)), ((), ()))
        return jax.lax.dot_general(
            x, kernel[0, 0], contract, preferred_element_type=options.get("preferred_element_type")
        )
    return others(x, kernel, strides, padding, **options)


def gradient_in_parts(x: Any, kernel: Any, strides: Any, padding: Any, **options: Any) -> jax.Array:
    """The convolution; on a CPU the gradient of its kernel in parts.

    XLA takes that gradient as a convolution whose window is the whole output and whose channels are
    the batch, and its CPU kernels read the output's gradient again for every row of the result:
    from memory, where it is large. So a wide kernel's is a matrix product for each of its places,
    of the pixels that the place meets with the output's gradient, and another's is a sum over bands
    of rows. Elsewhere than on a CPU it is left to XLA. No dilation, no groups; not for forward-mode
    derivatives.
    """

    @jax.custom_vjp
    def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return plain(x, kernel, strides, padding, **options)

    def forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        return convolve(x, kernel), (x, kernel)

    def backward(inputs: tuple[jax.Array, jax.Array], dy: jax.Array) -> tuple[jax.Array, ...]:
        x, kernel = inputs

        def whole(x: jax.Array, dy: jax.Array) -> jax.Array:
            return of_kernel(x, dy, padding)

        def of_kernel(x: jax.Array, dy: jax.Array, padding: Any) -> jax.Array:
            linear = partial(plain, x, window_strides=strides, padding=padding, **options)
            return jax.linear_transpose(linear, kernel)(dy)[0]

        def in_parts(x: jax.Array, dy: jax.Array) -> jax.Array:
            pads = padding
            if isinstance(pads, str):
                pads = jax.lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], strides, pads)
            x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
            if kernel.shape[2] * kernel.shape[3] >= WIDE:
                found = _by_places(x, dy, kernel.shape, strides)
            else:
                found = _by_bands(
                    x, dy, kernel.shape[0], strides[0], partial(of_kernel, padding="VALID")
                )
            return found.astype(kernel.dtype)

        of_x = partial(plain, rhs=kernel, window_strides=strides, padding=padding, **options)
        (dx,) = jax.linear_transpose(of_x, x)(dy)
        return dx, jax.lax.platform_dependent(x, dy, cpu=in_parts, default=whole)

    convolve.defvjp(forward, backward)
    return convolve(x, kernel)


def _by_places(
    x: Float[Array, "batch height width channels"],
    dy: Float[Array, "batch rows columns outputs"],
    kernel_shape: Sequence[int],
    strides: Sequence[int],
) -> Float[Array, "kernel_height kernel_width channels outputs"]:
    """Gradient of a kernel, by its padded input and the output's gradient: a product a place."""
    batch, rows, columns, outputs = dy.shape
    channels = x.shape[-1]
    places = []
    for i in range(kernel_shape[0]):
        for j in range(kernel_shape[1]):
            end = (i + (rows - 1) * strides[0] + 1, j + (columns - 1) * strides[1] + 1)
            met = jax.lax.slice(x, (0, i, j, 0), (batch, *end, channels), (1, *strides, 1))
            places.append(
                jax.lax.dot_general(
                    met.reshape(-1, channels),
                    dy.reshape(-1, outputs),
                    (((0,), (0,)), ((), ())),
                    preferred_element_type=_summed_in(dy.dtype),
                )
            )
    return jnp.stack(places).reshape(kernel_shape)


def _by_bands(
    x: Float[Array, "batch height width channels"],
    dy: Float[Array, "batch rows columns outputs"],
    kernel_rows: int,
    stride: int,
    of_kernel: Callable[[jax.Array, jax.Array], jax.Array],
) -> Float[Array, "kernel_height kernel_width channels outputs"]:
    """The same as a sum over bands of rows, by `of_kernel`, a function of such x and dy."""
    rows = dy.shape[1]
    bands = min(math.ceil(dy.size * dy.dtype.itemsize / BAND_BYTES), MOST_BANDS)
    taken = math.ceil(rows / bands)
    found = []
    for first in range(0, rows, taken):
        last = min(first + taken, rows) - 1
        band = x[:, first * stride : last * stride + kernel_rows]
        found.append(of_kernel(band, dy[:, first : last + 1]).astype(_summed_in(dy.dtype)))
    return sum(found[1:], found[0])


def _summed_in(dtype: Any) -> Any:
    """float32, or what is wider."""
    return jnp.promote_types(dtype, jnp.float32)


def stem_on_depth(x: Any, kernel: Any, strides: Any, padding: Any, **options: Any) -> jax.Array:
    """A 3x3 kernel at stride 2 without padding, on squares of 2x2 pixels folded into channels.

    It is then a 2x2 kernel at stride 1 with four times the inputs, of which 7 in 16 are zeros: more
    work on paper, but one or three channels leave most of a matrix unit idle. The way of the MLPerf
    ResNets' first layer.

    Raises:
      ValueError: another kernel, stride or padding.
    """
    if (*kernel.shape[:2], *strides, padding) != (3, 3, 2, 2, "VALID"):
        raise ValueError(
            f"found a {kernel.shape[0]}x{kernel.shape[1]} kernel at stride {tuple(strides)}, "
            f"{padding}, expected 3x3 at (2, 2), VALID"
        )
    batch, height, width, channels = x.shape
    # An even side's last pixel is beyond the last window: the zeros of the kernel meet it.
    x = jnp.pad(x, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)))
    rows, columns = (height + 1) // 2, (width + 1) // 2
    x = x.reshape(batch, rows, 2, columns, 2, channels).transpose(0, 1, 3, 2, 4, 5)
    x = x.reshape(batch, rows, columns, 4 * channels)
    outputs = kernel.shape[-1]
    kernel = jnp.pad(kernel, ((0, 1), (0, 1), (0, 0), (0, 0)))
    kernel = kernel.reshape(2, 2, 2, 2, channels, outputs).transpose(0, 2, 1, 3, 4, 5)
    kernel = kernel.reshape(2, 2, 4 * channels, outputs)
    return plain(x, kernel, (1, 1), "VALID", **options)


def merged_pointwise(
    x: Float[Array, "batch height width channels"],
    kernels: Sequence[Float[Array, "1 1 channels _"]],
    convolve: Any,
) -> list[jax.Array]:
    """Several 1x1 kernels on one input as one wide one, and its parts."""
    wide = convolve(
        x, jnp.concatenate(kernels, axis=-1), (1, 1), "SAME", dimension_numbers=DIMENSION_NAMES
    )
    ends = [sum(kernel.shape[-1] for kernel in kernels[:n]) for n in range(1, len(kernels))]
    return jnp.split(wide, ends, axis=-1)
