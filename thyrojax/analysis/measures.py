"""Every measure of one model at one cutoff, with its plain and its cluster interval."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from thyrojax.analysis.bootstrap import (
    RESAMPLES,
    Statistic,
    affordable_resamples,
    cluster_bootstrap,
    patient_numbers,
    percentile_interval,
    weighted_auc,
    weighted_counts,
)
from thyrojax.analysis.calibration import brier_score
from thyrojax.analysis.confusion import Confusion, count_confusion, rates
from thyrojax.analysis.cutoff import call_positive
from thyrojax.analysis.intervals import (
    METHODS,
    Interval,
    Proportions,
    inverted,
    mean_interval,
    odds_ratio_interval,
    predictive_interval,
    proportion_interval,
    ratio_interval,
    sample_mean_interval,
)
from thyrojax.analysis.roc import AucEstimate, estimate_auc
from thyrojax.errors import PredictionsError
from thyrojax.shapes import Float, Int

MEASURES = (
    "accuracy",
    "balanced accuracy",
    "sensitivity",
    "specificity",
    "PPV",
    "NPV",
    "PPV at prevalence",
    "NPV at prevalence",
    "LR+",
    "LR-",
    "diagnostic odds ratio",
    "F1",
    "MCC",
    "AUC",
    "Brier",
)
_BY_BOOTSTRAP = ("F1", "MCC")
_NO_CLASS = {0: "no case of class 0", 1: "no case of class 1"}


@dataclass(frozen=True)
class Measure:
    """One figure. What cannot be given is None, and a note then says why.

    Attributes:
      interval: takes the cases as independent.
      cluster_interval: from resampled patients; `cluster_note` is about it alone.
      n: the number of cases that the figure is about (of sensitivity, those of class 1).
      method: of `interval`, in words; "none" where there is none.
    """

    value: float | None
    interval: tuple[float, float] | None
    cluster_interval: tuple[float, float] | None
    n: int
    method: str
    note: str
    cluster_note: str = ""


def estimate_measures(
    labels: Int[np.ndarray, " cases"],
    scores: Float[np.ndarray, " cases"],
    cutoff: float,
    patient_ids: Sequence[str],
    *,
    names: Collection[str] = MEASURES,
    interval: Proportions = "wilson",
    prevalence: float | None = None,
    clusters: bool = True,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Measure]:
    """The measures asked for, in the order of `MEASURES`; those at a prevalence where it is stated.

    Plain intervals: proportions by `interval`, ratios on the log scale, predictive values at a
    prevalence on the logit scale, AUC by DeLong on the logit scale, F1 and MCC by a bootstrap of
    the images, and the Brier score as a mean of squares by the normal distribution.

    Cluster intervals: percentiles over resampled patients. Where all resamples are alike (no error
    among the cases), a proportion has the interval of its patients counted once each instead, and
    an AUC of 1 or 0 the exact one of disjoint pairs of patients. Without `clusters` there are none.

    Raises:
      PredictionsError: as `check_cases`; a prevalence outside 0..1; more or fewer `patient_ids`.
    """
    counts = count_confusion(labels, scores, cutoff)
    if prevalence is not None and not 0.0 < prevalence < 1.0:
        raise PredictionsError(
            f"prevalence: found {prevalence:g}, expected a share between 0 and 1"
        )
    if len(patient_ids) != len(labels):
        raise PredictionsError(
            f"patient_ids: found {len(patient_ids)}, expected {len(labels)} (one per case)"
        )
    wanted = [
        name
        for name in MEASURES
        if name in names and (prevalence is not None or "at prevalence" not in name)
    ]
    values, area = _values(labels, scores, counts, prevalence)
    patients = patient_numbers(patient_ids)
    used = affordable_resamples(len(labels), resamples)
    of_patients: dict[str, np.ndarray] = {}
    if clusters:
        statistic = measure_statistic(labels, scores, cutoff, wanted, prevalence)
        of_patients = cluster_bootstrap(statistic, patient_ids, used, seed)
    members = _members(labels, call_positive(scores, cutoff))
    found: dict[str, Measure] = {}
    for name in wanted:
        value, cases = values[name], int(members[name].sum())
        if value is None:
            found[name] = Measure(None, None, None, cases, "none", _reason(name, counts))
            continue
        limits: tuple[float, float] | None
        note = ""
        if name in _BY_BOOTSTRAP:
            of_images = _resampled_images(counts, used, seed)[name]
            limits, note = resampled_interval(of_images, len(labels), "image")
            method = "bootstrap of images"
        elif name == "Brier":
            limits = sample_mean_interval((scores.astype(np.float64) - labels) ** 2)
            method = "mean of squares, normal"
            note = "" if limits else "no spread of the squares to tell an interval from"
        else:
            own = _plain_interval(name, counts, area, interval, prevalence)
            limits, method = (None, "none") if own is None else (own[:2], own.method)
            if name == "AUC" and area is not None:
                note = area.note
        method = method if limits else "none"
        of_clusters, cluster_note = None, ""
        if clusters:
            of_clusters, cluster_note = _cluster_interval(
                name, value, of_patients[name], patients, members[name], labels, interval
            )
        found[name] = Measure(value, limits, of_clusters, cases, method, note, cluster_note)
    return found


def measure_columns(found: dict[str, Measure], clusters: bool) -> dict[str, float | None]:
    """The cells of a table that has one row per group: NAME, NAME_low, NAME_high of each measure.

    With `clusters` also NAME_cluster_low and NAME_cluster_high, after all the others.
    """
    cells: dict[str, float | None] = {}
    for name, measure in found.items():
        low, high = measure.interval or (None, None)
        key = name.lower()
        cells |= {key: measure.value, f"{key}_low": low, f"{key}_high": high}
    if clusters:
        for name, measure in found.items():
            low, high = measure.cluster_interval or (None, None)
            cells |= {f"{name.lower()}_cluster_low": low, f"{name.lower()}_cluster_high": high}
    return cells


def measure_notes(found: dict[str, Measure]) -> list[str]:
    """The notes of all measures, each once, with the measures that it is about in front."""
    about: dict[str, list[str]] = {}
    for name, measure in found.items():
        for note in filter(None, (measure.note, measure.cluster_note)):
            about.setdefault(note, []).append(name)
    return [f"{', '.join(names)}: {note}" for note, names in about.items()]


def _values(
    labels: Int[np.ndarray, " cases"],
    scores: Float[np.ndarray, " cases"],
    counts: Confusion,
    prevalence: float | None,
) -> tuple[dict[str, float | None], AucEstimate | None]:
    """Each measure of the cases themselves, None where they do not give it; the AUC in full."""
    each = zip(("tp", "fn", "tn", "fp"), counts, strict=True)
    of_counts = rates({name: np.array([float(count)]) for name, count in each}, prevalence)
    values = {
        name: None if np.isnan(value[0]) else float(value[0]) for name, value in of_counts.items()
    }
    area = estimate_auc(labels, scores) if labels.min() != labels.max() else None
    return values | {"AUC": area.auc if area else None, "Brier": brier_score(labels, scores)}, area


def _plain_interval(
    name: str,
    counts: Confusion,
    area: AucEstimate | None,
    method: Proportions,
    prevalence: float | None,
) -> Interval | None:
    """The interval of a measure that has one without resampling."""
    tp, fn, tn, fp = counts
    positive, negative = tp + fn, tn + fp
    if name == "AUC":
        if area is None or area.interval is None:
            return None
        return Interval(*area.interval, area.method)
    if name == "balanced accuracy":
        return mean_interval(tp, positive, tn, negative, method)
    if name == "diagnostic odds ratio":
        return odds_ratio_interval(tp, fn, fp, tn)
    if name in ("LR+", "PPV at prevalence"):
        raised = ratio_interval(tp, positive, fp, negative)
        return (
            raised
            if prevalence is None or name == "LR+"
            else predictive_interval(raised, prevalence)
        )
    if name in ("LR-", "NPV at prevalence"):
        lowered = ratio_interval(fn, positive, tn, negative)
        return (
            lowered
            if prevalence is None or name == "LR-"
            else predictive_interval(inverted(lowered), 1.0 - prevalence)
        )
    successes, total = {
        "accuracy": (tp + tn, positive + negative),
        "sensitivity": (tp, positive),
        "specificity": (tn, negative),
        "PPV": (tp, tp + fp),
        "NPV": (tn, tn + fn),
    }[name]
    limits = proportion_interval(successes, total, method)
    return None if limits is None else Interval(*limits, METHODS[method])


def measure_statistic(
    labels: Int[np.ndarray, " cases"],
    scores: Float[np.ndarray, " cases"],
    cutoff: float,
    names: Collection[str],
    prevalence: float | None,
) -> Statistic:
    """A statistic that gives the measures asked for, of each resample."""
    of_counts = weighted_counts(labels, call_positive(scores, cutoff))
    of_scores = weighted_auc(labels, scores) if "AUC" in names else None
    squares = (scores.astype(np.float64) - labels) ** 2

    def statistic(weights: Float[np.ndarray, "chunk cases"]) -> dict[str, np.ndarray]:
        found = rates(of_counts(weights), prevalence)
        if of_scores is not None:
            found["AUC"] = of_scores(weights)["auc"]
        if "Brier" in names:
            found["Brier"] = weights @ squares / weights.sum(axis=1)
        return {name: found[name] for name in names}

    return statistic


def _resampled_images(
    counts: Confusion, resamples: int, seed: int
) -> dict[str, Float[np.ndarray, " resamples"]]:
    """The measures that counts give, over resamples of the images.

    The four counts of resampled images have a multinomial distribution: no image need be drawn.
    """
    n = sum(counts)
    drawn = np.random.default_rng(seed).multinomial(n, np.array(counts) / n, size=resamples)
    return rates(dict(zip(("tp", "fn", "tn", "fp"), drawn.T.astype(np.float64), strict=True)))


def _members(labels: Int[np.ndarray, " cases"], called: np.ndarray) -> dict[str, np.ndarray]:
    """The cases that each measure is about."""
    everyone = np.ones(len(labels), dtype=bool)
    parts = {
        "sensitivity": labels == 1,
        "specificity": labels == 0,
        "PPV": called,
        "NPV": ~called,
    }
    return {name: parts.get(name, everyone) for name in MEASURES}


def resampled_interval(
    values: Float[np.ndarray, " resamples"], units: int, unit: str
) -> tuple[tuple[float, float] | None, str]:
    """The percentile interval, or None and the reason."""
    if units == 1:
        return None, f"a single {unit} cannot be resampled"
    limits = percentile_interval(values)
    if limits is None:
        return None, f"over 10 % of the resamples of {unit}s have no value"
    if limits[0] == limits[1]:
        return None, f"the resamples of {unit}s are all alike"
    return limits, ""


def _cluster_interval(
    name: str,
    value: float,
    resampled: Float[np.ndarray, " resamples"],
    patients: Int[np.ndarray, " cases"],
    members: np.ndarray,
    labels: Int[np.ndarray, " cases"],
    method: Proportions,
) -> tuple[tuple[float, float] | None, str]:
    limits, note = resampled_interval(resampled, int(patients.max()) + 1, "patient")
    if limits is not None or value not in (0.0, 1.0):
        return limits, note
    if name in ("accuracy", "sensitivity", "specificity", "PPV", "NPV"):
        n = len(np.unique(patients[members]))
        limits = proportion_interval(n if value == 1.0 else 0, n, method)
        how = f"{METHODS[method]}, {n} patients counted once each"
    elif name == "AUC":
        with_positive = set(patients[labels == 1].tolist())
        with_negative = set(patients[labels == 0].tolist())
        # Pairs without a patient in common, as many as can be formed.
        pairs = min(len(with_positive), len(with_negative), len(with_positive | with_negative) // 2)
        if pairs == 0:
            return None, note
        bound = 0.025 ** (1.0 / pairs)
        limits = (bound, 1.0) if value == 1.0 else (0.0, 1.0 - bound)
        how = f"exact, from {pairs} disjoint pairs of patients"
    else:
        return None, note
    return limits, f"{note}, so the cluster interval is another ({how})"


def _reason(name: str, counts: Confusion) -> str:
    """Why a measure has no value."""
    tp, fn, tn, fp = counts
    lacking = [_NO_CLASS[label] for label, n in ((1, tp + fn), (0, tn + fp)) if n == 0]
    if name == "sensitivity":
        lacking = [_NO_CLASS[1]]
    elif name == "specificity":
        lacking = [_NO_CLASS[0]]
    elif name == "PPV":
        lacking = ["no case was called positive"]
    elif name == "NPV":
        lacking = ["no case was called negative"]
    elif name == "F1":
        lacking = ["no case of class 1 and none called positive"]
    if lacking:
        return " and ".join(lacking)
    return "no case was called positive" if tp + fp == 0 else "no case was called negative"
