"""Patients in place of images: one score per patient, and what a model does by patient."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from thyrojax.analysis.bootstrap import patient_numbers
from thyrojax.analysis.intervals import METHODS, Proportions
from thyrojax.analysis.measures import estimate_measures, measure_columns, measure_notes
from thyrojax.analysis.predictions import Predictions, check_cases
from thyrojax.analysis.sample_size import too_small
from thyrojax.analysis.table import Table, table_of

CaseRule = Literal["mean", "max"]
RULES: tuple[CaseRule, ...] = ("mean", "max")
SHOWN = ("accuracy", "sensitivity", "specificity", "AUC")


def case_level(predictions: Predictions, rule: CaseRule) -> Predictions:
    """One row per patient, in the order of the ids: the mean or largest score of the images.

    A patient with any positive image is positive. `image_id` is the patient's id. The only columns
    are `n_images` and `n_positive`, the counts of the patient's images and positive images: words
    about one nodule need not hold for a patient.

    Raises:
      PredictionsError: as `check_cases`.
    """
    check_cases(predictions.labels, predictions.scores)
    patient = patient_numbers(predictions.patient_ids)
    scores = predictions.scores.astype(np.float64)
    images = np.bincount(patient)
    positives = np.bincount(patient[predictions.labels == 1], minlength=len(images))
    highest = np.full(len(images), -np.inf)
    np.maximum.at(highest, patient, scores)
    # Rounding must not lift the mean of equal scores above them, nor over the cutoff that they met.
    lowest = np.full(len(images), np.inf)
    np.minimum.at(lowest, patient, scores)
    mean = np.clip(np.bincount(patient, weights=scores) / images, lowest, highest)
    ids = tuple(sorted(set(predictions.patient_ids)))
    return Predictions(
        image_ids=ids,
        patient_ids=ids,
        labels=(positives > 0).astype(np.int64),
        scores=mean if rule == "mean" else highest,
        columns={
            "n_images": tuple(map(str, images.tolist())),
            "n_positive": tuple(map(str, positives.tolist())),
        },
    )


def patient_table(
    predictions: Predictions, cutoff: float, *, interval: Proportions = "wilson"
) -> Table:
    """What the model does by patient, with the mean and with the largest score of the images.

    Columns: rule, n, n_positive, n_negative, then accuracy, sensitivity, specificity and auc with
    NAME_low and NAME_high, and note. Patients are independent, so plain intervals hold.

    Raises:
      PredictionsError: as `check_cases`.
    """
    records: list[dict[str, Any]] = []
    for rule in RULES:
        cases = case_level(predictions, rule)
        found = estimate_measures(
            cases.labels,
            cases.scores,
            cutoff,
            cases.patient_ids,
            names=SHOWN,
            interval=interval,
            clusters=False,
        )
        n, n_positive = len(cases), int(cases.labels.sum())
        notes = [*measure_notes(found), too_small(n_positive, n - n_positive)]
        records.append(
            {
                "rule": rule,
                "n": n,
                "n_positive": n_positive,
                "n_negative": n - n_positive,
                **measure_columns(found, clusters=False),
                "note": "; ".join(filter(None, notes)),
            }
        )
    mixed = [
        patient
        for patient, images, positives in zip(
            cases.patient_ids, cases.columns["n_images"], cases.columns["n_positive"], strict=True
        )
        if positives not in ("0", images)
    ]
    footnotes = [
        "The score of a patient is the mean or the largest of the scores of the images; a patient "
        "with any positive image is positive.",
        f"The cutoff is the one for images, {cutoff:.4g}. The largest score makes sensitivity rise "
        "and specificity fall, the more so the more images a patient has.",
        f"95 % intervals of independent patients: {METHODS[interval]}; AUC: DeLong.",
    ]
    if mixed:
        footnotes.append(
            f"{len(mixed)} of the patients have images of both classes and count as positive "
            f"(first: {mixed[0]})."
        )
    if len(predictions) == len(cases):
        footnotes.append("Each patient has one image: both rules give the figures of the images.")
    return table_of(
        "patient_level",
        f"Performance by patient: {len(cases):,} patients with {len(predictions):,} images.",
        records,
        footnotes,
    )
