"""Early stopping: a run ends after so many validations without a better AUC.

It is a function of the validations that metrics.jsonl tells of, up to the step that a run goes on
from, so that a run that was killed ends where an undisturbed one does. A validation's line is
written before its checkpoint is: where a kill came between the two, the line is of a later step
than the checkpoint that is restored, and the validation is done again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path


def validation_aucs(run: Path, up_to_step: int | None = None) -> list[float]:
    """`val_auc` of each validation of a run folder, in order; those up to a step, or all."""
    path = run / "metrics.jsonl"
    found = []
    for line in path.read_text().splitlines() if path.is_file() else ():
        try:
            entry = json.loads(line)
        except ValueError:  # the last line of a run that was killed, or that is being written
            break
        if "val_auc" in entry and (up_to_step is None or entry["step"] <= up_to_step):
            found.append(float(entry["val_auc"]))
    return found


def out_of_patience(aucs: Sequence[float], patience: int) -> bool:
    """Whether the last `patience` validations were no better than the best before them.

    A tie is not better. 0 is endless patience.
    """
    if patience == 0 or len(aucs) <= patience:
        return False
    return max(aucs[-patience:]) <= max(aucs[:-patience])
