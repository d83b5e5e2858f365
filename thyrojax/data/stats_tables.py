"""What was counted of a set, as lines of plain text and as CSV files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from thyrojax import files
from thyrojax.data.stats import NOT_STATED, Group, Statistics, WindowShare
from thyrojax.shapes import Float

_ALL = "all"
_NOTES = (
    "categories are compared among nodules that have one stated",
    "chi-squared takes nodules as independent, which those of one patient are not: its p is too "
    "small where patients have several",
)


def format_statistics(statistics: Statistics) -> str:
    """All counts as a table of plain text: a column for each group and label."""
    s = statistics
    columns = [(group, label) for group in s.groups for label in (0, 1)]
    rows = [
        ("", [group.name if label == 0 else "" for group, label in columns]),
        ("", [group.label_names[label] for group, label in columns]),
        ("nodules", [_share(_n(group, label), len(group.entries)) for group, label in columns]),
        ("patients", [f"{_patients(group, label)}" for group, label in columns]),
    ]
    for counts in s.counts:
        rows.append((counts.name, []))
        for place, word in enumerate(counts.words):
            cells = []
            for group, label in columns:
                found = counts.by_group.get(group.name)
                cells.append(
                    NOT_STATED
                    if found is None
                    else _share(int(found[label, place]), int(found[label].sum()))
                )
            rows.append((f"  {word}", cells))
    rows.append(("median (quartiles)", []))
    for quantity in s.quantities:
        by_group = quantity.by_group
        cells = [
            _quartiles(by_group[group.name][label]) if group.name in by_group else NOT_STATED
            for group, label in columns
        ]
        rows.append((f"  {quantity.name}", cells))
    first = max(len(name) for name, _ in rows) + 1
    width = max(len(cell) for _, cells in rows for cell in cells) + 2
    lines = [f"{name}: {subject}" for name, subject in s.subjects.items()] + [""]
    for name, cells in rows:
        lines.append((f"{name:<{first}}" + "".join(f"{cell:>{width}}" for cell in cells)).rstrip())
    lines += ["", *_window_lines(s), "", *_set_lines(s)]
    if s.differences:
        lines += ["", *_difference_lines(s)]
    return "\n".join(lines) + "\n"


def write_tables(folder: Path, statistics: Statistics) -> None:
    """Writes groups.csv, quantities.csv, windows.csv, sets.csv and, where groups are compared,
    differences.csv.

    Raises:
      ThyrojaxError: the folder cannot be written.
    """
    s = statistics
    rows: list[tuple[Any, ...]] = [("group", "label", "property", "category", "n", "share")]
    for group in s.groups:
        for label, name in enumerate(group.label_names):
            n = _n(group, label)
            rows.append((group.name, name, "nodules", _ALL, n, _ratio(n, len(group.entries))))
            rows.append((group.name, name, "patients", _ALL, _patients(group, label), ""))
            for counts in s.counts:
                if group.name in counts.by_group:
                    found = counts.by_group[group.name][label].tolist()
                    rows += [
                        (group.name, name, counts.name, word, count, _ratio(count, sum(found)))
                        for word, count in zip(counts.words, found, strict=True)
                    ]
    files.write_csv(folder / "groups.csv", rows)

    rows = [("group", "label", "quantity", "n", "mean", "sd", "min", "q1", "median", "q3", "max")]
    for group in s.groups:
        for quantity in s.quantities:
            if group.name in quantity.by_group:
                by_label = quantity.by_group[group.name]
                named = [*zip(group.label_names, by_label, strict=True)]
                for name, values in (*named, (_ALL, np.concatenate(by_label))):
                    rows.append((group.name, name, quantity.name, *_moments(values)))
    files.write_csv(folder / "quantities.csv", rows)

    counted = ("n", "leaves_frame", "leaves_frame_share", "cuts_nodule", "cuts_nodule_share")
    rows = [("group", "shape", "margin_px", *counted)]
    for w in s.windows:
        outside, cut = _ratio(w.outside, w.n), _ratio(w.cut, w.n)
        rows.append((w.group, w.shape, w.margin, w.n, w.outside, outside, w.cut, cut))
    files.write_csv(folder / "windows.csv", rows)

    rows = [("set", "what", "n")]
    rows += [(name, f"subject: {subject}", "") for name, subject in s.subjects.items()]
    for name, reasons in s.left_out.items():
        rows += [(name, f"left out: {reason}", count) for reason, count in reasons.items()]
    for name, (identical, near, patients) in s.joined.items():
        rows += [
            (name, "pairs of patients with an identical frame", identical),
            (name, "pairs of patients with near-identical frames", near),
            (name, "patients when these are joined", patients),
        ]
    rows += [
        (name, f"not stated: {each}", "") for name, found in s.not_stated.items() for each in found
    ]
    files.write_csv(folder / "sets.csv", rows)

    if s.differences:
        tested = ("chi_squared", "degrees_of_freedom", "p", "standardised_difference")
        rows = [("property", *tested, "note")]
        for d in s.differences:
            numbers = (d.chi_squared, d.degrees, d.p, d.standardised)
            rows.append((d.name, *("" if v is None else f"{v:.6g}" for v in numbers), d.note))
        files.write_csv(folder / "differences.csv", rows)


def _window_lines(s: Statistics) -> list[str]:
    """A line a group, shape and margin's share."""
    margins = sorted({each.margin for each in s.windows})
    if not margins:
        return []
    name_width = max(26, *(len(group.name) + 20 for group in s.groups))
    lines = [
        f"{'windows at a margin (px) of':<{name_width}}" + "".join(f"{m:>9}" for m in margins),
    ]
    found: dict[tuple[str, str], list[WindowShare]] = {}
    for each in s.windows:
        found.setdefault((each.group, each.shape), []).append(each)
    for what in ("outside", "cut"):
        lines.append("  leave the frame" if what == "outside" else "  cut the nodule")
        for (group, shape), shares in found.items():
            if what == "cut" and not any(each.cut for each in shares):
                continue
            cells = "".join(f"{_percent(getattr(each, what), each.n):>9}" for each in shares)
            name = f"    {group}, {shape.replace('_', ' ')}"
            lines.append(f"{name:<{name_width}}{cells}")
    if not any(each.cut for each in s.windows):
        lines.append("    none")
    return lines


def _set_lines(s: Statistics) -> list[str]:
    """What was left out of each set, whose patients share frames, and what it does not state."""
    lines = []
    for name, reasons in s.left_out.items():
        listed = ", ".join(f"{reason} {count}" for reason, count in reasons.items())
        lines.append(f"{name}: left out: {listed or 'nothing'}")
        if name in s.joined:
            identical, near, patients = s.joined[name]
            lines.append(
                f"{name}: pairs of patients with an identical frame {identical}, with "
                f"near-identical frames {near}; joined, {patients} patients"
            )
    alike = len(set(s.not_stated.values())) == 1  # parts of one set, as a rule
    names = [", ".join(s.left_out)] if alike else list(s.not_stated)
    for name, found in zip(names, s.not_stated.values(), strict=False):
        if found:
            lines.append(f"{name}: not stated, so not shown: {', '.join(found)}")
    return lines


def _difference_lines(s: Statistics) -> list[str]:
    lines = [
        "differences between " + ", ".join(group.name for group in s.groups),
        f"  {'':<24}{'chi-squared':>12}{'df':>5}{'p':>9}{'standardised':>14}",
    ]
    for d in s.differences:
        cells = (
            f"{'' if d.chi_squared is None else format(d.chi_squared, '.2f'):>12}"
            f"{'' if d.degrees is None else d.degrees:>5}"
            f"{'' if d.p is None else _p(d.p):>9}"
            f"{'' if d.standardised is None else format(d.standardised, '+.2f'):>14}"
        )
        lines.append(f"  {d.name:<24}{cells}  {d.note}".rstrip())
    if len(s.groups) > 2:
        lines.append("  standardised: the largest between any two")
    return [*lines, *(f"  {note}" for note in _NOTES)]


def _n(group: Group, label: int) -> int:
    return sum(entry.label == label for entry in group.entries)


def _patients(group: Group, label: int) -> int:
    return len({entry.patient_id for entry in group.entries if entry.label == label})


def _share(count: int, whole: int) -> str:
    return f"{count} ({_percent(count, whole)})" if whole else "0"


def _percent(count: int, whole: int) -> str:
    return f"{100 * count / whole:.1f} %" if whole else "none"


def _ratio(count: int, whole: int) -> str:
    return f"{count / whole:.6g}" if whole else ""


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _quartiles(values: Float[np.ndarray, " n"]) -> str:
    if not len(values):
        return "none"
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return f"{middle:.3g} ({low:.3g} to {high:.3g})"


def _moments(values: Float[np.ndarray, " n"]) -> list[Any]:
    """n, mean, standard deviation, minimum, quartiles, maximum."""
    if not len(values):
        return [0, *[""] * 7]
    deviation = f"{values.std(ddof=1):.6g}" if len(values) > 1 else ""
    quantiles = np.quantile(values, (0.0, 0.25, 0.5, 0.75, 1.0))
    return [len(values), f"{values.mean():.6g}", deviation, *(f"{q:.6g}" for q in quantiles)]
