"""The errors that mean "bad input": the command prints their one line and exits with status 2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class ThyrojaxError(Exception):
    """Bad input from outside. The message is one line: file, row or key, found, expected."""


class ConfigError(ThyrojaxError):
    """An option, preset or configuration file that cannot be used."""


class WeightsError(ThyrojaxError):
    """A weight file that cannot be read whole, or a tag that cannot be fetched."""


class RunError(ThyrojaxError):
    """A run folder that lacks something or contradicts itself."""


class PredictionsError(ThyrojaxError):
    """A predictions file that the analysis cannot use."""


class DataError(ThyrojaxError):
    """Images, boxes or annotations that cannot be used."""


@dataclass(frozen=True)
class Fault:
    """One thing wrong with one place of an input file."""

    file: str
    row: str  # "row 4" (1 = the line after the header), "image 3", or "" for the whole file
    found: str
    expected: str

    def __str__(self) -> str:
        place = f"{self.file}, {self.row}" if self.row else self.file
        return f"{one_line(place)}: found {one_line(self.found)}, expected {self.expected}"


def one_line(text: str, longest: int = 400) -> str:
    """A text from a file as it can be shown: line ends and control characters as escapes, of a
    long one the beginning and the end."""
    if not text.isprintable():
        text = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
    half = longest // 2
    return text if len(text) <= longest else f"{text[:half]}...{text[-half:]}"


class DataFaults(DataError):
    """All faults of a source together; its message has one line for each."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))
