"""TorchScript archives: NVIDIA's translation of the FID network, and torchvision's class itself.

Read as data: the archive's pickle holds the modules' attributes; its code is not looked at.

The archive `inception-2015-12-05.pt` of StyleGAN and clean-fid keeps the layer names of the graph
of 2015 under `layers`. A layer's arrays are `weight` (OIHW), `beta`, `mean` and `var`, there is no
scale, and the classifier of 1008 classes is `output`. The last two blocks have no modules for their
branches, but longer names (`mixed_9.tower_mixed_conv`). Its `forward` gives `layers` what
(x - 128) / 128 makes of grey levels. So says the port that miemie2013 made of it key by key
(`inception_convert_weights.py`); the archive itself could not be had.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from thyrojax.weights import names, names_2015
from thyrojax.weights.formats import torch_file
from thyrojax.weights.formats.pickle_names import Module
from thyrojax.weights.formats.torchvision import FID_CLASSES
from thyrojax.weights.state_dict import FIRST, Tensor, assemble, read_all
from thyrojax.weights.types import VARIANTS, Arrays, Reading, Request, raise_faults

NAME = "torchscript"
DESCRIPTION = "TorchScript archive of the FID network or of torchvision's class (.pt)"

# Ours -> theirs, in NVIDIA's archive.
ARRAYS = {
    "params/{}/conv/kernel": "weight",
    "params/{}/bn/bias": "beta",
    "batch_stats/{}/bn/mean": "mean",
    "batch_stats/{}/bn/var": "var",
}
FLAT_BLOCKS = ("mixed_9/", "mixed_10/")
FIRST_2015 = "layers.conv.weight"


def recognises(path: Path) -> bool:
    """Whether it is an archive of torch with code in it."""
    return torch_file.kind(path) == "script"


def read(path: Path, request: Request) -> Reading:
    """Reads the modules' tensors under either set of names.

    Raises:
      WeightsError: a pickle that asks for anything but plain data, a damaged file, or every fault
        of the network in it, on one line.
    """
    saved = torch_file.read(path)
    tensors, others = saved.tensors(), dict(saved.tree.others)
    if FIRST_2015 in tensors:
        return _read_2015(path, tensors, others, request)
    if not any(key.endswith(FIRST) for key in tensors):
        raise_faults(path, [f"found no {FIRST_2015} and no {FIRST} in the modules, expected one"])
    done = assemble(path, tensors, request)
    classes = {tensor.shape for key, tensor in tensors.items() if key.endswith("fc.bias")}
    variant = VARIANTS["fid" if classes == {(FID_CLASSES,)} else "torchvision"]
    notes = []
    if isinstance(saved.root, Module) and saved.root.attributes.get("transform_input") is True:
        notes.append("transform_input: set, so that the module takes ImageNet's mean and std")
    return Reading(done.arrays, done.used, others | done.ignored, variant, notes=tuple(notes))


def _read_2015(
    path: Path, tensors: Mapping[str, Tensor], ignored: dict[str, str], request: Request
) -> Reading:
    shapes: names.Shapes = {}
    wanted: dict[str, str] = {}
    known = request.shapes()
    for unit, name in zip(request.trunk.units, names_2015.unit_names(), strict=True):
        block, _, rest = name.partition("/")
        flat = name.startswith(FLAT_BLOCKS)
        place = f"{block}.{rest.replace('/', '_')}" if flat else name.replace("/", ".")
        for ours, array in ARRAYS.items():
            target = ours.format(unit.path)
            wanted[f"layers.{place}.{array}"] = target
            shapes[target] = known[target]
    head = {"output.weight": names.HEAD_KERNEL, "output.bias": names.HEAD_BIAS}
    bias = tensors.get("output.bias")
    if request.head == "drop":
        ignored |= {key: "classifier: not asked for" for key in head if key in tensors}
    elif bias is not None and len(bias.shape) == 1 and bias.shape[0]:
        wanted |= head
        shapes |= names.head_shapes(bias.shape[0], request.depth_multiplier)
    unknown = [key for key in tensors if key not in wanted and key not in ignored]
    arrays: Arrays = read_all(path, tensors, wanted, shapes, unknown)
    for target, shape in known.items():
        if target.endswith("/bn/scale"):
            arrays[target] = np.ones(shape, np.float32)
    return Reading(arrays, tuple(wanted), ignored, VARIANTS["fid2015"])
