"""An exposure file is taken whole, or refused in one line that names file and entry."""

from __future__ import annotations

from pathlib import Path

import pytest

from thyrojax.analysis.exposures import Exposure, default_exposures, read_exposures
from thyrojax.errors import PredictionsError

GOOD = """
[[exposure]]
name = "taller"
feature = "shape"
exposed = ["taller"]
reference = ["wider"]
multivariate = true
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "exposures.toml"
    path.write_text(text)
    return path


def test_an_entry_becomes_an_exposure(tmp_path: Path) -> None:
    expected = Exposure("taller", "shape", ("taller",), ("wider",), True)
    assert read_exposures(write(tmp_path, GOOD)) == (expected,)


def test_multivariate_may_be_left_out(tmp_path: Path) -> None:
    text = GOOD.replace("multivariate = true", "")
    assert not read_exposures(write(tmp_path, text))[0].multivariate


def test_the_default_is_the_papers_table_3() -> None:
    names = [exposure.name for exposure in default_exposures()]
    assert names == [
        "composition_solid",
        "hypoechoic",
        "calcification_micro",
        "calcification_macro",
        "margin_ete",
        "margin_ill_defined",
        "margin_irregular",
        "margin_lobulated",
        "shape_taller",
    ]
    joint = [exposure.name for exposure in default_exposures() if exposure.multivariate]
    assert joint == ["calcification_micro", "calcification_macro", "shape_taller"]


def test_a_column_of_the_predictions_may_be_a_feature(tmp_path: Path) -> None:
    text = GOOD.replace("shape", "hospital").replace("taller", "north").replace("wider", "south")
    columns = {"hospital": ("north", "south ", ""), "margin": ("50", "50", "50")}
    assert read_exposures(write(tmp_path, text), columns)[0].feature == "hospital"
    with pytest.raises(PredictionsError, match="feature 'hospital', expected one of composition"):
        read_exposures(write(tmp_path, text))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"shape"', '"form"', r"exposure 1 \(taller\): found feature 'form', expected one of"),
        ('"shape"', '"margin"', "found feature 'margin', expected one of .*margin_feature"),
        ('["taller"]', '["tall"]', "found category 'tall' of shape in exposed, expected of wider"),
        ('["taller"]', "[]", r"found exposed = \[\], expected at least one category"),
        ('["wider"]', '["taller"]', "category 'taller' in exposed and in reference"),
        ('["wider"]', '["wider", "wider"]', "category 'wider' twice in reference"),
        ('["wider"]', '"wider"', "found reference = 'wider', expected a list of categories"),
        ("true", "1", "found multivariate = 1, expected true or false"),
        ("multivariate", "joint", "found key 'joint', expected only name, feature"),
        ('feature = "shape"', "", "found no feature, expected a text"),
        ("[[exposure]]", "[[exposures]]", "found key 'exposures', expected only"),
        ("= true", "=", r"found broken TOML"),
        (GOOD, "", "found no \\[\\[exposure\\]\\], expected at least one"),
        (GOOD, GOOD + GOOD, r"exposure 2 \(taller\): found name 'taller' again"),
        (GOOD, "exposure = [1]", "exposure 1: found 1, expected a table of keys"),
    ],
)
def test_a_fault_is_one_line_with_file_and_entry(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    path = write(tmp_path, GOOD.replace(old, new))
    with pytest.raises(PredictionsError, match=message) as caught:
        read_exposures(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PredictionsError, match="found no such file"):
        read_exposures(tmp_path / "none.toml")
    with pytest.raises(PredictionsError, match="found no readable file"):
        read_exposures(tmp_path)
    path = tmp_path / "bytes.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PredictionsError, match="no UTF-8 text"):
        read_exposures(path)
