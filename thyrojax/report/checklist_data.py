"""Answers to checklist items on the data and the reference standard.

Each is a function from the facts to a sentence or two; None where the facts do not show it, and the
item then stays a blank for the authors.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from thyrojax.report.facts import Facts, Part
from thyrojax.report.markup import plural
from thyrojax.report.wording import capital, percent, plain
from thyrojax.vocabulary import SIZE_GROUPS, TIRADS


class _Source(NamedTuple):
    """What the reader of a source knows of it. `truth` is None where each file has its own."""

    data: str
    truth: str
    positive: str
    classes: str
    boxes: str


# By the names that `thyrojax data build` takes; a source without a line here is the authors' own.
_SOURCES = {
    "busbra": _Source(
        "BUS-BRA, a public set of breast lesions (Gómez-Flores et al. 2023)",
        "Pathology, as the table of the set states it for each lesion",
        "pathology malignant",
        "the Pathology column of the set's table",
        "the bounding boxes of the lesion masks that the set publishes",
    ),
    "ddti": _Source(
        "DDTI, a public set of thyroid nodules (Pedraza et al. 2015)",
        "The TI-RADS grade that the set's XML gives the case; no pathology",
        "TI-RADS 4a, 4b, 4c or 5; grades 2 and 3 are class 0",
        "the TI-RADS grade in the set's XML, one for the whole case",
        "the smallest boxes around the outlines in the set's XML",
    ),
    "phantom": _Source(
        "The built-in phantom of thyrojax: simulated frames of simulated patients, no person's",
        "The class that the simulation drew; exact, and no one's judgement",
        "the simulation's class malignant",
        "the simulation",
        "exact, from the simulation",
    ),
}

_SHAPES = {
    "square": "as wide as the box and twice the margin, and as high as wide",
    "square_cover": "a square of the box's longer side and twice the margin",
    "rectangle": "the box and the margin on all four sides, resized to a square",
    "frame": "the whole image",
}
_BORDERS = {
    "constant": "What lies outside the image is black",
    "edge": "What lies outside the image repeats its edge",
    "reflect": "What lies outside the image mirrors it",
    "shift": "A window that passes the image's edge is moved inside",
}


def technology(facts: Facts) -> str | None:
    """Kind of artificial intelligence, and of what."""
    if facts.subject is None or facts.config is None:
        return None
    return (
        "Deep learning: Inception-v3, a convolutional network, on ultrasound images of "
        f"{facts.subject}."
    )


def goal(facts: Facts) -> str | None:
    """Making and testing a model in one set."""
    if facts.config is None or not facts.parts or facts.source is None:
        return None
    return (
        "A model is made, and tested on the held-out test part of the same source "
        f"({facts.source})."
    )


def data_source(facts: Facts) -> str | None:
    """The set, where the reader of its layout knows it."""
    known = _SOURCES.get(facts.source or "")
    if known is None:
        return None
    size = "" if facts.n_images is None else f"; {plural(facts.n_images, 'image')} found"
    return f"{known.data}{size}."


def eligibility(facts: Facts) -> str | None:
    """What was used and what left out, by reason."""
    if facts.exclusions is None or facts.n_cases is None or facts.n_patients is None:
        return None
    used = (
        f"Used: every {facts.unit} with a readable image, a box and a label, "
        f"{plural(facts.n_cases, facts.unit)} of {plural(facts.n_patients, 'patient')}."
    )
    return f"{used} {_left_out(facts.exclusions)}"


def flow(facts: Facts) -> str | None:
    """Found, left out, used, and the parts."""
    start = eligibility(facts)
    if start is None or not facts.parts or facts.n_images is None:
        return None
    parts = "; ".join(f"{name} {_part(facts, part)}" for name, part in facts.parts.items())
    return f"Found: {plural(facts.n_images, 'image')}. {start} Parts: {parts}."


def part_numbers(facts: Facts) -> str | None:
    """Cases, patients and outcomes of each part, and what it was for."""
    if not facts.parts:
        return None
    uses = {"train": "training", "validation": "choice of checkpoint and cutoff", "test": "test"}
    told = [f"{uses[name]}: {_part(facts, part)}" for name, part in facts.parts.items()]
    return f"{capital('; '.join(told))}."


def preprocessing(facts: Facts) -> str | None:
    """From the frame to the network's input."""
    values = facts.settings("crop_shape", "border", "margin_eval", "input_size")
    if values is None:
        return None
    shape, border, margin, size = values
    if shape not in _SHAPES or border not in _BORDERS:
        return None
    tested = facts.count("margin")
    margin = margin if tested is None else tested
    masked = {
        None: "",
        True: " What frames show outside the scan sector was blanked first.",
        False: " Nothing was blanked outside the scan sector.",
    }[facts.mask_overlay]
    drawn = facts.settings("margin_min", "margin_max")
    unit = (facts.config or {}).get("margin_unit", "px")
    training = (
        f", drawn anew from {drawn[0]} to {drawn[1]} {unit} in training"
        if drawn is not None
        else ""
    )
    cut = (
        f"The window is the whole image, wherever the box lies ({shape})."
        if shape == "frame"
        else f"Around each box a window is cut: {_SHAPES[shape]} ({shape}); margin {margin} {unit} "
        f"in evaluation{training}. {_BORDERS[border]}."
    )
    return (
        f"Grey frames of 8 bits.{masked} {cut} The window is resized to {size} x {size} px "
        "(bilinear, not antialiased) and scaled to -1..1."
    )


def region(facts: Facts) -> str | None:
    """What of an image the network sees."""
    if facts.settings("crop_shape") is None or facts.n_images is None or facts.n_cases is None:
        return None
    seen = "the whole image of" if facts.whole_frame else "one window around"
    return (
        f"The network sees {seen} each annotated box: "
        f"{plural(facts.n_cases, facts.unit)} in {plural(facts.n_images, 'image')} found."
    )


def predictors(facts: Facts) -> str | None:
    """The choice of predictors."""
    if facts.settings("crop_shape") is None:
        return None
    which = "whole image" if facts.whole_frame else "window around the box"
    return f"The pixels of the {which} are the only predictors; none was selected."


def predictor_definition(facts: Facts) -> str | None:
    """What the predictors are."""
    how = preprocessing(facts)
    return None if how is None else f"Grey levels of the window. {how}"


def deidentification(facts: Facts) -> str | None:
    """Known of the phantom alone."""
    return "Simulated frames: there is no one to identify." if facts.source == "phantom" else None


def acquisition(facts: Facts) -> str | None:
    """Known of the phantom alone."""
    return "Simulated B-mode frames: no device was used." if facts.source == "phantom" else None


def ethics(facts: Facts) -> str | None:
    """Known of the phantom alone."""
    return "Simulated patients: no approval needed." if facts.source == "phantom" else None


def reference_standard(facts: Facts) -> str | None:
    """Pathology, a grade, or the simulation's truth."""
    if facts.label_names is None:
        return None
    known = _SOURCES.get(facts.source or "")
    classes = f"class 0 is “{facts.label_names[0]}”, class 1 “{facts.label_names[1]}”"
    if known is not None:
        return f"{known.truth}; {classes}."
    if any("TI-RADS" in name for name in facts.label_names):
        return f"A TI-RADS grade, no pathology; {classes}."
    return None


def reference_cutoff(facts: Facts) -> str | None:
    """What makes a case class 1."""
    known = _SOURCES.get(facts.source or "")
    if known is None or facts.label_names is None:
        return None
    return f"Class 1, “{facts.label_names[1]}”: {known.positive}."


def annotation(facts: Facts) -> str | None:
    """Where classes and boxes come from."""
    known = _SOURCES.get(facts.source or "")
    return None if known is None else f"Classes are from {known.classes}. {boxes(facts)}"


def boxes(facts: Facts) -> str | None:
    """Where the boxes come from."""
    known = _SOURCES.get(facts.source or "")
    return None if known is None else f"Boxes: {known.boxes}."


def test_annotation(facts: Facts) -> str | None:
    """The test cases' annotation is the source's."""
    if facts.source not in _SOURCES or not facts.parts or "test" not in facts.parts:
        return None
    return (
        f"The {plural(facts.parts['test'].n, facts.unit)} of the test part carry the annotations "
        "of the source, as the other parts do."
    )


def missing_data(facts: Facts) -> str | None:
    """Cases without an image, box or label are left out; what is not stated is counted."""
    if facts.stated is None or facts.count("n") is None:
        return None
    n = facts.count("n") or 0
    gaps = [f"{name} {n - have}" for name, have in facts.stated.items() if 0 < have < n]
    whole = [name for name, have in facts.stated.items() if have == n]
    absent = [name for name, have in facts.stated.items() if not have]
    start = (
        f"Every one of the {plural(n, facts.unit)} of the {facts.reported} has a score and a label."
    )
    if facts.exclusions is not None:
        start += " Images without a box or label were left out beforehand."
    for words, names in (
        ("Not stated, and counted as such, none filled in", gaps),
        ("Stated for all", whole),
        ("Stated for none", absent),
    ):
        start += f" {words}: {', '.join(names)}." if names else ""
    return start


def partition(facts: Facts) -> str | None:
    """How cases came into parts."""
    if facts.config is None or not facts.parts:
        return None
    sizes = "; ".join(f"{name} {_part(facts, part)}" for name, part in facts.parts.items())
    if facts.config.get("split"):
        return f"By a given list of cases, kept as split.csv: {sizes}."
    drawn = facts.settings("seed", "validation_fraction", "test_fraction", "folds", "fold")
    if drawn is None:
        return None
    seed, validation, test, folds, fold = drawn
    split_seed = facts.config.get("split_seed", -1)
    seed = seed if split_seed < 0 else split_seed
    alike = "with like shares of class, size group and TI-RADS where these are known"
    dealt = "Images, whatever their patient," if facts.by_image else "Patients"
    inner = facts.config.get("inner_folds", 0)
    kept = f"number {facts.config.get('inner_fold', 0)} of {inner} parts" if inner else ""
    if folds:
        rule = (
            f"{dealt} were dealt at random to {folds} folds {alike} (seed {seed}); fold {fold} is "
            f"the test part, {kept or f'a share of {plain(validation)}'} of the others validation"
        )
    else:
        shares = (
            f"a share of {plain(test)} test, {kept} of the others validation"
            if kept
            else f"shares of {plain(validation)} validation and {plain(test)} test"
        )
        rule = f"{dealt} were dealt at random {alike} (seed {seed}): {shares}, the rest training"
    share = facts.config.get("train_share", 1.0)
    used = "" if share == 1.0 else f" A share of {plain(share)} of the training patients was used."
    return f"{rule}.{used} {capital(sizes)}."


def disjoint(facts: Facts) -> str | None:
    """By patient, where split.csv shows it."""
    if facts.shared_patients is None or facts.shared_patients > 0:
        return None
    return (
        "By patient: no patient stands in two parts of split.csv. Patients who share a "
        "byte-identical image count as one."
    )


def characteristics(facts: Facts) -> str | None:
    """Class, size group and grade by part."""
    if not facts.parts or facts.label_names is None:
        return None
    told = []
    for name, part in facts.parts.items():
        counts = [_part(facts, part)]
        if set(part.sizes) - {""}:
            counts.append(f"size in cm {_counted(part.sizes, SIZE_GROUPS)}")
        if set(part.grades) - {""}:
            counts.append(f"TI-RADS {_counted(part.grades, TIRADS)}")
        told.append(f"{capital(name)}: {'; '.join(counts)}.")
    return " ".join(told)


def severity(facts: Facts) -> str | None:
    """Size groups and grades of the test part's class 1."""
    if not facts.parts or "test" not in facts.parts or facts.label_names is None:
        return None
    test = facts.parts["test"]
    told = []
    if set(test.positive_sizes) - {""}:
        told.append(f"size in cm {_counted(test.positive_sizes, SIZE_GROUPS)}")
    if set(test.positive_grades) - {""}:
        told.append(f"TI-RADS {_counted(test.positive_grades, TIRADS)}")
    if not told:
        return None
    return f"Of {test.by_label[1]} {facts.label_names[1]} in the test part: {'; '.join(told)}."


def part_differences(facts: Facts) -> str | None:
    """Share of class 1 by part."""
    if not facts.parts or facts.label_names is None or facts.source is None:
        return None
    shares = ", ".join(
        f"{name} {percent(part.by_label[1] / part.n)}"
        for name, part in facts.parts.items()
        if part.n
    )
    return (
        f"All parts come from one source ({facts.source}) by the same rules. Share of "
        f"{facts.label_names[1]}: {shares}."
    )


def _part(facts: Facts, part: Part) -> str:
    classes = "" if facts.label_names is None else f" ({_classes(facts.label_names, part)})"
    return f"{plural(part.n, facts.unit)} of {plural(part.n_patients, 'patient')}{classes}"


def _classes(names: tuple[str, str], part: Part) -> str:
    return f"{part.by_label[0]:,} {names[0]}, {part.by_label[1]:,} {names[1]}"


def _left_out(exclusions: dict[str, int]) -> str:
    if not exclusions:
        return "Left out: none."
    ordered = sorted(exclusions.items(), key=lambda item: (-item[1], item[0]))
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in ordered)
    return f"Left out: {sum(exclusions.values()):,} images or regions ({reasons})."


def _counted(counts: Counter[str], order: Iterable[str]) -> str:
    """Known groups in their order, then the others, then those not stated."""
    known = [*order]
    groups = [group for group in known if counts[group]]
    groups += sorted(set(counts) - {*known, ""})
    told = [f"{group}: {counts[group]}" for group in groups]
    return ", ".join(told + ([f"not stated: {counts['']}"] if counts[""] else []))
