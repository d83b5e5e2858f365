"""What each rule for the cutoff would have given, as a table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from thyrojax.analysis.confusion import count_confusion
from thyrojax.analysis.cutoff import Rule, apply_rule
from thyrojax.analysis.intervals import wilson_interval
from thyrojax.analysis.predictions import check_cases
from thyrojax.analysis.table import Table, table_of
from thyrojax.errors import PredictionsError
from thyrojax.shapes import Float, Int

Cases = tuple[Int[np.ndarray, " chosen_on"], Float[np.ndarray, " chosen_on"]]

STANDARD_RULES = (
    Rule("half"),
    Rule("youden"),
    Rule("closest"),
    Rule("sensitivity", 0.9),
    Rule("sensitivity", 0.95),
    Rule("specificity", 0.9),
    Rule("specificity", 0.95),
    Rule("cost", 5.0),
)


def cutoffs_table(
    labels: Int[np.ndarray, " cases"],
    scores: Float[np.ndarray, " cases"],
    chosen_on: Cases | None,
    rules: Sequence[Rule] = STANDARD_RULES,
    part: str = "validation",
    optimistic: bool = False,
) -> Table:
    """Each rule's cutoff, and its sensitivity and specificity on the reported cases (Wilson, 95 %).

    Args:
      labels: of the reported cases.
      scores: of the reported cases.
      chosen_on: labels and scores of the cases that the cutoffs are chosen on. Without them only
        `half` has a row, unless `optimistic`.
      part: the name of `chosen_on` in the words of each row.
      optimistic: choose on the reported cases themselves; every such row says so.

    Raises:
      PredictionsError: as `check_cases`.
    """
    check_cases(labels, scores)
    footnotes = [
        "A case is called positive when its score >= cutoff. Sensitivity and specificity are of "
        "the reported cases, with 95 % Wilson intervals that take images as independent."
    ]
    if optimistic:
        chosen_on, part = (labels, scores), "reported"
        footnotes.append(
            "Optimistic: the cutoffs were chosen on the cases that they are reported for; new "
            "cases will have a lower sensitivity or specificity."
        )
    if chosen_on is None:
        rules = [rule for rule in rules if rule.kind == "half"] or [Rule("half")]
        footnotes.append(
            "No other cutoff: there are no validation cases to choose it on, and one chosen on "
            "the reported cases would be optimistic."
        )
        chosen_on = (labels, scores)
    return table_of(
        "cutoffs",
        f"Rules for the cutoff, and what each gives in {len(labels):,} cases.",
        [_row(rule, labels, scores, chosen_on, part, optimistic) for rule in rules],
        footnotes,
    )


def _row(
    rule: Rule,
    labels: Int[np.ndarray, " cases"],
    scores: Float[np.ndarray, " cases"],
    chosen_on: Cases,
    part: str,
    optimistic: bool,
) -> dict[str, object]:
    note = ""
    value, source = None, f"the {part} part"
    measured: dict[str, float | None] = dict.fromkeys(_MEASURES)
    try:
        value, source = apply_rule(rule, *chosen_on, part, optimistic)
    except PredictionsError as error:
        # One class only, for one: the other rules and parts of the study still have an answer.
        note = f"no cutoff: {error}"
    if value is not None:
        measured = _measure(labels, scores, value)
        gaps = [name for name in ("sensitivity", "specificity") if measured[name] is None]
        note = "; ".join(f"no {name}: the reported cases are of one class" for name in gaps)
    return {
        "rule": str(rule),
        "cutoff": value,
        "sensitivity": measured["sensitivity"],
        "specificity": measured["specificity"],
        "chosen_on": source,
        **{name: measured[name] for name in _MEASURES if name.endswith(("_low", "_high"))},
        "note": note,
    }


def _measure(
    labels: Int[np.ndarray, " cases"], scores: Float[np.ndarray, " cases"], cutoff: float
) -> dict[str, float | None]:
    counts = count_confusion(labels, scores, cutoff)
    found: list[float | None] = []
    for right, wrong in (
        (counts.true_positive, counts.false_negative),
        (counts.true_negative, counts.false_positive),
    ):
        interval = wilson_interval(right, right + wrong)
        found += [right / (right + wrong), *interval] if interval else [None, None, None]
    return dict(zip(_MEASURES, found, strict=True))


_MEASURES = tuple(
    name + end for name in ("sensitivity", "specificity") for end in ("", "_low", "_high")
)
