"""The weight names of Inception-v3: ours, and the shapes that go with them.

Our names are paths in the Flax variables, "/" between the levels: `params/UNIT/conv/kernel`,
`params/UNIT/bn/scale`, `params/UNIT/bn/bias`, `batch_stats/UNIT/bn/mean`, `batch_stats/UNIT/bn/var`
for the 94 units of the trunk and the two of the auxiliary head (`AuxLogits/conv0`, `conv1`), and
`params/fc/kernel`, `params/fc/bias`, `params/AuxLogits/fc/kernel` and `bias` for the classifiers.
Foreign names are in `names_keras`, `names_slim` and so on.
"""

from __future__ import annotations

from collections.abc import Iterable

from thyrojax.weights.graph import Unit, aux_units, trunk

UNITS = trunk().units
FEATURES = trunk().features  # width of the pooled features that a head reads
FIRST_KERNEL = "params/Conv2d_1a_3x3/conv/kernel"
FIRST_MEAN = "batch_stats/Conv2d_1a_3x3/bn/mean"
HEAD_KERNEL, HEAD_BIAS = "params/fc/kernel", "params/fc/bias"
AUX_KERNEL, AUX_BIAS = "params/AuxLogits/fc/kernel", "params/AuxLogits/fc/bias"

Shapes = dict[str, tuple[int, ...]]


def unit_shapes(units: Iterable[Unit]) -> Shapes:
    """Path and shape of the five arrays of each unit."""
    shapes: Shapes = {}
    for unit in units:
        shapes[f"params/{unit.path}/conv/kernel"] = unit.kernel_shape
        shapes[f"params/{unit.path}/bn/scale"] = (unit.outputs,)
        shapes[f"params/{unit.path}/bn/bias"] = (unit.outputs,)
        shapes[f"batch_stats/{unit.path}/bn/mean"] = (unit.outputs,)
        shapes[f"batch_stats/{unit.path}/bn/var"] = (unit.outputs,)
    return shapes


def trunk_shapes(depth_multiplier: float = 1.0) -> Shapes:
    """Path and shape of every array of the trunk, for colour images."""
    return unit_shapes(trunk(depth_multiplier).units)


def head_shapes(classes: int, depth_multiplier: float = 1.0) -> Shapes:
    """Path and shape of the classifier's two arrays."""
    return {HEAD_KERNEL: (trunk(depth_multiplier).features, classes), HEAD_BIAS: (classes,)}


def aux_shapes(classes: int, depth_multiplier: float = 1.0) -> Shapes:
    """Path and shape of every array of the auxiliary head."""
    units = aux_units(depth_multiplier)
    return unit_shapes(units) | {
        AUX_KERNEL: (units[-1].outputs, classes),
        AUX_BIAS: (classes,),
    }
