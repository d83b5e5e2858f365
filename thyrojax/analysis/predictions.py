"""predictions.csv, the one file that joins the learning half and the analysis half.

One row per nodule. Required columns are `image_id, patient_id, label, score`; every further column
is kept as text, "" where nobody knows.
"""

from __future__ import annotations

import csv
import gc
import io
import math
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from thyrojax.errors import Fault, PredictionsError
from thyrojax.files import write_whole
from thyrojax.shapes import Float, Int

REQUIRED = ("image_id", "patient_id", "label", "score")
# pandas writes whole numbers with a point once a column has had a gap.
_LABEL_OF = {"0": 0, "1": 1, "0.0": 0, "1.0": 1}


class PredictionsFaults(PredictionsError):
    """All faults of one predictions file. The message is one line: the first, and how many more."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        more = len(self.faults) - 1
        super().__init__(f"{self.faults[0]}" + (f" (and {more} more)" if more else ""))


@dataclass(frozen=True, eq=False)
class Predictions:
    """One model's scores, one entry per nodule.

    `labels` are 0 or 1; `scores` are the probability of label 1, from 0 to 1. `columns` holds every
    other column by name, in the file's order, one text per nodule.

    Raises:
      PredictionsError: the columns differ in length.
    """

    image_ids: tuple[str, ...]
    patient_ids: tuple[str, ...]
    labels: Int[np.ndarray, " cases"]
    scores: Float[np.ndarray, " cases"]
    columns: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.image_ids)
        others = {
            "patient_id": len(self.patient_ids),
            "label": len(self.labels),
            "score": len(self.scores),
            **{name: len(values) for name, values in self.columns.items()},
        }
        for name, length in others.items():
            if length != n:
                raise PredictionsError(
                    f"predictions, column {name}: found {length} values, "
                    f"expected {n} (one per image_id)"
                )

    def __len__(self) -> int:
        return len(self.image_ids)


def read_predictions(path: Path) -> Predictions:
    """Reads and checks a predictions file (UTF-8 CSV with a header).

    Blank lines are skipped, and so are blanks around ids.

    Raises:
      PredictionsError: no such file, not CSV text, columns missing, no rows; or, all faults of the
        rows together (`PredictionsFaults`): ragged, an id missing or twice, a label other than 0 or
        1, a score that is no number from 0 to 1. The message is one line.
    """
    with _no_cycle_search():
        header, columns, numbers, faults = _read_table(path)
    named = dict(zip(header, columns or [()] * len(header), strict=True))
    ids, patients, labels, scores = (named.pop(name) for name in REQUIRED)
    # A blank must neither hide a patient who is in two parts nor make two of one.
    ids, patients = (tuple(map(str.strip, cells)) for cells in (ids, patients))
    faults += _row_faults(str(path), numbers, ids, patients, labels, scores)
    if faults:
        raise PredictionsFaults([fault for _, fault in sorted(faults, key=lambda pair: pair[0])])
    return Predictions(
        image_ids=ids,
        patient_ids=patients,
        labels=np.fromiter(map(_LABEL_OF.__getitem__, labels), np.int64, len(labels)),
        scores=np.fromiter(map(float, scores), np.float64, len(scores)),
        columns={name: _sharing_words(cells) for name, cells in named.items()},
    )


@contextmanager
def _no_cycle_search() -> Iterator[None]:
    """Millions of small lists without cycles: looking for cycles doubles the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _sharing_words(cells: tuple[str, ...]) -> tuple[str, ...]:
    """The same cells with one copy of each word, where the words are few (a category column)."""
    words = {cell: cell for cell in set(cells)}
    return tuple(map(words.__getitem__, cells)) if len(words) < len(cells) // 2 else cells


def take(predictions: Predictions, rows: Int[np.ndarray, " rows"]) -> Predictions:
    """The given rows of a predictions table, in the given order."""
    chosen = rows.tolist()
    return Predictions(
        image_ids=tuple(predictions.image_ids[row] for row in chosen),
        patient_ids=tuple(predictions.patient_ids[row] for row in chosen),
        labels=predictions.labels[rows],
        scores=predictions.scores[rows],
        columns={
            name: tuple(cells[row] for row in chosen) for name, cells in predictions.columns.items()
        },
    )


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Writes a predictions file, whole or not at all; scores keep every digit of a float64.

    Raises:
      PredictionsError: what `read_predictions` would refuse; nothing is written then.
      ThyrojaxError: the place cannot be written.
    """
    labels = [str(label) for label in predictions.labels.tolist()]
    scores = [repr(float(score)) for score in predictions.scores]
    if not predictions.image_ids:
        raise PredictionsFaults([Fault(str(path), "", "no rows", "one row per nodule")])
    numbers = range(1, len(predictions) + 1)
    faults = _row_faults(
        str(path), numbers, predictions.image_ids, predictions.patient_ids, labels, scores
    )
    if faults:
        raise PredictionsFaults([fault for _, fault in sorted(faults, key=lambda pair: pair[0])])
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*REQUIRED, *predictions.columns])
    writer.writerows(
        zip(
            predictions.image_ids,
            predictions.patient_ids,
            labels,
            scores,
            *predictions.columns.values(),
            strict=True,
        )
    )
    write_whole(path, text.getvalue().encode())


def check_cases(
    labels: Int[np.ndarray, " cases"],
    scores: Float[np.ndarray, " cases"],
    both_classes: bool = False,
) -> None:
    """Refuses arrays that no statistic of this package can take.

    Raises:
      PredictionsError: no case, a label other than 0 or 1, a score that is not finite; with
        `both_classes`, also when one class has no case.
    """
    if len(labels) == 0:
        raise PredictionsError("labels: found no case, expected at least one")
    for name, expected, values, good in (
        ("labels", "0 or 1", labels, (labels == 0) | (labels == 1)),
        ("scores", "a finite number", scores, np.isfinite(scores)),
    ):
        if not good.all():
            first = int(np.argmin(good))
            raise PredictionsError(
                f"{name}, row {first + 1}: found {values[first]}, expected {expected}"
            )
    if both_classes and labels.min() == labels.max():
        raise PredictionsError(
            f"labels: found {len(labels)} of class {labels[0]} and none of class {1 - labels[0]}, "
            "expected both classes"
        )


def _read_table(
    path: Path,
) -> tuple[list[str], list[tuple[str, ...]], Sequence[int], list[tuple[int, Fault]]]:
    """Header, columns of the rows of its width, their numbers, and the faults of other rows."""

    def fail(found: str, expected: str) -> PredictionsFaults:
        return PredictionsFaults([Fault(str(path), "", found, expected)])

    rows: list[list[str]] = []
    numbers = array("q")
    faults: list[tuple[int, Fault]] = []
    try:
        # utf-8-sig: spreadsheets put a byte order mark in front of the first column's name.
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            _check_header(path, header)
            for number, cells in enumerate(reader, start=1):
                if not cells:
                    continue
                if len(cells) == len(header):
                    rows.append(cells)
                    numbers.append(number)
                else:
                    found, expected = f"{len(cells)} cells", f"{len(header)} as in the header"
                    faults.append((number, Fault(str(path), f"row {number}", found, expected)))
    except FileNotFoundError:
        raise fail("no such file", "a predictions CSV") from None
    except OSError as error:
        raise fail(f"a file that cannot be read ({error.strerror})", "a predictions CSV") from None
    except UnicodeDecodeError:
        raise fail("bytes that are no UTF-8 text", "a predictions CSV in UTF-8") from None
    except csv.Error as error:
        raise fail(f"broken CSV ({error})", "a predictions CSV") from None
    if not rows and not faults:
        raise fail("a header without rows", "one row per nodule")
    return header, list(zip(*rows, strict=True)), numbers, faults


def _check_header(path: Path, header: list[str]) -> None:
    missing = [name for name in REQUIRED if name not in header]
    repeated = sorted({name for name in header if header.count(name) > 1})
    if not header:
        found, expected = "an empty file", "a header and one row per nodule"
    elif missing:
        found = f"columns {_shown(', '.join(header))} without {', '.join(missing)}"
        expected = f"the columns {', '.join(REQUIRED)}"
    elif repeated:
        found, expected = f"column {_shown(repeated[0])} twice", "each column once"
    else:
        return
    raise PredictionsFaults([Fault(str(path), "header", found, expected)])


def _row_faults(
    file: str,
    numbers: Sequence[int],
    ids: Sequence[str],
    patients: Sequence[str],
    labels: Sequence[str],
    scores: Sequence[str],
) -> list[tuple[int, Fault]]:
    """Every fault of the required cells, each with its row's number."""
    if _are_clean(ids, patients, labels, scores):
        return []
    faults: list[tuple[int, Fault]] = []
    first_row: dict[str, int] = {}
    for number, image_id, patient_id, label, score in zip(
        numbers, ids, patients, labels, scores, strict=True
    ):
        for found, expected in _cell_faults(image_id, patient_id, label, score):
            faults.append((number, Fault(file, f"row {number}", found, expected)))
        first = first_row.setdefault(image_id, number)
        if first != number and image_id:
            found = f"image_id {_shown(image_id)} again (first in row {first})"
            faults.append((number, Fault(file, f"row {number}", found, "each image_id once")))
    return faults


def _are_clean(
    ids: Sequence[str], patients: Sequence[str], labels: Sequence[str], scores: Sequence[str]
) -> bool:
    """Whether no row has a fault; quick, as most files have none and some have millions of rows."""
    try:
        values = np.fromiter(map(float, scores), np.float64, len(scores))
    except ValueError:
        return False
    return (
        bool(((values >= 0.0) & (values <= 1.0)).all())
        and set(labels) <= _LABEL_OF.keys()
        and len(set(ids)) == len(ids)
        and all(map(str.strip, ids))
        and all(map(str.strip, patients))
    )


def _cell_faults(
    image_id: str, patient_id: str, label: str, score: str
) -> Iterator[tuple[str, str]]:
    """(found, expected) for each required cell of one row that cannot be used."""
    if not image_id.strip():
        yield "no image_id", "an id in each row"
    if not patient_id.strip():
        yield "no patient_id", "an id in each row"
    if label not in _LABEL_OF:
        yield f"label {_shown(label)}", "0 or 1"
    try:
        value = float(score)
    except ValueError:
        value = math.nan
    if not 0.0 <= value <= 1.0:
        yield f"score {_shown(score)}", "a number from 0 to 1"


def _shown(text: str) -> str:
    """A cell as it can stand in a one-line message."""
    return repr(text if len(text) <= 60 else text[:57] + "...")
