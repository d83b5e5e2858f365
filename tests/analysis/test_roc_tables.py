"""The tables of the ROC curve and of the areas."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics

from thyrojax.analysis.roc import auc
from thyrojax.analysis.roc_tables import auc_table, roc_band, roc_table
from thyrojax.errors import PredictionsError

# The example of pROC; tests/analysis/test_roc.py says where it is from. A case is a patient.
ASAH = np.loadtxt(Path(__file__).with_name("asah.csv"), delimiter=",", skiprows=1)
POOR, S100B = ASAH[:, 0].astype(int), ASAH[:, 1]
PATIENTS = [f"p{i}" for i in range(len(POOR))]


def test_the_band_is_about_that_of_proc() -> None:
    """ci.se(roc, specificities = c(0.95, 0.9, 0.8, 0.5), boot.n = 4000) of pROC 1.18.0, seed 1.

    pROC draws within each class and we draw patients, so that ours may be a little wider.
    """
    band = roc_band(POOR, S100B, PATIENTS, np.array([0.05, 0.1, 0.2, 0.5]))
    assert band is not None
    np.testing.assert_allclose(band[0], [0.195, 0.220, 0.341, 0.593], atol=0.035)
    np.testing.assert_allclose(band[1], [0.488, 0.615, 0.756, 0.902], atol=0.035)


def test_the_partial_areas_interval_is_about_that_of_proc() -> None:
    """ci.auc(roc, partial.auc = c(1, 0.9), partial.auc.correct = TRUE, boot.n = 4000): 0.576-0.734.

    Of the whole area, DeLong's interval is 0.630-0.833.
    """
    rows = auc_table(POOR, S100B, PATIENTS).records()
    assert [row["measure"] for row in rows] == [
        "AUC",
        "AUC",
        "partial AUC, false positive rate 0 to 0.1",
        "partial AUC, sensitivity 0.9 to 1",
        "average precision",
    ]
    for place, low, high in ((1, 0.630, 0.833), (2, 0.576, 0.734)):
        found = (rows[place]["ci_low"], rows[place]["ci_high"])
        np.testing.assert_allclose(found, (low, high), atol=0.012)  # type: ignore[arg-type]
    values = [row["value"] for row in rows]
    expected = metrics.average_precision_score(POOR, S100B)
    assert values == pytest.approx([0.731369, 0.731369, 0.646092, 0.546124, expected], abs=1e-6)
    assert rows[0]["method"] == "DeLong, logit"
    assert all((row["n_positive"], row["n_negative"]) == (41, 72) for row in rows)


def test_one_row_for_each_distinct_score() -> None:
    table = roc_table(POOR, S100B, PATIENTS, resamples=200)
    fpr, tpr, cutoffs = metrics.roc_curve(POOR, S100B, drop_intermediate=False)
    assert table.columns == ("cutoff", "fpr", "tpr", "tpr_low", "tpr_high", "note")
    np.testing.assert_allclose(np.array(table.column("fpr"), float), fpr)
    np.testing.assert_allclose(np.array(table.column("tpr"), float), tpr)
    np.testing.assert_array_equal(np.array(table.column("cutoff"), float), cutoffs)
    assert table.rows[0][:3] == (math.inf, 0.0, 0.0)
    # Where the curve leaves a false positive rate for good, its height lies within the band.
    for row, following in zip(table.records(), table.records()[1:], strict=False):
        if row["fpr"] != following["fpr"]:
            assert row["tpr_low"] <= row["tpr"] <= row["tpr_high"]  # type: ignore[operator]


def test_images_of_one_patient_widen_the_band_and_the_areas_interval() -> None:
    """Each case ten times: as images of the same patients they tell nothing new."""
    labels, scores = np.repeat(POOR, 10), np.repeat(S100B, 10)
    same = [patient for patient in PATIENTS for _ in range(10)]
    other = [f"{i}" for i in range(len(labels))]
    plain, once, clustered = (
        auc_table(*cases, resamples=500).records()[1]
        for cases in ((labels, scores, other), (POOR, S100B, PATIENTS), (labels, scores, same))
    )

    def width(row: dict) -> float:
        return row["ci_high"] - row["ci_low"]

    assert width(clustered) == pytest.approx(width(once))
    assert width(plain) == pytest.approx(width(once) / math.sqrt(10), rel=0.15)


def test_a_long_curve_is_thinned_to_a_table_with_the_same_area() -> None:
    random = np.random.default_rng(7)
    labels = random.integers(0, 2, 40_000)
    scores = random.normal(labels, 1.0)
    patients = [str(i) for i in range(len(labels))]
    table = roc_table(labels, scores, patients, resamples=20)
    assert 3000 < len(table.rows) <= 5000
    assert any("The curve has 40,001 points; the table has" in note for note in table.footnotes)
    fpr, tpr = (np.array(table.column(name), float) for name in ("fpr", "tpr"))
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0.0, 0.0, 1.0, 1.0)
    assert np.trapezoid(tpr, fpr) == pytest.approx(auc(labels, scores), abs=1e-5)
    # The longest straight stretch: the highest 63 cases are all positive.
    assert np.diff(fpr + tpr).max() < 0.005


def test_straight_stretches_of_a_long_curve_need_no_points_between() -> None:
    """6,000 positives above 6,000 negatives: only the corner (0, 1) between the ends."""
    labels = np.repeat([0, 1], 6000)
    patients = [str(i) for i in range(12_000)]
    table = roc_table(labels, np.arange(12_000.0), patients, resamples=20)
    assert [row[1:3] for row in table.rows] == [(0.0, 0.0), (0.0, 1.0), (1.0, 1.0)]


def test_where_an_interval_cannot_be_had_the_row_says_why() -> None:
    one_patient = ["p"] * len(POOR)
    for table in (
        roc_table(POOR, S100B, one_patient, resamples=50),
        auc_table(POOR, S100B, one_patient, resamples=50),
    ):
        row = table.records()[-1]
        assert "one patient only" in str(row["note"])
        assert None in row.values()
    distinct = (POOR + np.arange(len(POOR)) / 200) / 2
    perfect = auc_table(POOR, distinct, PATIENTS, resamples=200).records()
    assert perfect[0]["ci_low"] == pytest.approx(0.025 ** (1 / 41))
    for row in perfect[1:]:
        assert 1.0 - 1e-12 < row["value"] <= 1.0  # type: ignore[operator]
        assert row["ci_low"] is None
        assert "the same value" in str(row["note"])


def test_few_cases_of_which_many_resamples_lack_a_class() -> None:
    """Without one of two patients of a class: a resample of three lacks the other one 30 %."""
    labels, scores = np.array([0, 1, 0]), np.array([0.2, 0.8, 0.4])
    table = roc_table(labels, scores, ["a", "b", "c"])
    assert table.records()[0]["tpr_low"] is None
    assert "lack a class" in str(table.records()[0]["note"])


def test_a_partial_area_below_chance_is_said() -> None:
    worse = auc_table(POOR, -S100B, PATIENTS, resamples=200).records()[2]
    assert worse["value"] < 0.5  # type: ignore[operator]
    assert worse["note"] == "worse than chance in this range"


def test_one_class_or_a_range_that_is_none_is_refused() -> None:
    with pytest.raises(PredictionsError, match="expected both classes"):
        roc_table(np.ones(2, int), np.array([0.1, 0.2]), ["a", "b"])
    with pytest.raises(PredictionsError, match=r"fpr range: found 0\.3 to 0\.1"):
        auc_table(POOR, S100B, PATIENTS, fpr_range=(0.3, 0.1))
