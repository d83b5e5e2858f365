"""Firth's penalised logistic regression: finite odds ratios where plain ones are 0 or infinite."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from thyrojax.analysis.logistic import (
    collect_patterns,
    estimable,
    independent_columns,
    maximise,
    profile_interval,
    profile_of,
)
from thyrojax.shapes import Float, Int


class FirthEstimate(NamedTuple):
    """One exposure's log odds ratio, the interval of its penalised profile, and P.

    None where the cases cannot say; `note` then says why.
    """

    log_odds: float | None
    low: float | None
    high: float | None
    p: float | None
    note: str


def fit_firth(
    errors: Int[np.ndarray, " cases"],
    exposed: Float[np.ndarray, "cases exposures"],
    confidence: float = 0.95,
) -> tuple[FirthEstimate, ...]:
    """Log odds ratios with the likelihood penalised by Jeffreys' prior (Firth 1993).

    Intervals and P are of the profile of the penalised likelihood, with the penalty of the whole
    model throughout (Heinze & Schemper 2002, Stat Med 21:2409).

    Args:
      errors: 0 or 1 of each case.
      exposed: one column per exposure, without the constant.
      confidence: of the intervals.

    Returns:
      One estimate per column of `exposed`.

    Raises:
      PredictionsError: no case, an error other than 0 or 1, an exposure that is not finite.
    """
    from scipy.stats import chi2

    data = collect_patterns(errors, exposed)
    n_errors, n = int(errors.sum()), len(errors)
    if n_errors in (0, n):
        note = f"{'no' if n_errors == 0 else 'only'} errors among {n} cases"
        return (FirthEstimate(None, None, None, None, note),) * exposed.shape[1]
    known = estimable(data.design)
    columns = independent_columns(data.design)
    kept = data._replace(design=data.design[:, columns], scale=data.scale[columns])
    best = maximise(kept, firth=True)
    estimates = []
    for column in range(1, exposed.shape[1] + 1):
        if not known[column]:
            note = "cannot be told from the other exposures, or nobody differs in it"
            estimates.append(FirthEstimate(None, None, None, None, note))
            continue
        place = int(np.flatnonzero(columns == column)[0])
        estimate, scale = float(best.coefficients[place]), float(data.scale[column])
        profile = profile_of(kept, place, firth=True)
        low, high = profile_interval(profile, best.value, estimate, confidence)
        fall = 2.0 * (best.value - profile(0.0))
        estimates.append(
            FirthEstimate(
                log_odds=estimate / scale,
                low=None if low is None else low / scale,
                high=None if high is None else high / scale,
                p=float(chi2.sf(max(fall, 0.0), 1)),
                note="" if None not in (low, high) else "the penalised profile is too flat",
            )
        )
    return tuple(estimates)
