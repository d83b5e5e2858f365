"""`thyrojax runs` and `thyrojax digest`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from thyrojax.runs import RunSummary, digest_run, find_runs


def add_runs(commands: Any, add: Any) -> None:
    """Adds both commands; `add` is `cli._add`."""
    runs = add(
        commands,
        "runs",
        _runs,
        "List the runs below a folder: state, last written, validation and test AUC, disk use.",
        "thyrojax runs experiments/margins",
    )
    runs.add_argument(
        "words",
        nargs="*",
        metavar="FOLDER",
        help='default: runs; `runs list` is `runs`, and `runs digest RUN` is "thyrojax digest RUN"',
    )
    runs.add_argument("--step", type=int, metavar="N", help="of `runs digest`")

    digest = add(
        commands,
        "digest",
        lambda args: _digest(args.run, args.step),
        "One sha256 over every leaf of a run's saved state, and the step.",
        "thyrojax digest runs/demo",
    )
    digest.add_argument("run", type=Path, metavar="RUN")
    digest.add_argument("--step", type=int, metavar="N", help="default: the latest checkpoint")


def _runs(args: argparse.Namespace) -> None:
    action, *words = args.words or ["list"]
    if action not in ("list", "digest"):
        action, words = "list", args.words
    if len(words) > 1 or (action == "digest" and not words):
        args.parser.error(f"found {' '.join(args.words)}, expected [list] [FOLDER] or digest RUN")
    if action == "digest":
        _digest(Path(words[0]), args.step)
        return
    if args.step is not None:
        args.parser.error("--step: found it with a list, expected it with digest RUN")
    _list(find_runs(Path(*words) if words else Path("runs")))


def _list(runs: list[RunSummary]) -> None:
    rows = [("run", "state", "last written", "best AUC", "test AUC", "MB")]
    for run in runs:
        aucs = ["-" if auc is None else f"{auc:.3f}" for auc in (run.best_auc, run.test_auc)]
        written, size = run.written.isoformat(" ", "minutes"), f"{run.n_bytes / 1e6:,.0f}"
        rows.append((str(run.folder), run.state, written, aucs[0], aucs[1], size))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        cells[-3:] = [cell.rjust(width) for cell, width in zip(row[-3:], widths[-3:], strict=True)]
        print("  ".join(cells))


def _digest(run: Path, step: int | None) -> None:
    digest, of_step = digest_run(run, step)
    print(f"{digest}  step {of_step}")
