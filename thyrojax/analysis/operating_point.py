"""What a model does at one cutoff, with intervals: metrics.json and the first table of a study."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from thyrojax.analysis.bootstrap import RESAMPLES, resampling_note
from thyrojax.analysis.calibration import brier_score, expected_calibration_error
from thyrojax.analysis.confusion import Confusion, count_confusion
from thyrojax.analysis.intervals import METHODS, Proportions, proportion_interval, wilson_interval
from thyrojax.analysis.measures import estimate_measures
from thyrojax.analysis.predictions import check_cases
from thyrojax.analysis.roc import estimate_auc
from thyrojax.analysis.table import Table, table_of
from thyrojax.files import write_whole
from thyrojax.shapes import Float, Int

__all__ = [
    "Confusion",
    "count_confusion",
    "operating_table",
    "summarise",
    "wilson_interval",
    "write_metrics",
]

# The measures of metrics.json that have an interval, as `measures.py` names them.
_SUMMARISED = ("AUC", "accuracy", "sensitivity", "specificity", "PPV", "NPV")


def operating_table(
    labels: Int[np.ndarray, " cases"],
    scores: Float[np.ndarray, " cases"],
    cutoff: float,
    patient_ids: Sequence[str],
    *,
    interval: Proportions = "wilson",
    prevalence: float | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Table:
    """Every measure at the cutoff, one per row, each with its plain and its cluster interval.

    Columns: metric, value, ci_low, ci_high, n, ci_method, cluster_ci_low, cluster_ci_high, note.
    PPV and NPV at a prevalence have rows where one is stated. A likelihood or odds ratio may be
    infinite.

    Raises:
      PredictionsError: as `estimate_measures`.
    """
    found = estimate_measures(
        labels,
        scores,
        cutoff,
        patient_ids,
        interval=interval,
        prevalence=prevalence,
        resamples=resamples,
        seed=seed,
    )
    records = []
    for name, measure in found.items():
        low, high = measure.interval or (None, None)
        cluster_low, cluster_high = measure.cluster_interval or (None, None)
        records.append(
            {
                "metric": name,
                "value": measure.value,
                "ci_low": low,
                "ci_high": high,
                "n": measure.n,
                "ci_method": measure.method,
                "cluster_ci_low": cluster_low,
                "cluster_ci_high": cluster_high,
                "note": "; ".join(filter(None, (measure.note, measure.cluster_note))),
            }
        )
    n, n_patients = len(labels), len(set(patient_ids))
    footnotes = [
        "Called positive: score >= cutoff. AUC and Brier score do not depend on the cutoff. n is "
        "the number of images that a measure is about.",
        f"95 % intervals. Proportions: {METHODS[interval]}. Likelihood ratios and diagnostic odds "
        "ratio: symmetric on the log scale, with 0.5 added to each cell where one is 0. AUC: "
        "DeLong's variance. F1 and MCC: bootstrap. Brier score: normal. These take the images as "
        "independent.",
        resampling_note(n, n_patients, resamples, seed),
        f"PPV and NPV are those of the sample, in which {np.mean(labels):.1%} of the images are "
        "positive.",
    ]
    if prevalence is not None:
        footnotes.append(
            f"PPV and NPV at prevalence: for a share of {prevalence:g} positive, taken as known, "
            "from sensitivity and specificity (Mercaldo et al. 2007)."
        )
    if n_patients < n:
        footnotes.append("Patients have several images: the cluster intervals are the ones to use.")
    return table_of(
        "operating_point",
        f"Performance at the cutoff {cutoff:.4g}: {n:,} images of {n_patients:,} patients.",
        records,
        footnotes,
    )


def summarise(
    labels: Int[np.ndarray, " cases"],
    scores: Float[np.ndarray, " cases"],
    cutoff: float,
    cutoff_from: str,
    patient_ids: Sequence[str],
    clusters: bool = False,
    resamples: int = RESAMPLES,
    seed: int = 0,
    interval: Proportions = "wilson",
) -> dict[str, Any]:
    """The content of metrics.json: counts, AUC (DeLong, logit) and proportions (Wilson), 95 %.

    Plain Python values only. A figure that the cases cannot give is None, and `NAME_reason` beside
    it says why. `NAME_ci` is [low, high] and takes the images as independent; where patients have
    several, `intervals_note` says so, and with `clusters` there is `NAME_ci_cluster` from resampled
    patients (which takes seconds where there are many cases).

    Raises:
      PredictionsError: as `check_cases`.
    """
    check_cases(labels, scores)
    counts = count_confusion(labels, scores, cutoff)
    n, n_patients = len(labels), len(set(patient_ids))
    n_positive = counts.true_positive + counts.false_negative
    n_negative = counts.true_negative + counts.false_positive
    n_called = counts.true_positive + counts.false_positive
    right = counts.true_positive + counts.true_negative
    metrics: dict[str, Any] = {
        "n": n,
        "n_patients": n_patients,
        "n_positive": n_positive,
        "n_negative": n_negative,
        **_auc_entries(labels, scores),
    }
    for name, successes, total, reason in (
        ("accuracy", right, n, "no case"),
        ("sensitivity", counts.true_positive, n_positive, "no case of class 1"),
        ("specificity", counts.true_negative, n_negative, "no case of class 0"),
        ("ppv", counts.true_positive, n_called, "no case was called positive"),
        ("npv", counts.true_negative, n - n_called, "no case was called negative"),
    ):
        metrics |= _proportion(name, successes, total, reason, interval)
    metrics |= {
        **counts._asdict(),
        "brier": brier_score(labels, scores),
        "ece": expected_calibration_error(labels, scores),
        "cutoff": float(cutoff),
        "cutoff_from": cutoff_from,
    }
    if n_patients == n:
        return metrics
    metrics["intervals_note"] = (
        f"{n} images of {n_patients} patients: the intervals take images as independent "
        "and are too short to that extent"
    )
    if clusters:
        found = estimate_measures(
            labels,
            scores,
            cutoff,
            patient_ids,
            names=_SUMMARISED,
            interval=interval,
            resamples=resamples,
            seed=seed,
        )
        for name, measure in found.items():
            key = f"{name.lower()}_ci_cluster"
            limits = measure.cluster_interval
            metrics[key] = None if limits is None else list(limits)
            if limits is None:
                metrics[f"{key}_reason"] = measure.cluster_note or measure.note
        metrics["intervals_note"] = (
            f"{n} images of {n_patients} patients: intervals that take images as independent are "
            "too short; those of resampled patients (NAME_ci_cluster) are the ones to use"
        )
    return metrics


def write_metrics(path: Path, metrics: dict[str, Any]) -> None:
    """Writes metrics.json, whole or not at all; a number that is not finite becomes null.

    Raises:
      ThyrojaxError: the place cannot be written.
    """
    clean: dict[str, Any] = {}
    for name, value in metrics.items():
        if isinstance(value, float) and not math.isfinite(value):
            clean[name] = None
            clean[f"{name}_reason"] = metrics.get(f"{name}_reason", f"not finite ({value})")
        else:
            clean.setdefault(name, value)
    write_whole(path, (json.dumps(clean, indent=2, allow_nan=False) + "\n").encode())


def _auc_entries(
    labels: Int[np.ndarray, " cases"], scores: Float[np.ndarray, " cases"]
) -> dict[str, Any]:
    if labels.min() == labels.max():
        reason = f"all cases are of class {int(labels[0])}"
        return {"auc": None, "auc_reason": reason, "auc_ci": None, "auc_ci_reason": reason}
    estimate = estimate_auc(labels, scores)
    entries: dict[str, Any] = {"auc": estimate.auc}
    if estimate.interval is None:
        entries |= {"auc_ci": None, "auc_ci_reason": estimate.note}
    else:
        entries["auc_ci"] = list(estimate.interval)
    entries["auc_ci_method"] = estimate.method
    return entries


def _proportion(
    name: str, successes: int, total: int, reason: str, method: Proportions
) -> dict[str, Any]:
    limits = proportion_interval(successes, total, method)
    if limits is None:
        return {
            name: None,
            f"{name}_reason": reason,
            f"{name}_ci": None,
            f"{name}_ci_reason": reason,
        }
    return {name: successes / total, f"{name}_ci": list(limits)}
