"""Intervals by resampling patients, so that several images of one patient count as one draw.

A resample is a set of case weights: how often the case's patient was drawn. A statistic works on
many resamples at once, as rows of weights, without building any resampled array of cases.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from thyrojax.analysis.predictions import check_cases
from thyrojax.errors import PredictionsError
from thyrojax.shapes import Bool, Float, Int

Statistic = Callable[[Float[np.ndarray, "chunk cases"]], dict[str, Float[np.ndarray, " chunk"]]]

RESAMPLES = 2000
# Weights per chunk: 512 KiB as float64, which stays in a core's cache.
_CHUNK_CELLS = 1 << 16
# 2,000 resamples of 50,000 cases; above it, fewer resamples, but never fewer than 200.
_MOST_CELLS = 10**8
_FEWEST_RESAMPLES = 200
# An interval of fewer resamples than this share would be one of a selection of them.
_ENOUGH = 0.9
# Cameron et al. 2008 (Rev Econ Stat 90:414): resampled clusters understate the spread of few ones.
_FEW_PATIENTS = 30


def cluster_bootstrap(
    statistic: Statistic,
    patient_ids: Sequence[str],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Float[np.ndarray, " resamples"]]:
    """A statistic's values over resamples of the patients, each patient with all of its cases.

    Each resample draws as many patients as there are, with replacement (Field and Welsh 2007, JRSS
    B 69:369, the "cluster bootstrap"). With one case per patient it is the ordinary bootstrap. The
    draws depend on the seed, the set of patients and the number of resamples alone: two statistics
    of the same cases see the same resamples, also where their rows stand in another order.

    Args:
      statistic: takes case weights (one row per resample, whole numbers as float64), gives one
        value per row and name; NaN where a resample has no value.
      patient_ids: one per case, in the order of the statistic's cases.

    Returns:
      The values by name. With a single patient all resamples are that patient, and no value is
      given: NaN throughout.

    Raises:
      PredictionsError: no case, or fewer than one resample.
    """
    if not len(patient_ids):
        raise PredictionsError("patient_ids: found no case, expected at least one")
    if resamples < 1:
        raise PredictionsError(f"resamples: found {resamples}, expected at least 1")
    patient_of_case = patient_numbers(patient_ids)
    n_patients = int(patient_of_case.max()) + 1
    random = np.random.default_rng(seed)
    chunk = max(1, _CHUNK_CELLS // len(patient_ids))
    values: dict[str, list[np.ndarray]] = {}
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        drawn = random.integers(n_patients, size=(rows, n_patients))
        drawn += n_patients * np.arange(rows)[:, np.newaxis]
        times = np.bincount(drawn.ravel(), minlength=rows * n_patients).reshape(rows, n_patients)
        weights = times.astype(np.float64).take(patient_of_case, axis=1)
        for name, part in statistic(weights).items():
            values.setdefault(name, []).append(part)
    joined = {name: np.concatenate(parts) for name, parts in values.items()}
    if n_patients == 1:
        return {name: np.full(resamples, math.nan) for name in joined}
    return joined


def percentile_interval(
    values: Float[np.ndarray, " resamples"], confidence: float = 0.95
) -> tuple[float, float] | None:
    """The middle `confidence` of a statistic's resamples (Efron 1981, Canad J Stat 9:139).

    NaN is left out; None where fewer than 90 % of the resamples have a value. Infinite values
    (ratios with a denominator of 0) count as values, and a limit may then be infinite.
    """
    ordered = np.sort(values[~np.isnan(values)])
    if len(ordered) < max(1.0, _ENOUGH * len(values)):
        return None
    tail = (1.0 - confidence) / 2.0
    return _quantile(ordered, tail), _quantile(ordered, 1.0 - tail)


def patient_numbers(patient_ids: Sequence[str]) -> Int[np.ndarray, " cases"]:
    """Each case's patient as a number from 0, in the order of the sorted ids."""
    number = {patient: index for index, patient in enumerate(sorted(set(patient_ids)))}
    return np.array([number[patient] for patient in patient_ids], dtype=np.int64)


def affordable_resamples(cases: int, resamples: int = RESAMPLES) -> int:
    """As many resamples as asked for, or fewer where the cases are so many that it takes minutes.

    Never fewer than 200 (or than asked for). `resampling_note` says it where it is fewer.
    """
    return min(resamples, max(_FEWEST_RESAMPLES, _MOST_CELLS // max(1, cases)))


def resampling_note(cases: int, patients: int, resamples: int, seed: int) -> str:
    """The sentence that a table's footnotes have on its cluster intervals.

    `resamples` is what was asked for; the sentence says so where fewer were affordable.
    """
    used = affordable_resamples(cases, resamples)
    sentence = (
        f"Cluster intervals: 95 % percentile intervals of {used:,} bootstrap resamples of the "
        f"{patients:,} patients, each with all of its images (seed {seed})."
    )
    if used < resamples:
        sentence += f" {resamples:,} resamples were asked for; the cases are too many for them."
    if patients < _FEW_PATIENTS:
        sentence += f" Of fewer than {_FEW_PATIENTS} patients such intervals are too short."
    return sentence


def weighted_auc(
    labels: Int[np.ndarray, " cases"], scores: Float[np.ndarray, " cases"]
) -> Statistic:
    """A statistic that gives `auc`: the chance that a positive outscores a negative, ties one half.

    The scores are sorted once; each resample then takes time in proportion to the cases. NaN in a
    resample without positives or without negatives.

    Raises:
      PredictionsError: as `check_cases`.
    """
    check_cases(labels, scores)
    positives, negatives = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    negatives = negatives[np.argsort(scores[negatives], kind="stable")]
    # Rising order too: the look-ups below then walk through memory instead of jumping.
    positives = positives[np.argsort(scores[positives], kind="stable")]
    below = np.searchsorted(scores[negatives], scores[positives], side="left")
    not_above = np.searchsorted(scores[negatives], scores[positives], side="right")
    untied = bool(np.array_equal(below, not_above))

    def statistic(weights: Float[np.ndarray, "chunk cases"]) -> dict[str, np.ndarray]:
        of_positives = weights.take(positives, axis=1)
        rising = np.zeros((len(weights), len(negatives) + 1))
        np.cumsum(weights.take(negatives, axis=1), axis=1, out=rising[:, 1:])
        won = np.einsum("ij,ij->i", of_positives, rising.take(below, axis=1))
        if not untied:
            won += np.einsum("ij,ij->i", of_positives, rising.take(not_above, axis=1))
            won /= 2.0
        return {"auc": ratio(won, of_positives.sum(axis=1) * rising[:, -1])}

    return statistic


def weighted_counts(
    labels: Int[np.ndarray, " cases"], called: Bool[np.ndarray, " cases"]
) -> Statistic:
    """A statistic that gives `tp`, `fn`, `tn` and `fp`: the resample's cases by truth and call."""
    truth = labels == 1
    member = np.stack([truth & called, truth & ~called, ~truth & ~called, ~truth & called], axis=1)
    member = member.astype(np.float64)

    def statistic(weights: Float[np.ndarray, "chunk cases"]) -> dict[str, np.ndarray]:
        # Sums of whole numbers: exact in float64 in whatever order they are taken.
        return dict(zip(("tp", "fn", "tn", "fp"), (weights @ member).T, strict=True))

    return statistic


def ratio(
    numerator: Float[np.ndarray, " chunk"], denominator: Float[np.ndarray, " chunk"]
) -> Float[np.ndarray, " chunk"]:
    """numerator / denominator; infinite for x / 0 and NaN for 0 / 0, without a warning."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return numerator / denominator


def _quantile(ordered: Float[np.ndarray, " values"], share: float) -> float:
    """Linear between order statistics, as NumPy's, but right where some of them are infinite."""
    place = share * (len(ordered) - 1)
    low, high = float(ordered[math.floor(place)]), float(ordered[math.ceil(place)])
    return low if low == high else low + (high - low) * (place - math.floor(place))
