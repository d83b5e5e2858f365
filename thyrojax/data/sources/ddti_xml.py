"""The XML of one DDTI case: grade, features, and the regions drawn in each of its images."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from thyrojax.data.records import Box, box_outward
from thyrojax.data.sources.json_items import finite
from thyrojax.data.sources.xml_tree import read_tree
from thyrojax.errors import Fault
from thyrojax.vocabulary import TIRADS, normalise

# DDTI's words -> ours, only where they mean the same; None where they are known and do not.
FEATURES: dict[str, dict[str, str | None]] = {
    "composition": {
        "solid": "solid",
        "cystic": "cystic",
        "spongiform": "spongiform",
        "predominantly_solid": None,  # Kwak et al. 2011 grade it apart from solid
        "predominantly_cystic": None,
        "dense": None,
    },
    "echogenicity": {
        "hyperechogenicity": "hyperechoic",
        "isoechogenicity": "isoechoic",
        "hypoechogenicity": "hypoechoic",
        "marked_hypoechogenicity": "markedly_hypoechoic",
    },
    "calcifications": {
        "non": "none",
        "none": "none",
        "microcalcification": "micro",
        "microcalcifications": "micro",
        "macrocalcification": "macro",
        "macrocalcifications": "macro",
    },
    "margins": {
        "well_defined_smooth": "smooth",
        "well_defined": None,  # a lobulated margin can be well defined
        "ill_defined": "ill_defined",
        "spiculated": "irregular",
        "microlobulated": "lobulated",
        "macrolobulated": "lobulated",
    },
}


@dataclass(frozen=True)
class Region:
    """One outline: points (x, y) in pixels of the image, and what it was drawn as."""

    points: tuple[tuple[float, float], ...]
    kind: str  # "freehand", "arrow", ...

    @property
    def box(self) -> Box:
        """The points' bounding box, rounded outward; of no area where there are no points."""
        xs = [x for x, _ in self.points] or [0.0]
        ys = [y for _, y in self.points] or [0.0]
        return box_outward(min(xs), min(ys), max(xs), max(ys))


@dataclass
class Mark:
    """The regions of one image, and whether the text breaks off within a further one."""

    regions: list[Region] = field(default_factory=list)
    cut_off: bool = False


@dataclass(frozen=True)
class Case:
    """What an XML says of a case. Features are None where unknown or not in our vocabulary."""

    tirads: str | None
    composition: str | None
    echogenicity: str | None
    calcification: str | None
    margin: str | None
    marks: dict[str, Mark]  # by the image's name, "N_i"


def read_case(file: Path, faults: list[Fault]) -> Case | None:
    """Reads N.xml. None, with a fault, where it cannot be parsed.

    Faults also: a grade or word outside DDTI's lists, a mark without image number, and an SVG or a
    region that is not of DDTI's form.
    """
    root = read_tree(file, "a plain case of DDTI", faults)
    if root is None:
        return None
    tirads = (root.findtext("tirads") or "").strip().lower()
    if tirads and tirads not in TIRADS:
        faults.append(Fault(str(file), "tirads", repr(tirads), f"one of {', '.join(TIRADS)}"))
    marks: dict[str, Mark] = {}
    for mark in root.iter("mark"):
        number = (mark.findtext("image") or "").strip()
        if not number:
            faults.append(Fault(str(file), "mark", "no image number", "an <image> in each <mark>"))
            continue
        read = _read_svg(mark.findtext("svg") or "", str(file), f"image {number}", faults)
        known = marks.setdefault(f"{file.stem}_{number}", Mark())
        known.regions += read.regions
        known.cut_off |= read.cut_off
    return Case(
        tirads=tirads or None,
        composition=_feature(root, "composition", file, faults),
        echogenicity=_feature(root, "echogenicity", file, faults),
        calcification=_feature(root, "calcifications", file, faults),
        margin=_feature(root, "margins", file, faults),
        marks=marks,
    )


def _feature(root: Element, tag: str, file: Path, faults: list[Fault]) -> str | None:
    word = (root.findtext(tag) or "").strip()
    if not word:
        return None
    if normalise(word) not in FEATURES[tag]:
        known = ", ".join(name.replace("_", " ") for name in FEATURES[tag])
        faults.append(Fault(str(file), tag, repr(word), f"one of {known}"))
    return FEATURES[tag].get(normalise(word))


def _read_svg(svg: str, file: str, place: str, faults: list[Fault]) -> Mark:
    """The whole regions of a JSON list that may break off anywhere."""
    text = svg.strip()
    mark = Mark()
    if not text:
        return mark
    if not text.startswith("["):
        faults.append(Fault(file, place, f"an SVG of {text[:20]!r}...", "a JSON list of regions"))
        return mark
    decoder = json.JSONDecoder()
    position = 1
    while True:
        rest = text[position:].lstrip(" \t\r\n,")
        if rest == "]":
            return mark
        try:
            value, length = decoder.raw_decode(rest)
        except (ValueError, RecursionError):  # the end of the text, or no JSON from here on
            mark.cut_off = True
            return mark
        region = _region(value)
        if region is None:
            expected = "an object with points of finite x and y"
            faults.append(Fault(file, place, f"a region of {rest[:40]!r}...", expected))
        else:
            mark.regions.append(region)
        position = len(text) - len(rest) + length


def _region(value: Any) -> Region | None:
    if not isinstance(value, dict) or not isinstance(value.get("points"), list):
        return None
    points = []
    for point in value["points"]:
        x, y = (point.get("x"), point.get("y")) if isinstance(point, dict) else (None, None)
        x, y = finite(x), finite(y)
        if x is None or y is None:
            return None
        points.append((x, y))
    return Region(tuple(points), str(value.get("regionType", "")))
