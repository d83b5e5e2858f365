"""The trunk of Inception-v3 as a graph: which unit follows which, through which pools.

What the weight formats need to know of the network beyond its names: creation order, shapes at any
width, strides and paddings, and the order of the branches in each concatenation. The network itself
is `thyrojax.model.inception_v3`; the tests hold the two together.
"""

from __future__ import annotations

from functools import cache
from typing import Literal, NamedTuple

MIN_DEPTH = 16  # TF-slim's floor under depth_multiplier


class Unit(NamedTuple):
    """One convolution without bias, BatchNorm and ReLU: Flax path, kernel, depths, stride."""

    path: str
    height: int
    width: int
    inputs: int
    outputs: int
    stride: int = 1
    padding: Literal["SAME", "VALID"] = "SAME"

    @property
    def kernel_shape(self) -> tuple[int, ...]:
        return (self.height, self.width, self.inputs, self.outputs)


class Conv(NamedTuple):
    """A unit within its block, at depth_multiplier 1."""

    name: str
    outputs: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    padding: Literal["SAME", "VALID"] = "SAME"


class Pool(NamedTuple):
    """A 3x3 pool: at stride 1 with padding, at stride 2 without."""

    kind: Literal["average", "max"]
    stride: int


class Fork(NamedTuple):
    """Units that read the same input side by side; their outputs are concatenated."""

    convs: tuple[Conv, ...]


Step = Conv | Pool | Fork
Branch = tuple[Step, ...]


class Block(NamedTuple):
    """Branches that read the same input; their outputs are concatenated in this order."""

    name: str
    branches: tuple[Branch, ...]


AVERAGE = Pool("average", 1)
MAX = Pool("max", 2)

STEM: Branch = (
    Conv("Conv2d_1a_3x3", 32, (3, 3), 2, "VALID"),
    Conv("Conv2d_2a_3x3", 32, (3, 3), 1, "VALID"),
    Conv("Conv2d_2b_3x3", 64, (3, 3)),
    MAX,
    Conv("Conv2d_3b_1x1", 80, (1, 1), 1, "VALID"),
    Conv("Conv2d_4a_3x3", 192, (3, 3), 1, "VALID"),
    MAX,
)


def _block_a(name: str, pool_features: int) -> Block:
    return Block(
        name,
        (
            (Conv("branch1x1", 64),),
            (Conv("branch5x5_1", 48), Conv("branch5x5_2", 64, (5, 5))),
            (
                Conv("branch3x3dbl_1", 64),
                Conv("branch3x3dbl_2", 96, (3, 3)),
                Conv("branch3x3dbl_3", 96, (3, 3)),
            ),
            (AVERAGE, Conv("branch_pool", pool_features)),
        ),
    )


def _block_b(name: str) -> Block:
    return Block(
        name,
        (
            (Conv("branch3x3", 384, (3, 3), 2, "VALID"),),
            (
                Conv("branch3x3dbl_1", 64),
                Conv("branch3x3dbl_2", 96, (3, 3)),
                Conv("branch3x3dbl_3", 96, (3, 3), 2, "VALID"),
            ),
            (MAX,),
        ),
    )


def _block_c(name: str, inner: int) -> Block:
    return Block(
        name,
        (
            (Conv("branch1x1", 192),),
            (
                Conv("branch7x7_1", inner),
                Conv("branch7x7_2", inner, (1, 7)),
                Conv("branch7x7_3", 192, (7, 1)),
            ),
            (
                Conv("branch7x7dbl_1", inner),
                Conv("branch7x7dbl_2", inner, (7, 1)),
                Conv("branch7x7dbl_3", inner, (1, 7)),
                Conv("branch7x7dbl_4", inner, (7, 1)),
                Conv("branch7x7dbl_5", 192, (1, 7)),
            ),
            (AVERAGE, Conv("branch_pool", 192)),
        ),
    )


def _block_d(name: str) -> Block:
    return Block(
        name,
        (
            (Conv("branch3x3_1", 192), Conv("branch3x3_2", 320, (3, 3), 2, "VALID")),
            (
                Conv("branch7x7x3_1", 192),
                Conv("branch7x7x3_2", 192, (1, 7)),
                Conv("branch7x7x3_3", 192, (7, 1)),
                Conv("branch7x7x3_4", 192, (3, 3), 2, "VALID"),
            ),
            (MAX,),
        ),
    )


def _block_e(name: str) -> Block:
    three = Fork((Conv("branch3x3_2a", 384, (1, 3)), Conv("branch3x3_2b", 384, (3, 1))))
    double = Fork((Conv("branch3x3dbl_3a", 384, (1, 3)), Conv("branch3x3dbl_3b", 384, (3, 1))))
    return Block(
        name,
        (
            (Conv("branch1x1", 320),),
            (Conv("branch3x3_1", 384), three),
            (Conv("branch3x3dbl_1", 448), Conv("branch3x3dbl_2", 384, (3, 3)), double),
            (AVERAGE, Conv("branch_pool", 192)),
        ),
    )


BLOCKS: tuple[Block, ...] = (
    _block_a("Mixed_5b", 32),
    _block_a("Mixed_5c", 64),
    _block_a("Mixed_5d", 64),
    _block_b("Mixed_6a"),
    _block_c("Mixed_6b", 128),
    _block_c("Mixed_6c", 160),
    _block_c("Mixed_6d", 160),
    _block_c("Mixed_6e", 192),
    _block_d("Mixed_7a"),
    _block_e("Mixed_7b"),
    _block_e("Mixed_7c"),
)
LAST_BLOCK = BLOCKS[-1].name  # where the FID network of 2015 has a max pool for the average
AUX_BLOCK = "Mixed_6e"  # what the auxiliary head reads


def depth(outputs: int, depth_multiplier: float) -> int:
    """Width of a convolution in a network of another width."""
    return max(int(outputs * depth_multiplier), MIN_DEPTH)


class Trunk(NamedTuple):
    """The units of a network of some width, and how many channels its aux head and head read."""

    units: tuple[Unit, ...]
    aux_inputs: int
    features: int


@cache
def trunk(depth_multiplier: float = 1.0) -> Trunk:
    """The units in the order in which Keras, TF-slim, torchvision and FID create them."""
    units: list[Unit] = []

    def add(prefix: str, conv: Conv, inputs: int) -> int:
        outputs = depth(conv.outputs, depth_multiplier)
        units.append(
            Unit(prefix + conv.name, *conv.kernel, inputs, outputs, conv.stride, conv.padding)
        )
        return outputs

    def follow(prefix: str, branch: Branch, channels: int) -> int:
        for step in branch:
            if isinstance(step, Conv):
                channels = add(prefix, step, channels)
            elif isinstance(step, Fork):
                channels = sum(add(prefix, conv, channels) for conv in step.convs)
        return channels

    channels = follow("", STEM, 3)
    aux_inputs = 0
    for block in BLOCKS:
        channels = sum(follow(f"{block.name}/", branch, channels) for branch in block.branches)
        if block.name == AUX_BLOCK:
            aux_inputs = channels
    return Trunk(tuple(units), aux_inputs, channels)


@cache
def aux_units(depth_multiplier: float = 1.0) -> tuple[Unit, ...]:
    """The two units of the auxiliary head."""
    inner, outer = depth(128, depth_multiplier), depth(768, depth_multiplier)
    return (
        Unit("AuxLogits/conv0", 1, 1, trunk(depth_multiplier).aux_inputs, inner),
        Unit("AuxLogits/conv1", 5, 5, inner, outer, 1, "VALID"),
    )
