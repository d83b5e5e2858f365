"""Several units at once on one machine, each process on its own cores.

A small network leaves cores idle that work on it together, so that as many processes of one core
each finish more of them in the same time (docs/studies.md has the measurement).
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from types import FrameType

from thyrojax.data.dataset import Dataset
from thyrojax.errors import RunError, ThyrojaxError
from thyrojax.quiet import quieten_libraries
from thyrojax.study.plan import Unit
from thyrojax.study.run import is_finished, run_units
from thyrojax.train.provenance import usable_cores
from thyrojax.train.stopping import STOPPED_STATUS

MEMORY = "XLA_PYTHON_CLIENT_MEM_FRACTION"  # of an accelerator, for one process


def run_jobs(
    units: Sequence[Unit],
    sets: Mapping[str, Path],
    workdir: Path,
    shard: tuple[int, int],
    jobs: int,
    quiet: bool = False,
) -> bool:
    """Runs the unfinished units of a shard in so many processes, which share cores and memory.

    Each has an equal part of the cores that this process may use and of an accelerator's memory,
    and every `jobs`-th unit of the shard. A SIGTERM reaches all of them; where one fails, the
    others are asked to stop.

    Args:
      jobs: no more than there are cores.

    Returns:
      Whether all have run; False where SIGTERM stopped them, as of `run_units`.

    Raises:
      ThyrojaxError: as `run_units`, that of the first process that failed.
      RunError: a process died, for want of memory say.
    """
    cores, (first, of) = usable_cores(), shard
    todo = [unit for unit in units[first - 1 :: of] if not is_finished(unit, workdir)]
    if not todo:
        return True
    plain = [_plain(unit) for unit in units]
    spawn = multiprocessing.get_context("spawn")
    asked, running, faults = threading.Event(), list[BaseProcess](), spawn.SimpleQueue()

    def stop(number: int = 0, frame: FrameType | None = None) -> None:
        asked.set()
        for one in running:
            one.terminate()

    before = signal.signal(signal.SIGTERM, stop)
    try:
        for job in range(jobs):
            part, its = (first + of * job, of * jobs), cores[job::jobs]
            of_job = (plain, sets, workdir, part, its, 1.0 / jobs, quiet, faults)
            one: BaseProcess = spawn.Process(target=_job, args=of_job)
            one.start()
            running.append(one)
            if asked.is_set():
                stop()
        status = _wait(running)
        if status and not faults.empty():
            raise ThyrojaxError(faults.get())
        if status not in (0, -signal.SIGTERM, STOPPED_STATUS):
            raise RunError(
                f"{workdir}: found one of {jobs} processes end with status {status}, expected it "
                "to finish (out of memory? fewer --jobs need less); the same command goes on"
            )
        return status == 0
    finally:
        stop()
        for one in running:
            one.join()
        signal.signal(signal.SIGTERM, before)


def _wait(running: Sequence[BaseProcess]) -> int:
    left = list(running)
    while left:
        connection.wait([one.sentinel for one in left])
        for one in [one for one in left if one.exitcode is not None]:
            left.remove(one)
            if one.exitcode:
                return one.exitcode
    return 0


def _plain(unit: Unit) -> Unit:
    """Without the arm's function, which another process has no use for and cannot be sent."""
    return dataclasses.replace(unit, arm=dataclasses.replace(unit.arm, lacks=_nothing))


def _nothing(dataset: Dataset) -> str:
    return ""


def _job(
    units: Sequence[Unit],
    sets: Mapping[str, Path],
    workdir: Path,
    shard: tuple[int, int],
    cores: Sequence[int],
    share: float,
    quiet: bool,
    faults: SimpleQueue[str],
) -> None:
    """What one process does; its exit status, or a fault, tells the rest."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    quieten_libraries()
    os.environ.setdefault(MEMORY, f"{0.9 * share:.3f}")
    threading.Thread(target=_stop_without_parent, daemon=True).start()

    def say(line: str) -> None:
        if not quiet:
            print(line, file=sys.stderr, flush=True)

    try:
        finished = run_units(units, sets, workdir, shard, say)
    except ThyrojaxError as error:
        faults.put(str(error))
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0 if finished else STOPPED_STATUS)


def _stop_without_parent() -> None:
    """Asks this process to stop once the one that started it is gone, killed say.

    What is left running would write beside the command that goes on.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
