"""Tables: no gap without its reason, every digit in CSV, rounded in Markdown."""

from __future__ import annotations

import math

import pytest

from thyrojax.analysis.table import Table, shown, table_of


def test_a_gap_needs_a_note() -> None:
    with pytest.raises(ValueError, match="table t, row 2: a gap without a note"):
        table_of("t", "", [{"auc": 0.5, "note": ""}, {"auc": None, "note": ""}])
    with pytest.raises(ValueError, match="a gap without a note"):
        Table("t", "", ("auc",), ((None,),))
    assert table_of("t", "", [{"auc": None, "note": "one class"}]).rows == ((None, "one class"),)


def test_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="row 1: NaN"):
        table_of("t", "", [{"auc": math.nan, "note": "why"}])


def test_rows_of_other_columns_are_refused() -> None:
    with pytest.raises(ValueError, match="different columns"):
        table_of("t", "", [{"a": 1}, {"b": 1}])
    with pytest.raises(ValueError, match="1 cells for 2 columns"):
        Table("t", "", ("a", "b"), ((1,),))
    with pytest.raises(ValueError, match="no row"):
        table_of("t", "", [])


def test_csv_keeps_every_digit_and_markdown_rounds() -> None:
    table = table_of(
        "t",
        "Two models.",
        [{"name": "a, b", "auc": 1 / 3, "p": 0.0004, "note": ""}],
        ["DeLong."],
    )
    assert table.to_csv() == 'name,auc,p,note\n"a, b",0.3333333333333333,0.0004,\n'
    assert table.to_markdown() == (
        "Two models.\n\n| name | auc | p | note |\n| --- | --- | --- | --- |\n"
        "| a, b | 0.333 | <0.001 |  |\n\n- DeLong.\n"
    )


@pytest.mark.parametrize(
    ("cell", "column", "text"),
    [
        (0.0304, "p_exact", "0.030"),
        (1e-9, "firth_p", "<0.001"),
        (1e-9, "auc", "0.000"),
        (math.inf, "cutoff", "infinite"),
        (12345.678, "n", "12345.7"),
        (True, "small", "yes"),
        (None, "auc", "-"),
        (7, "n", "7"),
    ],
)
def test_cells_as_a_reader_sees_them(cell: float | None, column: str, text: str) -> None:
    assert shown(cell, column) == text


def test_bars_in_a_cell_do_not_break_a_markdown_row() -> None:
    table = table_of("t", "", [{"name": "a|b\nc"}])
    assert "| a\\|b c |" in table.to_markdown()
