"""Random bits against the published known answers, and the same on host and device."""

from __future__ import annotations

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from thyrojax.data import random_bits


def words(*values: int) -> tuple[np.ndarray, ...]:
    return tuple(np.array([value], np.uint32) for value in values)


# The known answers that the authors of Threefry publish with Random123 (kat_vectors).
KNOWN = [
    ((0x00000000, 0x00000000), (0x00000000, 0x00000000), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
]


@pytest.mark.parametrize(("key", "counter", "expected"), KNOWN)
def test_threefry_gives_the_published_answers(
    key: tuple[int, int], counter: tuple[int, int], expected: tuple[int, int]
) -> None:
    for xp in (np, jnp):
        found = random_bits.threefry(xp, key, tuple(map(xp.asarray, words(*counter))))
        assert [int(word[0]) for word in found] == list(expected)


def test_uniform_numbers_are_equal_on_host_and_device_and_fill_the_unit_interval() -> None:
    counter = (np.arange(20_000, dtype=np.uint32), np.full(20_000, 5, np.uint32))
    host = random_bits.uniform(np, random_bits.threefry(np, (3, 1), counter)[0])
    device = random_bits.uniform(jnp, random_bits.threefry(jnp, (3, 1), counter)[0])
    np.testing.assert_array_equal(host, np.asarray(device))
    assert 0.0 <= host.min() < 1e-3
    assert 1.0 - 1e-3 < host.max() < 1.0
    tenths = np.bincount((host * 10).astype(int), minlength=10)
    assert abs(tenths - 2000).max() < 5 * np.sqrt(2000 * 0.9)


def test_whole_numbers_have_both_ends() -> None:
    share = np.array([0.0, 0.5, 1.0 - 2.0**-24], np.float32)
    low, high = np.zeros(3, np.int32), np.full(3, 100, np.int32)
    np.testing.assert_array_equal(random_bits.whole(np, share, low, high), [0, 50, 100])
    np.testing.assert_array_equal(random_bits.whole(jnp, share, low, high), [0, 50, 100])
    np.testing.assert_array_equal(random_bits.whole(np, share, high, high), [100, 100, 100])


@pytest.mark.parametrize("count", [1, 2, 3, 5, 17, 1000, 4097])
def test_shuffled_positions_are_each_there_once_in_every_epoch(count: int) -> None:
    position = np.arange(count, dtype=np.uint32)
    orders = []
    for epoch in range(3):
        epochs = np.full(count, epoch, np.uint32)
        host = random_bits.shuffled(np, 7, 0, epochs, position, count)
        assert sorted(host.tolist()) == list(range(count))
        orders.append(host.tolist())
        if count in (5, 1000):
            device = jax.jit(lambda e, p: random_bits.shuffled(jnp, 7, 0, e, p, count))
            np.testing.assert_array_equal(host, device(epochs, position))
    if count > 16:
        assert orders[0] != orders[1] != orders[2]


def test_all_orders_of_five_are_about_equally_frequent() -> None:
    position = np.arange(5, dtype=np.uint32)
    orders = Counter(
        tuple(random_bits.shuffled(np, seed, 0, np.full(5, epoch, np.uint32), position, 5).tolist())
        for seed in range(60)
        for epoch in range(60)
    )
    assert len(orders) == 120
    expected = 3600 / 120
    chi_squared = sum((count - expected) ** 2 / expected for count in orders.values())
    assert chi_squared < 178  # the 0.9997 quantile of chi-squared with 119 degrees of freedom
