"""Two runs side by side: whether they came to the same bytes, and how far apart they are if not."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from thyrojax.errors import RunError
from thyrojax.train.digests import leaf_digests, state_digest
from thyrojax.train.state import TrainState

Verdict = Literal["bitwise equal", "equal to rounding", "different"]

# Two runs are equal to rounding where no figure of metrics.jsonl differs by more than this: of
# figures beyond 1 a share of them. Training enlarges rounding from step to step, so a long run on
# other devices may be beyond it and as good.
ROUNDING = 1e-3


@dataclass(frozen=True)
class MetricsDifference:
    """Of two metrics.jsonl, line by line."""

    lines: int
    other_lines: int
    differing: int  # lines, those that only one of them has included
    first: str  # the first of those, in words; "" where there is none
    alike: bool  # whether every line has the same names, step, texts and finite figures beside
    largest: dict[str, float]  # figure -> largest difference; beyond 1 relative, else absolute


@dataclass(frozen=True)
class StateDifference:
    """Of two saved states."""

    step: int
    other_step: int
    digest: str
    other_digest: str
    leaves: int
    differing: int
    largest: float  # difference of two numbers at the same place of a leaf
    largest_leaf: str  # where that is; "" where all are equal


def compare_metrics(run: Path, other: Path) -> MetricsDifference:
    """The metrics.jsonl of two run folders.

    Raises:
      RunError: one of them cannot be read.
    """
    lines, others = (_lines(folder / "metrics.jsonl") for folder in (run, other))
    differing, first, alike, largest = 0, "", True, dict[str, float]()
    for number, (mine, theirs) in enumerate(zip_longest(lines, others), start=1):
        if mine == theirs:
            continue
        differing += 1
        found = None if mine is None or theirs is None else _figures(mine, theirs)
        alike &= found is not None
        for name, (_, _, difference) in (found or {}).items():
            largest[name] = max(largest.get(name, 0.0), difference)
        if not first:
            first = f"line {number}: " + _in_words(mine, theirs, found)
    return MetricsDifference(len(lines), len(others), differing, first, alike, largest)


def _lines(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().splitlines(keepends=True)
    except OSError as error:
        raise RunError(
            f"{path}: found {error.strerror or error}, expected what `thyrojax train` wrote"
        ) from None


def _figures(mine: bytes, theirs: bytes) -> dict[str, tuple[Any, Any, float]] | None:
    """Figures that differ: both and their difference. None where more than figures differs."""
    try:
        one, two = json.loads(mine), json.loads(theirs)
    except ValueError:
        return None
    if not isinstance(one, dict) or not isinstance(two, dict) or one.keys() != two.keys():
        return None
    found = {}
    for name, value in one.items():
        other = two[name]
        if value == other:
            continue
        numbers = all(isinstance(x, int | float) and math.isfinite(x) for x in (value, other))
        if name == "step" or not numbers:
            return None
        found[name] = (value, other, abs(value - other) / max(1.0, abs(value), abs(other)))
    return found


def _in_words(mine: bytes | None, theirs: bytes | None, found: dict[str, Any] | None) -> str:
    if found:
        name, (value, other, _) = next(iter(found.items()))
        return f"{name} {value!r}, now {other!r}"
    texts = ("none" if x is None else x.decode(errors="replace").strip() for x in (mine, theirs))
    one, two = (text if len(text) <= 120 else text[:120] + "..." for text in texts)
    return f"{one}, now {two}"


def compare_states(state: TrainState, other: TrainState) -> StateDifference:
    """Two states, leaf by leaf.

    Raises:
      RunError: they do not have the same leaves.
    """
    leaves, others = leaf_digests(state), leaf_digests(other)
    if [(x["dtype"], x["shape"]) for x in leaves.values()] != [
        (x["dtype"], x["shape"]) for x in others.values()
    ] or list(leaves) != list(others):
        odd = sorted(leaves.keys() ^ others.keys()) or ["one of another shape"]
        raise RunError(f"found states of other leaves ({odd[0]}), expected two of one network")
    largest, largest_leaf, differing = 0.0, "", 0
    arrays = zip(leaves, *(jax.tree.leaves(jax.device_get(x)) for x in (state, other)), strict=True)
    for name, mine, theirs in arrays:
        if leaves[name] == others[name]:
            continue
        differing += 1
        apart = np.abs(np.asarray(mine, np.float64) - np.asarray(theirs, np.float64)).max()
        if not largest_leaf or apart > largest:
            largest, largest_leaf = float(apart), name
    return StateDifference(
        int(state.step),
        int(other.step),
        state_digest(leaves),
        state_digest(others),
        len(leaves),
        differing,
        largest,
        largest_leaf,
    )


def verdict(metrics: MetricsDifference, state: StateDifference) -> Verdict:
    """What both differences amount to."""
    if metrics.differing == 0 and state.digest == state.other_digest:
        return "bitwise equal"
    rounded = metrics.alike and max(metrics.largest.values(), default=0.0) <= ROUNDING
    return "equal to rounding" if rounded and state.step == state.other_step else "different"


def told(metrics: MetricsDifference, state: StateDifference) -> list[str]:
    """Both differences, a line each."""
    if metrics.differing:
        largest = ", ".join(f"{name} {x:.2g}" for name, x in sorted(metrics.largest.items()))
        figures = f"; largest differences: {largest}" if largest else ""
        of = f"{metrics.differing} of {max(metrics.lines, metrics.other_lines)} lines differ"
        first = f"metrics.jsonl: {of}; {metrics.first}{figures}"
    else:
        first = f"metrics.jsonl: all {metrics.lines} lines equal"
    if state.digest == state.other_digest:
        return [first, f"state after step {state.step}: digest {state.digest}, equal"]
    steps = f"step {state.step}" + (
        "" if state.step == state.other_step else f", now step {state.other_step}"
    )
    return [
        first,
        f"state after {steps}: {state.differing} of {state.leaves} leaves differ, by at most "
        f"{state.largest:.2g} ({state.largest_leaf})",
    ]
