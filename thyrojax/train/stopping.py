"""Leaving within a grace period when SIGTERM asks for it, as preemptible machines do."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

from thyrojax import processes

# 128 + SIGTERM, as the shell tells it: what restarts jobs must not take a stopped run for a
# finished one, whose status is 0.
STOPPED_STATUS = 128 + signal.SIGTERM


class StopRequest:
    """While it is open, SIGTERM sets `asked`; after the grace period the process is ended.

    A thread reads the signal, because Python's own handlers wait for the main thread, which may be
    in a compilation for longer than the grace period. Ended so, a run has lost what the kill of the
    machine would have lost: the steps since its last checkpoint.
    """

    def __init__(self, grace_seconds: float, say: Callable[[str], None]) -> None:
        self._grace, self._say = grace_seconds, say
        self._settled = False
        self._asked, self._left = threading.Event(), threading.Event()
        # Signals can be taken over from the main thread only; another's caller has its own way.
        self._active = threading.current_thread() is threading.main_thread()

    @property
    def asked(self) -> bool:
        """Whether the run is to stop; of several processes, what the last `settle` found."""
        return self._settled if processes.several() else self._asked.is_set()

    def settle(self, seconds: float) -> float:
        """All processes agree whether one of them was asked; returns the longest `seconds`."""
        told = processes.gathered([self._asked.is_set(), seconds])
        self._settled = any(asked for asked, _ in told)
        return max(seconds for _, seconds in told)

    def __enter__(self) -> StopRequest:
        if self._active:
            self._reader, self._writer = socket.socketpair()
            self._writer.setblocking(False)
            self._before: Any = signal.signal(signal.SIGTERM, lambda number, frame: None)
            self._wakeup = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._active:
            signal.set_wakeup_fd(self._wakeup)
            signal.signal(signal.SIGTERM, self._before)
            self._left.set()
            self._writer.close()  # ends the reading
            self._thread.join()
            self._reader.close()

    def _watch(self) -> None:
        while signals := self._reader.recv(64):
            if signal.SIGTERM in signals:
                break
        else:
            return
        self._asked.set()
        if not self._left.wait(self._grace):
            self._say(f"SIGTERM: not done within {self._grace:g} s; left without saving")
            os._exit(STOPPED_STATUS)
