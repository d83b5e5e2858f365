"""Is a model worth acting on: net benefit against treating everyone and treating no one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from thyrojax.analysis.bootstrap import (
    affordable_resamples,
    cluster_bootstrap,
    percentile_interval,
    resampling_note,
)
from thyrojax.analysis.calibration import check_probabilities
from thyrojax.analysis.table import Table, table_of
from thyrojax.errors import PredictionsError
from thyrojax.shapes import Float, Int

THRESHOLDS = np.arange(1, 100) / 100.0
# What a missed positive costs against a needless treatment: the odds of the threshold.
_ODDS = THRESHOLDS / (1.0 - THRESHOLDS)


@dataclass(frozen=True, eq=False)
class DecisionCurve:
    """Net benefit per case at `THRESHOLDS`; treating no one has 0. NaN where there is none."""

    model: Float[np.ndarray, " thresholds"]
    treat_all: Float[np.ndarray, " thresholds"]

    @property
    def gain(self) -> Float[np.ndarray, " thresholds"]:
        """How much the model is above the better of treating all and treating none."""
        return self.model - np.maximum(self.treat_all, 0.0)


def decision_curve(
    labels: Int[np.ndarray, " cases"],
    scores: Float[np.ndarray, " cases"],
    prevalence: float | None = None,
) -> DecisionCurve:
    """Net benefit over thresholds of 0.01 to 0.99 (Vickers and Elkin 2006, MDM 26:565).

    A case is treated when its score >= threshold t. The net benefit is TP/n - FP/n * t/(1 - t): in
    units of true positives, with a needless treatment worth t/(1 - t) of them. At a stated
    `prevalence` TP/n is sensitivity * prevalence, FP/n is (1 - specificity) * (1 - prevalence).

    Raises:
      PredictionsError: as `check_probabilities`; a prevalence that is not between 0 and 1.
    """
    check_probabilities(labels, scores)
    _check_prevalence(prevalence)
    positives, negatives = (np.sort(scores[labels == label]) for label in (1, 0))
    model, treat_all = _benefits(
        _treated(np.ones((1, len(positives))), positives),
        _treated(np.ones((1, len(negatives))), negatives),
        prevalence,
    )
    return DecisionCurve(model[0], treat_all[0])


def decision_table(
    labels: Int[np.ndarray, " cases"],
    scores: Float[np.ndarray, " cases"],
    patient_ids: Sequence[str] | None = None,
    prevalence: float | None = None,
    resamples: int = 500,
    seed: int = 0,
) -> Table:
    """The decision curve with percentile bands over resampled patients.

    Without `patient_ids` each case counts as a patient. `standardised` is the net benefit as a
    share of the largest possible, the prevalence. `gain` is the model less the better of treating
    all and treating none, resampled as one figure.

    Raises:
      PredictionsError: as `decision_curve`; `patient_ids` of another length.
    """
    curve = decision_curve(labels, scores, prevalence)
    patients = [str(i) for i in range(len(labels))] if patient_ids is None else patient_ids
    if len(patients) != len(labels):
        raise PredictionsError(
            f"patient_ids: found {len(patients)}, expected {len(labels)} (one per case)"
        )
    n_patients = len(set(patients))
    model_bands, gain_bands = _bands(labels, scores, patients, prevalence, resamples, seed)
    share = float(np.mean(labels)) if prevalence is None else prevalence
    lowest, highest = float(scores.min()), float(scores.max())
    records: list[dict[str, Any]] = []
    for k, threshold in enumerate(THRESHOLDS.tolist()):
        model, gain = _known(curve.model[k]), _known(curve.gain[k])
        notes = []
        if model is None:
            notes.append(f"no net benefit at a stated prevalence: {_one_class(labels)}")
        if model is not None and share == 0.0:
            notes.append("no standardised net benefit: no case of class 1")
        if highest < threshold:
            notes.append("no case reaches this threshold, as if none were treated")
        elif lowest >= threshold:
            notes.append("every case reaches this threshold, as if all were treated")
        if model is not None and (model_bands[k] is None or gain_bands[k] is None):
            notes.append(
                "no band: a single patient cannot be resampled"
                if n_patients == 1
                else "no band where the resamples do not differ"
            )
        model_low, model_high = model_bands[k] or (None, None)
        gain_low, gain_high = gain_bands[k] or (None, None)
        records.append(
            {
                "threshold": threshold,
                "model": model,
                "treat_all": float(curve.treat_all[k]),
                "treat_none": 0.0,
                "model_low": model_low,
                "model_high": model_high,
                "standardised": None if model is None or share == 0.0 else model / share,
                "gain": gain,
                "gain_low": gain_low,
                "gain_high": gain_high,
                "n": len(labels),
                "note": "; ".join(notes),
            }
        )
    return table_of(
        "decision_curve",
        f"Net benefit of treating the cases that score at or above a threshold "
        f"(n = {len(labels):,}).",
        records,
        [
            "Net benefit: TP/n - FP/n * t/(1 - t) at threshold t (Vickers and Elkin 2006); "
            "treating no one has 0. It takes the scores as probabilities; see the calibration.",
            _prevalence_note(labels, prevalence),
            "Standardised: net benefit over the prevalence, the largest possible. Gain: the model "
            "less the better of treating all and treating none.",
            _above_note(records),
            resampling_note(len(labels), n_patients, resamples, seed),
        ],
    )


def _bands(
    labels: Int[np.ndarray, " cases"],
    scores: Float[np.ndarray, " cases"],
    patients: Sequence[str],
    prevalence: float | None,
    resamples: int,
    seed: int,
) -> tuple[list[tuple[float, float] | None], list[tuple[float, float] | None]]:
    """Percentile intervals of the net benefit and of the gain at each threshold."""
    negatives, positives = np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)
    # Sorted once: what reaches a threshold is then a run of neighbouring cases.
    order = np.concatenate([part[np.argsort(scores[part])] for part in (negatives, positives)])
    rising = scores[order]
    cut = len(negatives)

    def statistic(weights: Float[np.ndarray, "chunk cases"]) -> dict[str, np.ndarray]:
        model, treat_all = _benefits(
            _treated(weights[:, cut:], rising[cut:]),
            _treated(weights[:, :cut], rising[:cut]),
            prevalence,
        )
        gain = model - np.maximum(treat_all, 0.0)
        return {
            f"{name} {k}": values[:, k]
            for name, values in (("model", model), ("gain", gain))
            for k in range(len(THRESHOLDS))
        }

    found = cluster_bootstrap(
        statistic,
        [patients[case] for case in order.tolist()],
        affordable_resamples(len(labels), resamples),
        seed,
    )
    model, gain = (
        [_wide(percentile_interval(found[f"{name} {k}"])) for k in range(len(THRESHOLDS))]
        for name in ("model", "gain")
    )
    return model, gain


def _treated(
    weights: Float[np.ndarray, "chunk cases"], rising: Float[np.ndarray, " cases"]
) -> Float[np.ndarray, "chunk counts"]:
    """How many of the cases there are, then how many of them reach each threshold."""
    below = np.zeros((len(weights), len(rising) + 1))
    np.cumsum(weights, axis=1, out=below[:, 1:])
    first_treated = np.searchsorted(rising.astype(np.float64), THRESHOLDS, side="left")
    return below[:, -1:] - below[:, np.append(0, first_treated)]


def _benefits(
    positives: Float[np.ndarray, "chunk counts"],
    negatives: Float[np.ndarray, "chunk counts"],
    prevalence: float | None,
) -> tuple[Float[np.ndarray, "chunk thresholds"], Float[np.ndarray, "chunk thresholds"]]:
    """Net benefit of the model and of treating all, from what `_treated` counts."""
    n_positive, n_negative = positives[:, :1], negatives[:, :1]
    if prevalence is None:
        n = n_positive + n_negative
        return (
            positives[:, 1:] / n - negatives[:, 1:] / n * _ODDS[np.newaxis],
            n_positive / n - n_negative / n * _ODDS[np.newaxis],
        )
    with np.errstate(invalid="ignore"):  # 0 / 0 where a class has no case
        sensitivity, false_positive_rate = (
            positives[:, 1:] / n_positive,
            negatives[:, 1:] / n_negative,
        )
    cost = (1.0 - prevalence) * _ODDS[np.newaxis]
    treat_all = np.broadcast_to(prevalence - cost, sensitivity.shape)
    return sensitivity * prevalence - false_positive_rate * cost, treat_all


def _check_prevalence(prevalence: float | None) -> None:
    if prevalence is not None and not 0.0 < prevalence < 1.0:
        raise PredictionsError(
            f"prevalence: found {prevalence:g}, expected a share between 0 and 1"
        )


def _prevalence_note(labels: Int[np.ndarray, " cases"], prevalence: float | None) -> str:
    of_cases = f"the prevalence among these cases is {np.mean(labels):.3f}"
    if prevalence is not None:
        return f"Prevalence as stated, {prevalence:g}, taken as known ({of_cases})."
    return (
        f"No prevalence was stated: {of_cases}, and net benefit holds for a population with that "
        "prevalence only."
    )


def _above_note(records: Sequence[dict[str, Any]]) -> str:
    """Where the model is worth more than both ways of doing without it."""
    above = [record["gain"] is not None and record["gain"] > 0.0 for record in records]
    surely = [record["gain_low"] is not None and record["gain_low"] > 0.0 for record in records]
    return (
        f"The model is above both treating all and treating none at thresholds: {_runs(above)}; "
        f"with the whole interval of the gain above 0 at: {_runs(surely)}. Each threshold is taken "
        "by itself, without correction for their number."
    )


def _runs(chosen: Sequence[bool]) -> str:
    """The chosen thresholds as runs of neighbours, such as "0.05 to 0.71, 0.80"."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], chosen, [False]]).astype(int)))
    runs = zip(THRESHOLDS[edges[::2]], THRESHOLDS[edges[1::2] - 1], strict=True)
    words = [f"{low:.2f}" if low == high else f"{low:.2f} to {high:.2f}" for low, high in runs]
    return ", ".join(words) or "none"


def _wide(interval: tuple[float, float] | None) -> tuple[float, float] | None:
    """None for an interval of no width: resamples that cannot differ say nothing."""
    return None if interval is None or interval[0] == interval[1] else interval


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _one_class(labels: Int[np.ndarray, " cases"]) -> str:
    return f"all cases are of class {labels[0]}"
