"""The field's figures each have a source and a reason; ours stand beside them with theirs."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from experiments.published import (
    COLUMNS,
    COUNTS,
    FIELD,
    FIGURES,
    SPLITS,
    Row,
    main,
    read_rows,
    read_study,
)
from thyrojax.errors import RunError

SHARES = ("auc", "auc_low", "auc_high", *FIGURES[1:])
MAY_BE_EMPTY = {"set", "n_of", *COUNTS, *SHARES}


@pytest.fixture(scope="module")
def field() -> list[Row]:
    return read_rows(FIELD, COLUMNS)


def study(
    folder: Path, source: str = "ddti", label: str = "split by patient", auc: str = "0.599"
) -> Path:
    """A study folder with what `thyrojax study` writes and this command reads."""
    about = {
        "study": "leakage",
        "source": source,
        "method": "fine-tuned",
        "data": "361 nodules",
        "command": "thyrojax study experiments/leakage.py --folds 5",
        "input_size": 160,
    }
    (folder / "tables").mkdir(parents=True)
    (folder / "about.json").write_text(json.dumps(about))
    row = {"condition": "patient", "label": label, "n": "361", "n_patients": "243", "auc": auc}
    row |= {"auc_low": "", "auc_high": "", "sensitivity": "0.5", "specificity": "", "accuracy": ""}
    with (folder / "tables" / "results.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, row)
        writer.writeheader()
        writer.writerow(row)
    return folder


def test_every_row_names_where_it_was_read_and_what_makes_it_comparable(field: list[Row]) -> None:
    for row in field:
        assert list(row) == list(COLUMNS)
        assert [name for name in COLUMNS if not row[name] and name not in MAY_BE_EMPTY] == []
        assert row["split"] in SPLITS
        assert row["read_in"] == "the paper itself" or "://" in row["read_in"]
        assert len(row["comparability"].split()) >= 4


def test_shares_are_shares_within_their_intervals_and_counts_are_counts(field: list[Row]) -> None:
    for row in field:
        assert any(row[name] for name in FIGURES)
        assert all(0.0 < float(row[name]) < 1.0 for name in SHARES if row[name])
        assert all(row[name].isdecimal() for name in COUNTS if row[name])
        assert bool(row["n_of"]) == any(row[name] for name in COUNTS)
        assert bool(row["auc_low"]) == bool(row["auc_high"])
        if row["auc_low"]:
            assert float(row["auc_low"]) <= float(row["auc"]) <= float(row["auc_high"])


def test_no_row_is_there_twice_and_ours_sets_are_named_as_thyrojax_names_them(
    field: list[Row],
) -> None:
    keys = [(row["study"], row["data"], row["network"]) for row in field]
    assert len(set(keys)) == len(keys)
    assert {row["set"] for row in field} == {"", "ddti", "busbra", "tn5000"}


def test_the_papers_own_row_has_its_printed_counts(field: list[Row]) -> None:
    network, readers = (row for row in field if row["study"].startswith("Guan 2019"))
    assert float(network["sensitivity"]) == round(195 / 209, 3)
    assert float(network["specificity"]) == pytest.approx(166 / 190, abs=5e-4)
    assert float(readers["sensitivity"]) == round(177 / 209, 3)
    assert float(readers["specificity"]) == round(186 / 190, 3)
    assert network["split"] == "by image"


def test_the_command_prints_the_field_and_ours_beneath(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([]) == 0
    alone = capsys.readouterr().out
    assert alone.count("\n| ") == 2 + len(read_rows(FIELD, COLUMNS))
    assert "Ours." not in alone
    folder = study(tmp_path / "leakage")
    assert main([str(folder), str(folder / "tables" / "results.csv")]) == 0
    both = capsys.readouterr().out
    assert both.startswith(alone)
    ours = [line for line in both.splitlines() if line.startswith("| leakage: ")]
    assert len(ours) == 2
    assert "TI-RADS grade, no pathology" in ours[0]
    assert "data: of the same set: Chi 2017" in ours[0]
    assert "| 0.599 | 0.500 | - | - |" in ours[0]


@pytest.mark.parametrize(
    ("source", "label", "told"),
    [
        ("ddti", "split by patient", "divided by patient"),
        ("ddti", "split by image", "too high by that"),
        ("busbra", "square", "IADA-Net"),
        ("csv", "square", "no published row has this set"),
        ("phantom", "square", "comparable with no published figure"),
    ],
)
def test_a_row_of_ours_says_what_makes_it_comparable(
    tmp_path: Path, field: list[Row], source: str, label: str, told: str
) -> None:
    (row,) = read_study(study(tmp_path / "one", source, label), field)
    assert told in row["note"]
    assert row["split"] == ("by image" if label == "split by image" else "by patient")


def test_a_folder_that_is_no_finished_study_is_one_line_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "none")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "none/about.json: found" in err
    assert "expected that of a finished study" in err


def test_a_results_file_with_a_share_beyond_one_is_refused(
    tmp_path: Path, field: list[Row]
) -> None:
    folder = study(tmp_path / "bad", auc="59.9")
    with pytest.raises(RunError, match=r"results.csv, row 1, auc: found '59.9', expected a share"):
        read_study(folder, field)


def test_a_results_file_without_its_columns_is_refused(tmp_path: Path, field: list[Row]) -> None:
    folder = study(tmp_path / "bad")
    (folder / "tables" / "results.csv").write_text("condition,auc\nsquare,0.9\n")
    with pytest.raises(RunError, match=r"results.csv: found no column label, n, n_patients"):
        read_study(folder, field)


def test_an_about_file_without_its_keys_is_refused(tmp_path: Path, field: list[Row]) -> None:
    folder = study(tmp_path / "bad")
    (folder / "about.json").write_text("[]")
    with pytest.raises(RunError, match=r"about.json: found no study or source"):
        read_study(folder, field)


def test_each_condition_has_its_own_network_and_division(tmp_path: Path, field: list[Row]) -> None:
    folder = study(tmp_path, label="the other way")
    (row,) = read_study(folder, field)
    assert row["network"] == "Inception-v3, 160 px, fine-tuned, if the study's reference"
    about = json.loads((folder / "about.json").read_text())
    about["conditions"] = {
        "patient": {"input_size": 96, "method": "linear probe", "split_by": "image"}
    }
    (folder / "about.json").write_text(json.dumps(about))
    (row,) = read_study(folder, field)
    assert row["network"] == "Inception-v3, 96 px, linear probe"
    assert row["split"] == "by image"
