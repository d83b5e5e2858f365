"""Training, validation and test parts: by patient, alike in class, size group and TI-RADS.

Guan et al. 2019 assigned nodules "randomly ..., provided the distribution of size and TI-RADS
scores was similar". Here whole patients are assigned, and patients who share a frame, byte for byte
or as a near-duplicate (`near_duplicates`), count as one.
"""

from __future__ import annotations

import csv
import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from thyrojax import files
from thyrojax.config import Config
from thyrojax.data.dataset import Record
from thyrojax.errors import DataError, DataFaults, Fault
from thyrojax.shapes import Float, Int
from thyrojax.vocabulary import LABELS, size_group

PARTS = ("train", "validation", "test")
UNUSED = "unused"  # training patients beyond `train_share`
COLUMNS = ("image_id", "patient_id", "part", "label", "size_group", "tirads")
JOINED_COLUMNS = ("image_id", "patient_id", "other_image_id", "other_patient_id", "similarity")

Parts = dict[str, np.ndarray]  # part -> int32 positions in the records, ascending
Pairs = Sequence[tuple[int, int, float]]  # two positions in the records, and their similarity 0..1


def alike(near_duplicates: Pairs, threshold: float) -> list[tuple[int, int, float]]:
    """The pairs of at least that similarity: those that are joined; none where it is 0."""
    return [pair for pair in near_duplicates if threshold > 0.0 and pair[2] >= threshold]


def joined_pairs(config: Config, near_duplicates: Pairs) -> list[tuple[int, int, float]]:
    """The near-duplicates that a configuration keeps in one part."""
    return [] if config.split_by == "image" else alike(near_duplicates, config.near_duplicates)


def draw_split(records: Sequence[Record], config: Config, near_duplicates: Pairs = ()) -> Parts:
    """Assigns every record to train, validation or test, as the configuration says.

    With `folds` = k, all patients are dealt to k folds (the same for every `fold` of one `seed`);
    the test part is fold number `fold`, and validation is `validation_fraction` of the rest.
    Without folds, the parts have `test_fraction`, `validation_fraction` and what remains.
    With `inner_folds` = k the test part is the same, and what it leaves is dealt to k inner folds:
    validation is number `inner_fold` of them, training the others.

    Patients with near-duplicate frames, at the configuration's `near_duplicates` or above, are one.
    With `split_by` "image" every record is dealt alone, wherever its patient is: a leak.

    With `train_share` below 1 the rest of the training patients is in the part "unused". Those that
    a smaller share takes, a larger one takes too.

    The result depends on the split's seed and on the records' ids, labels, sizes, TI-RADS, frame
    digests and near-duplicates: not on their order, and on no library's random numbers.

    Raises:
      DataError: too few patients for a part to have both classes.
    """
    if config.split_by == "image":
        groups = [[i] for i in range(len(records))]
    else:
        groups = patient_groups(records, joined_pairs(config, near_duplicates))
    seed = config.seed if config.split_seed < 0 else config.split_seed
    parts = config.folds or len(PARTS)
    for label, name in enumerate(LABELS):
        having = sum(any(records[i].label == label for i in group) for group in groups)
        needed = max(parts, len(PARTS))
        if having < needed:
            raise DataError(
                f"split: found {having} patients (after joining those who share a frame) with a "
                f"{name} nodule, expected at least {needed} for {parts} "
                f"{'folds' if config.folds else 'parts'}"
            )
    strata = _strata(records, groups)
    names = [min(records[i].image_id for i in group) for group in groups]
    everyone = np.arange(len(groups))
    if config.folds:
        equal = [1.0 / config.folds] * config.folds
        test = _deal(strata, names, everyone, equal, f"{seed}/folds") == config.fold
        rest = everyone[~test]
        fractions = [1.0 - config.validation_fraction, config.validation_fraction]
        dealt = _deal(strata, names, rest, fractions, f"{seed}/fold {config.fold}")
        part_of_group = np.full(len(groups), PARTS.index("test"))
        part_of_group[rest] = dealt
    else:
        fractions = [
            1.0 - config.validation_fraction - config.test_fraction,
            config.validation_fraction,
            config.test_fraction,
        ]
        part_of_group = _deal(strata, names, everyone, fractions, str(seed))
    if config.inner_folds:
        rest = everyone[part_of_group != PARTS.index("test")]
        equal = [1.0 / config.inner_folds] * config.inner_folds
        inner = _deal(strata, names, rest, equal, f"{seed}/fold {config.fold}/inner folds")
        held_out = inner == config.inner_fold
        part_of_group[rest] = np.where(held_out, PARTS.index("validation"), PARTS.index("train"))
    if config.train_share < 1.0:
        beyond = _beyond_share(records, groups, names, part_of_group, config.train_share, seed)
        part_of_group[beyond] = len(PARTS)
    members: Parts = {}
    for number, part in enumerate((*PARTS, UNUSED) if config.train_share < 1.0 else PARTS):
        chosen = [
            i
            for group, of in zip(groups, part_of_group, strict=True)
            if of == number
            for i in group
        ]
        members[part] = np.array(sorted(chosen), np.int32)
        if part == UNUSED:
            continue
        for label, name in enumerate(LABELS):
            if not any(records[i].label == label for i in chosen):
                raise DataError(
                    f"split: found no {name} nodule for the {part} part ({len(chosen)} of "
                    f"{len(records)} nodules, seed {seed}), expected at least one; "
                    "take larger fractions, fewer folds or another seed"
                )
    return members


def _beyond_share(
    records: Sequence[Record],
    groups: Sequence[Sequence[int]],
    names: Sequence[str],
    part_of_group: Int[np.ndarray, " groups"],
    share: float,
    seed: int,
) -> list[int]:
    """The training groups that are not used: of each class all but a share, at least one kept."""
    beyond: list[int] = []
    for malignant in (False, True):
        of_class = [
            group
            for group, part in enumerate(part_of_group.tolist())
            if part == PARTS.index("train")
            and any(records[i].label == 1 for i in groups[group]) == malignant
        ]
        of_class.sort(key=lambda g: hashlib.sha256(f"{seed}/share/{names[g]}".encode()).digest())
        beyond += of_class[max(round(share * len(of_class)), 1) :]
    return beyond


def patient_groups(records: Sequence[Record], pairs: Pairs = ()) -> list[list[int]]:
    """Positions of the records, grouped by patient and by shared frames, in order of first use.

    Two patients with a byte-identical frame (`image_sha256`), or with the two frames of one of the
    `pairs`, are one group, and so on in chains.
    """
    parent = list(range(len(records)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[tuple[str, str], int] = {}
    for i, record in enumerate(records):
        for key in (("patient", record.patient_id), ("image", record.image_sha256)):
            parent[root(i)] = root(first.setdefault(key, i))
    for one, other, _ in pairs:
        parent[root(one)] = root(other)
    groups: dict[int, list[int]] = defaultdict(list)
    for i in range(len(records)):
        groups[root(i)].append(i)
    return sorted(groups.values())


def _strata(
    records: Sequence[Record], groups: Sequence[Sequence[int]]
) -> Float[np.ndarray, "groups strata"]:
    """How many nodules of each stratum a group has; the last column counts the group itself.

    The strata are class, class and size group, class and TI-RADS, all three together, and the
    nodules as such: where the joint strata are too small to be shared out, the coarser ones are.
    """
    columns: dict[tuple[str, ...], int] = {}
    counts: Counter[tuple[int, int]] = Counter()
    for row, group in enumerate(groups):
        for i in group:
            record = records[i]
            label, size, grade = str(record.label), size_group(record.size_mm), record.tirads or ""
            for stratum in (
                ("nodule",),
                ("class", label),
                ("size", label, size),
                ("TI-RADS", label, grade),
                ("joint", label, size, grade),
            ):
                column = columns.setdefault(stratum, len(columns))
                counts[row, column] += 1
    table = np.ones((len(groups), len(columns) + 1))
    table[:, :-1] = 0.0
    for (row, column), count in counts.items():
        table[row, column] = count
    return table


def _deal(
    strata: Float[np.ndarray, "groups strata"],
    names: Sequence[str],
    chosen: Int[np.ndarray, " n"],
    fractions: Sequence[float],
    seed: str,
) -> Int[np.ndarray, " n"]:
    """The part (0, 1, ...) of each chosen group: greedy stratification, after Sechidis et al. 2011.

    Groups are dealt in an order drawn from the seed, those with most nodules first, each to the
    part where it lessens most the chi-squared distance between the strata's counts and their
    shares. So all parts fill at the pace of their fractions, with large groups and small alike.
    """
    counts = strata[chosen]
    share = np.outer(fractions, counts.sum(axis=0))
    scale = 1.0 / np.where(share > 0.0, share, 1.0)
    lacking = share.copy()
    order = sorted(
        range(len(chosen)),
        key=lambda row: (
            -counts[row].max(),
            hashlib.sha256(f"{seed}/{names[int(chosen[row])]}".encode()).digest(),
        ),
    )
    part = np.zeros(len(chosen), np.int64)
    for row in order:
        change = ((counts[row] - 2.0 * lacking) * counts[row] * scale).sum(axis=1)
        part[row] = int(np.argmin(np.round(change, 9)))  # rounded: ties fall alike everywhere
        lacking[part[row]] -= counts[row]
    return part


def write_split(path: Path, records: Sequence[Record], parts: Parts) -> None:
    """Writes a split.csv: image_id, patient_id, part, label, size_group, tirads, a row a nodule."""
    part_of = {int(i): part for part, members in parts.items() for i in members}
    rows = [
        (
            record.image_id,
            record.patient_id,
            part_of[i],
            record.label,
            size_group(record.size_mm),
            record.tirads or "",
        )
        for i, record in enumerate(records)
    ]
    files.write_csv(path, [COLUMNS, *rows])


def write_joined(path: Path, records: Sequence[Record], pairs: Pairs) -> None:
    """Writes the pairs of frames that made one patient of two (see `alike`), as CSV.

    The columns are image_id, patient_id, other_image_id, other_patient_id, similarity.
    """
    rows = []
    for i, j, similarity in pairs:
        one, other = records[i], records[j]
        rows.append(
            (one.image_id, one.patient_id, other.image_id, other.patient_id, f"{similarity:.4f}")
        )
    files.write_csv(path, [JOINED_COLUMNS, *rows])


def chosen_split(config: Config, records: Sequence[Record], near_duplicates: Pairs) -> Parts:
    """The parts of the configuration's split.csv, or drawn ones. Errors are those of either."""
    if not config.split:
        return draw_split(records, config, near_duplicates)
    pairs = joined_pairs(config, near_duplicates)
    return read_split(Path(config.split), records, pairs, config.split_by == "image")


def read_run_split(
    run: Path, config: Config, records: Sequence[Record], near_duplicates: Pairs
) -> Parts:
    """The parts of a run, from its split.csv. Errors are those of `read_split`."""
    pairs = joined_pairs(config, near_duplicates)
    return read_split(run / "split.csv", records, pairs, config.split_by == "image")


def read_split(
    path: Path, records: Sequence[Record], pairs: Pairs = (), by_image: bool = False
) -> Parts:
    """Reads a split.csv for these records; columns beyond image_id, patient_id, part may be absent.

    A part "unused" may be there too. `pairs` are near-duplicates that are to be in one part; see
    `alike`. `by_image` allows patients and frames in several parts.

    Raises:
      DataError: a missing column; a row with an unknown image or part, a repeated image, or another
        patient or label than the set has; an image without a row; patients, byte-identical frames
        or a pair in two parts; a part that is empty or has one class only, which nothing can be
        learned from or measured on. Each fault is one line.
    """
    rows = _read_rows(path)
    position = {record.image_id: i for i, record in enumerate(records)}
    faults: list[Fault] = []
    part_of: dict[int, str] = {}
    for number, row in enumerate(rows, start=1):
        place = f"row {number}"
        i = position.get(row["image_id"])
        if i is None:
            found = f"image_id {row['image_id']!r}"
            faults.append(Fault(str(path), place, found, "an image_id of the data set"))
            continue
        if i in part_of:
            found = f"image_id {row['image_id']!r} again"
            faults.append(Fault(str(path), place, found, "each image_id once"))
            continue
        part_of[i] = row["part"]
        known = {"patient_id": records[i].patient_id, "label": str(records[i].label)}
        for column, expected in known.items():
            if column in row and row[column] != expected:
                found = f"{column} {row[column]!r} for image_id {row['image_id']!r}"
                faults.append(Fault(str(path), place, found, f"{expected!r}, as in the data set"))
        if row["part"] not in (*PARTS, UNUSED):
            expected = f"one of {', '.join((*PARTS, UNUSED))}"
            faults.append(Fault(str(path), place, f"part {row['part']!r}", expected))
    for i, record in enumerate(records):
        if i not in part_of:
            found = f"no row for image_id {record.image_id!r}"
            faults.append(Fault(str(path), "", found, "one for every nodule of the data set"))
    if not faults:
        faults = _part_faults(path, records, part_of)
        if not by_image:
            faults = _leaks(path, records, part_of, pairs) + faults
    if faults:
        raise DataFaults(faults)
    return {
        part: np.array([i for i in sorted(part_of) if part_of[i] == part], np.int32)
        for part in (*PARTS, UNUSED)
        if part in PARTS or UNUSED in part_of.values()
    }


def _read_rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            header = list(reader.fieldnames or ())
            missing = [name for name in COLUMNS[:3] if name not in header]
            if missing:
                found = f"columns {', '.join(header) or 'none'}"
                raise DataFaults([Fault(str(path), "", found, f"also {', '.join(missing)}")])
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        found = f"an unreadable file ({error})"
        raise DataFaults([Fault(str(path), "", found, "a CSV file in UTF-8")]) from None
    faults = [
        Fault(str(path), f"row {number}", "another number of cells", f"{len(header)} cells")
        for number, row in enumerate(rows, start=1)
        if None in row or None in row.values()
    ]
    if faults:
        raise DataFaults(faults)
    return rows


def _leaks(
    path: Path, records: Sequence[Record], part_of: dict[int, str], pairs: Pairs
) -> list[Fault]:
    """Patients, identical frames and near-duplicates in two parts."""
    faults = []
    for kind, attribute in (("patient", "patient_id"), ("identical frames", "image_sha256")):
        members: dict[str, dict[str, str]] = defaultdict(dict)  # key -> part -> an image_id
        for i, part in part_of.items():
            members[getattr(records[i], attribute)].setdefault(part, records[i].image_id)
        for key, images in members.items():
            if len(images) > 1:
                name = f"patient {key!r}" if kind == "patient" else kind
                places = ", ".join(f"{part} ({image})" for part, image in images.items())
                faults.append(
                    Fault(str(path), "", f"{name} in {places}", f"each {kind} in one part")
                )
    for i, j, similarity in pairs:
        one, other = records[i], records[j]
        if part_of[i] != part_of[j] and one.image_sha256 != other.image_sha256:
            found = (
                f"near-duplicates ({similarity:.3f}) in {part_of[i]} ({one.image_id}), "
                f"{part_of[j]} ({other.image_id})"
            )
            faults.append(Fault(str(path), "", found, "each such pair in one part"))
    return faults


def _part_faults(path: Path, records: Sequence[Record], part_of: dict[int, str]) -> list[Fault]:
    """Parts that lack a class."""
    faults = []
    for part in PARTS:
        labels = {records[i].label for i in part_of if part_of[i] == part}
        if len(labels) < len(LABELS):
            only = f"only {LABELS[labels.pop()]} nodules" if labels else "no nodule"
            faults.append(Fault(str(path), "", f"{only} in part {part}", "nodules of both classes"))
    return faults
