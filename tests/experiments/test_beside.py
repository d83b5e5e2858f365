"""The paper's tables beside ours: cells that the nodules cannot fill."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest

from experiments.guan2019.beside import _margins, _odds_ratio, _statistics, sections
from thyrojax.analysis.table import table_of
from thyrojax.report.study_page import write_study
from thyrojax.study.page import Finished
from thyrojax.study.plan import load_study
from thyrojax.study.scores import Outcome


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
    finished = Finished(study, "main-m50", (), (), {}, tmp_path, tmp_path, ())
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
    tables = (table_of("results", "", rows),)
    finished = Finished(study, "main-m50", (), tables, {}, tmp_path, tmp_path, ())
    html = _margins(finished, ["main-m50", "main-m60"])
    cells = [re.sub("<[^>]+>", " ", row) for row in html.split("<tr>")[2:]]
    share = "75.0 (50.0 to 87.5)"
    ours = " ".join([*[share] * 3, "0.750 (0.500 to 0.875)"])
    assert [" ".join(row.split()) for row in cells] == [
        f"50 px {ours}",
        "the paper 90.5 93.3 87.4 0.956",  # Table 1 of Guan et al. 2019
        f"60 px {ours}",
    ]


def test_folds_keep_their_calls_and_lose_what_takes_scores_for_probabilities(
    tmp_path: Path,
) -> None:
    """Two networks that agree on everything but where their scores lie."""
    random = np.random.default_rng(0)
    n = 120
    labels, folds = np.arange(n) // 2 % 2, np.arange(n) % 2
    scores = np.clip(0.2 + 0.2 * labels + 0.4 * folds + random.uniform(-0.15, 0.15, n), 0, 1)
    cutoffs = np.where(folds == 0, 0.3, 0.7)
    names = tuple(f"n{i}" for i in range(n))
    outcome = Outcome(
        name="main-m50",
        label="50 px",
        x=50.0,
        seeds=(0,),
        image_ids=names,
        patient_ids=names,
        labels=labels,
        columns={},
        scores=scores[None],
        cutoffs=cutoffs[None],
        folds=tuple(folds.astype(str)),
    )
    statistics = _statistics([outcome], tmp_path / "runs" / "main" / "seed0", ("no", "yes"))
    called = scores >= cutoffs
    assert statistics.metrics["sensitivity"] == pytest.approx(called[labels == 1].mean())
    assert statistics.metrics["specificity"] == pytest.approx(1 - called[labels == 0].mean())
    assert "brier" not in statistics.metrics
    assert not {"calibration", "decision_curve"} & set(statistics.tables)
    write_study(tmp_path / "out", statistics, {})
    for place in ("report.html", "tables/operating_point.md"):
        assert "scores are moved, on the logit scale" in (tmp_path / "out" / place).read_text()
