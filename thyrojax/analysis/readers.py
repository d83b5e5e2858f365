"""A reader (a radiologist) beside the model, on the same cases."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from thyrojax.analysis.agreement import Agreement, cohen_kappa, paired_difference_interval
from thyrojax.analysis.bootstrap import (
    RESAMPLES,
    Statistic,
    affordable_resamples,
    cluster_bootstrap,
    ratio,
    resampling_note,
)
from thyrojax.analysis.comparison import mcnemar_exact
from thyrojax.analysis.cutoff import call_positive
from thyrojax.analysis.measures import Measure, estimate_measures, resampled_interval
from thyrojax.analysis.predictions import Predictions
from thyrojax.analysis.table import Table, table_of
from thyrojax.errors import PredictionsError
from thyrojax.shapes import Bool, Float, Int

READER_COLUMN = "reader_label"
KAPPA = "kappa"
AGREEMENT = "kappa of reader and model"
AT_SPECIFICITY = "model sensitivity at the reader's specificity"
AT_SENSITIVITY = "model specificity at the reader's sensitivity"
_PAIRED = ("sensitivity", "specificity", "accuracy")
# pandas writes whole numbers with a point once a column has had a gap.
_CALL_OF = {"": -1, "0": 0, "1": 1, "0.0": 0, "1.0": 1}


class Figure(NamedTuple):
    """A value with its plain and its cluster interval; None where `note` says why."""

    value: float | None
    interval: tuple[float, float] | None
    cluster_interval: tuple[float, float] | None
    note: str = ""


_NOTHING = Figure(None, None, None)


def has_reader(predictions: Predictions, column: str = READER_COLUMN) -> bool:
    """Whether the column is there and not empty throughout."""
    return any(cell.strip() for cell in set(predictions.columns.get(column, ())))


def reader_calls(
    predictions: Predictions, column: str = READER_COLUMN
) -> Int[np.ndarray, " cases"]:
    """The reader's call of each case: 0, 1, or -1 where there is none.

    Raises:
      PredictionsError: no such column; a cell that is not 0, 1 or empty.
    """
    if column not in predictions.columns:
        present = ", ".join(predictions.columns) or "none beside the required ones"
        raise PredictionsError(f"column {column}: found columns {present}, expected it among them")
    cells = predictions.columns[column]
    call_of = {cell: _CALL_OF.get(cell.strip()) for cell in set(cells)}
    if None in call_of.values():
        row, cell = next((i, c) for i, c in enumerate(cells, start=1) if call_of[c] is None)
        raise PredictionsError(
            f"column {column}, row {row} (image_id {predictions.image_ids[row - 1]!r}): found "
            f"{cell[:60]!r}, expected 0, 1 or an empty cell"
        )
    return np.array([call_of[cell] for cell in cells], dtype=np.int64)


def reader_table(
    predictions: Predictions,
    cutoff: float,
    column: str = READER_COLUMN,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Table:
    """The reader and the model at its cutoff on the cases that the reader called.

    Differences are the model less the reader. `..._cluster_low` and `..._cluster_high` are from
    resampled patients.

    Raises:
      PredictionsError: as `reader_calls` and `check_cases`; no call at all.
    """
    calls = reader_calls(predictions, column)
    called = np.flatnonzero(calls >= 0)
    if len(called) == 0:
        raise PredictionsError(f"column {column}: found no call, expected 0 or 1 in some rows")
    labels, scores, reader = predictions.labels[called], predictions.scores[called], calls[called]
    patient_ids = [predictions.patient_ids[case] for case in called.tolist()]
    n_patients = len(set(patient_ids))
    model = call_positive(scores, cutoff)
    of_reader, of_model = (
        estimate_measures(
            labels, values, at, patient_ids, names=_PAIRED, resamples=resamples, seed=seed
        )
        for values, at in ((reader.astype(np.float64), 0.5), (scores, cutoff))
    )
    order, statistic = _statistic(labels, scores, reader, model)
    used = affordable_resamples(len(called), resamples)
    drawn = cluster_bootstrap(statistic, [patient_ids[case] for case in order.tolist()], used, seed)
    observed = {name: float(v[0]) for name, v in statistic(np.ones((1, len(called)))).items()}
    about = {"sensitivity": labels == 1, "specificity": labels == 0, "accuracy": labels >= 0}
    rows = [
        _paired_row(
            name,
            (reader == labels)[about[name]],
            (model == labels)[about[name]],
            of_reader[name],
            of_model[name],
            drawn[f"{name} difference"],
            n_patients,
        )
        for name in _PAIRED
    ]
    rows += _kappa_rows(labels, reader, model, drawn, n_patients)
    rows += [
        _matched_row(name, of_reader[own], observed[name], drawn, n_patients)
        for name, own in ((AT_SPECIFICITY, "sensitivity"), (AT_SENSITIVITY, "specificity"))
    ]
    left_out = len(calls) - len(called)
    return table_of(
        "readers",
        f"Reader ({column}) and model at its cutoff of {cutoff:g}, on the {len(called):,} cases "
        "that the reader called.",
        rows,
        [
            f"Cases without a call are left out, for the reader and the model alike: {left_out:,} "
            f"of {len(calls):,}.",
            "Differences are the model less the reader. Intervals, 95 %: proportions Wilson, their "
            "differences Newcombe's for paired proportions (1998), kappa Fleiss, Cohen and Everitt "
            "(1969), with images taken as independent; all others are the cluster intervals.",
            "P for sensitivity, specificity and accuracy: exact McNemar, with images taken as "
            "independent; for the others twice the share of resamples beyond a difference of 0. "
            "No correction for the number of comparisons.",
            "The reader's sensitivity and specificity are one point on the ROC plot, at "
            "(1 - specificity, sensitivity). The model at that specificity or sensitivity is read "
            "off its empirical ROC curve, straight between neighbouring cutoffs.",
            resampling_note(len(called), n_patients, resamples, seed),
        ],
    )


def _statistic(
    labels: Int[np.ndarray, " cases"],
    scores: Float[np.ndarray, " cases"],
    reader: Int[np.ndarray, " cases"],
    model: Bool[np.ndarray, " cases"],
) -> tuple[Int[np.ndarray, " cases"], Statistic]:
    """The order of falling scores, and a statistic of cases in that order.

    It gives `MEASURE` of the model and `MEASURE difference`, the model less the reader.
    """
    order = np.argsort(-scores.astype(np.float64), kind="stable")
    falling = scores[order]
    member = np.eye(8)[4 * labels[order] + 2 * reader[order] + model[order]]
    positive = labels[order] == 1
    last_of_tie = np.append(np.flatnonzero(np.diff(falling)), len(falling) - 1)
    # The same cases from the lowest score up.
    last_from_below = len(falling) - 1 - np.append(0, last_of_tie[:-1] + 1)[::-1]

    def statistic(weights: Float[np.ndarray, "chunk cases"]) -> dict[str, np.ndarray]:
        counts = (weights @ member).reshape(-1, 2, 2, 2)
        of_reader, of_model = counts.sum(axis=3), counts.sum(axis=2)
        figures = {
            name: (_share(of_reader, name), _share(of_model, name)) for name in (*_PAIRED, KAPPA)
        }
        figures[AT_SPECIFICITY] = (
            figures["sensitivity"][0],
            _reached(weights, positive, last_of_tie, of_reader[:, 0, 1]),
        )
        figures[AT_SENSITIVITY] = (
            figures["specificity"][0],
            _reached(weights[:, ::-1], ~positive[::-1], last_from_below, of_reader[:, 1, 0]),
        )
        found = {name: model for name, (_, model) in figures.items()}
        found |= {f"{name} difference": model - own for name, (own, model) in figures.items()}
        found[f"{KAPPA} of the reader"] = figures[KAPPA][0]
        found[AGREEMENT] = _share(counts.sum(axis=1), KAPPA)
        return found

    return order, statistic


def _share(counts: Float[np.ndarray, "chunk 2 2"], name: str) -> Float[np.ndarray, " chunk"]:
    """A measure of each table of truth (or one rater) by call; NaN for 0 / 0."""
    right = counts[:, 0, 0] + counts[:, 1, 1]
    n = counts.sum(axis=(1, 2))
    if name == "sensitivity":
        return ratio(counts[:, 1, 1], counts[:, 1].sum(axis=1))
    if name == "specificity":
        return ratio(counts[:, 0, 0], counts[:, 0].sum(axis=1))
    if name == "accuracy":
        return ratio(right, n)
    by_chance = (counts.sum(axis=1) * counts.sum(axis=2)).sum(axis=1)
    return ratio(right * n - by_chance, n**2 - by_chance)


def _reached(
    weights: Float[np.ndarray, "chunk cases"],
    wanted: Bool[np.ndarray, " cases"],
    last_of_tie: Int[np.ndarray, " steps"],
    allowed: Float[np.ndarray, " chunk"],
) -> Float[np.ndarray, " chunk"]:
    """The share of the wanted cases passed by the time that `allowed` unwanted ones are passed.

    Cases are walked in order, ties in one straight step. Where a step ends at the allowed number
    exactly, wanted cases that follow without an unwanted one are passed too.
    """
    gains = np.zeros((len(weights), len(last_of_tie) + 1))
    losses = np.zeros_like(gains)
    total = np.cumsum(weights, axis=1).take(last_of_tie, axis=1)
    gains[:, 1:] = np.cumsum(weights * wanted[np.newaxis], axis=1).take(last_of_tie, axis=1)
    losses[:, 1:] = total - gains[:, 1:]
    row = np.arange(len(weights))
    before = np.sum(losses <= allowed[:, np.newaxis], axis=1) - 1
    after = np.minimum(before + 1, len(last_of_tie))
    step = losses[row, after] - losses[row, before]
    part = np.where(step > 0.0, (allowed - losses[row, before]) / np.maximum(step, 1.0), 0.0)
    passed = gains[row, before] + part * (gains[row, after] - gains[row, before])
    share = ratio(passed, gains[:, -1])
    # Without an unwanted case there is no rate of them to be at.
    return np.where(losses[:, -1] > 0.0, share, np.nan)


def _paired_row(
    name: str,
    reader_right: Bool[np.ndarray, " cases"],
    model_right: Bool[np.ndarray, " cases"],
    of_reader: Measure,
    of_model: Measure,
    drawn: Float[np.ndarray, " resamples"],
    n_patients: int,
) -> dict[str, Any]:
    """A proportion of both, their difference and McNemar's P, of the cases that it is about."""
    reader, model = _figure(of_reader), _figure(of_model)
    n = len(reader_right)
    if n == 0:
        return _row(name, n, reader, model, _NOTHING, None, of_reader.note)
    reader_only = int(np.sum(reader_right & ~model_right))
    model_only = int(np.sum(model_right & ~reader_right))
    both = int(np.sum(reader_right & model_right))
    plain = paired_difference_interval(
        both, reader_only, model_only, n - both - reader_only - model_only
    )
    difference = Figure((model_only - reader_only) / n, plain, *_clustered(drawn, n_patients))
    counted = f"only the reader right: {reader_only:,}; only the model right: {model_only:,}"
    p = mcnemar_exact(reader_right, model_right)
    return _row(name, n, reader, model, difference, p, counted)


def _kappa_rows(
    labels: Int[np.ndarray, " cases"],
    reader: Int[np.ndarray, " cases"],
    model: Bool[np.ndarray, " cases"],
    drawn: dict[str, np.ndarray],
    n_patients: int,
) -> list[dict[str, Any]]:
    """Agreement of each with the truth, and of both with each other."""
    tables = {
        f"{KAPPA} of the reader": _crossed(labels, reader),
        KAPPA: _crossed(labels, model.astype(np.int64)),
        AGREEMENT: _crossed(reader, model.astype(np.int64)),
    }
    of_reader, of_model, of_both = (
        _agreement_figure(cohen_kappa(table), drawn[name], n_patients)
        for name, table in tables.items()
    )
    difference, p = _NOTHING, None
    if of_reader.value is not None and of_model.value is not None:
        difference, p = _resampled_difference(
            of_model.value - of_reader.value, drawn[f"{KAPPA} difference"], n_patients
        )
    agreed = int(np.sum(reader == model))
    one_figure = f"one figure, in the model's columns; they agree in {agreed:,} of {len(labels):,}"
    return [
        _row(KAPPA, len(labels), of_reader, of_model, difference, p, "each against the truth"),
        _row(AGREEMENT, len(labels), _NOTHING, of_both, _NOTHING, None, one_figure),
    ]


def _matched_row(
    name: str,
    of_reader: Measure,
    value: float,
    drawn: dict[str, np.ndarray],
    n_patients: int,
) -> dict[str, Any]:
    """The model moved along its ROC curve to where it matches the reader in the other measure."""
    reader = _figure(of_reader)
    if np.isnan(value) or reader.value is None:
        return _row(
            name, of_reader.n, reader, _NOTHING, _NOTHING, None, "no ROC curve of one class"
        )
    interval, note = _clustered(drawn[name], n_patients)
    model = Figure(value, interval, interval, note)
    difference, p = _resampled_difference(
        value - reader.value, drawn[f"{name} difference"], n_patients
    )
    return _row(name, of_reader.n, reader, model, difference, p, "")


def _row(
    measure: str,
    n: int,
    reader: Figure,
    model: Figure,
    difference: Figure,
    p: float | None,
    note: str,
) -> dict[str, Any]:
    figures = {"reader": reader, "model": model, "difference": difference}
    cells: dict[str, Any] = {"measure": measure}
    for name, figure in figures.items():
        low, high = figure.interval or (None, None)
        cells |= {name: figure.value, f"{name}_low": low, f"{name}_high": high}
    cells |= {"p": p, "n": n}
    notes = [note] if note else []
    for name, figure in figures.items():
        low, high = figure.cluster_interval or (None, None)
        cells |= {f"{name}_cluster_low": low, f"{name}_cluster_high": high}
        if figure.note and figure.note not in notes:
            notes.append(f"{name}: {figure.note}")
    return {**cells, "note": "; ".join(notes)}


def _figure(measure: Measure) -> Figure:
    notes = dict.fromkeys(filter(None, (measure.note, measure.cluster_note)))
    return Figure(measure.value, measure.interval, measure.cluster_interval, "; ".join(notes))


def _agreement_figure(
    found: Agreement, drawn: Float[np.ndarray, " resamples"], n_patients: int
) -> Figure:
    if found.kappa is None:
        return Figure(None, None, None, found.note)
    interval, note = _clustered(drawn, n_patients)
    return Figure(
        found.kappa, found.interval, interval, "; ".join(filter(None, (found.note, note)))
    )


def _resampled_difference(
    value: float, drawn: Float[np.ndarray, " resamples"], n_patients: int
) -> tuple[Figure, float | None]:
    """A difference without a formula: interval and P are those of the resamples."""
    interval, note = _clustered(drawn, n_patients)
    p = None
    if interval is not None:
        known = drawn[~np.isnan(drawn)]
        beyond = min(int(np.sum(known <= 0.0)), int(np.sum(known >= 0.0)))
        # One more of each, so that no finite number of resamples gives a P of 0.
        p = min(1.0, 2.0 * (beyond + 1) / (len(known) + 1))
    return Figure(value, interval, interval, note), p


def _clustered(
    drawn: Float[np.ndarray, " resamples"], n_patients: int
) -> tuple[tuple[float, float] | None, str]:
    interval, note = resampled_interval(drawn, n_patients, "patient")
    return interval, f"no interval from resamples: {note}" if note else ""


def _crossed(
    one: Int[np.ndarray, " cases"], other: Int[np.ndarray, " cases"]
) -> Int[np.ndarray, "2 2"]:
    """Cases by the first (rows) and the second (columns)."""
    return np.bincount(2 * one + other, minlength=4).reshape(2, 2)
