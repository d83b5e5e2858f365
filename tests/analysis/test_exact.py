"""Fisher's exact test against R 4.2.2's fisher.test, whose documented examples are the first."""

from __future__ import annotations

import numpy as np
import pytest

from thyrojax.analysis.exact import fisher_exact
from thyrojax.errors import PredictionsError


@pytest.mark.parametrize(
    ("counts", "p"),
    [
        ([[3, 1], [1, 3]], 0.4857142857),  # ?fisher.test, TeaTasting
        ([[2, 15], [10, 3]], 0.0005367241191),  # ?fisher.test, Convictions
        ([[4, 5, 0], [0, 8, 9], [7, 0, 3]], 1.468492983e-05),
        ([[13, 24, 6, 104, 3, 45], [4, 0, 0, 5, 1, 4]], 0.03434278436),
        ([[111, 1, 7, 46, 1, 0], [13, 0, 2, 8, 1, 0]], 0.2418878527),
        ([[3, 86, 69, 8], [0, 11, 12, 1]], 0.8717464638),
    ],
)
def test_p_is_that_of_r(counts: list[list[int]], p: float) -> None:
    for table in (np.array(counts), np.array(counts).T):
        found = fisher_exact(table)
        assert found.p == pytest.approx(p, rel=1e-8)
        assert found.method.startswith("exact")
        assert found.standard_error is None


def test_p_of_the_job_satisfaction_example() -> None:
    # ?fisher.test: Job satisfaction by income (Agresti 2002, p. 57), printed there as 0.7827.
    counts = np.array([[1, 3, 10, 6], [2, 3, 10, 7], [1, 6, 14, 12], [0, 1, 9, 11]])
    assert fisher_exact(counts).p == pytest.approx(0.782684939, rel=1e-8)


def test_too_many_tables_are_drawn_at_random_with_a_stated_error() -> None:
    # MP6 of ?fisher.test, 0.03929: Mehta and Patel's sixth example.
    counts = np.array(
        [
            [1, 2, 2, 1, 1, 0, 1],
            [2, 0, 0, 2, 3, 0, 0],
            [0, 1, 1, 1, 2, 7, 3],
            [1, 1, 2, 0, 0, 0, 1],
            [0, 1, 1, 1, 1, 0, 0],
        ]
    )
    found = fisher_exact(counts, largest=1000)
    assert "drawn at random" in found.method
    assert found.standard_error is not None
    assert abs(found.p - 0.03928964366) < 4.0 * found.standard_error
    assert fisher_exact(counts, largest=1000) == found  # same seed, same tables


def test_millions_of_cases_have_an_answer() -> None:
    counts = np.array([[900000, 800000, 700000, 600000], [140000, 125000, 109000, 93300]])
    assert 0.0 < fisher_exact(counts).p <= 1.0


def test_one_row_or_column_with_cases_gives_one() -> None:
    found = fisher_exact(np.array([[5, 3, 0], [0, 0, 0]]))
    assert found.p == 1.0
    assert "no other table" in found.method


def test_no_case_or_a_negative_count_is_refused() -> None:
    with pytest.raises(PredictionsError, match="no case"):
        fisher_exact(np.zeros((2, 2), dtype=np.int64))
    with pytest.raises(PredictionsError, match="found -1"):
        fisher_exact(np.array([[1, -1], [2, 2]]))
