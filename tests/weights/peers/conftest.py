"""Pythons with the other frameworks, which the tests of this folder compare against.

An interpreter named by THYROJAX_PEER_TORCH or THYROJAX_PEER_TF is used instead of making one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def torch_python(peer_python: Callable[[Path, str], Path]) -> Path:
    return peer_python(HERE, "torch")


@pytest.fixture(scope="session")
def tf_python(peer_python: Callable[[Path, str], Path]) -> Path:
    return peer_python(HERE, "tf")
