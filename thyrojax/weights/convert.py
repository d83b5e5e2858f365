"""From a file of any known format to the variables of a network."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thyrojax.errors import WeightsError
from thyrojax.weights import names
from thyrojax.weights.catalog import CATALOG, fetch
from thyrojax.weights.formats import Variant, keras_h5, raise_faults

FORMATS = (keras_h5,)
MAX_FILE_BYTES = 2**31  # a whole model with its optimizer's slots takes some 300 MB
HEADS = ("fc", "AuxLogits")  # parts that a network may have in its own size, or not at all

Tree = dict[str, Any]  # nested dicts with arrays as leaves


@dataclass(frozen=True, eq=False)
class Weights:
    """The trunk of an Inception-v3, its head where that was kept, and where they come from.

    Attributes:
      params, batch_stats: nested dicts of float32 arrays under the network's names.
      variant: what the weights expect of the network and its input.
      format: name of the file's format.
      used: keys of the file that the arrays came from.
      ignored: every other key of the file, and why it was left out.
      path, sha256: the file.
    """

    params: Tree
    batch_stats: Tree
    variant: Variant
    format: str
    used: tuple[str, ...]
    ignored: Mapping[str, str]
    path: Path
    sha256: str


def locate(name: str, announce: Callable[[str], None] | None = None) -> Path:
    """The file of a tag of the catalog (fetched where it is not cached) or of a path.

    Raises:
      WeightsError: neither a tag nor a file, or a tag that cannot be fetched.
    """
    if name in CATALOG:
        return fetch(name, announce=announce)
    if not Path(name).exists():
        raise WeightsError(
            f"{name}: found no such file or tag, expected a file of weights or one of "
            f"{', '.join(CATALOG)}"
        )
    return Path(name)


def read(path: Path, head: bool = False) -> Weights:
    """Reads weights from a file of a known format, recognised by its content.

    Args:
      path: the file.
      head: keeps the file's classifier on the pooled features (see `fill`); else it is ignored.

    Raises:
      WeightsError: one line: no such file, a format not known, or every fault of its content.
    """
    if not path.is_file():
        kind = (
            "a folder" if path.is_dir() else "something else" if path.exists() else "no such file"
        )
        raise WeightsError(f"{path}: found {kind}, expected a file of weights")
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise WeightsError(f"{path}: found {size} bytes, expected at most {MAX_FILE_BYTES}")
    try:
        known = next((module for module in FORMATS if module.recognises(path)), None)
        if known is None:
            with path.open("rb") as file:
                start = file.read(8)
            expected = " or ".join(module.NAME for module in FORMATS)
            raise WeightsError(
                f"{path}: found {size} bytes that begin with {start!r}, expected {expected}"
            )
        reading = known.read(path, head)
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"{path}: found a file that cannot be read ({error.strerror})") from None
    _check_complete(path, reading.arrays)

    from flax.traverse_util import unflatten_dict

    tree = unflatten_dict(reading.arrays, sep="/")
    return Weights(
        params=tree["params"],
        batch_stats=tree["batch_stats"],
        variant=reading.variant,
        format=known.NAME,
        used=reading.used,
        ignored=reading.ignored,
        path=path,
        sha256=sha256,
    )


def _check_complete(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """The one check that every format must pass: each array of the trunk, in its shape and type."""
    faults = []
    for name, shape in names.trunk_shapes().items():
        found = arrays.get(name)
        if found is None:
            faults.append(f"{name}: found nothing, expected an array of shape {shape}")
        elif found.shape != shape or found.dtype != np.float32:
            faults.append(f"{name}: found {found.dtype} {found.shape}, expected float32 {shape}")
    raise_faults(path, faults)


def fill(shapes: Tree, weights: Weights, seed: int = 0) -> tuple[Tree, tuple[str, ...]]:
    """Variables for a network from weights, without initialising it first.

    The trunk comes from the weights. Each head comes from them where it fits, else it is fresh: as
    the network itself would initialise it (dense kernels truncated normal, standard deviation 0.01;
    convolutions He normal; biases 0), drawn from `seed`. Where the network takes grey images of one
    channel, the first kernel is summed over its input channels: the same function as of three equal
    channels, since the preprocessing is the same for all three.

    Args:
      shapes: `jax.eval_shape(network.init, ...)`: nested dicts with `shape` and `dtype` as leaves.
      weights: from `read`.
      seed: of fresh heads.

    Returns:
      The variables, float32 NumPy arrays, shared with `weights` where unchanged; and a note on each
      part that is not as in the file.

    Raises:
      WeightsError: one line: the network's trunk is not Inception-v3 at depth_multiplier 1.
    """
    from flax.traverse_util import flatten_dict, unflatten_dict

    from thyrojax.model import initial_array

    wanted = {name: leaf.shape for name, leaf in flatten_dict(shapes, sep="/").items()}
    given = flatten_dict({"params": weights.params, "batch_stats": weights.batch_stats}, sep="/")
    _check_trunk(weights.path, wanted)

    variables = {name: given[name] for name in names.trunk_shapes()}
    notes = []
    if wanted[names.FIRST_KERNEL][2] == 1:
        variables[names.FIRST_KERNEL] = given[names.FIRST_KERNEL].sum(axis=2, keepdims=True)
        notes.append("Conv2d_1a_3x3: kernel summed over its input channels, for grey images")
    for head in HEADS:
        leaves = [name for name in wanted if _part(name) == head]
        known = {name: array for name, array in given.items() if _part(name) == head}
        if not leaves:
            if known:
                notes.append(f"{head}: left out, the network has none")
        elif all(name in known and known[name].shape == wanted[name] for name in leaves):
            variables |= {name: known[name] for name in leaves}
        else:
            variables |= {name: initial_array(name, wanted[name], seed) for name in leaves}
            reason = "another class count" if known else "none"
            notes.append(f"{head}: fresh from seed {seed}, the weights have {reason}")
    return unflatten_dict(variables, sep="/"), tuple(notes)


def _part(name: str) -> str:
    return name.split("/")[1]


def _check_trunk(path: Path, wanted: Mapping[str, tuple[int, ...]]) -> None:
    """Whether these weights fit a network of such shapes."""
    trunk = names.trunk_shapes()
    faults = [
        f"{name}: found an array that the weights do not have"
        for name in wanted
        if name not in trunk and _part(name) not in HEADS
    ]
    others = []
    for name, shape in trunk.items():
        found = wanted.get(name)
        grey = (*shape[:2], 1, *shape[3:])
        if found != shape and not (name == names.FIRST_KERNEL and found == grey):
            others.append(f"{name} of shape {found} in the network, expected {shape}")
    if others:
        faults.append(
            f"found {others[0]}, and {len(others) - 1} more; these weights fit a network of "
            "depth_multiplier 1 only"
        )
    raise_faults(path, faults)
