"""Counts, proportions and their intervals, and the file that holds them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sklearn_metrics

from thyrojax.analysis.operating_point import (
    count_confusion,
    operating_table,
    summarise,
    write_metrics,
)
from thyrojax.analysis.table import Table
from thyrojax.errors import PredictionsError


def _paper() -> tuple[np.ndarray, np.ndarray]:
    """Guan et al. 2019: 195 of 209 cancers and 166 of 190 benign nodules called as they are."""
    labels = np.repeat([1, 1, 0, 0], (195, 14, 166, 24))
    return labels, np.repeat([0.9, 0.2, 0.1, 0.7], (195, 14, 166, 24))


def test_counts_call_scores_at_the_cutoff() -> None:
    labels, scores = np.array([1, 1, 0, 0, 0]), np.array([0.5, 0.4, 0.5, 0.6, 0.1])
    assert count_confusion(labels, scores, 0.5) == (1, 1, 1, 2)


def test_the_papers_test_set_gives_the_papers_figures() -> None:
    labels, scores = _paper()
    metrics = summarise(labels, scores, 0.5, "fixed", [f"p{i}" for i in range(399)])
    printed = {key: round(100 * metrics[key], 1) for key in ("accuracy", "sensitivity")}
    assert printed == {"accuracy": 90.5, "sensitivity": 93.3}
    assert round(100 * metrics["specificity"], 1) == 87.4
    assert metrics["sensitivity_ci"] == pytest.approx([0.890716, 0.959682], abs=1e-6)
    assert metrics["specificity_ci"] == pytest.approx([0.818930, 0.913627], abs=1e-6)
    assert metrics["ppv"] == pytest.approx(195 / 219)
    assert metrics["npv"] == pytest.approx(166 / 180)
    assert (metrics["n"], metrics["n_patients"]) == (399, 399)
    assert (metrics["n_positive"], metrics["n_negative"]) == (209, 190)
    assert (metrics["cutoff"], metrics["cutoff_from"]) == (0.5, "fixed")
    assert "intervals_note" not in metrics


def test_it_holds_what_the_contract_of_metrics_json_names() -> None:
    labels, scores = _paper()
    metrics = summarise(labels, scores, 0.5, "fixed", ["one"] * 399)
    assert {
        "n", "n_patients", "auc", "auc_ci", "accuracy", "accuracy_ci", "sensitivity",
        "sensitivity_ci", "specificity", "specificity_ci", "cutoff", "cutoff_from",
    } <= metrics.keys()  # fmt: skip
    assert "399 images of 1 patients" in metrics["intervals_note"]


def test_one_class_leaves_gaps_with_reasons() -> None:
    metrics = summarise(np.ones(4, int), np.array([0.1, 0.2, 0.3, 0.4]), 0.9, "fixed", list("abcd"))
    for key in ("auc", "auc_ci", "specificity", "specificity_ci", "ppv", "ppv_ci"):
        assert metrics[key] is None
        assert metrics[f"{key}_reason"]
    assert metrics["sensitivity"] == 0.0
    json.dumps(metrics, allow_nan=False)


def test_no_case_at_all_is_refused() -> None:
    with pytest.raises(PredictionsError, match="found no case"):
        summarise(np.zeros(0, int), np.zeros(0), 0.5, "fixed", [])


def test_summary_of_repeated_patients_has_their_intervals_too() -> None:
    labels, scores = _paper()
    patients = [f"p{i // 3}" for i in range(399)]
    plain = summarise(labels, scores, 0.5, "fixed", patients)
    assert "too short" in plain["intervals_note"]
    assert not any("cluster" in key for key in plain)
    clustered = summarise(labels, scores, 0.5, "fixed", patients, clusters=True, resamples=400)
    assert "NAME_ci_cluster" in clustered["intervals_note"]
    # Errors lie side by side in this order, so that patients are right or wrong as a whole.
    for key in ("accuracy", "sensitivity", "specificity", "ppv", "npv", "auc"):
        low, high = clustered[f"{key}_ci_cluster"]
        assert low < clustered[key] < high
        assert high - low > 1.2 * (plain[f"{key}_ci"][1] - plain[f"{key}_ci"][0])
    assert {key: clustered[key] for key in plain if key != "intervals_note"} == {
        key: value for key, value in plain.items() if key != "intervals_note"
    }
    single = summarise(labels, scores, 0.5, "fixed", [f"p{i}" for i in range(399)], clusters=True)
    assert not any("cluster" in key for key in single)
    json.dumps(clustered, allow_nan=False)


def test_summary_with_exact_intervals() -> None:
    """R 4.2.2, epiR 2.0.57, epi.tests(c(195, 24, 14, 166), method = "exact")."""
    labels, scores = _paper()
    metrics = summarise(
        labels, scores, 0.5, "fixed", [f"p{i}" for i in range(399)], interval="exact"
    )
    assert metrics["sensitivity_ci"] == pytest.approx([0.8901627543, 0.962897315], abs=1e-9)
    assert metrics["ppv_ci"] == pytest.approx([0.8413381590, 0.928510159], abs=1e-9)


def test_cluster_intervals_that_cannot_be_had_are_null_with_a_reason() -> None:
    metrics = summarise(
        np.array([1, 1, 1]), np.array([0.9, 0.8, 0.2]), 0.5, "fixed", ["a", "a", "a"], clusters=True
    )
    assert metrics["sensitivity_ci_cluster"] is None
    assert metrics["sensitivity_ci_cluster_reason"] == "a single patient cannot be resampled"
    assert metrics["auc_ci_cluster"] is None
    assert metrics["auc_ci_cluster_reason"] == "no case of class 0"


def _rows(table: Table) -> dict[str, dict[str, Any]]:
    return {str(row["metric"]): row for row in table.records()}


def test_operating_table_has_the_intervals_of_epir() -> None:
    """R 4.2.2, epiR 2.0.57, epi.tests(c(195, 24, 14, 166), method = "exact")."""
    labels, scores = _paper()
    table = operating_table(
        labels, scores, 0.5, [f"p{i}" for i in range(399)], interval="exact", resamples=300
    )
    assert table.name == "operating_point"
    assert table.columns == (
        "metric", "value", "ci_low", "ci_high", "n", "ci_method", "cluster_ci_low",
        "cluster_ci_high", "note",
    )  # fmt: skip
    rows = _rows(table)
    for metric, *expected in (
        ("accuracy", 0.9047619048, 0.8716243364, 0.931720304),
        ("sensitivity", 0.9330143541, 0.8901627543, 0.962897315),
        ("specificity", 0.8736842105, 0.8179037892, 0.917363085),
        ("PPV", 0.8904109589, 0.8413381590, 0.928510159),
        ("NPV", 0.9222222222, 0.8729449390, 0.956826816),
        ("LR+", 7.3863636364, 5.0729372402, 10.754788633),
        ("LR-", 0.0766703176, 0.0460929587, 0.127532226),
        ("diagnostic odds ratio", 96.3392857143, 48.2797925065, 192.238978051),
    ):
        row = rows[metric]
        assert [row["value"], row["ci_low"], row["ci_high"]] == pytest.approx(expected, rel=1e-7)
    assert [rows[name]["n"] for name in ("accuracy", "sensitivity", "PPV")] == [399, 209, 219]
    assert "PPV at prevalence" not in rows


def test_operating_table_has_the_values_of_scikit_learn() -> None:
    random = np.random.default_rng(6)
    labels = (random.random(300) < 0.4).astype(int)
    scores = np.clip(0.3 * labels + 0.7 * random.random(300), 0.0, 1.0)
    rows = _rows(operating_table(labels, scores, 0.5, list(map(str, range(300))), resamples=300))
    called = scores >= 0.5
    for metric, expected in (
        ("F1", sklearn_metrics.f1_score(labels, called)),
        ("MCC", sklearn_metrics.matthews_corrcoef(labels, called)),
        ("balanced accuracy", sklearn_metrics.balanced_accuracy_score(labels, called)),
        ("AUC", sklearn_metrics.roc_auc_score(labels, scores)),
        ("Brier", sklearn_metrics.brier_score_loss(labels, scores)),
    ):
        assert rows[metric]["value"] == pytest.approx(expected, rel=1e-12)
        assert rows[metric]["ci_low"] < expected < rows[metric]["ci_high"]


def test_f1_has_the_bootstrap_interval_of_scipy() -> None:
    labels, scores = _paper()

    def f1(truth: np.ndarray, called: np.ndarray, axis: int) -> np.ndarray:
        both = np.sum(truth * called, axis=axis)
        return 2 * both / (np.sum(truth, axis=axis) + np.sum(called, axis=axis))

    expected = stats.bootstrap(
        (labels, (scores >= 0.5).astype(int)), f1, n_resamples=4000, paired=True, vectorized=True,
        method="percentile", rng=1,
    ).confidence_interval  # fmt: skip
    row = _rows(operating_table(labels, scores, 0.5, list(map(str, range(399)))))["F1"]
    assert (row["ci_low"], row["ci_high"]) == pytest.approx(tuple(expected), abs=0.003)
    assert row["ci_method"] == "bootstrap of images"


def test_predictive_values_at_a_prevalence_by_hand() -> None:
    """Odds before 1/9, times LR+ 7.38636: 0.82071, so PPV 0.82071 / 1.82071 = 0.45076. Odds of no
    disease 9, divided by LR- 0.0766703: 117.386, so NPV 117.386 / 118.386 = 0.99155."""
    labels, scores = _paper()
    table = operating_table(
        labels, scores, 0.5, list(map(str, range(399))), prevalence=0.1, resamples=300
    )
    rows = _rows(table)
    assert rows["PPV at prevalence"]["value"] == pytest.approx(0.45076, abs=5e-6)
    assert rows["NPV at prevalence"]["value"] == pytest.approx(0.99155, abs=5e-6)
    for name in ("PPV at prevalence", "NPV at prevalence"):
        row = rows[name]
        assert row["cluster_ci_low"] == pytest.approx(row["ci_low"], abs=0.05)
        assert row["ci_low"] < row["value"] < row["ci_high"]
    assert any("0.1 positive" in note for note in table.footnotes)
    # At the share of positives of the sample they are the plain ones.
    rows = _rows(
        operating_table(
            labels, scores, 0.5, list(map(str, range(399))), prevalence=209 / 399, resamples=300
        )
    )
    assert rows["PPV at prevalence"]["value"] == pytest.approx(rows["PPV"]["value"])
    assert rows["NPV at prevalence"]["value"] == pytest.approx(rows["NPV"]["value"])


@pytest.mark.parametrize("prevalence", [0.0, 1.0, -0.2, math.nan])
def test_a_prevalence_that_is_no_share_is_refused(prevalence: float) -> None:
    labels, scores = _paper()
    with pytest.raises(PredictionsError, match="expected a share between 0 and 1"):
        operating_table(labels, scores, 0.5, ["a"] * 399, prevalence=prevalence)


def test_copies_of_a_patients_image_do_not_shorten_the_cluster_intervals() -> None:
    labels, scores = _paper()
    patients = [f"p{i:03}" for i in range(399)]
    once = _rows(operating_table(labels, scores, 0.5, patients, resamples=400))
    copied = operating_table(
        np.tile(labels, 4), np.tile(scores, 4), 0.5, patients * 4, resamples=400
    )
    for metric, row in _rows(copied).items():
        expected = once[metric]
        for key in ("value", "cluster_ci_low", "cluster_ci_high"):
            assert row[key] == pytest.approx(expected[key])
        assert row["ci_high"] - row["ci_low"] < 0.6 * (expected["ci_high"] - expected["ci_low"])
    assert any("the cluster intervals are the ones to use" in note for note in copied.footnotes)


def test_a_perfect_model_is_not_certain() -> None:
    """10 patients of two images each: Wilson's 10 of 10 is 0.722 (R, prop.test), as an exact AUC
    of 5 disjoint pairs 0.025 ** (1 / 5) = 0.478."""
    labels = np.repeat([1, 0], 10)
    scores = np.repeat([0.9, 0.1], 10)
    patients = [f"p{i // 2}" for i in range(20)]
    rows = _rows(operating_table(labels, scores, 0.5, patients, prevalence=0.1, resamples=300))
    assert rows["accuracy"]["cluster_ci_low"] == pytest.approx(0.722, abs=5e-4)
    assert "10 patients counted once each" in rows["accuracy"]["note"]
    assert rows["AUC"]["cluster_ci_low"] == pytest.approx(0.478, abs=5e-4)
    assert rows["LR+"]["value"] == math.inf
    assert rows["LR+"]["ci_high"] == math.inf
    assert 1.0 < rows["LR+"]["ci_low"] < 10.0
    for metric in ("LR+", "LR-", "F1", "MCC", "PPV at prevalence"):
        assert rows[metric]["cluster_ci_low"] is None
        assert rows[metric]["note"]


@pytest.mark.parametrize(
    ("labels", "scores", "gaps"),
    [
        ([1, 1], [0.9, 0.1], {"specificity", "AUC", "MCC", "LR+", "LR-", "balanced accuracy"}),
        ([0, 0], [0.9, 0.1], {"sensitivity", "AUC", "MCC", "LR+", "LR-"}),
        ([0, 1], [0.1, 0.2], {"PPV", "LR+", "MCC", "diagnostic odds ratio"}),
        ([0, 1], [0.8, 0.9], {"NPV", "LR-", "MCC", "diagnostic odds ratio"}),
        ([0, 0], [0.1, 0.2], {"F1", "PPV", "sensitivity"}),
        ([1], [0.9], {"specificity", "AUC", "NPV"}),
    ],
)
def test_what_the_cases_cannot_give_is_a_gap_with_a_reason(
    labels: list[int], scores: list[float], gaps: set[str]
) -> None:
    """The table itself refuses NaN and gaps without a note."""
    table = operating_table(
        np.array(labels), np.array(scores), 0.5, list("ab"[: len(labels)]), prevalence=0.2,
        resamples=50,
    )  # fmt: skip
    assert gaps <= {metric for metric, row in _rows(table).items() if row["value"] is None}


def test_patients_of_another_number_than_cases_are_refused() -> None:
    with pytest.raises(PredictionsError, match="patient_ids: found 3, expected 2"):
        operating_table(np.array([0, 1]), np.array([0.1, 0.9]), 0.5, list("abc"))


def test_a_number_that_is_not_finite_is_written_as_null_with_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "run" / "metrics.json"
    write_metrics(path, {"auc": math.nan, "n": 3, "loss": math.inf, "loss_reason": "diverged"})
    assert json.loads(path.read_text()) == {
        "auc": None,
        "auc_reason": "not finite (nan)",
        "n": 3,
        "loss": None,
        "loss_reason": "diverged",
    }
    assert [entry.name for entry in path.parent.iterdir()] == ["metrics.json"]


def test_a_file_that_stood_stays_when_the_new_one_fails(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    write_metrics(path, {"n": 3})
    with pytest.raises(TypeError):
        write_metrics(path, {"n": object()})
    assert json.loads(path.read_text()) == {"n": 3}
