"""Every test sees eight virtual CPU devices, strict rank promotion, and one compilation cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "8")
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path(tempfile.gettempdir()) / "thyrojax-jax-cache")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
os.environ.setdefault("MPLBACKEND", "agg")

import pytest

from thyrojax.config import Config
from thyrojax.train.programs import make_room

SHARED = Path(os.environ.get("THYROJAX_SHARED", Path(__file__).parents[2] / "shared"))


@pytest.fixture(autouse=True)
def _room_for_programs() -> Iterator[None]:
    yield
    make_room()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and real weights; tests that need it skip where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"no real data at {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def peer_python() -> Callable[[Path, str], Path]:
    """A function of (folder, name): a Python with what requirements-NAME.txt there pins.

    For what is too heavy for the development environment, or does not agree with it. Each has a
    virtual environment of its own, made at first need in the user's cache folder; the test is
    skipped where that cannot be done. An interpreter named by THYROJAX_PEER_NAME is used instead.
    """
    return _peer_python


def _peer_python(folder: Path, name: str) -> Path:
    if given := os.environ.get(f"THYROJAX_PEER_{name.upper()}"):
        return Path(given)
    pins = [folder / f"requirements-{name}{end}.txt" for end in ("", "-nodeps")]
    pins = [pin for pin in pins if pin.exists()]
    # A stable Python, if there is one: heavy packages come to new ones last.
    base_python = shutil.which("python3.11") or sys.executable
    key = hashlib.sha256(b"".join(pin.read_bytes() for pin in pins)).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    environment = cache / "thyrojax" / "peers" / f"{name}-{key}"
    python = environment / "bin" / "python"
    if (environment / "ready").exists():
        return python
    subprocess.run([base_python, "-m", "venv", "--clear", environment], check=True)
    for pin in pins:
        options = ["--no-deps"] if pin.stem.endswith("-nodeps") else []
        command = [python, "-m", "pip", "install", "--quiet", *options, "-r", pin]
        done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["no reason given"]
            pytest.skip(f"{pin.name} cannot be installed here: {lines[-1]}")
    (environment / "ready").touch()
    return python


@pytest.fixture(scope="session")
def small_config() -> Config:
    """A network of 16 channels everywhere and a run of six steps."""
    return Config(
        input_size=75,
        depth_multiplier=0.05,
        weights="none",
        batch_size=16,
        steps=6,
        log_every=2,
        eval_every=1.0,
        lr=1e-3,
        trunk_lr_scale=1.0,
        ema=0.5,
        dropout=0.5,
    )


@pytest.fixture(scope="session")
def phantom_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A built set of 60 simulated patients."""
    from thyrojax.data.builder import build
    from thyrojax.data.sources.phantom import read

    return build(read(n_patients=60), tmp_path_factory.mktemp("sets") / "phantom", False)


@pytest.fixture(scope="session")
def small_run(
    small_config: Config, phantom_set: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A trained and evaluated run; tests only read it."""
    from thyrojax.evaluate import evaluate
    from thyrojax.train.loop import train

    run = tmp_path_factory.mktemp("runs") / "small"
    train(small_config, phantom_set, run, quiet=True, say=lambda line: None)
    evaluate(run, phantom_set, "test", margin=50)
    return run
