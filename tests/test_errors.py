from __future__ import annotations

from thyrojax.errors import DataFaults, Fault, one_line


def test_a_fault_is_one_line_whatever_the_file_holds() -> None:
    fault = Fault("a\nb.csv", "row 1", "label 'x\r\n\x1b[2J\ud800'", "0 or 1")
    assert str(fault) == ("a\\nb.csv, row 1: found label 'x\\r\\n\\x1b[2J\\ud800', expected 0 or 1")
    assert str(DataFaults([fault, fault])).count("\n") == 1


def test_letters_of_any_language_are_shown_as_they_are() -> None:
    assert one_line("Knöten 结节") == "Knöten 结节"


def test_a_long_text_is_shown_by_its_ends() -> None:
    assert one_line("a" * 400) == "a" * 400
    assert one_line("a" * 300 + "b" * 300) == "a" * 200 + "..." + "b" * 200
