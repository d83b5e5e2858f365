"""Which rows of a predictions file are reported, and what is refused before any statistic."""

from __future__ import annotations

from pathlib import Path

import pytest

from thyrojax.analysis.cases import check_apart, read_cases
from thyrojax.errors import PredictionsError

HEADER = "image_id,patient_id,label,score,split,composition"


def _file(folder: Path, *lines: str, header: str = HEADER) -> Path:
    path = folder / "p.csv"
    path.write_text("\n".join((header, *lines)) + "\n")
    return path


def _refusal(path: Path) -> str:
    with pytest.raises(PredictionsError) as caught:
        read_cases(path)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{path}, ")


def test_a_file_of_one_part_is_reported_whole(tmp_path: Path) -> None:
    cases = read_cases(_file(tmp_path, "a,p,1,0.9,fold 3,", "b,q,0,0.1,fold 3,"))
    assert cases.reported.image_ids == ("a", "b")
    assert cases.validation is None
    assert cases.notes == ()


def test_of_several_parts_the_test_rows_are_reported_and_validation_rows_kept(
    tmp_path: Path,
) -> None:
    path = _file(
        tmp_path, "a,p,1,0.9,test,", "b,q,0,0.1,val,", "c,r,0,0.2,train,", "d,s,0,0.3,Test,solid"
    )
    cases = read_cases(path)
    assert cases.reported.image_ids == ("a", "d")
    assert cases.reported.scores.tolist() == [0.9, 0.3]
    assert cases.reported.columns["composition"] == ("", "solid")
    assert cases.validation is not None
    assert cases.validation.image_ids == ("b",)
    assert cases.notes == (
        "p.csv holds several parts (2 test, 1 train, 1 validation rows): the test rows are "
        "reported.",
    )


def test_words_are_read_as_the_vocabulary_spells_them(tmp_path: Path) -> None:
    path = _file(
        tmp_path,
        "a,p,1,0.9,Markedly hypoechoic,4A",
        "b,q,0,0.1,markedly-hypoechoic,",
        header="image_id,patient_id,label,score,echogenicity,tirads",
    )
    columns = read_cases(path).reported.columns
    assert columns["echogenicity"] == ("markedly_hypoechoic",) * 2
    assert columns["tirads"] == ("4a", "")


def test_columns_outside_the_vocabulary_keep_their_own_words(tmp_path: Path) -> None:
    path = _file(tmp_path, "a,p,1,0.9,Left Lobe", header="image_id,patient_id,label,score,position")
    assert read_cases(path).reported.columns["position"] == ("Left Lobe",)


def test_an_unknown_category_is_named_with_its_row_and_the_words_that_are_known(
    tmp_path: Path,
) -> None:
    path = _file(tmp_path, "a,p,1,0.9,test,solid", "b,q,0,0.1,test,mixed", "c,r,0,0.1,test,odd")
    assert _refusal(path) == (
        "image_id 'b', composition: found 'mixed', expected one of solid, cystic, spongiform, or "
        "an empty cell (and 1 more unknown words)"
    )


def test_an_unknown_part_is_named(tmp_path: Path) -> None:
    path = _file(tmp_path, "a,p,1,0.9,test,", "b,q,0,0.1,holdout,")
    assert _refusal(path) == (
        "image_id 'b', split: found 'holdout', expected train, validation or test"
    )


def test_parts_without_test_rows_are_refused(tmp_path: Path) -> None:
    path = _file(tmp_path, "a,p,1,0.9,train,", "b,q,0,0.1,val,")
    assert "found train and validation without test" in _refusal(path)


def test_a_patient_in_two_parts_of_a_file_is_refused(tmp_path: Path) -> None:
    path = _file(tmp_path, "a,p,1,0.9,test,", "b,p,0,0.1,val,")
    assert _refusal(path) == (
        "patient_id: found patient 'p' in test and in validation, expected each patient in one part"
    )


def test_a_patient_of_the_validation_file_among_the_reported_is_refused(tmp_path: Path) -> None:
    lines = [f"i{number},p{number},{number % 2},0.5,," for number in range(6)]
    cases = read_cases(_file(tmp_path, *lines)).reported
    with pytest.raises(PredictionsError) as caught:
        check_apart(cases, "test.csv", cases, "val.csv")
    assert str(caught.value) == (
        "val.csv, patient_id: found patient 'p0' and 5 more of test.csv here too, expected no "
        "patient in both"
    )


@pytest.mark.parametrize(("column", "cell"), [("reader_label", "maybe"), ("size_mm", "big")])
def test_a_call_or_a_size_that_is_none_is_named_by_its_row_in_the_file(
    tmp_path: Path, column: str, cell: str
) -> None:
    path = _file(
        tmp_path,
        "a,p,1,0.9,val,",
        f"b,q,0,0.1,test,{cell}",
        "c,r,1,0.2,test,",
        header=f"image_id,patient_id,label,score,split,{column}",
    )
    assert f"{column}, row 2 (image_id 'b'): found '{cell}', expected" in _refusal(path)
