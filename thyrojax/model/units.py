"""What the network's blocks are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from thyrojax.model import convolutions
from thyrojax.shapes import Array, Float, Int

MIN_DEPTH = 16  # TF-slim's floor under depth_multiplier

Layer = Callable[..., Any]


class ConvBN(nn.Module):
    """Convolution without bias, BatchNorm, ReLU: the unit that the whole network is made of."""

    features: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    padding: Literal["SAME", "VALID"] = "SAME"
    use_running_average: bool = True
    depth_multiplier: float = 1.0
    momentum: float = 0.9
    epsilon: float = 1e-3
    axis_name: str | None = None
    dtype: Any = jnp.float32
    convolve: Callable[..., jax.Array] = convolutions.pointwise_as_product
    folded: bool = False

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], convolved: jax.Array | None = None
    ) -> Float[Array, "batch new_height new_width new_channels"]:
        """`convolved` is the convolution of `x` where it has been computed already."""
        x = nn.Conv(
            max(int(self.features * self.depth_multiplier), MIN_DEPTH),
            self.kernel,
            strides=(self.stride, self.stride),
            padding=self.padding,
            use_bias=self.folded,
            conv_general_dilated=self.convolve if convolved is None else lambda *_, **__: convolved,
            kernel_init=nn.initializers.he_normal(),
            dtype=self.dtype,
            name="conv",
        )(x)
        if self.folded:
            return nn.relu(x)
        x = nn.BatchNorm(
            use_running_average=self.use_running_average,
            momentum=self.momentum,
            epsilon=self.epsilon,
            axis_name=self.axis_name,
            dtype=self.dtype,
            name="bn",
        )(x)
        return nn.relu(x)


class Part(NamedTuple):
    """Rows `number`, `number` + `of`, `number` + 2 `of`, ... of a device's rows of a batch.

    Strided, a part has the same rows of the whole batch whatever the number of devices, as long as
    each device's rows are a multiple of `of`.
    """

    number: int | Int[Array, ""]
    of: int

    def take(self, rows: jax.Array) -> jax.Array:
        """This part of an array [rows, ...] of the device's rows."""
        grouped = rows.reshape(-1, self.of, *rows.shape[1:])
        return jax.lax.dynamic_index_in_dim(grouped, self.number, axis=1, keepdims=False)


class BatchDropout(nn.Module):
    """Dropout whose mask belongs to the global batch, so that it does not depend on the devices.

    Every device draws the mask of the whole batch (a few kB) and keeps its own rows.
    """

    rate: float
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch features"], deterministic: bool, part: Part | None = None
    ) -> Float[Array, "batch features"]:
        """`part` says which of the device's rows `x` has, where it has not all of them."""
        if deterministic or self.rate == 0.0:
            return x
        n_devices = 1 if self.axis_name is None else jax.lax.axis_size(self.axis_name)
        rows, features = x.shape
        rows *= 1 if part is None else part.of
        keep = jax.random.bernoulli(
            self.make_rng("dropout"), 1.0 - self.rate, (n_devices * rows, features)
        )
        if self.axis_name is not None:
            first = jax.lax.axis_index(self.axis_name) * rows
            keep = jax.lax.dynamic_slice_in_dim(keep, first, rows)
        if part is not None:
            keep = part.take(keep)
        return jnp.where(keep, x / (1.0 - self.rate), 0.0)


def max_pool(
    x: Float[Array, "batch height width channels"],
) -> Float[Array, "batch new_height new_width channels"]:
    """3x3 maximum at stride 2 without padding, as a maximum of shifted slices.

    Same values as `nn.max_pool`; its gradient is sums of slices instead of XLA's
    select-and-scatter, three to seven times as fast on CPU. Ties share a gradient instead of the
    first taking it, which is no difference behind a ReLU: ties are zeros, where the ReLU's own
    gradient is zero.
    """
    for axis in (1, 2):
        last = 2 * ((x.shape[axis] - 3) // 2) + 1
        shifted = [jax.lax.slice_in_dim(x, i, i + last, 2, axis) for i in range(3)]
        x = jnp.maximum(jnp.maximum(shifted[0], shifted[1]), shifted[2])
    return x


def pointwise_units(
    block: nn.Module,
    x: jax.Array,
    units: list[ConvBN],
    merge: bool,
    pool: Layer | None = None,
) -> list[jax.Array]:
    """Outputs of a block's 1x1 units; the last one's input goes through `pool` first.

    Merged, they are one wide convolution. An average over pixels and a sum over channels commute,
    so that pool comes after it, on fewer channels.
    """
    if block.is_initializing() or not merge:
        before = [x] * len(units) if pool is None else [*([x] * (len(units) - 1)), pool(x)]
        return [unit(value) for unit, value in zip(units, before, strict=True)]
    params = block.variables["params"]
    kernels = [params[str(unit.name)]["conv"]["kernel"].astype(unit.dtype) for unit in units]
    parts = convolutions.merged_pointwise(x, kernels, units[0].convolve)
    if pool is not None:
        parts[-1] = pool(parts[-1])
    return [unit(x, convolved=part) for unit, part in zip(units, parts, strict=True)]
