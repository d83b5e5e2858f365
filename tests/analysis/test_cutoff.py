"""Cutoffs: a case is called when its score is at least the cutoff."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from thyrojax.analysis.cutoff import (
    Rule,
    apply_rule,
    call_positive,
    choose_cutoff,
    parse_rule,
    youden_cutoff,
)
from thyrojax.analysis.cutoff_table import STANDARD_RULES, cutoffs_table
from thyrojax.errors import PredictionsError

INDEX = np.arange(120)
LABELS = (INDEX * 7 % 12 < 5).astype(int)


@pytest.mark.parametrize(
    ("scores", "cutoff", "sensitivity", "specificity"),
    [
        ((INDEX * 37 % 101 + 60 * LABELS) / 200, 0.425, 0.76, 61 / 70),
        ((INDEX * 53 % 97 + 18 * LABELS) // 15 / 10, 0.55, 0.28, 66 / 70),
    ],
)
def test_youden_is_that_of_proc(
    scores: np.ndarray, cutoff: float, sensitivity: float, specificity: float
) -> None:
    """coords(roc, "best", best.method = "youden") of pROC 1.18.0 on the cases of test_roc.py."""
    found = youden_cutoff(LABELS, scores)
    assert found == pytest.approx(cutoff)
    called = call_positive(scores, found)
    assert called[LABELS == 1].mean() == pytest.approx(sensitivity)
    assert (~called)[LABELS == 0].mean() == pytest.approx(specificity)


def test_of_tied_cutoffs_the_lowest_is_taken() -> None:
    """Calling >= 0.8 has sensitivity 1/2, specificity 1; >= 0.4 has 1 and 1/2: the index is 1/2."""
    labels = np.array([0, 1, 0, 1])
    assert youden_cutoff(labels, np.array([0.2, 0.4, 0.6, 0.8])) == pytest.approx(0.3)


def test_the_cutoff_lies_midway_in_the_gap() -> None:
    assert youden_cutoff(np.array([0, 0, 1]), np.array([0.1, 0.2, 0.9])) == pytest.approx(0.55)


def test_between_neighbouring_floats_the_lower_score_is_still_not_called() -> None:
    low = 0.1
    high = float(np.nextafter(low, 1.0))
    cutoff = youden_cutoff(np.array([0, 1]), np.array([low, high]))
    assert call_positive(np.array([low, high]), cutoff).tolist() == [False, True]


def test_a_worthless_score_calls_everything() -> None:
    assert youden_cutoff(np.array([0, 1]), np.array([0.4, 0.4])) == 0.4
    assert youden_cutoff(np.array([1, 0]), np.array([0.1, 0.9])) == 0.1


def test_a_score_at_the_cutoff_is_called() -> None:
    assert call_positive(np.array([0.5, 0.49]), 0.5).tolist() == [True, False]


def test_float32_scores_are_not_called_by_a_rounded_cutoff() -> None:
    """In float32 the cutoff would round onto the score below it."""
    score = np.float32(0.3)
    assert not call_positive(np.array([score]), float(score) + 1e-10)[0]


def test_a_cutoff_says_where_it_came_from() -> None:
    chosen = choose_cutoff(np.array([0, 0, 1]), np.array([0.1, 0.2, 0.9]))
    assert chosen.value == pytest.approx(0.55)
    assert chosen.source == "Youden on the validation part (n = 3)"


def test_where_validation_cannot_choose_the_cutoff_is_one_half_and_says_so() -> None:
    assert choose_cutoff(np.ones(3, int), np.full(3, 0.9)) == (
        0.5,
        "0.5, as the validation part has one class only",
    )
    empty = choose_cutoff(np.zeros(0, int), np.zeros(0))
    assert empty == (0.5, "0.5, as the validation part has no case")


def test_one_class_has_no_youden_index() -> None:
    with pytest.raises(PredictionsError, match="expected both classes"):
        youden_cutoff(np.ones(3, int), np.array([0.1, 0.2, 0.3]))


# The example of pROC; tests/analysis/test_roc.py says where it is from.
ASAH = np.loadtxt(Path(__file__).with_name("asah.csv"), delimiter=",", skiprows=1)
POOR, S100B, NDKA = ASAH[:, 0].astype(int), ASAH[:, 1], ASAH[:, 2]


@pytest.mark.parametrize(
    ("rule", "marker", "cutoff", "specificity", "sensitivity"),
    [
        ("youden", S100B, 0.205, 0.805555555556, 0.634146341463),
        ("youden", NDKA, 11.08, 0.513888888889, 0.707317073171),
        ("closest", S100B, 0.205, 0.805555555556, 0.634146341463),
        ("closest", NDKA, 12.73, 0.625, 0.585365853659),
        ("sensitivity=0.9", S100B, 0.075, 0.222222222222, 0.902439024390),
        ("sensitivity=0.9", NDKA, 7.24, 0.166666666667, 0.902439024390),
        ("specificity=0.9", S100B, 0.435, 0.902777777778, 0.390243902439),
        ("specificity=0.9", NDKA, 25.885, 0.902777777778, 0.195121951220),
        ("cost=3", NDKA, 8.16, 0.25, 0.878048780488),
        ("cost=5@0.2", NDKA, 11.08, 0.513888888889, 0.707317073171),
        ("cost=5@0.5", S100B, 0.065, 0.138888888889, 0.975609756098),
        ("cost=5@0.5", NDKA, 3.44, 0.0138888888889, 1.0),
    ],
)
def test_rules_choose_as_proc_does(
    rule: str, marker: np.ndarray, cutoff: float, specificity: float, sensitivity: float
) -> None:
    """coords() of pROC 1.18.0, "best" by youden and closest.topleft.

    Costs are its best.weights, at the prevalence after "@" or 41/113. For the targets, of all
    coords the most specific with sensitivity >= 0.9 and the most sensitive with specificity >= 0.9.
    """
    found = apply_rule(parse_rule(rule), POOR, marker)
    assert found.value == pytest.approx(cutoff)
    called = call_positive(marker, found.value)
    assert called[POOR == 1].mean() == pytest.approx(sensitivity)
    assert (~called)[POOR == 0].mean() == pytest.approx(specificity)


def test_a_rule_is_read_and_written_the_same() -> None:
    for text in ("half", "youden", "closest", "sensitivity=0.95", "specificity=1", "cost=10@0.05"):
        assert str(parse_rule(text)) == text
    assert parse_rule(" cost=2.5 ") == Rule("cost", 2.5, None)


@pytest.mark.parametrize(
    "text",
    [
        *("", "Youden index", "half=0.5", "sensitivity", "sensitivity=0", "sensitivity=95"),
        *("sensitivity=nan", "specificity=0.9@0.1", "cost=0", "cost=inf", "cost=5@", "cost=5@1"),
    ],
)
def test_what_is_no_rule_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(PredictionsError, match="expected half, youden, closest, sens") as caught:
        parse_rule(text)
    assert repr(text) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_target_that_is_met_exactly_is_met() -> None:
    """19 of 20 is 0.95, in floating point too; 0.96 needs all 20."""
    labels = np.repeat([0, 1], 20)
    scores = np.arange(40) / 40
    called = [
        int(call_positive(scores, apply_rule(Rule("sensitivity", s), labels, scores).value).sum())
        for s in (0.95, 0.96)
    ]
    assert called == [19, 20]


def test_where_the_highest_score_may_not_be_called_nothing_is() -> None:
    labels, scores = np.array([1, 0, 1, 0]), np.array([0.2, 0.4, 0.6, 1.0])
    found = apply_rule(Rule("specificity", 1.0), labels, scores)
    assert found.value > 1.0
    assert not call_positive(scores, found.value).any()
    # A missed positive that costs next to nothing: better to call none.
    assert apply_rule(Rule("cost", 0.01), labels, scores).value == found.value


def test_a_false_negative_worth_more_lowers_the_cutoff() -> None:
    costs = [apply_rule(Rule("cost", r), LABELS, INDEX * 37 % 101 / 101).value for r in (0.2, 1, 9)]
    assert costs == sorted(costs, reverse=True)
    assert costs[0] > costs[2]


def test_a_source_names_rule_and_part_and_an_optimistic_one_says_so() -> None:
    assert apply_rule(Rule("half"), POOR, S100B) == (0.5, "0.5, fixed beforehand")
    sources = [
        apply_rule(parse_rule(rule), POOR, S100B, part="test", optimistic=True).source
        for rule in ("sensitivity=0.95", "cost=5@0.1")
    ]
    assert sources == [
        "sensitivity >= 0.95 on the test part (n = 113), optimistic: chosen on the cases that are "
        "reported",
        "least cost with a false negative worth 5 false positives at a prevalence of 0.1 on the "
        "test part (n = 113), optimistic: chosen on the cases that are reported",
    ]


def test_the_table_chooses_on_validation_and_measures_on_the_reported_cases() -> None:
    """Validation's Youden cutoff is 0.55; at it, 1 of 2 and 3 of 3 of the reported are right."""
    validation = (np.array([0, 0, 1]), np.array([0.1, 0.2, 0.9]))
    labels, scores = np.array([0, 0, 0, 1, 1]), np.array([0.1, 0.3, 0.54, 0.5, 0.8])
    table = cutoffs_table(labels, scores, validation)
    assert table.columns[:5] == ("rule", "cutoff", "sensitivity", "specificity", "chosen_on")
    assert table.column("rule") == tuple(str(rule) for rule in STANDARD_RULES)
    row = table.records()[1]
    assert row["cutoff"] == pytest.approx(0.55)
    assert (row["sensitivity"], row["specificity"]) == (0.5, 1.0)
    assert row["chosen_on"] == "Youden on the validation part (n = 3)"
    # Wilson's interval of 1 of 2, as R's prop.test(1, 2, correct = FALSE) has it.
    assert (row["sensitivity_low"], row["sensitivity_high"]) == pytest.approx(
        (0.09453, 0.90547), abs=1e-5
    )
    assert not any("optimistic" in str(cell).lower() for row in table.rows for cell in row)


def test_without_validation_only_one_half_is_given_and_the_reason() -> None:
    table = cutoffs_table(POOR, S100B, None)
    assert table.column("rule") == ("half",)
    assert any("no validation cases" in note for note in table.footnotes)


def test_an_optimistic_table_says_so_in_each_chosen_row() -> None:
    table = cutoffs_table(POOR, S100B, None, optimistic=True)
    assert all("optimistic" in str(source) for source in table.column("chosen_on")[1:])
    assert any(note.startswith("Optimistic") for note in table.footnotes)


def test_one_class_in_either_part_leaves_gaps_with_reasons() -> None:
    one_class = (np.ones(2, int), np.array([0.3, 0.9]))
    rows = cutoffs_table(POOR, S100B, one_class).records()
    assert rows[0]["sensitivity"] == 12 / 41
    assert all(row["cutoff"] is None for row in rows[1:])
    assert "expected both classes" in str(rows[1]["note"])
    row = cutoffs_table(*one_class, (POOR, S100B)).records()[1]
    assert (row["sensitivity"], row["specificity"]) == (1.0, None)
    assert row["note"] == "no specificity: the reported cases are of one class"
