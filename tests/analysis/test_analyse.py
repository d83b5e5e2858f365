"""A study as a whole: which tables it has, where its cutoff is from, what it says beside them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from experiments.guan2019.published.printed import expand
from thyrojax.analysis.analyse import analyse
from thyrojax.analysis.cutoff import Rule
from thyrojax.analysis.options import Options
from thyrojax.analysis.predictions import Predictions, take
from thyrojax.errors import PredictionsError

QUICK = Options(resamples=200)


def make_cases(n: int = 60, seed: int = 0, prefix: str = "t", **columns: tuple[str, ...]):
    """Half of each class, scores with an AUC of about 0.9, two images of every third patient."""
    random = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    scores = 1.0 / (1.0 + np.exp(-random.normal(2.0 * (2 * labels - 1), 1.5)))
    patients = tuple(f"{prefix}p{index - (index % 3 == 1)}" for index in range(n))
    return Predictions(
        tuple(f"{prefix}{index}" for index in range(n)), patients, labels, scores, columns
    )


FULL = {
    "size_mm": ("4", "7.5", "12", "") * 15,
    "composition": ("solid", "solid", "cystic", "spongiform", "") * 12,
    "shape": ("wider", "taller", "wider") * 20,
    "reader_label": ("0", "1", "1", "0", "") * 12,
}


def test_a_study_has_every_table_that_its_columns_allow_in_the_reports_order() -> None:
    study = analyse({"model": make_cases(**FULL)}, {"model": make_cases(seed=1, prefix="v")}, QUICK)
    assert list(study.tables) == [
        "operating_point",
        "auc",
        "roc",
        "precision_recall",
        "cutoffs",
        "patient_level",
        "size_groups",
        "features",
        "odds_ratios",
        "readers",
        "calibration",
        "calibration_summary",
        "decision_curve",
        "sample_size",
    ]
    for name, table in study.tables.items():
        assert table.name == name
        assert table.rows


def test_tables_have_the_columns_that_others_rely_on() -> None:
    cases = make_cases(**FULL)
    tables = analyse({"a": cases, "b": replace(cases, scores=cases.scores**2)}, {}, QUICK).tables
    for name, columns in {
        "operating_point": ("metric", "value", "ci_low", "ci_high", "n"),
        "roc": ("cutoff", "fpr", "tpr"),
        "size_groups": ("group", "n"),
        "features": ("feature", "category", "label", "n", "right", "wrong", "p_chi2", "p_exact"),
        "odds_ratios": ("variable", "model", "odds_ratio", "ci_low", "ci_high", "p"),
    }.items():
        assert tables[name].columns[: len(columns)] == columns
    assert {"sensitivity", "specificity", "auc"} <= set(tables["size_groups"].columns)
    assert "note" in tables["odds_ratios"].columns
    assert tables["comparison"].column("name") == ("a", "b")


def test_what_the_file_does_not_state_is_said_and_makes_no_table() -> None:
    study = analyse({"model": make_cases()}, {}, QUICK)
    assert not {"size_groups", "features", "odds_ratios", "readers"} & set(study.tables)
    said = " ".join(study.warnings)
    for word in ("size_mm", "sonographic feature", "reader_label", "0.5 because no validation"):
        assert word in said


def test_the_cutoff_is_chosen_on_validation_cases() -> None:
    validation = make_cases(seed=1, prefix="v")
    study = analyse({"model": make_cases()}, {"model": validation}, QUICK)
    assert study.cutoff.source == "Youden on the validation part (n = 60)"
    # By brute force over every score of the validation cases.
    best = max(
        np.mean(validation.scores[validation.labels == 1] >= cut)
        + np.mean(validation.scores[validation.labels == 0] < cut)
        for cut in validation.scores
    )
    called = validation.scores >= study.cutoff.value
    found = np.mean(called[validation.labels == 1]) + np.mean(~called[validation.labels == 0])
    assert found == pytest.approx(best)
    assert study.metrics["cutoff_from"] == study.cutoff.source


def test_an_optimistic_cutoff_is_called_so_wherever_it_stands() -> None:
    study = analyse({"model": make_cases()}, {}, replace(QUICK, optimistic=True))
    assert "optimistic" in study.cutoff.source
    assert "optimistic" in study.metrics["cutoff_from"]
    assert study.warnings[0].startswith("Optimistic")
    assert any("Optimistic" in note for note in study.tables["cutoffs"].footnotes)


def test_a_rule_without_validation_cases_is_refused() -> None:
    with pytest.raises(PredictionsError, match="found no validation cases, expected --cutoff-from"):
        analyse({"model": make_cases()}, {}, replace(QUICK, rule=Rule("sensitivity", 0.9)))


def test_compared_models_without_validation_cases_have_the_leads_cutoff_and_it_is_said() -> None:
    cases = make_cases()
    other = replace(cases, scores=np.sqrt(cases.scores))
    validation = {"one": make_cases(seed=1, prefix="v")}
    study = analyse({"one": cases, "two": other}, validation, QUICK)
    assert study.tables["comparison"].column("cutoff") == (study.cutoff.value,) * 2
    assert any(warning.startswith("two has one's cutoff") for warning in study.warnings)


def test_one_class_gives_what_it_can_and_says_what_is_missing() -> None:
    cases = make_cases(**FULL)
    benign = take(cases, np.flatnonzero(cases.labels == 0))
    study = analyse({"model": benign}, {}, QUICK)
    assert study.metrics["sensitivity"] is None
    assert study.metrics["specificity"] is not None
    assert "roc" not in study.tables
    assert any("All 30 cases are of class 0" in warning for warning in study.warnings)
    (row,) = [
        row for row in study.tables["operating_point"].records() if row["metric"] == "sensitivity"
    ]
    assert row["value"] is None
    assert row["note"]


def test_a_single_case_is_a_study_too() -> None:
    study = analyse({"model": take(make_cases(**FULL), np.array([1]))}, {}, QUICK)
    assert study.metrics["n"] == 1
    assert any("Too small" in warning for warning in study.warnings)


def test_the_papers_nodules_give_the_papers_figures() -> None:
    study = analyse({"guan": expand("shape")}, {}, replace(QUICK, cutoff=0.5))
    assert study.metrics["sensitivity"] == 195 / 209
    assert study.metrics["specificity"] == 166 / 190
    of_carcinomas = [row for row in study.tables["features"].records() if row["label"] == 1]
    assert {f"{row['p_chi2']:.3f}" for row in of_carcinomas} == {"0.015"}
    (taller,) = [
        row for row in study.tables["odds_ratios"].records() if row["model"] == "univariate"
    ]
    assert f"{taller['odds_ratio']:.3f}" == "0.243"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cutoff": 1.5}, "cutoff: found 1.5, expected a score from 0 to 1"),
        ({"cutoff": float("nan")}, "cutoff: found nan, expected a score from 0 to 1"),
        ({"prevalence": 0.0}, "prevalence: found 0.0, expected between 0 and 1"),
        ({"resamples": 5}, "resamples: found 5, expected at least 100"),
        ({"edges_cm": (1.0, 0.5)}, "edges: found 1.0 0.5, expected rising sizes in cm above 0"),
        ({"reader": "expert"}, "--reader: found no column 'expert', expected one of shape"),
    ],
)
def test_options_that_no_study_can_take_are_refused(change: dict, message: str) -> None:
    with pytest.raises(PredictionsError) as caught:
        analyse({"model": make_cases(shape=FULL["shape"])}, {}, replace(QUICK, **change))
    assert str(caught.value) == message
