"""What a set is made of, by label and by part, and how two sets differ: Guan et al. 2019, figure 1.

Counts of every feature that a set states, the spread of sizes, and what windows of growing margins
do to it. Parts of one set, or two sets, stand side by side as *groups* and are compared.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thyrojax.config import Config
from thyrojax.data.crop import AROUND_BOX, is_cut, window
from thyrojax.data.looking import Entry, LookedAt
from thyrojax.data.splits import PARTS, alike, patient_groups, read_split
from thyrojax.errors import ConfigError
from thyrojax.shapes import Float, Int
from thyrojax.vocabulary import LABELS, SIZE_GROUPS, VOCABULARY, size_group

NOT_STATED = "not stated"
MARGINS = (0, 25, 50, 75, 100)


@dataclass(frozen=True, eq=False)
class Group:
    """Nodules that are counted together: a set, or one part of it."""

    name: str
    entries: tuple[Entry, ...]
    label_names: tuple[str, str]


@dataclass(frozen=True, eq=False)
class Counts:
    """A property's categories in each group, as counts [label, category]."""

    name: str
    words: tuple[str, ...]  # NOT_STATED last, where it occurs
    by_group: dict[str, Int[np.ndarray, "labels words"]]  # of groups that state the property


@dataclass(frozen=True, eq=False)
class Quantity:
    """A number of every nodule, or patient, that has it: its values in each group, by label."""

    name: str
    by_group: dict[str, tuple[np.ndarray, np.ndarray]]  # of label 0 and of label 1


@dataclass(frozen=True)
class WindowShare:
    """Of a group's nodules at a margin and shape: how many windows leave the frame or cut."""

    group: str
    shape: str
    margin: int
    n: int
    outside: int
    cut: int


@dataclass(frozen=True)
class Difference:
    """How far groups differ in one property; None where that cannot be computed.

    Categories: Pearson's chi-squared over groups x categories, and its p. Numbers, and shares of
    yes and no: the standardised difference of two groups, (a - b) / sqrt((s_a^2 + s_b^2) / 2); of
    more than two groups the one that is largest.
    """

    name: str
    chi_squared: float | None
    degrees: int | None
    p: float | None
    standardised: float | None
    note: str = ""


@dataclass(frozen=True, eq=False)
class Statistics:
    """All that is counted of one set, its parts, or two sets."""

    groups: tuple[Group, ...]
    counts: tuple[Counts, ...]
    quantities: tuple[Quantity, ...]
    windows: tuple[WindowShare, ...]
    differences: tuple[Difference, ...]
    subjects: dict[str, str]  # set -> what its nodules are
    not_stated: dict[str, tuple[str, ...]]  # group -> properties that it does not state
    left_out: dict[str, dict[str, int]]  # set -> reason -> count
    joined: dict[str, tuple[int, int, int]]  # set -> identical, near-identical pairs, patients left


def compute_statistics(
    sets: Sequence[LookedAt], split: Path | None = None, margins: Sequence[int] = MARGINS
) -> Statistics:
    """Counts one set (by part where a split.csv is given) or two sets side by side.

    Args:
      margins: in pixels.

    Raises:
      ConfigError: a split beside two sets or of a source that was not built, or negative margins.
      DataFaults: the split does not belong to the set.
    """
    if min(margins, default=0) < 0:
        raise ConfigError(f"margins: found {min(margins)}, expected whole numbers >= 0")
    groups = _groups(sets, split)
    counts = [_count(groups, name, words, word_of) for name, words, word_of in _PROPERTIES]
    stated = [each for each in counts if each.by_group]
    quantities = [_measure(groups, name, value_of) for name, value_of in _QUANTITIES]
    measured = [each for each in quantities if each.by_group]
    properties: tuple[Counts | Quantity, ...] = (*counts, *quantities)
    return Statistics(
        groups=groups,
        counts=tuple(stated),
        quantities=tuple(measured),
        windows=tuple(_window_shares(groups, margins)),
        differences=tuple(_differences(groups, stated, measured)) if len(groups) > 1 else (),
        subjects={name: str(each.info["subject"]) for name, each in _named(sets)},
        not_stated={
            group.name: tuple(each.name for each in properties if group.name not in each.by_group)
            for group in groups
        },
        left_out={name: dict(each.info.get("exclusions", {})) for name, each in _named(sets)},
        joined={name: _joined(each) for name, each in _named(sets) if each.dataset is not None},
    )


# ---- who is counted together


def _named(sets: Sequence[LookedAt]) -> list[tuple[str, LookedAt]]:
    """Each set under a name of its own."""
    names = [each.name for each in sets]
    if len(set(names)) < len(names):
        names = [f"{name} ({number})" for number, name in enumerate(names, start=1)]
    return list(zip(names, sets, strict=True))


def _groups(sets: Sequence[LookedAt], split: Path | None) -> tuple[Group, ...]:
    if split is not None and (len(sets) != 1 or sets[0].dataset is None):
        found = f"{len(sets)} sets" if len(sets) != 1 else "a source that was not built"
        raise ConfigError(f"split: found {found}, expected one built set")
    if split is None:
        return tuple(Group(name, each.entries, _label_names(each)) for name, each in _named(sets))
    (looked,) = sets
    assert looked.dataset is not None
    parts = read_split(split, looked.dataset.records)
    return tuple(
        Group(part, tuple(looked.entries[i] for i in parts[part]), _label_names(looked))
        for part in PARTS
    )


def _label_names(looked: LookedAt) -> tuple[str, str]:
    negative, positive = looked.info["label_names"]
    return str(negative), str(positive)


def _joined(looked: LookedAt) -> tuple[int, int, int]:
    """Pairs of patients with an identical frame, near-identical pairs, patients when all joined."""
    dataset = looked.dataset
    assert dataset is not None
    records = dataset.records
    frames: dict[str, set[str]] = {}  # image_sha256 -> the patients who have it
    for record in records:
        frames.setdefault(record.image_sha256, set()).add(record.patient_id)
    identical = {
        pair for patients in frames.values() for pair in itertools.combinations(sorted(patients), 2)
    }
    pairs = alike(dataset.near_duplicates, Config().near_duplicates)
    near = {
        tuple(sorted((records[one].patient_id, records[other].patient_id)))
        for one, other, _ in pairs
    } - identical
    return len(identical), len(near), len(patient_groups(records, pairs))


# ---- what is counted

_PROPERTIES: tuple[tuple[str, tuple[str, ...], Callable[[Entry], str]], ...] = (
    ("size group (cm)", SIZE_GROUPS, lambda entry: size_group(entry.size_mm)),
    ("TI-RADS", VOCABULARY["tirads"], lambda entry: entry.tirads or ""),
    ("composition", VOCABULARY["composition"], lambda entry: entry.composition or ""),
    ("echogenicity", VOCABULARY["echogenicity"], lambda entry: entry.echogenicity or ""),
    ("calcification", VOCABULARY["calcification"], lambda entry: entry.calcification or ""),
    ("nodule margin", VOCABULARY["margin"], lambda entry: entry.margin or ""),
    ("shape", VOCABULARY["shape"], lambda entry: entry.shape or ""),
    (
        "reader's call",
        tuple(f"called {name}" for name in LABELS),
        lambda entry: "" if entry.reader_label is None else f"called {LABELS[entry.reader_label]}",
    ),
    (
        "box",
        ("wider or equal", "taller than wide"),
        lambda entry: ("wider or equal", "taller than wide")[entry.box.height > entry.box.width],
    ),
)

_QUANTITIES: tuple[tuple[str, Callable[[Entry], float | int | None]], ...] = (
    ("size (mm)", lambda entry: entry.size_mm),
    ("box width (px)", lambda entry: entry.box.width),
    ("box height (px)", lambda entry: entry.box.height),
    ("box height / width", lambda entry: entry.box.height / entry.box.width),
    (
        "box share of frame",
        lambda entry: entry.box.width * entry.box.height / (entry.width * entry.height),
    ),
    ("frame width (px)", lambda entry: entry.width),
    ("frame height (px)", lambda entry: entry.height),
    ("pixel spacing (mm)", lambda entry: entry.pixel_spacing_mm),
)


def _count(
    groups: Sequence[Group], name: str, order: Sequence[str], word_of: Callable[[Entry], str]
) -> Counts:
    found = {
        group.name: Counter((entry.label, word_of(entry)) for entry in group.entries)
        for group in groups
    }
    found = {key: counts for key, counts in found.items() if any(word for _, word in counts)}
    seen = {word for counts in found.values() for _, word in counts}
    words = [*(word for word in order if word in seen), *sorted(seen - set(order) - {""})]
    keys = [*words, *([""] if "" in seen else [])]
    return Counts(
        name,
        tuple(word.replace("_", " ") or NOT_STATED for word in keys),
        {
            group: np.array([[counts[label, word] for word in keys] for label in (0, 1)], np.int64)
            for group, counts in found.items()
        },
    )


def _measure(
    groups: Sequence[Group], name: str, value_of: Callable[[Entry], float | int | None]
) -> Quantity:
    by_group = {}
    for group in groups:
        pairs = [(entry.label, value_of(entry)) for entry in group.entries]
        known = [(label, float(value)) for label, value in pairs if value is not None]
        if known:
            by_group[group.name] = (
                np.array([value for label, value in known if label == 0], np.float64),
                np.array([value for label, value in known if label == 1], np.float64),
            )
    return Quantity(name, by_group)


def _window_shares(groups: Sequence[Group], margins: Sequence[int]) -> list[WindowShare]:
    shares = []
    for group in groups:
        for shape in AROUND_BOX:
            for margin in margins:
                outside = cut = 0
                for entry in group.entries:
                    left, top, width, height = window(
                        entry.box, margin, shape, "constant", entry.height, entry.width
                    )
                    outside += (
                        min(left, top) < 0
                        or left + width > entry.width
                        or top + height > entry.height
                    )
                    cut += is_cut(entry.box, margin, shape)
                n = len(group.entries)
                shares.append(WindowShare(group.name, shape, margin, n, outside, cut))
    return shares


# ---- how groups differ


def _differences(
    groups: Sequence[Group], counts: Sequence[Counts], quantities: Sequence[Quantity]
) -> list[Difference]:
    labels = np.array(
        [[sum(entry.label == label for entry in g.entries) for label in (0, 1)] for g in groups]
    )
    differences = [compare_counts("label", labels)]
    properties: tuple[Counts | Quantity, ...] = (*counts, *quantities)
    for each in properties:
        lacking = [group.name for group in groups if group.name not in each.by_group]
        if lacking:
            note = f"{NOT_STATED} by {', '.join(lacking)}"
            differences.append(Difference(each.name, None, None, None, None, note))
        elif isinstance(each, Counts):
            known = [place for place, word in enumerate(each.words) if word != NOT_STATED]
            table = np.array([found.sum(axis=0)[known] for found in each.by_group.values()])
            differences.append(compare_counts(each.name, table))
        else:
            values = [np.concatenate(by_label) for by_label in each.by_group.values()]
            standardised = standardised_difference(values)
            note = "no spread" if standardised is None else ""
            differences.append(Difference(each.name, None, None, None, standardised, note))
    return differences


def compare_counts(name: str, table: Int[np.ndarray, "groups words"]) -> Difference:
    """Pearson's chi-squared without a continuity correction; and, of yes and no, the shares.

    Categories that no group has are left out. Fewer than 5 expected in a cell are said in the note.
    """
    from scipy.stats import chi2_contingency

    table = table[:, table.sum(axis=0) > 0]
    if table.shape[1] < 2 or (table.sum(axis=1) == 0).any():
        return Difference(name, None, None, None, None, "one category only")
    found = chi2_contingency(table, correction=False)
    few = int((found.expected_freq < 5).sum())
    standardised = None
    if table.shape[1] == 2:
        standardised = _largest([(p, p * (1 - p)) for p in table[:, 1] / table.sum(axis=1)])
    return Difference(
        name,
        float(found.statistic),
        int(found.dof),
        float(found.pvalue),
        standardised,
        f"fewer than 5 expected in {few} of {table.size} cells" if few else "",
    )


def standardised_difference(values: Sequence[Float[np.ndarray, " _"]]) -> float | None:
    """The largest standardised difference of the means of any two groups; None if undefined."""
    if any(len(each) < 2 for each in values):
        return None
    return _largest([(float(each.mean()), float(each.var(ddof=1))) for each in values])


def _largest(moments: Sequence[tuple[Any, Any]]) -> float | None:
    found = []
    for place, (mean, variance) in enumerate(moments):
        for other_mean, other_variance in moments[place + 1 :]:
            pooled = float((variance + other_variance) / 2)
            if pooled > 0.0:
                found.append(float(mean - other_mean) / pooled**0.5)
            elif mean == other_mean:
                found.append(0.0)
    return max(found, key=abs) if found else None
