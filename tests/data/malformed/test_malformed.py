"""Whatever is wrong with a set ends in lines that name the place, and builds nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from thyrojax.cli import main

Damage = Callable[[Path], None]
HEIGHT, WIDTH = 60, 80  # of all frames, see conftest


def put(name: str, content: bytes) -> Damage:
    return lambda folder: void((folder / name).write_bytes(content))


def swap(name: str, old: str, new: str) -> Damage:
    """Another text in the place of the first such."""

    def damage(folder: Path) -> None:
        text = (folder / name).read_text(encoding="utf-8")
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1), encoding="utf-8")

    return damage


def cut(name: str, part: float = 0.5) -> Damage:
    """Only the first part of the file is left."""

    def damage(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(len(content) * part)])

    return damage


def gone(name: str) -> Damage:
    def damage(folder: Path) -> None:
        if (folder / name).is_dir():
            shutil.rmtree(folder / name)
        else:
            (folder / name).unlink()

    return damage


def instead(name: str, make: Callable[[Path], object]) -> Damage:
    """Something else under the name of a file or folder."""

    def damage(folder: Path) -> None:
        gone(name)(folder)
        make(folder / name)

    return damage


def folder_instead(name: str) -> Damage:
    return instead(name, Path.mkdir)


def loop_instead(name: str) -> Damage:
    return instead(name, lambda path: path.symlink_to(path))


def pipe_instead(name: str) -> Damage:
    return instead(name, os.mkfifo)


def encoded(name: str, encoding: str) -> Damage:
    def damage(folder: Path) -> None:
        text = (folder / name).read_text(encoding="utf-8")
        (folder / name).write_bytes(text.replace("benign", "b\u00e9nin").encode(encoding))

    return damage


def image(name: str, array: np.ndarray) -> Damage:
    return lambda folder: void(cv2.imwrite(str(folder / name), array))


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG that says it is of that size, with these chunks after the header."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = [b"\x89PNG\r\n\x1a\n"]
    for kind, content in ((b"IHDR", header), *chunks, (b"IEND", b"")):
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        parts += [struct.pack(">I", len(content)), kind, content, checksum]
    return b"".join(parts)


# A few kB that would be 400 million pixels, and a few kB of text that would be 64 MB.
PIXEL_BOMB = png(20_000, 20_000, (b"IDAT", zlib.compress(b"\0" * 4_000_000, 9)))
TEXT_BOMB = png(80, 60, (b"zTXt", b"Comment\0\0" + zlib.compress(b"a" * 2**26, 9)))
JUNK = bytes(np.random.default_rng(0).integers(0, 256, 4000, dtype=np.uint8))
ENTITIES = (
    "".join(f'<!ENTITY e{i + 1} "{f"&e{i};" * 10}">' for i in range(9)).join(
        ('<!DOCTYPE x [<!ENTITY e0 "lol">', "]>")
    )
    + "<case><tirads>&e9;</tirads></case>"
).encode()


def both(first: Damage, second: Damage) -> Damage:
    def damage(folder: Path) -> None:
        first(folder)
        second(folder)

    return damage


def void(_: object) -> None:
    """Nothing, whatever was returned."""


GREY_16 = np.full((HEIGHT, WIDTH), 40_000, np.uint16)
WHITE = np.full((HEIGHT, WIDTH), 255, np.uint8)
XML_1, JPG_1 = "Annotations/000001.xml", "JPEGImages/000001.jpg"
DEEP_XML = b"<annotation>" + b"<object>" * 100_000
DEEP_JSON = b'{"shapes": ' + b"[" * 200_000


def nodule(place: str, value: Any) -> Damage:
    """Another value at a place such as "images/0/width" of the COCO file."""

    def damage(folder: Path) -> None:
        file = folder / "nodules.json"
        content: Any = json.loads(file.read_text())
        target = content
        *steps, last = [int(step) if step.isdecimal() else step for step in place.split("/")]
        for step in steps:
            target = target[step]
        target[last] = value
        file.write_text(json.dumps(content))

    return damage


DAMAGES: dict[str, dict[str, Damage]] = {
    "csv": {
        "binary junk": put("nodules.csv", JUNK),
        "an empty table": put("nodules.csv", b""),
        "a header alone": cut("nodules.csv", 0.4),
        "UTF-16": encoded("nodules.csv", "utf-16"),
        "Latin-1": encoded("nodules.csv", "latin-1"),
        "NUL bytes": put("nodules.csv", b"\0" * 500),
        "a folder for the table": folder_instead("nodules.csv"),
        "a link to itself": loop_instead("nodules.csv"),
        "a table that is gone": gone("nodules.csv"),
        "a quote without end": swap("nodules.csv", "p1", '"p1'),
        "a cell of 200 kB": swap("nodules.csv", "p1", "p" * 200_000),
        "an image name of 5 kB": swap("nodules.csv", "frames/a.png", "a" * 5000),
        "lines within a cell": swap("nodules.csv", "frames/a.png", '"x\ny\x1b[2J.png"'),
        "NUL in an image name": swap("nodules.csv", "frames/a.png", "a\0.png"),
        "lines within a label": swap("nodules.csv", "benign", '"be\nnign"'),
        "a box that is NaN": swap("nodules.csv", ",10,20", ",nan,20"),
        "a box outside": swap("nodules.csv", ",10,20,30", ",10,20,90"),
        "a box of no area": swap("nodules.csv", ",10,20,30", ",30,20,30"),
        "a huge number": swap("nodules.csv", ",10,20", f",{'9' * 400},20"),
        "an infinite size": swap("nodules.csv", ",8\n", ",1e999\n"),
        "a missing column": swap("nodules.csv", "patient_id", "patient"),
        "a missing cell": swap("nodules.csv", "benign,8", "benign"),
        "an unknown label": swap("nodules.csv", "benign", "2"),
        "an id twice": swap("nodules.csv", ",b,p2", ",a,p2"),
        "a truncated JPEG": cut("frames/b.jpg"),
        "a JPEG's header alone": cut("frames/b.jpg", 0.05),
        "an empty image": put("frames/a.png", b""),
        "a bomb of pixels": put("frames/a.png", PIXEL_BOMB),
        "a bomb of text": put("frames/a.png", TEXT_BOMB),
        "16 bits": image("frames/a.png", GREY_16),
        "a folder for an image": folder_instead("frames/a.png"),
        "a pipe for an image": pipe_instead("frames/a.png"),
    },
    "ddti": {
        "binary junk": put("1.xml", JUNK),
        "an empty XML": put("1.xml", b""),
        "a cut XML": cut("1.xml"),
        "entities that grow": put("1.xml", ENTITIES),
        "a folder for an XML": folder_instead("1.xml"),
        "an XML that links to itself": loop_instead("1.xml"),
        "an unknown grade": swap("1.xml", "<tirads>2", "<tirads>6"),
        "an unknown word": swap("1.xml", ">solid<", ">gaseous<"),
        "a mark without number": swap("1.xml", "<image>1</image>", ""),
        "an SVG that is no JSON": swap("1.xml", "<svg>[", "<svg>M 10 10"),
        "a point that is NaN": swap("1.xml", '"x": 10', '"x": NaN'),
        "a point of 400 digits": swap("1.xml", '"x": 10', f'"x": {"9" * 400}'),
        "a point that is text": swap("1.xml", '"x": 10', '"x": "10"'),
        "an empty image": put("1_1.jpg", b""),
        "an image that links to itself": loop_instead("1_1.jpg"),
    },
    "busbra": {
        "binary junk": put("bus_data.csv", JUNK),
        "a missing column": swap("bus_data.csv", "Case", "Cases"),
        "an unknown pathology": swap("bus_data.csv", "benign", "unclear"),
        "an empty case": swap("bus_data.csv", "-l,1,", "-l,,"),
        "an ID twice": swap("bus_data.csv", "bus_0002-l", "bus_0001-l"),
        "a truncated image": cut("Images/bus_0001-l.png"),
        "a mask of text": put("Masks/mask_0001-l.png", b"no mask"),
        "a mask of another size": image("Masks/mask_0001-l.png", WHITE[:-1]),
    },
    "tn3k": {
        "a folder that is gone": gone("test-mask"),
        "a file for a folder": instead("test-mask", lambda path: path.write_bytes(b"")),
        "no label list": gone("label4test.csv"),
        "an unknown label": swap("label4test.csv", ",1", ",2"),
        "a label list in UTF-16": encoded("label4test.csv", "utf-16"),
        "three cells": swap("label4test.csv", ",1", ",1,1"),
        "a white mask": image("test-mask/0000.jpg", WHITE),
        "a mask of another size": image("test-mask/0000.jpg", WHITE[:, :-1]),
        "a truncated mask": cut("test-mask/0000.jpg"),
        "an image that links to itself": loop_instead("test-image/0000.jpg"),
    },
    "tn5000": {
        "binary junk": put(XML_1, JUNK),
        "another class": swap(XML_1, "<name>0", "<name>2"),
        "an edge that is text": swap(XML_1, "<xmin>11", "<xmin>left"),
        "an image in two sets": put("ImageSets/Main/val.txt", b"000001\n"),
        "a set in UTF-16": put("ImageSets/Main/val.txt", "000001\n".encode("utf-16")),
        "a truncated JPEG": cut(JPG_1),
        "a folder that is gone": gone("Annotations"),
    },
    "voc": {
        "an empty XML": put(XML_1, b""),
        "another XML": put(XML_1, b"<html><body/></html>"),
        "entities that grow": put(XML_1, ENTITIES),
        "elements without end": put(XML_1, DEEP_XML),
        "a wrong encoding": put(XML_1, b"<?xml version='1.0' encoding='x'?><annotation/>"),
        "an unknown class": swap(XML_1, "benign", "nodule"),
        "an edge that is NaN": swap(XML_1, "<xmin>11", "<xmin>nan"),
        "a huge edge": swap(XML_1, "<xmax>40", f"<xmax>{'9' * 400}"),
        "a box outside": swap(XML_1, "<xmax>40", "<xmax>400"),
        "a box turned round": swap(XML_1, "<xmax>40", "<xmax>4"),
        "no box": swap(XML_1, "bndbox>", "box>"),
        "another size": swap(XML_1, "<width>80", "<width>81"),
        "another image's name": swap(XML_1, "000001.jpg", "000002.jpg"),
        "an XML that links to itself": loop_instead(XML_1),
        "lines within a class": swap(XML_1, "benign", "be\nnign"),
    },
    "masks": {
        "binary junk": put("labels.csv", JUNK),
        "no table": gone("labels.csv"),
        "a missing column": swap("labels.csv", "label", "class"),
        "an unknown label": swap("labels.csv", "benign", "maybe"),
        "an image twice": swap("labels.csv", "b.png", "a.png"),
        "an empty patient": swap("labels.csv", "benign,1", "benign,"),
        "a mask of greys": image("masks/a.png", WHITE // 3),
        "a mask of 16 bits": image("masks/a.png", GREY_16),
        "a bomb for a mask": put("masks/a.png", PIXEL_BOMB),
        "an image of two files": put("images/a.jpg", b""),
        "a file for a folder": instead("masks", lambda path: path.write_bytes(b"")),
    },
    "coco": {
        "binary junk": put("nodules.json", JUNK),
        "an empty file": put("nodules.json", b""),
        "a cut file": cut("nodules.json"),
        "nested without end": put("nodules.json", DEEP_JSON),
        "a list": put("nodules.json", b"[]"),
        "UTF-16": encoded("nodules.json", "utf-16"),
        "a key twice": swap("nodules.json", '"images"', '"images": [], "images"'),
        "a folder for the file": folder_instead("nodules.json"),
        "a link to itself": loop_instead("nodules.json"),
        "a pipe for the file": pipe_instead("nodules.json"),
        "images that are text": nodule("images", "all"),
        "a way out of the folder": nodule("images/0/file_name", "../../etc/passwd"),
        "a name of 5 kB": nodule("images/0/file_name", "a" * 5000 + "\n"),
        "half a character": nodule("images/0/file_name", "\ud800.png"),
        "another width": nodule("images/0/width", WIDTH + 1),
        "an id twice": nodule("images/1/id", 0),
        "an unknown image": nodule("annotations/0/image_id", [0]),
        "an unknown category": nodule("annotations/0/category_id", 7),
        "an unknown class": nodule("categories/0/name", "nodule"),
        "a box that is NaN": nodule("annotations/0/bbox", [float("nan"), 1, 2, 3]),
        "a box of 400 digits": nodule("annotations/0/bbox", [10**400, 1, 2, 3]),
        "a box of 5000 digits": swap("nodules.json", "10.5", "9" * 5000),
        "a box of three numbers": nodule("annotations/0/bbox", [1, 2, 3]),
        "a box outside": nodule("annotations/0/bbox", [70, 1, 20, 3]),
        "a negative box": nodule("annotations/0/bbox", [10, 1, -5, 3]),
        "an image cut short": cut("images/0.png"),
        "a bomb for an image": put("images/0.png", PIXEL_BOMB),
    },
    "labelme": {
        "binary junk": put("0.json", JUNK),
        "nested without end": put("0.json", DEEP_JSON),
        "a link to itself": loop_instead("0.json"),
        "no shapes": swap("0.json", '"shapes"', '"forms"'),
        "an unknown kind of shape": swap("0.json", '"rectangle"', '"ellipse"'),
        "an unknown class": swap("0.json", '"benign"', '"nodule"'),
        "a point that is infinite": swap("0.json", "[10, 20]", "[10, Infinity]"),
        "a point outside": swap("0.json", "[10, 20]", "[10, -20]"),
        "a single point": swap("0.json", "[10, 20], ", ""),
        "another height": swap("0.json", '"imageHeight": 60', '"imageHeight": 61'),
        "a way out of the folder": swap("0.json", '"0.png"', '"/etc/passwd"'),
        "an image that is no base64": swap("1.json", "iVBOR", "!"),
        "an image inside cut short": swap("1.json", "AAA", "AAAA"),
        "two files of one image": swap("1.json", '"1.png"', '"0.png"'),
        "an image of two files": put("0.jpg", b""),
    },
    "dicom": {
        "a cut file": cut("export/1.dcm", 0.7),
        "a cut header": cut("export/1.dcm", 0.06),
        "a table of junk": put("boxes.csv", JUNK),
        "a missing column": swap("boxes.csv", "label", "class"),
        "a box outside": swap("boxes.csv", ",10,20,40", ",10,20,400"),
        "a box that is NaN": swap("boxes.csv", ",10,20", ",nan,20"),
        "an unknown label": swap("boxes.csv", "45,0", "45,9"),
        "no key": gone("key.txt"),
        "a short key": put("key.txt", b"secret\n"),
        "no file": gone("export"),
        "junk for all files": both(put("export/1.dcm", JUNK), put("export/2.dcm", JUNK)),
    },
}
CASES = [(source, name) for source, damages in DAMAGES.items() for name in damages]


def build(source: str, tmp_path: Path, given: list[str]) -> int:
    out = str(tmp_path / "built" / "set")
    return main(["data", "build", source, "--quiet", "--out", out, "--from", *given])


def test_there_are_cases_of_every_source() -> None:
    from thyrojax.data.sources import SOURCES

    assert DAMAGES.keys() == set(SOURCES) - {"phantom"}
    assert len(CASES) >= 60
    assert min(map(len, DAMAGES.values())) >= 7


@pytest.mark.parametrize("source", DAMAGES)
def test_the_sets_are_whole_before_they_are_damaged(
    source: str, tmp_path: Path, make_set: Callable[[str], list[str]]
) -> None:
    assert build(source, tmp_path, make_set(source)) == 0
    assert json.loads((tmp_path / "built" / "set" / "data.json").read_text())["n_nodules"] == 2


@pytest.mark.parametrize(("source", "name"), CASES, ids=lambda value: value)
def test_a_damage_is_told_and_nothing_is_built(
    source: str,
    name: str,
    tmp_path: Path,
    make_set: Callable[[str], list[str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = make_set(source)
    DAMAGES[source][name](tmp_path / "set")
    assert build(source, tmp_path, given) == 2
    said = capsys.readouterr()
    assert said.out == ""
    first, *others = said.err.removesuffix("\n").split("\n")
    for line in (first.removeprefix("thyrojax: "), *others):
        assert re.fullmatch(r".+: found .+, expected .+", line), line
        assert str(tmp_path / "set") in line
        assert line.isprintable(), line
        assert len(line) < 600, line
    assert not (tmp_path / "built").exists() or not list((tmp_path / "built").iterdir())
