"""What `thyrojax train` does from its start to the end of its first step, and how long each takes.

    python tools/time_start.py PRESET --data DIR --workdir NEW [--FIELD VALUE ...]

Runs the command in this process, watches it, and ends it after the first step. "compiling" is XLA's
work, or the reading of its result from the cache of compiled programs; with an empty
JAX_COMPILATION_CACHE_DIR it is a cold start. On a busy machine the CPU seconds say more than the
wall's; those of a compiler that works on several cores at once are higher than the wall's.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

STARTED = time.perf_counter(), time.process_time()
# What JAX tells of: XLA at work, or a read of the cache.
COMPILING = "/jax/core/compile/backend_compile_duration"


class Reading(NamedTuple):
    """Clocks: wall and CPU seconds, and seconds and number of compilations so far."""

    wall: float
    cpu: float
    compiling: float
    programs: int


class Clocks:
    """Time since the last part ended, by part, in the order of their ends."""

    def __init__(self) -> None:
        self.parts: list[tuple[str, Reading]] = []
        self._compiling, self._programs = 0.0, 0
        self._before = Reading(*STARTED, 0.0, 0)

    def compiled(self, event: str, seconds: float, **_: Any) -> None:
        """What `jax.monitoring` tells."""
        if event == COMPILING:
            self._compiling += seconds
            self._programs += 1

    def ended(self, part: str) -> None:
        now = Reading(time.perf_counter(), time.process_time(), self._compiling, self._programs)
        taken = Reading(*(a - b for a, b in zip(now, self._before, strict=True)))
        self.parts.append((part, taken))
        self._before = now

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function; what came before it since the last part is "between"."""

        def run(*args: Any, **options: Any) -> Any:
            self.ended("between")
            result = function(*args, **options)
            self.ended(part)
            return result

        return run


class FirstStepTaken(Exception):
    """Ends the command."""


def main() -> None:
    """Prints the table."""
    clocks = Clocks()
    clocks.ended("this tool's imports")
    from thyrojax import cli

    clocks.ended("import of the command")
    import jax

    clocks.ended("import of jax")
    jax.monitoring.register_event_duration_secs_listener(clocks.compiled)
    from thyrojax import presets
    from thyrojax.train import loop

    clocks.ended("import of the training")
    presets.override = clocks.timed("options", presets.override)  # type: ignore[assignment]
    for name, part in {
        "open_dataset": "data opened",
        "open_run": "folder and split",
        "describe": "architecture.json",
        "starting_state": "weights and first state",
        "record_start": "starts.jsonl",
        "stream_feeding": "feed",
        "resident_feeding": "feed",
    }.items():
        setattr(loop, name, clocks.timed(part, getattr(loop, name)))
    make_feeding = {name: getattr(loop, name) for name in ("stream_feeding", "resident_feeding")}

    def ending(feeding: Any) -> Any:
        def advance(state: Any, step: int, count: int) -> Any:
            clocks.ended("between")
            taken = feeding.advance(state, step, count)
            clocks.ended("first batch, and the step compiled")
            jax.block_until_ready(taken)
            clocks.ended("first step computed")
            raise FirstStepTaken

        return feeding._replace(advance=advance)

    for name, make in make_feeding.items():
        setattr(loop, name, lambda *args, make=make, **options: ending(make(*args, **options)))
    with contextlib.suppress(FirstStepTaken):
        cli.main(["train", *sys.argv[1:], "--quiet"])
    print("| | wall s | CPU s | compiling s | programs |\n|---|---:|---:|---:|---:|")
    merged: dict[str, Reading] = {}
    for part, taken in clocks.parts:
        before = merged.get(part, Reading(0.0, 0.0, 0.0, 0))
        merged[part] = Reading(*(a + b for a, b in zip(before, taken, strict=True)))
    total = Reading(*(sum(column) for column in zip(*merged.values(), strict=True)))
    for part, taken in {**merged, "in all": total}.items():
        print(
            f"| {part} | {taken.wall:.2f} | {taken.cpu:.2f} | {taken.compiling:.2f} | "
            f"{taken.programs} |"
        )


if __name__ == "__main__":
    main()
