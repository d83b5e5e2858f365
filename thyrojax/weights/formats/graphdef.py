"""The container of TensorFlow's frozen graphs: a GraphDef, operators with settings and constants.

Field numbers are those of tensorflow/core/framework/{graph,node_def,attr_value}.proto. Nothing is
run or evaluated, functions are not looked into, and no values are read before they are asked for.
"""

from __future__ import annotations

import mmap
import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from thyrojax.weights.formats import tf_tensor
from thyrojax.weights.formats.wire import BYTES, Message, fields, map_entry, read_varint, text
from thyrojax.weights.state_dict import Tensor

MAX_NODES = 20_000  # Inception-v3 has 1,200 to 2,000
MAX_INPUTS = 256
HEAD_BYTES = 8192  # within which the first operator's name and kind stand

_NAME, _KIND, _INPUT, _SETTING = 1, 2, 3, 5  # fields of an operator
_FIRST = b"\x0a"  # tag of field 1: of the graph, an operator; of that, its name
_OPERATOR = re.compile(rb"\x12(.)([A-Z_][A-Za-z0-9_>]*)", re.DOTALL)
_NOTHING = memoryview(b"")
_SAVED_MODEL = b"\x08\x01\x12"  # tags and values of a schema version and a graph with its variables


@dataclass(frozen=True, eq=False)
class Operator:
    """A node of the graph: its name, what it is, the tensors that it reads, and its settings.

    A tensor goes by the name of the node that makes it, with `:1` and so on of its further results.
    Settings are looked into when they are asked for.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    settings: Sequence[memoryview]

    @cached_property
    def _attributes(self) -> dict[str, memoryview]:
        return dict(map(map_entry, self.settings))

    def _attribute(self, name: str) -> Message:
        return Message(self._attributes.get(name, _NOTHING))

    def text(self, name: str) -> str:
        return self._attribute(name).text(2)

    def float(self, name: str) -> float | None:
        return self._attribute(name).float(4)

    def flag(self, name: str, default: bool = False) -> bool:
        return bool(self._attribute(name).number(5, default))

    def integers(self, name: str) -> tuple[int, ...]:
        values = self._attribute(name).message(1)
        return tuple(values.numbers(3)) if values else ()

    def tensor(self) -> Tensor:
        """The value of a Const."""
        value = self._attribute("value").message(8)
        if value is None:
            raise ValueError(f"{self.name}: found a constant without a value, expected one")
        try:
            return tf_tensor.tensor(value)
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from None


def recognises(path: Path) -> bool:
    """Whether the file is a GraphDef, by its first operator, or a SavedModel."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        size = path.stat().st_size
        head = memoryview(file.read(HEAD_BYTES))
    if is_saved_model(head):
        return True
    try:
        if head[:1] != _FIRST:
            return False
        length, place = read_varint(head, 1)
        if length > size - place or head[place : place + 1] != _FIRST:
            return False
        length, place = read_varint(head, place + 1)
    except ValueError:
        return False
    operator = _OPERATOR.match(bytes(head[place + length : place + length + 130]))
    return operator is not None and 0 < operator[1][0] == len(operator[2])


def is_saved_model(head: bytes | memoryview) -> bool:
    return head[:3] == _SAVED_MODEL


def load(path: Path) -> list[Operator]:
    """The operators of a graph, in an order in which they can be computed.

    The file stays mapped for as long as they live.

    Raises:
      ValueError: it is damaged, or two operators have one name, or one reads what is not there, or
        they go in a circle.
      OSError: it cannot be read.
    """
    with path.open("rb") as file:
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    if is_saved_model(data):
        raise ValueError(
            "found a SavedModel, whose weights are in variables/ beside it, expected a frozen graph"
        )
    operators: dict[str, Operator] = {}
    for field in fields(data, MAX_NODES):
        if field.number == 1 and field.wire_type == BYTES:
            operator = _operator(field.data)
            if operator.name in operators:
                raise ValueError(f"{operator.name}: found two operators of that name, expected one")
            operators[operator.name] = operator
    return _in_order(operators)


def _operator(data: memoryview) -> Operator:
    found: dict[int, list[memoryview]] = {_NAME: [], _KIND: [], _INPUT: [], _SETTING: []}
    for field in fields(data):
        if field.number in found:
            if field.wire_type != BYTES:
                raise ValueError(f"found wire type {field.wire_type} in an operator, expected 2")
            found[field.number].append(field.data)
    name, kind = (text(found[number][-1]) if found[number] else "" for number in (_NAME, _KIND))
    # "^" begins what is only to be computed before: of that a graph's last operator may have much.
    inputs = [tensor for tensor in map(text, found[_INPUT]) if tensor[:1] != "^"]
    if not name or set(name) & set("#:^"):
        raise ValueError(f"found an operator called {name[:80]!r}, expected letters and numbers")
    if len(inputs) > MAX_INPUTS:
        raise ValueError(f"{name}: found {len(inputs)} inputs, expected at most {MAX_INPUTS}")
    tensors = tuple(tensor.removesuffix(":0") for tensor in inputs)
    return Operator(name, kind, tensors, found[_SETTING])


def producer(tensor: str) -> str:
    """The name of the operator that makes a tensor."""
    return tensor.partition(":")[0]


def _in_order(operators: Mapping[str, Operator]) -> list[Operator]:
    """Operators after all that they read; loops are cut where they begin anew."""
    waiting: dict[str, int] = {}
    readers: dict[str, list[str]] = {}
    for operator in operators.values():
        sources = _sources(operator)
        waiting[operator.name] = len(sources)
        for source in sources:
            if source not in operators:
                raise ValueError(
                    f"{operator.name}: found no {source[:80]!r}, expected it since it is read"
                )
            readers.setdefault(source, []).append(operator.name)
    ready = deque(name for name, n in waiting.items() if n == 0)
    ordered = []
    while ready:
        name = ready.popleft()
        ordered.append(operators[name])
        for reader in readers.get(name, ()):
            waiting[reader] -= 1
            if waiting[reader] == 0:
                ready.append(reader)
    if len(ordered) < len(operators):
        left = next(name for name, n in waiting.items() if n > 0)
        raise ValueError(f"{left}: found operators that go in a circle, expected none")
    return ordered


def _sources(operator: Operator) -> set[str]:
    if operator.kind == "Merge":  # the beginning of a loop reads its end
        return set()
    return {producer(tensor) for tensor in operator.inputs}
