"""What the names in a pickle of torch stand for here, and the data that is made of them.

A name that is not known ends the reading. Those that are known are never imported or called: some
have a function of this module in their place, the others become something inert. Of torch's names
see `torch/_utils.py` and `torch/serialization.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

MAX_KEY_LENGTH = 512
MAX_RANK = 8

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
}
DTYPES = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8")

# Objects that checkpoints have beside their tensors: settings, logs, schedules. They are replaced
# by something inert.
_BUILTINS = ("object", "bytearray", "complex", "slice", "range", "int", "float", "list", "dict")
HARMLESS = {
    "_codecs.encode",  # how old protocols write bytes
    "argparse.Namespace",
    "collections.Counter",
    "collections.defaultdict",
    "collections.deque",
    "copy_reg._reconstructor",
    "copyreg._reconstructor",
    "numpy.dtype",
    "numpy.ndarray",
    "torch.device",
    "torch.jit._pickle.restore_type_tag",
    "types.SimpleNamespace",
    *(f"{module}.{name}" for module in ("builtins", "__builtin__") for name in _BUILTINS),
    *(f"torch.{name}" for name in DTYPES),
}
HARMLESS_PACKAGES = (
    "datetime.",
    "lightning.",
    "lightning_fabric.",
    "ml_collections.",
    "numpy._core.multiarray.",
    "numpy.core.multiarray.",
    "numpy.dtypes.",
    "omegaconf.",
    "pathlib.",
    "pytorch_lightning.",
    "torch.optim.",
    "yacs.",
)


class Refused(ValueError):
    """A pickle that is damaged, or names or does what no file of weights needs."""


class Storage(NamedTuple):
    """Where a tensor's values are: a key of the archive, of `n` elements."""

    dtype: str
    key: str
    n: int


class StoredTensor(NamedTuple):
    """A tensor whose values have not been read. Offset and strides count elements."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class Table(dict[str, Any]):
    """A dict of any kind. Keys that are whole numbers became text, others got made-up names."""

    __slots__ = ("attributes",)

    def __init__(self) -> None:
        super().__init__()
        self.attributes: dict[str, Any] = {}  # such as a state dict's `_metadata`


class Module:
    """A TorchScript module or object, `name` of its class, its attributes in their order."""

    __slots__ = ("attributes", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.attributes: dict[str, Any] = {}


class Opaque:
    """Stands for an object that is of no use here: its class's name, and what it was made of."""

    __slots__ = ("name", "parts")

    def __init__(self, name: str, parts: list[Any]) -> None:
        self.name = name
        self.parts = parts


class _Name(NamedTuple):
    """A class or function, which stays a name."""

    full: str


def known(module: str, name: str) -> _Name:
    full = f"{module}.{name}"
    is_known = (
        full in BUILDERS
        or full in HARMLESS
        or (module == "torch" and name in STORAGES)
        or full.startswith(("__torch__.", *HARMLESS_PACKAGES))
    )
    if not is_known or "." in name:
        raise Refused(f"found a pickle that asks for {full}, expected tensors and plain containers")
    return _Name(full)


def _rebuild_tensor(arguments: tuple[Any, ...]) -> StoredTensor:
    # storage, offset, size, stride; then whether it learns, hooks, metadata
    storage, offset, size, stride = arguments[:4]
    shapes = isinstance(size, tuple) and isinstance(stride, tuple)
    if not shapes or len(size) != len(stride) or len(size) > MAX_RANK:
        raise Refused("found a tensor without a shape, expected a size and strides")
    valid = all(type(n) is int and 0 <= n < 2**40 for n in (offset, *size, *stride))
    if not isinstance(storage, Storage) or not valid:
        raise Refused("found a tensor of something else than a storage and whole numbers from 0 on")
    return StoredTensor(storage, offset, size, stride)


def _first(arguments: tuple[Any, ...]) -> Any:
    """The thing itself, for functions that only add to it or copy it."""
    return arguments[0] if arguments else []


def _table(arguments: tuple[Any, ...]) -> Table:
    """An OrderedDict: empty, or as Python 2 wrote it, from a list of pairs."""
    table = Table()
    pairs = arguments[0] if arguments else []
    if not isinstance(pairs, list):
        raise Refused("found an OrderedDict of something else than pairs")
    for pair in pairs:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise Refused("found an OrderedDict of something else than pairs")
        put(table, pair[0], pair[1])
    pairs.clear()  # so that to name one list many times does not make many tables
    return table


def _size(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    values = _first(arguments)
    if not isinstance(values, tuple | list) or len(values) > MAX_RANK:
        raise Refused("found a torch.Size of something else than a few whole numbers")
    return tuple(values)


BUILDERS: dict[str, Callable[[tuple[Any, ...]], Any]] = {
    "collections.OrderedDict": _table,
    "builtins.set": _first,
    "builtins.frozenset": _first,
    "__builtin__.set": _first,
    "__builtin__.frozenset": _first,
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch.Size": _size,
    **{
        f"torch.jit._pickle.build_{kind}list": _first
        for kind in ("int", "bool", "double", "tensor")
    },
}


def put(table: dict[str, Any], key: Any, value: Any) -> None:
    if type(key) is int:
        key = str(key)
    elif not isinstance(key, str):
        key = f"({type(key).__name__} {len(table)})"
    if key in table or len(key) > MAX_KEY_LENGTH:
        raise Refused(f"found the key {key[:100]!r} twice or too long, expected each once")
    table[key] = value


def make(callee: Any, arguments: Any) -> Any:
    """What calling a name with arguments gives here, which is never a call of that name."""
    if not isinstance(callee, _Name) or not isinstance(arguments, tuple):
        raise Refused("found a call of something that has no name")
    if (builder := BUILDERS.get(callee.full)) is not None:
        return builder(arguments)
    if callee.full.startswith("__torch__."):
        return Module(callee.full)
    if callee.full.removeprefix("torch.") in STORAGES:
        raise Refused(f"found a call of {callee.full}, expected it to be named only")
    return Opaque(callee.full, [arguments])  # not a copy, of which a pickle could ask for thousands


def storage(reference: Any) -> Storage:
    # "storage", type, key, location, number of elements; of old files a view or None
    if not isinstance(reference, tuple) or len(reference) not in (5, 6):
        raise Refused("found a reference to something else than a storage")
    word, kind, key, _, n = reference[:5]
    name = kind.full.removeprefix("torch.") if isinstance(kind, _Name) else ""
    valid = type(n) is int and 0 <= n < 2**40 and isinstance(key, str)
    if word != "storage" or name not in STORAGES or not valid:
        raise Refused("found a reference to something else than a storage")
    if len(reference) == 6 and reference[5] is not None:
        raise Refused("found a view of a storage, as very old versions of torch saved it")
    return Storage(STORAGES[name], key, n)


def build(target: Any, state: Any) -> None:
    if isinstance(target, Opaque):
        target.parts.append(state)
    elif isinstance(target, Module | Table) and isinstance(state, Table):
        target.attributes = state
    elif not isinstance(target, StoredTensor):  # a Parameter's state is of no use here
        raise Refused("found a state for something that has none")
