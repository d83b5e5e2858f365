"""The network of a run drawn from its own description (the paper's Figure 4)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from thyrojax.report.figures import BLACK, GREY, TIMES, new_figure
from thyrojax.report.run_architecture import Architecture, Layer, Shape, Stage

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH = 4.8  # inches, as the report's other figures
# Light tints of Okabe and Ito's colours, under black text; the words say the same.
_TINTS = ("#cfe3f2", "#fbe3b5", "#c9ece0", "#f6d5e6", "#f7f2b8", "#d9d9f3")
_PLAIN, _POOL = "#f4f6f8", "#ffffff"
_BLOCK = "Block"


class BlockKind(NamedTuple):
    """Stages of one structure, which may differ in their numbers of features."""

    name: str
    stages: tuple[Stage, ...]

    @property
    def keeps_grid(self) -> bool:
        return all(stage.input[:2] == stage.output[:2] for stage in self.stages)


def block_kinds(architecture: Architecture) -> list[BlockKind]:
    """The stages that have several branches, by structure, in the order of their first."""
    kinds: dict[tuple[object, ...], list[Stage]] = {}
    for stage in architecture.stages:
        if len(stage.branches) > 1:
            structure = tuple(
                tuple((one.name, one.kind, one.kernel, one.stride) for one in branch)
                for branch in stage.branches
            )
            kinds.setdefault((stage.kind, structure), []).append(stage)
    names = [kind_words(stages[0]) for stages in kinds.values()]
    return [
        BlockKind(name if names.count(name) == 1 else f"{name} ({stages[0].name})", tuple(stages))
        for name, stages in zip(names, kinds.values(), strict=True)
    ]


def stage_groups(architecture: Architecture) -> dict[str, tuple[Stage, ...]]:
    """The stages by what they are in words, in the order of each one's first."""
    groups: dict[str, list[Stage]] = {}
    for stage in architecture.stages:
        groups.setdefault(kind_words(stage), []).append(stage)
    return {name: tuple(stages) for name, stages in groups.items()}


def kind_words(stage: Stage) -> str:
    """What a stage is, in words: "block A", "convolutions", "auxiliary head"."""
    if stage.kind.startswith(_BLOCK):
        return f"block {stage.kind.removeprefix(_BLOCK)}"
    if len(stage.branches) == 1 and len(stage.branches[0]) == 1:
        return stage.branches[0][0].kind
    words = "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in stage.kind)
    return words.strip()


def shape_words(shape: Shape) -> str:
    """A shape as readers write it: 35 by 35 by 256."""
    return TIMES.join(map(str, shape))


def is_side_branch(architecture: Architecture, stage: Stage) -> bool:
    """Whether nothing follows a stage that is not the last: a head for training only."""
    followed = {other.follows for other in architecture.stages}
    return stage.name not in followed and stage is not architecture.stages[-1]


def draw_network(architecture: Architecture) -> Figure:
    """All stages from top to bottom, with the output's shape and the parameters of each."""
    tints = _tints(architecture)
    rows: list[tuple[str, str, str, str, bool]] = [
        ("input", shape_words(architecture.input), "", _PLAIN, False)
    ]
    for stage in architecture.stages:
        for pool in stage.before:
            rows.append((_layer_words(pool), shape_words(pool.output), "", _POOL, False))
        side = is_side_branch(architecture, stage)
        rows.append(
            (
                _stage_words(stage) + (" (training)" if side else ""),
                shape_words(stage.output),
                _count_words(stage.parameters),
                tints.get(stage.kind, _PLAIN),
                side,
            )
        )
    pitch, height = 0.34, 0.27
    axes = _canvas(pitch * (len(rows) + 1) + 0.1)
    figure_height = axes.get_ylim()[0]
    axes.text(3.98, 0.2, "output", ha="right", va="center", color=GREY)
    axes.text(_WIDTH - 0.05, 0.2, "weights", ha="right", va="center", color=GREY)
    last_main = 0.0
    for number, (words, shape, count, tint, side) in enumerate(rows):
        middle = 0.2 + pitch * (number + 1)
        left, width = (0.4, 2.35) if side else (0.1, 2.65)
        if number and not side:
            axes.plot([0.25, 0.25], [last_main, middle - height / 2], color=GREY, lw=1.2, zorder=1)
        if side:
            axes.plot([0.25, left], [middle, middle], color=GREY, lw=1.2, ls="--", zorder=1)
        else:
            last_main = middle + height / 2
        _box(axes, left, middle - height / 2, width, height, tint, dashed=side)
        axes.text(left + 0.08, middle, words, va="center", ha="left", fontsize=9.5)
        axes.text(3.98, middle, shape, va="center", ha="right", fontsize=9.5)
        axes.text(_WIDTH - 0.05, middle, count, va="center", ha="right", fontsize=9.5)
    axes.set_ylim(figure_height, 0)
    return axes.figure  # type: ignore[return-value]


def draw_block(architecture: Architecture, kind: BlockKind) -> Figure:
    """The branches of a kind of block, side by side, from its input to the concatenation."""
    branches, tint = kind.stages[0].branches, _tints(architecture)[kind.stages[0].kind]
    depth = max(len(branch) for branch in branches)
    pitch, height, bar = 0.86, 0.62, 0.32
    top, bottom = 0.08, 0.08 + bar + 0.24 + pitch * depth
    axes = _canvas(bottom + bar + 0.08)
    column = (_WIDTH - 0.1) / len(branches)
    centres = [0.05 + column * (place + 0.5) for place in range(len(branches))]
    for y, words in (
        (top, f"input {_range_words([stage.input for stage in kind.stages])}"),
        (bottom, f"concatenated {_range_words([stage.output for stage in kind.stages])}"),
    ):
        _box(axes, 0.05, y, _WIDTH - 0.1, bar, _PLAIN)
        axes.text(_WIDTH / 2, y + bar / 2, words, ha="center", va="center", fontsize=9.5)
    first_row = top + bar + 0.24
    for place, branch in enumerate(branches):
        for row, layer in enumerate(branch):
            sharing = _sharing(branches, place, row)
            if place != sharing[0]:
                continue  # drawn with the first branch that it is in
            left, right = centres[sharing[0]], centres[sharing[-1]]
            middle, y = (left + right) / 2, first_row + pitch * row
            # What is above spans at least the same branches.
            _arrow(axes, middle, y - pitch + height if row else top + bar, y)
            width = right - left + column * 0.92
            _box(axes, left - column * 0.46, y, width, height, tint if layer.name else _POOL)
            words = _cell_words(layer, [stage.branches[place][row] for stage in kind.stages])
            axes.text(middle, y + height / 2, words, ha="center", va="center", fontsize=9)
        _arrow(axes, centres[place], first_row + pitch * (len(branch) - 1) + height, bottom)
    return axes.figure  # type: ignore[return-value]


def branch_words(kind: BlockKind) -> str:
    """The branches in words, for those who do not see the drawing."""
    branches = (
        ", ".join(_layer_words(layer) for layer in branch) for branch in kind.stages[0].branches
    )
    return "; ".join(f"branch {number}: {words}" for number, words in enumerate(branches, start=1))


def _tints(architecture: Architecture) -> dict[str, str]:
    """A colour for each kind of block, the same in every drawing."""
    blocks = dict.fromkeys(stage.kind for stage in architecture.stages if _is_block(stage))
    return {kind: _TINTS[place % len(_TINTS)] for place, kind in enumerate(blocks)}


def _is_block(stage: Stage) -> bool:
    return len(stage.branches) > 1


def _stage_words(stage: Stage) -> str:
    if _is_block(stage):
        return f"{stage.name}, {kind_words(stage)}"
    if len(stage.branches[0]) == 1:
        return _layer_words(stage.branches[0][0])
    return kind_words(stage)


def _layer_words(layer: Layer) -> str:
    kernel = "" if layer.kernel is None else f"{shape_words(layer.kernel)} "
    stride = f", stride {layer.stride}" if layer.stride and layer.stride > 1 else ""
    return f"{kernel}{layer.kind}{stride}"


def _cell_words(layer: Layer, same: Sequence[Layer]) -> str:
    """Kernel, features (or the pool's name) and stride, one below the other."""
    kernel = shape_words(layer.kernel or ())
    stride = [f"stride {layer.stride}"] if layer.stride and layer.stride > 1 else []
    if not layer.name:
        first, *rest = layer.kind.split()
        return "\n".join([first, " ".join([*rest, kernel]).strip(), *stride])
    return "\n".join([kernel, _range(one.output[-1] for one in same), *stride])


def _sharing(branches: Sequence[Sequence[Layer]], place: int, row: int) -> list[int]:
    """Places of the branches that a layer is in; pools have no name and are never shared."""
    layer = branches[place][row]
    if not layer.name:
        return [place]
    return [
        other
        for other, branch in enumerate(branches)
        if row < len(branch) and branch[row].name == layer.name
    ]


def _range(values: Iterable[int]) -> str:
    found = sorted(set(values))
    return str(found[0]) if len(found) == 1 else f"{found[0]}\N{EN DASH}{found[-1]}"


def _range_words(shapes: Sequence[Shape]) -> str:
    return TIMES.join(_range(values) for values in zip(*shapes, strict=True))


def _count_words(count: int) -> str:
    if not count:
        return ""
    return f"{count / 1e6:.2f} M" if count >= 100_000 else f"{count:,}"


def _canvas(height: float) -> Axes:
    """Axes in inches from the top left corner, without a frame."""
    figure = new_figure(_WIDTH, height)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_xlim(0, _WIDTH)
    axes.set_ylim(height, 0)
    axes.axis("off")
    return axes


def _box(
    axes: Axes,
    left: float,
    top: float,
    width: float,
    height: float,
    tint: str,
    dashed: bool = False,
) -> None:
    from matplotlib.patches import FancyBboxPatch

    axes.add_patch(
        FancyBboxPatch(
            (left, top),
            width,
            height,
            boxstyle="round,pad=0,rounding_size=0.05",
            fc=tint,
            ec=BLACK,
            lw=0.9,
            ls="--" if dashed else "-",
            zorder=2,
        )
    )


def _arrow(axes: Axes, x: float, top: float, bottom: float) -> None:
    axes.annotate(
        "",
        xy=(x, bottom),
        xytext=(x, top),
        arrowprops={"arrowstyle": "-|>", "color": GREY, "lw": 1.1, "shrinkA": 0, "shrinkB": 0},
        zorder=1,
    )
