"""The section on the network that the run trained."""

from __future__ import annotations

from thyrojax.report.figures import Rendered, render
from thyrojax.report.markup import figure, paragraph, section, table
from thyrojax.report.network_figure import (
    BlockKind,
    block_kinds,
    branch_words,
    draw_block,
    draw_network,
    shape_words,
    stage_groups,
)
from thyrojax.report.run_architecture import Architecture
from thyrojax.report.run_folder import Run


def draw_architecture(run: Run) -> dict[str, Rendered]:
    """The whole network, and each kind of block, where the run has its description."""
    if run.architecture is None:
        return {}
    drawn = {"network": render(draw_network, run.architecture)}
    for number, kind in enumerate(block_kinds(run.architecture), start=1):
        drawn[f"block_{number}"] = render(draw_block, run.architecture, kind)
    return drawn


def network(run: Run, drawn: dict[str, Rendered]) -> str:
    """The network from its own description (the paper's Figure 4), and its parameters."""
    described = run.architecture
    if described is None:
        text = "No drawing: the run did not record its network (architecture.json)."
        return section("network", "Network", paragraph(text))
    stages = described.stages
    first, last = stages[0], stages[-1]
    shown = [
        figure(
            drawn["network"],
            f"The network from its input of {shape_words(described.input)} through "
            f"{len(stages)} stages, from {first.name} to {last.name}. The table below counts them.",
            "The network from top to bottom (Guan et al. 2019, figure 4 A). Right: height, width "
            "and channels of each output, and learned weights.",
        )
    ]
    kinds = block_kinds(described)
    for number, kind in enumerate(kinds, start=1):
        names = ", ".join(stage.name for stage in kind.stages)
        shown.append(
            figure(
                drawn[f"block_{number}"],
                f"{_capital(kind.name)}: {branch_words(kind)}.",
                f"{_capital(kind.name)}: {names}.",
            )
        )
    return section(
        "network",
        "Network",
        paragraph(
            f"{described.network} with {described.parameters:,} learned weights and "
            f"{described.statistics:,} running statistics of BatchNorm, drawn from the model that "
            "was trained, at its input size."
        ),
        paragraph(_modules_sentence(kinds)),
        paragraph(
            "In the drawings of the blocks, a coloured box is a convolution with its kernel's "
            "height and width and its number of features, followed by BatchNorm and ReLU; a plain "
            "box is a pool. A range of numbers spans the blocks of that kind."
        ),
        f'<div class="figures">\n{"".join(shown)}\n</div>',
        _stage_table(described),
    )


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def _modules_sentence(kinds: list[BlockKind]) -> str:
    """Which blocks the paper's modules may be: it names three and does not describe them."""
    keeping = [kind.name for kind in kinds if kind.keeps_grid]
    halving = [kind.name for kind in kinds if not kind.keeps_grid]
    if not keeping or not halving:
        return ""
    return (
        "The paper's figure 4 names three kinds of modules, A, B and C. Here "
        f"{', '.join(keeping)} keep the grid of their input, and {', '.join(halving)} make it "
        "smaller."
    )


def _stage_table(described: Architecture) -> str:
    rows: list[list[object]] = [
        [
            name,
            len(stages),
            max(len(stage.branches) for stage in stages),
            shape_words(stages[-1].output),
            sum(stage.parameters for stage in stages),
            sum(stage.statistics for stage in stages),
        ]
        for name, stages in stage_groups(described).items()
    ]
    total = [described.parameters, described.statistics]
    rows.append(
        ["all", len(described.stages), "", shape_words(described.stages[-1].output), *total]
    )
    for row in rows:
        row[4:] = [f"{count:,}" for count in (row[4], row[5])]
    header = ["Kind", "Stages", "Branches", "Last output", "Learned weights", "Running statistics"]
    return table("Stages of the network, by kind", header, rows)
