"""Digests of a state: what a checkpoint holds, told so that a flipped bit is found.

Orbax checks the lengths of its files and some of their frames, not what is in them: a flipped byte
of a chunk restores as other numbers without a word.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from thyrojax.shapes import PyTree

Leaf = dict[str, Any]  # dtype, shape, sha256


def leaf_digests(state: PyTree) -> dict[str, Leaf]:
    """For every leaf by its path ("params/fc/kernel"): dtype, shape and the sha256 of its bytes.

    Bytes are those of the array in C order and little-endian, whatever devices it lies on.
    """
    paths, leaves = zip(*jax.tree_util.tree_flatten_with_path(state)[0], strict=True)
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path in paths]
    arrays = [np.ascontiguousarray(leaf) for leaf in jax.device_get(leaves)]
    with ThreadPoolExecutor() as threads:  # hashing lets go of the interpreter's lock
        digests = list(threads.map(_digest, arrays))
    return {
        name: {"dtype": str(array.dtype), "shape": list(np.shape(leaf)), "sha256": digest}
        for name, leaf, array, digest in zip(names, leaves, arrays, digests, strict=True)
    }


def state_layout(state: PyTree) -> dict[str, list[Any] | None]:
    """For every leaf by its path its dtype and shape; None for a node without leaves.

    Orbax restores only into the nodes that it saved, also where they are empty.
    """
    nodes = jax.tree_util.tree_flatten_with_path(state, is_leaf=lambda x: not jax.tree.leaves(x))[0]
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): [str(node.dtype), list(node.shape)]
        if jax.tree.leaves(node)
        else None
        for path, node in nodes
    }


def _digest(array: Any) -> str:
    return hashlib.sha256(array.reshape(-1).view(np.uint8)).hexdigest()


def state_digest(leaves: Mapping[str, Leaf]) -> str:
    """One sha256 over `leaf_digests`: paths, dtypes, shapes and digests, by path."""
    return hashlib.sha256(_canonical(leaves)).hexdigest()


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """`content` with the sha256 of its canonical JSON as one more entry."""
    return {**content, "sha256": hashlib.sha256(_canonical(content)).hexdigest()}


def is_sealed(content: Any) -> bool:
    """Whether `content` is as `sealed` gave it, also after a way through a JSON file."""
    if not isinstance(content, dict):
        return False
    rest = {name: value for name, value in content.items() if name != "sha256"}
    return sealed(rest)["sha256"] == content.get("sha256")


def _canonical(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
