"""A contender's side of a benchmark in turns: it compiles, then takes steps on request."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from typing import Any

MOST_STEPS = 200


def say(answer: dict[str, Any]) -> None:
    """One answer, on a line that the asking process knows from others' prints."""
    print("bench " + json.dumps(answer), flush=True)


def serve(run: Callable[[int], None], seconds: float, peak_bytes: Callable[[], int]) -> None:
    """Answers "turn" with seconds for a step, until "end".

    Args:
      run: takes so many steps and waits for them.
      seconds: about how long a turn shall last.
      peak_bytes: the memory's high-water mark so far.
    """
    start = time.perf_counter()
    run(1)
    first = time.perf_counter() - start
    run(1)  # what is still put off
    start = time.perf_counter()
    run(2)
    step = (time.perf_counter() - start) / 2
    steps = min(max(math.ceil(seconds / step), 1), MOST_STEPS)
    say({"compile_seconds": max(first - step, 0.0)})
    for line in sys.stdin:
        if line.strip() == "end":
            say({"peak_bytes": peak_bytes()})
            return
        start, cpu = time.perf_counter(), time.process_time()
        run(steps)
        say(
            {
                "seconds": (time.perf_counter() - start) / steps,
                "cpu_seconds": (time.process_time() - cpu) / steps,
            }
        )


def host_peak_bytes() -> int:
    """The process's own high-water mark, where the device is the host."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
