"""What a model does at one cutoff, with intervals: the content of metrics.json."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from thyrojax.analysis.calibration import brier_score, expected_calibration_error
from thyrojax.analysis.cutoff import call_positive
from thyrojax.analysis.predictions import check_cases
from thyrojax.analysis.roc import estimate_auc
from thyrojax.files import write_whole
from thyrojax.shapes import Float, Int


class Confusion(NamedTuple):
    """Counts of cases by truth and call."""

    true_positive: int
    false_negative: int
    true_negative: int
    false_positive: int


def count_confusion(
    labels: Int[np.ndarray, " cases"], scores: Float[np.ndarray, " cases"], cutoff: float
) -> Confusion:
    """Counts with every score >= cutoff called positive.

    Raises:
      PredictionsError: as `check_cases`.
    """
    check_cases(labels, scores)
    called = call_positive(scores, cutoff)
    true_positive = int(np.sum(called & (labels == 1)))
    false_positive = int(np.sum(called & (labels == 0)))
    n_positive = int(np.sum(labels == 1))
    n_negative = len(labels) - n_positive
    return Confusion(
        true_positive, n_positive - true_positive, n_negative - false_positive, false_positive
    )


def wilson_interval(
    successes: int, total: int, confidence: float = 0.95
) -> tuple[float, float] | None:
    """Wilson's score interval of a proportion (Wilson 1927, JASA 22:209); None for 0 of 0."""
    if total == 0:
        return None
    from scipy.stats import binomtest

    interval = binomtest(successes, total).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def summarise(
    labels: Int[np.ndarray, " cases"],
    scores: Float[np.ndarray, " cases"],
    cutoff: float,
    cutoff_from: str,
    patient_ids: Sequence[str],
) -> dict[str, Any]:
    """The content of metrics.json: counts, AUC (DeLong, logit) and proportions (Wilson), 95 %.

    Plain Python values only. A figure that the cases cannot give is None, and `NAME_reason` beside
    it says why. `NAME_ci` is [low, high]. Intervals take the images as independent;
    `intervals_note` says so where patients have several.

    Raises:
      PredictionsError: as `check_cases`.
    """
    check_cases(labels, scores)
    counts = count_confusion(labels, scores, cutoff)
    n, n_patients = len(labels), len(set(patient_ids))
    n_positive = counts.true_positive + counts.false_negative
    n_negative = counts.true_negative + counts.false_positive
    metrics: dict[str, Any] = {
        "n": n,
        "n_patients": n_patients,
        "n_positive": n_positive,
        "n_negative": n_negative,
        **_auc_entries(labels, scores),
        **_proportion("accuracy", counts.true_positive + counts.true_negative, n, "no case"),
        **_proportion("sensitivity", counts.true_positive, n_positive, "no case of class 1"),
        **_proportion("specificity", counts.true_negative, n_negative, "no case of class 0"),
        **_proportion(
            "ppv",
            counts.true_positive,
            counts.true_positive + counts.false_positive,
            "no case was called positive",
        ),
        **_proportion(
            "npv",
            counts.true_negative,
            counts.true_negative + counts.false_negative,
            "no case was called negative",
        ),
        **counts._asdict(),
        "brier": brier_score(labels, scores),
        "ece": expected_calibration_error(labels, scores),
        "cutoff": float(cutoff),
        "cutoff_from": cutoff_from,
    }
    if n_patients < n:
        metrics["intervals_note"] = (
            f"{n} images of {n_patients} patients: the intervals take images as independent "
            "and are too short to that extent"
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


def _proportion(name: str, successes: int, total: int, reason: str) -> dict[str, Any]:
    interval = wilson_interval(successes, total)
    if interval is None:
        return {
            name: None,
            f"{name}_reason": reason,
            f"{name}_ci": None,
            f"{name}_ci_reason": reason,
        }
    return {name: successes / total, f"{name}_ci": list(interval)}
