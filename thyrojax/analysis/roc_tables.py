"""The ROC curve with its band, and the areas with their intervals, as tables."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from thyrojax.analysis.bootstrap import (
    RESAMPLES,
    Statistic,
    affordable_resamples,
    cluster_bootstrap,
    percentile_interval,
    resampling_note,
)
from thyrojax.analysis.partial_auc import area_within, check_bounds, heights, standardised
from thyrojax.analysis.precision_recall import MOST_POINTS, mean_precision
from thyrojax.analysis.roc import estimate_auc
from thyrojax.analysis.sweep import Sweep, called_counts, corners, evenly_along, sweep_cases
from thyrojax.analysis.table import Table, table_of
from thyrojax.shapes import Float, Int

# Where the band is computed; between these points it is a straight line.
_BAND_POINTS = 201


def roc_band(
    labels: Int[np.ndarray, " cases"],
    scores: Float[np.ndarray, " cases"],
    patient_ids: Sequence[str],
    false_positive_rates: Float[np.ndarray, " grid"],
    resamples: int = RESAMPLES,
    seed: int = 0,
    confidence: float = 0.95,
) -> tuple[Float[np.ndarray, " grid"], Float[np.ndarray, " grid"]] | None:
    """Lower and upper limit of the true positive rate at each false positive rate, pointwise.

    Percentiles over cluster-bootstrap curves ("vertical averaging", Macskassy and Provost 2004,
    ROCAI); between its points a curve is a straight line, where it stands upright its upper end
    counts. None where fewer than 90 % of the resamples have both classes.

    Raises:
      PredictionsError: as `check_cases`, both classes wanted.
    """
    cases = sweep_cases(labels, scores)
    used = affordable_resamples(len(labels), resamples)
    statistic = _band_statistic(cases, false_positive_rates)
    values = cluster_bootstrap(statistic, patient_ids, used, seed)
    intervals = [percentile_interval(values[str(i)], confidence) for i in range(len(values))]
    limits = [interval for interval in intervals if interval is not None]
    if len(limits) < len(intervals):
        return None
    return np.array([low for low, _ in limits]), np.array([high for _, high in limits])


def roc_table(
    labels: Int[np.ndarray, " cases"],
    scores: Float[np.ndarray, " cases"],
    patient_ids: Sequence[str],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Table:
    """The curve as a table: cutoff, fpr, tpr, and the band tpr_low, tpr_high at that fpr.

    One row for each distinct score, from (0, 0) with an infinite cutoff to (1, 1). Beyond 5,000
    points only those where the curve bends, and at most 5,000 of them, evenly spaced along it.

    Raises:
      PredictionsError: as `check_cases`, both classes wanted.
    """
    cases = sweep_cases(labels, scores)
    true, false = called_counts(cases, np.ones(len(labels)))
    cutoffs = np.append(math.inf, cases.cutoffs)
    fpr, tpr = false / false[-1], true / true[-1]
    kept = np.arange(len(fpr))
    if len(kept) > MOST_POINTS:
        bends = corners(true, false)
        kept = bends[evenly_along((fpr + tpr)[bends], MOST_POINTS)]
    grid = np.unique(fpr[evenly_along(fpr + tpr, _BAND_POINTS)])
    band = roc_band(labels, scores, patient_ids, grid, resamples, seed)
    gap = "" if band else _NO_INTERVAL
    low, high = (
        (np.interp(fpr[kept], grid, limit).tolist() for limit in band)
        if band
        else ([None] * len(kept), [None] * len(kept))
    )
    columns = (cutoffs[kept].tolist(), fpr[kept].tolist(), tpr[kept].tolist(), low, high)
    names = ("cutoff", "fpr", "tpr", "tpr_low", "tpr_high")
    return table_of(
        "roc",
        f"ROC curve of {len(labels):,} cases: {int(true[-1]):,} positive, {int(false[-1]):,} "
        "negative.",
        [{**dict(zip(names, row, strict=True)), "note": gap} for row in zip(*columns, strict=True)],
        [
            *_roc_footnotes(len(cutoffs), len(kept), len(grid) < len(np.unique(fpr))),
            resampling_note(len(labels), len(set(patient_ids)), resamples, seed),
        ],
    )


def auc_table(
    labels: Int[np.ndarray, " cases"],
    scores: Float[np.ndarray, " cases"],
    patient_ids: Sequence[str],
    fpr_range: tuple[float, float] = (0.0, 0.1),
    tpr_range: tuple[float, float] = (0.9, 1.0),
    resamples: int = RESAMPLES,
    seed: int = 0,
    name: str = "model",
) -> Table:
    """Areas with 95 % intervals: AUC (DeLong; cluster bootstrap), two partial AUCs, precision.

    Raises:
      PredictionsError: as `check_cases`, both classes wanted; a range that is none.
    """
    check_bounds(fpr_range, "fpr")
    check_bounds(tpr_range, "tpr")
    cases = sweep_cases(labels, scores)
    statistic = _area_statistic(cases, fpr_range, tpr_range)
    found = {key: float(value[0]) for key, value in statistic(np.ones((1, len(labels)))).items()}
    values = cluster_bootstrap(
        statistic, patient_ids, affordable_resamples(len(labels), resamples), seed
    )
    n_positive = int(labels.sum())
    sizes = {"n_positive": n_positive, "n_negative": len(labels) - n_positive}
    delong = estimate_auc(labels, scores)
    low, high = delong.interval or (None, None)
    first = {"name": name, "measure": "AUC", "value": delong.auc, "ci_low": low, "ci_high": high}
    records = [first | {"method": delong.method, **sizes, "note": delong.note}]
    for key, measure in (
        ("auc", "AUC"),
        ("fpr", f"partial AUC, {_range_words('false positive rate', fpr_range)}"),
        ("tpr", f"partial AUC, {_range_words('sensitivity', tpr_range)}"),
        ("precision", "average precision"),
    ):
        low, high, note = _interval_cells(values[key])
        if key in ("fpr", "tpr") and found[key] < 0.5:
            note = "; ".join(filter(None, [note, "worse than chance in this range"]))
        first = {"name": name, "measure": measure, "value": found[key]}
        first |= {"ci_low": low, "ci_high": high, "method": "cluster bootstrap, percentile"}
        records.append(first | sizes | {"note": note})
    return table_of(
        "auc",
        f"Areas under the curves of {len(labels):,} cases.",
        records,
        [
            "AUC: DeLong et al. 1988, interval on the logit scale, all images taken as "
            "independent; and by resampling patients.",
            "Partial AUC: standardised after McClish 1989 (0.5 by chance, 1 for a perfect score).",
            f"Average precision: {n_positive / len(labels):.3f} by chance, the share of positive "
            "cases.",
            resampling_note(len(labels), len(set(patient_ids)), resamples, seed),
        ],
    )


_NO_INTERVAL = "no interval: over 10 % of the resamples lack a class, or there is one patient only"


def _interval_cells(
    values: Float[np.ndarray, " resamples"],
) -> tuple[float | None, float | None, str]:
    interval = percentile_interval(values)
    if interval is None:
        return None, None, _NO_INTERVAL
    # Areas are sums of shares: equal ones may differ in their last digits.
    if interval[1] - interval[0] < 1e-12:
        return None, None, "no interval: nearly all resamples give the same value"
    return *interval, ""


def _rates(
    cases: Sweep, weights: Float[np.ndarray, " cases"]
) -> tuple[Float[np.ndarray, " points"], Float[np.ndarray, " points"]] | None:
    """True and false positives of one resample; None where a class was not drawn."""
    true, false = called_counts(cases, weights)
    return (true, false) if true[-1] > 0.0 and false[-1] > 0.0 else None


def _band_statistic(cases: Sweep, grid: Float[np.ndarray, " grid"]) -> Statistic:
    def statistic(weights: Float[np.ndarray, "chunk cases"]) -> dict[str, np.ndarray]:
        found = np.full((len(weights), len(grid)), math.nan)
        for row, of_row in zip(found, weights, strict=True):
            counts = _rates(cases, of_row)
            if counts is not None:
                true, false = counts
                row[:] = heights(false / false[-1], true / true[-1], grid)
        return {str(i): found[:, i] for i in range(len(grid))}

    return statistic


def _area_statistic(
    cases: Sweep, fpr_range: tuple[float, float], tpr_range: tuple[float, float]
) -> Statistic:
    names = ("auc", "fpr", "tpr", "precision")

    def statistic(weights: Float[np.ndarray, "chunk cases"]) -> dict[str, np.ndarray]:
        found = np.full((len(weights), len(names)), math.nan)
        for row, of_row in zip(found, weights, strict=True):
            counts = _rates(cases, of_row)
            if counts is not None:
                fpr, tpr = counts[1] / counts[1][-1], counts[0] / counts[0][-1]
                row[0] = area_within(fpr, tpr, (0.0, 1.0), "fpr")
                row[1] = standardised(area_within(fpr, tpr, fpr_range, "fpr"), fpr_range, "fpr")
                row[2] = standardised(area_within(fpr, tpr, tpr_range, "tpr"), tpr_range, "tpr")
                row[3] = mean_precision(*counts)
        return {name: found[:, i] for i, name in enumerate(names)}

    return statistic


def _range_words(rate: str, bounds: tuple[float, float]) -> str:
    return f"{rate} {bounds[0]:g} to {bounds[1]:g}"


def _roc_footnotes(n_points: int, n_kept: int, interpolated: bool) -> list[str]:
    footnotes = [
        "A case is called positive when its score >= cutoff; at the first row nothing is called."
    ]
    if n_kept < n_points:
        footnotes.append(
            f"The curve has {n_points:,} points; the table has {n_kept:,} of those where it bends, "
            "evenly spaced along it, both ends included."
        )
    band = (
        "tpr_low and tpr_high: the interval of the curve's height at the row's false positive "
        "rate, each rate by itself (pointwise); where the curve stands upright, of its upper end"
    )
    if interpolated:
        band += f"; computed at up to {_BAND_POINTS} rates, straight lines between them"
    return [*footnotes, band + "."]
