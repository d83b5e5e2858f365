"""Resampled patients against written-out resamples, survey estimators and Obuchowski's variance."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, roc_auc_score

from thyrojax.analysis import bootstrap
from thyrojax.analysis.bootstrap import (
    affordable_resamples,
    cluster_bootstrap,
    percentile_interval,
    resampling_note,
    weighted_auc,
    weighted_counts,
)
from thyrojax.analysis.roc import placements
from thyrojax.errors import PredictionsError


def _clustered(seed: int, patients: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """One to six images per patient; images of a patient are alike in label and in score."""
    random = np.random.default_rng(seed)
    sizes = random.integers(1, 7, patients)
    patient = np.repeat(np.arange(patients), sizes)
    tendency = random.normal(0.0, 1.5, patients)[patient]
    labels = (tendency + random.normal(0.0, 1.0, len(patient)) > 0.3).astype(int)
    shift = random.normal(0.0, 0.8, patients)[patient]
    scores = 1.0 / (1.0 + np.exp(-(1.2 * labels + shift + random.normal(0.0, 0.6, len(patient)))))
    return labels, np.round(scores, 2), [f"p{number}" for number in patient]


def test_weights_give_what_the_written_out_resample_gives() -> None:
    labels, scores, patients = _clustered(3, 40)
    seen: list[np.ndarray] = []
    of_scores, of_counts = weighted_auc(labels, scores), weighted_counts(labels, scores >= 0.5)

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        seen.extend(weights)
        return of_scores(weights) | of_counts(weights)

    values = cluster_bootstrap(statistic, patients, resamples=25, seed=5)
    for number, weights in enumerate(seen):
        rows = np.repeat(np.arange(len(labels)), weights.astype(int))
        assert values["auc"][number] == pytest.approx(roc_auc_score(labels[rows], scores[rows]))
        (tn, fp), (fn, tp) = confusion_matrix(labels[rows], scores[rows] >= 0.5)
        got = [values[name][number] for name in ("tp", "fn", "tn", "fp")]
        assert got == [tp, fn, tn, fp]
    assert len(seen) == 25


def test_each_resample_draws_as_many_patients_as_there_are_with_all_their_images() -> None:
    patients = ["b", "a", "b", "c", "b"]
    drawn: list[np.ndarray] = []

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        drawn.extend(weights)
        return {"n": weights.sum(axis=1)}

    cluster_bootstrap(statistic, patients, resamples=500)
    for weights in drawn:
        assert weights[0] == weights[2] == weights[4]
        assert weights[0] + weights[1] + weights[3] == 3
    # 3 draws of 1 in 3: twice in 2/9 of the resamples.
    assert np.mean(np.array(drawn)[:, 1] == 2) == pytest.approx(2 / 9, abs=0.05)


def test_draws_do_not_depend_on_the_statistic_the_row_order_or_the_chunks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    labels, scores, patients = _clustered(4, 30)
    before = cluster_bootstrap(weighted_auc(labels, scores), patients, 300, seed=9)["auc"]
    order = np.random.default_rng(0).permutation(len(labels))
    moved = [patients[row] for row in order]
    monkeypatch.setattr(bootstrap, "_CHUNK_CELLS", 1)
    after = cluster_bootstrap(weighted_auc(labels[order], scores[order]), moved, 300, seed=9)["auc"]
    np.testing.assert_allclose(after, before)
    other = cluster_bootstrap(weighted_auc(labels, scores), patients, 300, seed=10)["auc"]
    assert not np.allclose(other, before)


def test_spread_of_a_proportion_is_the_linearised_variance_of_a_ratio() -> None:
    """Rao and Scott 1992 (Biometrics 48:577): P / (P - 1) sum (x_p - p m_p)^2 / M^2."""
    labels, scores, patients = _clustered(7, 200)
    called = scores >= 0.5
    numbers = np.array([int(patient[1:]) for patient in patients])
    right = np.bincount(numbers, weights=called & (labels == 1))
    positives = np.bincount(numbers, weights=labels)
    share = right.sum() / positives.sum()
    variance = 200 / 199 * np.sum((right - share * positives) ** 2) / positives.sum() ** 2
    counts = cluster_bootstrap(weighted_counts(labels, called), patients, 4000)
    values = counts["tp"] / (counts["tp"] + counts["fn"])
    assert values.std() == pytest.approx(math.sqrt(variance), rel=0.05)
    # Images taken as independent understate it here.
    assert math.sqrt(share * (1 - share) / positives.sum()) < 0.85 * values.std()


def test_spread_of_the_area_is_that_of_obuchowski() -> None:
    """Obuchowski 1997, Biometrics 53:567: sums of DeLong's components by patient."""
    labels, scores, patients = _clustered(8, 200)
    numbers = np.array([int(patient[1:]) for patient in patients])
    of_positives, of_negatives = placements(labels, scores)
    area, m, n = of_positives.mean(), len(of_positives), len(of_negatives)
    positives, negatives = numbers[labels == 1], numbers[labels == 0]

    def excess(members: np.ndarray, components: np.ndarray) -> np.ndarray:
        sums = np.bincount(members, weights=components, minlength=200)
        return sums - area * np.bincount(members, minlength=200)

    one, two = excess(positives, of_positives), excess(negatives, of_negatives)
    with_positive, with_negative = len(set(positives)), len(set(negatives))
    variance = (
        with_positive / ((with_positive - 1) * m) * np.sum(one**2) / m
        + with_negative / ((with_negative - 1) * n) * np.sum(two**2) / n
        + 2 * 200 / 199 * np.sum(one * two) / (m * n)
    )
    values = cluster_bootstrap(weighted_auc(labels, scores), patients, 4000)["auc"]
    assert values.std() == pytest.approx(math.sqrt(variance), rel=0.05)


def test_intervals_of_patients_cover_where_those_of_images_do_not() -> None:
    """60 patients with 5 images each, chance of a right call Beta(4, 1) by patient: 0.8."""
    random = np.random.default_rng(2)
    of_images = [str(image) for image in range(300)]
    of_patients = [str(image // 5) for image in range(300)]
    covered = {"images": 0, "patients": 0}
    for repeat in range(200):
        right = random.random(300) < np.repeat(random.beta(4.0, 1.0, 60), 5)
        statistic = weighted_counts(np.ones(300, int), right)
        for name, ids in (("images", of_images), ("patients", of_patients)):
            values = cluster_bootstrap(statistic, ids, 300, seed=repeat)["tp"]
            weight = cluster_bootstrap(statistic, ids, 300, seed=repeat)["fn"] + values
            interval = percentile_interval(values / weight)
            assert interval is not None
            covered[name] += interval[0] <= 0.8 <= interval[1]
    assert covered["patients"] >= 180
    assert covered["images"] <= covered["patients"] - 10


def test_percentiles_are_those_of_numpy() -> None:
    values = np.random.default_rng(1).normal(size=999)
    assert percentile_interval(values) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])))
    assert percentile_interval(values, 0.8) == pytest.approx(tuple(np.quantile(values, [0.1, 0.9])))


def test_resamples_without_a_value_are_left_out_up_to_a_tenth() -> None:
    values = np.arange(100.0)
    values[:10] = math.nan
    assert percentile_interval(values) == pytest.approx((10 + 0.025 * 89, 10 + 0.975 * 89))
    values[10] = math.nan
    assert percentile_interval(values) is None


def test_infinite_resamples_are_values() -> None:
    values = np.append(np.arange(90.0), np.full(10, math.inf))
    low, high = percentile_interval(values) or (0.0, 0.0)
    assert low == pytest.approx(0.025 * 99)
    assert high == math.inf


def test_a_resample_without_a_class_has_no_area() -> None:
    statistic = weighted_auc(np.array([1, 0, 0]), np.array([0.9, 0.1, 0.9]))
    weights = np.array([[0.0, 1.0, 2.0], [3.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    np.testing.assert_array_equal(statistic(weights)["auc"], [math.nan, math.nan, 0.75])


def test_one_patient_has_no_spread_to_show() -> None:
    values = cluster_bootstrap(
        weighted_counts(np.array([1, 0]), np.array([True, False])), ["a", "a"], 10
    )
    assert np.isnan(values["tp"]).all()
    assert values["tp"].shape == (10,)


def test_what_cannot_be_resampled_is_refused() -> None:
    statistic = weighted_counts(np.array([1]), np.array([True]))
    with pytest.raises(PredictionsError, match="patient_ids: found no case"):
        cluster_bootstrap(statistic, [])
    with pytest.raises(PredictionsError, match="resamples: found 0, expected at least 1"):
        cluster_bootstrap(statistic, ["a"], 0)


def test_very_many_cases_get_fewer_resamples_and_the_footnote_says_so() -> None:
    assert affordable_resamples(10_000) == 2000
    assert affordable_resamples(5_000_000) == 200
    assert affordable_resamples(5_000_000, 50) == 50
    assert "2,000 resamples were asked for" in resampling_note(5_000_000, 10**6, 2000, 0)
    assert resampling_note(100, 80, 2000, 3) == (
        "Cluster intervals: 95 % percentile intervals of 2,000 bootstrap resamples of the 80 "
        "patients, each with all of its images (seed 3)."
    )
    assert "fewer than 30 patients" in resampling_note(100, 20, 2000, 3)
