"""Pickles from strangers, read as data: tensors and plain containers are built, nothing is run.

A pickle is a program that may name any function of any module and call it. This reader knows a
short list of names, most of them for stand-ins of its own; every other name ends the reading. Of
torch's names see `torch/_utils.py` and `torch/serialization.py`.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, BinaryIO, ClassVar

MAX_PICKLE_BYTES = 2**26  # without the tensors' values; of Inception-v3 it takes some 100 kB

# What damaged or hostile pickles make of the machine that reads them.
DAMAGE = (
    pickle.UnpicklingError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    EOFError,
    OverflowError,
    UnicodeError,
    RecursionError,
    NotImplementedError,
    ImportError,
)

STORAGES = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "UntypedStorage": "uint8",
}
DTYPES = {
    "float32": "float32",
    "float64": "float64",
    "float16": "float16",
    "bfloat16": "bfloat16",
    "int64": "int64",
    "int32": "int32",
}
# Of these a checkpoint may have objects beside its tensors: settings, logs, schedules. They are
# replaced by something inert. Names end in a dot where all of a package is meant.
HARMLESS = (
    "argparse.Namespace",
    "collections.Counter",
    "collections.defaultdict",
    "datetime.",
    "lightning.",
    "lightning_fabric.",
    "ml_collections.",
    "numpy.",
    "omegaconf.",
    "pathlib.",
    "pytorch_lightning.",
    "torch.device",
    "torch.optim.",
    "yacs.",
)


class Refused(ValueError):
    """A pickle that names something which is not plain data."""


@dataclass(frozen=True)
class Storage:
    """Where a tensor's values are: a key of the archive, of so many elements."""

    dtype: str
    key: str
    n: int


@dataclass(frozen=True)
class StoredTensor:
    """A tensor whose values have not been read. Offset and strides count elements."""

    storage: Storage
    dtype: str
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class Opaque:
    """Stands for an object that is of no use here. `name` is its class's."""

    name = ""

    def __new__(cls, *_: Any, **__: Any) -> Opaque:
        return super().__new__(cls)

    def append(self, _: Any) -> None: ...

    def extend(self, _: Any) -> None: ...

    def __setitem__(self, _: Any, __: Any) -> None: ...


class Module(Opaque):
    """A TorchScript module or object: its attributes in the order of their definition."""

    attributes: dict[str, Any]


def _rebuild_tensor(
    storage: Any, offset: Any, size: Any, stride: Any, *rest: Any, dtype: str | None = None
) -> StoredTensor:
    whole = (offset, *size, *stride)
    if not isinstance(storage, Storage) or not all(type(n) is int and n >= 0 for n in whole):
        raise Refused("found a tensor that is made of something else than a storage and numbers")
    return StoredTensor(storage, dtype or storage.dtype, offset, tuple(size), tuple(stride))


def _rebuild_tensor_v3(*args: Any) -> StoredTensor:
    # (storage, offset, size, stride, requires_grad, hooks, dtype, metadata)
    if len(args) < 7 or not isinstance(args[6], str):
        raise Refused("found a tensor without a type")
    return _rebuild_tensor(*args[:4], dtype=args[6])


def _rebuild_parameter(data: Any, *_: Any) -> Any:
    return data


def _as_tuple(values: Any = ()) -> tuple[Any, ...]:
    return tuple(values)


def _as_list(values: Any = ()) -> list[Any]:
    return list(values)


KNOWN: dict[str, Any] = {
    "collections.OrderedDict": OrderedDict,
    "builtins.set": _as_list,
    "__builtin__.set": _as_list,
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v3": _rebuild_tensor_v3,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    "torch._utils._rebuild_parameter_with_state": _rebuild_parameter,
    "torch.Size": _as_tuple,
    **{f"torch.{name}": name for name in DTYPES},
    **{f"torch.jit._pickle.build_{kind}list": _as_list for kind in ("int", "bool", "double")},
    "torch.jit._pickle.build_tensorlist": _as_list,
}


class _Limited:
    """A file of which only so many bytes may be asked for at once and in all."""

    def __init__(self, file: BinaryIO, limit: int) -> None:
        self.file = file
        self.left = limit

    def _take(self, data: bytes) -> bytes:
        self.left -= len(data)
        if self.left <= 0:
            raise Refused(f"found a pickle of more than {MAX_PICKLE_BYTES} bytes")
        return data

    def read(self, n: int = -1) -> bytes:
        return self._take(self.file.read(self.left if n < 0 else min(n, self.left)))

    def readline(self) -> bytes:
        return self._take(self.file.readline(self.left))


class _Unpickler(pickle._Unpickler):
    """The pure Python reader: its memo is a dict, so that an index that lies costs nothing."""

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)
    stack: list[Any]

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full in KNOWN:
            return KNOWN[full]
        if name in STORAGES and module in ("torch", "torch.storage", "torch.cuda"):
            return Storage(STORAGES[name], "", 0)
        if module == "__torch__" or module.startswith("__torch__."):
            return type("Module", (Module,), {"name": full})
        if any(full == known or full.startswith(known) for known in HARMLESS):
            return type("Opaque", (Opaque,), {"name": full})
        raise Refused(f"found a pickle that asks for {full}, expected tensors and plain containers")

    def persistent_load(self, pid: Any) -> Storage:
        # ("storage", type, key, location, number of elements[, view])
        valid = isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage"
        if not valid or not isinstance(pid[1], Storage) or type(pid[4]) is not int or pid[4] < 0:
            raise Refused("found a reference to something else than a storage")
        if len(pid) > 5 and pid[5] is not None:
            raise Refused("found a view of a storage, as old versions of torch saved it")
        return Storage(pid[1].dtype, str(pid[2]), pid[4])

    def _load_build(self) -> None:
        stack = self.stack
        state = stack.pop()
        target = stack[-1]
        if isinstance(target, Module):
            target.attributes = dict(state) if isinstance(state, dict) else {}
        elif type(target) is OrderedDict and isinstance(state, dict):
            vars(target).update(state)  # a state dict's `_metadata`
        elif not isinstance(target, Opaque):
            raise Refused("found a state for something that has none")

    def _refuse(self) -> None:
        raise Refused("found an instruction that no file of weights needs")

    dispatch[pickle.BUILD[0]] = _load_build
    for _code in (pickle.BYTEARRAY8, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER, pickle.EXT1):
        dispatch[_code[0]] = _refuse
    for _code in (pickle.EXT2, pickle.EXT4):
        dispatch[_code[0]] = _refuse


def load(file: BinaryIO | bytes) -> Any:
    """The next pickle of a file, as plain containers, `StoredTensor`, `Module` and `Opaque`.

    Raises:
      One of DAMAGE: `Refused` where it names anything else; others where it is damaged.
    """
    stream = io.BytesIO(file) if isinstance(file, bytes) else file
    return _Unpickler(_Limited(stream, MAX_PICKLE_BYTES + 1), encoding="utf-8").load()
