"""Pythons with the other frameworks, which the tests of this folder compare against.

They are too heavy for the development environment, so each has a virtual environment of its own,
made at first need in the user's cache folder from the pins beside this file. An interpreter named
by THYROJAX_PEER_TORCH or THYROJAX_PEER_TF is used instead.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SECONDS = 900


def peer(name: str) -> Path:
    """The interpreter of a peer's environment; the test is skipped where that cannot be made."""
    if given := os.environ.get(f"THYROJAX_PEER_{name.upper()}"):
        return Path(given)
    pins = [HERE / f"requirements-{name}.txt", HERE / f"requirements-{name}-nodeps.txt"]
    # A stable Python, if there is one: heavy packages come to new ones last.
    base_python = shutil.which("python3.11") or sys.executable
    key = hashlib.sha256(b"".join(pin.read_bytes() for pin in pins)).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "thyrojax" / "peers" / f"{name}-{key}"
    python = folder / "bin" / "python"
    if (folder / "ready").exists():
        return python
    subprocess.run([base_python, "-m", "venv", "--clear", folder], check=True)
    for pin, options in zip(pins, ([], ["--no-deps"]), strict=True):
        command = [python, "-m", "pip", "install", "--quiet", *options, "-r", pin]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["no reason given"]
            pytest.skip(f"{pin.name} cannot be installed here: {lines[-1]}")
    (folder / "ready").touch()
    return python


@pytest.fixture(scope="session")
def torch_python() -> Path:
    return peer("torch")


@pytest.fixture(scope="session")
def tf_python() -> Path:
    return peer("tf")
