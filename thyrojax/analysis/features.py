"""Right and wrong calls by sonographic feature: the form of Table 2 of Guan et al. 2019."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from thyrojax.analysis.cutoff import call_positive
from thyrojax.analysis.exact import ExactTest, fisher_exact
from thyrojax.analysis.predictions import Predictions, check_cases
from thyrojax.analysis.table import Table, table_of
from thyrojax.errors import PredictionsError
from thyrojax.shapes import Bool, Float, Int
from thyrojax.vocabulary import PREDICTION_FEATURES

# Below this an expected count is marked (Cochran 1954, Biometrics 10:417).
SMALL_EXPECTED = 5.0
# Further columns count as categories up to this many; a feature may have more, up to MOST.
FURTHER = 12
MOST = 50
COLUMNS = (
    "feature",
    "category",
    "label",
    "n",
    "right",
    "wrong",
    "p_chi2",
    "p_exact",
    "expected_min",
    "small_expected",
    "p_chi2_holm",
    "p_chi2_bh",
    "p_exact_holm",
    "p_exact_bh",
    "note",
)
NOT_CATEGORIES = frozenset({"split", "margin", "size_mm", "reader_label"})


class ChiSquared(NamedTuple):
    """Pearson's test of a table: statistic, P, degrees of freedom, smallest expected count."""

    statistic: float
    p: float
    dof: int
    expected_min: float


@dataclass(frozen=True, eq=False)
class CategoryComparison:
    """Whether right and wrong calls spread alike over the categories of a feature.

    `chi_squared` and `exact` are None where there is nothing to compare; `note` then says why.
    `expected` has the expected counts of right and of wrong calls, 0 where a category is empty.
    """

    chi_squared: ChiSquared | None
    exact: ExactTest | None
    expected: Float[np.ndarray, "categories 2"]
    note: str


def chi_squared(counts: Int[np.ndarray, "rows columns"]) -> ChiSquared:
    """Pearson's chi-squared test over the rows and columns that have a case, not corrected.

    Raises:
      PredictionsError: a negative count, or fewer than two rows or columns with a case.
    """
    from scipy.stats import chi2_contingency

    if counts.size and counts.min() < 0:
        raise PredictionsError(f"counts: found {counts.min()}, expected none below 0")
    table = counts[counts.sum(axis=1) > 0][:, counts.sum(axis=0) > 0]
    if min(table.shape) < 2:
        raise PredictionsError(
            f"counts: found {table.shape[0]} by {table.shape[1]} with cases, expected 2 by 2"
        )
    result = chi2_contingency(table, correction=False)
    return ChiSquared(
        float(result.statistic),
        float(result.pvalue),
        int(result.dof),
        float(result.expected_freq.min()),
    )


def compare_categories(
    right: Int[np.ndarray, " categories"], wrong: Int[np.ndarray, " categories"], seed: int = 0
) -> CategoryComparison:
    """Compares right and wrong calls of one class over the categories of one feature.

    Raises:
      PredictionsError: a negative count.
    """
    counts = np.column_stack([right, wrong])
    if counts.size and counts.min() < 0:
        raise PredictionsError(f"counts: found {counts.min()}, expected none below 0")
    total = int(counts.sum())
    expected = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / max(total, 1)
    note = ""
    if total == 0:
        note = "no case"
    elif int(wrong.sum()) == 0:
        note = "no wrong call in this class: nothing to compare"
    elif int(right.sum()) == 0:
        note = "no right call in this class: nothing to compare"
    elif int(np.sum(counts.sum(axis=1) > 0)) == 1:
        note = "one category only: nothing to compare"
    if note:
        return CategoryComparison(None, None, expected, note)
    exact = fisher_exact(counts, seed=seed)
    if exact.standard_error is not None:
        note = f"exact P from {exact.method}; standard error {exact.standard_error:.2g}"
    return CategoryComparison(chi_squared(counts), exact, expected, note)


def feature_table(
    predictions: Predictions, cutoff: float, features: Sequence[str] | None = None, seed: int = 0
) -> Table:
    """Right and wrong calls by category of each feature and class, with tests.

    Args:
      predictions: with a column of categories per feature, "" where nobody knows.
      cutoff: a case is called positive at this score and above.
      features: columns; by default those of the vocabulary that have any category, and then every
        further column with 2 to 12 categories.
      seed: of tables drawn at random, where there are too many for the exact test.

    Raises:
      PredictionsError: as `check_cases`.
    """
    check_cases(predictions.labels, predictions.scores)
    wrong = call_positive(predictions.scores, cutoff) != (predictions.labels == 1)
    chosen = default_features(predictions) if features is None else tuple(features)
    records: list[dict[str, Any]] = []
    unknown: list[str] = []
    for feature in chosen:
        cells = predictions.columns.get(feature)
        counts = _count(cells or (), predictions.labels, wrong)
        missing = sum(n for (category, _, _), n in counts.items() if not category)
        categories = ordered_categories(feature, {category for category, _, _ in counts} - {""})
        if not categories or len(categories) > MOST:
            records.append(_empty_record(feature, cells is not None, len(categories)))
            continue
        if missing:
            unknown.append(f"{feature} {missing}")
        for label in (1, 0):
            records += _class_records(feature, label, categories, counts, seed)
    if not records:
        records.append(_empty_record(None, False, 0))
    _adjust(records)
    return table_of(
        "features",
        f"Right and wrong calls at the cutoff {cutoff:.4g} by feature and class "
        f"(n = {len(predictions)}).",
        records,
        _footnotes(predictions, records, unknown),
    )


def default_features(predictions: Predictions, reader: str = "") -> tuple[str, ...]:
    """The vocabulary's features that have a category, then further columns with 2 to 12.

    The column `reader` is none: it has calls.
    """
    found = [
        name
        for name in PREDICTION_FEATURES
        if any(cell.strip() for cell in predictions.columns.get(name, ()))
    ]
    for name, cells in predictions.columns.items():
        if name in PREDICTION_FEATURES or name.endswith("_id"):
            continue
        if name in NOT_CATEGORIES or name == reader:
            continue
        categories = {cell.strip() for cell in set(cells)} - {""}
        if 2 <= len(categories) <= FURTHER and not _measured(categories):
            found.append(name)
    return tuple(found)


def ordered_categories(feature: str, categories: set[str]) -> tuple[str, ...]:
    """Categories in the vocabulary's order, then the others by alphabet."""
    words = PREDICTION_FEATURES.get(feature, ())
    return (
        *(word for word in words if word in categories),
        *sorted(categories - set(words)),
    )


_Counts = Counter[tuple[str, int, bool]]


def _count(
    cells: Sequence[str], labels: Int[np.ndarray, " cases"], wrong: Bool[np.ndarray, " cases"]
) -> _Counts:
    """Cases by category, label and whether the call was wrong."""
    counts: _Counts = Counter()
    for (cell, label, error), n in Counter(
        zip(cells, labels.tolist(), wrong.tolist(), strict=True) if cells else ()
    ).items():
        counts[cell.strip(), label, error] += n
    return counts


def _class_records(
    feature: str, label: int, categories: Sequence[str], counts: _Counts, seed: int
) -> list[dict[str, Any]]:
    right = np.array([counts[category, label, False] for category in categories])
    wrong = np.array([counts[category, label, True] for category in categories])
    compared = compare_categories(right, wrong, seed)
    records = []
    for place, category in enumerate(categories):
        n = int(right[place] + wrong[place])
        smallest = float(compared.expected[place].min()) if compared.chi_squared else None
        note = compared.note
        if n == 0 and not note:
            note = "no case of this class: not in the tests"
        known = {
            "feature": feature,
            "category": category,
            "label": label,
            "n": n,
            "right": int(right[place]),
            "wrong": int(wrong[place]),
            "p_chi2": compared.chi_squared.p if compared.chi_squared else None,
            "p_exact": compared.exact.p if compared.exact else None,
            "expected_min": smallest,
            "small_expected": None if smallest is None else n > 0 and smallest < SMALL_EXPECTED,
            "note": note,
        }
        records.append({column: known.get(column) for column in COLUMNS})
    return records


def _empty_record(feature: str | None, present: bool, categories: int) -> dict[str, Any]:
    if feature is None:
        note = "the predictions have no column with categories"
    elif not present:
        note = "the predictions have no such column"
    elif categories:
        note = f"{categories} categories, more than {MOST}: not a feature with categories"
    else:
        note = "no case has a category"
    return {**dict.fromkeys(COLUMNS), "feature": feature, "note": note}


def _adjust(records: list[dict[str, Any]]) -> None:
    """Fills the Holm and Benjamini-Hochberg columns; each feature and class counts as one test."""
    from statsmodels.stats.multitest import multipletests

    for test in ("p_chi2", "p_exact"):
        found = {
            (record["feature"], record["label"]): record[test]
            for record in records
            if record[test] is not None
        }
        if not found:
            continue
        for column, method in (("holm", "holm"), ("bh", "fdr_bh")):
            adjusted = multipletests(list(found.values()), method=method)[1]
            by_test = dict(zip(found, (float(p) for p in adjusted), strict=True))
            for record in records:
                record[f"{test}_{column}"] = by_test.get((record["feature"], record["label"]))


def _footnotes(
    predictions: Predictions, records: Sequence[dict[str, Any]], unknown: Sequence[str]
) -> list[str]:
    tests = len({(r["feature"], r["label"]) for r in records if r["p_chi2"] is not None})
    notes = [
        "P is of right against wrong calls over the categories of a feature within one class: "
        "Pearson's chi-squared without continuity correction over the categories that have a case "
        "(p_chi2), and Fisher's exact test as extended by Freeman and Halton (p_exact).",
        f"expected_min is the smaller of a category's two expected counts; below "
        f"{SMALL_EXPECTED:g} it is marked in small_expected: the exact test is to be preferred.",
        f"Adjusted for {tests} tests: Holm (family-wise error), Benjamini-Hochberg "
        "(false discovery rate).",
    ]
    if unknown:
        notes.append("Left out, as the category is not known: " + ", ".join(unknown) + " cases.")
    n_patients = len(set(predictions.patient_ids))
    if n_patients < len(predictions):
        notes.append(
            f"{len(predictions)} images of {n_patients} patients: the tests take images as "
            "independent, and their P values are too small to that extent."
        )
    return notes


def _measured(categories: set[str]) -> bool:
    """Whether all are numbers and some are no whole ones: a measurement, not a category."""
    try:
        return any(float(category) % 1.0 != 0.0 for category in categories)
    except ValueError:
        return False
