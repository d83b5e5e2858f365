"""The tables as they are printed, and the nodules that their counts stand for."""

from __future__ import annotations

import csv
from importlib.resources import files
from typing import NamedTuple

import numpy as np

from thyrojax.analysis.predictions import Predictions
from thyrojax.vocabulary import PREDICTION_FEATURES

Row = dict[str, str]

N_PTC, N_BENIGN = 209, 190  # the test group
CLASSES = ("ptc", "benign")
TRUE_OF = {"ptc": 195, "benign": 166}  # the row "Total" of Table 2
READERS = {"ptc": 177, "benign": 186}  # called right by the radiologists (Discussion)
FEATURES = tuple(name for name in PREDICTION_FEATURES if name != "tirads")


class Misprint(NamedTuple):
    """A row of Table 2 whose counts do not add up, and what the other rows leave for it."""

    feature: str
    category: str
    of_class: str
    n: int
    printed: tuple[int, int]  # true, false
    corrected: tuple[int, int]


def read_printed(name: str) -> list[Row]:
    """A printed table's rows, every cell as it is printed, "" where nothing is."""
    text = files(__package__).joinpath(f"{name}.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def find_misprints() -> list[Misprint]:
    """Rows of Table 2 whose true and false do not add up to their number of nodules."""
    rows = read_printed("table2")
    found = []
    for row in rows:
        for of_class in CLASSES:
            n, true, false = (int(row[f"{of_class}_{name}"]) for name in ("n", "true", "false"))
            if true + false == n:
                continue
            others = [
                other
                for other in rows
                if other["feature"] == row["feature"] and other["category"] != row["category"]
            ]
            left = TRUE_OF[of_class] - sum(int(other[f"{of_class}_true"]) for other in others)
            corrected = (left, n - left)
            found.append(
                Misprint(row["feature"], row["category"], of_class, n, (true, false), corrected)
            )
    return found


def corrected_counts(feature: str) -> dict[str, dict[str, tuple[int, int]]]:
    """(true, false) of each class and category of a feature, the misprint corrected."""
    mended = {(row.of_class, row.feature, row.category): row.corrected for row in find_misprints()}
    counts: dict[str, dict[str, tuple[int, int]]] = {of_class: {} for of_class in CLASSES}
    for row in read_printed("table2"):
        if row["feature"] != feature:
            continue
        for of_class in CLASSES:
            printed = int(row[f"{of_class}_true"]), int(row[f"{of_class}_false"])
            key = (of_class, feature, row["category"])
            counts[of_class][row["category"]] = mended.get(key, printed)
    return counts


def expand(feature: str) -> Predictions:
    """The 399 test nodules, a row each, with their class, the network's call and one feature.

    The score is 1 where the network called a carcinoma, else 0. Features are printed one at a time,
    so that no table has two of them for the same nodule.
    """
    labels: list[int] = []
    calls: list[int] = []
    words: list[str] = []
    for of_class, categories in corrected_counts(feature).items():
        label = int(of_class == "ptc")
        for category, (true, false) in categories.items():
            labels += [label] * (true + false)
            calls += [label] * true + [1 - label] * false
            words += [category] * (true + false)
    ids = tuple(f"nodule-{number:03d}" for number in range(1, len(labels) + 1))
    return Predictions(
        ids, ids, np.array(labels), np.array(calls, dtype=np.float64), {feature: tuple(words)}
    )
