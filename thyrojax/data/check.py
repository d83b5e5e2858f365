"""Say what a source holds before anything is built from it, and write out what is wrong with it."""

from __future__ import annotations

import statistics
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thyrojax import files
from thyrojax.data.records import Nodule, SourceData
from thyrojax.data.sources import read_source, source_kind
from thyrojax.data.sources.reading import NO_IMAGE_FILE
from thyrojax.errors import DataFaults
from thyrojax.vocabulary import SIZE_GROUPS, VOCABULARY, size_group

UNKNOWN = "not known"


@dataclass(frozen=True)
class Summary:
    """The counts of a source. Sides are in pixels, as minimum, median and maximum."""

    source: str
    subject: str
    n_images: int
    n_images_used: int  # with at least one nodule
    n_images_excluded: int  # without any
    n_nodules: int
    n_patients: int
    labels: dict[str, int]
    label_patients: dict[str, int]  # patients with a nodule of that label
    features: dict[str, dict[str, int]]  # size group and each vocabulary: category -> nodules
    reader_labels: int  # nodules with a radiologist's call
    pixel_spacings: int  # nodules with a pixel spacing
    widths: tuple[float, float, float] | None
    heights: tuple[float, float, float] | None
    n_taller: int  # boxes taller than wide
    images_by_nodules: dict[int, int]  # nodules in an image -> images
    patients_by_images: dict[int, int]  # images of a patient -> patients
    exclusions: dict[str, tuple[int, int]]  # reason -> entries, images
    notes: tuple[str, ...]  # the source's own


def check_source(name: str, path: Path | None, **options: Any) -> tuple[SourceData, str]:
    """Reads a source (`options` as `read_source`) and describes it in a table of plain text.

    Raises:
      DataError: no such source or folder, or nothing usable in it.
      DataFaults: faults in the files, all of them together.
    """
    data = read_source(name, path, **options)
    return data, format_summary(summarise(data))


def summarise(data: SourceData) -> Summary:
    """Counts a source, and checks that each of its images is a nodule's or excluded.

    Raises:
      AssertionError: the source lost an image (our fault).
    """
    kind = source_kind(data.source)
    by_image = Counter(nodule.image for nodule in data.nodules)
    used = {name for nodule in data.nodules for name in _image_names(nodule)}
    excluded = {
        exclusion.image_id for exclusion in data.exclusions if exclusion.reason != NO_IMAGE_FILE
    } - used
    if len(by_image) + len(excluded) != data.n_images:
        raise AssertionError(
            f"source {data.source}: {len(by_image)} images with a nodule and {len(excluded)} "
            f"excluded are not the {data.n_images} images found"
        )
    patients = {nodule.patient_id for nodule in data.nodules}
    images_of = Counter(patient for patient, _ in {(n.patient_id, n.image) for n in data.nodules})
    widths = [nodule.box.width for nodule in data.nodules]
    heights = [nodule.box.height for nodule in data.nodules]
    return Summary(
        source=data.source,
        subject=kind.subject,
        n_images=data.n_images,
        n_images_used=len(by_image),
        n_images_excluded=len(excluded),
        n_nodules=len(data.nodules),
        n_patients=len(patients),
        labels={
            name: sum(nodule.label == label for nodule in data.nodules)
            for label, name in enumerate(kind.label_names)
        },
        label_patients={
            name: len({nodule.patient_id for nodule in data.nodules if nodule.label == label})
            for label, name in enumerate(kind.label_names)
        },
        features=_count_features(data),
        reader_labels=sum(nodule.reader_label is not None for nodule in data.nodules),
        pixel_spacings=sum(nodule.pixel_spacing_mm is not None for nodule in data.nodules),
        widths=_spread(widths),
        heights=_spread(heights),
        n_taller=sum(h > w for w, h in zip(widths, heights, strict=True)),
        images_by_nodules=dict(sorted(Counter(by_image.values()).items())),
        patients_by_images=dict(sorted(Counter(images_of.values()).items())),
        exclusions={
            reason: (
                count,
                len({entry.image_id for entry in data.exclusions if entry.reason == reason}),
            )
            for reason, count in Counter(entry.reason for entry in data.exclusions).most_common()
        },
        notes=data.notes,
    )


def format_summary(summary: Summary) -> str:
    """The counts as lines of plain text, readable in a log."""
    s = summary
    lines = [f"{s.source}: {s.subject}", ""]

    def row(name: str, value: object, note: str = "") -> None:
        lines.append(f"  {name:<34}{value!s:>8}  {note}".rstrip())

    row("images found", s.n_images)
    row("  with a nodule", s.n_images_used)
    row("  wholly excluded", s.n_images_excluded)
    row("nodules", s.n_nodules)
    row("patients", s.n_patients)
    for name, count in s.labels.items():
        row(
            f"  {name}", count, f"{_percent(count, s.n_nodules)}, patients {s.label_patients[name]}"
        )
    for feature, counts in s.features.items():
        known = s.n_nodules - counts[UNKNOWN]
        row(feature, known, "known" if known else "known: not stated by this source")
        for category, count in counts.items():
            if known and (count or category == UNKNOWN):
                row(f"  {category}", count)
    row("reader's call", s.reader_labels, "known")
    row("pixel spacing", s.pixel_spacings, "known")
    if s.widths and s.heights:
        row("box width (px)", "", "min {:g}, median {:g}, max {:g}".format(*s.widths))
        row("box height (px)", "", "min {:g}, median {:g}, max {:g}".format(*s.heights))
        row("boxes taller than wide", s.n_taller, _percent(s.n_taller, s.n_nodules))
    for nodules, images in s.images_by_nodules.items():
        row(f"images with {_plural(nodules, 'nodule')}", images)
    for images, patients in s.patients_by_images.items():
        row(f"patients with {_plural(images, 'image')}", patients)
    lines += ["", f"  {'left out, by reason':<34}{'entries':>8}{'images':>8}"]
    for reason, (entries, images) in s.exclusions.items():
        lines.append(f"  {reason:<34}{entries:>8}{images:>8}")
    if not s.exclusions:
        lines.append("  nothing")
    if s.notes:
        lines.append("")
    for note in s.notes:
        lines += textwrap.wrap(f"note: {note}", 100, subsequent_indent="  ", break_on_hyphens=False)
    lines += [
        "",
        f"accounted for: {s.n_images_used} images with a nodule + {s.n_images_excluded} "
        f"wholly excluded = {s.n_images} found",
    ]
    return "\n".join(lines) + "\n"


def write_csv(
    content: SourceData | DataFaults, path: Path, more: Sequence[tuple[str, str, str]] = ()
) -> None:
    """Writes what a source left out (image_id, reason, detail), or its faults (file, row, found,
    expected), as CSV. What stood at `path` is replaced only by a whole file. `more` are further
    rows after what was left out (`check_frames.rows`).

    Raises:
      ThyrojaxError: the file cannot be written there.
    """
    if isinstance(content, DataFaults):
        header = ["file", "row", "found", "expected"]
        rows = [[fault.file, fault.row, fault.found, fault.expected] for fault in content.faults]
    else:
        header = ["image_id", "reason", "detail"]
        rows = [[entry.image_id, entry.reason, entry.detail] for entry in content.exclusions]
        rows += [list(row) for row in more]
    files.write_csv(path, [header, *rows])


def _image_names(nodule: Nodule) -> set[str]:
    """The names by which exclusions may call a nodule's image: its id, and less its "-k".

    The latter is another image's name where the id is the image's own path without suffix.
    """
    name, _, number = nodule.image_id.rpartition("-")
    if isinstance(nodule.image, Path):
        path = nodule.image.with_suffix("").as_posix()
        if f"/{path}".endswith(f"/{nodule.image_id}"):
            return {nodule.image_id}
    return {nodule.image_id, name} if number.isdecimal() else {nodule.image_id}


def _count_features(data: SourceData) -> dict[str, dict[str, int]]:
    """Nodules by size group and by each vocabulary's categories, with those of unknown category."""
    counts = {}
    categories = {"tirads": VOCABULARY["tirads"], "size group (cm)": SIZE_GROUPS, **VOCABULARY}
    for feature, words in categories.items():
        if feature == "size group (cm)":
            found = Counter(size_group(nodule.size_mm) or UNKNOWN for nodule in data.nodules)
        else:
            found = Counter(getattr(nodule, feature) or UNKNOWN for nodule in data.nodules)
        counts[feature] = {word: found[word] for word in (*words, UNKNOWN)}
    return counts


def _spread(values: list[int]) -> tuple[float, float, float] | None:
    if not values:
        return None
    return float(min(values)), float(statistics.median(values)), float(max(values))


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "none"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
