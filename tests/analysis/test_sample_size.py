"""Expected interval widths and numbers of cases, against published and printed figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from thyrojax.analysis.roc import estimate_auc
from thyrojax.analysis.sample_size import (
    FEWEST_OF_A_CLASS,
    hanley_mcneil_variance,
    sample_size_table,
    smallest_n,
    too_small,
    wilson_limits,
)
from thyrojax.errors import PredictionsError

# The example of pROC; tests/analysis/test_roc.py says where it is from.
ASAH = np.loadtxt(Path(__file__).with_name("asah.csv"), delimiter=",", skiprows=1)
POOR, S100B = ASAH[:, 0].astype(int), ASAH[:, 1]


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_is_that_of_newcombes_examples(
    successes: int, n: int, low: float, high: float
) -> None:
    """Newcombe 1998, Statistics in Medicine 17:857, table I, method 3."""
    assert wilson_limits(successes / n, n) == pytest.approx((low, high), abs=5e-5)
    scipy = binomtest(successes, n).proportion_ci(method="wilson")
    assert wilson_limits(successes / n, n) == pytest.approx((scipy.low, scipy.high))


@pytest.mark.parametrize(
    ("n_positive", "n_negative", "error"),
    [(20, 200, 0.06498283), (110, 110, 0.03282048), (20, 20, 0.07789072)],
)
def test_the_planned_error_of_an_area_is_that_of_auctestr(
    n_positive: int, n_negative: int, error: float
) -> None:
    """se_auc(0.75, n_p, n_n) as the manual of R's auctestr 1.0.0 prints it (Hanley and McNeil)."""
    found = hanley_mcneil_variance(0.75, n_positive, n_negative) ** 0.5
    assert found == pytest.approx(error, abs=5e-9)


def test_the_smallest_n_is_the_first_that_is_narrow_enough() -> None:
    """Looking at every n: Wilson's interval of one half is first 0.2 wide at 93, 0.1 at 381."""
    for half_width, expected in ((0.1, 93), (0.05, 381)):
        found = smallest_n(lambda n: wilson_limits(0.5, n), half_width)
        widths = [high - low for low, high in (wilson_limits(0.5, n) for n in range(1, 400))]
        assert found == expected
        assert found == 1 + next(i for i, width in enumerate(widths) if width <= 2 * half_width)


def test_at_the_present_n_the_table_has_the_present_intervals() -> None:
    rows = sample_size_table(POOR, S100B, 0.205).records()
    now = {
        (row["measure"], row["method"]): row for row in rows if row["question"] == "interval at 1 n"
    }
    for measure, successes, n in (("sensitivity", 26, 41), ("specificity", 58, 72)):
        scipy = binomtest(successes, n).proportion_ci(method="wilson")
        row = now[measure, "Wilson"]
        assert (row["ci_low"], row["ci_high"]) == pytest.approx((scipy.low, scipy.high))
        assert (row["n"], row["n_positive"], row["n_negative"]) == (113, 41, 72)
    row = now["AUC", "DeLong scaled, logit"]
    interval = estimate_auc(POOR, S100B).interval
    assert (row["ci_low"], row["ci_high"]) == pytest.approx(interval)
    assert now["AUC", "Hanley-McNeil, logit"]["half_width"] == pytest.approx(
        row["half_width"], rel=0.1
    )


def test_cases_copied_four_times_have_the_interval_expected_at_four_n() -> None:
    """Up to n - 1 for n in the variance."""
    expected = next(
        row
        for row in sample_size_table(POOR, S100B, 0.205).records()
        if row["method"] == "DeLong scaled, logit" and row["question"] == "interval at 4 n"
    )
    found = estimate_auc(np.tile(POOR, 4), np.tile(S100B, 4)).interval
    assert (expected["ci_low"], expected["ci_high"]) == pytest.approx(found, abs=0.001)
    assert expected["n"] == 452


def test_the_needed_n_is_narrow_enough_and_keeps_the_mix_of_classes() -> None:
    for row in sample_size_table(POOR, S100B, 0.205).records():
        question = str(row["question"])
        if question.startswith("n for a half width of "):
            wanted = float(question.rsplit(" ", 1)[1])
            assert 0.9 * wanted < row["half_width"] <= wanted * (1 + 1e-9)  # type: ignore[operator]
            assert row["n_positive"] == pytest.approx(row["n_negative"] * 41 / 72, abs=1)  # type: ignore[operator]
            assert row["n"] == row["n_positive"] + row["n_negative"]  # type: ignore[operator]


def test_a_perfect_score_is_planned_with_exact_bounds_and_a_warning() -> None:
    labels, scores = np.repeat([0, 1], 30), np.arange(60) / 60
    rows = sample_size_table(labels, scores, 0.5).records()
    area = next(row for row in rows if row["measure"] == "AUC")
    assert (area["ci_low"], area["ci_high"]) == pytest.approx((0.88430, 1.0), abs=5e-6)
    assert all("takes 1 as the true value" in str(row["note"]) for row in rows)


def test_one_class_or_one_case_gives_what_it_can() -> None:
    table = sample_size_table(np.ones(1, int), np.array([0.9]), 0.5)
    assert set(table.column("measure")) == {"sensitivity"}
    assert set(table.column("n_negative")) == {0}
    assert any("one class" in note for note in table.footnotes)
    assert any(note.startswith("Too small to say much") for note in table.footnotes)
    # All scores tied: no variance to scale, but the area and the class sizes still plan.
    tied = sample_size_table(np.array([0, 0, 1, 1]), np.full(4, 0.3), 0.5)
    assert {row["method"] for row in tied.records() if row["measure"] == "AUC"} == {
        "Hanley-McNeil, logit"
    }
    with pytest.raises(PredictionsError, match="found no case"):
        sample_size_table(np.zeros(0, int), np.zeros(0), 0.5)


def test_a_group_is_too_small_below_twenty_of_a_class() -> None:
    """At 20 the interval of an observed 0.9 is still 0.27 wide: 0.699 to 0.972 (R's prop.test)."""
    assert wilson_limits(0.9, FEWEST_OF_A_CLASS) == pytest.approx((0.6990, 0.9721), abs=5e-5)
    assert too_small(20, 20) == ""
    assert too_small(19, 500).startswith("Too small to say much: 19 positive cases, where")
    assert "1 negative case, where an observed specificity" in too_small(30, 1)
    assert too_small(0, 0).count("hence no") == 2
    assert "(criterion: fewer than 20 cases of a class)." in too_small(0, 50)
