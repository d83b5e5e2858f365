"""What the processes of a run over `jax.distributed` do together; one process does it alone.

Every process runs the same program on its own devices and its own rows of each batch; process 0
writes the run's folder. Of functions that exchange something, all have to call the same in the same
order.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np

from thyrojax.errors import RunError, one_line
from thyrojax.shapes import Num

Result = TypeVar("Result")


def several() -> bool:
    """Whether this run has more than one process."""
    return jax.process_count() > 1


def is_first() -> bool:
    """Whether this is process 0, which writes the run's folder and tells how it goes."""
    return jax.process_index() == 0


def first_then_others(work: Callable[[], Result]) -> Result:
    """`work` done by process 0, and by the others when it is through; each gets its own result."""
    if not is_first():
        wait_for_all()
    result = work()
    if is_first():
        wait_for_all()
    return result


def wait_for_all() -> None:
    """Returns when every process has come here."""
    gathered(None)


def meet() -> None:
    """Connects all devices with each other; processes call it when they are near to one another.

    On CPUs a connection is opened by the first program that needs it, and has to be met by the
    other side within 30 s: less than one process may be ahead of another when both have compiled.
    """
    gathered(None)
    over_all = jax.pmap(lambda x: jax.lax.psum(x, "all"), axis_name="all")
    jax.block_until_ready(over_all(np.zeros(jax.local_device_count(), np.float32)))


def gathered(value: Any) -> list[Any]:
    """Each process's value, by process; what JSON can hold. Every process has to call it."""
    if not several():
        return [value]
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    lengths = stacked(np.array([len(text)], np.int32))[:, 0]
    # Of few lengths, since each is a program to compile.
    padded = np.zeros(max(64, 1 << int(lengths.max() - 1).bit_length()), np.uint8)
    padded[: len(text)] = text
    rows = stacked(padded)
    return [json.loads(row[:length].tobytes()) for row, length in zip(rows, lengths, strict=True)]


def stacked(array: Num[np.ndarray, ...]) -> Num[np.ndarray, "processes ..."]:
    """The arrays of all processes, of one shape and type, with a first axis of processes."""
    if not several():
        return array[None]
    from jax.experimental import multihost_utils

    # As bytes, because JAX would make float32 of float64.
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    found = np.asarray(multihost_utils.process_allgather(flat))
    return found.view(array.dtype).reshape(-1, *array.shape)


def check_same(what: dict[str, Any]) -> None:
    """That every process found the same.

    Raises:
      RunError: it did not; the message names the first entry of `what` that differs.
    """
    of_all = gathered(what)
    for process, other in enumerate(of_all):
        for name, value in of_all[0].items():
            if other.get(name) != value:
                raise RunError(
                    f"{name}: found {one_line(str(other.get(name)), 120)} by process {process} and "
                    f"{one_line(str(value), 120)} by process 0, expected the same by all"
                )
