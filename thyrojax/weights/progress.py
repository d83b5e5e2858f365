"""A progress bar for downloads, on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from thyrojax.weights.download import Progress


@contextmanager
def terminal_progress(quiet: bool = False) -> Iterator[Progress | None]:
    """A callback for `fetch` that draws a bar while it is called.

    None where nothing is to be drawn: quiet, or stderr is no terminal. Lines that are printed
    meanwhile appear above the bar, which is gone at the end.
    """
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich import progress
    from rich.console import Console

    columns = (
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        last = -1

        def show(received: int, total: int | None) -> None:
            nonlocal last
            if last < 0 or received < last:  # a new transfer, perhaps from where one broke off
                for task in bars.task_ids:
                    bars.remove_task(task)
                bars.add_task("", total=total, completed=received)
            else:
                bars.update(bars.task_ids[0], completed=received)
            last = received

        yield show
