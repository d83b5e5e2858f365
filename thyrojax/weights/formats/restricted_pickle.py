"""Pickles from strangers, read as data: tensors and plain containers are built, nothing is run.

A pickle is a program that may name any function of any module and call it. Python's own reader can
be kept from that, but not from what plain data can do: hash a million nested tuples until the
process dies, copy a list a thousand times, fill memory with empty lists. So this is a machine of
its own for the instructions that torch writes. It imports nothing, calls nothing but the functions
of `pickle_names`, hashes nothing but text, and its steps are counted.
"""

from __future__ import annotations

import io
import pickle
import struct
from typing import Any, BinaryIO

from thyrojax.weights.formats import pickle_names
from thyrojax.weights.formats.pickle_names import Opaque, Refused, Table

MAX_PICKLE_BYTES = 2**24  # without the tensors' values; of Inception-v3 it takes some 100 kB
MAX_STEPS = 2**18  # of Inception-v3 some 30,000, with its optimizer three times that
MAX_INTEGER_BYTES = 16  # the largest that torch writes is its magic number of ten
MAX_NAME_BYTES = 256

# Instruction -> how the number or the length that follows it is written.
_NUMBERS = {
    pickle.BININT: "<i", pickle.BININT1: "<B", pickle.BININT2: "<H", pickle.BINFLOAT: ">d",
}  # fmt: skip
_TEXTS = {
    pickle.BINUNICODE: "<I", pickle.SHORT_BINUNICODE: "<B", pickle.BINUNICODE8: "<Q",
    pickle.BINSTRING: "<I", pickle.SHORT_BINSTRING: "<B",
}  # fmt: skip
_BYTES = {pickle.BINBYTES: "<I", pickle.SHORT_BINBYTES: "<B", pickle.BINBYTES8: "<Q"}
_INTEGERS = {pickle.LONG1: "<B", pickle.LONG4: "<I"}
_PUTS = {pickle.BINPUT: "<B", pickle.LONG_BINPUT: "<I"}
_GETS = {pickle.BINGET: "<B", pickle.LONG_BINGET: "<I"}
_TUPLES = {pickle.TUPLE1: 1, pickle.TUPLE2: 2, pickle.TUPLE3: 3}
_VALUES = {pickle.NONE: None, pickle.NEWTRUE: True, pickle.NEWFALSE: False, pickle.EMPTY_TUPLE: ()}


class _Machine:
    """Reads one pickle from where a file stands, and no byte more."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.left = MAX_PICKLE_BYTES
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def take(self, n: int) -> bytes:
        self.left -= n
        if self.left < 0:
            raise Refused(f"found a pickle of more than {MAX_PICKLE_BYTES} bytes")
        data = self.file.read(n)
        if len(data) != n:
            raise Refused("found the end of the pickle in its middle")
        return data

    def number(self, layout: str) -> Any:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def line(self) -> str:
        text = self.file.readline(MAX_NAME_BYTES)
        self.left -= len(text)
        if not text.endswith(b"\n"):
            raise Refused("found a name that does not end")
        return text[:-1].decode()

    def above_mark(self) -> list[Any]:
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items

    def run(self) -> Any:
        for _ in range(MAX_STEPS):
            code = self.take(1)
            if code == pickle.STOP:
                return self.stack.pop()
            self.step(code)
        raise Refused(f"found a pickle of more than {MAX_STEPS} steps")

    def step(self, code: bytes) -> None:
        push = self.stack.append
        if code in _PUTS:
            self.memo[self.number(_PUTS[code])] = self.stack[-1]
        elif code in _GETS:
            push(self.memo[self.number(_GETS[code])])
        elif code in _NUMBERS:
            push(self.number(_NUMBERS[code]))
        elif code in _TEXTS:
            # Python 2 writes bytes as text.
            push(self.take(self.number(_TEXTS[code])).decode(errors="replace"))
        elif code in _VALUES:
            push(_VALUES[code])
        elif code == pickle.MARK:
            self.marks.append(len(self.stack))
        elif code == pickle.TUPLE:
            push(tuple(self.above_mark()))
        elif code in _TUPLES:
            items = tuple(self.stack[-_TUPLES[code] :])
            del self.stack[-_TUPLES[code] :]
            push(items)
        elif code in (pickle.REDUCE, pickle.NEWOBJ):
            arguments = self.stack.pop()
            push(pickle_names.make(self.stack.pop(), arguments))
        elif code == pickle.GLOBAL:
            push(pickle_names.known(self.line(), self.line()))
        elif code == pickle.BINPERSID:
            push(pickle_names.storage(self.stack.pop()))
        else:
            self.rare_step(code)

    def rare_step(self, code: bytes) -> None:
        push, pop = self.stack.append, self.stack.pop
        if code == pickle.MEMOIZE:
            self.memo[len(self.memo)] = self.stack[-1]
        elif code == pickle.EMPTY_DICT:
            push(Table())
        elif code in (pickle.EMPTY_LIST, pickle.EMPTY_SET):
            push([])
        elif code == pickle.FROZENSET:
            push(self.above_mark())
        elif code == pickle.SETITEM:
            value, key = pop(), pop()
            self.add_items([key, value])
        elif code == pickle.SETITEMS:
            self.add_items(self.above_mark())
        elif code == pickle.APPEND:
            self.add([pop()])
        elif code in (pickle.APPENDS, pickle.ADDITEMS):
            self.add(self.above_mark())
        elif code == pickle.BUILD:
            state = pop()
            pickle_names.build(self.stack[-1], state)
        elif code == pickle.STACK_GLOBAL:
            name, module = pop(), pop()
            if not isinstance(name, str) or not isinstance(module, str):
                raise Refused("found a name that is no text")
            push(pickle_names.known(module[:MAX_NAME_BYTES], name[:MAX_NAME_BYTES]))
        elif code == pickle.NEWOBJ_EX:
            named, arguments = pop(), pop()
            push(pickle_names.make(pop(), arguments))
            pickle_names.build(self.stack[-1], named)
        elif code in _BYTES:
            push(self.take(self.number(_BYTES[code])))
        elif code in _INTEGERS:
            n = self.number(_INTEGERS[code])
            if n > MAX_INTEGER_BYTES:
                raise Refused(f"found a whole number of {n} bytes")
            push(int.from_bytes(self.take(n), "little", signed=True))
        elif code == pickle.POP:
            pop()
        elif code == pickle.POP_MARK:
            self.above_mark()
        elif code == pickle.DUP:
            push(self.stack[-1])
        elif code == pickle.PROTO:
            self.take(1)
        elif code == pickle.FRAME:
            self.take(8)  # a hint of how much to read ahead
        else:
            raise Refused(f"found the instruction {code!r}, which torch never writes")

    def add(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, Opaque):
            target.parts += items
        elif isinstance(target, list):
            target += items
        else:
            raise Refused("found items for something that is no list")

    def add_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if len(items) % 2 or not isinstance(target, Opaque | Table):
            raise Refused("found keys and values for something that is no dict")
        if isinstance(target, Opaque):
            target.parts += items
            return
        for key, value in zip(items[::2], items[1::2], strict=True):
            pickle_names.put(target, key, value)


def load(file: BinaryIO | bytes) -> Any:
    """The next pickle of a file: numbers, text, lists, tuples, `Table`, `StoredTensor`, `Module`
    and `Opaque`. Containers may contain themselves.

    Raises:
      Refused: one line: damage, or anything that is not plain data.
    """
    stream = io.BytesIO(file) if isinstance(file, bytes) else file
    try:
        return _Machine(stream).run()
    except Refused:
        raise
    except (IndexError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise Refused(f"found a damaged pickle ({type(error).__name__})") from None
