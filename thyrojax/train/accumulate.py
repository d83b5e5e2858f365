"""A batch whose gradient is computed in parts, one after the other, for want of memory."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from thyrojax.model import Part
from thyrojax.shapes import PyTree

# (BatchNorm's statistics, rows, part) to (the statistics after them, means over those rows)
OfPart = Callable[[PyTree, dict[str, jax.Array], Part | None], tuple[PyTree, PyTree]]


def in_parts(
    of_part: OfPart, parts: int, batch_stats: PyTree, batch: dict[str, jax.Array]
) -> tuple[PyTree, PyTree]:
    """What `of_part` gives for a device's batch, from so many equal parts in turn.

    Statistics go from part to part; the rest is averaged, which for means over rows is what the
    batch has as a whole. Part j has rows j, j + parts, j + 2 parts, ... (`Part`). Memory is that of
    one part and two copies of what is averaged.
    """
    if parts == 1:
        return of_part(batch_stats, batch, None)

    def add(carry: tuple[PyTree, PyTree], number: jax.Array) -> tuple[tuple[PyTree, PyTree], None]:
        # A loop that is unrolled must not begin a part before it is done with the one before.
        carry, rows = lax.optimization_barrier((carry, batch))
        batch_stats, total = carry
        part = Part(number, parts)
        batch_stats, found = of_part(batch_stats, jax.tree.map(part.take, rows), part)
        return (batch_stats, jax.tree.map(jnp.add, total, found)), None

    first = Part(0, parts)
    _, shapes = jax.eval_shape(
        lambda stats, rows: of_part(stats, jax.tree.map(first.take, rows), first),
        batch_stats,
        batch,
    )
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    # XLA runs convolutions within a loop many times slower on a CPU.
    unroll = _backend() == "cpu"
    (batch_stats, total), _ = lax.scan(
        add, (batch_stats, zeros), jnp.arange(parts, dtype=jnp.int32), unroll=unroll
    )
    return batch_stats, jax.tree.map(lambda x: x / parts, total)


def _backend() -> str:
    return jax.default_backend()
