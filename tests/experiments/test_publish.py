"""Finished studies are taken into the results, and the README's table is made from them alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from experiments.publish import BEGIN, END, main

ABOUT = {
    "study": "margin",
    "source": "ddti",
    "method": "fine-tuned",
    "question": "Which margin?",
    "finding": "margin 50 px: AUC 0.600 (0.500 to 0.700).",
    "command": "thyrojax study experiments/margin.py --data data/ddti --workdir studies/margin",
    "hours": 0.5,
    "machines": "2 x AMD EPYC",
    "runs": 15,
    "input_size": 96,
    "seeds": 3,
    "folds": 5,
}


def finished(folder: Path, **changes: Any) -> Path:
    for name in (
        "tables/results.csv",
        "tables/results.md",
        "figures/areas.png",
        "runs/a/unit.json",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / "about.json").write_text(json.dumps({**ABOUT, **changes}))
    return folder


@pytest.fixture
def here(tmp_path: Path) -> Path:
    folder = tmp_path / "experiments"
    folder.mkdir()
    (folder / "README.md").write_text(f"# Results\n\n{BEGIN}\n{END}\n\nThe end.\n")
    return folder


def test_a_study_has_its_row_and_its_files(here: Path, tmp_path: Path) -> None:
    assert main([str(finished(tmp_path / "one"))], here) == 0
    text = (here / "README.md").read_text()
    (row,) = [line for line in text.splitlines() if "0.600" in line]
    assert "results/margin/ddti-96px/tables/results.md" in row
    assert "15 runs (3 seeds, 5 folds) of 96 px: 30 min on 2 x AMD EPYC" in row
    assert "One seed" not in row
    assert text.startswith("# Results\n")
    assert text.endswith("\n\nThe end.\n")
    place = here / "results" / "margin" / "ddti-96px"
    assert (place / "tables" / "results.csv").read_text() == "tables/results.csv"
    assert not (place / "runs").exists()


def test_what_networks_of_one_seed_say_is_said_to_be_of_one(here: Path, tmp_path: Path) -> None:
    one = finished(tmp_path / "one", seeds=1)
    probe = finished(tmp_path / "two", seeds=1, method="linear probe", source="busbra")
    assert main([str(one), str(probe)], here) == 0
    rows = [line for line in (here / "README.md").read_text().splitlines() if "0.600" in line]
    assert [("One seed: " in row, "linear probe" in row) for row in rows] == [
        (False, True),
        (True, False),
    ]


def test_a_second_time_it_is_replaced_and_others_stay(here: Path, tmp_path: Path) -> None:
    assert main([str(finished(tmp_path / "one"))], here) == 0
    other = finished(tmp_path / "two", source="busbra", finding="another one")
    (tmp_path / "one" / "figures" / "areas.png").unlink()
    finished(tmp_path / "three", finding="a newer one")
    (tmp_path / "three" / "figures" / "areas.png").unlink()
    assert main([str(other), str(tmp_path / "three")], here) == 0
    text = (here / "README.md").read_text()
    assert text.count("| [margin]") == 2
    assert "another one" in text
    assert "a newer one" in text
    assert "0.600" not in text
    assert not (here / "results" / "margin" / "ddti-96px" / "figures").exists()
    assert main([], here) == 0
    assert (here / "README.md").read_text() == text


def test_what_is_unfinished_changes_nothing(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (here / "README.md").read_text()
    good = finished(tmp_path / "one")
    for bad, told in ((tmp_path / "none", "No such file"), (tmp_path / "two", "no finding")):
        if bad.name == "two":
            about = {name: value for name, value in ABOUT.items() if name != "finding"}
            (finished(bad) / "about.json").write_text(json.dumps(about))
        assert main([str(good), str(bad)], here) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert told in line
        assert "about.json" in line
    assert (here / "README.md").read_text() == before
    assert not (here / "results").exists()


def test_a_readme_without_marks_is_left(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "README.md").write_text(f"{END} {BEGIN}")
    assert main([str(finished(tmp_path / "one"))], here) == 2
    assert "expected one pair" in capsys.readouterr().err
    assert not (here / "results").exists()
