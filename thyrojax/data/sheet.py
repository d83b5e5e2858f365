"""The browsable sheet of a set: every nodule's frame, box, scan sector and windows on one page.

All geometry is computed here, by `crop.window` and `crop.is_cut`; the page's script only draws it.
"""

from __future__ import annotations

import base64
import os
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from thyrojax import files
from thyrojax.config import Border, Config, CropShape, MarginUnit
from thyrojax.data.crop import AROUND_BOX, Window, crop_opencv, is_cut, margin_pixels, window
from thyrojax.data.looking import Entry, LookedAt
from thyrojax.data.sector import find_sector
from thyrojax.data.sheet_page import sheet_page
from thyrojax.errors import ConfigError, DataError, ThyrojaxError
from thyrojax.shapes import UInt8
from thyrojax.vocabulary import SIZE_GROUPS, VOCABULARY, size_group

BORDERS: tuple[Border, ...] = get_args(Border)
MOST_EMBEDDED = 200  # nodules whose pictures the page itself holds; with more they lie beside it
SMALL = 288  # px, the longer side of a frame in the sheet
INPUT = 192  # px, side of an input as shown: the network's own, reduced
QUALITY = 88  # of the JPEG copies that are shown

# What a window's number says beside where it lies: sides on which it leaves the frame, and a cut.
LEFT, TOP, RIGHT, BOTTOM, CUT = 1, 2, 4, 8, 16

_OURS = re.compile(r"\d{6}(_small|_inputs)?\.jpg")
_SIZE_GROUP = "size_group"
_FEATURE_NAMES = {"tirads": "TI-RADS", _SIZE_GROUP: "size group (cm)", "margin": "nodule margin"}


@dataclass(frozen=True)
class Cuts:
    """Which windows a sheet shows: margins in `unit`, shapes, and what lies outside the frame."""

    margins: tuple[int, ...] = (0, 50, 100)
    shapes: tuple[CropShape, ...] = AROUND_BOX
    border: Border = "constant"
    unit: MarginUnit = "px"

    def __post_init__(self) -> None:
        """Raises ConfigError where a sheet of these windows makes no sense."""
        if not self.margins or min(self.margins) < 0 or len(set(self.margins)) < len(self.margins):
            found = " ".join(map(str, self.margins)) or "none"
            raise ConfigError(f"margins: found {found}, expected different whole numbers >= 0")
        if not self.shapes or len(set(self.shapes)) < len(self.shapes):
            found = " ".join(self.shapes) or "none"
            raise ConfigError(f"shapes: found {found}, expected different ones of {AROUND_BOX}")

    def pixels(self, entry: Entry, margin: int) -> int:
        """One of the margins in pixels of a nodule's frame.

        Raises:
          DataError: it is more than `crop.MOST_MARGIN`.
        """
        try:
            return margin_pixels(margin, self.unit, entry.pixel_spacing_mm)
        except ValueError as error:
            raise DataError(f"{entry.image_id}, {error}") from None

    def window(self, entry: Entry, margin: int, shape: CropShape) -> Window:
        """The window of a nodule at one of the margins."""
        pixels = self.pixels(entry, margin)
        return window(entry.box, pixels, shape, self.border, entry.height, entry.width)


def write_sheet(
    looked: LookedAt,
    out: Path,
    cuts: Cuts,
    limit: int | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Path | None:
    """Writes the page `out`; pictures inside it, or in a folder beside it for a large set.

    Up to `MOST_EMBEDDED` nodules the page needs nothing beside it. Else pictures go to the folder
    NAME_files, named by position in the set. `limit` shows the first so many nodules.

    Returns:
      The folder of pictures; None where there is none.

    Raises:
      ConfigError: a limit below 1.
      DataError: a frame cannot be read, or margins are in mm and a nodule has no pixel spacing.
      ThyrojaxError: the page or its folder cannot be written; what stood there is as it was.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"limit: found {limit}, expected a whole number >= 1")
    entries = looked.entries[:limit]
    unscaled = [entry.image_id for entry in entries if not entry.pixel_spacing_mm]
    if cuts.unit == "mm" and unscaled:
        raise DataError(
            f"{looked.name}, {unscaled[0]}: found no pixel spacing (of {len(unscaled)} of "
            f"{len(entries)} nodules), expected one for margins in mm"
        )
    if len(entries) <= MOST_EMBEDDED:
        content = sheet_content(looked, entries, cuts, _embedded, say)
        files.write_whole(out, sheet_page(content).encode())
        return None
    folder = out.with_name(f"{out.stem}_files")
    _refuse_foreign(folder)
    with files.new_folder(folder) as partial:

        def keep(name: str, jpeg: bytes) -> str:
            (partial / name).write_bytes(jpeg)
            return f"{folder.name}/{name}"

        page = sheet_page(sheet_content(looked, entries, cuts, keep, say)).encode()
        out.unlink(missing_ok=True)  # at no time a page with another set's pictures
    files.write_whole(out, page)
    return folder


def sheet_content(
    looked: LookedAt,
    entries: Sequence[Entry],
    cuts: Cuts,
    keep: Callable[[str, bytes], str],
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """All that the page's script draws, as JSON takes it.

    Args:
      entries: the first ones of `looked`.
      keep: puts a JPEG file of that name away and returns its address.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for i, entry in enumerate(entries):
        members[entry.frame_key].append(i)

    def draw(indices: list[int]) -> tuple[list[Any], list[str]]:
        image, first = looked.frame(indices[0]), entries[indices[0]]
        frame = [
            first.width,
            first.height,
            keep(f"{indices[0]:06d}_small.jpg", _jpeg(_reduced(image))),
            keep(f"{indices[0]:06d}.jpg", _jpeg(image)),
            sector_path(image),
        ]
        inputs = [
            keep(f"{i:06d}_inputs.jpg", _jpeg(draw_inputs(image, entries[i], cuts)))
            for i in indices
        ]
        return frame, inputs

    frames: list[list[Any]] = []
    frame_of: dict[int, int] = {}
    inputs_of: dict[int, str] = {}
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        drawn = pool.map(draw, members.values())
        for indices, (frame, inputs) in zip(members.values(), drawn, strict=True):
            for i, address in zip(indices, inputs, strict=True):
                frame_of[i], inputs_of[i] = len(frames), address
            frames.append(frame)
            if len(frames) % 500 == 0:
                say(f"{len(frames)} of {len(members)} frames")

    features = _stated_features(entries)
    info = looked.info
    return {
        "name": looked.name,
        "source": info["source"],
        "subject": info["subject"],
        "labels": list(info["label_names"]),
        "masked": bool(info.get("mask_overlay", False)),
        "n_patients": len({entry.patient_id for entry in entries}),
        "n_nodules": len(looked.entries) if looked.dataset else info["n_nodules"],
        "margins": list(cuts.margins),
        "unit": cuts.unit,
        "shapes": list(cuts.shapes),
        "border": cuts.border,
        "features": [
            {"name": _FEATURE_NAMES.get(key, key), "words": list(words)}
            for key, words in features.items()
        ],
        "frames": frames,
        "entries": [
            {
                "id": entry.image_id,
                "patient": entry.patient_id,
                "label": entry.label,
                "reader": entry.reader_label,
                "size": None if entry.size_mm is None else round(entry.size_mm, 2),
                "spacing": entry.pixel_spacing_mm and round(entry.pixel_spacing_mm, 4),
                "box": list(entry.box),
                "frame": frame_of[i],
                "inputs": inputs_of[i],
                "features": [
                    words.index(word) if (word := feature_word(entry, key)) else -1
                    for key, words in features.items()
                ],
                "windows": window_numbers(entry, cuts),
            }
            for i, entry in enumerate(entries)
        ],
    }


def window_numbers(entry: Entry, cuts: Cuts) -> list[int]:
    """left, top, width, height and flags of every window: margins outside, shapes inside."""
    numbers: list[int] = []
    for margin in cuts.margins:
        for shape in cuts.shapes:
            cut = cuts.window(entry, margin, shape)
            flags = CUT if is_cut(entry.box, cuts.pixels(entry, margin), shape) else 0
            numbers += [*cut, flags | outside(cut, entry.height, entry.width)]
    return numbers


def outside(cut: Window, height: int, width: int) -> int:
    """The sides on which a window leaves a frame of that size, as a sum of LEFT ... BOTTOM."""
    return (
        LEFT * (cut.left < 0)
        + TOP * (cut.top < 0)
        + RIGHT * (cut.left + cut.width > width)
        + BOTTOM * (cut.top + cut.height > height)
    )


def draw_inputs(
    image: UInt8[np.ndarray, "height width"], entry: Entry, cuts: Cuts
) -> UInt8[np.ndarray, "rows columns"]:
    """The network's input of every window, reduced to INPUT px: a row a margin, a column a shape.

    Each is cut and resized to the network's input size as in training, then reduced by area.
    """
    import cv2

    size = Config().input_size
    rows = []
    for margin in cuts.margins:
        row = []
        for shape in cuts.shapes:
            cut = cuts.window(entry, margin, shape)
            whole = crop_opencv(image, cut, size, cuts.border)
            row.append(cv2.resize(whole, (INPUT, INPUT), interpolation=cv2.INTER_AREA))
        rows.append(np.concatenate(row, axis=1))
    return np.concatenate(rows).round().astype(np.uint8)


def sector_path(image: UInt8[np.ndarray, "height width"]) -> str:
    """The scan sector's outline as an SVG path in pixels; "" where no sector stands out."""
    import cv2

    sector = find_sector(image)
    if sector.all():
        return ""
    outlines, _ = cv2.findContours(
        sector.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )
    paths = []
    for outline in outlines:
        points = cv2.approxPolyDP(outline, 1.5, True)[:, 0]
        # OpenCV's outlines run through pixel centres.
        paths.append("M" + "L".join(f"{x + 0.5:g} {y + 0.5:g}" for x, y in points.tolist()) + "Z")
    return "".join(paths)


def feature_word(entry: Entry, key: str) -> str:
    """The category of a nodule's feature; "" where it is not stated."""
    if key == _SIZE_GROUP:
        return size_group(entry.size_mm)
    word: str | None = getattr(entry, key)
    return word or ""


def _stated_features(entries: Sequence[Entry]) -> dict[str, tuple[str, ...]]:
    """The categories that occur, in the vocabulary's order, of each feature that is stated."""
    stated = {}
    order = {"tirads": VOCABULARY["tirads"], _SIZE_GROUP: SIZE_GROUPS, **VOCABULARY}
    for key, words in order.items():
        found = {feature_word(entry, key) for entry in entries} - {""}
        if found:
            stated[key] = (*(w for w in words if w in found), *sorted(found - set(words)))
    return stated


def _reduced(image: UInt8[np.ndarray, "height width"]) -> np.ndarray:
    import cv2

    height, width = image.shape
    scale = SMALL / max(height, width)
    if scale >= 1.0:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _jpeg(image: np.ndarray) -> bytes:
    import cv2

    content: bytes = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
    return content


def _embedded(name: str, jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def _refuse_foreign(folder: Path) -> None:
    """Only a folder that an earlier sheet left is replaced."""
    if not folder.exists():
        return
    foreign = None
    if not folder.is_dir():
        foreign = "a file"
    else:
        for path in folder.iterdir():
            if not _OURS.fullmatch(path.name):
                foreign = f"{path.name} in it"
                break
    if foreign:
        raise ThyrojaxError(
            f"{folder}: found {foreign}, expected no such folder, or an earlier sheet's pictures"
        )
