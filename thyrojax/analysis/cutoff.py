"""Where a score becomes a call. A case is called positive when its score >= cutoff.

A cutoff is chosen on the validation part and applied to the part that is reported.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, cast

import numpy as np

from thyrojax.analysis.predictions import check_cases
from thyrojax.errors import PredictionsError
from thyrojax.shapes import Bool, Float, Int

HALF = 0.5


RuleKind = Literal["half", "youden", "closest", "sensitivity", "specificity", "cost"]
GRAMMAR = "half, youden, closest, sensitivity=S, specificity=S, cost=R or cost=R@PREVALENCE"


class Cutoff(NamedTuple):
    """A cutoff, and in words where it came from."""

    value: float
    source: str


class Rule(NamedTuple):
    """How a cutoff is chosen.

    Attributes:
      kind: `half` is 0.5; `youden` has the largest sensitivity + specificity; `closest` is the
        curve's point closest to (0, 1); `sensitivity` and `specificity` reach at least `target`
        and lose as little as possible of the other; `cost` has the least expected cost.
      target: the sensitivity or specificity to reach; for `cost`, how many false positives one
        false negative is worth.
      prevalence: for `cost`, where the calls will be made; None is the share in the cases.
    """

    kind: RuleKind
    target: float | None = None
    prevalence: float | None = None

    @property
    def words(self) -> str:
        """The rule as it stands in `Cutoff.source`."""
        if self.kind == "cost":
            where = "" if self.prevalence is None else f" at a prevalence of {self.prevalence:.12g}"
            return (
                f"least cost with a false negative worth {self.target:.12g} false positives{where}"
            )
        if self.kind in ("sensitivity", "specificity"):
            return f"{self.kind} >= {self.target:.12g}"
        return {"half": "0.5", "youden": "Youden", "closest": "closest to (0, 1)"}[self.kind]

    def __str__(self) -> str:
        """The rule as `parse_rule` reads it."""
        target = "" if self.target is None else f"={self.target:.12g}"
        return self.kind + target + ("" if self.prevalence is None else f"@{self.prevalence:.12g}")


def parse_rule(text: str) -> Rule:
    """Reads `half`, `youden`, `closest`, `sensitivity=S`, `specificity=S`, `cost=R[@PREVALENCE]`.

    0 < S <= 1; R > 0 is how many false positives one false negative is worth; 0 < PREVALENCE < 1.

    Raises:
      PredictionsError: anything else.
    """
    kind, equals, number = text.strip().partition("=")
    target, at, prevalence = number.partition("@")
    if kind in ("half", "youden", "closest") and not equals:
        return Rule(cast("RuleKind", kind))
    if kind in ("sensitivity", "specificity") and not at and 0.0 < _number(target) <= 1.0:
        return Rule(cast("RuleKind", kind), _number(target))
    if kind == "cost" and 0.0 < _number(target) < math.inf:
        if not at:
            return Rule("cost", _number(target))
        if 0.0 < _number(prevalence) < 1.0:
            return Rule("cost", _number(target), _number(prevalence))
    raise PredictionsError(f"rule for the cutoff: found {text!r}, expected {GRAMMAR}")


def call_positive(scores: Float[np.ndarray, " cases"], cutoff: float) -> Bool[np.ndarray, " cases"]:
    """Which cases are called positive: score >= cutoff, compared in float64.

    Float32 scores would round the cutoff to float32 first, and may then call the score below it.
    """
    return scores.astype(np.float64) >= cutoff


def youden_cutoff(labels: Int[np.ndarray, " cases"], scores: Float[np.ndarray, " cases"]) -> float:
    """The cutoff with the largest sensitivity + specificity - 1 (Youden 1950, Cancer 3:32).

    Midway between the lowest score called and the next one below, so that unseen cases near the
    edge may fall on either side of it. Where several cutoffs share the largest index, the lowest
    of them, which misses the fewest positives. Where no cutoff has an index above 0, the lowest
    score (all are called).

    Raises:
      PredictionsError: as `check_cases`, both classes wanted.
    """
    return _best_cutoff(Rule("youden"), labels, scores)


def apply_rule(
    rule: Rule,
    labels: Int[np.ndarray, " cases"],
    scores: Float[np.ndarray, " cases"],
    part: str = "validation",
    optimistic: bool = False,
) -> Cutoff:
    """The cutoff that a rule chooses on the cases of a part.

    It lies midway in the gap between two scores, as Youden's. Of equally good cutoffs the lowest
    is taken, which misses the fewest positives; `sensitivity` takes the highest that reaches its
    target, `specificity` the lowest. Where even the highest score may not be called, the cutoff is
    just above it. `half` looks at no case.

    With `optimistic`, the cases are those that the cutoff is then reported for, and the source
    says so: sensitivity and specificity come out too high.

    Raises:
      PredictionsError: as `check_cases`, both classes wanted (except for `half`).
    """
    if rule.kind == "half":
        return Cutoff(HALF, "0.5, fixed beforehand")
    source = f"{rule.words} on the {part} part (n = {len(labels)})"
    if optimistic:
        source += ", optimistic: chosen on the cases that are reported"
    return Cutoff(_best_cutoff(rule, labels, scores), source)


def choose_cutoff(
    labels: Int[np.ndarray, " cases"],
    scores: Float[np.ndarray, " cases"],
    part: str = "validation",
) -> Cutoff:
    """Youden's cutoff on the cases of a part; 0.5 where that part has no case or one class only.

    Raises:
      PredictionsError: a label other than 0 or 1, or a score that is not finite.
    """
    if len(labels) == 0:
        return Cutoff(HALF, f"0.5, as the {part} part has no case")
    check_cases(labels, scores)
    if labels.min() == labels.max():
        return Cutoff(HALF, f"0.5, as the {part} part has one class only")
    return Cutoff(youden_cutoff(labels, scores), f"Youden on the {part} part (n = {len(labels)})")


def _best_cutoff(
    rule: Rule, labels: Int[np.ndarray, " cases"], scores: Float[np.ndarray, " cases"]
) -> float:
    """The best of all cutoffs by a rule other than `half`, as `apply_rule`."""
    check_cases(labels, scores, both_classes=True)
    rising, group = np.unique(scores.astype(np.float64), return_inverse=True)
    positives = np.bincount(group, weights=labels, minlength=len(rising)).astype(np.int64)
    negatives = np.bincount(group, minlength=len(rising)) - positives
    n_positive, n_negative = int(positives.sum()), int(negatives.sum())
    # Called at each score as the cutoff, and last of all where nothing is.
    true_positives = np.append(np.cumsum(positives[::-1])[::-1], 0)
    false_positives = np.append(np.cumsum(negatives[::-1])[::-1], 0)
    missed = n_positive - true_positives
    target = 0.0 if rule.target is None else rule.target
    if rule.kind == "sensitivity":
        best = int(np.flatnonzero(true_positives / n_positive >= target)[-1])
    elif rule.kind == "specificity":
        best = int(np.argmax((n_negative - false_positives) / n_negative >= target))
    elif rule.kind == "closest":
        # Distances times both class sizes: whole numbers, so that ties are exact.
        down, right = (
            (missed * n_negative).astype(np.float64),
            (false_positives * n_positive).astype(np.float64),
        )
        best = int(np.argmin(down**2 + right**2))
    elif rule.kind == "cost" and rule.prevalence is None:
        best = int(np.argmin(target * missed + false_positives))
    elif rule.kind == "cost" and rule.prevalence is not None:
        of_missed = target * rule.prevalence * missed / n_positive
        best = int(np.argmin(of_missed + (1.0 - rule.prevalence) * false_positives / n_negative))
    else:
        # The index times both class sizes: whole numbers, so that ties are exact.
        best = int(np.argmax(true_positives * n_negative - false_positives * n_positive))
    if best == len(rising):
        return math.nextafter(float(rising[-1]), math.inf)
    if best == 0:
        return float(rising[0])
    middle = float((rising[best - 1] + rising[best]) / 2.0)
    # Between neighbouring floats the middle may round down onto the score that is not called.
    return middle if middle > rising[best - 1] else float(rising[best])


def _number(text: str) -> float:
    """NaN, which no comparison accepts, for what is no number."""
    try:
        return float(text)
    except ValueError:
        return math.nan
