"""From a file of any known format to arrays in our names, and back to a file of any other."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from thyrojax.errors import WeightsError
from thyrojax.weights import change, formats, names
from thyrojax.weights.catalog import CATALOG
from thyrojax.weights.fetching import fetch
from thyrojax.weights.types import (
    VARIANTS,
    Arrays,
    Reading,
    Request,
    Variant,
    classes,
    raise_faults,
    shape_fault,
)

MAX_FILE_BYTES = 2**31  # a whole model with its optimizer's slots takes some 300 MB

Say = Callable[[str], None]
Tree = dict[str, Any]  # nested dicts with arrays as leaves


@dataclass(frozen=True, eq=False)
class Weights:
    """The trunk of an Inception-v3, its heads where there are any, and where they come from.

    Attributes:
      arrays: our path (`thyrojax.weights.names`) -> float32 array.
      variant: what the weights expect of the network and its input.
      format: the file's format, as `thyrojax weights convert --to` names it.
      used: keys of the file that the arrays came from.
      ignored: every other key of the file, and why it was left out.
      path, sha256: the file; of a folder or a file in parts, the digest over all of them.
      depth_multiplier: width of the network.
      metadata: what a file written by thyrojax says of itself beyond the variant.
      notes: what else a user should know, a line each.
    """

    arrays: Arrays
    variant: Variant
    format: str
    used: tuple[str, ...]
    ignored: Mapping[str, str]
    path: Path
    sha256: str
    depth_multiplier: float = 1.0
    metadata: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @cached_property
    def _tree(self) -> Tree:
        from flax.traverse_util import unflatten_dict

        return unflatten_dict(self.arrays, sep="/")

    @property
    def params(self) -> Tree:
        """Nested dicts under the network's names, as `flax` takes them."""
        return self._tree["params"]

    @property
    def batch_stats(self) -> Tree:
        """As `params`."""
        return self._tree["batch_stats"]

    @property
    def classes(self) -> int:
        """Outputs of the classifier, 0 where there is none."""
        return classes(self.arrays)

    @property
    def has_aux_head(self) -> bool:
        return names.AUX_BIAS in self.arrays

    @property
    def channels(self) -> int:
        """Colours of the images: 1 or 3."""
        return int(self.arrays[names.FIRST_KERNEL].shape[2])


def locate(name: str | Path, announce: Say | None = None) -> Path:
    """The file of a tag of the catalog (fetched where it is not cached) or of a path.

    The prefix of a TensorFlow checkpoint stands for its index.

    Raises:
      WeightsError: neither a tag nor a file, or a tag that cannot be fetched.
    """
    if name in CATALOG:
        return fetch(str(name), announce=announce)
    path = Path(name)
    if not path.exists():
        index = path.with_name(path.name + ".index")
        if path.name and index.exists():
            return index
        raise WeightsError(
            f"{name}: found no such file or tag, expected a file of weights or one of "
            f"{', '.join(CATALOG)}"
        )
    return path


def read(
    source: str | Path,
    *,
    head: str = "keep",
    variant: str | None = None,
    depth_multiplier: float = 1.0,
    announce: Say | None = None,
) -> Weights:
    """Reads weights of a known format, recognised by content.

    Args:
      source: a tag of the catalog, a file or a folder.
      head: "keep" takes the classifiers that fit this network's features, "drop" leaves them out.
      variant: a key of `VARIANTS`, for files that cannot tell theirs (default: the tag's, the
        file's own description, or what the format implies).
      depth_multiplier: width of the network in the file.
      announce: told in one line what is about to be downloaded.

    Raises:
      WeightsError: one line: no such file, a format not known, or every fault of its content.
    """
    if variant is not None and variant not in VARIANTS:
        raise WeightsError(
            f"variant: found {variant!r}, expected one of {', '.join(sorted(VARIANTS))}"
        )
    if head not in ("keep", "drop"):
        raise WeightsError(f"head: found {head!r}, expected keep or drop")
    if not (math.isfinite(depth_multiplier) and depth_multiplier > 0):
        raise WeightsError(f"depth multiplier: found {depth_multiplier}, expected a number above 0")
    path = locate(source, announce)
    try:
        module = recognise(path)
        reading: Reading = module.read(path, Request(head, depth_multiplier))  # type: ignore[arg-type]
        sha256 = digest(path)
    except OSError as error:
        raise WeightsError(
            f"{path}: found something that cannot be read ({error.strerror or error})"
        ) from None
    _check_complete(path, reading.arrays, depth_multiplier)
    found = reading.variant
    if variant is not None:
        found = VARIANTS[variant]
    elif source in CATALOG:
        found = CATALOG[str(source)].variant
    return Weights(
        arrays=reading.arrays,
        variant=found,
        format=module.NAME,
        used=reading.used,
        ignored=reading.ignored,
        path=path,
        sha256=sha256,
        depth_multiplier=depth_multiplier,
        metadata=reading.metadata,
        notes=reading.notes,
    )


def recognise(path: Path) -> Any:
    """The module of the format that a file or folder is of.

    Raises:
      WeightsError: none is; or the file is too large.
      OSError: it cannot be read.
    """
    if path.is_file() and (size := path.stat().st_size) > MAX_FILE_BYTES:
        raise WeightsError(f"{path}: found {size} bytes, expected at most {MAX_FILE_BYTES}")
    readable = path.is_file() or path.is_dir()  # to read from a pipe would be to wait for ever
    for name in formats.FORMATS if readable else ():
        module = formats.load(name)
        if module.recognises(path):
            return module
    if path.is_file():
        with path.open("rb") as file:
            found = f"{size} bytes that begin with {file.read(8)!r}"
    else:
        found = "a folder of something else" if path.is_dir() else "neither a file nor a folder"
    modules = map(formats.load, formats.FORMATS)
    known = ", ".join(module.DESCRIPTION for module in modules if not hasattr(module, "run"))
    raise WeightsError(f"{path}: found {found}, expected one of: {known}")


def parts(path: Path) -> list[Path]:
    """All files that a format keeps beside or under the one that names it, sorted."""
    if (path / "model.json").is_file():
        return parts(path / "model.json")
    checkpoints = path / "checkpoints"  # of a run, whose other files are not the network
    if path.is_dir():
        inner = checkpoints if checkpoints.is_dir() else path
        return sorted(file for file in inner.rglob("*") if file.is_file())
    if path.suffix == ".index":
        data = path.with_suffix("").name + ".data-"
        beside = [f for f in path.parent.iterdir() if f.name.startswith(data)]
        return [path, *sorted(f for f in beside if f.is_file())]
    if path.suffix == ".json":
        groups = json.loads(path.read_bytes())["weightsManifest"]  # has been read before
        return [path, *sorted({path.parent / name for group in groups for name in group["paths"]})]
    return [path]


def digest(path: Path) -> str:
    """SHA-256 of a file; of several parts, of a list of their names and digests."""
    found = []
    files = parts(path)
    for part in files:
        with part.open("rb") as file:
            found.append(hashlib.file_digest(file, "sha256").hexdigest())
    if files == [path]:
        return found[0]
    base = files[0].parent if files[0].name == "model.json" else path
    base = base if base.is_dir() else base.parent
    lines = [f"{sha}  {p.relative_to(base)}\n" for sha, p in zip(found, files, strict=True)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _check_complete(path: Path, arrays: Mapping[str, np.ndarray], depth_multiplier: float) -> None:
    """The one check that every format must pass: all arrays, in their shapes, and no others."""
    expected = names.trunk_shapes(depth_multiplier)
    for bias, shapes in ((names.HEAD_BIAS, names.head_shapes), (names.AUX_BIAS, names.aux_shapes)):
        if bias in arrays:
            expected |= shapes(len(arrays[bias]), depth_multiplier)
    faults = [f"{name}: found an array that belongs nowhere" for name in arrays.keys() - expected]
    for name, shape in expected.items():
        found = arrays.get(name)
        if found is None:
            faults.append(f"{name}: found nothing, expected an array of shape {shape}")
        elif found.dtype != np.float32:
            faults.append(f"{name}: found {found.dtype}, expected float32")
        elif fault := shape_fault(name, found.shape, shape):
            faults.append(f"{name}: {fault}")
    raise_faults(path, faults)


def writable() -> dict[str, Any]:
    """Name -> module of every format that can be written."""
    modules = [formats.load(name) for name in formats.FORMATS]
    return {module.NAME: module for module in modules if hasattr(module, "write")}


def choose_format(path: Path, name: str | None = None) -> Any:
    """The module to write a file with: the one named, else by the file's ending.

    Raises:
      WeightsError: no such format, one that can only be read, or an ending that says nothing.
    """
    known = writable()
    if name is not None:
        if name not in known:
            raise WeightsError(f"format: found {name!r}, expected one of {', '.join(known)}")
        return known[name]
    fitting = [module for module in known.values() if path.name.endswith(module.ENDING)]
    if not fitting:
        endings = ", ".join(sorted({module.ENDING for module in known.values()}))
        raise WeightsError(
            f"{path}: found an ending that names no format, expected one of {endings}, or --to"
        )
    longest = max(len(module.ENDING) for module in fitting)
    return next(module for module in fitting if len(module.ENDING) == longest)


def write(
    weights: Weights, path: Path, to: str | None = None, overwrite: bool = False
) -> tuple[str, ...]:
    """Writes weights as a file (or folder) of another format: beside its place, then moved there.

    Args:
      weights: from `read`, perhaps changed by `thyrojax.weights.change`.
      path: of the new file.
      to: name of a format; by default `path`'s ending says it.
      overwrite: replaces what stands there.

    Returns:
      Notes on what the format cannot hold, a line each.

    Raises:
      WeightsError: a format that cannot be written, something that stands there, a place that
        cannot be written, or weights that the format cannot hold.
    """
    module = choose_format(path, to)
    check_target(path, module, overwrite)
    arrays, notes = weights.arrays, []
    if weights.channels not in module.CHANNELS:
        arrays = change.spread_grey(arrays)
        notes.append("Conv2d_1a_3x3: kernel spread over three equal channels")
    source = {"format": weights.format, "file": weights.path.name, "sha256": weights.sha256}
    metadata = {"source": source, **weights.metadata}
    partial = path.with_name(f".{os.getpid()}.part-{path.name}")  # keeps the ending
    new_folders = [folder for folder in path.parents if not folder.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            notes += module.write(partial, arrays, weights.variant, metadata)
            _replace(partial, path)
        finally:
            _remove(partial)
            if not path.exists():
                for folder in new_folders:
                    folder.rmdir()
    except WeightsError as error:
        raise WeightsError(str(error).replace(str(partial), str(path))) from None
    except OSError as error:
        raise WeightsError(
            f"{path}: found {error.strerror or error}, expected a place that can be written"
        ) from None
    return tuple(notes)


def check_target(path: Path, module: Any, overwrite: bool) -> None:
    """Whether a new file may take this place. A folder is replaced only by a network's folder, and
    only where it is one itself: never a run, nor anything else of the user's.

    Raises:
      WeightsError: it may not.
    """
    if not path.name:
        raise WeightsError(f"{path}: found no name of a file, expected one")
    there = path.exists() or path.is_symlink()
    if there and not overwrite:
        raise WeightsError(f"{path}: found it there already, expected a new name, or --force")
    own = all((path / name).is_file() for name in getattr(module, "OWN_FILES", ("",)))
    if path.is_dir() and not own:
        raise WeightsError(
            f"{path}: found a folder that is no network of {module.NAME}'s, expected a new name: "
            "it is not replaced"
        )


def native_variant(module: Any, variant: Variant) -> Variant:
    """What the class of a format's framework computes with weights of some variant."""
    if module.NATIVE is None:
        return variant
    pooling, last_pool = module.NATIVE
    return Variant(pooling, last_pool, preprocessing=variant.preprocessing)


def _replace(new: Path, path: Path) -> None:
    """Moves a file or folder into place; what stood there is gone only afterwards."""
    if path.is_dir() or (new.is_dir() and path.exists()):
        old = path.with_name(f".{os.getpid()}.old-{path.name}")
        os.rename(path, old)
        os.rename(new, path)
        _remove(old)
    else:
        os.replace(new, path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
