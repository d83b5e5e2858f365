"""What a run folder tells of how it came to be: on what, from which source, by which command."""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from thyrojax.errors import RunError

PACKAGES = (
    "thyrojax",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "grain",
    "numpy",
    "opencv-python-headless",
)
# Variables of the environment by which XLA computes in another way.
FLAGS = (
    "XLA_FLAGS",
    "LIBTPU_INIT_ARGS",
    "JAX_DEFAULT_MATMUL_PRECISION",
    "JAX_ENABLE_X64",
    "NVIDIA_TF32_OVERRIDE",
)
# What the last bits of a result depend on, beside configuration, data and weights.
DECISIVE = (
    "python",
    *PACKAGES,
    "devices",
    "processes",
    "processor",
    "machine",
    "flags",
    "git_commit",
)


def versions() -> dict[str, Any]:
    """Packages, devices, processes, machine, flags, commit of our source, the command as typed."""
    devices = jax.devices()  # of all processes
    return {
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in PACKAGES},
        "devices": f"{len(devices)} {devices[0].device_kind}",
        "processes": jax.process_count(),
        "processor": _processor(),
        "machine": platform.platform(),
        "flags": " ".join(f"{name}={os.environ[name]}" for name in FLAGS if os.environ.get(name)),
        "git_commit": _git_commit(),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }


def record_start(run: Path, step: int) -> None:
    """Adds a line to RUN/starts.jsonl: the time, the step that this start goes on from, `versions`.

    It is no part of what is the same when a run is done again.

    Raises:
      RunError: the file cannot be written.
    """
    path = run / "starts.jsonl"
    now = datetime.now(UTC).isoformat(timespec="seconds")
    line = json.dumps({"time": now, "step": step, **versions()}) + "\n"
    try:
        cut_off = path.exists() and not path.read_bytes().endswith(b"\n")  # killed in mid-line
        with path.open("a") as file:
            file.write("\n" + line if cut_off else line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise RunError(
            f"{path}: found {error.strerror or error}, expected a place that can be written"
        ) from None


def read_starts(run: Path) -> list[dict[str, Any]]:
    """The lines of RUN/starts.jsonl that are whole; none where there is no such file."""
    path, found = run / "starts.jsonl", []
    for line in path.read_text().splitlines() if path.is_file() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def differences(starts: Sequence[Mapping[str, Any]]) -> dict[str, tuple[Any, Any]]:
    """DECISIVE entries that were not now's at one of a run's starts: (what was then, now).

    Where several starts differed from now, the first one's value is told.
    """
    now, found = versions(), dict[str, tuple[Any, Any]]()
    for start in starts:
        for name in DECISIVE:
            if start.get(name) != now[name]:
                found.setdefault(name, (start.get(name), now[name]))
    return found


def usable_cores() -> list[int]:
    """Numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _processor() -> str:
    """The CPU's name and how many of its cores this process may use."""
    name, info = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.is_file() else ():
        if line.startswith("model name"):
            name = line.partition(":")[2].strip()
            break
    return f"{len(usable_cores())} x {name}"


def _git_commit() -> str | None:
    """Commit of our own source, with "-dirty" where it was changed; None for an installed package.

    That this file is tracked is what tells our repository from one that holds an environment.
    """
    git = ["git", "-C", str(Path(__file__).parent)]
    describe = [*git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        subprocess.run(
            [*git, "ls-files", "--error-unmatch", Path(__file__).name],
            check=True,
            capture_output=True,
        )
        done = subprocess.run(describe, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
