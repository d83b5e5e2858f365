"""TensorFlow's tensors and shapes, as its protocol buffers hold them.

Field numbers and data types are those of tensorflow/core/framework/{tensor,tensor_shape,
types}.proto.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from thyrojax.weights.formats.wire import Message, fields
from thyrojax.weights.state_dict import Tensor

MAX_DIMENSIONS = 8
MAX_SIZE = 2**40  # of one dimension; what is not known is stored as -1, in 64 bits
# Number of a data type -> NumPy's name, or "bfloat16".
DTYPES = {
    1: "float32",
    2: "float64",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    9: "int64",
    10: "bool",
    14: "bfloat16",
    19: "float16",
}
_CONTENT = 4  # the field with plain bytes
# Data type -> the field of its values, where they are not plain bytes, and how they are packed.
_VALUES = {
    "float32": (5, "<f4"),
    "float64": (6, "<f8"),
    "int32": (7, "varint"),
    "uint8": (7, "varint"),
    "int16": (7, "varint"),
    "int8": (7, "varint"),
    "int64": (10, "varint"),
    "bool": (11, "varint"),
    "bfloat16": (13, "varint"),
    "float16": (13, "varint"),
}


def dtype_name(number: int) -> str:
    return DTYPES.get(number, f"number {number}")


def shape(message: Message | None) -> tuple[int, ...]:
    """A TensorShapeProto.

    Raises:
      ValueError: it has no fixed number of dimensions, too many, or sizes that are not known.
    """
    if message is None:
        return ()
    dimensions = message.all_bytes(2)
    if message.number(3) or len(dimensions) > MAX_DIMENSIONS:
        raise ValueError(
            f"found {len(dimensions)} dimensions, expected up to {MAX_DIMENSIONS} known"
        )
    sizes = []
    for dimension in dimensions:
        found = [field.varint for field in fields(dimension) if field.number == 1]
        sizes.append(found[-1] if found else 0)
    if max(sizes, default=0) > MAX_SIZE:
        raise ValueError(f"found shape {tuple(sizes)}, expected known sizes up to {MAX_SIZE}")
    return tuple(sizes)


def tensor(message: Message) -> Tensor:
    """A TensorProto, not yet read. Fewer values than its shape has stand for equal ones at its end.

    Raises:
      ValueError: it is damaged.
    """
    dtype, sizes = dtype_name(message.number(1)), shape(message.message(2))
    return Tensor(sizes, dtype, partial(_read, message, dtype, sizes, True))


def slice_values(message: Message, dtype: str, sizes: tuple[int, ...]) -> Tensor:
    """A TensorProto of an old checkpoint, which holds its values only, and all of them."""
    return Tensor(sizes, dtype, partial(_read, message, dtype, sizes, False))


def plain(data: memoryview | np.ndarray, dtype: str, sizes: tuple[int, ...]) -> np.ndarray:
    """Plain bytes as an array.

    Raises:
      ValueError: they are not as many as the shape has.
    """
    if dtype not in _VALUES:
        raise ValueError(f"found values of type {dtype}, expected numbers")
    stored = np.dtype("<u2" if dtype == "bfloat16" else dtype).newbyteorder("<")
    expected = math.prod(sizes) * stored.itemsize
    if len(data) != expected:
        raise ValueError(f"found {len(data)} bytes, expected {expected} for {sizes}")
    values = np.frombuffer(data, stored).reshape(sizes)
    return _from_bfloat16(values) if dtype == "bfloat16" else values


def _from_bfloat16(bits: np.ndarray) -> np.ndarray:
    """The upper halves of float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _read(message: Message, dtype: str, sizes: tuple[int, ...], repeats: bool) -> np.ndarray:
    """The values. The shape is the caller's to check before: few values may stand for many."""
    content = message.data(_CONTENT)
    if content is not None and len(content):
        return plain(content, dtype, sizes)
    if dtype not in _VALUES:
        raise ValueError(f"found values of type {dtype}, expected numbers")
    field, packing = _VALUES[dtype]
    size = math.prod(sizes)
    if packing == "varint":
        numbers = message.numbers(field, size)
        bits = dtype in ("bfloat16", "float16")
        values = np.array(numbers, np.int64).astype(np.uint16 if bits else dtype)
        if bits:
            values = _from_bfloat16(values) if dtype == "bfloat16" else values.view(np.float16)
    else:
        values = message.array(field, packing)
    if len(values) == size:
        return values.reshape(sizes)
    if len(values) > size or not repeats:
        raise ValueError(f"found {len(values)} values, expected {size} for {sizes}")
    result = np.zeros(size, values.dtype)  # as TensorFlow reads a tensor without any values
    result[: len(values)] = values
    result[len(values) :] = values[-1] if len(values) else 0
    return result.reshape(sizes)
