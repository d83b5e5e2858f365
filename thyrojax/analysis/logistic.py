"""The likelihood of a logistic regression: what plain and penalised fits share."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import numpy as np

from thyrojax.errors import PredictionsError
from thyrojax.shapes import Bool, Float, Int

# Newton's steps are no longer than this, in standard deviations of an exposure.
LONGEST_STEP = 5.0
# Where a search for the end of an interval gives up, in standard deviations of an exposure.
FARTHEST = 2.0**12


class Patterns(NamedTuple):
    """Cases collected by distinct exposures, so that five million cases fit as fast as fifty.

    The first column of `design` is 1. The others are the exposures, each divided by its entry of
    `scale` (its standard deviation), which keeps Newton's steps and ranks free of units.
    """

    design: Float[np.ndarray, "patterns coefficients"]
    errors: Float[np.ndarray, " patterns"]
    trials: Float[np.ndarray, " patterns"]
    scale: Float[np.ndarray, " coefficients"]
    of_case: Int[np.ndarray, " cases"]


class Maximum(NamedTuple):
    """Where a likelihood is largest, and its logarithm there."""

    coefficients: Float[np.ndarray, " coefficients"]
    value: float


def collect_patterns(
    errors: Int[np.ndarray, " cases"], exposed: Float[np.ndarray, "cases exposures"]
) -> Patterns:
    """Collects cases by their exposures.

    Raises:
      PredictionsError: no case, an error other than 0 or 1, an exposure that is not finite.
    """
    if len(errors) == 0:
        raise PredictionsError("errors: found no case, expected at least one")
    for name, expected, values, good in (
        ("errors", "0 or 1", errors, (errors == 0) | (errors == 1)),
        ("exposures", "finite numbers", exposed, np.isfinite(exposed).all(axis=1)),
    ):
        if not good.all():
            first = int(np.argmin(good))
            raise PredictionsError(
                f"{name}, row {first + 1}: found {values[first]}, expected {expected}"
            )
    code = np.zeros(len(errors), dtype=np.int64)
    for column in exposed.T:
        if ((column == 0.0) | (column == 1.0)).all():
            place = column.astype(np.int64)
        else:
            place = np.unique(column, return_inverse=True)[1]
        code = _renumber(code * (int(place.max()) + 1) + place)
    first_case = np.empty(int(code.max()) + 1, dtype=np.int64)
    first_case[code[::-1]] = np.arange(len(code))[::-1]
    deviations = exposed.std(axis=0)
    scale = np.append(1.0, np.where(deviations > 0.0, deviations, 1.0))
    design = np.column_stack([np.ones(len(first_case)), exposed[first_case]]) / scale
    return Patterns(
        design=design,
        errors=np.bincount(code, weights=errors).astype(np.float64),
        trials=np.bincount(code).astype(np.float64),
        scale=scale,
        of_case=code,
    )


def _renumber(code: Int[np.ndarray, " cases"]) -> Int[np.ndarray, " cases"]:
    """The same groups, numbered from 0 without gaps; counted, not sorted, where that is less."""
    if code.max() > 2 * len(code):
        return np.unique(code, return_inverse=True)[1]
    present = np.bincount(code) > 0
    return (np.cumsum(present) - 1)[code]


def independent_columns(
    design: Float[np.ndarray, "patterns coefficients"],
) -> Int[np.ndarray, " kept"]:
    """The columns that are no linear combination of those before them."""
    kept: list[int] = []
    for column in range(design.shape[1]):
        if np.linalg.matrix_rank(design[:, [*kept, column]]) == len(kept) + 1:
            kept.append(column)
    return np.array(kept, dtype=np.int64)


def estimable(
    design: Float[np.ndarray, "patterns coefficients"],
) -> Bool[np.ndarray, " coefficients"]:
    """Which coefficients the cases can tell from all others: no combination of other columns."""
    columns = np.arange(design.shape[1])
    if not len(design):
        return np.zeros(len(columns), dtype=bool)
    rank = np.linalg.matrix_rank(design)
    return np.array(
        [np.linalg.matrix_rank(design[:, columns != column]) < rank for column in columns]
    )


def log_likelihood(data: Patterns, coefficients: Float[np.ndarray, " coefficients"]) -> float:
    """The binomial log likelihood, without the constant."""
    line = data.design @ coefficients
    return float(data.errors @ line - data.trials @ np.logaddexp(0.0, line))


def maximise(
    data: Patterns,
    fixed: dict[int, float] | None = None,
    *,
    firth: bool = False,
    start: Float[np.ndarray, " coefficients"] | None = None,
    steps: int = 500,
) -> Maximum:
    """Newton's method with step halving, some coefficients held at given values.

    With `firth` the logarithm gets half the log determinant of the information of all
    coefficients, the held ones included (Firth 1993, Biometrika 80:27). The columns of the design
    must then be independent. Where the plain likelihood has its largest value at infinity, the
    value is right to 1e-10 and the coefficients are merely large.
    """
    held = fixed or {}
    free = np.array([column not in held for column in range(data.design.shape[1])])
    coefficients = np.zeros(data.design.shape[1]) if start is None else start.copy()
    for column, value in held.items():
        coefficients[column] = value
    value, score, information = _climb(data, coefficients, firth)
    for _ in range(steps):
        if not free.any():
            break
        step = np.zeros_like(coefficients)
        step[free] = np.linalg.lstsq(information[np.ix_(free, free)], score[free], rcond=1e-14)[0]
        step *= min(1.0, LONGEST_STEP / max(float(np.abs(step).max()), 1e-300))
        gain = float(score[free] @ step[free])
        rounding = 1e-14 * (1.0 + abs(value))
        for _ in range(40):
            trial = _climb(data, coefficients + step, firth)
            if trial[0] >= value - rounding:
                break
            step /= 2.0
        else:
            break
        coefficients = coefficients + step
        value, score, information = trial
        # The gain is Newton's own forecast of the rise, twice over: the square of the distance.
        if gain < 1e-16 * (1.0 + abs(value)):
            break
    return Maximum(coefficients, value)


def profile_of(data: Patterns, column: int, *, firth: bool = False) -> Callable[[float], float]:
    """The largest log likelihood as a function of one coefficient (in the design's units)."""
    last: Float[np.ndarray, " coefficients"] | None = None

    def profile(value: float) -> float:
        nonlocal last
        # From the last maximum: the others have often not far to go.
        last, height = maximise(data, {column: value}, firth=firth, start=last)
        return height

    return profile


def profile_interval(
    profile: Callable[[float], float], peak: float, estimate: float, confidence: float
) -> tuple[float | None, float | None]:
    """Where a profile of the log likelihood has fallen by half the chi-squared quantile.

    Args:
      profile: the largest log likelihood with the coefficient held at a value.
      peak: the largest of all.
      estimate: where it is; infinite where the likelihood rises for ever.
      confidence: of the interval.

    Returns:
      Both ends; an end beyond an infinite estimate is infinite, an end that was not found None.
    """
    from scipy.optimize import brentq
    from scipy.stats import chi2

    allowed = float(chi2.ppf(confidence, 1))

    def excess(value: float) -> float:
        return 2.0 * (peak - profile(value)) - allowed

    def end(side: float) -> float | None:
        if estimate == side * np.inf:
            return float(estimate)
        inside = estimate if np.isfinite(estimate) else -side
        step = 0.5
        # An infinite estimate gives no value inside: one has to be found first.
        while excess(inside) > 0.0:
            inside -= side * step
            step *= 2.0
            if step > FARTHEST:
                return None
        outside, step = inside, 0.5
        while excess(outside) <= 0.0:
            inside, outside = outside, outside + side * step
            step *= 2.0
            if step > FARTHEST:
                return None
        return float(brentq(excess, inside, outside, xtol=1e-10))

    return end(-1.0), end(1.0)


def _climb(
    data: Patterns, coefficients: Float[np.ndarray, " coefficients"], firth: bool
) -> tuple[
    float,
    Float[np.ndarray, " coefficients"],
    Float[np.ndarray, "coefficients coefficients"],
]:
    """The objective, its slope, and the matrix that turns the slope into a step."""
    line = data.design @ coefficients
    chance = np.exp(-np.logaddexp(0.0, -line))
    weight = data.trials * chance * np.exp(-np.logaddexp(0.0, line))
    weighted = data.design * weight[:, None]
    information = data.design.T @ weighted
    value = float(data.errors @ line - data.trials @ np.logaddexp(0.0, line))
    surplus = data.errors - data.trials * chance
    if firth:
        sign, logarithm = np.linalg.slogdet(information)
        if sign <= 0.0:
            return -np.inf, data.design.T @ surplus, information
        value += 0.5 * float(logarithm)
        leverage = np.einsum("ij,ji->i", weighted, np.linalg.solve(information, data.design.T))
        # Firth's slope is that of data with `leverage` further cases, half of them errors; with
        # their information too, steps are close to Newton's.
        surplus = surplus + leverage * (0.5 - chance)
        information = data.design.T @ (weighted * (1.0 + leverage / data.trials)[:, None])
    return value, data.design.T @ surplus, information


def check_clusters(clusters: Sequence[Hashable] | None, cases: int) -> None:
    """Refuses clusters that are not one per case.

    Raises:
      PredictionsError: none given, or another number than cases.
    """
    if clusters is None or len(clusters) != cases:
        found = "none" if clusters is None else str(len(clusters))
        raise PredictionsError(f"clusters: found {found}, expected {cases} (one per case)")
