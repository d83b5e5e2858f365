"""Sensitivity, specificity and AUC by size."""

from __future__ import annotations

import numpy as np
import pytest

from thyrojax.analysis.predictions import Predictions
from thyrojax.analysis.size_groups import group_names, size_table, sizes_mm
from thyrojax.errors import PredictionsError
from thyrojax.vocabulary import SIZE_GROUPS, size_group


def _predictions(
    sizes: list[str], labels: list[int] | None = None, scores: list[float] | None = None
) -> Predictions:
    n = len(sizes)
    ids = tuple(f"i{number}" for number in range(n))
    return Predictions(
        ids,
        ids,
        np.array(labels or [number % 2 for number in range(n)]),
        np.array(scores or [0.25 + 0.5 * (number % 2) for number in range(n)]),
        {"size_mm": tuple(sizes)},
    )


def test_groups_are_those_of_the_paper_edges_in_the_middle() -> None:
    sizes = ["0", "4.9", "5", "5.0", "7", "10", "10.01", "44"]
    table = size_table(_predictions(sizes), 0.5)
    assert table.name == "size_groups"
    assert table.column("group") == (*SIZE_GROUPS, "all")
    assert table.column("n") == (2, 4, 2, 8)
    counted = [size_group(float(size)) for size in sizes]
    assert [counted.count(group) for group in SIZE_GROUPS] == [2, 4, 2]
    assert table.columns[:13] == (
        "group", "n", "n_positive", "n_negative", "sensitivity", "sensitivity_low",
        "sensitivity_high", "specificity", "specificity_low", "specificity_high", "auc", "auc_low",
        "auc_high",
    )  # fmt: skip
    assert table.columns[-1] == "note"


def test_figures_of_a_group_are_of_its_cases_alone() -> None:
    """Of the small ones the positives score 0.9 and 0.4, the negative 0.6; the large are right."""
    table = size_table(
        _predictions(["3", "3", "3", "20", "20"], [1, 1, 0, 1, 0], [0.9, 0.4, 0.6, 0.8, 0.1]),
        0.5,
    )
    small, middle, large, whole = table.records()
    assert (small["n_positive"], small["n_negative"]) == (2, 1)
    assert (small["sensitivity"], small["specificity"], small["auc"]) == (0.5, 0.0, 0.5)
    assert (large["sensitivity"], large["specificity"], large["auc"]) == (1.0, 1.0, 1.0)
    assert middle["note"] == "no case in this group"
    assert [middle[key] for key in ("n", "sensitivity", "auc_low")] == [0, None, None]
    assert (whole["sensitivity"], whole["specificity"]) == (pytest.approx(2 / 3), 0.5)
    assert "Too small" in str(small["note"])


def test_sizes_that_nobody_stated_are_counted_apart() -> None:
    table = size_table(_predictions(["3", "", "3", " ", "20", ""]), 0.5)
    assert table.column("group") == ("<0.5", "0.5-1.0", ">1.0", "not stated", "all")
    assert table.column("n") == (2, 0, 1, 3, 6)
    assert "The size of 3 of 6 nodules is not stated." in table.footnotes


@pytest.mark.parametrize("cell", ["-1", "big", "nan", "inf", "5 mm", "1e400"])
def test_a_size_that_is_no_size_is_refused_with_its_row(cell: str) -> None:
    with pytest.raises(PredictionsError) as caught:
        size_table(_predictions(["3", cell]), 0.5)
    message = str(caught.value)
    assert message.startswith(f"size_mm, row 2 (image_id 'i1'): found {cell!r}, expected a size")


def test_a_file_without_sizes_is_refused() -> None:
    plain = Predictions(("a",), ("a",), np.array([1]), np.array([0.5]))
    with pytest.raises(PredictionsError, match="found no column size_mm"):
        sizes_mm(plain)


def test_other_edges() -> None:
    assert group_names((1.0,)) == ["<1.0", ">=1.0"]
    assert group_names((0.5, 1.0, 2.0)) == ["<0.5", "0.5-1.0", ">1.0-2.0", ">2.0"]
    sizes = ["10.9", "11", "11.1", "20", "20.1"]
    assert size_table(_predictions(sizes), 0.5, (1.1, 2.0)).column("n") == (1, 3, 1, 5)
    assert size_table(_predictions(sizes), 0.5, [1.1]).column("n") == (1, 4, 5)


@pytest.mark.parametrize(
    "edges", [(), (1.0, 0.5), (0.0, 1.0), (-1.0,), (1.0, 1.0), (float("nan"),)]
)
def test_edges_that_make_no_groups_are_refused(edges: tuple[float, ...]) -> None:
    with pytest.raises(PredictionsError, match="expected positive, rising sizes"):
        group_names(edges)


def test_repeated_patients_bring_cluster_intervals() -> None:
    random = np.random.default_rng(3)
    labels = random.integers(0, 2, 200)
    ids = tuple(map(str, range(200)))
    patients = tuple(str(number // 4) for number in range(200))
    scores = np.clip(0.3 * labels + 0.7 * random.random(200), 0.0, 1.0)
    table = size_table(
        Predictions(ids, patients, labels, scores, {"size_mm": ("4", "12") * 100}),
        0.5,
        resamples=200,
    )
    assert {"sensitivity_cluster_low", "auc_cluster_high"} <= set(table.columns)
    for row in table.records():
        if row["n"]:
            assert row["auc_cluster_low"] < row["auc"] < row["auc_cluster_high"]  # type: ignore[operator]
    assert "sensitivity_cluster_low" not in size_table(_predictions(["3", "4"]), 0.5).columns
