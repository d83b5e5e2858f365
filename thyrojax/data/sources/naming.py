"""What the annotated sources share: class names as labels, and patients in the names of images."""

from __future__ import annotations

import re
from collections.abc import Sequence

from thyrojax.errors import DataError, Fault
from thyrojax.vocabulary import normalise

# Reasons of exclusion that more than one of these sources has.
NO_ANNOTATION = "no annotation"  # an image that nothing was drawn in
REPEATED = "box repeated"  # the same box of the same label in the same image
OTHER_CLASS = "class neither benign nor malignant"  # of those that --malignant and --benign name

_MALIGNANT = ("malignant", "1")
_BENIGN = ("benign", "0")


def label_of(
    name: str, malignant: Sequence[str] | None, benign: Sequence[str] | None
) -> int | None:
    """The label of a class name: 1 where `malignant` has it, 0 where `benign` does, else None.

    Names are compared as `normalise` spells them. A list that is None is "malignant", "1" and
    "benign", "0". See `left_out` for what a None is to the caller: an exclusion or a fault.
    """
    word = normalise(name)
    if word in _words(malignant, _MALIGNANT):
        return 1
    return 0 if word in _words(benign, _BENIGN) else None


def left_out(malignant: Sequence[str] | None, benign: Sequence[str] | None) -> bool:
    """Whether a class without label is left out (its reason `OTHER_CLASS`) and no fault.

    Whoever names classes has looked at them: the others are not wanted. Where nobody named any,
    another class means that the set is not what it was taken for.
    """
    return malignant is not None or benign is not None


def class_fault(file: str, row: str, name: str) -> Fault:
    """The fault of a class without label where no classes were named."""
    expected = "benign or malignant, or classes named with --malignant and --benign"
    return Fault(file, row, f"class {name!r}", expected)


def check_names(malignant: Sequence[str] | None, benign: Sequence[str] | None) -> None:
    """Raises a DataError where a list is empty or has a blank name, or both have one name.

    The names that stand for a list that is not given count: "0" is benign unless told otherwise.
    """
    for option, names in (("malignant", malignant), ("benign", benign)):
        if names is not None and (not names or not all(normalise(name) for name in names)):
            found = "a blank name" if names else "no names"
            raise DataError(f"--{option}: found {found}, expected the class names that mean it")
    both = _words(malignant, _MALIGNANT) & _words(benign, _BENIGN)
    if both:
        raise DataError(
            f"--malignant and --benign: found {', '.join(map(repr, sorted(both)))} in both, "
            "expected each class in one of them (a list not given has the option's name and "
            "1 or 0)"
        )


def check_pattern(pattern: str | None) -> None:
    """Raises a DataError unless `pattern` is None or a regular expression with one group."""
    if pattern is None:
        return
    expected = "expected a regular expression with exactly one group"
    try:
        groups = re.compile(pattern).groups
    except (re.error, OverflowError, RecursionError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"--patient-pattern: found {pattern!r} ({reason}), {expected}") from None
    if groups != 1:
        raise DataError(f"--patient-pattern: found {pattern!r} with {groups} groups, {expected}")


def patient_of(pattern: str | None, stem: str) -> str:
    """The patient named in an image's name without extension.

    Without a pattern it is that name itself: see `no_patients`. With one it is what the pattern's
    group matches; "" where it matches nothing, which is a `patient_fault`.
    """
    if pattern is None:
        return stem
    match = re.search(pattern, stem)
    return (match.group(1) or "") if match else ""


def patient_fault(file: str, row: str, pattern: str | None, stem: str) -> Fault:
    """The fault of an image's name in which a pattern finds no patient."""
    return Fault(file, row, f"image name {stem!r}", f"a patient where {pattern!r} has its group")


def no_patients(name: str) -> str:
    """The note of a source whose patients are not known; `name` is the set's."""
    return (
        f"{name} names no patients: every image counts as a patient of its own, so views of one "
        "patient may stand on both sides of a split, and figures may be too good; only identical "
        "and near-identical frames are kept together."
    )


def _words(names: Sequence[str] | None, default: Sequence[str]) -> frozenset[str]:
    return frozenset(normalise(name) for name in (default if names is None else names))
