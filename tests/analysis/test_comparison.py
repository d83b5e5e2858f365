"""Models on the same images: alignment, paired tests, correction."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from thyrojax.analysis.comparison import check_same_cases, comparison_table, mcnemar_exact
from thyrojax.analysis.predictions import Predictions
from thyrojax.errors import PredictionsError

IDS = ("i1", "i2", "i3")
BASE = Predictions(IDS, ("a", "b", "c"), np.array([0, 1, 1]), np.array([0.1, 0.7, 0.9]))


def _rows(models: dict[str, Predictions], **options: Any) -> dict[str, dict[str, Any]]:
    table = comparison_table(models, dict.fromkeys(models, 0.5), resamples=200, **options)
    return {str(row["name"]): row for row in table.records()}


def _positives(wrong: int, n: int = 40) -> np.ndarray:
    """Scores of 40 cases of class 1 and 40 of class 0, of which the first `wrong` are missed."""
    return np.concatenate([np.full(wrong, 0.2), np.full(n - wrong, 0.8), np.full(n, 0.1)])


def _model(scores: np.ndarray, copies: int = 1) -> Predictions:
    ids = tuple(f"{row}-{copy}" for copy in range(copies) for row in range(80))
    patients = tuple(f"p{row}" for _ in range(copies) for row in range(80))
    labels = np.repeat([1, 0], 40)
    return Predictions(ids, patients, np.tile(labels, copies), np.tile(scores, copies))


@pytest.mark.parametrize(
    ("both", "one", "other", "neither", "printed"),
    [
        # Fagerland et al. 2013, BMC Medical Research Methodology 13:91, exact conditional test of
        # airway hyper-responsiveness (Bentur 2009) and of complete response (Cavo 2012).
        (1, 1, 7, 12, 0.0703),
        (59, 6, 16, 80, 0.0525),
        # exact2x2 (R), vignette of the exact McNemar test; R 4.2.2, binom.test(2, 11).
        (21, 9, 2, 12, 0.06543),
    ],
)
def test_mcnemar_exact(both: int, one: int, other: int, neither: int, printed: float) -> None:
    first = np.repeat([True, True, False, False], (both, one, other, neither))
    second = np.repeat([True, False, True, False], (both, one, other, neither))
    assert mcnemar_exact(first, second) == pytest.approx(printed, abs=5e-5)
    assert mcnemar_exact(second, first) == mcnemar_exact(first, second)


def test_models_that_are_right_together_do_not_differ() -> None:
    assert mcnemar_exact(np.array([True, False]), np.array([True, False])) == 1.0


def test_each_row_is_tested_against_the_best_with_holms_correction() -> None:
    """5, 6 and 8 cases missed that the best row has: P = 2 / 2^5, 2 / 2^6, 2 / 2^8; R 4.2.2,
    p.adjust(c(0.0625, 0.03125, 0.0078125), "holm")."""
    models = {f"miss {wrong}": _model(_positives(wrong)) for wrong in (5, 0, 6, 8)}
    rows = _rows(models)
    assert rows["miss 0"]["best"] == "accuracy, sensitivity"
    assert rows["miss 0"]["sensitivity_difference"] == 0.0
    assert rows["miss 0"]["p_sensitivity"] is None
    assert "nothing to test" in rows["miss 0"]["note"]
    for name, p, holm in (
        ("miss 5", 0.0625, 0.0625),
        ("miss 6", 0.03125, 0.0625),
        ("miss 8", 0.0078125, 0.0234375),
    ):
        for measure in ("sensitivity", "accuracy"):
            assert rows[name][f"p_{measure}"] == pytest.approx(p)
            assert rows[name][f"p_{measure}_holm"] == pytest.approx(holm)
    assert rows["miss 8"]["sensitivity_difference"] == pytest.approx(-0.2)
    low, high = (rows["miss 8"][f"sensitivity_difference_{end}"] for end in ("low", "high"))
    # 8 of 40 discordant: 0.2 +- 1.96 sqrt(0.2 x 0.8 / 40), the bootstrap a little askew.
    assert (low, high) == pytest.approx((-0.324, -0.076), abs=0.03)


def test_equal_calls_are_no_difference_and_the_first_row_is_the_best() -> None:
    rows = _rows({"a": _model(_positives(4)), "b": _model(_positives(4))})
    assert rows["a"]["best"] == "accuracy, sensitivity, specificity, AUC"
    assert rows["b"]["p_accuracy"] == 1.0
    assert rows["b"]["accuracy_difference"] == 0.0
    assert rows["b"]["accuracy_difference_low"] is None
    assert rows["b"]["p_auc"] is None
    assert "all alike" in rows["b"]["note"]


def test_areas_are_compared_by_the_paired_test_of_delong() -> None:
    """The cases of test_roc.py; R 4.2.2, pROC 1.18.0, roc.test(a, b, paired = TRUE)."""
    index = np.arange(120)
    labels = (index * 7 % 12 < 5).astype(int)
    ids = tuple(map(str, index))
    fine = Predictions(ids, ids, labels, (index * 37 % 101 + 60 * labels) / 200)
    tied = replace(fine, scores=(index * 53 % 97 + 18 * labels) // 15 / 10)
    rows = _rows({"tied": tied, "fine": fine})
    assert rows["tied"]["auc_difference"] == pytest.approx(-0.256)
    assert rows["tied"]["p_auc"] == pytest.approx(1.1445481791899833e-06, rel=1e-9)
    low, high = rows["tied"]["auc_difference_low"], rows["tied"]["auc_difference_high"]
    assert (low, high) == pytest.approx((-0.359, -0.153), abs=0.04)


def test_each_model_is_called_at_its_own_cutoff() -> None:
    models = {"a": _model(_positives(0)), "b": _model(_positives(0) / 2)}
    table = comparison_table(models, {"a": 0.5, "b": 0.25}, resamples=50)
    assert table.column("sensitivity") == (1.0, 1.0)
    assert table.column("cutoff") == (0.5, 0.25)
    with pytest.raises(PredictionsError, match="cutoffs: found none for b"):
        comparison_table(models, {"a": 0.5})


def test_copies_of_images_fool_mcnemar_but_not_resampled_patients() -> None:
    once = _rows({"best": _model(_positives(2)), "other": _model(_positives(7))})["other"]
    copied = _rows({"best": _model(_positives(2), 3), "other": _model(_positives(7), 3)})["other"]
    assert once["p_sensitivity"] == pytest.approx(2 / 2**5)
    assert copied["p_sensitivity"] == pytest.approx(2 / 2**15)
    for end in ("low", "high"):
        key = f"sensitivity_difference_{end}"
        assert copied[key] == pytest.approx(once[key])
    # 5 of 40 discordant one way: z = 5 / sqrt(5 (1 - 5/40)) = 2.39, P = 0.017.
    assert copied["p_sensitivity_cluster"] == pytest.approx(0.017, abs=0.01)
    assert "p_sensitivity_cluster" not in once
    assert {"auc_cluster_low", "p_auc_cluster_holm"} <= copied.keys()


def test_columns_begin_as_promised() -> None:
    table = comparison_table({"a": _model(_positives(1))}, {"a": 0.5}, resamples=50)
    assert table.name == "comparison"
    names = ("accuracy", "sensitivity", "specificity", "auc")
    values = [f"{name}{end}" for name in names for end in ("", "_low", "_high")]
    assert table.columns[:17] == ("name", "n", "n_patients", "cutoff", *values, "best")
    assert table.columns[-1] == "note"


def test_one_class_leaves_gaps_with_reasons() -> None:
    labels = np.ones(3, int)
    rows = _rows({"a": replace(BASE, labels=labels), "b": replace(BASE, labels=labels)})
    assert rows["b"]["auc"] is None
    assert rows["b"]["auc_difference"] is None
    assert "no case of class 0" in rows["b"]["note"]


def test_rows_in_another_order_are_put_in_the_first_ones_order() -> None:
    moved = Predictions(
        ("i3", "i1", "i2"), ("c", "a", "b"), np.array([1, 0, 1]), np.array([0.6, 0.5, 0.4]),
        {"shape": ("z", "x", "y")},
    )  # fmt: skip
    aligned = check_same_cases({"one": BASE, "two": moved})
    assert aligned["two"].image_ids == IDS
    assert aligned["two"].patient_ids == ("a", "b", "c")
    assert aligned["two"].scores.tolist() == [0.5, 0.4, 0.6]
    assert aligned["two"].columns["shape"] == ("x", "y", "z")
    assert aligned["one"] is BASE


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            replace(BASE, image_ids=("i1", "x", "y")),
            "one, image_id: found no 'x' (and 1 more), which two has, expected the same images in "
            "all files",
        ),
        (
            Predictions(("i1", "i2"), ("a", "b"), np.array([0, 1]), np.array([0.1, 0.7])),
            "two, image_id: found no 'i3', which one has, expected the same images in all files",
        ),
        (
            replace(BASE, labels=np.array([0, 0, 1])),
            "two, image_id 'i2', label: found 0, expected 1 as in one",
        ),
        (
            replace(BASE, patient_ids=("a", "x", "y")),
            "two, image_id 'i2', patient_id: found 'x' (and 1 more), expected 'b' as in one",
        ),
        (
            replace(BASE, image_ids=("i1", "i2", "i2")),
            "two, image_id: found 'i2' twice, expected it once",
        ),
    ],
)
def test_models_of_other_cases_are_refused(other: Predictions, message: str) -> None:
    with pytest.raises(PredictionsError) as caught:
        check_same_cases({"one": BASE, "two": other})
    assert str(caught.value) == message


def test_no_model_is_refused() -> None:
    with pytest.raises(PredictionsError, match="models: found none"):
        check_same_cases({})
