"""Reading a run's JSON files: what is missing or malformed ends in a line that names the place."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from thyrojax.errors import RunError

# Key, what a value must be, and in words.
Keys = tuple[tuple[str, Callable[[Any], bool], str], ...]


def load_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
      RunError: the file cannot be read, or is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        found = str(error).splitlines()[0]
        raise RunError(f"{path}: found no readable JSON ({found}), expected JSON") from None


def read_object(path: Path, expected: str) -> dict[str, Any]:
    """The object of a JSON file; `expected` says what the file is where there is none.

    Raises:
      RunError: no such file, no JSON, or no object.
    """
    if not path.exists():
        raise RunError(f"{path}: found no such file, expected {expected}")
    value = load_json(path)
    if not isinstance(value, dict):
        raise RunError(f"{path}: found {type(value).__name__}, expected an object")
    return value


def read_optional_object(path: Path) -> dict[str, Any] | None:
    """The object of a JSON file; None where there is no such file. Errors as `read_object`."""
    return read_object(path, "an object") if path.exists() else None


def is_text(value: Any) -> bool:
    return isinstance(value, str)


def is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_share(value: Any) -> bool:
    return is_number(value) and 0 <= value <= 1


def is_numbers(value: Any, n: int) -> bool:
    return isinstance(value, list) and len(value) == n and all(map(is_number, value))


def is_label_names(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(is_text, value))


def is_counts(value: Any) -> bool:
    return isinstance(value, dict) and all(map(is_count, value.values()))


def check_keys(place: str, value: Any, keys: Keys, optional: Keys = ()) -> None:
    """Refuses an object that lacks one of `keys`, or has a value there that does not hold.

    Raises:
      RunError: names the place, the key, what was found and what was expected.
    """
    if not isinstance(value, dict):
        raise RunError(f"{place}: found {type(value).__name__}, expected an object")
    for key, _, expected in keys:
        if key not in value:
            raise RunError(f"{place}: found no {key}, expected {expected}")
    for key, holds, expected in (*keys, *optional):
        if key in value and not holds(value[key]):
            raise RunError(f"{place}, {key}: found {value[key]!r}, expected {expected}")


def run_file(place: str, folder: Path, name: str, what: str) -> Path:
    """A file that a run's JSON names, as a path.

    Raises:
      RunError: no such file, or one outside the run folder.
    """
    path = Path(name)
    if path.is_absolute() or ".." in path.parts or not (folder / path).is_file():
        raise RunError(f"{place}: found no file {name} in the run folder, expected the {what}")
    return folder / path
