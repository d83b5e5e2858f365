"""The paper's tables beside ours: cells that the nodules cannot fill."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from experiments.guan2019.beside import _margins, _odds_ratio, sections
from thyrojax.analysis.table import table_of
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


def test_the_papers_row_stands_under_that_of_the_same_margin(tmp_path: Path) -> None:
    study = load_study(Path(__file__).parents[2] / "experiments" / "guan2019")
    found = {
        f"{name}{end}": value
        for name in ("accuracy", "sensitivity", "specificity", "auc")
        for end, value in (("", 0.75), ("_low", 0.5), ("_high", 0.875))
    }
    rows = [{"condition": name} | found for name in ("main-m50", "main-m60", "px75")]
    finished = Finished(
        study, "main-m50", (), (table_of("results", "", rows),), {}, tmp_path, tmp_path
    )
    html = _margins(finished, ["main-m50", "main-m60"])
    cells = [re.sub("<[^>]+>", " ", row) for row in html.split("<tr>")[2:]]
    share = "75.0 (50.0 to 87.5)"
    ours = " ".join([*[share] * 3, "0.750 (0.500 to 0.875)"])
    assert [" ".join(row.split()) for row in cells] == [
        f"50 px {ours}",
        "the paper 90.5 93.3 87.4 0.956",  # Table 1 of Guan et al. 2019
        f"60 px {ours}",
    ]
