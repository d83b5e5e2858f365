"""A finished run's folder, read and checked for the report."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thyrojax.analysis.predictions import Predictions, read_predictions
from thyrojax.errors import RunError

PARTS = ("train", "validation", "test")
_SPLIT_COLUMNS = ("image_id", "patient_id", "part", "label")


@dataclass(frozen=True)
class DataSummary:
    """What data.json says: where the nodules came from and what was left out, by reason."""

    source: str
    subject: str
    label_names: tuple[str, str]
    n_images: int
    n_nodules: int
    n_patients: int
    exclusions: dict[str, int]
    fingerprint: str

    @property
    def unit(self) -> str:
        """What is counted, in the singular: "lesion" where the subject is "breast lesions"."""
        words = self.subject.split()
        return words[-1].removesuffix("s") if words else "nodule"


@dataclass(frozen=True)
class SplitRow:
    """One nodule's place in split.csv; "" where size group or grade are not known."""

    image_id: str
    patient_id: str
    part: str
    label: int
    size_group: str
    tirads: str


@dataclass(frozen=True)
class Example:
    """One test nodule to be shown. Files are whole paths; box and window are in frame pixels."""

    image_id: str
    label: int
    score: float
    frame: Path
    network_input: Path
    box: tuple[float, float, float, float]  # x_min, y_min, x_max, y_max
    window: tuple[float, float, float, float]  # left, top, width, height


@dataclass(frozen=True, eq=False)
class Run:
    """All that the report shows. What the run has not written is empty, or None."""

    folder: Path
    config: dict[str, Any]
    data: DataSummary
    split: tuple[SplitRow, ...]
    test: Predictions
    metrics: dict[str, Any]
    training: tuple[dict[str, Any], ...]  # lines of metrics.jsonl, by step
    validation: tuple[dict[str, Any], ...]
    examples: tuple[Example, ...]
    weights: dict[str, Any] | None
    versions: dict[str, Any] | None


def read_run(folder: Path) -> Run:
    """Reads what a report shows.

    Needed: config.json, data.json, split.csv, predictions/test.csv, metrics.json. Read where they
    are: metrics.jsonl, examples.json, weights.json, versions.json (name: version).

    Raises:
      RunError: a needed file is missing, a file is malformed, or two files contradict each other.
      PredictionsError: predictions/test.csv cannot be used.
    """
    if not folder.is_dir():
        raise RunError(f"{folder}: found no such folder, expected a run folder")
    config = _read_json(folder / "config.json", "what `thyrojax train` writes")
    data = _read_data(folder / "data.json")
    split = _read_split(folder / "split.csv")
    written = "what `thyrojax evaluate` writes"
    metrics = _read_json(folder / "metrics.json", written)
    predictions = folder / "predictions" / "test.csv"
    if not predictions.exists():
        raise RunError(f"{predictions}: found no such file, expected {written}")
    test = read_predictions(predictions)
    _check_metrics(folder / "metrics.json", metrics, test)
    lines = _read_log(folder / "metrics.jsonl")
    return Run(
        folder=folder,
        config=config,
        data=data,
        split=split,
        test=test,
        metrics=metrics,
        training=_by_step([line for line in lines if "loss" in line]),
        validation=_by_step([line for line in lines if "val_loss" in line]),
        examples=_read_examples(folder / "examples.json"),
        weights=_read_optional(folder / "weights.json"),
        versions=_read_optional(folder / "versions.json"),
    )


def _load(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        found = str(error).splitlines()[0]
        raise RunError(f"{path}: found no readable JSON ({found}), expected JSON") from None


def _read_json(path: Path, expected: str) -> dict[str, Any]:
    if not path.exists():
        raise RunError(f"{path}: found no such file, expected {expected}")
    value = _load(path)
    if not isinstance(value, dict):
        raise RunError(f"{path}: found {type(value).__name__}, expected an object")
    return value


def _read_optional(path: Path) -> dict[str, Any] | None:
    return _read_json(path, "an object") if path.exists() else None


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_numbers(value: Any, n: int) -> bool:
    return isinstance(value, list) and len(value) == n and all(map(_is_number, value))


def _is_label_names(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_text, value))


def _is_counts(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_count, value.values()))


# Key, what a value must be, and in words.
_DATA_KEYS: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("source", _is_text, "a text"),
    ("subject", _is_text, "a text"),
    ("label_names", _is_label_names, "the names of class 0 and class 1"),
    ("n_images", _is_count, "a whole number"),
    ("n_nodules", _is_count, "a whole number"),
    ("n_patients", _is_count, "a whole number"),
    ("exclusions", _is_counts, "a count for each reason"),
    ("fingerprint", _is_text, "a text"),
)
_EXAMPLE_KEYS: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("image_id", _is_text, "a text"),
    ("label", lambda value: _is_count(value) and value <= 1, "0 or 1"),
    ("score", lambda value: _is_number(value) and 0 <= value <= 1, "a number from 0 to 1"),
    ("frame", _is_text, "a file of the run folder"),
    ("input", _is_text, "a file of the run folder"),
    ("box", lambda value: _is_numbers(value, 4), "x_min, y_min, x_max, y_max"),
    ("window", lambda value: _is_numbers(value, 4), "left, top, width, height"),
)


def _check_keys(
    place: str, value: Any, keys: tuple[tuple[str, Callable[[Any], bool], str], ...]
) -> None:
    if not isinstance(value, dict):
        raise RunError(f"{place}: found {type(value).__name__}, expected an object")
    for key, holds, expected in keys:
        if key not in value:
            raise RunError(f"{place}: found no {key}, expected {expected}")
        if not holds(value[key]):
            raise RunError(f"{place}, {key}: found {value[key]!r}, expected {expected}")


def _read_data(path: Path) -> DataSummary:
    value = _read_json(path, "what `thyrojax train` writes")
    _check_keys(str(path), value, _DATA_KEYS)
    fields = {key: value[key] for key, _, _ in _DATA_KEYS}
    first, second = value["label_names"]
    return DataSummary(**{**fields, "label_names": (first, second)})


def _read_split(path: Path) -> tuple[SplitRow, ...]:
    if not path.exists():
        raise RunError(f"{path}: found no such file, expected what `thyrojax train` writes")
    rows: list[SplitRow] = []
    part_of_patient: dict[str, str] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            table = csv.DictReader(file)
            missing = [name for name in _SPLIT_COLUMNS if name not in (table.fieldnames or ())]
            if missing:
                raise RunError(f"{path}: found no column {', '.join(missing)}, expected it")
            for number, cells in enumerate(table, start=1):
                rows.append(_split_row(f"{path}, row {number}", cells))
                row = rows[-1]
                other = part_of_patient.setdefault(row.patient_id, row.part)
                if other != row.part:
                    raise RunError(
                        f"{path}, row {number}: found patient {row.patient_id!r} in {row.part} "
                        f"and in {other}, expected each patient in one part"
                    )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RunError(f"{path}: found no readable CSV ({error}), expected a split") from None
    if not rows:
        raise RunError(f"{path}: found no rows, expected one per nodule")
    return tuple(rows)


def _split_row(place: str, cells: dict[str, Any]) -> SplitRow:
    if None in cells or None in cells.values():
        raise RunError(f"{place}: found a ragged row, expected as many cells as the header")
    if cells["part"] not in PARTS:
        raise RunError(f"{place}: found part {cells['part']!r}, expected one of {', '.join(PARTS)}")
    if cells["label"] not in ("0", "1"):
        raise RunError(f"{place}: found label {cells['label']!r}, expected 0 or 1")
    return SplitRow(
        image_id=cells["image_id"],
        patient_id=cells["patient_id"],
        part=cells["part"],
        label=int(cells["label"]),
        size_group=cells.get("size_group", ""),
        tirads=cells.get("tirads", ""),
    )


def _check_metrics(path: Path, metrics: dict[str, Any], test: Predictions) -> None:
    """Refuses metrics of other predictions than those beside them."""
    for key in ("n", "cutoff", "cutoff_from"):
        if key not in metrics:
            raise RunError(f"{path}: found no {key}, expected what `thyrojax evaluate` writes")
    if not _is_number(metrics["cutoff"]):
        raise RunError(f"{path}, cutoff: found {metrics['cutoff']!r}, expected a number")
    if metrics["n"] != len(test):
        raise RunError(
            f"{path}, n: found {metrics['n']!r}, expected {len(test)} "
            "(the rows of predictions/test.csv): evaluate the run again"
        )


def _read_log(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    try:
        texts = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{path}: found no readable text ({error}), expected JSON lines") from None
    lines: list[dict[str, Any]] = []
    for number, text in enumerate(texts, start=1):
        try:
            line = json.loads(text)
        except ValueError:
            # A run that was killed while writing leaves half a last line.
            if number == len(texts):
                break
            raise RunError(f"{path}, line {number}: found no JSON, expected an object") from None
        if not isinstance(line, dict) or not _is_number(line.get("epoch")):
            raise RunError(f"{path}, line {number}: found no epoch, expected one in each line")
        lines.append(line)
    return lines


def _by_step(lines: list[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    """In the order of steps; of a step that a resumed run did again, the later line."""
    last = {line.get("step", line["epoch"]): line for line in lines}
    return tuple(last[step] for step in sorted(last))


def _read_examples(path: Path) -> tuple[Example, ...]:
    if not path.exists():
        return ()
    values = _load(path)
    if not isinstance(values, list):
        raise RunError(f"{path}: found {type(values).__name__}, expected a list of examples")
    examples = []
    for number, value in enumerate(values, start=1):
        place = f"{path}, example {number}"
        _check_keys(place, value, _EXAMPLE_KEYS)
        for key in ("frame", "input"):
            if not (path.parent / value[key]).is_file():
                raise RunError(f"{place}: found no file {value[key]}, expected the {key}")
        examples.append(
            Example(
                image_id=value["image_id"],
                label=value["label"],
                score=float(value["score"]),
                frame=path.parent / value["frame"],
                network_input=path.parent / value["input"],
                box=_four(value["box"]),
                window=_four(value["window"]),
            )
        )
    return tuple(examples)


def _four(values: list[Any]) -> tuple[float, float, float, float]:
    first, second, third, fourth = map(float, values)
    return first, second, third, fourth


def count_part(split: tuple[SplitRow, ...], part: str) -> tuple[int, int, Counter[int]]:
    """Nodules, patients, and nodules by label of one part."""
    rows = [row for row in split if row.part == part]
    patients = {row.patient_id for row in rows}
    return len(rows), len(patients), Counter(row.label for row in rows)
