"""The container of TensorFlow.js: a model.json that lists weights, and shards of their values.

`weightsManifest` is a list of groups. A group has `paths`, files beside model.json whose contents
in a row are the values of its `weights` in a row: each with `name`, `shape`, `dtype`, and where it
is quantised `quantization`: `dtype`, and for whole numbers `scale` and `min`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

MAX_JSON_BYTES = 2**23  # Inception-v3's takes some 250 kB
MAX_WEIGHTS = 20_000
MAX_SHARDS = 4096
MAX_NAME = 1000
MAX_DIMENSIONS = 8
FILE = "model.json"

DTYPES = {
    "float32": "<f4",
    "float16": "<f2",
    "int32": "<i4",
    "uint8": "u1",
    "uint16": "<u2",
    "bool": "u1",
    "complex64": "<c8",
}
_KEY = re.compile(
    rb'"(?:modelTopology|weightsManifest)"\s*:|"format"\s*:\s*"(?:layers|graph)-model"'
)


class Shard(NamedTuple):
    """A file of a group, and where its bytes begin among the group's."""

    path: Path
    begin: int
    size: int


@dataclass(frozen=True, eq=False)
class Stored:
    """A weight, not yet read.

    Attributes:
      key: its name.
      shape: of its values.
      dtype: NumPy's, as the shards have it.
      kind: the dtype that the manifest gives, which quantised values stand for.
      scale, least: what a whole number is multiplied by, and what 0 stands for; NaN where the
        values are no such numbers.
      begin: where its bytes begin among the group's.
      shards: of the group.
      is_slot: whether the manifest calls it an optimizer's.
    """

    key: str
    shape: tuple[int, ...]
    dtype: np.dtype
    kind: str
    scale: float
    least: float
    begin: int
    shards: Sequence[Shard]
    is_slot: bool = False

    @property
    def size(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def is_quantised(self) -> bool:
        return not math.isnan(self.scale)

    def fault(self) -> str | None:
        """Why it cannot be read as floats; None where it can."""
        if self.dtype.kind != "f" and not self.is_quantised:
            return f"found values of type {self.kind}, expected floats"
        return None

    def values(self) -> np.ndarray:
        """The numbers as stored.

        Raises:
          ValueError: a shard is shorter than it was.
        """
        values = np.empty(self.shape, self.dtype)
        left = memoryview(values).cast("B") if self.size else memoryview(b"")
        place = self.begin
        for shard in self.shards:
            if not left or not shard.begin <= place < shard.begin + shard.size:
                continue
            part = left[: shard.begin + shard.size - place]
            with shard.path.open("rb") as file:
                file.seek(place - shard.begin)
                n_bytes = file.readinto(part)
            if n_bytes != len(part):
                raise ValueError(f"found {shard.path.name} cut off, expected {shard.size} bytes")
            left, place = left[n_bytes:], place + n_bytes
        return values

    def floats(self) -> np.ndarray:
        """Its values in float32; number * scale + least, in double precision before it is rounded.

        Raises:
          ValueError: as `values`.
        """
        values = self.values()
        with np.errstate(all="ignore"):  # what is not finite is found in the arrays
            if not self.is_quantised:
                return values.astype(np.float32, copy=False)
            table = np.arange(np.iinfo(self.dtype).max + 1) * self.scale + self.least
            return table.astype(np.float32)[values]


def precision_notes(used: Collection[Stored]) -> list[str]:
    """What the kinds of the values that were read mean for them."""
    quantised = [stored.dtype.itemsize * 8 for stored in used if stored.is_quantised]
    notes = []
    if quantised:
        bits = min(quantised)
        notes.append(f"weights are quantised to {bits} bits, values are approximate")
    if any(stored.dtype == np.dtype("<f2") for stored in used):
        notes.append("weights are stored in float16, values are rounded to it")
    return notes


@dataclass(frozen=True, eq=False)
class Model:
    """A model.json: its own format's name ("" in old ones), topology, weights and what is wrong."""

    format: str
    topology: dict[str, Any]
    weights: dict[str, Stored]
    faults: list[str]


def manifest_path(path: Path) -> Path:
    """model.json, of a file or its folder."""
    return path / FILE if path.is_dir() else path


def recognises(path: Path) -> bool:
    """Whether the beginning is that of a JSON object with the keys of TensorFlow.js."""
    path = manifest_path(path)
    if not path.is_file():
        return False
    with path.open("rb") as file:
        begin = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    return begin.startswith(b"{") and _KEY.search(begin) is not None


def load(path: Path) -> Model:
    """What a model.json (or the folder with it) lists; no values are read.

    Raises:
      ValueError: it is no JSON of this layout.
      OSError: it cannot be read.
    """
    path = manifest_path(path)
    if (size := path.stat().st_size) > MAX_JSON_BYTES:
        raise ValueError(f"found {size} bytes of JSON, expected at most {MAX_JSON_BYTES}")
    try:
        model = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise ValueError("found a file that is no sound JSON, expected a model.json") from None
    groups = model.get("weightsManifest") if isinstance(model, dict) else None
    if not isinstance(groups, list):
        raise ValueError("found no weightsManifest, expected a list of groups of weights")
    faults: list[str] = []
    weights: dict[str, Stored] = {}
    seen: set[Path] = set()
    for i, group in enumerate(groups):
        where = f"weightsManifest[{i}]"
        if not isinstance(group, dict):
            faults.append(f"{where}: found no object, expected paths and weights")
            continue
        shards = _shards(where, group.get("paths"), path.parent, seen, faults)
        _add_weights(where, group.get("weights"), shards, weights, faults)
    topology = model.get("modelTopology")
    kind = model.get("format")
    return Model(
        format=kind if isinstance(kind, str) else "",
        topology=topology if isinstance(topology, dict) else {},
        weights=weights,
        faults=faults,
    )


def _shards(
    where: str, paths: Any, folder: Path, seen: set[Path], faults: list[str]
) -> list[Shard]:
    """The files of a group, each within the folder and used once."""
    if not isinstance(paths, list) or len(paths) + len(seen) > MAX_SHARDS:
        faults.append(f"{where}: found no list of up to {MAX_SHARDS} paths, expected one")
        return []
    shards: list[Shard] = []
    for path in paths:
        shown = repr(path)[:100]
        file = _within(folder, path)
        if file is None:
            faults.append(f"{where}: found path {shown}, expected one within the folder")
        elif not file.is_file():
            faults.append(f"{where}: found no file {shown}, expected the shard there")
        elif file in seen:
            faults.append(f"{where}: found {shown} twice, expected each shard once")
        else:
            seen.add(file)
            begin = shards[-1].begin + shards[-1].size if shards else 0
            shards.append(Shard(file, begin, file.stat().st_size))
    return shards


def _within(folder: Path, path: Any) -> Path | None:
    """Where a path of the manifest leads; None where that is outside the folder."""
    if not isinstance(path, str) or not path or "\\" in path or "\0" in path:
        return None
    relative = PurePosixPath(path)
    if relative.is_absolute() or ".." in relative.parts:
        return None
    try:
        found = (folder / relative).resolve()
        return found if found.is_relative_to(folder.resolve()) else None
    except (OSError, RuntimeError, ValueError):  # links in a circle, names no file can have
        return None


def _add_weights(
    where: str,
    entries: Any,
    shards: Sequence[Shard],
    weights: dict[str, Stored],
    faults: list[str],
) -> None:
    """Lists the weights of a group; their sizes must make up that of the shards."""
    if not isinstance(entries, list) or len(entries) + len(weights) > MAX_WEIGHTS:
        faults.append(f"{where}: found no list of up to {MAX_WEIGHTS} weights, expected one")
        return
    n_faults = len(faults)
    begin = 0
    for i, entry in enumerate(entries):
        try:
            stored = _stored(entry, begin, shards)
        except ValueError as error:
            faults.append(f"{where}/weights[{i}]: {error}")
            continue
        if stored.key in weights:
            faults.append(f"{stored.key}: found two weights of that name, expected one")
        weights[stored.key] = stored
        begin += stored.size
    held = sum(shard.size for shard in shards)
    if begin != held and len(faults) == n_faults:
        faults.append(f"{where}: found {held} bytes in its shards, expected {begin}")


def _stored(entry: Any, begin: int, shards: Sequence[Shard]) -> Stored:
    """A weight's entry, checked."""
    name, shape, kind, quantisation = (
        entry.get(key) if isinstance(entry, dict) else None
        for key in ("name", "shape", "dtype", "quantization")
    )
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or _is_broken(name):
        raise ValueError("found no name, expected text")
    if not isinstance(shape, list) or len(shape) > MAX_DIMENSIONS or not all(_sizes(shape)):
        raise ValueError(f"{name}: found shape {repr(shape)[:100]}, expected a list of sizes")
    stored_kind, scale, least = kind, math.nan, math.nan
    if quantisation is not None:
        if not isinstance(quantisation, dict):
            raise ValueError(f"{name}: found no object as quantization, expected one")
        stored_kind = quantisation.get("dtype")
        if stored_kind in ("uint8", "uint16"):
            scale, least = (_finite(quantisation.get(key)) for key in ("scale", "min"))
            if math.isnan(scale) or math.isnan(least):
                raise ValueError(f"{name}: found no finite scale and min, expected numbers")
        elif stored_kind != "float16":
            shown = repr(stored_kind)[:40]
            raise ValueError(f"{name}: found quantization to {shown}, expected a known one")
    if not isinstance(stored_kind, str) or stored_kind not in DTYPES or kind not in DTYPES:
        raise ValueError(f"{name}: found dtype {repr(kind)[:40]}, expected a kind of number")
    dtype, is_slot = np.dtype(DTYPES[stored_kind]), entry.get("group") == "optimizer"
    return Stored(name, tuple(shape), dtype, kind, scale, least, begin, shards, is_slot)


def _is_broken(name: str) -> bool:
    """Whether a text has halves of characters, which no file of text can hold."""
    return any("\ud800" <= letter <= "\udfff" for letter in name)


def _sizes(shape: list[Any]) -> Iterator[bool]:
    for size in shape:
        yield isinstance(size, int) and not isinstance(size, bool) and 0 <= size < 2**31


def _finite(value: Any) -> float:
    """The number, NaN for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        number = float(value)
    except OverflowError:
        return math.nan
    return number if math.isfinite(number) else math.nan
