"""One Pascal VOC annotation: the XML of an image, with a class and a box for each object."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element

from thyrojax.data.sources.xml_tree import read_tree
from thyrojax.errors import Fault

EDGES = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class VocObject:
    """One object: where it stands in the file, its class, and its four edges as written."""

    place: str  # "object 2"
    name: str
    edges: tuple[float, float, float, float]  # xmin, ymin, xmax, ymax
    difficult: bool
    truncated: bool


@dataclass(frozen=True)
class Sheet:
    """An annotation. `size` is (width, height) in pixels, None where the file does not say it."""

    filename: str
    size: tuple[int, int] | None
    objects: tuple[VocObject, ...]


def read_sheet(file: Path, faults: list[Fault]) -> Sheet | None:
    """Reads one annotation. None, with a fault, where it is no XML of VOC's form.

    Faults also: a size or an edge that is no number, and an object without class or box, which is
    left out of the sheet. Nested objects (the `part`s of VOC's persons) are not read.
    """
    root = read_tree(file, "a plain VOC annotation", faults)
    if root is None:
        return None
    if root.tag != "annotation":
        faults.append(Fault(str(file), "", f"XML of <{root.tag[:40]}>", "VOC's <annotation>"))
        return None
    objects = []
    for number, element in enumerate(root.findall("object"), start=1):
        read = _read_object(element, str(file), f"object {number}", faults)
        if read is not None:
            objects.append(read)
    return Sheet(
        filename=(root.findtext("filename") or "").strip(),
        size=_read_size(root.find("size"), str(file), faults),
        objects=tuple(objects),
    )


def _read_size(element: Element | None, file: str, faults: list[Fault]) -> tuple[int, int] | None:
    """Width and height; None where they are missing or 0, as some tools write for not known."""
    if element is None:
        return None
    sides = []
    for side in ("width", "height"):
        text = (element.findtext(side) or "0").strip()
        value = _number(text)
        if value is None or value != int(value) or value < 0:
            faults.append(Fault(file, "size", f"{side} {text[:40]!r}", "a whole number of pixels"))
            return None
        sides.append(int(value))
    return (sides[0], sides[1]) if all(sides) else None


def _read_object(element: Element, file: str, place: str, faults: list[Fault]) -> VocObject | None:
    before = len(faults)
    name = " ".join((element.findtext("name") or "").split())
    if not name:
        faults.append(Fault(file, place, "no class", "its <name>"))
    box = element.find("bndbox")
    edges = []
    if box is None:
        faults.append(Fault(file, place, "no box", "a <bndbox>"))
    else:
        for edge in EDGES:
            text = (box.findtext(edge) or "").strip()
            value = _number(text)
            if value is None:
                faults.append(Fault(file, place, f"{edge} {text[:40]!r}", "a finite number"))
            else:
                edges.append(value)
    if len(faults) > before:
        return None
    x_min, y_min, x_max, y_max = edges
    return VocObject(
        place=place,
        name=name,
        edges=(x_min, y_min, x_max, y_max),
        difficult=(element.findtext("difficult") or "").strip() == "1",
        truncated=(element.findtext("truncated") or "").strip() == "1",
    )


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
