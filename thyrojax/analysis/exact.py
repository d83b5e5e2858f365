"""Fisher's exact test for tables of any size (Freeman & Halton 1951, Biometrika 38:141)."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from thyrojax.errors import PredictionsError
from thyrojax.shapes import Float, Int

# R's fisher.test counts a table as no more probable than the observed one up to this.
TIE = 1e-7
# Half tables extended by one column at a time; one to three seconds and half a gigabyte.
LARGEST_STEP = 6_000_000
RESAMPLES = 20_000


class ExactTest(NamedTuple):
    """P, how it was obtained, and its standard error where tables were drawn at random."""

    p: float
    method: str
    standard_error: float | None


class _Halves(NamedTuple):
    """Tables filled up to some column: what is left of each row, and the log weight so far."""

    left: Int[np.ndarray, "halves rows"]
    weight: Float[np.ndarray, " halves"]
    origin: Int[np.ndarray, " halves"]


def fisher_exact(
    counts: Int[np.ndarray, "rows columns"],
    resamples: int = RESAMPLES,
    seed: int = 0,
    largest: int = LARGEST_STEP,
) -> ExactTest:
    """The probability, with all margins given, of a table no more probable than the observed one.

    Every table with the observed margins is accounted for: the columns are filled from both sides,
    and each pair of halves that fit adds up to a table. Where that would be too many, tables are
    drawn at random instead (Patefield 1981, through scipy), which `method` and `standard_error`
    say.

    Args:
      counts: cases by row and column; empty rows and columns do not matter.
      resamples: tables drawn where there are too many to be counted.
      seed: of those draws.
      largest: as many half tables are counted before tables are drawn instead.

    Raises:
      PredictionsError: a negative count, or no case at all.
    """
    if counts.size == 0 or counts.sum() == 0:
        raise PredictionsError("counts: found no case, expected at least one")
    if counts.min() < 0:
        raise PredictionsError(f"counts: found {counts.min()}, expected none below 0")
    table = counts[counts.sum(axis=1) > 0][:, counts.sum(axis=0) > 0].astype(np.int64)
    if min(table.shape) < 2:
        return ExactTest(1.0, "exact: no other table has these margins", None)
    table = table if len(table) <= table.shape[1] else table.T
    # Short columns first: the long ones then have few ways left.
    table = table[:, np.argsort(table.sum(axis=0), kind="stable")]
    p = _enumerate(table, largest)
    if p is None:
        return _draw(table, resamples, seed)
    name = "Fisher" if table.shape == (2, 2) else "Fisher-Freeman-Halton"
    return ExactTest(min(p, 1.0), f"exact ({name})", None)


def _enumerate(table: Int[np.ndarray, "rows columns"], largest: int) -> float | None:
    """P, or None where there are too many tables."""
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    whole = _log_factorial(rows).sum() + _log_factorial(columns).sum()
    margins = float(whole - _log_factorial(table.sum(keepdims=True)).sum())
    bound = -float(_log_factorial(table).sum()) + math.log1p(TIE)
    logs = _log_factorial(np.arange(rows.max() + 1))
    middle = len(columns) // 2 if len(columns) > 2 else 0
    # Half the memory, and more cases than 2**31 would have too many tables in any event.
    small = np.int32 if table.sum() < 2**31 else np.int64
    start = _Halves(rows[None, :].astype(small), np.zeros(1), np.zeros(1, dtype=np.int32))
    front = _fill(start, columns[:middle], logs, largest)
    if front is None:
        return None
    # Each way that the front leaves the rows is completed once for all fronts that share it.
    place = np.zeros(len(front.left), dtype=np.int64)
    for left in front.left.T:
        values, code = np.unique(left, return_inverse=True)
        _, first, place = np.unique(
            place * len(values) + code, return_index=True, return_inverse=True
        )
    start = _Halves(front.left[first], np.zeros(len(first)), np.arange(len(first), dtype=np.int32))
    back = _fill(start, columns[middle:-1], logs, largest)
    if back is None:
        return None
    # The last column is what is left. Filling keeps halves of one origin together.
    completed = back.weight - sum(logs[left] for left in back.left.T)
    heads = front.weight[np.argsort(place, kind="stable")]
    front_edges = np.append(0, np.cumsum(np.bincount(place)))
    back_edges = np.append(0, np.cumsum(np.bincount(back.origin)))
    total = 0.0
    for number in range(len(first)):
        tails = np.sort(completed[back_edges[number] : back_edges[number + 1]])
        head = heads[front_edges[number] : front_edges[number + 1]]
        top = tails[-1]
        sums = np.append(0.0, np.cumsum(np.exp(tails - top)))
        fitting = sums[np.searchsorted(tails, bound - head, side="right")]
        total += float(np.exp(head + top + margins) @ fitting)
    return total


def _fill(
    halves: _Halves,
    columns: Int[np.ndarray, " filled"],
    logs: Float[np.ndarray, " counts"],
    largest: int,
) -> _Halves | None:
    """Fills further columns in every way that the rows allow; None where there are too many."""
    rows = halves.left.shape[1]
    for total in columns:
        rest = np.full(len(halves.left), total, dtype=halves.left.dtype)
        for row in range(rows - 1):
            # What the rows below can take need not be put here, so that no way is a dead end.
            below = halves.left[:, row + 1 :].sum(axis=1)
            least = np.maximum(rest - below, 0)
            ways = np.minimum(halves.left[:, row], rest) - least + 1
            if ways.sum() > largest:
                return None
            half = np.repeat(np.arange(len(ways), dtype=np.int32), ways)
            first = np.cumsum(ways) - ways
            here = (np.arange(len(half)) - (first - least)[half]).astype(rest.dtype)
            left = halves.left[half]
            left[:, row] -= here
            halves = _Halves(left, halves.weight[half] - logs[here], halves.origin[half])
            rest = rest[half] - here
        halves.left[:, -1] -= rest
        halves = halves._replace(weight=halves.weight - logs[rest])
    return halves


def _log_factorial(counts: Int[np.ndarray, "*any"]) -> Float[np.ndarray, "*any"]:
    from scipy.special import gammaln

    return np.asarray(gammaln(counts + 1.0))


def _draw(table: Int[np.ndarray, "rows columns"], resamples: int, seed: int) -> ExactTest:
    from scipy.stats import random_table

    drawn = random_table(table.sum(axis=1), table.sum(axis=0)).rvs(
        resamples, random_state=np.random.default_rng(seed)
    )
    weights = -_log_factorial(drawn.astype(np.int64)).sum(axis=(1, 2))
    rarer = int(np.sum(weights <= -_log_factorial(table).sum() + np.log1p(TIE)))
    # The observed table is one of those that the margins allow (Davison & Hinkley 1997, 4.2).
    p = (rarer + 1) / (resamples + 1)
    return ExactTest(
        p,
        f"{resamples} tables drawn at random, as there are too many to be counted",
        math.sqrt(p * (1.0 - p) / resamples),
    )
