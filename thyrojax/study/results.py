"""A study's figures: each condition with its interval, and against the reference, by patients.

All intervals are of resampled patients: a condition's figure in a resample is the mean over its
seeds, and all conditions see the same resamples, so that differences are paired. The spread between
seeds is told beside, as it is another uncertainty: of training, not of the nodules.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from thyrojax.analysis.bootstrap import (
    RESAMPLES,
    affordable_resamples,
    cluster_bootstrap,
    percentile_interval,
    ratio,
    resampling_note,
    weighted_auc,
)
from thyrojax.analysis.roc import auc
from thyrojax.analysis.table import Table, table_of
from thyrojax.shapes import Bool, Float
from thyrojax.study.scores import Outcome

MEASURES = ("auc", "sensitivity", "specificity", "accuracy")
FEWEST = 10  # nodules of each class below which a subgroup's AUC is not given
_ABOUT_FOLDS = (
    "auc_folds: mean of the folds' own AUCs. The pooled one also compares scores of two networks, "
    "which need not agree on what a score means: where it is lower, they do not."
)


@dataclass(frozen=True, eq=False)
class Sampled:
    """Some nodules of a condition: each measure's value, and its values in the resamples."""

    value: dict[str, float]
    resampled: dict[str, Float[np.ndarray, " resamples"]]


@dataclass(frozen=True)
class Difference:
    """A value with its 95 % interval and two-sided P."""

    value: float
    low: float | None
    high: float | None
    p: float | None


def sample(outcome: Outcome, where: Bool[np.ndarray, " cases"] | None = None) -> Sampled:
    """The measures of a condition, averaged over its seeds; of the nodules `where`, or of all.

    Resamples are of all its patients, whatever `where`: subgroups of the same resample differ.
    """
    inside = np.ones(len(outcome.labels), bool) if where is None else where
    labels = outcome.labels[inside]
    areas = [weighted_auc(labels, scores[inside]) for scores in outcome.scores]
    truth, called = labels == 1, outcome.called[:, inside].astype(np.float64)

    def statistic(weights: Float[np.ndarray, "chunk cases"]) -> dict[str, np.ndarray]:
        weights = weights[:, inside]
        positive, negative = weights[:, truth].sum(axis=1), weights[:, ~truth].sum(axis=1)
        hits = weights[:, truth] @ called[:, truth].mean(axis=0)
        passes = weights[:, ~truth] @ (1.0 - called[:, ~truth].mean(axis=0))
        return {
            "auc": np.mean([area(weights)["auc"] for area in areas], axis=0),
            "sensitivity": ratio(hits, positive),
            "specificity": ratio(passes, negative),
            "accuracy": ratio(hits + passes, positive + negative),
        }

    whole = statistic(np.ones((1, len(inside))))
    resamples = affordable_resamples(len(inside))
    return Sampled(
        {name: float(values[0]) for name, values in whole.items()},
        cluster_bootstrap(statistic, outcome.patient_ids, resamples),
    )


def difference(one: Sampled, other: Sampled, measure: str = "auc") -> Difference:
    """One less the other, over the same resamples; P from the bootstrap's standard error."""
    return _estimate(
        one.value[measure] - other.value[measure],
        one.resampled[measure] - other.resampled[measure],
    )


def interaction(one: Sequence[Sampled], other: Sequence[Sampled]) -> Difference:
    """How much larger the difference in AUC is in the first subgroup than in the second.

    Args:
      one: the condition in both subgroups.
      other: the reference in both.
    """
    value = [a.value["auc"] - b.value["auc"] for a, b in zip(one, other, strict=True)]
    sampled = [a.resampled["auc"] - b.resampled["auc"] for a, b in zip(one, other, strict=True)]
    return _estimate(value[0] - value[1], sampled[0] - sampled[1])


def _estimate(value: float, resampled: Float[np.ndarray, " resamples"]) -> Difference:
    interval = percentile_interval(resampled)
    if interval is None:
        return Difference(value, None, None, None)
    spread = float(np.nanstd(resampled, ddof=1))
    p = math.erfc(abs(value) / spread / math.sqrt(2.0)) if spread > 0.0 else None
    return Difference(value, *interval, p)


def results_table(outcomes: Sequence[Outcome], reference: str) -> Table:
    """One row a condition: its measures, and its AUC less the reference's.

    Columns: condition, label, n, n_patients, seeds; auc, sensitivity, specificity, accuracy with
    NAME_low and NAME_high; auc_seed_sd; auc_folds where there are folds; difference with _low and
    _high, p, p_holm; note.
    """
    sampled = {outcome.name: sample(outcome) for outcome in outcomes}
    of = {outcome.name: outcome for outcome in outcomes}
    against = {
        name: difference(sampled[name], sampled[reference])
        for name in of
        if reference in of and name != reference and same_nodules(of[name], of[reference])
    }
    holm = _holm({name: found.p for name, found in against.items()})
    several_folds = any(len(set(outcome.folds)) > 1 for outcome in outcomes)
    records = []
    for outcome in outcomes:
        found = sampled[outcome.name]
        record: dict[str, Any] = {
            "condition": outcome.name,
            "label": outcome.label,
            "n": len(outcome.labels),
            "n_patients": len(set(outcome.patient_ids)),
            "seeds": len(outcome.seeds),
        }
        notes = []
        for name in MEASURES:
            low, high = percentile_interval(found.resampled[name]) or (None, None)
            if low is None:
                notes.append(f"{name}: too few patients for an interval")
            record |= {name: found.value[name], f"{name}_low": low, f"{name}_high": high}
        by_seed = [auc(outcome.labels, scores) for scores in outcome.scores]
        record["auc_seed_sd"] = float(np.std(by_seed, ddof=1)) if len(by_seed) > 1 else None
        if several_folds:
            record["auc_folds"] = _mean_of_folds(outcome)
            if record["auc_folds"] is None:
                notes.append("a fold has one class only")
        if len(by_seed) == 1:
            of_what = "ensemble" if outcome.seeds == (-1,) else "network"
            notes.append(f"one {of_what}: no spread between seeds")
        told = against.get(outcome.name)
        if outcome.name == reference:
            notes.append("the reference")
        elif told is None:
            notes.append("not compared: other nodules than the reference, or no reference")
        elif told.low is not None and told.p is None:
            notes.append("never differs from the reference")
        record |= {
            "difference": told.value if told else None,
            "difference_low": told.low if told else None,
            "difference_high": told.high if told else None,
            "p": told.p if told else None,
            "p_holm": holm.get(outcome.name),
            "note": "; ".join(notes),
        }
        records.append(record)
    first = outcomes[0]
    from_what = f"from “{of[reference].label}”" if reference in of else "need the reference"
    return table_of(
        "results",
        f"Every condition on {len(first.labels):,} nodules of {len(set(first.patient_ids)):,} "
        f"patients; differences in AUC {from_what}.",
        records,
        [
            "AUC, sensitivity, specificity and accuracy are means over the seeds, folds pooled; "
            "the cutoff is Youden's on each network's own validation part.",
            resampling_note(len(first.labels), len(set(first.patient_ids)), RESAMPLES, 0)
            + " All conditions see the same resamples.",
            "P: the difference over its bootstrap standard error, two-sided; p_holm is corrected "
            "for all rows.",
            "auc_seed_sd: standard deviation of the AUC between seeds, which no interval here has "
            "in it.",
            *([_ABOUT_FOLDS] if several_folds else []),
        ],
    )


def folds_table(outcomes: Sequence[Outcome]) -> Table:
    """The AUC of each network: condition, seed, fold, n, auc, note."""
    records = [
        {
            "condition": outcome.name,
            "seed": "all" if seed < 0 else str(seed),
            "fold": fold,
            "n": n,
            "auc": area,
            "note": "" if area is not None else "one class only",
        }
        for outcome in outcomes
        for seed, fold, n, area in _areas_of_folds(outcome)
    ]
    return table_of("folds", "The AUC of each network on its test part.", records)


def _areas_of_folds(outcome: Outcome) -> Iterator[tuple[int, str, int, float | None]]:
    """Seed, fold, nodules and AUC of each network; no AUC where there is one class only."""
    folds = np.asarray(outcome.folds)
    for seed, scores in zip(outcome.seeds, outcome.scores, strict=True):
        for fold in sorted(set(outcome.folds), key=int):
            of = folds == fold
            both = len(set(outcome.labels[of].tolist())) == 2
            area = float(auc(outcome.labels[of], scores[of])) if both else None
            yield seed, fold, int(of.sum()), area


def _mean_of_folds(outcome: Outcome) -> float | None:
    """Over the seeds, too; None where a fold has one class only."""
    areas = [area for _, _, _, area in _areas_of_folds(outcome)]
    known = [area for area in areas if area is not None]
    return float(np.mean(known)) if len(known) == len(areas) else None


def subgroup_table(outcomes: Sequence[Outcome], reference: str, column: str) -> Table | None:
    """AUC and difference by a column's categories, and whether the difference differs.

    Columns: category, condition, label, n, n_positive, auc and difference with intervals, p, and
    for the first category interaction with _low, _high and p_interaction: how much larger its
    difference is than the second's; note. None where the nodules have fewer than two categories.
    """
    usable = [o for o in outcomes if column in o.columns]
    of = {outcome.name: outcome for outcome in usable}
    if reference not in of:
        return None
    compared = [o for o in usable if same_nodules(o, of[reference])]
    cells = np.asarray(of[reference].columns[column])
    labels = of[reference].labels
    categories = [
        category
        for category in sorted(set(cells.tolist()) - {""})
        if min(np.bincount(labels[cells == category], minlength=2)) >= FEWEST
    ]
    if len(categories) < 2:
        return None
    sampled = {
        (outcome.name, category): sample(outcome, cells == category)
        for outcome in compared
        for category in categories
    }
    records = []
    for category in categories:
        for outcome in compared:
            found, base = sampled[outcome.name, category], sampled[reference, category]
            low, high = percentile_interval(found.resampled["auc"]) or (None, None)
            is_base = outcome.name == reference
            told = None if is_base else difference(found, base)
            crossed = None
            if told and category == categories[0] and len(categories) == 2:
                crossed = interaction(
                    [sampled[outcome.name, c] for c in categories],
                    [sampled[reference, c] for c in categories],
                )
            notes = ["the reference"] if is_base else []
            if crossed is None and not is_base:
                two = len(categories) == 2
                notes.append("interaction: see the first" if two else "interaction: of two alone")
            if low is None:
                notes.append("too few patients for an interval")
            elif (told and told.p is None) or (crossed and crossed.p is None):
                notes.append("the same difference in every resample: no P")
            records.append(
                {
                    "category": category,
                    "condition": outcome.name,
                    "label": outcome.label,
                    "n": int((cells == category).sum()),
                    "n_positive": int(labels[cells == category].sum()),
                    "auc": found.value["auc"],
                    "auc_low": low,
                    "auc_high": high,
                    **_cells("difference", "p", told),
                    **_cells("interaction", "p_interaction", crossed),
                    "note": "; ".join(notes),
                }
            )
    left_out = sorted(set(cells.tolist()) - {""} - set(categories))
    footnotes = ["Intervals and P as in the table of results; P is not corrected here."]
    if len(categories) == 2:
        footnotes.append(
            f"interaction: the difference for {categories[0]} less that for {categories[1]}."
        )
    if left_out:
        footnotes.append(
            f"Left out, with fewer than {FEWEST} nodules of a class: {', '.join(left_out)}."
        )
    words = column.replace("_", " ")
    return table_of(f"by_{column}", f"Results by {words}.", records, footnotes)


def same_nodules(one: Outcome, other: Outcome) -> bool:
    """Whether two conditions were tested on the same nodules, so that they can be paired."""
    return one.image_ids == other.image_ids and bool(np.array_equal(one.labels, other.labels))


def _cells(name: str, p: str, found: Difference | None) -> dict[str, float | None]:
    if found is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None, p: None}
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high, p: found.p}


def _holm(p: Mapping[str, float | None]) -> dict[str, float]:
    from statsmodels.stats.multitest import multipletests

    known = {name: value for name, value in p.items() if value is not None}
    if not known:
        return {}
    corrected = multipletests(list(known.values()), method="holm")[1]
    return dict(zip(known, map(float, corrected), strict=True))
