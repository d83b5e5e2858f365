"""ONNX, for inference: write only. Runs in onnxruntime and wherever else ONNX does.

Input `image`: grey levels 0..255 as float32 [batch, height, width, channels], RGB or grey, not yet
preprocessed: what the weights expect is done within. Batch, height and width are free, or the size
is fixed. Outputs `pool` [batch, features] and, with a classifier, `logits` and `probabilities`
[batch, classes]. BatchNorm is folded into the convolutions in double precision.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from thyrojax.errors import WeightsError
from thyrojax.weights import names
from thyrojax.weights.graph import BLOCKS, LAST_BLOCK, STEM, Branch, Conv, Fork, Pool
from thyrojax.weights.types import (
    DESCRIPTION_KEY,
    PREPROCESSING,
    Arrays,
    Reading,
    Request,
    Variant,
    describe,
)

NAME = "onnx"
DESCRIPTION = "ONNX graph for inference"
ENDING = ".onnx"
NATIVE = None
CHANNELS = (1, 3)

OPSET = 17
IR_VERSION = 8  # of ONNX 1.13, the first with that opset
MIN_SIZE = 75


def recognises(path: Path) -> bool:
    """Whether it begins as an ONNX file of ours does."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        # Field 1, the version of the representation; field 2, the producer.
        return file.read(12) == bytes([8, IR_VERSION, 18, 8]) + b"thyrojax"


def read(path: Path, request: Request) -> Reading:
    """Nothing is read back.

    Raises:
      WeightsError: always; BatchNorm has been folded, so that the weights are not in it.
    """
    raise WeightsError(
        f"{path}: found an ONNX export, which can be run and not converted; expected the weights "
        "that it was made from"
    )


class _Builder:
    """Collects nodes and constants; each method returns the name of what it adds."""

    def __init__(self, helper: Any, arrays: Arrays, variant: Variant) -> None:
        self.helper, self.arrays, self.variant = helper, arrays, variant
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray] = {}
        self.numbers = itertools.count()

    def node(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        output = name or f"{kind.lower()}_{next(self.numbers)}"
        self.nodes.append(self.helper.make_node(kind, list(inputs), [output], output, **attributes))
        return output

    def constant(self, name: str, values: np.ndarray) -> str:
        self.constants[name] = np.ascontiguousarray(values)
        return name

    def unit(self, x: str, path: str, conv: Conv) -> str:
        """Convolution with the BatchNorm in it, ReLU."""
        arrays = self.arrays
        kernel = arrays[f"params/{path}/conv/kernel"].astype(np.float64)
        scale, bias = (
            arrays[f"params/{path}/bn/{n}"].astype(np.float64) for n in ("scale", "bias")
        )
        mean, var = (
            arrays[f"batch_stats/{path}/bn/{n}"].astype(np.float64) for n in ("mean", "var")
        )
        factor = scale / np.sqrt(var + self.variant.epsilon)
        weight = (kernel * factor).transpose(3, 2, 0, 1).astype(np.float32)
        shift = (bias - mean * factor).astype(np.float32)
        height, width = ((n - 1) // 2 if conv.padding == "SAME" else 0 for n in conv.kernel)
        y = self.node(
            "Conv",
            x,
            self.constant(f"{path}/kernel", weight),
            self.constant(f"{path}/bias", shift),
            name=f"{path}/conv",
            kernel_shape=list(conv.kernel),
            strides=[conv.stride, conv.stride],
            pads=[height, width, height, width],
        )
        return self.node("Relu", y, name=path)

    def pool(self, x: str, pool: Pool, kind: str) -> str:
        padding = [1, 1, 1, 1] if pool.stride == 1 else [0, 0, 0, 0]
        options: dict[str, Any] = {
            "kernel_shape": [3, 3],
            "strides": [pool.stride, pool.stride],
            "pads": padding,
        }
        if kind == "max":
            return self.node("MaxPool", x, **options)
        padded = int(self.variant.pooling == "padded")
        return self.node("AveragePool", x, count_include_pad=padded, **options)

    def branch(self, x: str, prefix: str, branch: Branch, average: str = "average") -> str:
        for step in branch:
            if isinstance(step, Conv):
                x = self.unit(x, prefix + step.name, step)
            elif isinstance(step, Fork):
                forks = [self.unit(x, prefix + conv.name, conv) for conv in step.convs]
                x = self.node("Concat", *forks, axis=1)
            else:
                x = self.pool(x, step, "max" if step.kind == "max" else average)
        return x

    def preprocess(self, image: str) -> str:
        channels = self.arrays[names.FIRST_KERNEL].shape[2]
        scale, offset = np.asarray(PREPROCESSING[self.variant.preprocessing], np.float32)
        x = self.node("Mul", image, self.constant("preprocessing/scale", scale[:channels]))
        x = self.node("Add", x, self.constant("preprocessing/offset", offset[:channels]))
        return self.node("Transpose", x, perm=[0, 3, 1, 2])

    def network(self) -> list[str]:
        """The whole graph; the names of its outputs."""
        x = self.branch(self.preprocess("image"), "", STEM)
        for block in BLOCKS:
            average = self.variant.last_pool if block.name == LAST_BLOCK else "average"
            ends = [self.branch(x, f"{block.name}/", b, average) for b in block.branches]
            x = self.node("Concat", *ends, name=block.name, axis=1)
        x = self.node("Flatten", self.node("GlobalAveragePool", x), name="pool", axis=1)
        if names.HEAD_KERNEL not in self.arrays:
            return ["pool"]
        kernel = self.constant("fc/kernel", self.arrays[names.HEAD_KERNEL])
        bias = self.constant("fc/bias", self.arrays[names.HEAD_BIAS])
        logits = self.node("Gemm", x, kernel, bias, name="logits")
        return ["pool", logits, self.node("Softmax", logits, name="probabilities", axis=-1)]


def write(path: Path, arrays: Arrays, variant: Variant, metadata: Mapping[str, Any]) -> list[str]:
    """Writes the graph, fixed in size where `metadata["export"]["input_size"]` says so.

    The description is in `metadata_props`, and so is each of its entries in plain words.

    Raises:
      WeightsError: the package onnx is not installed.
    """
    try:
        import onnx
        from onnx import TensorProto, helper, numpy_helper
    except ImportError:
        raise WeightsError(
            f"{path}: found no package onnx, expected it (pip install 'thyrojax[onnx]')"
        ) from None
    builder = _Builder(helper, arrays, variant)
    outputs = builder.network()
    size = metadata.get("export", {}).get("input_size")
    if size is not None and size < MIN_SIZE:
        raise WeightsError(f"{path}: found an input size of {size} px, expected at least 75")
    channels = arrays[names.FIRST_KERNEL].shape[2]
    shape = ["batch", size or "height", size or "width", channels]
    graph = helper.make_graph(
        builder.nodes,
        "inception_v3",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape, "grey levels 0..255")],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", None])
            for name in outputs
        ],
        [numpy_helper.from_array(values, name) for name, values in builder.constants.items()],
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="thyrojax",
        doc_string="Inception-v3. Not a medical device.",
    )
    text = describe(arrays, variant, metadata)
    plain = {name: str(value) for name, value in metadata.items() if name != "export"}
    helper.set_model_props(model, {**plain, "preprocessing": "inside", DESCRIPTION_KEY: text})
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString(deterministic=True))
    has_aux = names.AUX_BIAS in arrays
    return ["AuxLogits: left out, inference does not use it"] if has_aux else []


def probe_size(path: Path) -> int | None:
    """Side in px that an export is fixed to, None where it is free."""
    height = _session(path).get_inputs()[0].shape[1]
    return height if isinstance(height, int) else None


def run(path: Path, images: np.ndarray) -> dict[str, np.ndarray]:
    """Outputs of an export for images of grey levels, computed by onnxruntime.

    Raises:
      WeightsError: onnxruntime is not installed.
    """
    session = _session(path)
    wanted = [output.name for output in session.get_outputs()]
    found = session.run(wanted, {"image": images.astype(np.float32)})
    return dict(zip(wanted, found, strict=True))


def _session(path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise WeightsError(
            f"{path}: found no package onnxruntime to run it, expected it (pip install "
            "'thyrojax[onnx]'), or --no-probe"
        ) from None
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
