"""Logistic regression of misdiagnosis on exposures: the form of Table 3 of Guan et al. 2019."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from thyrojax.analysis.logistic import (
    Patterns,
    check_clusters,
    collect_patterns,
    estimable,
    independent_columns,
    log_likelihood,
    maximise,
    profile_interval,
    profile_of,
)
from thyrojax.analysis.separation import Kind, Separation, find_separation
from thyrojax.errors import PredictionsError
from thyrojax.shapes import Bool, Float, Int

Robust = Literal["cluster", "gee"] | None


class Estimate(NamedTuple):
    """One exposure's log odds ratio with its intervals and Wald's P.

    `log_odds` is -inf or inf where separation takes the estimate there; the profile's interval
    then ends at the same infinity, and Wald's interval and P do not exist. None where the cases
    cannot say; `note` then says why.
    """

    log_odds: float | None
    standard_error: float | None
    low: float | None
    high: float | None
    p: float | None
    profile_low: float | None
    profile_high: float | None
    note: str


@dataclass(frozen=True)
class LogisticFit:
    """A fit: one estimate per exposure, and whether the cases were separated."""

    estimates: tuple[Estimate, ...]
    separation: Kind
    n: int
    errors: int


class _Wald(NamedTuple):
    """Coefficients and their standard errors, in the design's units; or why there are none."""

    coefficients: Float[np.ndarray, " coefficients"]
    deviations: Float[np.ndarray, " coefficients"]
    note: str


def fit_logistic(
    errors: Int[np.ndarray, " cases"],
    exposed: Float[np.ndarray, "cases exposures"],
    clusters: Sequence[Hashable] | None = None,
    robust: Robust = None,
    confidence: float = 0.95,
) -> LogisticFit:
    """Log odds ratios by maximum likelihood, with Wald's and the profile likelihood's intervals.

    Separation is searched for first. What is not separated is fitted by statsmodels, so that every
    number given belongs to a maximum that exists.

    Args:
      errors: 0 or 1 of each case.
      exposed: one column per exposure, without the constant.
      clusters: whose case it is, needed with `robust`.
      robust: "cluster" for Wald's interval from the sandwich over clusters (with the factors
        G/(G-1) and (n-1)/(n-k)); "gee" for estimates and Wald's interval of generalised estimating
        equations, exchangeable within a cluster (Liang & Zeger 1986, Biometrika 73:13). The
        profile always takes the cases as independent.
      confidence: of the intervals.

    Raises:
      PredictionsError: no case, an error other than 0 or 1, an exposure that is not finite,
        `robust` without a cluster for each case, or an unknown `robust`.
    """
    if robust not in (None, "cluster", "gee"):
        raise PredictionsError(f"robust: found {robust!r}, expected None, 'cluster' or 'gee'")
    if robust:
        check_clusters(clusters, len(errors))
    data = collect_patterns(errors, exposed)
    n, n_errors = len(errors), int(errors.sum())
    if n_errors in (0, n):
        nothing = _nothing(f"{'no' if n_errors == 0 else 'only'} errors among {n} cases")
        return LogisticFit((nothing,) * exposed.shape[1], "none", n, n_errors)
    separation = find_separation(data)
    known = estimable(data.design)
    finite = known & (separation.limit == 0.0)
    wald = _fit_remaining(errors, data, separation, clusters, robust)
    profiled = _profiled(data, separation)
    estimates = [
        _estimate(
            data, separation, wald, profiled, column, bool(known[column]), bool(finite[column]),
            confidence,
        )
        for column in range(1, data.design.shape[1])
    ]  # fmt: skip
    return LogisticFit(tuple(estimates), separation.kind, n, n_errors)


class _Profiled(NamedTuple):
    """Independent columns of the design, their places, and the largest log likelihood."""

    data: Patterns
    columns: Int[np.ndarray, " kept"]
    peak: float


def _profiled(data: Patterns, separation: Separation) -> _Profiled:
    columns = independent_columns(data.design)
    kept = data._replace(design=data.design[:, columns], scale=data.scale[columns])
    # Separated cases become certain at infinity: they add nothing to the largest log likelihood.
    left = ~separation.patterns
    if not left.any():
        return _Profiled(kept, columns, 0.0)
    remaining = kept._replace(
        design=kept.design[left], errors=kept.errors[left], trials=kept.trials[left]
    )
    best = maximise(remaining)
    return _Profiled(kept, columns, log_likelihood(remaining, best.coefficients))


def _estimate(
    data: Patterns,
    separation: Separation,
    wald: _Wald,
    profiled: _Profiled,
    column: int,
    known: bool,
    finite: bool,
    confidence: float,
) -> Estimate:
    if not known:
        return _nothing("cannot be told from the other exposures, or nobody differs in it")
    limit = float(separation.limit[column])
    if np.isnan(limit):
        return _nothing("complete separation: the cases do not even say the direction")
    from scipy.stats import norm

    scale = float(data.scale[column])
    place = int(np.flatnonzero(profiled.columns == column)[0])
    top = float(wald.coefficients[column]) if finite else limit * np.inf
    # A GEE's estimate is not where the likelihood is largest: the profile starts from its own.
    start = float(maximise(profiled.data).coefficients[place]) if finite else top
    low, high = profile_interval(
        profile_of(profiled.data, place),
        profiled.peak,
        start,
        confidence,
    )
    notes = [] if None not in (low, high) else ["the profile is too flat to end"]
    deviation: float | None = None
    wald_low: float | None = None
    wald_high: float | None = None
    p: float | None = None
    if not finite:
        notes.append(f"{separation.kind} separation: no finite estimate, no Wald interval or P")
    elif wald.note:
        notes.append(wald.note)
    else:
        deviation = float(wald.deviations[column]) / scale
        reach = float(norm.isf((1.0 - confidence) / 2.0)) * deviation
        wald_low, wald_high = top / scale - reach, top / scale + reach
        p = float(2.0 * norm.sf(abs(top / scale) / deviation))
        if separation.kind != "none":
            notes.append("other exposures are separated: from the cases that are not")
    return Estimate(
        top / scale if np.isfinite(top) else top,
        deviation,
        wald_low,
        wald_high,
        p,
        None if low is None else low / scale,
        None if high is None else high / scale,
        "; ".join(notes),
    )


def _fit_remaining(
    errors: Int[np.ndarray, " cases"],
    data: Patterns,
    separation: Separation,
    clusters: Sequence[Hashable] | None,
    robust: Robust,
) -> _Wald:
    """Wald's figures from the cases that are not separated, in every column that they can tell."""
    width = data.design.shape[1]
    coefficients, deviations = np.full(width, np.nan), np.full(width, np.nan)
    left = ~separation.patterns
    if not left.any():
        return _Wald(coefficients, deviations, "complete separation")
    columns = independent_columns(data.design[left])
    note = ""
    if robust is None:
        fitted = _fit_counts(data, left, columns)
    else:
        assert clusters is not None
        cases = left[data.of_case]
        groups = np.unique(np.asarray(clusters)[cases], return_inverse=True)[1]
        design = data.design[np.ix_(data.of_case[cases], columns)]
        if robust == "gee" and separation.kind != "none":
            note = "separation: no estimating equations are solved"
        elif groups.max() + 1 <= len(columns):
            note = f"{groups.max() + 1} patients are too few for {len(columns)} coefficients"
        if note:
            fitted = (_fit_counts(data, left, columns)[0], np.full(len(columns), np.nan))
        else:
            fit = _fit_clusters if robust == "cluster" else _fit_gee
            fitted = fit(errors[cases], design, groups)
    coefficients[columns], deviations[columns] = fitted
    if not note and not (deviations[columns] > 0.0).all():
        note = "too few patients differ for errors by patient"
        coefficients[columns] = _fit_counts(data, left, columns)[0]
    return _Wald(coefficients, deviations, note)


_Fitted = tuple[Float[np.ndarray, " kept"], Float[np.ndarray, " kept"]]


def _fit_counts(
    data: Patterns, left: Bool[np.ndarray, " patterns"], columns: Int[np.ndarray, " kept"]
) -> _Fitted:
    from statsmodels.genmod.families import Binomial
    from statsmodels.genmod.generalized_linear_model import GLM

    # Each pattern twice, as so many errors and so many others: statsmodels' residual degrees of
    # freedom are of rows, and one row a pattern would leave none.
    times = np.concatenate([data.errors[left], data.trials[left] - data.errors[left]])
    outcome = np.repeat([1.0, 0.0], int(left.sum()))
    design = np.tile(data.design[np.ix_(left, columns)], (2, 1))
    there = times > 0
    model = GLM(outcome[there], design[there], family=Binomial(), freq_weights=times[there])
    result = model.fit(tol=1e-12, maxiter=200)
    return np.asarray(result.params), np.asarray(result.bse)


def _fit_clusters(
    errors: Int[np.ndarray, " cases"],
    design: Float[np.ndarray, "cases kept"],
    groups: Int[np.ndarray, " cases"],
) -> _Fitted:
    from statsmodels.discrete.discrete_model import Logit

    result = Logit(errors, design).fit(
        cov_type="cluster", cov_kwds={"groups": groups}, disp=0, tol=1e-12, maxiter=200
    )
    return np.asarray(result.params), np.asarray(result.bse)


def _fit_gee(
    errors: Int[np.ndarray, " cases"],
    design: Float[np.ndarray, "cases kept"],
    groups: Int[np.ndarray, " cases"],
) -> _Fitted:
    """Not a number for every deviation where the equations did not converge."""
    from statsmodels.genmod.cov_struct import Exchangeable, Independence
    from statsmodels.genmod.families import Binomial
    from statsmodels.genmod.generalized_estimating_equations import GEE
    from statsmodels.tools.sm_exceptions import ConvergenceWarning, IterationLimitWarning

    # Without two cases of one cluster there is no correlation to be estimated.
    pairs = len(groups) > groups.max() + 1
    model = GEE(
        errors.astype(np.float64),
        design,
        groups=groups,
        family=Binomial(),
        cov_struct=Exchangeable() if pairs else Independence(),
    )
    with warnings.catch_warnings():
        # Few cases may give a correlation with which the equations run away to overflow.
        diverged = (ConvergenceWarning, IterationLimitWarning, RuntimeWarning)
        for category in diverged:
            warnings.simplefilter("error", category)
        try:
            result = model.fit(ctol=1e-10, maxiter=200)
            return np.asarray(result.params), np.asarray(result.bse)
        except (*diverged, np.linalg.LinAlgError):
            return np.full(design.shape[1], np.nan), np.full(design.shape[1], np.nan)


def _nothing(note: str) -> Estimate:
    return Estimate(None, None, None, None, None, None, None, note)
