"""The paper's tables beside ours: cells that the nodules cannot fill."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from experiments.guan2019.beside import _odds_ratio, sections
from thyrojax.study.page import Finished
from thyrojax.study.plan import load_study


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


def test_without_the_papers_own_network_nothing_is_written(tmp_path: Path) -> None:
    study = load_study(Path(__file__).parents[2] / "experiments" / "guan2019")
    finished = Finished(study, "main-m50", (), (), {}, tmp_path, tmp_path)
    assert sections(finished) == []
    assert not any(tmp_path.iterdir())
