"""Pickles from strangers, read as data: tensors and plain containers are built, nothing is run.

A pickle is a program that may name any function of any module and call it. Python's own reader can
be kept from that, but not from what plain data can do: hash a million nested tuples until the
process dies, copy a list a thousand times, fill memory with empty lists. So this is a machine of
its own for the instructions that torch writes. It imports nothing, calls nothing but the functions
of `pickle_names`, hashes nothing but text, and its steps are counted.
"""

from __future__ import annotations

import pickle
import struct
from typing import Any

from thyrojax.weights.formats import pickle_names
from thyrojax.weights.formats.pickle_names import Opaque, Refused, Table

MAX_PICKLE_BYTES = 2**24  # without the tensors' values; of Inception-v3 it takes some 100 kB
MAX_STEPS = 2**18  # of Inception-v3 some 30,000, with its optimizer three times that
MAX_INTEGER_BYTES = 16  # the largest that torch writes is its magic number of ten
MAX_NAME_BYTES = 256

# Instruction -> how the number that follows it is written, and what the number is: a value, the
# length of a value, a place in the memo, or a hint to be skipped.
_FOLLOWED = {
    code[0]: (struct.Struct(layout), meaning)
    for code, layout, meaning in (
        (pickle.BINPUT, "<B", "put"),
        (pickle.LONG_BINPUT, "<I", "put"),
        (pickle.BINGET, "<B", "get"),
        (pickle.LONG_BINGET, "<I", "get"),
        (pickle.BININT, "<i", "number"),
        (pickle.BININT1, "<B", "number"),
        (pickle.BININT2, "<H", "number"),
        (pickle.BINFLOAT, ">d", "number"),
        (pickle.BINUNICODE, "<I", "text"),
        (pickle.SHORT_BINUNICODE, "<B", "text"),
        (pickle.BINUNICODE8, "<Q", "text"),
        (pickle.BINSTRING, "<I", "text"),
        (pickle.SHORT_BINSTRING, "<B", "text"),
        (pickle.BINBYTES, "<I", "bytes"),
        (pickle.SHORT_BINBYTES, "<B", "bytes"),
        (pickle.BINBYTES8, "<Q", "bytes"),
        (pickle.LONG1, "<B", "integer"),
        (pickle.LONG4, "<I", "integer"),
        (pickle.PROTO, "<B", "skip"),
        (pickle.FRAME, "<Q", "skip"),
    )
}
_VALUES = {
    pickle.NONE[0]: None,
    pickle.NEWTRUE[0]: True,
    pickle.NEWFALSE[0]: False,
    pickle.EMPTY_TUPLE[0]: (),
}
_TUPLES = {pickle.TUPLE1[0]: 1, pickle.TUPLE2[0]: 2, pickle.TUPLE3[0]: 3}


class _Machine:
    """Reads one pickle from a place on."""

    def __init__(self, data: bytes, place: int) -> None:
        self.data = data
        self.place = place
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        """All that is frequent is done here without further calls, since there are so many."""
        data, stack, memo = self.data, self.stack, self.memo
        for _ in range(MAX_STEPS):
            code = data[self.place]
            self.place += 1
            if code in _FOLLOWED:
                layout, meaning = _FOLLOWED[code]
                (number,) = layout.unpack_from(data, self.place)
                self.place += layout.size
                if meaning == "put":
                    memo[number] = stack[-1]
                elif meaning == "get":
                    stack.append(memo[number])
                elif meaning == "number":
                    stack.append(number)
                elif meaning == "text" and number < len(data) - self.place:
                    # Python 2 has bytes as text.
                    text = data[self.place : self.place + number].decode(errors="replace")
                    self.place += number
                    stack.append(text)
                elif meaning != "skip":
                    stack.append(self.take(number, meaning))
            elif code in _VALUES:
                stack.append(_VALUES[code])
            elif code == pickle.MARK[0]:
                self.marks.append(len(stack))
            elif code in _TUPLES:
                items = tuple(stack[-_TUPLES[code] :])
                del stack[-_TUPLES[code] :]
                stack.append(items)
            elif code == pickle.TUPLE[0]:
                mark = self.marks.pop()
                items = tuple(stack[mark:])
                del stack[mark:]
                stack.append(items)
            elif code == pickle.REDUCE[0]:
                items = stack.pop()
                stack.append(pickle_names.make(stack.pop(), items))
            elif code in (pickle.EMPTY_LIST[0], pickle.EMPTY_SET[0]):
                stack.append([])
            elif code == pickle.STOP[0]:
                return stack.pop()
            else:
                self.step(bytes([code]))
        raise Refused(f"found a pickle of more than {MAX_STEPS} steps")

    def take(self, n: int, meaning: str) -> Any:
        """The next `n` bytes, as bytes or a whole number."""
        begin, end = self.place, self.place + n
        if end >= len(self.data):
            raise Refused(f"found {n} bytes of {meaning} announced, where {end - n} are left")
        self.place = end
        if meaning == "bytes":
            return self.data[begin:end]
        if n > MAX_INTEGER_BYTES:
            raise Refused(f"found a whole number of {n} bytes")
        return int.from_bytes(self.data[begin:end], "little", signed=True)

    def line(self) -> str:
        end = self.data.index(b"\n", self.place, self.place + MAX_NAME_BYTES)
        text = self.data[self.place : end].decode()
        self.place = end + 1
        return text

    def above_mark(self) -> list[Any]:
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items

    def step(self, code: bytes) -> None:
        push, pop = self.stack.append, self.stack.pop
        if code == pickle.NEWOBJ:
            arguments = pop()
            push(pickle_names.make(pop(), arguments))
        elif code == pickle.GLOBAL:
            push(pickle_names.known(self.line(), self.line()))
        elif code == pickle.BINPERSID:
            push(pickle_names.storage(pop()))
        elif code == pickle.MEMOIZE:
            self.memo[len(self.memo)] = self.stack[-1]
        elif code == pickle.EMPTY_DICT:
            push(Table())
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
        elif code == pickle.POP:
            pop()
        elif code == pickle.POP_MARK:
            self.above_mark()
        elif code == pickle.DUP:
            push(self.stack[-1])
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


def load(data: bytes, place: int = 0) -> tuple[Any, int]:
    """The pickle that begins at a place of some bytes, and the place of what follows it.

    Returns:
      Numbers, text, lists, tuples, `Table`, `StoredTensor`, `Module` and `Opaque`. Containers may
      contain themselves.

    Raises:
      Refused: one line: damage, or anything that is not plain data.
    """
    if len(data) > MAX_PICKLE_BYTES:
        raise Refused(f"found pickles of more than {MAX_PICKLE_BYTES} bytes, expected less")
    machine = _Machine(data, place)
    try:
        return machine.run(), machine.place
    except Refused:
        raise
    except (IndexError, KeyError, ValueError, TypeError, AttributeError, struct.error) as error:
        raise Refused(f"found a damaged pickle ({type(error).__name__})") from None
