"""Odds ratios of misdiagnosis: who takes part, and what is said where there is none."""

from __future__ import annotations

import math

import numpy as np
import pytest

from thyrojax.analysis.exposures import Exposure
from thyrojax.analysis.odds_ratios import COLUMNS, odds_ratio_table
from thyrojax.analysis.predictions import Predictions
from thyrojax.analysis.table import Table
from thyrojax.errors import PredictionsError

TALLER = Exposure("taller", "shape", ("taller",), ("wider",), True)
MICRO = Exposure("micro", "calcification", ("micro",), ("none",), True)
MACRO = Exposure("macro", "calcification", ("macro",), ("none",), True)


def predictions(
    errors: list[int], patients: list[str] | None = None, **columns: list[str]
) -> Predictions:
    ids = tuple(f"i{number}" for number in range(len(errors)))
    return Predictions(
        ids,
        tuple(patients) if patients else ids,
        np.ones(len(errors), dtype=np.int64),
        np.where(np.array(errors) == 1, 0.1, 0.9),
        {name: tuple(cells) for name, cells in columns.items()},
    )


def rows(table: Table, model: str) -> list[dict[str, object]]:
    return [dict(record) for record in table.records() if record["model"] == model]


# Exposed 2 of 8 wrong, reference 4 of 10, two cases of unknown shape.
ERRORS = [1] * 2 + [0] * 6 + [1] * 4 + [0] * 6 + [1, 0]
SHAPES = ["taller"] * 8 + ["wider"] * 10 + ["", "round"]


def test_the_odds_ratio_is_the_cross_product_of_known_cases() -> None:
    table = odds_ratio_table(predictions(ERRORS, shape=SHAPES), 0.5, [TALLER])
    assert table.columns == COLUMNS
    (row,) = rows(table, "univariate")
    assert row["odds_ratio"] == pytest.approx(2 * 6 / (6 * 4))
    # Woolf 1955: the standard error of the logarithm is the root of the sum of reciprocals.
    reach = 1.959964 * math.sqrt(1 / 2 + 1 / 6 + 1 / 4 + 1 / 6)
    assert row["ci_low"] == pytest.approx(0.5 * math.exp(-reach), rel=1e-5)
    assert row["ci_high"] == pytest.approx(0.5 * math.exp(reach), rel=1e-5)
    counts = [row[name] for name in ("n", "errors", "n_exposed", "errors_exposed")]
    assert counts == [18, 6, 8, 2]


def test_two_exposures_of_one_feature_become_indicators_of_a_joint_model() -> None:
    cells = ["micro"] * 6 + ["macro"] * 6 + ["none"] * 8
    errors = [1, 1, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0]
    table = odds_ratio_table(predictions(errors, calcification=cells), 0.5, [MICRO, MACRO])
    for name, expected in (("micro", (3 / 3) / (2 / 6)), ("macro", (1 / 5) / (2 / 6))):
        alone = next(r for r in rows(table, "univariate") if r["variable"] == name)
        joint = next(r for r in rows(table, "multivariate") if r["variable"] == name)
        # With nothing else in the model the indicators give the same odds ratios as alone.
        assert alone["odds_ratio"] == pytest.approx(expected)
        assert joint["odds_ratio"] == pytest.approx(expected)
        assert (alone["n"], joint["n"]) == (14, 20)


def test_the_joint_model_takes_cases_known_in_all_its_features() -> None:
    cells = ["micro", "none"] * 9 + ["none", ""]
    table = odds_ratio_table(
        predictions(ERRORS, shape=SHAPES, calcification=cells), 0.5, [TALLER, MICRO]
    )
    assert {r["n"] for r in rows(table, "multivariate")} == {18}


@pytest.mark.parametrize(
    ("errors", "odds_ratio", "note"),
    [
        ([0] * 8 + [1] * 4 + [0] * 6 + [0, 0], 0.0, "no error among the 8 exposed"),
        ([1] * 8 + [1] * 4 + [0] * 6 + [0, 0], math.inf, "an error in each of the 8 exposed cases"),
        ([1] * 3 + [0] * 5 + [0] * 10 + [0, 0], math.inf, "no error among the 10 reference"),
        (
            [1] * 8 + [0] * 10 + [0, 0],
            math.inf,
            "an error in each of the 8 exposed cases, no error among",
        ),
    ],
)
def test_a_zero_cell_is_named_and_firth_stands_beside_it(
    errors: list[int], odds_ratio: float, note: str
) -> None:
    table = odds_ratio_table(predictions(errors, shape=SHAPES), 0.5, [TALLER])
    (row,) = rows(table, "univariate")
    assert row["odds_ratio"] == odds_ratio
    assert row["p"] is None
    assert str(row["note"]).startswith(note)
    assert "separation" in str(row["note"])
    penalised = row["firth_odds_ratio"]
    assert isinstance(penalised, float)
    assert 0.0 < penalised < math.inf


@pytest.mark.parametrize(
    ("errors", "shapes", "note"),
    [
        ([0] * 20, SHAPES, "all 18 calls are right"),
        ([1] * 20, SHAPES, "all 18 calls are wrong"),
        (ERRORS, ["wider"] * 20, "no case is exposed"),
        (ERRORS, ["taller"] * 20, "no case is reference"),
        (ERRORS, [""] * 20, "no case is exposed or reference"),
    ],
)
def test_what_has_no_odds_ratio_is_a_row_with_the_reason(
    errors: list[int], shapes: list[str], note: str
) -> None:
    table = odds_ratio_table(predictions(errors, shape=shapes), 0.5, [TALLER])
    for row in table.records():
        assert row["odds_ratio"] is None
        assert row["firth_odds_ratio"] is None
        assert row["note"] == note


def test_an_absent_column_does_not_empty_the_joint_model() -> None:
    table = odds_ratio_table(predictions(ERRORS, shape=SHAPES), 0.5, [TALLER, MICRO])
    taller, micro = rows(table, "multivariate")
    assert taller["odds_ratio"] == pytest.approx(0.5)
    assert micro["note"] == "the predictions have no column calcification"


def test_one_case_is_no_crash() -> None:
    table = odds_ratio_table(predictions([1], shape=["taller"]), 0.5, [TALLER])
    assert table.column("note") == ("no case is reference",) * 2


def test_errors_by_patient_widen_what_repeats_itself() -> None:
    once = predictions(ERRORS, shape=SHAPES)
    four = predictions(ERRORS * 4, [f"p{number}" for number in range(20)] * 4, shape=SHAPES * 4)
    alone = rows(odds_ratio_table(once, 0.5, [TALLER]), "univariate")[0]
    table = odds_ratio_table(four, 0.5, [TALLER], robust="cluster")
    clustered = rows(table, "univariate")[0]
    plain = rows(odds_ratio_table(four, 0.5, [TALLER]), "univariate")[0]

    def width(row: dict[str, object]) -> float:
        return math.log(float(str(row["ci_high"])) / float(str(row["ci_low"])))

    # Four copies of each patient tell no more than one: the plain interval is half as wide.
    assert width(plain) == pytest.approx(width(alone) / 2.0, rel=1e-6)
    assert width(clustered) == pytest.approx(width(alone), rel=0.05)
    assert any("20 patients are few" in note for note in table.footnotes)
    equations = rows(odds_ratio_table(four, 0.5, [TALLER], robust="gee"), "univariate")[0]
    assert equations["odds_ratio"] == pytest.approx(0.5)
    assert width(equations) == pytest.approx(width(alone), rel=0.05)


def test_few_errors_for_the_joint_model_and_mixed_references_are_warned_of() -> None:
    round_ = Exposure("round", "shape", ("round",), ("wider", "taller"), True)
    table = odds_ratio_table(predictions(ERRORS, shape=SHAPES), 0.5, [TALLER, round_])
    assert any("fewer than 10 each" in note for note in table.footnotes)
    assert any("different references" in note for note in table.footnotes)


def test_no_exposure_is_refused() -> None:
    with pytest.raises(PredictionsError, match="exposures: found none"):
        odds_ratio_table(predictions(ERRORS, shape=SHAPES), 0.5, [])
