"""Net benefit: by hand, against the package dcurves, and where there is little to say."""

from __future__ import annotations

import numpy as np
import pytest

from thyrojax.analysis.decision import THRESHOLDS, decision_curve, decision_table
from thyrojax.errors import PredictionsError

INDEX = np.arange(120)
LABELS = (INDEX * 7 % 12 < 5).astype(int)
SCORES = (INDEX * 37 % 101 + 60 * LABELS + 10) / 200


def at(threshold: float) -> int:
    return round(threshold * 100) - 1


def test_net_benefit_by_hand() -> None:
    """Ten cases, four positive; at 0.2 three of them and two others reach the threshold."""
    labels = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
    scores = np.array([0.9, 0.5, 0.2, 0.1, 0.6, 0.3, 0.19, 0.1, 0.1, 0.0])
    curve = decision_curve(labels, scores)
    # 3/10 - 2/10 * 0.2/0.8, and 4/10 - 6/10 * 0.2/0.8
    assert curve.model[at(0.2)] == pytest.approx(0.25)
    assert curve.treat_all[at(0.2)] == pytest.approx(0.25)
    # 2/10 - 1/10 * 0.5/0.5, and 4/10 - 6/10
    assert curve.model[at(0.5)] == pytest.approx(0.1)
    assert curve.treat_all[at(0.5)] == pytest.approx(-0.2)
    assert curve.gain[at(0.5)] == pytest.approx(0.1)
    # With one in ten having the disease: 3/4 * 0.1 - 2/6 * 0.9 * 0.2/0.8
    assert decision_curve(labels, scores, 0.1).model[at(0.2)] == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("prevalence", "model", "treat_all"),
    [
        (
            None,
            [0.35833333333333334, 0.3, 0.2638888888888889, 0.20833333333333334, 0.04166666666667],
            [0.35185185185185186, 0.2222222222222, 0.0277777777777, -0.4583333333, -1.9166666667],
        ),
        (0.1, [0.01, -0.08, -0.08142857142857142, 0.05, 0.01], [0.0, -0.2, -0.5, -1.25, -3.5]),
    ],
)
def test_net_benefit_is_that_of_dcurves(
    prevalence: float | None, model: list[float], treat_all: list[float]
) -> None:
    """Python package dcurves 1.1.7, dca(..., thresholds=[0.1, 0.25, 0.4, 0.6, 0.8])."""
    curve = decision_curve(LABELS, SCORES, prevalence)
    places = [at(threshold) for threshold in (0.1, 0.25, 0.4, 0.6, 0.8)]
    np.testing.assert_allclose(curve.model[places], model, atol=1e-12)
    np.testing.assert_allclose(curve.treat_all[places], treat_all, atol=1e-10)


def test_the_table_says_where_the_model_is_above_both() -> None:
    labels = np.repeat([0, 1], 50)
    scores = np.repeat([0.205, 0.795], 50)
    table = decision_table(labels, scores, resamples=200)
    assert table.column("threshold") == tuple(THRESHOLDS.tolist())
    # Up to 0.20 all are treated and the model equals that; from 0.80 on nobody is.
    assert [k for k, gain in enumerate(table.column("gain"), start=1) if gain] == list(
        range(21, 80)
    )
    assert any("treating none at thresholds: 0.21 to 0.79;" in note for note in table.footnotes)
    first, middle, last = (table.records()[at(t)] for t in (0.2, 0.5, 0.8))
    assert "every case reaches" in str(first["note"])
    assert (middle["model"], middle["standardised"]) == (0.5, 1.0)
    assert "no case reaches" in str(last["note"])
    assert (last["model"], last["model_low"]) == (0.0, None)


def test_bands_hold_the_curve_and_patients_with_many_images_widen_them() -> None:
    random = np.random.default_rng(4)
    truth = random.integers(0, 2, 40)
    labels = np.repeat(truth, 10)
    scores = np.clip(np.repeat(truth * 0.3 + random.random(40) * 0.6, 10), 0, 1)
    patients = [str(patient) for patient in np.repeat(np.arange(40), 10)]

    def width(table_patients: list[str] | None) -> float:
        row = decision_table(labels, scores, table_patients, resamples=300).records()[at(0.4)]
        low, model, high = (row[name] for name in ("model_low", "model", "model_high"))
        assert isinstance(low, float)
        assert isinstance(model, float)
        assert isinstance(high, float)
        assert low < model < high
        return high - low

    # Ten equal images each: the standard error is sqrt(10) times that of independent ones.
    assert width(patients) / width(None) == pytest.approx(10**0.5, rel=0.25)


def test_the_band_is_that_of_a_plain_bootstrap() -> None:
    """An independent loop that builds each resample; 4,000 of them, other draws."""
    random = np.random.default_rng(0)
    drawn = []
    for _ in range(4000):
        rows = random.integers(120, size=120)
        treated, label = SCORES[rows] >= 0.4, LABELS[rows]
        drawn.append(np.mean(treated & (label == 1)) - np.mean(treated & (label == 0)) * 0.4 / 0.6)
    row = decision_table(LABELS, SCORES, resamples=4000).records()[at(0.4)]
    expected = np.quantile(drawn, [0.025, 0.975])
    assert [row["model_low"], row["model_high"]] == pytest.approx(expected.tolist(), abs=0.01)


@pytest.mark.parametrize("prevalence", [None, 0.05])
@pytest.mark.parametrize(
    ("labels", "scores"),
    [
        ([1], [0.3]),
        ([0, 0, 0], [0.0, 0.5, 1.0]),
        ([1, 1, 1], [0.0, 0.5, 1.0]),
        ([0, 1, 1], [0.5, 0.5, 0.5]),
        ([0, 1, 1, 0], [0.0, 1.0, 0.0, 1.0]),
    ],
)
def test_odd_cases_give_a_table_with_reasons(
    labels: list[int], scores: list[float], prevalence: float | None
) -> None:
    table = decision_table(np.array(labels), np.array(scores), None, prevalence, resamples=20)
    assert len(table.rows) == 99
    if prevalence and len(set(labels)) == 1:
        assert f"all cases are of class {labels[0]}" in str(table.records()[0]["note"])


def test_bad_input_is_refused() -> None:
    with pytest.raises(PredictionsError, match="prevalence: found 1, expected a share"):
        decision_table(LABELS, SCORES, prevalence=1.0)
    with pytest.raises(PredictionsError, match="row 1: found 2"):
        decision_table(np.array([0, 1]), np.array([2.0, 0.5]))
    with pytest.raises(PredictionsError, match="patient_ids: found 1, expected 120"):
        decision_table(LABELS, SCORES, ["a"])
