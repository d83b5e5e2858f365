"""What the figures of a study draw, and where."""

from __future__ import annotations

from typing import Any

import pytest

from thyrojax.analysis.table import table_of
from thyrojax.study.figures import draw_subgroups


def row(category: str, label: str, difference: float | None) -> dict[str, Any]:
    low, high = (None, None) if difference is None else (difference - 0.1, difference + 0.2)
    interval = {"difference": difference, "difference_low": low, "difference_high": high}
    return {"category": category, "label": label, "n": 12, "n_positive": 7, **interval, "note": "-"}


def test_subgroups_have_a_mark_for_each_category_beside_each_other() -> None:
    rows = [
        row("taller", "square", None),
        row("taller", "frame", -0.3),
        row("taller", "cover", 0.1),
        row("wider", "square", None),
        row("wider", "frame", -0.2),
        row("wider", "cover", 0.0),
    ]
    figure = draw_subgroups(table_of("by_box_shape", "", rows), "square")
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["frame", "cover"]
    marks = {
        round(float(line.get_xdata()[0]), 9): float(line.get_ydata()[0])
        for line in axes.lines
        if len(line.get_xdata()) == 1
    }
    assert marks == pytest.approx({-0.3: -0.15, -0.2: 0.15, 0.1: 0.85, 0.0: 1.15})
    spans = [tuple(line.get_xdata()) for line in axes.lines if line.get_linestyle() == "-"]
    assert any(span == pytest.approx((-0.4, -0.1)) for span in spans if len(span) == 2)
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts == ["taller: 12, 7 of them positive", "wider: 12, 7 of them positive"]
