"""Tables 2 and 3 of Guan et al. 2019 come out of their own counts, to three decimals.

Counts are by class: right and wrong calls of PTC (label 1), then of benign nodules (label 0). In
the benign row "calcification, none" the paper prints 166 and 24, which are the column's totals; the
other rows leave 161 and 23, and only these give the printed P.
"""

from __future__ import annotations

import numpy as np
import pytest

from thyrojax.analysis.exposures import default_exposures
from thyrojax.analysis.features import compare_categories, feature_table
from thyrojax.analysis.odds_ratios import odds_ratio_table
from thyrojax.analysis.predictions import Predictions
from thyrojax.analysis.table import Table

TABLE_2: dict[str, dict[str, tuple[int, int, int, int]]] = {
    "composition": {
        "solid": (194, 14, 108, 20),
        "cystic": (0, 0, 1, 0),
        "spongiform": (1, 0, 57, 4),
    },
    "echogenicity": {
        "hyperechoic": (0, 0, 3, 0),
        "isoechoic": (12, 3, 86, 11),
        "hypoechoic": (182, 11, 69, 12),
        "markedly_hypoechoic": (1, 0, 8, 1),
    },
    "calcification": {
        "micro": (89, 3, 1, 0),
        "macro": (10, 1, 2, 0),
        "comet_tail": (6, 0, 2, 1),
        "none": (90, 10, 161, 23),
    },
    "margin_feature": {
        "smooth": (13, 4, 111, 13),
        "irregular": (24, 0, 1, 0),
        "lobulated": (6, 0, 7, 2),
        "ill_defined": (104, 5, 46, 8),
        "halo": (3, 1, 1, 1),
        "ete": (45, 4, 0, 0),
    },
    "shape": {"wider": (102, 12, 165, 23), "taller": (93, 2, 1, 1)},
}

# Printed P of PTC and of benign nodules.
TABLE_2_P = {
    "composition": (0.788, 0.200),
    "echogenicity": (0.099, 0.814),
    "calcification": (0.260, 0.659),
    "margin_feature": (0.024, 0.383),
    "shape": (0.015, 0.110),
}

# fisher.test of R 4.2.2 on the same counts.
TABLE_2_EXACT_P = {
    "composition": (1.0, 0.215809871),
    "echogenicity": (0.1306814594, 0.8717464638),
    "calcification": (0.2114895698, 0.5603927545),
    "margin_feature": (0.03434278436, 0.2418878527),
    "shape": (0.02322923408, 0.2372598162),
}

# Printed univariate P, odds ratio and 95 % interval.
TABLE_3 = {
    "composition_solid": (0.374, 1.627, 0.556, 4.760),
    "hypoechoic": (0.254, 0.666, 0.331, 1.338),
    "calcification_micro": (0.026, 0.254, 0.076, 0.847),
    "calcification_macro": (0.720, 0.761, 0.170, 3.403),
    "margin_ete": (0.457, 0.648, 0.207, 2.030),
    "margin_ill_defined": (0.361, 0.710, 0.341, 1.479),
    "margin_lobulated": (0.886, 1.122, 0.233, 5.408),
    "shape_taller": (0.021, 0.243, 0.073, 0.810),
}


@pytest.fixture(scope="module")
def published() -> Predictions:
    """399 nodules with Table 2's counts; how features go together was not published."""
    truths = [(1, 0.9), (1, 0.1), (0, 0.1), (0, 0.9)]
    sizes = [sum(counts[cell] for counts in TABLE_2["shape"].values()) for cell in range(4)]
    names = tuple(f"n{number}" for number in range(sum(sizes)))
    return Predictions(
        names,
        names,
        np.repeat([label for label, _ in truths], sizes),
        np.repeat([score for _, score in truths], sizes),
        {
            feature: tuple(
                category
                for cell in range(4)
                for category, counts in categories.items()
                for _ in range(counts[cell])
            )
            for feature, categories in TABLE_2.items()
        },
    )


@pytest.fixture(scope="module")
def odds_ratios(published: Predictions) -> Table:
    return odds_ratio_table(published, 0.5, default_exposures())


@pytest.mark.parametrize("feature", TABLE_2)
def test_all_ten_p_values_of_table_2(feature: str) -> None:
    counts = np.array(list(TABLE_2[feature].values()))
    for place, label in enumerate((1, 0)):
        right, wrong = counts[:, 2 * place], counts[:, 2 * place + 1]
        compared = compare_categories(right, wrong)
        assert compared.chi_squared is not None, label
        assert compared.exact is not None, label
        assert round(compared.chi_squared.p, 3) == TABLE_2_P[feature][place]
        assert compared.exact.p == pytest.approx(TABLE_2_EXACT_P[feature][place], rel=1e-8)


def test_the_misprinted_calcification_row_gives_another_p() -> None:
    counts = np.array([[1, 0], [2, 0], [2, 1], [166, 24]])
    compared = compare_categories(counts[:, 0], counts[:, 1])
    assert compared.chi_squared is not None
    assert round(compared.chi_squared.p, 3) == 0.663


def test_the_feature_table_has_the_papers_rows(published: Predictions) -> None:
    table = feature_table(published, 0.5)
    rows = [
        (record["feature"], record["category"], record["label"], record["right"], record["wrong"])
        for record in table.records()
    ]
    expected = [
        (feature, category, label, *counts[first : first + 2])
        for feature, categories in TABLE_2.items()
        for label, first in ((1, 0), (0, 2))
        for category, counts in categories.items()
    ]
    assert rows == expected
    for record in table.records():
        label = record["label"]
        assert isinstance(record["p_chi2"], float)
        place = 0 if label == 1 else 1
        assert round(record["p_chi2"], 3) == TABLE_2_P[str(record["feature"])][place]


def test_no_p_value_of_table_2_survives_the_correction_for_ten(published: Predictions) -> None:
    # Holm by hand: ten times the smallest P, 10 x 0.0153176; next 9 x 0.0238657.
    records = {(r["feature"], r["label"]): r for r in feature_table(published, 0.5).records()}
    assert records["shape", 1]["p_chi2_holm"] == pytest.approx(0.1531765, abs=1e-6)
    assert records["margin_feature", 1]["p_chi2_holm"] == pytest.approx(0.2147914, abs=1e-6)
    # Benjamini-Hochberg by hand: 10 / 2 x 0.0238657 is less than 10 x 0.0153176.
    assert records["shape", 1]["p_chi2_bh"] == pytest.approx(0.1193286, abs=1e-6)
    assert all(float(r["p_exact_holm"] or 0.0) > 0.05 for r in records.values())


@pytest.mark.parametrize("name", TABLE_3)
def test_odds_ratios_of_table_3(odds_ratios: Table, name: str) -> None:
    (row,) = [
        r for r in odds_ratios.records() if r["variable"] == name and r["model"] == "univariate"
    ]
    figures = [row["p"], row["odds_ratio"], row["ci_low"], row["ci_high"]]
    assert [round(float(figure or 0.0), 3) for figure in figures] == list(TABLE_3[name])
    assert row["note"] == ""


def test_irregular_margin_is_said_to_be_separated(odds_ratios: Table) -> None:
    # Printed as odds ratio 0, P 0.998, without an interval.
    (row,) = [r for r in odds_ratios.records() if r["variable"] == "margin_irregular"]
    assert row["odds_ratio"] == 0.0
    assert row["p"] is None
    assert str(row["note"]).startswith("no error among the 25 exposed cases; quasi-complete")
    # Half a case in each cell (Firth 1993, 3.1): 0.5 x 124.5 / (25.5 x 17.5).
    assert row["firth_odds_ratio"] == pytest.approx(0.5 * 124.5 / (25.5 * 17.5), rel=1e-6)
    assert (row["n"], row["errors"], row["n_exposed"]) == (166, 17, 25)


def test_the_joint_model_takes_both_calcifications_against_none(odds_ratios: Table) -> None:
    joint = [r for r in odds_ratios.records() if r["model"] == "multivariate"]
    assert [r["variable"] for r in joint] == [
        "calcification_micro",
        "calcification_macro",
        "shape_taller",
    ]
    assert {r["n"] for r in joint} == {399}
    assert [r["n_exposed"] for r in joint] == [93, 22, 97]
