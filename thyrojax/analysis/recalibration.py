"""Scores set right on validation cases, and whether that helps on the cases that are reported."""

from __future__ import annotations

from typing import Any

import numpy as np

from thyrojax.analysis.calibration import (
    CLIP,
    brier_score,
    calibration_in_the_large,
    calibration_slope,
    check_probabilities,
    count_clipped,
    expected_calibration_error,
    log_loss,
    logits,
    spiegelhalter_test,
)
from thyrojax.analysis.predictions import check_cases
from thyrojax.analysis.table import Table, table_of
from thyrojax.errors import PredictionsError
from thyrojax.shapes import Float, Int

TEMPERATURES = (0.01, 100.0)
_BINS = 10

Test = tuple[Int[np.ndarray, " cases"], Float[np.ndarray, " cases"]]
Validation = tuple[Int[np.ndarray, " fitted"], Float[np.ndarray, " fitted"]]


def fit_temperature(
    labels: Int[np.ndarray, " cases"], scores: Float[np.ndarray, " cases"]
) -> float:
    """The temperature by which to divide every logit for the smallest log loss (Guo et al. 2017).

    Above 1 the scores were too extreme, below 1 too timid. Searched from 0.01 to 100: an end of
    that range means that the loss falls all the way to it (each case is on the right side of 0.5,
    or the scores point the wrong way).

    Raises:
      PredictionsError: as `check_probabilities`; one class only; every score 0.5, which no
        temperature changes.
    """
    check_probabilities(labels, scores)
    check_cases(labels, scores, both_classes=True)
    at = logits(scores)
    if not at.any():
        raise PredictionsError("scores: found 0.5 throughout, expected scores that can be scaled")
    from scipy.optimize import brentq
    from scipy.special import expit

    def loss_change(inverse: float) -> float:
        """The log loss is convex in 1/T; this is its derivative, which rises."""
        return float(np.mean((expit(inverse * at) - labels) * at))

    coldest, hottest = TEMPERATURES
    if loss_change(1.0 / hottest) >= 0.0:
        return hottest
    if loss_change(1.0 / coldest) <= 0.0:
        return coldest
    return float(1.0 / brentq(loss_change, 1.0 / hottest, 1.0 / coldest, xtol=1e-12))


def apply_temperature(
    scores: Float[np.ndarray, " cases"], temperature: float
) -> Float[np.ndarray, " cases"]:
    """Scores whose logits are divided by the temperature; their order stays."""
    from scipy.special import expit

    return expit(logits(scores) / temperature)


def apply_isotonic(
    labels: Int[np.ndarray, " fitted"],
    scores: Float[np.ndarray, " fitted"],
    asked: Float[np.ndarray, " cases"],
) -> Float[np.ndarray, " cases"]:
    """`asked` scores through the rising step curve fitted on other cases (Zadrozny & Elkan 2002).

    scikit-learn's isotonic regression, straight between its steps, level beyond its ends. Scores
    that differed may come out equal.

    Raises:
      PredictionsError: as `check_probabilities` of the cases fitted on; one class only.
    """
    check_probabilities(labels, scores)
    check_cases(labels, scores, both_classes=True)
    from sklearn.isotonic import IsotonicRegression

    curve = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
    curve.fit(scores.astype(np.float64), labels)
    return np.asarray(curve.predict(asked.astype(np.float64)), dtype=np.float64)


def calibration_summary(test: Test, validation: Validation | None) -> Table:
    """Calibration of the test scores as given, and after temperature and isotonic recalibration.

    Both recalibrations are fitted on the validation cases and judged on the test cases.

    Raises:
      PredictionsError: as `check_probabilities`, of either part.
    """
    labels, scores = test
    check_probabilities(labels, scores)
    as_given = _record("as given", labels, scores, "")
    records = [as_given]
    for method in ("temperature", "isotonic"):
        reason = _not_fitted(method, validation)
        if validation is None or reason:
            records.append({**dict.fromkeys(as_given), "method": method, "note": reason})
        else:
            records.append(_recalibrated(method, test, validation))
    fitted = "none was given" if validation is None else f"n = {len(validation[0]):,}"
    return table_of(
        "calibration_summary",
        f"Calibration on the reported cases (n = {len(labels):,}), as given and after "
        f"recalibration on the validation part ({fitted}).",
        records,
        [
            f"ECE: expected calibration error over {_BINS} bins of nearly equal n. "
            "Perfect values: Brier, log loss and ECE 0; slope 1; intercept 0.",
            "Slope: logistic regression of the label on the logit of the score (below 1: scores "
            "too extreme). Intercept: calibration in the large, the same with the slope fixed at 1 "
            "(below 0: scores too high). Wald intervals, 95 %, with images taken as independent.",
            f"Log loss, slope and intercept use scores clipped to {CLIP:g} from 0 and 1.",
            "P: Spiegelhalter's test that the scores are calibrated, two-sided.",
            "Parameter: the temperature that divides each logit (above 1: scores were too "
            "extreme), or the number of different scores that isotonic regression leaves.",
        ],
    )


def _not_fitted(method: str, validation: Validation | None) -> str:
    """Why there is nothing to fit on; empty where there is."""
    if validation is None:
        return "not fitted: no validation part was given"
    labels, scores = validation
    if len(labels) == 0:
        return "not fitted: the validation part has no case"
    check_probabilities(labels, scores)
    if labels.min() == labels.max():
        return f"not fitted: all validation cases are of class {labels[0]}"
    if method == "temperature" and not logits(scores).any():
        return "not fitted: every validation score is 0.5"
    return ""


def _recalibrated(method: str, test: Test, validation: Validation) -> dict[str, Any]:
    labels, scores = test
    if method == "isotonic":
        stepped = apply_isotonic(*validation, scores)
        return _record(method, labels, stepped, len(np.unique(stepped)))
    temperature = fit_temperature(*validation)
    return _record(
        method,
        labels,
        apply_temperature(scores, temperature),
        temperature,
        f"temperature at the end of its range, {temperature:g}"
        if temperature in TEMPERATURES
        else "",
    )


def _record(
    method: str,
    labels: Int[np.ndarray, " cases"],
    scores: Float[np.ndarray, " cases"],
    parameter: float | int | str,
    note: str = "",
) -> dict[str, Any]:
    slope = calibration_slope(labels, scores)
    intercept = calibration_in_the_large(labels, scores)
    spiegelhalter = spiegelhalter_test(labels, scores)
    notes = [note, slope.note, intercept.note]
    clipped = count_clipped(scores)
    if clipped:
        notes.append(f"{clipped:,} of {len(scores):,} scores clipped for their logit")
    if spiegelhalter is None:
        notes.append("no P: every score is 0, 0.5 or 1")
    return {
        "method": method,
        "brier": brier_score(labels, scores),
        "log_loss": log_loss(labels, scores),
        "ece": expected_calibration_error(labels, scores, _BINS),
        "slope": slope.value,
        "slope_low": slope.interval[0] if slope.interval else None,
        "slope_high": slope.interval[1] if slope.interval else None,
        "intercept": intercept.value,
        "intercept_low": intercept.interval[0] if intercept.interval else None,
        "intercept_high": intercept.interval[1] if intercept.interval else None,
        "spiegelhalter_p": spiegelhalter[1] if spiegelhalter else None,
        "parameter": parameter,
        "note": "; ".join(part for part in notes if part),
    }
