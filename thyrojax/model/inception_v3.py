"""Inception-v3 (Szegedy et al. 2016, "Rethinking the Inception Architecture", arXiv:1512.00567).

Layer names are torchvision's; endpoint names (`mixed0`..`mixed10`, `pool`) are Keras'. Shape
comments are for a 299x299 input at depth_multiplier 1; any side of at least 75 px works.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from thyrojax.shapes import Array, Float, Num

MIN_INPUT_SIZE = 75
MIN_DEPTH = 16  # TF-slim's floor under depth_multiplier

Endpoints = dict[str, jax.Array]

HEAD_DEVIATION = 0.01  # TF-slim's, of the last layer
head_initializer = nn.initializers.truncated_normal(HEAD_DEVIATION)


def normalise(
    images: Num[Array, "batch height width channels"],
) -> Float[Array, "batch height width channels"]:
    """Grey levels 0..255 to -1..1, the preprocessing of Keras' and TF-slim's ImageNet weights."""
    return images.astype(jnp.float32) / 127.5 - 1.0


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

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch new_height new_width new_channels"]:
        x = nn.Conv(
            max(int(self.features * self.depth_multiplier), MIN_DEPTH),
            self.kernel,
            strides=(self.stride, self.stride),
            padding=self.padding,
            use_bias=False,
            conv_general_dilated=_convolve,
            kernel_init=nn.initializers.he_normal(),
            dtype=self.dtype,
            name="conv",
        )(x)
        x = nn.BatchNorm(
            use_running_average=self.use_running_average,
            momentum=self.momentum,
            epsilon=self.epsilon,
            axis_name=self.axis_name,
            dtype=self.dtype,
            name="bn",
        )(x)
        return nn.relu(x)


class BatchDropout(nn.Module):
    """Dropout whose mask belongs to the global batch, so that it does not depend on the devices.

    Every device draws the mask of the whole batch (a few kB) and keeps its own rows.
    """

    rate: float
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch features"], deterministic: bool
    ) -> Float[Array, "batch features"]:
        if deterministic or self.rate == 0.0:
            return x
        n_devices = 1 if self.axis_name is None else jax.lax.axis_size(self.axis_name)
        rows, features = x.shape
        keep = jax.random.bernoulli(
            self.make_rng("dropout"), 1.0 - self.rate, (n_devices * rows, features)
        )
        if self.axis_name is not None:
            first = jax.lax.axis_index(self.axis_name) * rows
            keep = jax.lax.dynamic_slice_in_dim(keep, first, rows)
        return jnp.where(keep, x / (1.0 - self.rate), 0.0)


def _max_pool(
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


def _convolve(x: Any, kernel: Any, strides: Any, padding: Any, **options: Any) -> jax.Array:
    """`jax.lax.conv_general_dilated`, with 1x1 kernels as a matrix product.

    The gradient of a 1x1 kernel is then a matrix product too, two to four times as fast on CPU.
    """
    if kernel.shape[:2] == (1, 1) and tuple(strides) == (1, 1):
        contract = (((x.ndim - 1,), (0,)), ((), ()))
        return jax.lax.dot_general(
            x, kernel[0, 0], contract, preferred_element_type=options.get("preferred_element_type")
        )
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, **options)


Layer = Callable[..., Any]


class BlockA(nn.Module):
    """35x35 grid: 1x1, 5x5, double 3x3 and pooled branches (paper's figure 5)."""

    conv: Layer
    average_pool: Layer
    pool_features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        conv = self.conv
        one = conv(64, name="branch1x1")(x)
        five = conv(48, name="branch5x5_1")(x)
        five = conv(64, (5, 5), name="branch5x5_2")(five)
        three = conv(64, name="branch3x3dbl_1")(x)
        three = conv(96, (3, 3), name="branch3x3dbl_2")(three)
        three = conv(96, (3, 3), name="branch3x3dbl_3")(three)
        pooled = conv(self.pool_features, name="branch_pool")(self.average_pool(x))
        return jnp.concatenate([one, five, three, pooled], axis=-1)


class BlockB(nn.Module):
    """35x35 to 17x17 (paper's figure 10)."""

    conv: Layer

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        conv = self.conv
        three = conv(384, (3, 3), 2, "VALID", name="branch3x3")(x)
        double = conv(64, name="branch3x3dbl_1")(x)
        double = conv(96, (3, 3), name="branch3x3dbl_2")(double)
        double = conv(96, (3, 3), 2, "VALID", name="branch3x3dbl_3")(double)
        return jnp.concatenate([three, double, _max_pool(x)], axis=-1)


class BlockC(nn.Module):
    """17x17 grid: factorised 7x7 convolutions (paper's figure 6)."""

    conv: Layer
    average_pool: Layer
    inner: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        conv, inner = self.conv, self.inner
        one = conv(192, name="branch1x1")(x)
        seven = conv(inner, name="branch7x7_1")(x)
        seven = conv(inner, (1, 7), name="branch7x7_2")(seven)
        seven = conv(192, (7, 1), name="branch7x7_3")(seven)
        double = conv(inner, name="branch7x7dbl_1")(x)
        double = conv(inner, (7, 1), name="branch7x7dbl_2")(double)
        double = conv(inner, (1, 7), name="branch7x7dbl_3")(double)
        double = conv(inner, (7, 1), name="branch7x7dbl_4")(double)
        double = conv(192, (1, 7), name="branch7x7dbl_5")(double)
        pooled = conv(192, name="branch_pool")(self.average_pool(x))
        return jnp.concatenate([one, seven, double, pooled], axis=-1)


class BlockD(nn.Module):
    """17x17 to 8x8."""

    conv: Layer

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        conv = self.conv
        three = conv(192, name="branch3x3_1")(x)
        three = conv(320, (3, 3), 2, "VALID", name="branch3x3_2")(three)
        seven = conv(192, name="branch7x7x3_1")(x)
        seven = conv(192, (1, 7), name="branch7x7x3_2")(seven)
        seven = conv(192, (7, 1), name="branch7x7x3_3")(seven)
        seven = conv(192, (3, 3), 2, "VALID", name="branch7x7x3_4")(seven)
        return jnp.concatenate([three, seven, _max_pool(x)], axis=-1)


class BlockE(nn.Module):
    """8x8 grid: expanded filter banks (paper's figure 7)."""

    conv: Layer
    pool: Layer

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        conv = self.conv
        one = conv(320, name="branch1x1")(x)
        three = conv(384, name="branch3x3_1")(x)
        three_a = conv(384, (1, 3), name="branch3x3_2a")(three)
        three_b = conv(384, (3, 1), name="branch3x3_2b")(three)
        double = conv(448, name="branch3x3dbl_1")(x)
        double = conv(384, (3, 3), name="branch3x3dbl_2")(double)
        double_a = conv(384, (1, 3), name="branch3x3dbl_3a")(double)
        double_b = conv(384, (3, 1), name="branch3x3dbl_3b")(double)
        pooled = conv(192, name="branch_pool")(self.pool(x))
        return jnp.concatenate([one, three_a, three_b, double_a, double_b, pooled], axis=-1)


class AuxiliaryHead(nn.Module):
    """Classifier on the 17x17 grid, trained beside the main one (Szegedy et al. 2016, section 4).

    Other input sizes leave other grids: the result is averaged over what is left (2x2 at 384 px),
    and where the grid is smaller than the 5x5 kernel (below 299 px) that convolution is padded.
    """

    conv: Layer
    num_classes: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        window = (min(5, x.shape[1]), min(5, x.shape[2]))
        x = nn.avg_pool(x, window, (3, 3), "VALID")  # 5 x 5 x 768
        x = self.conv(128, name="conv0")(x)  # 5 x 5 x 128
        padding = "VALID" if min(x.shape[1:3]) >= 5 else "SAME"
        x = self.conv(768, (5, 5), 1, padding, name="conv1")(x)  # 1 x 1 x 768
        x = jnp.mean(x, axis=(1, 2), dtype=jnp.float32)  # 768
        return nn.Dense(self.num_classes, kernel_init=head_initializer, name="fc")(x)


class InceptionV3(nn.Module):
    """Inception-v3 as a function of images that are already normalised.

    Attributes:
      num_classes: outputs of the head, and of the auxiliary head; 0 leaves both out.
      pooling: average pools inside the blocks count zero padding ("padded": torchvision, timm) or
        only real pixels ("valid": Keras, TF-slim, FID).
      last_pool: the pool within the last block: "average", or "max" in the network of 2015 that the
        Frechet inception distance is defined by.
      aux_head: adds the auxiliary classifier on the last 17x17 grid.
      dropout: rate before the head, in training.
      depth_multiplier: scales every width, with a floor of 16 (TF-slim's `min_depth`).
      bn_momentum: share of the old running statistics that a training step keeps.
      bn_epsilon: added to BatchNorm variances.
      dtype: of the computation; parameters and statistics are float32.
      axis_name: mapped axis over which a training step shares BatchNorm statistics.
    """

    num_classes: int = 1000
    pooling: Literal["valid", "padded"] = "valid"
    last_pool: Literal["average", "max"] = "average"
    aux_head: bool = False
    dropout: float = 0.2
    depth_multiplier: float = 1.0
    bn_momentum: float = 0.9
    bn_epsilon: float = 1e-3
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "batch height width channels"],
        train: bool = False,
        use_running_average: bool | None = None,
    ) -> Endpoints:
        """Runs the network; under jit, endpoints that nobody uses cost nothing.

        Args:
          images: one channel (grey) or three; the first kernel takes its depth from them.
          train: dropout on, BatchNorm by the batch's own statistics, auxiliary head evaluated.
          use_running_average: BatchNorm's mode where it is not `not train` (frozen statistics).

        Returns:
          `mixed0`..`mixed10` [batch, height, width, channels], `pool` [batch, 2048] and, with
          classes, `logits` [batch, num_classes]; `aux_logits` too in training and initialisation
          where the model has that head. `pool` and logits are float32.

        Raises:
          ValueError: an image side below 75 px.
        """
        if any(side < MIN_INPUT_SIZE for side in images.shape[1:3]):  # sides may be symbols
            raise ValueError(f"found images of {images.shape[1:3]} px, expected at least 75x75")
        conv = partial(
            ConvBN,
            use_running_average=not train if use_running_average is None else use_running_average,
            depth_multiplier=self.depth_multiplier,
            momentum=self.bn_momentum,
            epsilon=self.bn_epsilon,
            axis_name=self.axis_name,
            dtype=self.dtype,
        )
        average_pool = partial(
            nn.avg_pool,
            window_shape=(3, 3),
            strides=(1, 1),
            padding="SAME",
            count_include_pad=self.pooling == "padded",
        )
        ends: Endpoints = {}

        x = images.astype(self.dtype)
        x = conv(32, (3, 3), 2, "VALID", name="Conv2d_1a_3x3")(x)  # 149 x 149 x 32
        x = conv(32, (3, 3), 1, "VALID", name="Conv2d_2a_3x3")(x)  # 147 x 147 x 32
        x = conv(64, (3, 3), name="Conv2d_2b_3x3")(x)  # 147 x 147 x 64
        x = _max_pool(x)  # 73 x 73 x 64
        x = conv(80, (1, 1), 1, "VALID", name="Conv2d_3b_1x1")(x)  # 73 x 73 x 80
        x = conv(192, (3, 3), 1, "VALID", name="Conv2d_4a_3x3")(x)  # 71 x 71 x 192
        x = _max_pool(x)  # 35 x 35 x 192

        ends["mixed0"] = x = BlockA(conv, average_pool, 32, name="Mixed_5b")(x)  # 35 x 35 x 256
        ends["mixed1"] = x = BlockA(conv, average_pool, 64, name="Mixed_5c")(x)  # 35 x 35 x 288
        ends["mixed2"] = x = BlockA(conv, average_pool, 64, name="Mixed_5d")(x)  # 35 x 35 x 288
        ends["mixed3"] = x = BlockB(conv, name="Mixed_6a")(x)  # 17 x 17 x 768
        ends["mixed4"] = x = BlockC(conv, average_pool, 128, name="Mixed_6b")(x)  # 17 x 17 x 768
        ends["mixed5"] = x = BlockC(conv, average_pool, 160, name="Mixed_6c")(x)  # 17 x 17 x 768
        ends["mixed6"] = x = BlockC(conv, average_pool, 160, name="Mixed_6d")(x)  # 17 x 17 x 768
        ends["mixed7"] = x = BlockC(conv, average_pool, 192, name="Mixed_6e")(x)  # 17 x 17 x 768
        if self.aux_head and self.num_classes and (train or self.is_initializing()):
            ends["aux_logits"] = AuxiliaryHead(conv, self.num_classes, name="AuxLogits")(x)
        ends["mixed8"] = x = BlockD(conv, name="Mixed_7a")(x)  # 8 x 8 x 1280
        ends["mixed9"] = x = BlockE(conv, average_pool, name="Mixed_7b")(x)  # 8 x 8 x 2048
        last_pool = average_pool
        if self.last_pool == "max":
            last_pool = partial(nn.max_pool, window_shape=(3, 3), strides=(1, 1), padding="SAME")
        ends["mixed10"] = x = BlockE(conv, last_pool, name="Mixed_7c")(x)  # 8 x 8 x 2048

        ends["pool"] = x = jnp.mean(x, axis=(1, 2), dtype=jnp.float32)  # 2048
        if self.num_classes:
            x = BatchDropout(self.dropout, self.axis_name)(x, deterministic=not train)
            head = nn.Dense(self.num_classes, kernel_init=head_initializer, name="fc")
            ends["logits"] = head(x)
        return ends
