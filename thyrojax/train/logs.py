"""What a run tells while it trains: a progress bar, metrics.jsonl, TensorBoard events.

metrics.jsonl is a function of configuration, data and seed. How fast the steps went is not, and has
a file of its own, timings.jsonl.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
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
from thyrojax.train.crop_sheet import Crops, captions, draw_sheet


class RunLog:
    """Opens metrics.jsonl, timings.jsonl and events.out.tfevents.* of RUN; a bar on stderr.

    Lines of an earlier attempt beyond `first_step` are dropped: those steps are taken again.
    `bad_records` are the image_id of all lines of `bad_record`.
    """

    def __init__(self, run: Path, first_step: int, total_steps: int, quiet: bool) -> None:
        from tensorboardX import SummaryWriter

        metrics, timings = run / "metrics.jsonl", run / "timings.jsonl"
        for path in (metrics, timings):
            keep_lines_up_to(path, first_step)
        self._lines, self._timings = metrics.open("a"), timings.open("a")
        # A record that was found bad before the resume is found again after it.
        lines = [json.loads(line) for line in metrics.read_text().splitlines()]
        self.bad_records = [line["bad_record"] for line in lines if "bad_record" in line]
        # TensorBoard drops events of an earlier attempt from this step on, itself included.
        purge_from = first_step + 1 if first_step else None
        self._events = SummaryWriter(str(run), purge_step=purge_from, flush_secs=30)
        aucs = [line["val_auc"] for line in lines if "val_auc" in line]
        self._steps, self._auc = "", _told_auc(aucs[-1]) if aucs else ""
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
            "train", total=total_steps, completed=first_step, figures=self._auc
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
        self._timings.close()

    def training(self, figures: dict[str, Any], images_per_second: float) -> None:
        """One line for the steps since the last one: step, epoch, loss, accuracy, rate."""
        self._write(figures, "train")
        timing = {"step": figures["step"], "images_per_second": images_per_second}
        self._timings.write(json.dumps(timing) + "\n")
        self._timings.flush()
        self._events.add_scalar("train/images_per_second", images_per_second, figures["step"])
        self._steps = (
            f"loss {figures['loss']:.3f}  rate {figures['learning_rate']:.1e}  "
            f"{images_per_second:.1f} images/s"
        )
        self._bar.update(
            self._task, completed=figures["step"], figures=f"{self._steps}  {self._auc}"
        )

    def validation(self, figures: dict[str, Any]) -> None:
        """One line for a validation: step, epoch, val_loss, val_auc, val_accuracy."""
        self._write(figures, "validation")
        self._events.flush()  # with the checkpoint, so that a kill loses neither
        self._auc = _told_auc(figures["val_auc"])
        self._bar.update(self._task, figures=f"{self._steps}  {self._auc}")

    def crops(self, step: int, crops: Crops, label_names: Sequence[str]) -> None:
        """A picture of crops that step number `step` was given, in TensorBoard."""
        sheet = draw_sheet(crops.image, captions(crops, label_names))
        self._events.add_image("train/crops", sheet, step, dataformats="HW")

    def bad_record(self, found: dict[str, Any]) -> None:
        """One line, once, for a record that could not be read: step, bad_record, reason."""
        if found["bad_record"] in self.bad_records:
            return
        self.bad_records.append(found["bad_record"])
        self._lines.write(json.dumps(found) + "\n")
        self._lines.flush()

    def _write(self, figures: dict[str, Any], group: str) -> None:
        self._lines.write(json.dumps(figures) + "\n")
        self._lines.flush()
        for name, value in figures.items():
            if name not in ("step", "epoch") and value is not None:
                self._events.add_scalar(f"{group}/{name}", value, figures["step"])


def _told_auc(auc: float) -> str:
    return f"validation AUC {auc:.3f}"


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
