"""Who writes the shards: this process, several, or an Apache Beam pipeline."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from pathlib import Path

from thyrojax.data.shards import Shard, write_shard
from thyrojax.errors import ConfigError, ThyrojaxError

Runner = Callable[[Sequence[Shard]], None]  # writes those of the shards that are not finished


def processes(workers: int, progress: bool) -> Runner:
    """Shards written in so many processes, or in this one; a runner may raise ThyrojaxError.

    Raises:
      ConfigError: `workers` is not positive.
    """
    if workers < 1:
        raise ConfigError(f"workers: found {workers}, expected a whole number >= 1")

    def run(parts: Sequence[Shard]) -> None:
        todo = [part for part in parts if not part.finished]
        with _bar(parts, todo, progress) as advance:
            if min(workers, len(todo)) > 1:
                _run_processes(todo, min(workers, len(todo)), advance)
                return
            for part in todo:
                write_shard(part)
                advance(len(part.nodules))

    return run


def _run_processes(todo: Sequence[Shard], workers: int, advance: Callable[[int], None]) -> None:
    spawn = multiprocessing.get_context("spawn")
    with futures.ProcessPoolExecutor(workers, spawn, _start_worker) as pool:
        running = {pool.submit(write_shard, part): len(part.nodules) for part in todo}
        try:
            for done in futures.as_completed(running):
                done.result()
                advance(running[done])
        except futures.process.BrokenProcessPool:
            raise ThyrojaxError(
                f"{todo[0].work}: found a worker process that died, expected it to finish "
                "(out of memory?); the same command goes on where this one stopped"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def faults(parts: Sequence[Shard]) -> list[str]:
    """The faults of all shards that could not be written, in the source's order."""
    return [
        fault
        for part in parts
        if part.faults_path.exists()
        for fault in json.loads(part.faults_path.read_text())
    ]


def beam(runner: str, options: Sequence[str]) -> Runner:
    """Shards written by an Apache Beam pipeline, one element each.

    `runner` is Beam's name of one ("DirectRunner", "FlinkRunner", ...), `options` its options as
    "name=value" or "name". The workers find their nodules in files of the incomplete folder, which
    they and this process must see under the same path, as they must the source's images.

    Raises:
      ConfigError: Beam is not installed, or knows no such runner.
    """
    try:
        import apache_beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ModuleNotFoundError:
        raise ConfigError(
            "--beam-runner: found no apache_beam, expected it; pip install 'thyrojax[beam]'"
        ) from None
    try:
        pipeline = apache_beam.Pipeline(
            runner=runner, options=PipelineOptions([f"--{option}" for option in options])
        )
    except ValueError as error:
        line = str(error).partition("\n")[0]
        raise ConfigError(
            f"--beam-runner: found {runner!r} ({line}), expected one of Beam's"
        ) from None

    def run(parts: Sequence[Shard]) -> None:
        todo = [str(_store_task(part)) for part in parts if not part.finished]
        with pipeline:
            tasks = pipeline | "Shards" >> apache_beam.Create(todo)
            _ = tasks | apache_beam.Reshuffle() | "Write" >> apache_beam.Map(write_task)

    return run


def _store_task(part: Shard) -> Path:
    path = part.work / "parts" / f"{part.number:05d}.task"
    path.write_bytes(pickle.dumps(part))
    return path


def write_task(path: str) -> None:
    """Writes the shard that `beam` stored in a file."""
    write_shard(pickle.loads(Path(path).read_bytes()))


def _start_worker() -> None:
    """Readies a worker process: one core for it, and no life beyond its parent's."""
    import cv2

    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it too, and ends its workers
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_die_with, args=(parent,), daemon=True).start()


def _die_with(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)  # a parent that was killed tells nobody, and its workers would wait for ever


@contextlib.contextmanager
def _bar(
    parts: Sequence[Shard], todo: Sequence[Shard], progress: bool
) -> Iterator[Callable[[int], None]]:
    """A bar on stderr of the nodules that are written; yields what moves it on."""
    if not progress:
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    total = sum(len(part.nodules) for part in parts)
    left = sum(len(part.nodules) for part in todo)
    columns = (MofNCompleteColumn(), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total, completed=total - left)
        yield lambda count: bar.advance(task, count)
