"""A study's figures against the same worked by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from thyrojax.study.page import finding
from thyrojax.study.results import (
    difference,
    folds_table,
    interaction,
    results_table,
    sample,
    subgroup_table,
)
from thyrojax.study.scores import Outcome

N = 240


def outcome(
    name: str,
    strength: float,
    seeds: int = 2,
    weaker_for: str = "",
    ids: str = "n",
) -> Outcome:
    """Scores that tell the classes apart by `strength` deviations; none for one shape."""
    random = np.random.default_rng(7)
    labels = (random.random(N) < 0.4).astype(np.int64)
    shape = np.where(random.random(N) < 0.5, "taller", "wider")
    noise = random.normal(size=N)  # the same nodules are hard for every condition
    own = np.random.default_rng(sum(map(ord, name))).normal(size=(seeds, N))
    apart = np.where(shape == weaker_for, 0.0, strength) * labels
    scores = 1.0 / (1.0 + np.exp(-(apart + noise + 0.3 * own)))
    return Outcome(
        name=name,
        label=f"the {name}",
        x=None,
        seeds=tuple(range(seeds)),
        image_ids=tuple(f"{ids}{i:03d}" for i in range(N)),
        patient_ids=tuple(f"p{i // 2}" for i in range(N)),
        labels=labels,
        columns={"shape": tuple(shape.tolist()), "split": ("test",) * N},
        scores=scores,
        cutoffs=np.full((seeds, N), 0.6),
        folds=tuple(str(i % 3) for i in range(N)),
    )


def test_a_figure_is_the_mean_over_the_seeds() -> None:
    one = outcome("base", 1.5)
    found = sample(one)
    areas = [roc_auc_score(one.labels, scores) for scores in one.scores]
    assert found.value["auc"] == pytest.approx(np.mean(areas))
    hits = (one.scores >= 0.6)[:, one.labels == 1]
    passes = (one.scores < 0.6)[:, one.labels == 0]
    assert found.value["sensitivity"] == pytest.approx(hits.mean())
    assert found.value["specificity"] == pytest.approx(passes.mean())
    assert found.value["accuracy"] == pytest.approx((hits.sum() + passes.sum()) / (2 * N))


def test_differences_are_paired_by_patients() -> None:
    weak, strong = outcome("weak", 1.0), outcome("strong", 1.6)
    told = difference(sample(strong), sample(weak))
    by_hand = []
    random = np.random.default_rng(3)
    for _ in range(400):
        patients = random.integers(N // 2, size=N // 2)
        rows = np.concatenate([2 * patients, 2 * patients + 1])
        means = [
            np.mean([roc_auc_score(o.labels[rows], s[rows]) for s in o.scores])
            for o in (strong, weak)
        ]
        by_hand.append(means[0] - means[1])
    low, high = np.percentile(by_hand, [2.5, 97.5])
    assert told.low == pytest.approx(low, abs=0.012)
    assert told.high == pytest.approx(high, abs=0.012)
    assert told.p is not None
    assert told.p < 1e-3
    # Unpaired, the interval would be far wider.
    assert told.high is not None
    assert told.low is not None
    unpaired = np.hypot(*(np.std(sample(o).resampled["auc"]) for o in (strong, weak)))
    assert told.high - told.low < 0.7 * 2 * 1.96 * unpaired


def test_the_table_has_every_condition_and_holds_the_reference_apart() -> None:
    table = results_table(
        [outcome("base", 1.5), outcome("strong", 2.5), outcome("same", 1.5)], "base"
    )
    base, strong, same = table.records()
    assert base["difference"] is None
    assert base["note"] == "the reference"
    assert strong["difference"] == pytest.approx(strong["auc"] - base["auc"])  # type: ignore[operator]
    assert strong["p_holm"] == pytest.approx(2 * strong["p"])  # type: ignore[operator]
    assert same["p_holm"] == same["p"]
    assert base["n_patients"] == N // 2
    words = finding("base", [table])
    assert words.startswith("the base: AUC 0.")
    assert "the strong differs by +0." in words
    assert "largest of 2 differences; 1 has P < 0.05" in words
    answer = finding("base", [table], "same")
    assert "the same differs by " in answer
    assert "one of 2 differences" in answer


def test_a_reference_no_better_than_chance_is_the_finding() -> None:
    guesses, others = outcome("base", 0.0), outcome("same", 0.05)
    words = finding("base", [results_table([guesses, others], "base")])
    assert "no better than chance: these data cannot answer" in words
    assert "of 1 difference none has P < 0.05" in words
    words = finding("base", [results_table([guesses, outcome("strong", 3.0)], "base")])
    assert "the strong differs by +0." in words


def test_conditions_of_other_nodules_are_not_compared() -> None:
    table = results_table([outcome("base", 1.5), outcome("elsewhere", 1.5, ids="m")], "base")
    elsewhere = table.records()[1]
    assert elsewhere["difference"] is None
    assert "other nodules" in str(elsewhere["note"])


def test_the_mean_of_the_folds_stands_beside_the_pooled_figure() -> None:
    """Where networks of different folds score on different scales, pooling them costs."""
    one = outcome("base", 1.5)
    folds = np.asarray(one.folds)
    moved = replace(one, scores=np.clip(one.scores - 0.2 * (folds == "0"), 0.0, 1.0))
    (row,) = results_table([moved], "base").records()
    by_hand = [
        roc_auc_score(moved.labels[folds == fold], scores[folds == fold])
        for scores in moved.scores
        for fold in "012"
    ]
    assert row["auc_folds"] == pytest.approx(np.mean(by_hand))
    assert float(str(row["auc"])) < np.mean(by_hand) - 0.01
    assert "auc_folds" not in results_table([replace(one, folds=("0",) * N)], "base").columns


def test_one_network_has_no_spread_between_seeds() -> None:
    (row,) = results_table([outcome("base", 1.5, seeds=1)], "base").records()
    assert row["auc_seed_sd"] is None
    assert "one network" in str(row["note"])
    averaged = replace(outcome("base", 1.5, seeds=1), seeds=(-1,))
    (row,) = results_table([averaged], "base").records()
    assert "one ensemble" in str(row["note"])


def test_without_the_reference_nothing_is_said_to_be_compared() -> None:
    table = results_table([outcome("strong", 2.5)], "base")
    assert finding("base", [table]) == "The reference was not run: nothing is compared."
    assert table.caption.endswith("differences in AUC need the reference.")


def test_a_subgroup_that_a_condition_fails_in_shows_in_the_interaction() -> None:
    base, fails = outcome("base", 2.0), outcome("fails", 2.0, weaker_for="taller")
    table = subgroup_table([base, fails], "base", "shape")
    assert table is not None
    rows = {(row["category"], row["condition"]): row for row in table.records()}
    taller, wider = rows["taller", "fails"], rows["wider", "fails"]
    inside = np.asarray(fails.columns["shape"]) == "taller"
    areas = [roc_auc_score(fails.labels[inside], s[inside]) for s in fails.scores]
    assert taller["auc"] == pytest.approx(np.mean(areas))
    assert taller["interaction"] == pytest.approx(taller["difference"] - wider["difference"])  # type: ignore[operator]
    assert float(taller["interaction_high"] or 0.0) < -0.1
    assert float(taller["p_interaction"] or 1.0) < 1e-3
    assert taller["note"] == ""
    assert wider["interaction"] is None
    assert wider["note"] == "interaction: see the first"
    words = finding("base", [results_table([base, fails], "base"), table])
    told = words.partition("; by shape taller (")[2]
    assert told.startswith(f"{taller['n']} nodules, {taller['n_positive']} positive) ")
    assert f"{taller['difference']:+.3f} (-0." in told
    assert f", wider ({wider['n']} nodules, {wider['n_positive']} positive) " in told
    assert f"{wider['difference']:+.3f} (" in told
    assert told.endswith("P of interaction <0.001.")
    assert subgroup_table([base, fails], "base", "echogenicity") is None
    assert subgroup_table([base, fails], "base", "split") is None


def test_interaction_is_zero_where_the_differences_are_alike() -> None:
    base, strong = outcome("base", 1.0), outcome("strong", 1.6)
    where = [np.asarray(base.columns["shape"]) == word for word in ("taller", "wider")]
    told = interaction([sample(strong, w) for w in where], [sample(base, w) for w in where])
    assert told.low is not None
    assert told.high is not None
    assert told.low < 0.0 < told.high


def test_every_network_has_its_row() -> None:
    one = outcome("base", 1.5)
    rows = folds_table([one]).records()
    assert len(rows) == 2 * 3
    of = np.asarray(one.folds) == "2"
    assert rows[-1]["auc"] == pytest.approx(roc_auc_score(one.labels[of], one.scores[1][of]))
    assert (rows[-1]["seed"], rows[-1]["fold"], rows[-1]["n"]) == ("1", "2", int(of.sum()))
