"""Whether a logistic regression has an estimate at all: complete and quasi-complete separation.

Where a combination of the exposures tells errors from the rest without a mistake, the likelihood
rises for ever and some odds ratios are 0 or infinite. Software that merely iterates prints
whatever its last step gave.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from thyrojax.analysis.logistic import Patterns, estimable
from thyrojax.shapes import Bool, Float

# Columns have a spread of about 1; the solver keeps its constraints to 1e-7.
TOLERANCE = 1e-6

Kind = Literal["none", "quasi-complete", "complete"]


class Separation(NamedTuple):
    """What is separated, and which coefficients that takes to infinity.

    Attributes:
      kind: "complete" where every case can be told.
      patterns: those whose cases can be told without a mistake.
      limit: of each coefficient: 0 finite, -1 or 1 towards minus or plus infinity, NaN where the
        cases do not say which (or nothing about it, as no case has the exposure).
    """

    kind: Kind
    patterns: Bool[np.ndarray, " patterns"]
    limit: Float[np.ndarray, " coefficients"]


def find_separation(data: Patterns) -> Separation:
    """Finds separation by linear programming (Konis 2007, thesis, University of Oxford).

    A direction is looked for along which no case becomes less likely and some become more likely.
    What it separates is set aside, and the rest searched again until there is none: what then
    remains has a finite estimate. A coefficient is finite where the remaining cases can estimate
    it; else the largest and smallest value that it takes among all such directions give its sign.
    """
    n_columns = data.design.shape[1]
    separated = np.zeros(len(data.design), dtype=bool)
    rank = np.linalg.matrix_rank(data.design)
    # Patterns with both outcomes allow no direction: where they span all, nothing is separated.
    mixed = data.design[_mixed(data)]
    search = len(mixed) == 0 or np.linalg.matrix_rank(mixed) < rank
    while search and not separated.all():
        kept = ~separated
        margins = _signed(data)[kept]
        direction = _extreme(data, kept, -margins.sum(axis=0))
        told = margins @ direction > TOLERANCE
        if not told.any():
            break
        separated[np.flatnonzero(kept)[told]] = True
    limit = np.zeros(n_columns)
    everything = np.ones(len(data.design), dtype=bool)
    for column in np.flatnonzero(~estimable(data.design[~separated])) if search else ():
        goal = np.zeros(n_columns)
        goal[column] = 1.0
        lowest = _extreme(data, everything, goal)[column]
        highest = _extreme(data, everything, -goal)[column]
        if lowest < -TOLERANCE and highest <= TOLERANCE:
            limit[column] = -1.0
        elif highest > TOLERANCE and lowest >= -TOLERANCE:
            limit[column] = 1.0
        else:
            limit[column] = np.nan
    kind: Kind = "none"
    if separated.any():
        kind = "complete" if separated.all() else "quasi-complete"
    return Separation(kind, separated, limit)


def _signed(data: Patterns) -> Float[np.ndarray, "patterns coefficients"]:
    """Rows that a separating direction must not make negative; 0 where both outcomes occur."""
    sign = np.sign(2.0 * data.errors - data.trials)
    sign[_mixed(data)] = 0.0
    return data.design * sign[:, None]


def _mixed(data: Patterns) -> Bool[np.ndarray, " patterns"]:
    return (data.errors > 0) & (data.errors < data.trials)


def _extreme(
    data: Patterns,
    kept: Bool[np.ndarray, " patterns"],
    goal: Float[np.ndarray, " coefficients"],
) -> Float[np.ndarray, " coefficients"]:
    """The direction from -1 to 1 with the smallest `goal` that harms none of the kept patterns."""
    from scipy.optimize import linprog

    mixed = _mixed(data) & kept
    single = kept & ~mixed
    solution = linprog(
        goal,
        A_ub=-_signed(data)[single] if single.any() else None,
        b_ub=np.zeros(int(single.sum())) if single.any() else None,
        A_eq=data.design[mixed] if mixed.any() else None,
        b_eq=np.zeros(int(mixed.sum())) if mixed.any() else None,
        bounds=(-1.0, 1.0),
        method="highs",
    )
    # No direction at all is always allowed, so that only a failure of the solver has no answer.
    if solution.x is None:
        raise RuntimeError(f"linear programme for separation: {solution.message}")
    return np.asarray(solution.x, dtype=np.float64)
