"""Counts, proportions and their intervals, and the file that holds them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from thyrojax.analysis.operating_point import (
    count_confusion,
    summarise,
    wilson_interval,
    write_metrics,
)
from thyrojax.errors import PredictionsError


def _paper() -> tuple[np.ndarray, np.ndarray]:
    """Guan et al. 2019: 195 of 209 cancers and 166 of 190 benign nodules called as they are."""
    labels = np.repeat([1, 1, 0, 0], (195, 14, 166, 24))
    return labels, np.repeat([0.9, 0.2, 0.1, 0.7], (195, 14, 166, 24))


@pytest.mark.parametrize(
    ("successes", "total", "low", "high"),
    [
        # Newcombe 1998, Statistics in Medicine 17:857, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        # Counts of Guan et al. 2019; R 4.2.2, prop.test(x, n, correct = FALSE).
        (195, 209, 0.890716, 0.959682),
        (166, 190, 0.818930, 0.913627),
        (361, 399, 0.871978, 0.929826),
    ],
)
def test_wilson_interval(successes: int, total: int, low: float, high: float) -> None:
    assert wilson_interval(successes, total) == pytest.approx((low, high), abs=5e-5)


def test_none_of_none_has_no_interval() -> None:
    assert wilson_interval(0, 0) is None


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
