"""Several models on the same images: the rows of the paper's Table 1, tested against the best."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from thyrojax.analysis.bootstrap import (
    RESAMPLES,
    affordable_resamples,
    cluster_bootstrap,
    resampling_note,
)
from thyrojax.analysis.cutoff import call_positive
from thyrojax.analysis.intervals import METHODS, Proportions
from thyrojax.analysis.measures import (
    Measure,
    estimate_measures,
    measure_columns,
    measure_notes,
    measure_statistic,
    resampled_interval,
)
from thyrojax.analysis.predictions import Predictions, check_cases, take
from thyrojax.analysis.roc import compare_auc
from thyrojax.analysis.sample_size import too_small
from thyrojax.analysis.table import Table, table_of
from thyrojax.errors import PredictionsError
from thyrojax.shapes import Bool, Float

COMPARED = ("accuracy", "sensitivity", "specificity", "AUC")


@dataclass
class _Test:
    """One row against the best one in one measure, row minus best; what is not there is None."""

    difference: float | None = None
    interval: tuple[float, float] | None = None
    p: float | None = None
    p_cluster: float | None = None
    notes: list[str] = field(default_factory=list)


def check_same_cases(models: Mapping[str, Predictions]) -> dict[str, Predictions]:
    """The models with their rows in the order of the first one's.

    Raises:
      PredictionsError: no model; an image twice; models that differ in their images, or in an
        image's label or patient (the message names the first such image in the first one's order).
    """
    if not models:
        raise PredictionsError("models: found none, expected at least one")
    lead, first = next(iter(models.items()))
    place = {image_id: row for row, image_id in enumerate(first.image_ids)}
    aligned: dict[str, Predictions] = {}
    for name, model in models.items():
        row_of = {image_id: row for row, image_id in enumerate(model.image_ids)}
        if len(row_of) < len(model):
            twice = next(i for row, i in enumerate(model.image_ids) if row_of[i] != row)
            raise PredictionsError(f"{name}, image_id: found {twice!r} twice, expected it once")
        missing = [image_id for image_id in first.image_ids if image_id not in row_of]
        further = [image_id for image_id in model.image_ids if image_id not in place]
        if missing or further:
            has, lacks, ids = (name, lead, further) if further else (lead, name, missing)
            raise PredictionsError(
                f"{lacks}, image_id: found no {ids[0]!r}{_more(len(ids))}, which {has} has, "
                "expected the same images in all files"
            )
        if model.image_ids != first.image_ids:
            model = take(model, np.array([row_of[i] for i in first.image_ids], dtype=np.int64))
        aligned[name] = model
        for column, found, expected in (
            ("label", model.labels.tolist(), first.labels.tolist()),
            ("patient_id", model.patient_ids, first.patient_ids),
        ):
            other = [row for row, cell in enumerate(found) if cell != expected[row]]
            if other:
                raise PredictionsError(
                    f"{name}, image_id {first.image_ids[other[0]]!r}, {column}: found "
                    f"{found[other[0]]!r}{_more(len(other))}, expected {expected[other[0]]!r} "
                    f"as in {lead}"
                )
    return aligned


def comparison_table(
    models: Mapping[str, Predictions],
    cutoffs: Mapping[str, float],
    *,
    interval: Proportions = "wilson",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Table:
    """One row per model, each measure tested against the row that is best in it.

    Columns: name, n, n_patients, cutoff; accuracy, sensitivity, specificity and auc with NAME_low
    and NAME_high (and NAME_cluster_low, NAME_cluster_high where patients have several images);
    best, the measures in which the row is the best (the first of equal ones); for each measure
    NAME_difference (row minus best) with NAME_difference_low and _high from resampled patients,
    p_NAME and p_NAME_holm (and p_NAME_cluster and p_NAME_cluster_holm where patients have several
    images); note.

    P of accuracy, sensitivity and specificity: exact McNemar; of AUC: paired DeLong. Both take the
    images as independent. p_NAME_cluster does not: the difference over its standard deviation
    among the resamples of patients is read on the normal distribution. Holm's correction is over
    the rows, within each measure.

    Raises:
      PredictionsError: as `check_same_cases` and `check_cases`; a model without a cutoff.
    """
    aligned = check_same_cases(models)
    without = [name for name in aligned if name not in cutoffs]
    if without:
        raise PredictionsError(f"cutoffs: found none for {without[0]}, expected one for each model")
    first = next(iter(aligned.values()))
    check_cases(first.labels, first.scores)
    n, n_patients = len(first), len(set(first.patient_ids))
    clusters = n_patients < n
    found: dict[str, dict[str, Measure]] = {}
    resampled: dict[str, dict[str, np.ndarray]] = {}
    used = affordable_resamples(n, resamples)
    for name, model in aligned.items():
        found[name] = estimate_measures(
            model.labels,
            model.scores,
            cutoffs[name],
            model.patient_ids,
            names=COMPARED,
            interval=interval,
            clusters=clusters,
            resamples=resamples,
            seed=seed,
        )
        if len(aligned) > 1:
            statistic = measure_statistic(model.labels, model.scores, cutoffs[name], COMPARED, None)
            # The same seed and patients: resample number k is the same one for every model.
            resampled[name] = cluster_bootstrap(statistic, model.patient_ids, used, seed)
    best = {measure: _best(found, measure) for measure in COMPARED}
    tests = {
        measure: {
            name: _test(aligned, cutoffs, found, resampled, measure, name, best[measure])
            for name in aligned
        }
        for measure in COMPARED
    }
    corrected = {
        (measure, kind): _holm({name: getattr(test, kind) for name, test in rows.items()})
        for measure, rows in tests.items()
        for kind in ("p", "p_cluster")
    }
    records: list[dict[str, Any]] = []
    for name in aligned:
        record: dict[str, Any] = {
            "name": name,
            "n": n,
            "n_patients": n_patients,
            "cutoff": float(cutoffs[name]),
            **measure_columns(found[name], clusters),
            "best": ", ".join(measure for measure in COMPARED if best[measure] == name),
        }
        notes = measure_notes(found[name])
        if record["best"]:
            notes.append(f"{record['best']}: best row, nothing to test")
        about: dict[str, list[str]] = {}
        for measure in COMPARED:
            test, key = tests[measure][name], measure.lower()
            low, high = test.interval or (None, None)
            record |= {
                f"{key}_difference": test.difference,
                f"{key}_difference_low": low,
                f"{key}_difference_high": high,
                f"p_{key}": test.p,
                f"p_{key}_holm": corrected[measure, "p"][name],
            }
            if clusters:
                record[f"p_{key}_cluster"] = test.p_cluster
                record[f"p_{key}_cluster_holm"] = corrected[measure, "p_cluster"][name]
            for note in test.notes:
                about.setdefault(note, []).append(measure)
        notes += [f"difference in {', '.join(names)}: {note}" for note, names in about.items()]
        records.append(record | {"note": "; ".join(notes)})
    footnotes = [
        f"95 % intervals that take the images as independent: {METHODS[interval]}; AUC: DeLong."
    ]
    if clusters or len(aligned) > 1:
        footnotes.append(resampling_note(n, n_patients, resamples, seed))
    if len(aligned) > 1:
        footnotes += [
            "Differences are row minus best row, with 95 % percentile intervals of resampled "
            "patients. P: exact McNemar (accuracy, sensitivity, specificity) and paired DeLong "
            "(AUC), two-sided; Holm's correction over the rows within each measure.",
            "The best row was found on these same images: its lead is on average too large.",
        ]
    if clusters and len(aligned) > 1:
        footnotes.append(
            "Patients have several images: McNemar's and DeLong's P need not hold then; the P of "
            "resampled patients (difference over its bootstrap standard error) are the ones to use."
        )
    n_positive = int(first.labels.sum())
    footnotes += filter(None, [too_small(n_positive, n - n_positive)])
    return table_of(
        "comparison",
        f"Models compared on the same {n:,} images of {n_patients:,} patients.",
        records,
        footnotes,
    )


def mcnemar_exact(
    right: Bool[np.ndarray, " cases"], other_right: Bool[np.ndarray, " cases"]
) -> float:
    """Two-sided P that two models are right equally often on the same cases; 1 if never apart.

    McNemar 1947 (Psychometrika 12:153) with the exact binomial distribution of the cases on which
    only one of them is right.
    """
    from scipy.stats import binomtest

    only_one, only_other = int(np.sum(right & ~other_right)), int(np.sum(other_right & ~right))
    if only_one + only_other == 0:
        return 1.0
    return float(binomtest(only_one, only_one + only_other).pvalue)


def _best(found: dict[str, dict[str, Measure]], measure: str) -> str | None:
    """The first of the rows with the largest value; None where no row has one."""
    values = {
        name: row[measure].value for name, row in found.items() if row[measure].value is not None
    }
    return max(values, key=lambda name: values[name] or 0.0) if values else None


def _test(
    models: dict[str, Predictions],
    cutoffs: Mapping[str, float],
    found: dict[str, dict[str, Measure]],
    resampled: dict[str, dict[str, np.ndarray]],
    measure: str,
    name: str,
    best: str | None,
) -> _Test:
    """The row against the best row in one measure."""
    if best is None:
        return _Test()
    if name == best:
        return _Test(difference=0.0)
    value, reference = found[name][measure].value, found[best][measure].value
    if value is None or reference is None:
        return _Test()
    test = _Test(difference=value - reference)
    differences: Float[np.ndarray, " resamples"]
    differences = resampled[name][measure] - resampled[best][measure]
    n_patients = len(set(models[name].patient_ids))
    test.interval, note = resampled_interval(differences, n_patients, "patient")
    test.notes += [note] if note else []
    if test.interval is not None:
        deviation = float(np.nanstd(differences, ddof=1))
        test.p_cluster = math.erfc(abs(value - reference) / deviation / math.sqrt(2.0))
    labels = models[name].labels
    if measure == "AUC":
        test.p = compare_auc(labels, models[name].scores, models[best].scores).p
        if test.p is None:
            test.notes.append("no DeLong test, as nothing varies or a class has a single case")
        return test
    members = {"sensitivity": labels == 1, "specificity": labels == 0}.get(
        measure, np.ones(len(labels), dtype=bool)
    )
    right, best_right = (
        (call_positive(models[model].scores, cutoffs[model]) == (labels == 1))[members]
        for model in (name, best)
    )
    test.p = mcnemar_exact(right, best_right)
    return test


def _holm(values: dict[str, float | None]) -> dict[str, float | None]:
    """Holm's correction over the P values that there are; a single one stays as it is."""
    given = {name: p for name, p in values.items() if p is not None}
    if len(given) < 2:
        return dict(values)
    from statsmodels.stats.multitest import multipletests

    corrected = multipletests(list(given.values()), method="holm")[1]
    return values | dict(zip(given, map(float, corrected), strict=True))


def _more(count: int) -> str:
    return f" (and {count - 1} more)" if count > 1 else ""
