"""The names of the graph of 2015 (`classify_image_graph_def.pb`), which its ports keep.

Layers are counted within their scope: `conv`, `conv_1`, and so on; blocks are `mixed` to
`mixed_10`, their branches `tower`, `tower_1`, `tower_2`, and a fork within one is `mixed` again.
"""

from __future__ import annotations

from thyrojax.weights.graph import BLOCKS, STEM, Branch, Conv, Fork


def _count(name: str, i: int) -> str:
    return f"{name}_{i}" if i else name


def _branch(scope: str, branch: Branch) -> list[str]:
    """Names of a branch's units; those of a fork are in a scope within."""
    names: list[str] = []
    for step in branch:
        if isinstance(step, Conv):
            names.append(f"{scope}{_count('conv', len(names))}")
        elif isinstance(step, Fork):
            names += [f"{scope}mixed/{_count('conv', i)}" for i in range(len(step.convs))]
    return names


def unit_names() -> tuple[str, ...]:
    """Name of each unit of the trunk, in the order of `graph.trunk().units`."""
    names = _branch("", STEM)
    for i, block in enumerate(BLOCKS):
        scope = f"{_count('mixed', i)}/"
        towers = 0
        for branch in block.branches:
            if len(branch) == 1:  # one unit alone, or a pool, stands in the block itself
                names += _branch(scope, branch)
            else:
                names += _branch(f"{scope}{_count('tower', towers)}/", branch)
                towers += 1
    return tuple(names)
