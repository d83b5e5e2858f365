"""Odds ratios of misdiagnosis by exposure: the form of Table 3 of Guan et al. 2019."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from thyrojax.analysis.cutoff import call_positive
from thyrojax.analysis.exposures import Exposure
from thyrojax.analysis.firth import fit_firth
from thyrojax.analysis.predictions import Predictions, check_cases
from thyrojax.analysis.regression import Robust, fit_logistic
from thyrojax.analysis.table import Table, table_of
from thyrojax.errors import PredictionsError
from thyrojax.shapes import Bool, Float, Int

COLUMNS = (
    "variable",
    "model",
    "odds_ratio",
    "ci_low",
    "ci_high",
    "p",
    "profile_low",
    "profile_high",
    "firth_odds_ratio",
    "firth_low",
    "firth_high",
    "firth_p",
    "n",
    "errors",
    "n_exposed",
    "errors_exposed",
    "note",
)
# Peduzzi et al. 1996, J Clin Epidemiol 49:1373.
ERRORS_PER_EXPOSURE = 10
# Below some 40 clusters the sandwich is too short (Angrist & Pischke 2009, 8.2.3).
FEW_PATIENTS = 40


class _Column(NamedTuple):
    """A column's distinct texts, blanks around them aside, and each case's place among them."""

    words: tuple[str, ...]
    code: Int[np.ndarray, " cases"]


class _Coded(NamedTuple):
    """Which cases have an exposure, and which are its reference."""

    exposure: Exposure
    exposed: Bool[np.ndarray, " cases"]
    reference: Bool[np.ndarray, " cases"]
    note: str


def odds_ratio_table(
    predictions: Predictions,
    cutoff: float,
    exposures: Sequence[Exposure],
    robust: Robust = None,
    confidence: float = 0.95,
) -> Table:
    """Odds ratios of a wrong call (error = 1) by exposure, univariate and multivariate.

    A case whose category is neither exposed nor reference is left out of that exposure's
    univariate fit. The multivariate fit has one variable for each exposure that asks for it, 1 for
    the exposed and 0 for the others, and takes the cases that are exposed or reference in at least
    one exposure of each feature: two exposures of one feature against the same reference become
    its two indicator variables.

    Args:
      predictions: with the exposures' columns.
      cutoff: a case is called positive at this score and above.
      exposures: see `exposures.read_exposures`.
      robust: None, or Wald's interval by patient: "cluster" (sandwich) or "gee" (exchangeable).
      confidence: of all intervals.

    Raises:
      PredictionsError: as `check_cases`; no exposure; an unknown `robust`.
    """
    check_cases(predictions.labels, predictions.scores)
    if not exposures:
        raise PredictionsError("exposures: found none, expected at least one")
    called = call_positive(predictions.scores, cutoff)
    errors = (called != (predictions.labels == 1)).astype(np.int64)
    columns = {
        feature: _numbered(predictions.columns[feature])
        for feature in {exposure.feature for exposure in exposures} & set(predictions.columns)
    }
    coded = [_code(one, columns.get(one.feature), len(errors)) for one in exposures]
    patients = _numbered(predictions.patient_ids).code
    records: list[dict[str, Any]] = []
    for one in coded:
        chosen = one.exposed | one.reference
        records += _fit([one], chosen, errors, patients, "univariate", robust, confidence)
    joint = [one for one in coded if one.exposure.multivariate]
    chosen = _known_in_all(joint, len(errors))
    if joint:
        records += _fit(joint, chosen, errors, patients, "multivariate", robust, confidence)
    return table_of(
        "odds_ratios",
        f"Odds ratios of a wrong call at the cutoff {cutoff:.4g} "
        f"({int(errors.sum())} of {len(errors)} cases).",
        records,
        _footnotes(predictions, joint, records, robust, confidence),
    )


def _code(exposure: Exposure, column: _Column | None, n: int) -> _Coded:
    nobody = np.zeros(n, dtype=bool)
    if column is None:
        note = f"the predictions have no column {exposure.feature}"
        return _Coded(exposure, nobody, nobody, note)
    exposed = np.array([word in exposure.exposed for word in column.words])[column.code]
    reference = np.array([word in exposure.reference for word in column.words])[column.code]
    note = ""
    if not exposed.any() and not reference.any():
        note = "no case is exposed or reference"
    elif not exposed.any():
        note = "no case is exposed"
    elif not reference.any():
        note = "no case is reference"
    return _Coded(exposure, exposed, reference, note)


def _known_in_all(coded: Sequence[_Coded], n: int) -> Bool[np.ndarray, " cases"]:
    """Cases that are exposed or reference for each feature of which anything is known."""
    known: dict[str, Bool[np.ndarray, " cases"]] = {}
    for one in coded:
        if (one.exposed | one.reference).any():
            before = known.get(one.exposure.feature, np.zeros(n, dtype=bool))
            known[one.exposure.feature] = before | one.exposed | one.reference
    return np.logical_and.reduce([np.ones(n, dtype=bool), *known.values()])


def _fit(
    coded: Sequence[_Coded],
    chosen: Bool[np.ndarray, " cases"],
    errors: Int[np.ndarray, " cases"],
    patients: Int[np.ndarray, " cases"],
    model: str,
    robust: Robust,
    confidence: float,
) -> list[dict[str, Any]]:
    """One record per exposure of a model of all of them."""
    wrong = errors[chosen]
    design = np.column_stack([one.exposed[chosen] for one in coded]).astype(np.float64)
    records = []
    for one in coded:
        exposed = one.exposed[chosen]
        figures = {
            "variable": one.exposure.name,
            "model": model,
            "n": len(wrong),
            "errors": int(wrong.sum()),
            "n_exposed": int(exposed.sum()),
            "errors_exposed": int(wrong[exposed].sum()),
            "note": one.note,
        }
        records.append({column: figures.get(column) for column in COLUMNS})
    usable = [place for place, one in enumerate(coded) if not one.note]
    for place in usable:
        records[place]["note"] = _why_not(design[:, place], wrong)
    fitted = [place for place in usable if not records[place]["note"]]
    if fitted:
        _fill(records, fitted, wrong, design, patients[chosen], model, robust, confidence)
    return records


def _why_not(exposed: Float[np.ndarray, " cases"], wrong: Int[np.ndarray, " cases"]) -> str:
    """Why an exposure has no odds ratio, whatever the model; "" where it may have one."""
    n = len(wrong)
    if n == 0:
        return "no case is known in all exposures of the model"
    if wrong.min() == wrong.max():
        return f"all {n} calls are right" if wrong[0] == 0 else f"all {n} calls are wrong"
    if exposed.min() == exposed.max():
        return f"none of the {n} cases is exposed" if exposed[0] == 0 else f"all {n} are exposed"
    return ""


def _fill(
    records: list[dict[str, Any]],
    fitted: Sequence[int],
    wrong: Int[np.ndarray, " cases"],
    design: Float[np.ndarray, "cases exposures"],
    patients: Int[np.ndarray, " cases"],
    model: str,
    robust: Robust,
    confidence: float,
) -> None:
    exposed = design[:, list(fitted)]
    plain = fit_logistic(wrong, exposed, patients.tolist(), robust, confidence)
    penalised = fit_firth(wrong, exposed, confidence)
    for place, estimate, firth in zip(fitted, plain.estimates, penalised, strict=True):
        notes = []
        if model == "univariate" and plain.separation != "none":
            notes.append(_empty_cell(design[:, place], wrong))
        notes += [note for note in (estimate.note, firth.note) if note and note not in notes]
        records[place] |= {
            "odds_ratio": _exp(estimate.log_odds),
            "ci_low": _exp(estimate.low),
            "ci_high": _exp(estimate.high),
            "p": estimate.p,
            "profile_low": _exp(estimate.profile_low),
            "profile_high": _exp(estimate.profile_high),
            "firth_odds_ratio": _exp(firth.log_odds),
            "firth_low": _exp(firth.low),
            "firth_high": _exp(firth.high),
            "firth_p": firth.p,
            "note": "; ".join(notes),
        }


def _empty_cell(exposed: Float[np.ndarray, " cases"], wrong: Int[np.ndarray, " cases"]) -> str:
    """Which of the four cells of exposure and error is empty, in words."""
    found = []
    for group, name in ((exposed == 1.0, "exposed"), (exposed == 0.0, "reference")):
        n, n_wrong = int(group.sum()), int(wrong[group].sum())
        cases = f"{n} {name} case{'' if n == 1 else 's'}"
        if n_wrong == 0:
            found.append(f"no error among the {cases}")
        elif n_wrong == n:
            found.append(f"an error in each of the {cases}")
    return ", ".join(found)


def _exp(log_odds: float | None) -> float | None:
    if log_odds is None:
        return None
    try:
        return math.exp(log_odds)
    except OverflowError:
        return math.inf


def _footnotes(
    predictions: Predictions,
    joint: Sequence[_Coded],
    records: Sequence[dict[str, Any]],
    robust: Robust,
    confidence: float,
) -> list[str]:
    n, n_patients = len(predictions), len(set(predictions.patient_ids))
    level = f"{100 * confidence:g} %"
    wald = {
        None: "Wald's, cases taken as independent",
        "cluster": "Wald's with standard errors clustered by patient (sandwich)",
        "gee": "of generalised estimating equations, exchangeable within a patient",
    }[robust]
    notes = [
        "The outcome is a wrong call (error = 1), the cases of both classes together. Univariate: "
        "exposed against reference cases only. Multivariate: one logistic regression.",
        f"ci_low, ci_high and p ({level}): {wald}. profile_low and profile_high: profile "
        "likelihood, cases taken as independent.",
        "firth_*: logistic regression penalised by Jeffreys' prior (Firth 1993), with the interval "
        "and P of its profile (Heinze and Schemper 2002): finite also where separation makes the "
        "plain odds ratio 0 or infinite.",
    ]
    if n_patients < n and robust is None:
        notes.append(
            f"{n} images of {n_patients} patients: intervals are too short to that extent; errors "
            "by patient can be asked for."
        )
    if robust is not None and n_patients < FEW_PATIENTS:
        notes.append(f"{n_patients} patients are few for errors by patient: intervals too short.")
    joined = [record for record in records if record["model"] == "multivariate"]
    if joined:
        fewer = min(joined[0]["errors"], joined[0]["n"] - joined[0]["errors"])
        if fewer < ERRORS_PER_EXPOSURE * len(joined):
            notes.append(
                f"The multivariate model has {fewer} of the rarer outcome for {len(joined)} "
                f"exposures, fewer than {ERRORS_PER_EXPOSURE} each (Peduzzi 1996): take it with "
                "caution."
            )
    else:
        notes.append("No exposure asks for the multivariate model.")
    mixed = sorted(_mixed_references(joint))
    if mixed:
        notes.append(
            "Exposures of the same feature have different references, so that in the multivariate "
            f"model each is against all cases that none of them exposes: {', '.join(mixed)}."
        )
    return notes


def _mixed_references(joint: Sequence[_Coded]) -> set[str]:
    """Features whose exposures in the joint model have different references."""
    references: dict[str, set[frozenset[str]]] = {}
    for one in joint:
        references.setdefault(one.exposure.feature, set()).add(frozenset(one.exposure.reference))
    return {feature for feature, found in references.items() if len(found) > 1}


def _numbered(texts: Sequence[str]) -> _Column:
    """Each text's number, in the order of first appearance; millions have a handful."""
    numbers = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    code = np.fromiter(map(numbers.__getitem__, texts), dtype=np.int64, count=len(texts))
    return _Column(tuple(text.strip() for text in numbers), code)
