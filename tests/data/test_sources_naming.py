from __future__ import annotations

import pytest

from thyrojax.data.sources import naming
from thyrojax.errors import DataError


@pytest.mark.parametrize(
    ("name", "label"),
    [("benign", 0), ("Malignant", 1), (" BENIGN ", 0), ("0", 0), ("1", 1), ("nodule", None)],
)
def test_words_that_mean_a_label_unless_told_otherwise(name: str, label: int | None) -> None:
    assert naming.label_of(name, None, None) == label


def test_named_classes_replace_the_usual_words_of_their_label_only() -> None:
    malignant = ["TR 4", "tr-5"]
    assert naming.label_of("TR_4", malignant, None) == 1
    assert naming.label_of("TR-5", malignant, None) == 1
    assert naming.label_of("malignant", malignant, None) is None
    assert naming.label_of("benign", malignant, None) == 0
    assert naming.label_of("benign", malignant, ["cyst"]) is None


def test_other_classes_are_left_out_only_where_classes_were_named() -> None:
    assert not naming.left_out(None, None)
    assert naming.left_out(["a"], None)
    assert naming.left_out(None, ["b"])


@pytest.mark.parametrize(
    ("malignant", "benign", "message"),
    [
        ([], None, "--malignant: found no names, expected"),
        (["a"], [" "], "--benign: found a blank name, expected"),
        (["Papillary Ca", "x"], ["papillary-ca"], "found 'papillary_ca' in both"),
        (["0"], None, "found '0' in both"),
        (None, ["1", "malignant"], "found '1', 'malignant' in both"),
    ],
)
def test_lists_that_name_no_two_classes(
    malignant: list[str] | None, benign: list[str] | None, message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        naming.check_names(malignant, benign)
    assert "\n" not in str(caught.value)


def test_lists_that_can_be_used() -> None:
    naming.check_names(None, None)
    naming.check_names(["1"], None)
    naming.check_names(["0"], ["1"])  # the other way round, said in full


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("p\\d+", "with 0 groups"),
        ("(p)(\\d+)", "with 2 groups"),
        ("(p", "missing \\), unterminated subpattern"),
        ("(?P<a>", "unterminated"),
        ("(a){99999999999999}", "too large"),
    ],
)
def test_patterns_that_name_no_patient(pattern: str, found: str) -> None:
    with pytest.raises(DataError, match="--patient-pattern: found") as caught:
        naming.check_pattern(pattern)
    assert "expected a regular expression with exactly one group" in str(caught.value)
    assert found.replace("\\", "") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_patients_in_names() -> None:
    naming.check_pattern(None)
    naming.check_pattern("^(p\\d+)_")
    assert naming.patient_of(None, "p01_2") == "p01_2"
    assert naming.patient_of("^(p\\d+)_", "p01_2") == "p01"
    assert naming.patient_of("^(p\\d+)_", "scan") == ""
    assert naming.patient_of("scan(\\d*)", "scan") == ""
    assert naming.patient_of("scan(x)?", "scan") == ""
