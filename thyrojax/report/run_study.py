"""The study of a run: its test predictions, at the other margins too where they were evaluated."""

from __future__ import annotations

import re
from pathlib import Path

from thyrojax.analysis.analyse import analyse
from thyrojax.analysis.cases import check_apart, read_cases
from thyrojax.analysis.options import Options
from thyrojax.analysis.predictions import Predictions
from thyrojax.analysis.study import Study
from thyrojax.errors import RunError
from thyrojax.report.run_folder import BY_IMAGE, Run

_MARGIN_FILE = re.compile(r"test_margin(\d+)\.csv")
_SAME_CUTOFF = 1e-6


def study_of_run(run: Run) -> Study:
    """Every table of RUN/predictions: the test part, with the validation part's cutoff.

    The cutoff is the one that `evaluate` chose and metrics.json has. Files test_marginM.csv are
    compared with the test part, each with the cutoff of its val_marginM.csv. Where images were
    dealt whatever their patient, the study's warnings say so.

    Raises:
      RunError: metrics.json has another cutoff than predictions/val.csv gives.
      PredictionsError: a predictions file cannot be used.
    """
    folder = run.folder / "predictions"
    own, unit = _margin(run.test), run.config.get("margin_unit", "px")
    lead = "test" if own is None else f"margin {own} {unit}"
    models = {lead: run.test}
    validation = {}
    if (folder / "val.csv").is_file():
        validation[lead] = read_cases(folder / "val.csv").reported
    for margin, path in _margin_files(folder):
        if margin == own:
            continue
        models[f"margin {margin} {unit}"] = read_cases(path).reported
        chosen_on = folder / f"val_margin{margin}.csv"
        if chosen_on.is_file():
            validation[f"margin {margin} {unit}"] = read_cases(chosen_on).reported
    notes = [BY_IMAGE] if run.by_image else []
    for name, cases in validation.items():
        if not run.by_image:
            check_apart(models[name], str(folder / "test.csv"), cases, str(folder / "val.csv"))
    names = run.data.label_names
    if not validation:
        return analyse(models, {}, Options(cutoff=run.metrics["cutoff"], label_names=names), notes)
    study = analyse(models, validation, Options(label_names=names), notes)
    if abs(study.cutoff.value - run.metrics["cutoff"]) > _SAME_CUTOFF:
        raise RunError(
            f"{run.folder / 'metrics.json'}, cutoff: found {run.metrics['cutoff']}, expected "
            f"{study.cutoff.value:.6f} (Youden on predictions/val.csv): evaluate the run again"
        )
    return study


def _margin_files(folder: Path) -> list[tuple[int, Path]]:
    """The test part at other margins, by rising margin."""
    matches = [(_MARGIN_FILE.fullmatch(path.name), path) for path in folder.iterdir()]
    return sorted((int(match[1]), path) for match, path in matches if match)


def _margin(cases: Predictions) -> int | None:
    """The crop's margin in the run's unit, where the file states one."""
    margins = set(cases.columns.get("margin", ()))
    return int(margins.pop()) if len(margins) == 1 and "" not in margins else None
