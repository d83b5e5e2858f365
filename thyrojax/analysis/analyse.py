"""Runs a whole study: every table from the cases of one model, or of several compared."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from thyrojax.analysis.calibration import calibration_table
from thyrojax.analysis.cases import check_apart, read_cases
from thyrojax.analysis.comparison import check_same_cases, comparison_table
from thyrojax.analysis.cutoff import Cutoff
from thyrojax.analysis.cutoff_table import cutoffs_table
from thyrojax.analysis.decision import decision_table
from thyrojax.analysis.exposures import read_exposures
from thyrojax.analysis.features import default_features, feature_table
from thyrojax.analysis.odds_ratios import odds_ratio_table
from thyrojax.analysis.operating_point import operating_table, summarise
from thyrojax.analysis.options import (
    Options,
    check_options,
    exposures_of,
    reader_of,
    study_cutoff,
)
from thyrojax.analysis.patients import patient_table
from thyrojax.analysis.precision_recall import precision_recall_table
from thyrojax.analysis.predictions import Predictions
from thyrojax.analysis.readers import reader_table
from thyrojax.analysis.recalibration import calibration_summary
from thyrojax.analysis.roc import roc_curve
from thyrojax.analysis.roc_tables import auc_table, roc_table
from thyrojax.analysis.sample_size import sample_size_table, too_small
from thyrojax.analysis.size_groups import size_table
from thyrojax.analysis.study import Study
from thyrojax.analysis.sweep import evenly_along
from thyrojax.analysis.table import Table, table_of
from thyrojax.errors import PredictionsError

_PACKAGES = ("thyrojax", "numpy", "scipy", "scikit-learn", "statsmodels", "matplotlib")
_DECISION_RESAMPLES = 500  # at most: each is of a whole curve
_CURVE_POINTS = 1_000  # of each model where several curves share one figure

Say = Callable[[str], None]


def analyse_files(
    files: dict[str, Path],
    cutoff_from: dict[str, Path],
    options: Options,
    exposures: Path | None = None,
    say: Say = lambda line: None,
) -> tuple[Study, dict[str, Any]]:
    """A study of predictions files, and where it came from (files with sha256, options).

    Args:
      files: by name; the first is studied in full, the others are compared with it.
      cutoff_from: validation files by the name of the model whose cutoff they choose; "" is the
        first model's. A file that holds validation rows itself needs none.
      exposures: a file of exposures; None leaves those of the options.

    Raises:
      PredictionsError: a file, an option or the files together cannot be used; one line.
    """
    lead = next(iter(files))
    validation_files = {name or lead: path for name, path in cutoff_from.items()}
    unknown = set(validation_files) - set(files)
    if unknown:
        raise PredictionsError(
            f"--cutoff-from: found {sorted(unknown)[0]!r}, expected the name of a model: "
            f"{', '.join(files)}"
        )
    models: dict[str, Predictions] = {}
    validation: dict[str, Predictions] = {}
    notes: list[str] = []
    for name, path in files.items():
        say(f"reading {path}")
        cases = read_cases(path)
        models[name] = cases.reported
        notes += cases.notes
        if name in validation_files:
            other = validation_files[name]
            validation[name], of_parts = _chosen_on(other)
            notes += of_parts
            check_apart(models[name], str(path), validation[name], str(other))
        elif cases.validation is not None:
            validation[name] = cases.validation
    if exposures is not None:
        declared = read_exposures(exposures, models[lead].columns)
        options = replace(options, exposures=declared)
    every = list(files.items())
    every += [(f"validation of {name}", path) for name, path in validation_files.items()]
    chosen = {field.name: getattr(options, field.name) for field in fields(options)}
    chosen["exposures"] = [exposure.name for exposure in options.exposures or ()] or None
    provenance = {
        "files": [
            {"name": name, "path": str(path), "sha256": _digest(path)} for name, path in every
        ],
        "options": {key: str(value) for key, value in chosen.items() if value is not None},
        "seed": options.seed,
        "versions": {name: version(name) for name in _PACKAGES},
    }
    return analyse(models, validation, options, notes, say), provenance


def _chosen_on(path: Path) -> tuple[Predictions, list[str]]:
    """The cases of a file that choose a cutoff, and a note: of several parts, the validation rows.

    Raises:
      PredictionsError: as `read_cases`; several parts without validation rows.
    """
    cases = read_cases(path)
    if not cases.notes:
        return cases.reported, []
    if cases.validation is None:
        raise PredictionsError(
            f"--cutoff-from {path}, split: found several parts and no validation rows, expected "
            "them, or rows of one part"
        )
    return cases.validation, [f"{path.name} holds several parts: its validation rows alone choose."]


def analyse(
    models: dict[str, Predictions],
    validation: dict[str, Predictions],
    options: Options,
    notes: Sequence[str] = (),
    say: Say = lambda line: None,
) -> Study:
    """Every table of a study.

    Args:
      models: by name, the lead first, all of the same cases.
      validation: cases of other patients, by model, on which its cutoff is chosen.
      notes: sentences on the cases, for the study's warnings.

    Raises:
      PredictionsError: as the tables' functions; a fixed cutoff outside 0..1, edges that do not
        rise, a prevalence or a number of resamples that is none; compared models of other cases.
    """
    check_options(options)
    if len(models) > 1:
        models = check_same_cases(models)
    lead = next(iter(models))
    cutoffs = {name: study_cutoff(name, models, validation, options) for name in models}
    cases, cutoff = models[lead], cutoffs[lead]
    labels, scores, patients = cases.labels, cases.scores, cases.patient_ids
    draws: dict[str, Any] = {"resamples": options.resamples, "seed": options.seed}
    both_classes = bool(labels.min() != labels.max())
    on_validation = None
    if lead in validation:
        on_validation = (validation[lead].labels, validation[lead].scores)

    makers: dict[str, Callable[[], Table]] = {
        "operating_point": lambda: operating_table(
            labels,
            scores,
            cutoff.value,
            patients,
            interval=options.interval,
            prevalence=options.prevalence,
            **draws,
        )
    }
    if len(models) > 1:
        values = {name: cutoff.value for name, cutoff in cutoffs.items()}
        makers["comparison"] = lambda: comparison_table(
            models, values, interval=options.interval, **draws
        )
    if both_classes:
        makers["auc"] = lambda: auc_table(labels, scores, patients, name=lead, **draws)
        makers["roc"] = lambda: roc_table(labels, scores, patients, **draws)
        if len(models) > 1:
            makers["roc_models"] = lambda: curves_table(models)
        makers["precision_recall"] = lambda: precision_recall_table(labels, scores)
        makers["cutoffs"] = lambda: cutoffs_table(
            labels, scores, on_validation, optimistic=options.optimistic
        )
    if len(set(patients)) < len(cases):
        makers["patient_level"] = lambda: patient_table(
            cases, cutoff.value, interval=options.interval
        )
    if any(cases.columns.get("size_mm", ())):
        makers["size_groups"] = lambda: size_table(
            cases, cutoff.value, options.edges_cm, interval=options.interval, **draws
        )
    reader = reader_of(cases, options)
    features = default_features(cases, reader)
    if features:
        makers["features"] = lambda: feature_table(cases, cutoff.value, features)
    exposures = exposures_of(cases, options)
    if exposures:
        makers["odds_ratios"] = lambda: odds_ratio_table(
            cases, cutoff.value, exposures, options.robust
        )
    if reader:
        makers["readers"] = lambda: reader_table(cases, cutoff.value, reader, **draws)
    makers["calibration"] = lambda: calibration_table(labels, scores)
    makers["calibration_summary"] = lambda: calibration_summary((labels, scores), on_validation)
    makers["decision_curve"] = lambda: decision_table(
        labels,
        scores,
        patients,
        options.prevalence,
        resamples=min(options.resamples, _DECISION_RESAMPLES),
        seed=options.seed,
    )
    makers["sample_size"] = lambda: sample_size_table(labels, scores, cutoff.value)

    tables: dict[str, Table] = {}
    for name, make in makers.items():
        say(f"table {name}")
        tables[name] = make()
    metrics = summarise(
        labels,
        scores,
        cutoff.value,
        cutoff.source,
        patients,
        clusters=True,
        interval=options.interval,
        **draws,
    )
    return Study(
        lead=lead,
        predictions=models,
        validation=validation.get(lead),
        cutoff=cutoff,
        label_names=options.label_names,
        metrics=metrics,
        tables=tables,
        warnings=(*notes, *_warnings(models, cutoffs, validation, options, tables)),
    )


def curves_table(models: dict[str, Predictions]) -> Table:
    """The ROC curves of several models, name by name: at most 1,000 points of each.

    Raises:
      PredictionsError: as `roc_curve`.
    """
    records: list[dict[str, Any]] = []
    for name, cases in models.items():
        curve = roc_curve(cases.labels, cases.scores)
        fpr, tpr = curve.false_positive_rate, curve.true_positive_rate
        for point in evenly_along(fpr + tpr, _CURVE_POINTS).tolist():
            record = {"cutoff": float(curve.cutoffs[point]), "fpr": float(fpr[point])}
            records.append({"name": name, **record, "tpr": float(tpr[point])})
    caption = f"ROC curves of {len(models)} models on the same cases."
    return table_of("roc_models", caption, records)


def _warnings(
    models: dict[str, Predictions],
    cutoffs: dict[str, Cutoff],
    validation: dict[str, Predictions],
    options: Options,
    tables: dict[str, Table],
) -> list[str]:
    """What must stand beside the results."""
    lead = next(iter(models))
    labels = models[lead].labels
    n_positive = int(labels.sum())
    found: list[str] = []
    if options.optimistic:
        found.append(
            "Optimistic: the cutoff was chosen on the very cases that are reported; sensitivity "
            "and specificity will be lower on new cases."
        )
    elif options.cutoff is None and lead not in validation:
        found.append(
            "The cutoff is 0.5 because no validation cases were given (--cutoff-from); a score of "
            "0.5 is not always a sensible place to cut."
        )
    found += [
        f"{name} has {lead}'s cutoff, as no validation cases of its own were given."
        for name, cutoff in cutoffs.items()
        if cutoff.source.startswith(f"{lead}'s: ")
    ]
    if n_positive in (0, len(labels)):
        found.append(
            f"All {len(labels)} cases are of class {int(labels[0])}: no ROC curve, no AUC."
        )
    small = too_small(n_positive, len(labels) - n_positive)
    if small:
        found.append(small)
    for name, what in (
        ("size_groups", "no column size_mm: no results by size"),
        ("features", "no sonographic feature: no results by feature, no odds ratios"),
        ("readers", "no reader's calls (column reader_label): no comparison with readers"),
    ):
        if name not in tables:
            found.append(f"The predictions have {what}.")
    return found


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
