"""Several processes that train one run together: how they meet, and how they end together."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax

from thyrojax.errors import ConfigError, ThyrojaxError, one_line
from thyrojax.processes import meet, several

# Status of a process that has lost another one (sysexits' EX_TEMPFAIL): to be started again.
LOST_STATUS = 75
POLL_SECONDS = 0.5  # between looks for another process's failure
_one_leaves = threading.Lock()
_FAILED = "thyrojax/failed"  # key of the coordinator's store: status, process and reason


@dataclass(frozen=True)
class Processes:
    """How a process finds the others: by the three first fields, or as JAX detects (`detect`)."""

    coordinator: str | None = None  # HOST:PORT of process 0
    num_processes: int | None = None
    process_id: int | None = None
    detect: bool = False  # SLURM, Open MPI, GKE, Cloud TPU
    connect_seconds: int = 300  # for all to be there
    heartbeat_seconds: int = 100  # without a sign of life of a process, until all end

    def __post_init__(self) -> None:
        """Raises ConfigError where the fields do not go together."""
        given = {
            "--coordinator": self.coordinator,
            "--num-processes": self.num_processes,
            "--process-id": self.process_id,
        }
        missing = [name for name, value in given.items() if value is None]
        if self.detect and len(missing) < 3:
            found = ", ".join(name for name in given if name not in missing)
            raise ConfigError(f"--distributed: found {found} too, expected one or the other")
        if 0 < len(missing) < 3:
            raise ConfigError(f"{missing[0]}: found none, expected all of {', '.join(given)}")
        for name, seconds in (
            ("--connect-seconds", self.connect_seconds),
            ("--heartbeat-seconds", self.heartbeat_seconds),
        ):
            if seconds < 1:
                raise ConfigError(f"{name}: found {seconds}, expected at least 1")
        if self.coordinator is None or self.num_processes is None or self.process_id is None:
            return
        host, _, port = self.coordinator.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ConfigError(f"--coordinator: found {self.coordinator!r}, expected HOST:PORT")
        if self.num_processes < 1:
            raise ConfigError(f"--num-processes: found {self.num_processes}, expected at least 1")
        if not 0 <= self.process_id < self.num_processes:
            raise ConfigError(
                f"--process-id: found {self.process_id}, expected 0 to {self.num_processes - 1}"
            )

    @property
    def several(self) -> bool:
        """Whether anything was said of several processes."""
        return self.detect or self.coordinator is not None


@contextlib.contextmanager
def joined(processes: Processes) -> Iterator[None]:
    """Connects this process to the others; the block is what they do together.

    An error that leaves the block ends this process with its status, after one line on stderr or
    a traceback, and all others with it: they would wait for it for ever. Without anything said of
    several processes it does nothing.

    Raises:
      ConfigError: no coordinator answers within `connect_seconds`, or JAX detects none.
    """
    if not processes.several:
        yield
        return
    _connect(processes)
    lost = "aborted, as reported above; start all again to go on from the last checkpoint"
    with _abort_as(LOST_STATUS, _by_this_process(lost)):
        meet()
        over = threading.Event()
        watch = threading.Thread(target=_watch, args=(over,), daemon=True)
        watch.start()
        try:
            yield
        except BaseException as error:
            _end_all(error)
        over.set()
        watch.join()
        jax.distributed.shutdown()


def _connect(processes: Processes) -> None:
    # A SIGTERM is ours to handle (`stopping`), and JAX would take it over.
    jax.config.update("jax_enable_preemption_service", False)
    not_met = (
        f"{processes.coordinator or 'the coordinator'}: found no {processes.num_processes or ''} "
        f"processes that meet there within {processes.connect_seconds} s, expected all to be "
        "started, and to reach that address"
    )
    try:
        with _abort_as(2, not_met):
            jax.distributed.initialize(
                processes.coordinator,
                processes.num_processes,
                processes.process_id,
                cluster_detection_method=None if processes.detect else "deactivate",
                initialization_timeout=processes.connect_seconds,
                heartbeat_timeout_seconds=processes.heartbeat_seconds,
            )
            _state().client.wait_at_barrier("thyrojax/joined", processes.connect_seconds * 1000)
    except (ValueError, KeyError) as error:
        raise ConfigError(
            f"--distributed: found no SLURM, Open MPI, GKE or Cloud TPU job ({one_line(str(error))}"
            "), expected one, or --coordinator, --num-processes and --process-id"
        ) from None
    except RuntimeError as error:
        raise ConfigError(f"{not_met} ({one_line(str(error).splitlines()[0], 160)})") from None


@contextlib.contextmanager
def _abort_as(status: int, line: str) -> Iterator[None]:
    """Ends this process with a status and a line where JAX aborts it, after its own report.

    JAX aborts what cannot connect, and what misses the coordinator or another one. Python's own
    signal handlers would come too late: they wait for the main thread.
    """
    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda number: _leave(status, line))
    signal_of_libc = ctypes.CDLL(None).signal
    signal_of_libc(signal.SIGABRT, handler)
    try:
        yield
    finally:
        signal_of_libc(signal.SIGABRT, None)


def _state() -> Any:
    # Its `client`, the coordinator's store, has no public name; Orbax takes it from here too.
    from jax._src import distributed

    return distributed.global_state


def _failure_of_another() -> tuple[int, str] | None:
    """Status and line for this process where another one has told that it failed."""
    try:
        told = json.loads(_state().client.key_value_try_get(_FAILED))
    except Exception:  # none has failed; where the coordinator is gone, JAX ends us
        return None
    if told["process"] == jax.process_index():
        return None
    line = f"process {told['process']} has ended: {told['reason']}"
    return told["status"], _by_this_process(line)


def _let_others_read() -> None:
    """Keeps the coordinator alive until all have read who failed: JAX aborts them without it."""
    if jax.process_index() == 0:
        time.sleep(4 * POLL_SECONDS)


def _watch(over: threading.Event) -> None:
    """Ends this process when another one has told that it failed."""
    while not over.wait(POLL_SECONDS):
        if found := _failure_of_another():
            _let_others_read()
            _leave(*found)


def _end_all(error: BaseException) -> None:
    status, reason = _ending(error)
    # A connection is lost too where another one has told of its failure and left.
    if status == LOST_STATUS and (found := _failure_of_another()):
        _let_others_read()
        _leave(*found)
    line = None if reason is None else _by_this_process(reason)
    if line is None:
        traceback.print_exception(error)
    # Of a lost one only the coordinator tells: if that was it, nobody can be told.
    if status != LOST_STATUS or jax.process_index() == 0:
        told_reason = reason or one_line(repr(error))
        told = {"process": jax.process_index(), "status": status, "reason": told_reason}
        with contextlib.suppress(Exception):  # another one was first, or there is none to tell
            _state().client.key_value_set(_FAILED, json.dumps(told))
        _let_others_read()
    _leave(status, line)


def _ending(error: BaseException) -> tuple[int, str | None]:
    """Exit status, and the line that tells of it; None for a fault of ours."""
    if isinstance(error, ThyrojaxError):
        return 2, str(error)
    if isinstance(error, KeyboardInterrupt):
        return 130, "interrupted"
    if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):
        first = one_line(str(error).splitlines()[0], 160)
        return LOST_STATUS, (
            f"found the connection to another process lost ({first}), expected all "
            f"{jax.process_count()} to run; start all again to go on from the last checkpoint"
        )
    return 1, None


def _by_this_process(line: str) -> str:
    return f"process {_state().process_id} of {_state().num_processes}: {line}"


def _leave(status: int, line: str | None) -> None:
    """Ends the process at once: a clean shutdown would wait for the others."""
    _one_leaves.acquire()  # of threads that come here together one tells its line
    if line is not None:
        print(f"thyrojax: {line}", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


@contextlib.contextmanager
def leaving_when_lost() -> Iterator[None]:
    """Ends this process and all others at once where the block meets a lost connection.

    For blocks that lie within others which would wait for what can no longer end, as a checkpoint
    that all were saving.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if several() and _ending(error)[0] == LOST_STATUS:
            _end_all(error)
        raise
