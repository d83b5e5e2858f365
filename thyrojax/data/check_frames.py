"""What the frames of a source tell that its annotations do not: shared pictures, burnt-in marks."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass

from thyrojax.data import near_duplicates
from thyrojax.data.burnt_in import find_text
from thyrojax.data.dataset import frame_digest
from thyrojax.data.records import Box, Nodule, SourceData, load_image
from thyrojax.data.sector import find_sector

SHOWN = 10  # pairs or groups of frames; the rest is counted
EXAMPLES = 5  # frames with marks
SEARCHED = 300  # frames, evenly over the source


@dataclass(frozen=True)
class Findings:
    """What was found; frames are called by the image id of their first nodule."""

    n_frames: int
    threshold: float  # of near-duplicates; 0 = not looked for
    identical: tuple[tuple[str, ...], ...]  # groups of equal frames of different patients
    near: tuple[tuple[str, str, float], ...]  # of different patients, with their similarity
    n_searched: int  # frames searched for marks
    marked: dict[str, tuple[Box, ...]]  # those with marks inside their scan sector
    seconds: float


def look(data: SourceData, threshold: float, most_searched: int = SEARCHED) -> Findings:
    """Looks for frames that patients share, and for marks inside the scan sector.

    With a `threshold` every frame is decoded, hashed and compared (see `near_duplicates.find`);
    with 0 only those `most_searched` that are searched for marks are decoded, about 30 ms each.

    Raises:
      DataError: a frame cannot be decoded.
    """
    start = time.perf_counter()
    frames = list({(n.image, n.patient_id): n for n in reversed(data.nodules)}.values())[::-1]
    step = max(1, -(-len(frames) // most_searched)) if most_searched else len(frames) + 1
    hashes, digests, marked = [], [], {}
    for i, nodule in enumerate(frames):
        search = most_searched > 0 and i % step == 0
        if not (search or threshold):
            continue
        frame = load_image(nodule.image)
        if threshold:
            hashes.append(near_duplicates.perceptual_hash(frame))
            digests.append(frame_digest(frame))
        if search and (boxes := find_text(frame, find_sector(frame))):
            marked[nodule.image_id] = tuple(boxes)
    pairs = []
    if threshold:
        patients = [nodule.patient_id for nodule in frames]
        pairs = near_duplicates.find(
            hashes, lambda i: load_image(frames[i].image), patients, threshold, digests
        )
    return Findings(
        n_frames=len(frames),
        threshold=threshold,
        identical=_identical(frames, digests),
        near=tuple(
            (frames[p.first].image_id, frames[p.second].image_id, p.similarity) for p in pairs
        ),
        n_searched=len(frames[::step]) if most_searched else 0,
        marked=marked,
        seconds=time.perf_counter() - start,
    )


def _identical(frames: list[Nodule], digests: list[str]) -> tuple[tuple[str, ...], ...]:
    groups: dict[str, list[Nodule]] = defaultdict(list)
    for nodule, digest in zip(frames, digests, strict=False):
        groups[digest].append(nodule)
    return tuple(
        tuple(nodule.image_id for nodule in group)
        for group in groups.values()
        if len({nodule.patient_id for nodule in group}) > 1
    )


def format_findings(findings: Findings) -> str:
    """The findings as lines of plain text."""
    f = findings
    lines = [f"  {'frames':<34}{f.n_frames:>8}  looked at in {f.seconds:.1f} s"]

    def listed(name: str, entries: list[str], note: str = "") -> None:
        lines.append(f"  {name:<34}{len(entries):>8}  {note}".rstrip())
        lines.extend(f"    {entry}" for entry in entries[:SHOWN])
        if len(entries) > SHOWN:
            lines.append(f"    and {len(entries) - SHOWN} more")

    if f.threshold:
        listed(
            "identical frames, several patients",
            [_shortened(" = ".join(group)) for group in f.identical],
            "groups",
        )
        listed(
            "near-duplicates, several patients",
            [f"{one} ~ {other} {similarity:.3f}" for one, other, similarity in f.near],
            f"pairs with a similarity of {f.threshold:g} or more",
        )
    else:
        lines.append("  identical and near-duplicate frames were not looked for")
    if f.n_searched:
        some = "" if f.n_searched == f.n_frames else ", evenly over the source"
        lines.append(
            f"  {'marks inside the scan sector':<34}{len(f.marked):>8}  "
            f"of {f.n_searched} frames searched{some}"
        )
    if f.marked:
        names = list(f.marked)
        examples = ", ".join(names[:EXAMPLES]) + (" ..." if len(names) > EXAMPLES else "")
        lines.append(f"    {_shortened(examples)}")
        lines.append("    warning: text or calipers are burnt into the echoes; masking keeps them")
    return "\n".join(lines) + "\n"


def rows(findings: Findings) -> list[tuple[str, str, str]]:
    """(image_id, reason, detail) of what was found, beside a source's exclusions.

    The reasons begin with "kept": nothing of it is left out.
    """
    f = findings
    return [
        *(
            (name, "kept: frame identical to another patient's", " ".join(group))
            for group in f.identical
            for name in group
        ),
        *(
            (one, "kept: near-duplicate of another patient's frame", f"{other} {similarity:.4f}")
            for one, other, similarity in f.near
        ),
        *(
            (
                name,
                "kept: marks inside the scan sector",
                "; ".join(" ".join(map(str, b)) for b in boxes),
            )
            for name, boxes in f.marked.items()
        ),
    ]


def _shortened(text: str, width: int = 96) -> str:
    return text if len(text) <= width else text[: width - 4] + " ..."
