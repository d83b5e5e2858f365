"""Inception-v3 (Szegedy et al. 2016, "Rethinking the Inception Architecture", arXiv:1512.00567).

Layer names are torchvision's; endpoint names (`mixed0`..`mixed10`, `pool`) are Keras'. Shape
comments are for a 299x299 input at depth_multiplier 1; any side of at least 75 px works.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from thyrojax.model import convolutions
from thyrojax.model.units import BatchDropout, ConvBN, Layer, Part, max_pool, pointwise_units
from thyrojax.shapes import Array, Float, Num

MIN_INPUT_SIZE = 75

Endpoints = dict[str, jax.Array]

Pointwise = Literal["product", "convolution"]
KernelGradient = Literal["parts", "whole"]

HEAD_DEVIATION = 0.01  # TF-slim's, of the last layer
head_initializer = nn.initializers.truncated_normal(HEAD_DEVIATION)


def normalise(
    images: Num[Array, "batch height width channels"],
) -> Float[Array, "batch height width channels"]:
    """Grey levels 0..255 to -1..1, the preprocessing of Keras' and TF-slim's ImageNet weights."""
    return images.astype(jnp.float32) / 127.5 - 1.0


class BlockA(nn.Module):
    """35x35 grid: 1x1, 5x5, double 3x3 and pooled branches (paper's figure 5)."""

    conv: Layer
    average_pool: Layer
    pool_features: int
    merge: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        conv = self.conv
        units = [
            conv(64, name="branch1x1"),
            conv(48, name="branch5x5_1"),
            conv(64, name="branch3x3dbl_1"),
            conv(self.pool_features, name="branch_pool"),
        ]
        one, five, three, pooled = pointwise_units(self, x, units, self.merge, self.average_pool)
        five = conv(64, (5, 5), name="branch5x5_2")(five)
        three = conv(96, (3, 3), name="branch3x3dbl_2")(three)
        three = conv(96, (3, 3), name="branch3x3dbl_3")(three)
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
        return jnp.concatenate([three, double, max_pool(x)], axis=-1)


class BlockC(nn.Module):
    """17x17 grid: factorised 7x7 convolutions (paper's figure 6)."""

    conv: Layer
    average_pool: Layer
    inner: int
    merge: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        conv, inner = self.conv, self.inner
        units = [
            conv(192, name="branch1x1"),
            conv(inner, name="branch7x7_1"),
            conv(inner, name="branch7x7dbl_1"),
            conv(192, name="branch_pool"),
        ]
        one, seven, double, pooled = pointwise_units(self, x, units, self.merge, self.average_pool)
        seven = conv(inner, (1, 7), name="branch7x7_2")(seven)
        seven = conv(192, (7, 1), name="branch7x7_3")(seven)
        double = conv(inner, (7, 1), name="branch7x7dbl_2")(double)
        double = conv(inner, (1, 7), name="branch7x7dbl_3")(double)
        double = conv(inner, (7, 1), name="branch7x7dbl_4")(double)
        double = conv(192, (1, 7), name="branch7x7dbl_5")(double)
        return jnp.concatenate([one, seven, double, pooled], axis=-1)


class BlockD(nn.Module):
    """17x17 to 8x8."""

    conv: Layer
    merge: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        conv = self.conv
        units = [conv(192, name="branch3x3_1"), conv(192, name="branch7x7x3_1")]
        three, seven = pointwise_units(self, x, units, self.merge)
        three = conv(320, (3, 3), 2, "VALID", name="branch3x3_2")(three)
        seven = conv(192, (1, 7), name="branch7x7x3_2")(seven)
        seven = conv(192, (7, 1), name="branch7x7x3_3")(seven)
        seven = conv(192, (3, 3), 2, "VALID", name="branch7x7x3_4")(seven)
        return jnp.concatenate([three, seven, max_pool(x)], axis=-1)


class BlockE(nn.Module):
    """8x8 grid: expanded filter banks (paper's figure 7)."""

    conv: Layer
    pool: Layer
    merge: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        conv = self.conv
        units = [
            conv(320, name="branch1x1"),
            conv(384, name="branch3x3_1"),
            conv(448, name="branch3x3dbl_1"),
            conv(192, name="branch_pool"),
        ]
        one, three, double, pooled = pointwise_units(self, x, units, self.merge, self.pool)
        three_a = conv(384, (1, 3), name="branch3x3_2a")(three)
        three_b = conv(384, (3, 1), name="branch3x3_2b")(three)
        double = conv(384, (3, 3), name="branch3x3dbl_2")(double)
        double_a = conv(384, (1, 3), name="branch3x3dbl_3a")(double)
        double_b = conv(384, (3, 1), name="branch3x3dbl_3b")(double)
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
      pointwise: 1x1 convolutions as matrix products or as convolutions.
      kernel_gradient: on a CPU, gradients of kernels in parts that its caches hold, or as XLA does.
      stem_on_depth: the first convolution on 2x2 pixels folded into channels.
      merge_branches: a block's 1x1 convolutions of one input as one wide one.
      remat: a training step keeps the inputs of blocks and of the first layers and computes what
        lies within a second time for the gradient (Chen et al. 2016, section 3): less memory, more
        time. What is summed over devices is kept.
      folded: no BatchNorm but biases, for inference on variables of `fold.fold_batch_norm`.

    `pointwise` to `remat` change no value beyond rounding, nor any parameter: they are for speed
    and memory, which depend on the device.
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
    pointwise: Pointwise = "product"
    kernel_gradient: KernelGradient = "parts"
    stem_on_depth: bool = False
    merge_branches: bool = False
    remat: bool = False
    folded: bool = False

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "batch height width channels"],
        train: bool = False,
        use_running_average: bool | None = None,
        part: Part | None = None,
    ) -> Endpoints:
        """Runs the network; under jit, endpoints that nobody uses cost nothing.

        Args:
          images: one channel (grey) or three; the first kernel takes its depth from them.
          train: dropout on, BatchNorm by the batch's own statistics, auxiliary head evaluated.
          use_running_average: BatchNorm's mode where it is not `not train` (frozen statistics).
          part: of the device's rows that these images are; None for all. Dropout draws by row.

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
            convolve=self._convolve(),
            folded=self.folded,
        )
        layer = partial(self._block(ConvBN), **conv.keywords)
        stem = partial(layer, convolve=convolutions.stem_on_depth) if self.stem_on_depth else layer
        a, b, c, d, e = map(self._block, (BlockA, BlockB, BlockC, BlockD, BlockE))
        average = partial(
            nn.avg_pool,
            window_shape=(3, 3),
            strides=(1, 1),
            padding="SAME",
            count_include_pad=self.pooling == "padded",
        )
        ends: Endpoints = {}
        merge = self.merge_branches

        x = images.astype(self.dtype)
        x = stem(32, (3, 3), 2, "VALID", name="Conv2d_1a_3x3")(x)  # 149 x 149 x 32
        x = layer(32, (3, 3), 1, "VALID", name="Conv2d_2a_3x3")(x)  # 147 x 147 x 32
        x = layer(64, (3, 3), name="Conv2d_2b_3x3")(x)  # 147 x 147 x 64
        x = max_pool(x)  # 73 x 73 x 64
        x = layer(80, (1, 1), 1, "VALID", name="Conv2d_3b_1x1")(x)  # 73 x 73 x 80
        x = layer(192, (3, 3), 1, "VALID", name="Conv2d_4a_3x3")(x)  # 71 x 71 x 192
        x = max_pool(x)  # 35 x 35 x 192

        ends["mixed0"] = x = a(conv, average, 32, merge=merge, name="Mixed_5b")(x)  # 35 x 35 x 256
        ends["mixed1"] = x = a(conv, average, 64, merge=merge, name="Mixed_5c")(x)  # 35 x 35 x 288
        ends["mixed2"] = x = a(conv, average, 64, merge=merge, name="Mixed_5d")(x)  # 35 x 35 x 288
        ends["mixed3"] = x = b(conv, name="Mixed_6a")(x)  # 17 x 17 x 768
        ends["mixed4"] = x = c(conv, average, 128, merge=merge, name="Mixed_6b")(x)  # 17 x 17 x 768
        ends["mixed5"] = x = c(conv, average, 160, merge=merge, name="Mixed_6c")(x)  # 17 x 17 x 768
        ends["mixed6"] = x = c(conv, average, 160, merge=merge, name="Mixed_6d")(x)  # 17 x 17 x 768
        ends["mixed7"] = x = c(conv, average, 192, merge=merge, name="Mixed_6e")(x)  # 17 x 17 x 768
        if self.aux_head and self.num_classes and (train or self.is_initializing()):
            ends["aux_logits"] = AuxiliaryHead(conv, self.num_classes, name="AuxLogits")(x)
        ends["mixed8"] = x = d(conv, merge=merge, name="Mixed_7a")(x)  # 8 x 8 x 1280
        ends["mixed9"] = x = e(conv, average, merge=merge, name="Mixed_7b")(x)  # 8 x 8 x 2048
        last_pool, merge_last = average, merge
        if self.last_pool == "max":  # which does not commute with a convolution
            merge_last = False
            last_pool = partial(nn.max_pool, window_shape=(3, 3), strides=(1, 1), padding="SAME")
        ends["mixed10"] = x = e(conv, last_pool, merge=merge_last, name="Mixed_7c")(
            x
        )  # 8 x 8 x 2048

        ends["pool"] = x = jnp.mean(x, axis=(1, 2), dtype=jnp.float32)  # 2048
        if self.num_classes:
            x = BatchDropout(self.dropout, self.axis_name)(x, deterministic=not train, part=part)
            head = nn.Dense(self.num_classes, kernel_init=head_initializer, name="fc")
            ends["logits"] = head(x)
        return ends

    def _convolve(self) -> Layer:
        in_parts = self.kernel_gradient == "parts"
        convolve = convolutions.gradient_in_parts if in_parts else convolutions.plain
        if self.pointwise == "convolution":
            return convolve
        return partial(convolutions.pointwise_as_product, others=convolve)

    def _block(self, kind: type[nn.Module]) -> Layer:
        """A kind of block, computed a second time for the gradient where the network says so."""
        return nn.remat(kind, policy=_is_sum_over_devices) if self.remat else kind


def _is_sum_over_devices(primitive: Any, *_: Any, **__: Any) -> bool:
    return primitive.name == "psum"
