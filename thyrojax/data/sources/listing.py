"""What the sources of image folders share: files by their name, and ids that are unique."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from thyrojax.data.records import Nodule
from thyrojax.errors import Fault

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")


def files_by_stem(folder: Path, suffixes: Sequence[str], faults: list[Fault]) -> dict[str, Path]:
    """The folder's own files of these kinds by their name without extension, in order of name.

    Hidden files are none: some systems leave "._0001.jpg" beside "0001.jpg". Two files of one name
    are a fault, since an annotation could mean either; so is a link to nothing.
    """
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() not in suffixes or file.name.startswith("."):
            continue
        if file.is_symlink() and not os.path.exists(file):
            faults.append(Fault(str(file), "", "a link that leads nowhere", "a file"))
        if not file.is_file():
            continue
        if file.stem in found:
            again = f"the name of {found[file.stem].name} again"
            faults.append(Fault(str(file), "", again, "one file of each name"))
        found.setdefault(file.stem, file)
    return found


def check_unique(nodules: Iterable[Nodule], faults: list[Fault]) -> None:
    """Adds a fault where "1-2", nodule 2 of image 1, is also the name of an image."""
    first: dict[str, Nodule] = {}
    for nodule in nodules:
        other = first.setdefault(nodule.image_id, nodule)
        if other is not nodule:
            found = f"the name {nodule.image_id!r}, which a nodule of {other.image} has"
            faults.append(Fault(str(nodule.image), "", found, "another name of one of the two"))


def identical_images(digests: dict[str, str]) -> list[list[str]]:
    """Groups of names whose files have the same bytes, by the sha256 of each."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name, digest in digests.items():
        groups[digest].append(name)
    return [names for names in groups.values() if len(names) > 1]


def note_of_identical(groups: list[list[str]]) -> list[str]:
    """The note that says how many there are; none where there are none."""
    if not groups:
        return []
    images = sum(len(names) for names in groups)
    return [f"Groups of byte-identical images: {len(groups)}, images in them: {images}."]
