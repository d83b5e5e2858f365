"""JSON files of annotations: read whole, each wrong thing named by its place in the file."""

from __future__ import annotations

import json
import math
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from thyrojax.data.records import Box, box_outward
from thyrojax.errors import Fault

Identity = int | str

CLIPPED = 1.0  # px beyond an image that are rounding, not a mistake


@dataclass(frozen=True)
class Item:
    """A JSON object at `place` ("annotations[3]"; "" = the whole file) of `file`.

    Each method reads one key; what is missing or of another kind is added to `faults`, and gives
    None. A value that comes back can be printed in one line.
    """

    file: str
    place: str
    content: dict[str, Any]
    faults: list[Fault]

    def at(self, key: str) -> str:
        return f"{self.place}.{key}" if self.place else key

    def fault(self, key: str, found: str, expected: str) -> None:
        self.faults.append(Fault(self.file, self.at(key), found, expected))

    def has(self, key: str) -> bool:
        return self.content.get(key) is not None

    def text(self, key: str) -> str | None:
        value = self.content.get(key)
        if isinstance(value, str) and value.strip() and value.isprintable():
            return value
        self.fault(key, self._found(key), "printable text")
        return None

    def identity(self, key: str) -> Identity | None:
        value = self.content.get(key)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if isinstance(value, str) and value.strip() and value.isprintable():
            return value
        self.fault(key, self._found(key), "a whole number or printable text")
        return None

    def numbers(self, key: str, count: int) -> tuple[float, ...] | None:
        """A list of finite numbers of that length."""
        values = self.content.get(key)
        if isinstance(values, list) and len(values) == count:
            numbers = [finite(value) for value in values]
            if None not in numbers:
                return tuple(number for number in numbers if number is not None)
        self.fault(key, self._found(key), f"a list of {count} finite numbers")
        return None

    def objects(self, key: str) -> list[Item]:
        """A list of objects; those entries that are none are faults and left out."""
        values = self.content.get(key)
        if not isinstance(values, list):
            self.fault(key, self._found(key), "a list of objects")
            return []
        items = []
        for number, value in enumerate(values):
            place = f"{self.at(key)}[{number}]"
            if isinstance(value, dict):
                items.append(Item(self.file, place, value, self.faults))
            else:
                self.faults.append(Fault(self.file, place, describe(value), "an object"))
        return items

    def box(
        self, key: str, edges: tuple[float, float, float, float], width: int, height: int
    ) -> Box | None:
        """The box of the edges that `key` gave (x_min, y_min, x_max, y_max), rounded outward.

        Tools that store edges in percent, or clip them to the last pixel's centre, come back a
        little outside the image: up to `CLIPPED` px are cut off. Further out is a fault.
        """
        x_min, y_min, x_max, y_max = edges
        found = f"box {x_min:g} {y_min:g} {x_max:g} {y_max:g}"
        if x_max <= x_min or y_max <= y_min:  # before rounding, which would give it an area
            self.fault(key, f"{found} of no area", "a width and a height > 0")
            return None
        beyond = max(-x_min, -y_min, x_max - width, y_max - height)
        box = box_outward(
            max(x_min, 0.0),
            max(y_min, 0.0),
            min(x_max, float(width)),
            min(y_max, float(height)),
        )
        if beyond > CLIPPED or box.width <= 0 or box.height <= 0:
            self.fault(key, found, f"a box inside the {width}x{height} image")
            return None
        return box

    def check_size(self, width_key: str, height_key: str, width: int, height: int) -> None:
        """Faults where the file states another size than its decoded image has."""
        for key, size in ((width_key, width), (height_key, height)):
            if self.has(key) and (isinstance(self.content[key], bool) or self.content[key] != size):
                self.fault(key, self._found(key), f"{size}, as the image has")

    def _found(self, key: str) -> str:
        return describe(self.content[key]) if key in self.content else f"no {key!r}"


def read_json(path: Path, largest: int, faults: list[Fault]) -> Item | None:
    """The object in a JSON file of at most `largest` bytes of UTF-8; None beside a fault.

    NaN and Infinity, which Python lets pass in JSON, are numbers here that are not finite; a key
    that stands twice in one object is a fault, since either may be the one that was meant.
    """

    def refuse(found: str, expected: str) -> None:
        faults.append(Fault(str(path), "", found, expected))

    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            refuse("a folder" if path.is_dir() else "no regular file", "a JSON file")
            return None
        if status.st_size > largest:
            refuse(f"{status.st_size} bytes", f"at most {largest}")
            return None
        value = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_unique)
    except UnicodeDecodeError as error:
        refuse(f"bytes that are not UTF-8 (at byte {error.start})", "a JSON file in UTF-8")
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        refuse("no such file" if missing else str(error.strerror), "a JSON file")
    except RecursionError:
        refuse("lists or objects nested too deeply", "the layout's few levels")
    except ValueError as error:  # of which JSONDecodeError is one
        reason = str(error).partition("\n")[0]
        refuse(f"text that is no JSON ({reason})", "a whole JSON file")
    else:
        if isinstance(value, dict):
            return Item(str(path), "", value, faults)
        refuse(describe(value), "one JSON object")
    return None


def finite(value: Any) -> float | None:
    """A JSON number as a float; None where it is no number or not a finite one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def describe(value: Any) -> str:
    """A JSON value in a few words and one line."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        shown = ", ".join(describe(entry) for entry in value[:6])
        return f"a list of {len(value)} ({_shortened(shown)})" if value else "an empty list"
    if isinstance(value, str):
        return f"text {_shortened(ascii(value))}"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    # A whole number too long for a line may be too long for `str` too.
    if isinstance(value, int) and abs(value) >= 10**20:
        return f"a number of {value.bit_length()} bits"
    return f"{value}"


def inner_path(name: str) -> PurePosixPath | None:
    """A file name as a path below some folder; None where it would lead out of that folder."""
    path = PurePosixPath(name)
    outside = path.is_absolute() or ".." in path.parts or not path.name
    return None if outside or ":" in path.parts[0] else path


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"key {_shortened(ascii(twice))} twice in one object")
    return content


def _shortened(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
