"""Small TensorFlow files made by hand: protocol buffers, sorted tables, checkpoints, graphs.

Numbers of fields are written down from TensorFlow's .proto files here once more, apart from the
reader's.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from thyrojax.weights import names, names_slim
from thyrojax.weights.graph import BLOCKS, STEM, Branch, Conv, Fork, aux_units, trunk
from thyrojax.weights.types import Arrays

TYPES = {
    "float32": 1, "float64": 2, "int32": 3, "object": 7, "int64": 9, "bfloat16": 14, "float16": 19
}  # fmt: skip


class Fixed32(int):
    """A whole number of four bytes."""


def varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


def message(*fields: tuple[int, Any]) -> bytes:
    """Fields as (number, value)."""
    encoded = bytearray()
    for number, value in fields:
        if isinstance(value, Fixed32):
            encoded += varint(number << 3 | 5) + struct.pack("<I", value)
        elif isinstance(value, float):
            encoded += varint(number << 3 | 5) + struct.pack("<f", value)
        elif isinstance(value, int):
            encoded += varint(number << 3) + varint(value)
        else:
            data = value.encode() if isinstance(value, str) else bytes(value)
            encoded += varint(number << 3 | 2) + varint(len(data)) + data
    return bytes(encoded)


def masked(data: bytes) -> int:
    checksum = google_crc32c.value(data)
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF


def snappy(data: bytes) -> bytes:
    """Literals, and copies of runs of one byte."""
    encoded = bytearray(varint(len(data)))
    place = 0
    while place < len(data):
        end = min(place + 60, len(data))
        run = len(data[place : place + 64]) - len(data[place : place + 64].lstrip(data[place:][:1]))
        if run > 8:
            encoded += bytes([0, data[place], (run - 2) << 2 | 2, 1, 0])
            end = place + run
        else:
            encoded += bytes([(end - place - 1) << 2]) + data[place:end]
        place = end
    return bytes(encoded)


def block(entries: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Keys share what they can with the one before; every third begins anew."""
    encoded, restarts, last = b"", [], b""
    for i, (key, value) in enumerate(entries):
        shared = 0
        if i % 3 == 0:
            restarts.append(len(encoded))
        else:
            pairs = zip(key, last, strict=False)
            shared = next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(key), len(last)))
        encoded += varint(shared) + varint(len(key) - shared) + varint(len(value))
        encoded += key[shared:] + value
        last = key
    restarts = restarts or [0]
    return encoded + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))


def table(
    entries: Iterable[tuple[bytes, bytes]], compressed: bool = False, each: int = 50
) -> bytes:
    """A sorted table, `each` entries to a block."""
    data = bytearray()

    def add(content: bytes) -> bytes:
        content = snappy(content) if compressed else content
        handle = varint(len(data)) + varint(len(content))
        whole = content + bytes([compressed])
        data.extend(whole + struct.pack("<I", masked(whole)))
        return handle

    entries = list(entries)
    parts = [entries[i : i + each] for i in range(0, len(entries), each)]
    index = [(part[-1][0], add(block(part))) for part in parts]
    handles = add(block([])) + add(block(index))
    return bytes(data) + handles.ljust(40, b"\0") + bytes.fromhex("57fb808b247547db")


def shape_proto(shape: Sequence[int]) -> bytes:
    return message(*((2, message((1, size))) for size in shape))


def type_number(array: np.ndarray) -> int:
    return TYPES[str(array.dtype)]


def write_second(prefix: Path, variables: Mapping[str, np.ndarray], shards: int = 1) -> Path:
    """PREFIX.index and its shards; the index is returned."""
    files = [bytearray() for _ in range(shards)]
    entries = [(b"", message((1, shards), (3, message((1, 1)))))]
    for i, (name, array) in enumerate(sorted(variables.items())):
        file, data = files[i % shards], array.tobytes()
        entry = [
            (1, type_number(array)), (2, shape_proto(array.shape)), (3, i % shards),
            (4, len(file)), (5, len(data)), (6, Fixed32(masked(data))),
        ]  # fmt: skip
        entries.append((name.encode(), message(*entry)))
        file += data
    for i, file in enumerate(files):
        Path(f"{prefix}.data-{i:05}-of-{shards:05}").write_bytes(file)
    index = Path(f"{prefix}.index")
    index.write_bytes(table(entries))
    return index


def slice_proto(dimensions: int, start: int | None = None) -> bytes:
    extent = message((1, start), (2, 1)) if start is not None else b""
    return message(*[(1, extent)] * dimensions)


def first_entries(variables: Mapping[str, np.ndarray]) -> list[tuple[bytes, bytes]]:
    """Keys and values of a checkpoint of version 1."""
    listed, values = [], []
    for name, array in sorted(variables.items()):
        whole = slice_proto(array.ndim)
        meta = [(1, name), (2, shape_proto(array.shape)), (3, type_number(array)), (4, whole)]
        listed.append((1, message(*meta)))
        data = message(values_field(array))
        saved = message((2, message((1, name), (2, whole), (3, data))))
        values.append((b"\0" + name.encode() + b"\0\1", saved))
    return [(b"", message((1, message(*listed)))), *values]


def write_first(path: Path, variables: Mapping[str, np.ndarray], compressed: bool = False) -> Path:
    path.write_bytes(table(first_entries(variables), compressed))
    return path


def values_field(array: np.ndarray) -> tuple[int, bytes]:
    """The field of a TensorProto with one number after the other."""
    if array.dtype.kind == "f" and array.dtype.itemsize > 2:
        return (5 if array.dtype == np.float32 else 6), array.tobytes()
    if array.dtype == np.int64:
        return 10, b"".join(varint(int(n)) for n in array.reshape(-1))
    if array.dtype == np.float16:
        return 13, b"".join(varint(int(n)) for n in array.reshape(-1).view(np.uint16))
    return 7, b"".join(varint(int(n)) for n in array.reshape(-1))


def slim_variables(arrays: Arrays, prefix: str = "InceptionV3/") -> dict[str, np.ndarray]:
    """Variables of TF-slim, without scales where all are one."""
    scales = [path for path in arrays if path.endswith("/bn/scale")]
    left_out = scales if all((arrays[path] == 1).all() for path in scales) else []
    variables = {}
    for path, array in arrays.items():
        if path not in left_out:
            dense = path in (names.HEAD_KERNEL, names.AUX_KERNEL)
            variables[prefix + names_slim.to_slim(path)] = array[None, None] if dense else array
    return variables


def tensor_proto(array: np.ndarray, values: bool = False) -> bytes:
    content = values_field(array) if values else (4, array.tobytes())
    return message((1, type_number(array)), (2, shape_proto(array.shape)), content)


def attribute(value: Any) -> bytes:
    if isinstance(value, bool):
        return message((5, value))
    if isinstance(value, str):
        return message((2, value))
    if isinstance(value, float):
        return message((4, value))
    if isinstance(value, np.ndarray):
        return message((8, tensor_proto(value)))
    if isinstance(value, bytes):  # a TensorProto
        return message((8, value))
    return message((1, message((3, b"".join(varint(n) for n in value)))))


def node(name: str, kind: str, inputs: Sequence[str] = (), **attributes: Any) -> bytes:
    fields: list[tuple[int, Any]] = [(1, name), (2, kind), *((3, text) for text in inputs)]
    fields += [(5, message((1, k), (2, attribute(v)))) for k, v in attributes.items()]
    return message(*fields)


def graph(nodes: Iterable[bytes]) -> bytes:
    return message(*((1, data) for data in nodes), (4, message((1, 8))))


class Builder:
    """The network as a frozen graph; `nodes` by name, in the order in which they were added.

    Args:
      arrays: of ours; with an auxiliary head where they have one.
      naming: "slim", or "2015" as classify_image_graph_def.pb.
      norm: "fused", "arithmetic", "global" (the operator of 2015), or "bias" (no BatchNorm).
      last_max: a max pool in the last block.
      head: "conv" as slim's, "dense" as that of 2015, "none", or "foreign", two dense layers.
      prepare: (kind, number) of arithmetic before the trunk.
      identities: constants are read through one, as where variables were.
    """

    def __init__(
        self,
        arrays: Arrays,
        naming: str = "slim",
        norm: str = "fused",
        last_max: bool = False,
        head: str = "conv",
        prepare: Sequence[tuple[str, float]] = (),
        epsilon: float = 1e-3,
        identities: bool = False,
        depth_multiplier: float = 0.05,
    ) -> None:
        self.arrays, self.naming, self.norm, self.epsilon = arrays, naming, norm, epsilon
        self.last_max, self.identities = last_max, identities
        self.units = {unit.path: unit for unit in trunk(depth_multiplier).units}
        self.units |= {unit.path: unit for unit in aux_units(depth_multiplier)}
        self.nodes: dict[str, bytes] = {}
        x = self.add("input", "Placeholder")
        for kind, number in prepare:
            x = self.add(kind, kind, [x, self.constant(f"{kind}/y", np.array(number, np.float32))])
        x = self.branch("", "", STEM, x)[0]
        inner = x
        for i, block in enumerate(BLOCKS):
            scope = (f"mixed_{i}" if i else "mixed") if naming == "2015" else block.name
            ends, towers = [], 0
            for j, branch in enumerate(block.branches):
                within = f"{scope}/Branch_{j}/"
                if naming == "2015":
                    within = f"{scope}/"
                    if len(branch) > 1:
                        within += f"tower_{towers}/" if towers else "tower/"
                        towers += 1
                ends += self.branch(f"{block.name}/", within, branch, x)
            x = self.concatenate(scope, ends)
            inner = x if block.name == "Mixed_6e" else inner
        if names.AUX_BIAS in arrays:
            self.aux(inner)
        self.head(head, x)

    def add(self, name: str, kind: str, inputs: Sequence[str] = (), **attributes: Any) -> str:
        self.nodes[name] = node(name, kind, inputs, **attributes)
        return name

    def constant(self, name: str, array: np.ndarray, values: bool = False) -> str:
        self.add(name, "Const", value=tensor_proto(np.asarray(array), values))
        return self.add(f"{name}/read", "Identity", [name]) if self.identities else name

    def scope(self, path: str, within: str) -> str:
        return within if self.naming == "2015" else f"InceptionV3/{names_slim.scopes()[path]}"

    def convolution(self, path: str, within: str, x: str) -> str:
        unit, scope = self.units[path], self.scope(path, within)
        kernel = "conv2d_params" if self.naming == "2015" else "weights"
        weights = self.constant(f"{scope}/{kernel}", self.arrays[f"params/{path}/conv/kernel"])
        strides = [1, unit.stride, unit.stride, 1]
        x = self.add(f"{scope}/Conv2D", "Conv2D", [x, weights],
                     strides=strides, padding=unit.padding, data_format="NHWC")  # fmt: skip
        x = self.normalise(scope, path, x)
        return self.add(f"{scope}/Relu", "Relu", [x])

    def normalise(self, scope: str, path: str, x: str) -> str:
        bn = f"{scope}/batchnorm" if self.naming == "2015" else f"{scope}/BatchNorm"
        array = {part: self.arrays[f"params/{path}/bn/{part}"] for part in ("scale", "bias")}
        beta = self.constant(f"{bn}/beta", array["bias"])
        if self.norm == "bias":
            return self.add(f"{scope}/BiasAdd", "BiasAdd", [x, beta])
        mean = self.constant(f"{bn}/moving_mean", self.arrays[f"batch_stats/{path}/bn/mean"])
        var = self.constant(f"{bn}/moving_variance", self.arrays[f"batch_stats/{path}/bn/var"])
        if self.norm == "global":
            gamma = self.constant(f"{bn}/gamma", array["scale"])
            inputs = [x, mean, var, beta, gamma]
            self.add(f"{bn}/check", "CheckNumerics", [x])
            settings = {"variance_epsilon": self.epsilon, "scale_after_normalization": True}
            return self.add(bn, "BatchNormWithGlobalNormalization", inputs, **settings)
        if self.norm == "fused":
            gamma = self.constant(f"{bn}/gamma", array["scale"])
            inputs = [x, gamma, beta, mean, var]
            return self.add(f"{bn}/FusedBatchNormV3", "FusedBatchNormV3", inputs,
                            epsilon=self.epsilon, is_training=False)  # fmt: skip
        small = self.add(f"{bn}/batchnorm/add/y", "Const", value=np.array(self.epsilon, np.float32))
        root = self.add(f"{bn}/batchnorm/add", "Add", [var, small])
        inverse = self.add(f"{bn}/batchnorm/Rsqrt", "Rsqrt", [root])
        if not (array["scale"] == 1).all():
            gamma = self.constant(f"{bn}/gamma", array["scale"])
            inverse = self.add(f"{bn}/batchnorm/mul", "Mul", [inverse, gamma])
        x = self.add(f"{bn}/batchnorm/mul_1", "Mul", [x, inverse])
        moved = self.add(f"{bn}/batchnorm/mul_2", "Mul", [mean, inverse])
        shift = self.add(f"{bn}/batchnorm/sub", "Sub", [beta, moved])
        return self.add(f"{bn}/batchnorm/add_1", "Add", [x, shift])

    def concatenate(self, scope: str, ends: list[str]) -> str:
        if self.naming == "2015":
            axis = self.add(f"{scope}/join/concat_dim", "Const", value=np.array(3, np.int32))
            return self.add(f"{scope}/join", "Concat", [axis, *ends])
        axis = self.add(f"{scope}/concat/axis", "Const", value=np.array(3, np.int32))
        return self.add(f"{scope}/concat", "ConcatV2", [*ends, axis])

    def branch(self, prefix: str, within: str, branch: Branch, x: str) -> list[str]:
        n = 0

        def name(n: int) -> str:
            return f"conv_{n}" if n else "conv"

        for step in branch:
            if isinstance(step, Fork):
                return [
                    self.convolution(prefix + conv.name, f"{within}mixed/{name(i)}", x)
                    for i, conv in enumerate(step.convs)
                ]
            if isinstance(step, Conv):
                x = self.convolution(prefix + step.name, within + name(n), x)
                n += 1
            else:
                kind = "MaxPool" if step.kind == "max" else "AvgPool"
                if self.last_max and prefix == "Mixed_7c/":
                    kind = "MaxPool"
                padding = "VALID" if step.stride == 2 else "SAME"
                strides = [1, step.stride, step.stride, 1]
                x = self.add(f"{within}{kind}_{len(self.nodes)}", kind, [x],
                             ksize=[1, 3, 3, 1], strides=strides, padding=padding)  # fmt: skip
        return [x]

    def classifier(self, path: str, scope: str, x: str) -> str:
        """A 1x1 convolution with biases, as slim has it."""
        kernel = self.constant(f"{scope}/weights", self.arrays[f"params/{path}/kernel"][None, None])
        bias = self.constant(f"{scope}/biases", self.arrays[f"params/{path}/bias"])
        x = self.add(f"{scope}/Conv2D", "Conv2D", [x, kernel], strides=[1] * 4, padding="SAME")
        return self.add(f"{scope}/BiasAdd", "BiasAdd", [x, bias])

    def aux(self, x: str) -> None:
        x = self.add("AuxLogits/AvgPool", "AvgPool", [x],
                     ksize=[1, 5, 5, 1], strides=[1, 3, 3, 1], padding="VALID")  # fmt: skip
        for path in ("AuxLogits/conv0", "AuxLogits/conv1"):
            x = self.convolution(path, path, x)
        self.classifier("AuxLogits/fc", "InceptionV3/AuxLogits/Conv2d_2b_1x1", x)

    def head(self, head: str, x: str) -> None:
        if head == "none":
            return
        x = self.add("pool_3", "AvgPool", [x],
                     ksize=[1, 8, 8, 1], strides=[1] * 4, padding="VALID")  # fmt: skip
        if head == "conv":
            x = self.classifier("fc", "InceptionV3/Logits/Conv2d_1c_1x1", x)
            x = self.add("InceptionV3/Logits/SpatialSqueeze", "Squeeze", [x])
            self.add("Predictions/Softmax", "Softmax", [x])
            self.add("Predictions/Shape", "Shape", [x])
            self.add(
                "Predictions/Reshape_1", "Reshape", ["Predictions/Softmax", "Predictions/Shape"]
            )
            return
        kernel, bias = self.arrays[names.HEAD_KERNEL], self.arrays[names.HEAD_BIAS]
        shape = np.array([-1, len(kernel)], np.int32)
        shape_name = self.add("pool_3/_reshape/shape", "Const", value=shape)
        x = self.add("pool_3/_reshape", "Reshape", [x, shape_name])
        if head == "foreign":
            inner = self.constant("inner/weights", np.eye(len(kernel), dtype=np.float32))
            x = self.add("inner/MatMul", "MatMul", [x, inner])
        x = self.add("softmax/MatMul", "MatMul", [x, self.constant("softmax/weights", kernel)])
        x = self.add("softmax/logits", "BiasAdd", [x, self.constant("softmax/biases", bias)])
        self.add("softmax", "Softmax", [x])

    def encode(self) -> bytes:
        return graph(self.nodes.values())
