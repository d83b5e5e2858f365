"""A finished run's folder, read and checked for the report."""

from __future__ import annotations

import csv
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thyrojax.analysis.predictions import Predictions, read_predictions
from thyrojax.errors import RunError
from thyrojax.report.json_checks import (
    Keys,
    check_keys,
    is_count,
    is_counts,
    is_label_names,
    is_number,
    is_text,
    read_object,
    read_optional_object,
)
from thyrojax.report.run_architecture import Architecture, read_architecture
from thyrojax.report.run_examples import (
    CropShapes,
    Example,
    Explanation,
    SanityStep,
    read_crop_shapes,
    read_examples,
    read_explanations,
    read_sanity,
)

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
    notes: tuple[str, ...] = ()  # the source's own sentences

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
    bad_records: tuple[str, ...]  # image_id of those that could not be read, and were skipped
    examples: tuple[Example, ...]
    crop_shapes: CropShapes | None
    explanations: tuple[Explanation, ...]  # of the test part
    sanity: tuple[SanityStep, ...]
    architecture: Architecture | None
    weights: dict[str, Any] | None
    versions: dict[str, Any] | None

    @property
    def by_image(self) -> bool:
        """Whether images were dealt to the parts, whatever their patient."""
        return self.config.get("split_by") == "image"


BY_IMAGE = (
    "Images were dealt to the parts whatever their patient: where a patient has several, the "
    "figures are too high for new patients."
)


def read_run(folder: Path) -> Run:
    """Reads what a report shows.

    Needed: config.json, data.json, split.csv, predictions/test.csv, metrics.json. Read where they
    are: metrics.jsonl, examples.json, crop_shapes.json, explanations/test.csv and its sanity.csv,
    architecture.json, weights.json, versions.json (name: version).

    Raises:
      RunError: a needed file is missing, a file is malformed, or two files contradict each other.
      PredictionsError: predictions/test.csv cannot be used.
    """
    if not folder.is_dir():
        raise RunError(f"{folder}: found no such folder, expected a run folder")
    config = read_object(folder / "config.json", "what `thyrojax train` writes")
    data = _read_data(folder / "data.json")
    split = _read_split(folder / "split.csv", by_image=config.get("split_by") == "image")
    written = "what `thyrojax evaluate` writes"
    metrics = read_object(folder / "metrics.json", written)
    predictions = folder / "predictions" / "test.csv"
    if not predictions.exists():
        raise RunError(f"{predictions}: found no such file, expected {written}")
    test = read_predictions(predictions)
    _check_metrics(folder / "metrics.json", metrics, test)
    _check_parts(predictions, test, split)
    log = _read_log(folder / "metrics.jsonl")
    lines = [line for line in log if "bad_record" not in line]
    return Run(
        folder=folder,
        config=config,
        data=data,
        split=split,
        test=test,
        metrics=metrics,
        training=_by_step([line for line in lines if "loss" in line]),
        validation=_by_step([line for line in lines if "val_loss" in line]),
        bad_records=tuple(str(line["bad_record"]) for line in log if "bad_record" in line),
        examples=read_examples(folder / "examples.json"),
        crop_shapes=read_crop_shapes(folder / "crop_shapes.json"),
        explanations=read_explanations(folder / "explanations" / "test.csv", test),
        sanity=read_sanity(folder / "explanations" / "test" / "sanity.csv"),
        architecture=read_architecture(folder / "architecture.json"),
        weights=read_optional_object(folder / "weights.json"),
        versions=read_optional_object(folder / "versions.json"),
    )


_DATA_KEYS: Keys = (
    ("source", is_text, "a text"),
    ("subject", is_text, "a text"),
    ("label_names", is_label_names, "the names of class 0 and class 1"),
    ("n_images", is_count, "a whole number"),
    ("n_nodules", is_count, "a whole number"),
    ("n_patients", is_count, "a whole number"),
    ("exclusions", is_counts, "a count for each reason"),
    ("fingerprint", is_text, "a text"),
)


def _read_data(path: Path) -> DataSummary:
    value = read_object(path, "what `thyrojax train` writes")
    check_keys(str(path), value, _DATA_KEYS)
    fields = {key: value[key] for key, _, _ in _DATA_KEYS}
    first, second = value["label_names"]
    notes = value.get("notes", [])
    if not isinstance(notes, list) or not all(is_text(note) for note in notes):
        raise RunError(f"{path}, notes: found {notes!r}, expected a list of texts")
    return DataSummary(**{**fields, "label_names": (first, second), "notes": tuple(notes)})


def _read_split(path: Path, by_image: bool) -> tuple[SplitRow, ...]:
    """The nodules of the three parts; those that were not used are left out."""
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
                if cells["part"] == "unused":
                    continue
                rows.append(_split_row(f"{path}, row {number}", cells))
                row = rows[-1]
                other = part_of_patient.setdefault(row.patient_id, row.part)
                if other != row.part and not by_image:
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
    if not is_number(metrics["cutoff"]):
        raise RunError(f"{path}, cutoff: found {metrics['cutoff']!r}, expected a number")
    if metrics["n"] != len(test):
        raise RunError(
            f"{path}, n: found {metrics['n']!r}, expected {len(test)} "
            "(the rows of predictions/test.csv): evaluate the run again"
        )


def _check_parts(path: Path, test: Predictions, split: tuple[SplitRow, ...]) -> None:
    """Refuses predictions of nodules that the split does not have in its test part."""
    part_of = {row.image_id: row.part for row in split}
    for number, image_id in enumerate(test.image_ids, start=1):
        part = part_of.get(image_id, "no part")
        if part != "test":
            raise RunError(
                f"{path}, row {number}: found {image_id!r}, which split.csv has in {part}, "
                "expected nodules of the test part"
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
        if not isinstance(line, dict) or not ("bad_record" in line or is_number(line.get("epoch"))):
            raise RunError(f"{path}, line {number}: found no epoch, expected one in each line")
        lines.append(line)
    return lines


def _by_step(lines: list[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    """In the order of steps; of a step that a resumed run did again, the later line."""
    last = {line.get("step", line["epoch"]): line for line in lines}
    return tuple(last[step] for step in sorted(last))


def count_part(split: tuple[SplitRow, ...], part: str) -> tuple[int, int, Counter[int]]:
    """Nodules, patients, and nodules by label of one part."""
    rows = [row for row in split if row.part == part]
    patients = {row.patient_id for row in rows}
    return len(rows), len(patients), Counter(row.label for row in rows)
