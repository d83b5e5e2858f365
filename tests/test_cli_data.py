"""`thyrojax data view` and `thyrojax data stats`, as they are typed."""

from __future__ import annotations

from pathlib import Path

import pytest

from thyrojax.cli import main
from thyrojax.data.builder import build
from thyrojax.data.sources.phantom import read


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(read(n_patients=12), tmp_path_factory.mktemp("built") / "phantom", False)


@pytest.mark.parametrize("action", ["view", "stats"])
def test_help_has_an_example(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["data", action, "--help"])
    assert stop.value.code == 0
    assert f"example: thyrojax data {action} " in capsys.readouterr().out


def test_view_writes_the_page_of_a_built_set(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "sheet.html"
    arguments = ["data", "view", str(built), "--out", str(page), "--margins", "0", "20"]
    assert main([*arguments, "--shapes", "square", "--limit", "3"]) == 0
    assert capsys.readouterr().out == f"{page}: 3 nodules\n"
    assert '<option value="20" selected>20 px</option>' in page.read_text()


def test_view_shows_a_source_without_building_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "sheet.html"
    words = ["data", "view", "phantom", "--patients", "3", "--margin-unit", "mm", "--margins", "2"]
    assert main([*words, "--out", str(page)]) == 0
    assert "simulated thyroid nodules" in page.read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.html"]


def test_stats_prints_a_table_and_writes_tables_and_figures(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "stats", str(built), "--out", str(tmp_path / "statistics")]) == 0
    table = capsys.readouterr().out
    assert "phantom: simulated thyroid nodules" in table
    assert "TI-RADS" in table
    names = {path.name for path in (tmp_path / "statistics").iterdir()}
    assert names == {"groups.csv", "quantities.csv", "windows.csv", "sets.csv", "figures"}
    assert (tmp_path / "statistics" / "figures" / "by_ti_rads.svg").is_file()


def test_stats_compares_a_source_with_a_built_set(
    built: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "stats", "phantom", str(built), "--patients", "9"]) == 0
    said = capsys.readouterr().out
    assert "differences between phantom (1), phantom (2)\n" in said
    assert "chi-squared takes nodules as independent" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["view", "nowhere", "--out", "x.html"], "nowhere: found no such folder"),
        (["view", "ddti", "--out", "x.html"], "source ddti: found no path"),
        (["view", "SET", "--seed", "3", "--out", "x.html"], "--seed: found it with the set"),
        (["stats", "SET", "--from", "elsewhere"], "--from: found it with the set"),
        (["view", "SET", "--limit", "0", "--out", "x.html"], "limit: found 0"),
        (["view", "SET", "--margins", "5", "5", "--out", "x.html"], "margins: found 5 5"),
        (
            ["view", "SET", "--margins", "9000", "--out", "x.html"],
            "margin: found 9000 px",
        ),
        (["stats", "SET", "--margins", "-4"], "margins: found -4"),
        (
            ["stats", "phantom", "--patients", "3", "--split", "s.csv"],
            "a source that was not built",
        ),
        (["stats", "SET", "SET", "--split", "s.csv"], "split: found 2 sets"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    words: list[str],
    said: str,
    built: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["data", *(str(built) if word == "SET" else word for word in words)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
    assert captured.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words",
    [
        ["check", "csv", "--from", "nodules.csv", "--csv", "nodules.csv"],
        ["check", "masks", "--from", ".", "--labels", "nodules.csv", "--csv", "./nodules.csv"],
        ["view", "csv", "--from", "nodules.csv", "--out", "nodules.csv"],
    ],
)
def test_what_is_read_is_never_written(
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nodules.csv").write_text("a hundred hours of work")
    assert main(["data", *words]) == 2
    assert "nodules.csv, which --" in capsys.readouterr().err
    assert (tmp_path / "nodules.csv").read_text() == "a hundred hours of work"
