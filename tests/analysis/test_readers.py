"""A reader beside the model, against R's vcd, pROC and epiR and the published counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from thyrojax.analysis.predictions import Predictions
from thyrojax.analysis.readers import (
    AGREEMENT,
    AT_SENSITIVITY,
    AT_SPECIFICITY,
    has_reader,
    reader_calls,
    reader_table,
)
from thyrojax.analysis.table import Table
from thyrojax.errors import PredictionsError

# 120 cases by a fixed rule, given to R 4.2.2 as well.
INDEX = np.arange(120)
LABELS = (INDEX * 7 % 12 < 5).astype(int)
SCORES = (INDEX * 37 % 101 + 60 * LABELS + 10) / 200
TIED = (INDEX * 53 % 97 + 18 * LABELS) // 15 / 10
CALLS = (INDEX * 13 % 20 < 4 + 9 * LABELS).astype(int)


def predictions(
    labels: np.ndarray,
    scores: np.ndarray,
    calls: list[str],
    patients: tuple[str, ...] | None = None,
) -> Predictions:
    ids = tuple(f"i{number}" for number in range(len(labels)))
    return Predictions(ids, patients or ids, labels, scores, {"reader_label": tuple(calls)})


def rows(table: Table) -> dict[Any, dict[str, Any]]:
    return {row["measure"]: row for row in table.records()}


def by_rule(scores: np.ndarray) -> Table:
    return reader_table(
        predictions(LABELS, scores, [str(call) for call in CALLS]), 0.4, resamples=400
    )


def test_each_measure_and_test_is_that_of_r() -> None:
    """R 4.2.2: table(), Kappa() of vcd 1.4.11, binom.test() of the discordant pairs."""
    table = by_rule(SCORES)
    assert table.columns[:12] == (
        *("measure", "reader", "reader_low", "reader_high", "model", "model_low", "model_high"),
        *("difference", "difference_low", "difference_high", "p", "n"),
    )
    assert table.columns[-1] == "note"
    found = rows(table)
    # Reader: 34 of 50 and 56 of 70; model: 45 of 50 and 50 of 70.
    for name, reader, model, p, n in (
        ("sensitivity", 34 / 50, 45 / 50, 0.0127258300781, 50),
        ("specificity", 56 / 70, 50 / 70, 0.361594608054, 70),
        ("accuracy", 90 / 120, 95 / 120, 0.56006462958, 120),
    ):
        row = found[name]
        assert (row["reader"], row["model"], row["n"]) == pytest.approx((reader, model, n))
        assert row["difference"] == pytest.approx(model - reader)
        assert row["p"] == pytest.approx(p, rel=1e-10)
        assert row["difference_low"] < row["difference"] < row["difference_high"]
    assert found["sensitivity"]["note"] == "only the reader right: 3; only the model right: 14"
    kappa = found["kappa"]
    assert (kappa["reader"], kappa["model"]) == pytest.approx((0.4827586206897, 0.5890410958904))
    assert (kappa["model_low"], kappa["model_high"]) == pytest.approx((0.449993070, 0.728089122))
    both = found[AGREEMENT]
    assert (both["reader"], both["model"]) == (None, pytest.approx(0.2295081967213))
    assert "they agree in 73 of 120" in both["note"]


@pytest.mark.parametrize(
    ("scores", "sensitivity", "specificity"),
    [(SCORES, 0.78, 0.914285714286), (TIED, 0.42, 0.481632653061)],
)
def test_the_model_moved_to_the_reader_is_that_of_proc(
    scores: np.ndarray, sensitivity: float, specificity: float
) -> None:
    """pROC 1.18.0: coords(roc, x = 0.8, input = "specificity"), and 0.68 as "sensitivity"."""
    found = rows(by_rule(scores))
    assert found[AT_SPECIFICITY]["model"] == pytest.approx(sensitivity, rel=1e-10)
    assert found[AT_SPECIFICITY]["reader"] == 0.68
    assert found[AT_SENSITIVITY]["model"] == pytest.approx(specificity, rel=1e-10)
    assert found[AT_SENSITIVITY]["reader"] == 0.8


def test_matched_intervals_are_those_of_a_plain_bootstrap() -> None:
    """A loop that builds each resample and reads its curve off with np.interp; other draws."""
    random = np.random.default_rng(1)
    drawn = []
    for _ in range(1500):
        case = random.integers(120, size=120)
        positive, scores, reader = LABELS[case] == 1, SCORES[case], CALLS[case]
        cutoffs = np.append(np.inf, np.unique(scores)[::-1])
        sensitivity = [np.mean(scores[positive] >= cutoff) for cutoff in cutoffs]
        fall_out = [np.mean(scores[~positive] >= cutoff) for cutoff in cutoffs]
        drawn.append(np.interp(np.mean(reader[~positive]) + 1e-12, fall_out, sensitivity))
    table = reader_table(
        predictions(LABELS, SCORES, [str(call) for call in CALLS]), 0.4, resamples=2000
    )
    row = rows(table)[AT_SPECIFICITY]
    expected = np.quantile(drawn, [0.025, 0.975]).tolist()
    assert [row["model_low"], row["model_high"]] == pytest.approx(expected, abs=0.03)


def test_the_published_radiologists() -> None:
    """Guan et al. 2019: 177 of 209 and 186 of 190. R's epiR 2.0.57, epi.tests(method = "wilson"):
    0.85 (0.79, 0.89), 0.98 (0.95, 0.99), correctly classified 0.91 (0.88, 0.93)."""
    labels = np.repeat([1, 1, 0, 0], (177, 32, 186, 4))
    calls = np.repeat(["1", "0", "0", "1"], (177, 32, 186, 4)).tolist()
    found = rows(reader_table(predictions(labels, labels * 0.8 + 0.1, calls), 0.5, resamples=50))
    for name, expected in (
        ("sensitivity", (0.85, 0.79, 0.89)),
        ("specificity", (0.98, 0.95, 0.99)),
        ("accuracy", (0.91, 0.88, 0.93)),
    ):
        row = found[name]
        got = (row["reader"], row["reader_low"], row["reader_high"])
        assert tuple(round(number, 2) for number in got) == expected
    # The model makes no error here: its resamples are all alike, and the note says so.
    assert found["sensitivity"]["model"] == 1.0
    assert "alike" in found["sensitivity"]["note"]


def test_exact_mcnemar_of_a_published_example() -> None:
    """Fagerland et al. 2013, BMC Med Res Methodol 13:91: 1 against 7 discordant pairs, P 0.070."""
    calls = ["1", "1", *["0"] * 7, *["0"] * 12, "0"]
    scores = np.array([0.9, 0.1, *[0.9] * 7, *[0.1] * 12, 0.1])
    labels = np.array([1] * 21 + [0])
    row = rows(reader_table(predictions(labels, scores, calls), 0.5, resamples=50))["sensitivity"]
    assert row["p"] == pytest.approx(2 * 9 / 256)
    # Newcombe's interval, Fagerland et al. 2014, Stat Med 33:2850.
    assert (row["difference_low"], row["difference_high"]) == pytest.approx(
        (0.026, 0.507), abs=5e-4
    )


def test_images_of_one_patient_widen_the_cluster_intervals_only() -> None:
    cells = [str(call) for call in np.repeat(CALLS, 5)]
    patients = tuple(str(patient) for patient in np.repeat(INDEX, 5))
    many = predictions(np.repeat(LABELS, 5), np.repeat(SCORES, 5), cells, patients)
    single, repeated = rows(by_rule(SCORES)), rows(reader_table(many, 0.4, resamples=400))
    for name in ("sensitivity", "kappa", AT_SPECIFICITY):
        # Five equal images each tell no more than one: the same resamples, the same interval.
        for limit in ("model_cluster_low", "model_cluster_high", "difference_cluster_low"):
            assert repeated[name][limit] == pytest.approx(single[name][limit])
    plain = [
        row["sensitivity"]["reader_high"] - row["sensitivity"]["reader_low"]
        for row in (single, repeated)
    ]
    assert plain[1] < 0.5 * plain[0]


def test_cases_without_a_call_are_left_out_and_counted() -> None:
    cells = [str(float(call)) for call in CALLS]  # as pandas writes them beside gaps
    gaps = predictions(
        np.append(LABELS, [1, 0, 1]), np.append(SCORES, [0.1, 0.9, 0.2]), [*cells, "", " ", ""]
    )
    table = reader_table(gaps, 0.4, resamples=400)
    assert rows(table)["accuracy"]["n"] == 120
    assert rows(table)["sensitivity"] == rows(by_rule(SCORES))["sensitivity"]
    assert any("3 of 123" in note for note in table.footnotes)
    assert reader_calls(gaps)[-4:].tolist() == [CALLS[-1], -1, -1, -1]


def test_columns_that_hold_no_calls_are_refused() -> None:
    good = predictions(LABELS[:2], SCORES[:2], ["1", "0"])
    assert has_reader(good)
    assert not has_reader(good, "second_reader")
    with pytest.raises(PredictionsError, match="column second_reader: found columns reader_label"):
        reader_table(good, 0.5, "second_reader")
    with pytest.raises(PredictionsError, match=r"row 2 \(image_id 'i1'\): found 'maybe'"):
        reader_table(predictions(LABELS[:2], SCORES[:2], ["1", "maybe"]), 0.5)
    empty = predictions(LABELS[:2], SCORES[:2], ["", " "])
    assert not has_reader(empty)
    with pytest.raises(PredictionsError, match="found no call"):
        reader_table(empty, 0.5)


@pytest.mark.parametrize(
    ("labels", "scores", "calls", "reason"),
    [
        ([1], [0.3], "1", "no case of class 0"),
        ([0, 0, 0], [0.0, 0.5, 1.0], "010", "no case of class 1"),
        ([0, 1, 1], [0.5, 0.5, 0.5], "011", ""),
        ([0, 1, 1, 0], [0.0, 1.0, 0.0, 1.0], "1111", "same label"),
        ([0, 1], [0.0, 1.0], "01", ""),
    ],
)
def test_odd_cases_give_a_table_with_reasons(
    labels: list[int], scores: list[float], calls: str, reason: str
) -> None:
    cases = predictions(np.array(labels), np.array(scores), list(calls))
    table = reader_table(cases, 0.5, resamples=50)
    assert len(table.rows) == 7
    assert reason in " ".join(str(note) for note in table.column("note"))
