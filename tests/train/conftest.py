"""A network of half the layers, for tests of what is done around a network."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import pytest

from thyrojax.model import inception_v3
from thyrojax.train import mapping, programs, state

# Blocks whose output has the channels of their input, or that only the next repeats.
LEFT_OUT = ("Mixed_5d", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_7c")


@pytest.fixture(scope="module")
def half_network(request: pytest.FixtureRequest) -> Iterator[None]:
    """Networks without `LEFT_OUT` in this module's tests: 48 of 94 convolutions are compiled.

    A step of several devices takes half a minute to compile, most of it for layers that are like
    others. What spreads, stops, sums and averages a step does not know what is in it.
    """
    here = [item for item in request.session.items if item.path == request.path]
    for item in here:  # or other modules would be given a run of half a network
        assert "small_run" not in getattr(item, "fixturenames", ()), item.nodeid
    with pytest.MonkeyPatch.context() as patch:
        for name in ("BlockA", "BlockC", "BlockE"):
            patch.setattr(inception_v3, name, _without_some(getattr(inception_v3, name)))
        _forget()
        yield
    _forget()


def _without_some(block: type) -> type:
    class Block(block):  # type: ignore[misc]
        def __call__(self, x: jax.Array) -> jax.Array:
            return x if self.name in LEFT_OUT else super().__call__(x)

    Block.__name__ = block.__name__
    return Block


def _forget() -> None:
    """What was kept of the networks by their configurations."""
    state.abstract_variables.cache_clear()
    programs._train_step.cache_clear()
    programs._score_step.cache_clear()
    mapping._mapped.cache_clear()
