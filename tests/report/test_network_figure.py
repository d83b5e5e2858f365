"""The drawing of a network: of a made-up one, and of the real one by its own description."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from thyrojax.errors import RunError
from thyrojax.model import InceptionV3
from thyrojax.model.architecture import describe
from thyrojax.report.network_figure import (
    block_kinds,
    branch_words,
    draw_block,
    draw_network,
    is_side_branch,
    stage_groups,
)
from thyrojax.report.run_architecture import Architecture, read_architecture

Written = Callable[[dict[str, Any]], Architecture]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """Reads a description back from a file."""

    def read(content: dict[str, Any]) -> Architecture:
        (tmp_path / "architecture.json").write_text(json.dumps(content))
        architecture = read_architecture(tmp_path / "architecture.json")
        assert architecture is not None
        return architecture

    return read


def words(figure: Any) -> list[str]:
    return [text.get_text().replace("\N{NO-BREAK SPACE}", " ") for text in figure.axes[0].texts]


def boxes_holding(figure: Any, text: str) -> int:
    """How many boxes have a text of these words in them."""
    axes = figure.axes[0]
    return sum(
        patch.get_bbox().contains(*label.get_position())
        for label in axes.texts
        if label.get_text().replace("\N{NO-BREAK SPACE}", " ") == text
        for patch in axes.patches
    )


def test_every_stage_and_pool_is_a_box_with_its_output(written: Written, small: dict) -> None:
    figure = draw_network(written(small))
    for text in (
        *("input", "3 × 3 convolution, stride 2", "3 × 3 maximum pool, stride 2"),  # noqa: RUF001
        *("block_1, block X", "block_2, block X", "auxiliary head (training)", "dense"),
    ):
        assert boxes_holding(figure, text) == 1
    assert len(figure.axes[0].patches) == 7
    assert words(figure).count("0.15 M") == 2
    assert "18 × 18 × 4" in words(figure)  # noqa: RUF001


def test_a_layer_of_two_branches_is_drawn_once(written: Written, small: dict) -> None:
    network = written(small)
    (kind,) = block_kinds(network)
    assert (kind.name, [stage.name for stage in kind.stages]) == ("block X", ["block_1", "block_2"])
    figure = draw_block(network, kind)
    texts = words(figure)
    assert texts.count("1 × 1\n8") == 1  # noqa: RUF001
    assert "1 × 1\n16\N{EN DASH}24" in texts  # noqa: RUF001
    assert "average\npool 3 × 3" in texts  # noqa: RUF001
    assert "input 9 × 9 × 4\N{EN DASH}32" in texts  # noqa: RUF001
    assert len(figure.axes[0].patches) == 2 + 5  # input, output, and each layer once


def test_a_head_that_nothing_follows_is_for_training(written: Written, small: dict) -> None:
    network = written(small)
    assert [stage.name for stage in network.stages if is_side_branch(network, stage)] == ["Aside"]


def test_blocks_of_one_class_but_another_structure_are_drawn_apart(
    written: Written, small: dict
) -> None:
    other = copy.deepcopy(small)
    other["stages"][2]["branches"][3][0]["kind"] = "maximum pool"
    names = [kind.name for kind in block_kinds(written(other))]
    assert names == ["block X (block_1)", "block X (block_2)"]


def test_inception_v3_is_drawn_from_its_own_description(written: Written) -> None:
    model = InceptionV3(num_classes=2, aux_head=True)
    network = written(describe(model, jax.ShapeDtypeStruct((1, 299, 299, 3), jnp.float32)))
    counts = {name: len(stages) for name, stages in stage_groups(network).items()}
    assert counts == {
        "convolution": 5, "block A": 3, "block B": 1, "block C": 4, "auxiliary head": 1,
        "block D": 1, "block E": 2, "dropout": 1, "dense": 1,
    }  # fmt: skip
    kinds = block_kinds(network)
    assert [kind.name[-1] for kind in kinds if kind.keeps_grid] == ["A", "C", "E"]
    assert "branch 3: 3 × 3 maximum pool, stride 2" in branch_words(kinds[1]).replace(  # noqa: RUF001
        "\N{NO-BREAK SPACE}", " "
    )
    last = draw_block(network, kinds[4])
    assert words(last).count("1 × 1\n448") == 1  # noqa: RUF001
    assert "concatenated 8 × 8 × 2048" in words(last)  # noqa: RUF001


def test_words_stay_within_their_boxes(written: Written) -> None:
    model = InceptionV3(num_classes=2, aux_head=True)
    network = written(describe(model, jax.ShapeDtypeStruct((1, 384, 384, 1), jnp.float32)))
    figures = [draw_network(network), *(draw_block(network, kind) for kind in block_kinds(network))]
    for figure in figures:
        figure.canvas.draw()
        axes = figure.axes[0]
        outlines = [p.get_window_extent() for p in axes.patches]
        for text in (text for text in axes.texts if text.get_text()):
            extent = text.get_window_extent()
            assert figure.bbox.containsx(extent.x0)
            assert figure.bbox.containsx(extent.x1)
            centre = (extent.x0 + extent.x1) / 2, (extent.y0 + extent.y1) / 2
            for outline in outlines:
                if outline.contains(*centre):
                    assert outline.x0 <= extent.x0
                    assert extent.x1 <= outline.x1
                    assert outline.y0 <= extent.y0
                    assert extent.y1 <= outline.y1


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda value: value.pop("stages"), "found no stages"),
        (lambda value: value.update(stages=[]), "stages: found []"),
        (lambda value: value["stages"][1].update(parameters=-1), "stage 2, parameters: found -1"),
        (lambda value: value["stages"][1].update(branches=[[]]), "stage 2, branches: found [[]]"),
        (
            lambda value: value["stages"][0]["branches"][0][0].update(kernel=[3]),
            "kernel: found [3]",
        ),
        (lambda value: value["stages"][2].update(follows="no"), "block_2: found follows 'no'"),
    ],
)
def test_a_description_that_is_none_is_refused_in_one_line(
    written: Written, small: dict, spoil: Callable[[dict], Any], message: str
) -> None:
    spoil(small)
    with pytest.raises(RunError) as caught:
        written(small)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
