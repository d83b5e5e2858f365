"""The paper's tables beside ours: cells that the nodules cannot fill."""

from __future__ import annotations

import math

import pytest

from experiments.guan2019.beside import _odds_ratio


@pytest.mark.parametrize(
    ("found", "shown"),
    [
        ((1.5, 0.5, 4.5), "1.500 (0.500 to 4.500)"),
        ((0.0, None, None), "0.000 (- to -)"),  # no error among the exposed
        ((math.inf, 2.0, None), "inf (2.000 to -)"),
        ((None, None, None), "-"),
    ],
)
def test_an_odds_ratio_without_limits_has_dashes(
    found: tuple[float | None, float | None, float | None], shown: str
) -> None:
    assert _odds_ratio(*found) == shown
