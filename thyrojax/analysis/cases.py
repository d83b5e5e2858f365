"""From a predictions file to the cases that a study reports: parts, words, patients, ids."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from thyrojax.analysis.predictions import Predictions, read_predictions, take
from thyrojax.analysis.readers import READER_COLUMN, reader_calls
from thyrojax.analysis.size_groups import SIZE_COLUMN, sizes_mm
from thyrojax.errors import PredictionsError
from thyrojax.vocabulary import PREDICTION_FEATURES, normalise

_PARTS = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}


@dataclass(frozen=True, eq=False)
class Cases:
    """What one file holds: the cases to report, and validation cases where it has them too."""

    reported: Predictions
    validation: Predictions | None
    notes: tuple[str, ...]


def read_cases(path: Path) -> Cases:
    """Reads a predictions file and sorts its rows by part.

    A file of several parts (column `split`) is reported on its test rows; its validation rows can
    give the cutoff, its training rows are left out. A file of one part is reported whole. Words of
    the sonographic features are brought to the vocabulary's spelling.

    Raises:
      PredictionsError: as `read_predictions`; a part or a feature's word that is not known; a size
        or a reader's call that is none; parts without a test row; a patient in more than one part.
    """
    predictions = _with_known_words(path, read_predictions(path))
    _check_cells(path, predictions)
    if len(set(predictions.columns.get("split", ()))) < 2:
        return Cases(predictions, None, ())
    parts = _parts(path, predictions)
    present = sorted(set(parts))
    if "test" not in present:
        raise PredictionsError(
            f"{path}, split: found {' and '.join(present)} without test, expected test rows, or "
            "rows of one part"
        )
    _refuse_shared_patients(path, predictions, parts)
    rows = {part: np.flatnonzero([p == part for p in parts]) for part in present}
    counted = ", ".join(f"{len(rows[part]):,} {part}" for part in present)
    used = "the test rows are reported"
    return Cases(
        take(predictions, rows["test"]),
        take(predictions, rows["validation"]) if "validation" in rows else None,
        (f"{path.name} holds several parts ({counted} rows): {used}.",),
    )


def check_apart(
    reported: Predictions, reported_name: str, validation: Predictions, validation_name: str
) -> None:
    """Refuses validation cases that share a patient with the cases that are reported.

    Raises:
      PredictionsError: names the first such patient, and how many there are.
    """
    of_validation = set(validation.patient_ids)
    shared = [
        patient for patient in dict.fromkeys(reported.patient_ids) if patient in of_validation
    ]
    if shared:
        more = f" and {len(shared) - 1} more" if len(shared) > 1 else ""
        raise PredictionsError(
            f"{validation_name}, patient_id: found patient {shared[0]!r}{more} of "
            f"{reported_name} here too, expected no patient in both"
        )


def _with_known_words(path: Path, predictions: Predictions) -> Predictions:
    """The features' words normalised and checked; other columns as they are."""
    columns = dict(predictions.columns)
    for name, words in PREDICTION_FEATURES.items():
        if name not in columns:
            continue
        spelled = {cell: normalise(cell) for cell in set(columns[name])}
        unknown = {cell for cell, word in spelled.items() if word and word not in words}
        if unknown:
            first = next(i for i, cell in enumerate(columns[name]) if cell in unknown)
            more = f" (and {len(unknown) - 1} more unknown words)" if len(unknown) > 1 else ""
            raise PredictionsError(
                f"{path}, image_id {predictions.image_ids[first]!r}, {name}: found "
                f"{columns[name][first]!r}, expected one of {', '.join(words)}, or an empty cell"
                f"{more}"
            )
        columns[name] = tuple(map(spelled.__getitem__, columns[name]))
    return replace(predictions, columns=columns)


def _check_cells(path: Path, predictions: Predictions) -> None:
    """Sizes and calls, before rows are told apart and counted anew."""
    for column, check in ((READER_COLUMN, reader_calls), (SIZE_COLUMN, sizes_mm)):
        if column in predictions.columns:
            try:
                check(predictions)
            except PredictionsError as error:
                raise PredictionsError(f"{path}, {error}") from None


def _parts(path: Path, predictions: Predictions) -> tuple[str, ...]:
    cells = predictions.columns["split"]
    for image_id, cell in zip(predictions.image_ids, cells, strict=True):
        if normalise(cell) not in _PARTS:
            raise PredictionsError(
                f"{path}, image_id {image_id!r}, split: found {cell!r}, expected train, "
                "validation or test"
            )
    return tuple(_PARTS[normalise(cell)] for cell in cells)


def _refuse_shared_patients(path: Path, predictions: Predictions, parts: tuple[str, ...]) -> None:
    part_of: dict[str, str] = {}
    for patient, part in zip(predictions.patient_ids, parts, strict=True):
        other = part_of.setdefault(patient, part)
        if other != part:
            raise PredictionsError(
                f"{path}, patient_id: found patient {patient!r} in {other} and in {part}, "
                "expected each patient in one part"
            )
