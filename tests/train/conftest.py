"""A network and a run small enough to train in a test."""

from __future__ import annotations

from pathlib import Path

import pytest

from thyrojax.config import Config
from thyrojax.data.builder import build
from thyrojax.data.sources.phantom import read

SMALL = Config(
    input_size=75,
    depth_multiplier=0.05,
    weights="none",
    batch_size=16,
    steps=6,
    log_every=2,
    eval_every=1.0,
    lr=1e-2,
    trunk_lr_scale=1.0,
    optimizer="sgd",
    dropout=0.5,
)


@pytest.fixture(scope="session")
def small_config() -> Config:
    return SMALL


@pytest.fixture(scope="session")
def phantom_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A built set of 60 simulated patients."""
    return build(read(n_patients=60), tmp_path_factory.mktemp("sets") / "phantom", False)
