"""Figures of the field, each with the place where it was read, and where ours stand beside them.

    python -m experiments.published                          what others have published
    python -m experiments.published studies/busbra_margin    and a finished study of ours beneath

A study is the folder that `thyrojax study` wrote, or its tables/results.csv. Cost: seconds.
`published.csv` holds only what could be read in the source that its row names (`read_in`); what an
abstract leaves out is left empty or "not stated", however well known it may be. Hence the gaps:
some of the best-known studies were within reach without their figures. Counts are of the test
(`n_of` "test") or of all that was collected ("all"). No row is a ranking: figures of different
patients, labels and divisions cannot be subtracted from each other.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.publish import read_about
from thyrojax.analysis.table import Table, table_of
from thyrojax.errors import RunError, ThyrojaxError, one_line

FIELD = Path(__file__).with_suffix(".csv")
COLUMNS = (
    *("study", "address", "task", "data", "public", "set"),  # set: its name in thyrojax, or empty
    *("n_images", "n_nodules", "n_patients", "n_of", "reference_standard", "split", "network"),
    *("auc", "auc_low", "auc_high", "sensitivity", "specificity", "accuracy"),
    *("read_in", "quoted_from", "comparability"),
)
COUNTS = ("n_images", "n_nodules", "n_patients")
FIGURES = ("auc", "sensitivity", "specificity", "accuracy")
# "readers" were not trained on the images, "pooled" is a mean over studies that differ in this.
SPLITS = ("by patient", "by image", "external", "not stated", "readers", "pooled")
# What the label of our sets is; of others the set's makers have to tell.
STANDARDS = {
    "busbra": "pathology (biopsy), breast lesions",
    "ddti": "TI-RADS grade, no pathology",
    "phantom": "simulated",
}

Row = dict[str, str]


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the field's table, and ours beneath where studies are given."""
    parser = argparse.ArgumentParser(prog="published", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("studies", type=Path, nargs="*", metavar="STUDY")
    args = parser.parse_args(arguments)
    try:
        field = read_rows(FIELD, COLUMNS)
        ours = [row for path in args.studies for row in read_study(path, field)]
    except ThyrojaxError as error:
        print(f"published: {error}", file=sys.stderr)
        return 2
    tables = [field_table(field), our_table(ours)] if ours else [field_table(field)]
    print("\n".join(table.to_markdown() for table in tables), end="")
    return 0


def read_study(path: Path, field: Sequence[Row]) -> list[dict[str, Any]]:
    """The conditions of one of our studies, each with what makes it comparable or not.

    Raises:
      RunError: no finished study lies there, or its files are not what `thyrojax study` writes.
    """
    folder = path.parent.parent if path.suffix == ".csv" else path
    about = read_about(folder, ("study", "source", "method", "data", "command", "input_size"))
    shares = (*FIGURES, "auc_low", "auc_high")
    table = folder / "tables" / "results.csv"
    rows = read_rows(table, ("condition", "label", "n", "n_patients", *shares))
    for number, row in enumerate(rows, start=1):
        for name in shares:
            share = _share(row[name], f"{table}, row {number}, {name}") if row[name] else None
            row[name] = "" if share is None else f"{share:.3f}"
    return [_ours(about, row, field) for row in rows]


def field_table(field: Sequence[Row]) -> Table:
    """The published rows as a reader sees them."""
    records = [
        {
            **{name: row[name] for name in ("study", "task", "data")},
            "n": _counts(row) or None,
            **{name: row[name] for name in ("reference_standard", "split", "network")},
            "AUC (95 % CI)": _with_interval(row),
            **{name: row[name] or None for name in FIGURES[1:]},
            "read in": f"{row['quoted_from']}: {row['read_in']}",
            "note": row["comparability"],
        }
        for row in field
    ]
    splits = Counter(row["split"] for row in field)
    told = "; ".join(f"{split}: {splits[split]}" for split in SPLITS)
    return table_of("published", "What others have published, as read.", records, [f"{told}."])


def our_table(ours: Sequence[dict[str, Any]]) -> Table:
    """Our conditions in the same columns."""
    return table_of(
        "ours",
        "Ours. A figure may be set beside a published one where data, labels and division agree.",
        ours,
        ["Intervals are of resampled patients; the cutoff is Youden's on the validation part."],
    )


def _ours(about: dict[str, Any], row: Row, field: Sequence[Row]) -> dict[str, Any]:
    source = str(about["source"])
    standard = STANDARDS.get(source, "as its makers say")
    of = _condition(about, row)
    split = f"by {of['split_by']}"
    return {
        "study": f"{about['study']}: {row['label']}",
        "data": f"{source}: {about['data']}",
        "n": f"{row['n']} nodules, {row['n_patients']} patients",
        "reference_standard": standard,
        "split": split,
        "network": f"Inception-v3, {of['input_size']} px, {of['method']}",
        "AUC (95 % CI)": _with_interval(row),
        **{name: row[name] or None for name in FIGURES[1:]},
        "note": "; ".join(_reasons(source, standard, split, row, field)),
    }


def _condition(about: Mapping[str, Any], row: Row) -> Mapping[str, Any]:
    """The condition's input size and method, and by what its data are divided.

    Studies that were tabulated before about.json had them tell the reference's network alone.
    """
    if told := about.get("conditions", {}).get(row["condition"]):
        return dict(told)
    leaks = re.search(r"split[-_]by[= ]image", str(about["command"])) or "by image" in row["label"]
    return {
        "input_size": about["input_size"],
        "method": f"{about['method']}, if the study's reference",
        "split_by": "image" if leaks else "patient",
    }


def _reasons(source: str, standard: str, split: str, row: Row, field: Sequence[Row]) -> list[str]:
    """Same data? Same label standard? Divided by patient?"""
    if source == "phantom":
        return ["simulated nodules: comparable with no published figure"]
    same = [other for other in field if other["set"] == source]
    theirs = dict.fromkeys(
        f"{one['study']} ({_counts(one) or 'n not stated'}; {one['split']})" for one in same
    )
    standards = dict.fromkeys(one["reference_standard"] for one in same)
    patient = f"divided {split}"
    if split == "by image":
        patient += ", views of one patient on both sides: too high by that"
    elif row["n"] == row["n_patients"]:
        patient += " as far as ids tell: every nodule has its own"
    return [
        f"data: of the same set: {', '.join(theirs)}"
        if same
        else "data: no published row has this set",
        f"labels: {standard}" + (f", theirs {', '.join(standards)}" if same else ""),
        patient,
    ]


def _counts(row: Row) -> str:
    return ", ".join(f"{row[name]} {name.removeprefix('n_')}" for name in COUNTS if row[name])


def _with_interval(row: Row) -> str | None:
    limits = f" ({row['auc_low']} to {row['auc_high']})" if row["auc_low"] else ""
    return f"{row['auc']}{limits}" if row["auc"] else None


def read_rows(path: Path, columns: Sequence[str]) -> list[Row]:
    """A CSV table as text.

    Raises:
      RunError: no file, no CSV, no row, or a column is missing.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(reader := csv.DictReader(file, restval="", strict=True))
    except (OSError, ValueError, csv.Error) as error:
        raise RunError(f"{path}: found {one_line(str(error))}, expected a CSV table") from error
    missing = [name for name in columns if name not in (reader.fieldnames or ())]
    if missing or not rows:
        found = f"no column {', '.join(missing)}" if missing else "no row"
        raise RunError(f"{path}: found {found}, expected rows of {', '.join(columns)}")
    return rows


def _share(text: str, place: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1.0:
        raise RunError(f"{place}: found {one_line(text)!r}, expected a share from 0 to 1")
    return value


if __name__ == "__main__":
    sys.exit(main())
