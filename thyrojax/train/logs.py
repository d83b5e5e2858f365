"""What a run tells while it trains: a progress bar, metrics.jsonl, TensorBoard events."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from thyrojax.files import write_whole


class RunLog:
    """Opens RUN/metrics.jsonl and RUN/events.out.tfevents.*, and shows a bar on stderr.

    Lines of an earlier attempt beyond `first_step` are dropped: those steps are taken again.
    """

    def __init__(self, run: Path, first_step: int, total_steps: int, quiet: bool) -> None:
        from tensorboardX import SummaryWriter

        self._path = run / "metrics.jsonl"
        keep_lines_up_to(self._path, first_step)
        self._lines = self._path.open("a")
        self._events = SummaryWriter(str(run), purge_step=first_step or None, flush_secs=30)
        self._bar = Progress(
            TextColumn("[bold]step"),
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=quiet or not sys.stderr.isatty(),
        )
        self._task = self._bar.add_task(
            "train", total=total_steps, completed=first_step, figures=""
        )

    def __enter__(self) -> RunLog:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()
        self._events.close()
        self._lines.close()

    def training(self, figures: dict[str, Any]) -> None:
        """One line for the steps since the last one: step, epoch, loss, accuracy, rate, speed."""
        self._write(figures, "train")
        self._bar.update(
            self._task,
            completed=figures["step"],
            figures=f"loss {figures['loss']:.3f}  rate {figures['learning_rate']:.1e}  "
            f"{figures['images_per_second']:.1f} images/s",
        )

    def validation(self, figures: dict[str, Any]) -> None:
        """One line for a validation: step, epoch, val_loss, val_auc, val_accuracy."""
        self._write(figures, "validation")

    def _write(self, figures: dict[str, Any], group: str) -> None:
        self._lines.write(json.dumps(figures) + "\n")
        self._lines.flush()
        for name, value in figures.items():
            if name not in ("step", "epoch") and value is not None:
                self._events.add_scalar(f"{group}/{name}", value, figures["step"])


def keep_lines_up_to(path: Path, step: int) -> None:
    """Drops from a metrics.jsonl what lies beyond a step, and a last line cut off by a crash."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except ValueError:
            break
    write_whole(path, "".join(kept).encode())
