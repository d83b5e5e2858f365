"""Ways to compute a convolution that give the same values to rounding, at other speeds.

Each stands in for `jax.lax.conv_general_dilated` on NHWC images and HWIO kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from thyrojax.shapes import Array, Float

DIMENSION_NAMES = ("NHWC", "HWIO", "NHWC")

plain = jax.lax.conv_general_dilated


def pointwise_as_product(
    x: Any, kernel: Any, strides: Any, padding: Any, **options: Any
) -> jax.Array:
    """A 1x1 kernel at stride 1 as a matrix product, any other as it is.

    The gradient of a 1x1 kernel is then a matrix product too, two to four times as fast on CPU.
    """
    if kernel.shape[:2] == (1, 1) and tuple(strides) == (1, 1):
        contract = (((x.ndim - 1,), (0,)), ((), ()))
        return jax.lax.dot_general(
            x, kernel[0, 0], contract, preferred_element_type=options.get("preferred_element_type")
        )
    return plain(x, kernel, strides, padding, **options)


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
