"""Separation is found where the likelihood has no maximum, and only there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from thyrojax.analysis.logistic import collect_patterns
from thyrojax.analysis.separation import Separation, find_separation


def find(errors: list[int], *columns: list[float]) -> Separation:
    return find_separation(collect_patterns(np.array(errors), np.column_stack(columns)))


def test_endometrial_data_is_separated_in_neovascularisation_alone() -> None:
    # R's detectseparation documents for these data: NV Inf, all others finite.
    data = np.loadtxt(Path(__file__).with_name("endometrial.csv"), delimiter=",", skiprows=1)
    found = find_separation(collect_patterns(data[:, 3].astype(np.int64), data[:, :3]))
    assert found.kind == "quasi-complete"
    assert found.limit.tolist() == [0.0, 1.0, 0.0, 0.0]
    assert found.patterns.sum() == np.sum(data[:, 0] == 1.0)


@pytest.mark.parametrize(
    ("errors", "kind", "limit"),
    [
        ([0, 0, 0, 1, 0, 1], "quasi-complete", -1.0),  # no error among the exposed
        ([1, 1, 1, 1, 0, 1], "quasi-complete", 1.0),  # all the exposed are errors
        ([0, 0, 1, 1, 1, 1], "quasi-complete", -1.0),  # all the others are errors
        ([1, 1, 1, 0, 0, 0], "complete", 1.0),
        ([0, 0, 1, 1, 0, 1], "none", 0.0),
    ],
)
def test_zero_cells_of_one_exposure(errors: list[int], kind: str, limit: float) -> None:
    found = find(errors, [1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
    assert found.kind == kind
    assert found.limit[1] == limit


def test_separation_by_two_exposures_together_that_neither_shows_alone() -> None:
    # Errors are where the two add up to 2; each alone has both outcomes on both sides.
    one = [0.0, 0.0, 1.0, 1.0, 2.0, 2.0]
    two = [0.0, 1.0, 0.0, 1.0, 0.0, 1.0]
    found = find([0, 0, 0, 1, 1, 1], one, two)
    assert found.kind == "complete"
    assert find([0, 0, 0, 1, 1, 1], two).kind == "none"


def test_what_is_separated_only_after_others_is_found() -> None:
    # x = 2 is separated from the rest by its own column; only then does z separate the others.
    errors = [1, 1, 0, 0, 1, 0]
    own = [1.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    other = [0.0, 1.0, 0.0, 1.0, 2.0, 1.0]
    found = find(errors, own, other)
    assert found.kind == "complete"
    assert found.limit[1] == 1.0


def test_mixed_patterns_everywhere_mean_no_separation() -> None:
    assert find([0, 1, 0, 1], [0.0, 0.0, 1.0, 1.0]).kind == "none"
