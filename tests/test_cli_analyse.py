"""`thyrojax analyse`: its files, and one line with status 2 for whatever it cannot use."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from thyrojax.cli import main

HEADER = "image_id,patient_id,label,score,shape,size_mm"
ROWS = [
    f"i{i},p{i // 2 + 1},{i % 2},{0.2 + 0.5 * (i % 2) + 0.02 * (i % 11):.2f},"
    f"{'taller' if i % 3 else 'wider'},{3 + i % 12}"
    for i in range(48)
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a good file of 48 cases and a validation file of other patients."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "good.csv", ROWS)
    others = [row.replace("i", "j", 1).replace(",p", ",q", 1) for row in ROWS]
    write(tmp_path / "val.csv", others)
    return tmp_path


def write(path: Path, rows: list[str], header: str = HEADER) -> None:
    path.write_text("\n".join([header, *rows]) + "\n")


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that a refused command leaves on stderr; nothing is written."""
    before = sorted(Path().rglob("*"))
    try:
        status = main(["analyse", *arguments, "--out", "study", "--quiet"])
    except SystemExit as stop:
        status = stop.code
    said = capsys.readouterr()
    assert status == 2, said
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert sorted(Path().rglob("*")) == before
    return line


def test_it_writes_metrics_tables_figures_and_a_page(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["good.csv", "--out", "study", "--cutoff-from", "val.csv", "--resamples", "200"]
    assert main(["analyse", *arguments]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[-1] == "study/report.html"
    assert "table roc" in said.err
    metrics = json.loads((folder / "study/metrics.json").read_text())
    assert metrics["n"] == 48
    assert metrics["n_patients"] == 24
    assert metrics["cutoff_from"] == "Youden on the validation part (n = 48)"
    assert len(metrics["auc_ci"]) == len(metrics["auc_ci_cluster"]) == 2
    tables = folder / "study/tables"
    for name in ("operating_point", "roc", "size_groups", "features", "odds_ratios", "calibration"):
        with (tables / f"{name}.csv").open(newline="") as file:
            assert len(list(csv.reader(file))) > 1
        assert (tables / f"{name}.md").read_text().count("|") > 4
    assert (folder / "study/figures/roc.svg").is_file()
    assert (folder / "study/figures/roc.png").is_file()
    page = (folder / "study/report.html").read_text()
    assert "--cutoff-from val.csv" in page
    assert "http-equiv" not in page
    assert "<script" not in page


def test_named_files_are_compared(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder / "other.csv", [row.replace("taller", "wider") for row in reversed(ROWS)])
    arguments = ["a=good.csv", "b=other.csv", "--cutoff", "0.5", "--resamples", "200", "--quiet"]
    assert main(["analyse", *arguments, "--out", "study"]) == 0
    with (folder / "study/tables/comparison.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["a", "b"]
    # The same scores in another order of rows: the same figures.
    assert rows[0]["auc"] == rows[1]["auc"]


def test_the_same_seed_writes_the_same_tables(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for out in ("one", "two"):
        assert main(["analyse", "good.csv", "--out", out, "--resamples", "200", "--quiet"]) == 0
    one = {path.name: path.read_bytes() for path in (folder / "one/tables").iterdir()}
    assert one == {path.name: path.read_bytes() for path in (folder / "two/tables").iterdir()}


def _second_row(change: Callable[[list[str]], None]) -> list[str]:
    cells = ROWS[1].split(",")
    change(cells)
    return [ROWS[0], ",".join(cells), *ROWS[2:]]


@pytest.mark.parametrize(
    ("place", "cell", "message"),
    [
        (0, "", "bad.csv, row 2: found no image_id, expected an id in each row"),
        (0, "i0", "bad.csv, row 2: found image_id 'i0' again (first in row 1), expected each"),
        (1, "", "bad.csv, row 2: found no patient_id, expected an id in each row"),
        (2, "2", "bad.csv, row 2: found label '2', expected 0 or 1"),
        (3, "1.2", "bad.csv, row 2: found score '1.2', expected a number from 0 to 1"),
        (3, "nan", "bad.csv, row 2: found score 'nan', expected a number from 0 to 1"),
        (4, "round", "bad.csv, image_id 'i1', shape: found 'round', expected one of wider, taller"),
        (5, "big", "size_mm"),
        (5, "-3", "size_mm"),
    ],
)
def test_a_bad_cell_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str], place: int, cell: str, message: str
) -> None:
    def change(cells: list[str]) -> None:
        cells[place] = cell

    write(folder / "bad.csv", _second_row(change))
    assert message in refused(capsys, "bad.csv")


def test_a_file_that_is_not_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "none.csv: found no such file" in refused(capsys, "none.csv")


def test_a_patient_of_the_validation_file_among_the_reported(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(capsys, "good.csv", "--cutoff-from", "good.csv")
    assert "good.csv, patient_id: found patient 'p1' and 23 more of good.csv here too" in line


def test_compared_files_of_different_nodules(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder / "fewer.csv", ROWS[:-1])
    line = refused(capsys, "a=good.csv", "b=fewer.csv")
    assert "found no 'i47', which a has, expected the same images in all files" in line


def test_a_name_that_stands_for_two_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "found the name 'good' twice" in refused(capsys, "good.csv", "good=val.csv")


def test_a_cutoff_file_for_a_model_that_is_not_there(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(capsys, "a=good.csv", "--cutoff-from", "c=val.csv")
    assert "--cutoff-from: found 'c', expected the name of a model: a" in line


def test_a_validation_file_of_one_class(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(
        folder / "one.csv", [row.replace("i", "j", 1).replace(",p", ",q", 1) for row in ROWS[::2]]
    )
    line = refused(capsys, "good.csv", "--cutoff-from", "one.csv")
    assert "good, validation cases, labels: found 24 of class 0 and none of class 1" in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--cutoff", "2"), "cutoff: found 2.0, expected a score from 0 to 1"),
        (("--cutoff", "x"), "invalid float value: 'x'"),
        (("--cutoff-rule", "best"), "found 'best', expected half, youden, closest"),
        (("--cutoff-rule", "youden"), "found no validation cases, expected --cutoff-from"),
        (("--cutoff", "0.5", "--optimistic"), "not allowed with argument"),
        (("--prevalence", "7"), "prevalence: found 7.0"),
        (("--reader", "expert"), "--reader: found no column 'expert'"),
        (("--exposures", "none.toml"), "none.toml: found no such file"),
        (("--cutoff", "0.5", "--cutoff-rule", "closest"), "found closest, expected none beside"),
        (("--seed", "-1"), "seed: found -1, expected a whole number from 0 up"),
        (("--edges", "1", "1"), "edges: found 1.0 1.0, expected rising sizes in cm above 0"),
    ],
)
def test_an_option_that_cannot_be(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert message in refused(capsys, "good.csv", *arguments)


def test_a_run_is_not_written_over(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "study").mkdir()
    (folder / "study" / "config.json").write_text("{}")
    (folder / "study" / "metrics.json").write_text("the run's")
    assert "--out: found study, a run, expected a folder" in refused(capsys, "good.csv")
    assert (folder / "study" / "metrics.json").read_text() == "the run's"


def test_what_an_earlier_study_had_and_this_one_lacks_is_removed(folder: Path) -> None:
    command = ["--out", "study", "--resamples", "200", "--quiet"]
    assert main(["analyse", "good.csv", *command]) == 0
    assert (folder / "study/tables/size_groups.md").exists()
    (folder / "study/tables/mine.csv").write_text("the user's")
    bare = [",".join(row.split(",")[:4]) for row in ROWS]
    write(folder / "bare.csv", bare, "image_id,patient_id,label,score")
    assert main(["analyse", "bare.csv", *command]) == 0
    left = {path.stem for path in (folder / "study").glob("*/*")}
    assert not left & {"size_groups", "odds_ratios", "features", "readers"}
    assert {"roc", "mine"} <= left


def test_a_blank_behind_an_id_is_no_part_of_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blank = [row.replace("i", "j", 1).replace(",p", ", p", 1) for row in ROWS]
    write(folder / "blank.csv", blank)
    line = refused(capsys, "good.csv", "--cutoff-from", "blank.csv")
    assert "found patient 'p1' and 23 more of good.csv here too" in line


def test_of_a_file_of_several_parts_the_validation_rows_choose(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    others = [row.replace("i", "j", 1).replace(",p", ",q", 1) for row in ROWS]
    parts = [f"{row},{'val' if i < 20 else 'test'}" for i, row in enumerate(others)]
    write(folder / "parts.csv", parts, f"{HEADER},split")
    command = ["analyse", "good.csv", "--cutoff-from", "parts.csv", "--out", "study", "--quiet"]
    assert main([*command, "--resamples", "200"]) == 0
    said = capsys.readouterr().out
    assert "Youden on the validation part (n = 20)" in said
    assert "parts.csv holds several parts: its validation rows alone choose." in said
    write(folder / "parts.csv", [row.replace(",val", ",train") for row in parts], f"{HEADER},split")
    (folder / "study").rename("elsewhere")
    line = refused(capsys, "good.csv", "--cutoff-from", "parts.csv")
    assert "parts.csv, split: found several parts and no validation rows" in line


def test_cases_of_one_class_have_a_decision_curve_at_a_prevalence(folder: Path) -> None:
    write(folder / "one.csv", ROWS[::2])
    command = ["analyse", "one.csv", "--out", "study", "--prevalence", "0.05", "--quiet"]
    assert main([*command, "--resamples", "200"]) == 0


def test_the_readers_column_is_no_feature(folder: Path) -> None:
    write(
        folder / "read.csv", [f"{row},{i % 3 % 2}" for i, row in enumerate(ROWS)], f"{HEADER},rad1"
    )
    command = ["analyse", "read.csv", "--out", "study", "--reader", "rad1", "--quiet"]
    assert main([*command, "--resamples", "200"]) == 0
    with (folder / "study/tables/features.csv").open() as file:
        assert {row["feature"] for row in csv.DictReader(file)} == {"shape"}


def test_a_failed_command_leaves_the_earlier_study_as_it_was(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["analyse", "good.csv", "--out", "study", "--resamples", "200", "--quiet"]) == 0
    before = {path: path.read_bytes() for path in Path("study").rglob("*.*")}
    assert main(["analyse", "none.csv", "--out", "study"]) == 2
    assert before == {path: path.read_bytes() for path in Path("study").rglob("*.*")}


def test_declared_exposures_may_be_of_any_column(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f"{row},{'left' if i % 2 else 'right'}" for i, row in enumerate(ROWS)]
    write(folder / "lobes.csv", lines, f"{HEADER},lobe")
    exposure = '[[exposure]]\nname = "left lobe"\nfeature = "lobe"\nexposed = ["left"]\n'
    (folder / "lobe.toml").write_text(exposure + 'reference = ["right"]\nmultivariate = false\n')
    arguments = ["lobes.csv", "--exposures", "lobe.toml", "--out", "study", "--resamples", "200"]
    assert main(["analyse", *arguments, "--quiet"]) == 0
    with (folder / "study/tables/odds_ratios.csv").open(newline="") as file:
        assert {row["variable"] for row in csv.DictReader(file)} == {"left lobe"}
    (folder / "lobe.toml").write_text(exposure + 'reference = ["middle"]\nmultivariate = false\n')
    (folder / "study").rename("earlier")
    capsys.readouterr()
    assert "middle" in refused(capsys, "lobes.csv", "--exposures", "lobe.toml")
