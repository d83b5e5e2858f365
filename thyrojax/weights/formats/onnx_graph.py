"""ONNX, for inference: written only. Runs in onnxruntime and wherever else ONNX does.

Input and outputs are those of `thyrojax.weights.formats.inference`; batch, height and width are
free, or the image has a fixed size. BatchNorm is folded into the convolutions in double precision,
so that every runtime computes the same few operators. The description stands in `metadata_props`
under `DESCRIPTION_KEY`, and its entries once more one by one, where viewers show them.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import thyrojax
from thyrojax.errors import WeightsError
from thyrojax.shapes import Float, UInt8
from thyrojax.weights import names
from thyrojax.weights.formats import inference, wire
from thyrojax.weights.graph import BLOCKS, LAST_BLOCK, STEM, Branch, Conv, Fork, Pool
from thyrojax.weights.types import (
    DESCRIPTION_KEY,
    MAX_DESCRIPTION_BYTES,
    PREPROCESSING,
    Arrays,
    Reading,
    Request,
    Variant,
)

NAME = "onnx"
DESCRIPTION = "ONNX graph (written only)"
ENDING = ".onnx"
NATIVE = None
CHANNELS = (1, 3)

OPSET = 17
IR_VERSION = 8  # of ONNX 1.12, the first with that opset
PRODUCER = "thyrojax"

# Of onnx.proto's ModelProto and StringStringEntryProto.
_PRODUCER_NAME, _METADATA_PROPS = 2, 14
_KEY, _VALUE = 1, 2


def recognises(path: Path) -> bool:
    """Whether it begins as an ONNX file of ours does."""
    if not path.is_file():
        return False
    producer = PRODUCER.encode()
    start = bytes([1 << 3 | wire.VARINT, IR_VERSION, _PRODUCER_NAME << 3 | wire.BYTES])
    start += bytes([len(producer)]) + producer
    with path.open("rb") as file:
        return file.read(len(start)) == start


def read(path: Path, request: Request) -> Reading:
    """Nothing is read back: with BatchNorm folded, the weights are no longer there.

    Raises:
      WeightsError: always: what it is, and where its weights are to be had.
    """
    inference.refuse(path, "an ONNX export", _description(path))


def _description(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    try:
        for entry in wire.Message(data).all_bytes(_METADATA_PROPS):
            pair = wire.Message(entry)
            value = pair.data(_VALUE)
            if pair.text(_KEY) == DESCRIPTION_KEY and value is not None:
                return inference.parse(bytes(value[:MAX_DESCRIPTION_BYTES]))
    except ValueError:
        pass  # a damaged export is refused as any other is
    return {}


class _Graph:
    """Nodes and constants of a graph in the making; each method returns the name of what it adds.

    A node is named as its output is.
    """

    def __init__(self, arrays: Arrays, variant: Variant) -> None:
        self.arrays, self.variant = arrays, variant
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray] = {}

    def node(self, kind: str, inputs: list[str], name: str, **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    def constant(self, name: str, values: np.ndarray) -> str:
        self.constants[name] = np.ascontiguousarray(values, np.float32)
        return name

    def preprocess(self) -> str:
        """From the input to what the weights expect, channels first."""
        channels = self.arrays[names.FIRST_KERNEL].shape[2]
        scale, offset = np.asarray(PREPROCESSING[self.variant.preprocessing])[:, :channels]
        scaled = [inference.INPUT, self.constant("preprocessing/scale", scale)]
        moved = [
            self.node("Mul", scaled, "preprocessing/scaled"),
            self.constant("preprocessing/offset", offset),
        ]
        x = self.node("Add", moved, "preprocessing/moved")
        return self.node("Transpose", [x], "preprocessing", perm=[0, 3, 1, 2])

    def unit(self, x: str, path: str, conv: Conv) -> str:
        """Convolution with the BatchNorm in it, and ReLU."""
        kernel, scale, beta, mean, var = (
            self.arrays[name].astype(np.float64)
            for name in (
                f"params/{path}/conv/kernel",
                f"params/{path}/bn/scale",
                f"params/{path}/bn/bias",
                f"batch_stats/{path}/bn/mean",
                f"batch_stats/{path}/bn/var",
            )
        )
        factor = scale / np.sqrt(var + self.variant.epsilon)
        constants = [
            self.constant(f"{path}/kernel", (kernel * factor).transpose(3, 2, 0, 1)),
            self.constant(f"{path}/bias", beta - mean * factor),
        ]
        # Kernels that are padded have odd sides and stride 1, so that both ends get the same.
        height, width = (side // 2 if conv.padding == "SAME" else 0 for side in conv.kernel)
        y = self.node(
            "Conv",
            [x, *constants],
            f"{path}/conv",
            kernel_shape=conv.kernel,
            strides=[conv.stride, conv.stride],
            pads=[height, width, height, width],
        )
        return self.node("Relu", [y], path)

    def pool(self, x: str, name: str, pool: Pool, kind: str) -> str:
        """A 3x3 pool; the maximum pads with what is smaller than anything."""
        padding = 1 if pool.stride == 1 else 0
        options: dict[str, Any] = {
            "kernel_shape": [3, 3],
            "strides": [pool.stride, pool.stride],
            "pads": [padding] * 4,
        }
        if kind == "max":
            return self.node("MaxPool", [x], name, **options)
        counted = int(self.variant.pooling == "padded")
        return self.node("AveragePool", [x], name, count_include_pad=counted, **options)

    def follow(self, x: str, prefix: str, branch: Branch, average: str = "average") -> list[str]:
        """The ends of a branch: two where it forks at last."""
        ends = [x]
        for i, step in enumerate(branch):
            if isinstance(step, Conv):
                ends = [self.unit(ends[0], prefix + step.name, step)]
            elif isinstance(step, Fork):
                ends = [self.unit(ends[0], prefix + conv.name, conv) for conv in step.convs]
            else:
                kind = average if step.kind == "average" else "max"
                ends = [self.pool(ends[0], f"{prefix}pool_{i}", step, kind)]
        return ends

    def network(self) -> dict[str, int]:
        """The whole; the names and widths of its outputs."""
        (x,) = self.follow(self.preprocess(), "", STEM)
        for block in BLOCKS:
            average = self.variant.last_pool if block.name == LAST_BLOCK else "average"
            ends = [
                end
                for branch in block.branches
                for end in self.follow(x, f"{block.name}/", branch, average)
            ]
            x = self.node("Concat", ends, block.name, axis=1)
        x = self.node("GlobalAveragePool", [x], "average")
        pool = self.node("Flatten", [x], "pool", axis=1)
        outputs = {pool: sum(len(self.constants[f"{unit}/bias"]) for unit in ends)}
        if names.HEAD_KERNEL in self.arrays:
            kernel = self.constant("fc/kernel", self.arrays[names.HEAD_KERNEL])
            bias = self.constant("fc/bias", self.arrays[names.HEAD_BIAS])
            logits = self.node("Gemm", [pool, kernel, bias], "logits")
            probabilities = self.node("Softmax", [logits], "probabilities", axis=1)
            outputs |= dict.fromkeys((logits, probabilities), len(self.constants[bias]))
        return outputs


def write(path: Path, arrays: Arrays, variant: Variant, metadata: Mapping[str, Any]) -> list[str]:
    """Writes the graph, for any batch; for one size of image where `metadata["export"]` has an
    `input_size`, else for any.

    Raises:
      WeightsError: the package onnx is not installed, or a size that cannot be.
    """
    try:
        from onnx import TensorProto, helper, numpy_helper
    except ImportError:
        raise WeightsError(
            f"{path}: found no package onnx, expected it (pip install 'thyrojax[onnx]')"
        ) from None
    size, description = inference.settle(path, arrays, variant, metadata)
    made = _Graph(arrays, variant)
    outputs = made.network()
    channels = arrays[names.FIRST_KERNEL].shape[2]
    shape = ["batch", size or "height", size or "width", channels]
    graph = helper.make_graph(
        made.nodes,
        "inception_v3",
        [helper.make_tensor_value_info(inference.INPUT, TensorProto.FLOAT, shape)],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width])
            for name, width in outputs.items()
        ],
        initializer=[],
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name=PRODUCER,
        producer_version=thyrojax.__version__,
        doc_string=_documentation(json.loads(description)),
    )
    helper.set_model_props(
        model, _entries(json.loads(description)) | {DESCRIPTION_KEY: description}
    )
    # One by one into the model itself, which would copy a graph that had them.
    for name in list(made.constants):
        values = numpy_helper.from_array(made.constants.pop(name), name)
        model.graph.initializer.add().CopyFrom(values)
    path.write_bytes(model.SerializeToString(deterministic=True))
    return inference.notes(arrays)


def _documentation(description: Mapping[str, Any]) -> str:
    colours = description["export"]["colours"]
    return (
        f"Inception-v3. Input {inference.INPUT}: {colours} levels 0..255 as float32 [batch, "
        "height, width, channels], at least 75 px high and wide; preprocessing is inside. Outputs: "
        "pool, the pooled features; with a classifier logits and probabilities. How to cut the "
        f"image: crop and input_size in the metadata; all of it as JSON: {DESCRIPTION_KEY}. "
        "Research software, not a medical device."
    )


def _entries(description: Mapping[str, Any]) -> dict[str, str]:
    """The entries of a description, those of its parts under PART_NAME, as text."""
    entries: dict[str, Any] = {}
    for key, value in description.items():
        if isinstance(value, dict):
            prefix = "" if key == "variant" else f"{key}_"
            entries |= {prefix + name: part for name, part in value.items()}
        else:
            entries[key] = value
    entries["preprocessing"] += " (inside the graph)"
    texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in entries.items()}
    # JSON can hold halves of characters, protocol buffers cannot.
    return {_utf8(name): _utf8(text) for name, text in texts.items()}


def _utf8(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def probe_size(path: Path) -> int:
    """Side in px of images to try an export with."""
    return inference.probe_size(_description(path))


def run(
    path: Path, images: UInt8[np.ndarray, "n height width channels"]
) -> dict[str, Float[np.ndarray, "n _"]]:
    """Outputs of an export for images of grey levels, computed by onnxruntime on the CPU.

    Raises:
      WeightsError: onnxruntime is not installed.
    """
    try:
        import onnxruntime
    except ImportError:
        raise WeightsError(
            f"{path}: found no package onnxruntime to run it, expected it (pip install "
            "'thyrojax[onnx]'), or --no-probe"
        ) from None
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    wanted = [output.name for output in session.get_outputs()]
    found = session.run(wanted, {inference.INPUT: images.astype(np.float32)})
    return dict(zip(wanted, found, strict=True))
