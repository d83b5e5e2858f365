"""What a pickle of torch holds, by dotted paths: `state_dict.module.fc.weight`."""

from __future__ import annotations

from typing import Any, NamedTuple

from thyrojax.weights.formats.pickle_names import (
    Module,
    Opaque,
    Refused,
    StoredTensor,
    Table,
)

MAX_DEPTH = 30  # of containers in containers
MAX_PATH_LENGTH = 512


class Tree(NamedTuple):
    """What a file holds.

    Attributes:
      tensors: path -> tensor, of dicts, lists and TorchScript modules.
      others: path -> what it is, for all else. What holds no tensors at all is named once, by the
        path of the whole.
      storages: key -> type, of all tensors.
    """

    tensors: dict[str, StoredTensor]
    others: dict[str, str]
    storages: dict[str, str]


def flatten(root: Any) -> Tree:
    """Every tensor under `root`, which is as `restricted_pickle.load` gives it.

    Raises:
      Refused: paths that are ambiguous or long, or containers too deep in each other.
    """
    walk = _Walk()
    if not walk.enter(root, "", 0, ""):
        walk.tree.others[""] = _describe(root)
    return walk.tree


class _Walk:
    """Enters each container once, so that those which contain themselves have an end."""

    def __init__(self) -> None:
        self.tree = Tree({}, {}, {})
        self.entered: dict[int, bool] = {}  # container -> whether there are tensors in it

    def enter(self, value: Any, path: str, depth: int, inside: str) -> bool:
        """Whether there are tensors in a value; if so, all that is in it has been named."""
        if isinstance(value, StoredTensor):
            self.add(value, path, inside)
            return True
        children = _children(value)
        if not children:
            return False
        if depth > MAX_DEPTH or len(path) > MAX_PATH_LENGTH:
            raise Refused(f"found {path[:100]}.. in more than {MAX_DEPTH} others, expected fewer")
        if id(value) in self.entered:
            if self.entered[id(value)]:
                self.tree.others[path] = "the same object as elsewhere"
            return self.entered[id(value)]
        self.entered[id(value)] = False
        if isinstance(value, Opaque):
            inside = value.name
        without: dict[str, str] = {}
        for name, child in children:
            inner = f"{path}.{name}" if path else name
            if self.enter(child, inner, depth + 1, inside):
                self.entered[id(value)] = True
            else:
                without[inner] = _describe(child)
        if self.entered[id(value)]:
            self.tree.others.update(without)
        return self.entered[id(value)]

    def add(self, tensor: StoredTensor, path: str, inside: str) -> None:
        if path in self.tree.tensors or path in self.tree.others:
            raise Refused(f"found {path[:100]} twice, expected each name once")
        self.tree.storages[tensor.storage.key] = tensor.storage.dtype
        if inside:
            self.tree.others[path] = f"within an object of {inside}"
        else:
            self.tree.tensors[path] = tensor


def _children(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Table):
        return list(value.items())
    if isinstance(value, Module):
        return list(value.attributes.items())
    items = value.parts if isinstance(value, Opaque) else value
    if isinstance(items, list | tuple):
        return [(str(i), item) for i, item in enumerate(items)]
    return []


def _describe(value: Any) -> str:
    return f"an object of {value.name}" if isinstance(value, Opaque | Module) else "no tensor"
