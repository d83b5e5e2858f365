"""What the figures and the sections of a study both read from its tables and metrics."""

from __future__ import annotations

import math
from collections.abc import Container
from typing import Any, NamedTuple

from thyrojax.analysis.study import Study
from thyrojax.analysis.table import Cell

Interval = tuple[float, float]
Record = dict[str, Cell]


def patients_repeat(metrics: dict[str, Any]) -> bool:
    """Whether some patient has several images, so that images are no independent cases."""
    return bool(metrics["n_patients"] < metrics["n"])


def leading_interval(metrics: dict[str, Any], name: str) -> Interval | None:
    """The interval to lead with: over patients where it was computed, else over images."""
    for key in (f"{name}_ci_cluster", f"{name}_ci"):
        if metrics.get(key) is not None:
            low, high = metrics[key]
            return float(low), float(high)
    return None


def number(record: Record, column: str) -> float | None:
    """A row's number in a column; None where the table has no such column or no number there."""
    cell = record.get(column)
    return float(cell) if isinstance(cell, int | float) else None


def records(study: Study, table: str) -> list[Record]:
    """The rows of a table; none where the study has no such table."""
    return study.tables[table].records() if table in study.tables else []


def measured(row: Record, measure: str) -> tuple[float, Interval | None] | None:
    """A measure of a row (NAME, NAME_low, NAME_high) with the interval to lead with.

    That is the one over patients, NAME_cluster_low and _high, where the table has it.
    """
    value = number(row, measure)
    if value is None:
        return None
    low, high = (number(row, column) for column in interval_columns(row, measure))
    return value, None if low is None or high is None else (low, high)


def interval_columns(columns: Container[str], measure: str) -> tuple[str, str]:
    """The names of the columns that hold the interval to lead with."""
    prefix = f"{measure}_cluster" if f"{measure}_cluster_low" in columns else measure
    return f"{prefix}_low", f"{prefix}_high"


def auc_of(study: Study, name: str) -> tuple[float, Interval | None] | None:
    """The area of one model's curve, with its interval; None where no table has it."""
    if name == study.lead and study.metrics.get("auc") is not None:
        return float(study.metrics["auc"]), leading_interval(study.metrics, "auc")
    for row in records(study, "comparison"):
        if row["name"] == name:
            return measured(row, "auc")
    return None


def separation_words(row: Record) -> str:
    """Which kind of separation a row's note tells of."""
    quasi = "quasi-complete separation" in str(row.get("note") or "")
    return "quasi-complete separation" if quasi else "complete separation"


def is_separated(row: Record) -> bool:
    """Whether separation takes a row's odds ratio to 0 or to infinity, or leaves it open."""
    ratio = number(row, "odds_ratio")
    if ratio is None:
        return "complete separation" in str(row.get("note") or "")
    return ratio in (0.0, math.inf)


def is_best(row: Record, measure: str) -> bool:
    """Whether the column `best` of a compared model names the measure."""
    return measure in str(row.get("best") or "").lower().replace(",", " ").split()


class ReaderPoint(NamedTuple):
    """A reader in the ROC plane, with the interval of either share."""

    sensitivity: float
    sensitivity_interval: Interval | None
    specificity: float
    specificity_interval: Interval | None


def reader_point(study: Study) -> ReaderPoint | None:
    """The reader in the ROC plane; None without a reader, or where one class has no call."""
    rows = {str(row["measure"]): row for row in records(study, "readers")}
    sensitivity, specificity = (
        measured(rows[name], "reader") if name in rows else None
        for name in ("sensitivity", "specificity")
    )
    if sensitivity is None or specificity is None:
        return None
    return ReaderPoint(*sensitivity, *specificity)
