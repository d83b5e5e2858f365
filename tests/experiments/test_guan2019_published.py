"""The paper's printed figures follow from its own counts, but for one misprinted row."""

from __future__ import annotations

import pytest

from experiments.guan2019.published.listing import Line, all_lines
from experiments.guan2019.published.margins import contrasts, count_of, performances
from experiments.guan2019.published.printed import FEATURES, expand, find_misprints
from experiments.guan2019.published.sizes import solutions


@pytest.fixture(scope="module")
def lines() -> list[Line]:
    return all_lines()


def test_every_printed_figure_comes_out_at_its_precision_but_for_the_misprint(
    lines: list[Line],
) -> None:
    different = [line for line in lines if not line.agrees]
    assert {line.item for line in different} == {"calcification, none, benign"}
    assert [(line.quantity, line.printed, line.computed) for line in different] == [
        ("true", "166", "161"),
        ("true %", "87.4", "87.5"),
        ("false", "24", "23"),
        ("false %", "12.6", "12.5"),
    ]


def test_the_listing_has_all_that_the_paper_prints(lines: list[Line]) -> None:
    # Table 1: 5 margins of 3 percentages. Table 2: 10 P. Table 3: 8 odds ratios with interval and
    # P, and one of 0.
    assert sum(line.table == "Table 1" for line in lines) == 15
    assert sum(line.table == "Discussion" for line in lines) == 2
    assert sum(line.table == "Table 2" and line.quantity == "P" for line in lines) == 10
    assert sum(line.table == "Table 3" for line in lines) == 8 * 4 + 1
    assert not any(line.printed == "" for line in lines)


def test_the_misprint_is_found_by_its_sum_and_mended_by_the_other_rows() -> None:
    (row,) = find_misprints()
    assert (row.feature, row.category, row.of_class) == ("calcification", "none", "benign")
    assert (row.n, row.printed, row.corrected) == (184, (166, 24), (161, 23))


@pytest.mark.parametrize("feature", FEATURES)
def test_each_feature_expands_to_the_test_group(feature: str) -> None:
    cases = expand(feature)
    wrong = cases.labels != cases.scores
    assert len(cases) == 399
    assert cases.labels.sum() == 209
    assert wrong[cases.labels == 1].sum() == 14
    assert wrong[cases.labels == 0].sum() == 24


def test_exact_p_values_are_those_of_r(lines: list[Line]) -> None:
    # R 4.2.2, fisher.test on the same counts.
    beside = {line.item: line.beside for line in lines if line.quantity == "P"}
    assert beside["margin_feature, ptc"].startswith("exact 0.034;")
    assert beside["shape, ptc"].startswith("exact 0.023;")
    assert beside["shape, benign"].startswith("exact 0.237;")


def test_a_percentage_that_no_count_gives_is_refused() -> None:
    assert count_of("93.3", 209) == 195
    with pytest.raises(ValueError, match="0 counts"):
        count_of("93.4", 209)


def test_the_counts_of_table_1_are_those_of_the_test_group_at_50_px() -> None:
    best = max(performances(), key=lambda row: row.az)
    assert (best.margin, best.true_positive, best.true_negative) == (50, 195, 166)


def test_only_no_margin_at_all_can_be_told_from_50_px() -> None:
    found = {row.other: row for row in contrasts()}
    assert {other: row.right_difference for other, row in found.items()} == {
        0: 25,
        25: 11,
        75: 6,
        100: 8,
    }
    # More alike than independent errors would make them, but not beyond belief: 0 px.
    assert found[0].most_discordant is not None
    assert found[0].most_discordant > found[0].chance_discordant
    # By hand: 18 against 7 of 25 gives an exact McNemar P of 0.043, 19 against 8 of 27 0.052.
    assert found[25].most_discordant == 25
    # 6 against 0 gives 2 * 0.5^6 = 0.031; 7 against 1 gives 0.070.
    assert found[75].most_discordant == 6
    assert all(row.p_unpaired > 0.2 for other, row in found.items() if other != 0)


def test_percentages_by_size_leave_one_set_of_benign_counts_and_seven_of_carcinomas() -> None:
    assert solutions("benign") == [((35, 43), (31, 33), (100, 114))]
    of_size = [tuple(n for _, n in solution) for solution in solutions("ptc")]
    assert len(of_size) == 7
    assert of_size[0] == (39, 90, 80)
    assert of_size[-1] == (75, 18, 116)
