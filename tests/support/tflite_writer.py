"""Small .tflite files made by hand: FlatBuffers of TensorFlow Lite's schema, and the network.

Numbers of fields and operators are written down from the schema here once more, apart from the
reader's.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from thyrojax.weights.graph import BLOCKS, STEM, Branch, Conv, Fork, trunk
from thyrojax.weights.types import Arrays

CODES = {
    "ADD": 0, "AVERAGE_POOL_2D": 1, "CONCATENATION": 2, "CONV_2D": 3, "DEQUANTIZE": 6,
    "FULLY_CONNECTED": 9, "LOGISTIC": 14, "MAX_POOL_2D": 17, "MUL": 18, "RELU": 19, "RELU6": 21,
    "RESHAPE": 22, "SOFTMAX": 25, "PAD": 34, "TRANSPOSE": 39, "MEAN": 40, "SUB": 41,
    "QUANTIZE": 114,
}  # fmt: skip
TYPES = {"float32": 0, "float16": 1, "int32": 2, "uint8": 3, "int64": 4, "int8": 9}
SAME, VALID = 0, 1
RELU = 1
SCALE = 2.0**-6  # of quantised weights and activations: a power of two, so nothing is rounded


class Flat:
    """A FlatBuffer in the making. Every field gets eight bytes; what it points to follows."""

    def __init__(self) -> None:
        self.data = bytearray(struct.pack("<I4s", 0, b"TFL3"))

    def _point(self, place: int, target: int) -> None:
        struct.pack_into("<I", self.data, place, target - place)

    def _align(self) -> int:
        self.data += bytes(-len(self.data) % 16)
        return len(self.data)

    def table(self, fields: dict[int, Any]) -> int:
        """Fields by number: (struct's letter, number), text, an array, a table or a list of those.
        Returns where the table stands."""
        size = 8 + 8 * len(fields)
        vtable = self._align()
        entries = [0] * (max(fields, default=-1) + 1)
        for i, number in enumerate(fields):
            entries[number] = 8 + 8 * i
        self.data += struct.pack(f"<{2 + len(entries)}H", 4 + 2 * len(entries), size, *entries)
        place = self._align()
        self.data += struct.pack("<i", place - vtable) + bytes(size - 4)
        for i, value in enumerate(fields.values()):
            self._field(place + 8 + 8 * i, value)
        return place

    def _field(self, place: int, value: Any) -> None:
        if isinstance(value, tuple):
            struct.pack_into("<" + value[0], self.data, place, value[1])
        elif isinstance(value, dict):
            self._point(place, self.table(value))
        elif isinstance(value, list):
            start = self._align()
            self._point(place, start)
            self.data += struct.pack("<I", len(value)) + bytes(4 * len(value))
            for i, fields in enumerate(value):
                self._point(start + 4 + 4 * i, self.table(fields))
        else:
            values = np.frombuffer(value.encode(), np.uint8) if isinstance(value, str) else value
            self._align()
            self.data += bytes(12)  # so that the values are aligned, not their count
            self._point(place, len(self.data))
            self.data += struct.pack("<I", len(values)) + values.tobytes() + b"\0"


def encode(model: dict[str, Any]) -> bytes:
    """A file from {"tensors", "operators", "inputs", "outputs"} as `Builder` lists them."""
    buffers: list[dict[int, Any]] = [{}]
    tensors, operators = [], []
    for tensor in model["tensors"]:
        data = tensor.get("data")
        quantisation = {}
        if "scales" in tensor:
            scales = np.asarray(tensor["scales"], "<f4")
            zeros = np.asarray(tensor.get("zeros", [0] * len(scales)), "<i8")
            quantisation = {2: scales, 3: zeros, 6: ("i", tensor.get("axis", 0))}
        tensors.append({
            0: np.asarray(tensor["shape"], "<i4"),
            1: ("b", TYPES[tensor["type"]]),
            2: ("I", len(buffers) if data is not None else 0),
            3: tensor["name"],
            4: quantisation,
        })  # fmt: skip
        if data is not None:
            buffers.append({0: np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)})
    codes = sorted({operator["code"] for operator in model["operators"]})
    for operator in model["operators"]:
        operators.append({
            0: ("I", codes.index(operator["code"])),
            1: np.asarray(operator["inputs"], "<i4"),
            2: np.asarray(operator["outputs"], "<i4"),
            4: operator.get("options", {}),
        })  # fmt: skip
    graph = {
        0: tensors,
        1: np.asarray(model["inputs"], "<i4"),
        2: np.asarray(model["outputs"], "<i4"),
        3: operators,
    }
    flat = Flat()
    root = flat.table({
        0: ("I", 3),
        1: [{0: ("b", min(CODES[code], 127)), 3: ("i", CODES[code])} for code in codes],
        2: [graph] * model.get("graphs", 1),
        4: buffers,
    })  # fmt: skip
    struct.pack_into("<I", flat.data, 0, root)
    return bytes(flat.data)


class Builder:
    """The network in TensorFlow Lite's terms, from arrays of ours whose BatchNorm is folded in.

    Args:
      arrays: `params/UNIT/conv/kernel` and `params/UNIT/bn/bias`, and the head's.
      kind: of the weights: "float32", "float16", "int8" (kernels with a scale for each channel) or
        "uint8" (one scale).
      padded: zeros before the average pools, which then count them.
      last_max: a max pool in the last block.
      nested: forks have a concatenation of their own.
      apart: ReLU, bias and borders as operators of their own.
      head: "dense", "conv", "none", or "foreign", two dense layers.
    """

    def __init__(
        self,
        arrays: Arrays,
        kind: str = "float32",
        padded: bool = False,
        last_max: bool = False,
        nested: bool = True,
        apart: bool = False,
        head: str = "dense",
        prepare: tuple[tuple[str, list[float]], ...] = (),
        depth_multiplier: float = 0.05,
    ) -> None:
        self.arrays, self.kind, self.nested, self.apart = arrays, kind, nested, apart
        self.padded, self.last_max = padded, last_max
        self.units = {unit.path: unit for unit in trunk(depth_multiplier).units}
        self.tensors: list[dict[str, Any]] = []
        self.operators: list[dict[str, Any]] = []
        channels = arrays["params/Conv2d_1a_3x3/conv/kernel"].shape[2]
        x = start = self.tensor("input", (1, 75, 75, channels), type="float32", scales=[])
        if "int" in kind:
            x = self.operator("QUANTIZE", [x])
        for code, values in prepare:
            x = self.operator(code, [x, self.constant(f"{code}_{x}", np.float32(values))])
        x = self.branch("", STEM, x)[0]
        for block in BLOCKS:
            ends = [end for b in block.branches for end in self.branch(f"{block.name}/", b, x)]
            x = self.concatenate(ends)
        axes = self.constant("axes", np.array([1, 2], np.int32))
        x = self.operator("MEAN", [x, axes], {0: ("?", head == "conv")})
        x = self.head(head, x)
        self.model: dict[str, Any] = {
            "tensors": self.tensors,
            "operators": self.operators,
            "inputs": [start],
            "outputs": [x],
        }

    def tensor(self, name: str, shape: Sequence[int] = (), **more: Any) -> int:
        quantised = {"type": self.kind, "scales": [SCALE]} if "int" in self.kind else {}
        self.tensors.append({"name": name, "shape": shape, "type": "float32"} | quantised | more)
        return len(self.tensors) - 1

    def constant(self, name: str, data: np.ndarray, **more: Any) -> int:
        more = {"type": str(data.dtype), **more}
        self.tensors.append({"name": name, "shape": data.shape, "data": data, **more})
        return len(self.tensors) - 1

    def operator(
        self, code: str, inputs: list[int], options: dict[int, Any] | None = None, **more: Any
    ) -> int:
        output = self.tensor(f"{code}_{len(self.operators)}", **more)
        self.operators.append(
            {"code": code, "inputs": inputs, "outputs": [output], "options": options or {}}
        )
        return output

    def weight(self, name: str, values: np.ndarray, axis: int) -> int:
        """A kernel as the kind of file has it; quantised ones must be whole multiples of SCALE."""
        if self.kind == "float16":
            stored = self.constant(name, values.astype(np.float16))
            return self.operator("DEQUANTIZE", [stored])
        if self.kind == "int8":
            scales = np.full(values.shape[axis], SCALE)
            return self.constant(name, (values / SCALE).astype(np.int8), scales=scales, axis=axis)
        if self.kind == "uint8":
            data = (values / SCALE + 128).astype(np.uint8)
            return self.constant(name, data, scales=[SCALE], zeros=[128])
        return self.constant(name, values)

    def bias(self, name: str, values: np.ndarray) -> int:
        if "int" in self.kind:
            return self.constant(name, (values / SCALE**2).astype(np.int32))
        return self.constant(name, values)

    def pad(self, x: int, height: int, width: int) -> int:
        border = np.array([[0, 0], [height] * 2, [width] * 2, [0, 0]], np.int32)
        return self.operator("PAD", [x, self.constant(f"border_{len(self.tensors)}", border)])

    def convolution(self, path: str, x: int) -> int:
        unit = self.units[path]
        kernel = self.arrays[f"params/{path}/conv/kernel"].transpose(3, 0, 1, 2)
        bias = self.bias(f"{path}/bias", self.arrays[f"params/{path}/bn/bias"])
        padding = SAME if unit.padding == "SAME" else VALID
        if self.apart and padding == SAME and unit.height * unit.width > 1:
            x, padding = self.pad(x, unit.height // 2, unit.width // 2), VALID
        options = {
            0: ("b", padding),
            1: ("i", unit.stride),
            2: ("i", unit.stride),
            3: ("b", 0 if self.apart else RELU),
        }
        operands = [x, self.weight(f"{path}/kernel", kernel, 0)]
        x = self.operator("CONV_2D", operands + ([] if self.apart else [bias]), options)
        if self.apart:
            x = self.operator("RELU", [self.operator("ADD", [bias, x])])
        return x

    def pool(self, prefix: str, kind: str, stride: int, x: int) -> int:
        padding = VALID if stride == 2 else SAME
        if self.last_max and prefix == "Mixed_7c/":
            kind = "max"
        elif kind == "average" and self.padded:
            x, padding = self.pad(x, 1, 1), VALID
        options: dict[int, Any] = {
            0: ("b", padding), 1: ("i", stride), 2: ("i", stride), 3: ("i", 3), 4: ("i", 3)
        }  # fmt: skip
        return self.operator(f"{kind.upper()}_POOL_2D", [x], options)

    def concatenate(self, ends: list[int]) -> int:
        return self.operator("CONCATENATION", ends, {0: ("i", 3)})

    def branch(self, prefix: str, branch: Branch, x: int) -> list[int]:
        for step in branch:
            if isinstance(step, Fork):
                ends = [self.convolution(prefix + conv.name, x) for conv in step.convs]
                return [self.concatenate(ends)] if self.nested else ends
            if isinstance(step, Conv):
                x = self.convolution(prefix + step.name, x)
            else:
                x = self.pool(prefix, step.kind, step.stride, x)
        return [x]

    def head(self, head: str, x: int) -> int:
        if head == "none":
            return x
        kernel, bias = self.arrays["params/fc/kernel"].T, self.arrays["params/fc/bias"]
        if head == "foreign":
            inner = self.constant("inner/kernel", np.eye(kernel.shape[1], dtype=np.float32))
            x = self.operator("FULLY_CONNECTED", [x, inner])
        if head == "conv":
            operands = [x, self.weight("logits/kernel", kernel[:, None, None, :], 0)]
            options = {1: ("i", 1), 2: ("i", 1)}
            x = self.operator("CONV_2D", [*operands, self.bias("logits/bias", bias)], options)
            shape = self.constant("shape", np.array([1, -1], np.int32))
            return self.operator("SOFTMAX", [self.operator("RESHAPE", [x, shape])])
        operands = [x, self.weight("dense/kernel", kernel, 0)]
        return self.operator("FULLY_CONNECTED", [*operands, self.bias("dense/bias", bias)])


def whole_steps(arrays: Arrays) -> Arrays:
    """Random values in the arrays' place, whole multiples of a step of the quantised kinds."""
    rng = np.random.default_rng(1)
    steps = {path: SCALE if path.endswith("kernel") else SCALE**2 for path in arrays}
    return {
        path: (rng.integers(-99, 100, array.shape) * steps[path]).astype(np.float32)
        for path, array in arrays.items()
    }


def write(path: Path, model: dict[str, Any]) -> Path:
    path.write_bytes(encode(model))
    return path
