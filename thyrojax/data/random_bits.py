"""Random numbers that are a function of what they are for, the same on host and accelerator.

A number depends on (seed, stream, counter) alone: nothing is carried from draw to draw. Every
function takes `xp`, which is `numpy` or `jax.numpy`, and gives the same bits with both; jax's own
generators cannot be had without jax on the host's threads, and NumPy's not inside a jitted step.
"""

from __future__ import annotations

from typing import Any

# Of Threefry-2x32 with 20 rounds (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2,
# 3", Table 2), which jax.random uses too.
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA

_ROUNDS = 8  # of the Feistel network in `shuffled`


def threefry(xp: Any, key: tuple[Any, Any], counter: tuple[Any, Any]) -> tuple[Any, Any]:
    """Two words of random bits for each counter: Threefry-2x32, 20 rounds.

    Args:
      xp: numpy or jax.numpy.
      key: two words, each an int or a uint32 array.
      counter: two uint32 arrays of one shape, of at least one dimension.

    Returns:
      Two uint32 arrays of that shape.
    """
    first, second = (xp.asarray(word, xp.uint32) for word in key)
    keys = (first, second, first ^ second ^ xp.asarray(_PARITY, xp.uint32))
    x, y = counter[0] + keys[0], counter[1] + keys[1]
    for block in range(5):
        for rotation in _ROTATIONS[block % 2]:
            x = x + y
            y = x ^ ((y << rotation) | (y >> (32 - rotation)))
        x = x + keys[(block + 1) % 3]
        y = y + keys[(block + 2) % 3] + xp.asarray(block + 1, xp.uint32)
    return x, y


def uniform(xp: Any, bits: Any) -> Any:
    """Numbers in [0, 1), float32, multiples of 2^-24, from uint32 bits."""
    return (bits >> 8).astype(xp.float32) * xp.asarray(2.0**-24, xp.float32)


def whole(xp: Any, share: Any, low: Any, high: Any) -> Any:
    """Whole numbers low..high, both included, int32, from uniform numbers in [0, 1).

    One multiplication and a floor in float32, so that no compiler can round it otherwise; exact for
    ranges far below 2^24.
    """
    count = high - low + 1
    number = xp.floor(share * xp.asarray(count, xp.float32)).astype(xp.int32)
    return low + xp.minimum(number, count - 1)


def shuffled(xp: Any, seed: int, stream: int, epoch: Any, position: Any, count: int) -> Any:
    """Where each position of an epoch's order points: a bijection of 0..count-1 for each epoch.

    A Feistel network over the next power of two, walked until it lands inside (Black and Rogaway
    2002, "Ciphers with arbitrary finite domains"), so that any row of any epoch is had without the
    others.

    Args:
      xp: numpy or jax.numpy.
      seed: of the run, from 0 to 2^32 - 1.
      stream: a number of this use.
      epoch: uint32 [n].
      position: uint32 [n], each below `count`.
      count: of the elements, from 1 to 2^31.

    Returns:
      int32 [n].
    """
    bits = max((count - 1).bit_length(), 2)
    keys = _round_keys(xp, seed, stream, epoch)

    def once(value: Any) -> Any:
        low_bits, high_bits = bits // 2, bits - bits // 2
        high, low = value >> low_bits, value & xp.asarray((1 << low_bits) - 1, xp.uint32)
        for number in range(_ROUNDS):
            mask = xp.asarray((1 << high_bits) - 1, xp.uint32)
            high, low = low, high ^ (_mixed(xp, low, keys[number]) & mask)
            low_bits, high_bits = high_bits, low_bits
        return (high << low_bits) | low

    if xp.__name__ == "numpy":
        value = once(position)
        while (outside := value >= count).any():
            value = xp.where(outside, once(value), value)
        return value.astype(xp.int32)
    from jax import lax

    value = lax.while_loop(
        lambda value: (value >= count).any(),
        lambda value: xp.where(value >= count, once(value), value),
        once(position),
    )
    return value.astype(xp.int32)


def _round_keys(xp: Any, seed: int, stream: int, epoch: Any) -> list[Any]:
    """One key for each round and row."""
    keys: list[Any] = []
    for pair in range(_ROUNDS // 2):
        keys += threefry(xp, (seed, stream), (epoch, xp.full_like(epoch, pair)))
    return keys


def _mixed(xp: Any, value: Any, key: Any) -> Any:
    """The finaliser of MurmurHash3 over value and key."""
    value = value ^ key
    value = (value ^ (value >> 16)) * xp.asarray(0x85EBCA6B, xp.uint32)
    value = (value ^ (value >> 13)) * xp.asarray(0xC2B2AE35, xp.uint32)
    return value ^ (value >> 16)
