"""The figures of a run's nodules: what is drawn stands where the numbers put it."""

from __future__ import annotations

import numpy as np
import pytest

from thyrojax.report.figures import render
from thyrojax.report.run_figures import (
    Cut,
    box_in_input,
    draw_crop_shapes,
    draw_distribution,
    draw_example,
    draw_mass_in_box,
)

FRAME = np.full((60, 100), 30, np.uint8)
BOX, WINDOW = (70.0, 10.0, 90.0, 30.0), (50.0, -10.0, 80.0, 60.0)
UNIT = (0.0, 0.0, 1.0, 1.0)
NAMES = ("benign", "malignant")


def test_a_box_goes_where_the_resize_puts_it() -> None:
    # (70 - 50) / 80 of 40 columns, (10 + 10) / 60 of 40 rows.
    assert box_in_input(BOX, WINDOW, (40, 40)) == pytest.approx((10, 40 / 3, 20, 80 / 3))


def test_box_and_window_are_drawn_at_their_pixels_also_past_the_frame() -> None:
    axes = draw_example(FRAME, FRAME[:40, :40], BOX, WINDOW, UNIT).axes[0]
    window, box = axes.patches
    assert window.get_bbox().bounds == (50, -10, 80, 60)
    assert box.get_bbox().bounds == (70, 10, 20, 20)
    assert axes.get_xlim() == (-1, 131)
    assert axes.get_ylim() == (61, -11)


def test_the_map_lies_over_the_input_and_hides_least_where_it_is_low() -> None:
    heat = np.zeros((40, 40), np.uint8)
    heat[10:20, 20:30] = 255
    drawn = draw_example(FRAME, FRAME[:40, :40], BOX, WINDOW, (5.0, 6.0, 25.0, 36.0), heat)
    _, beside, over = drawn.axes
    for axes in (beside, over):
        assert axes.patches[0].get_bbox().bounds == (5, 6, 20, 30)
    _, colours = over.images
    assert colours.get_cmap().name == "viridis"
    np.testing.assert_array_equal(colours.get_array(), heat)
    alpha = colours.get_alpha()
    assert alpha[0, 0] == pytest.approx(0.2)
    assert alpha[15, 25] == pytest.approx(0.7)
    (line,) = over.collections[0].get_paths()
    left, top = line.vertices.min(axis=0)
    assert 19 <= left <= 21
    assert 9 <= top <= 11


@pytest.mark.parametrize("level", [0, 255])
def test_an_even_map_has_no_line_at_its_half(level: int) -> None:
    heat = np.full((40, 40), level, np.uint8)
    drawn = draw_example(FRAME, FRAME[:40, :40], BOX, WINDOW, UNIT, heat)
    assert not drawn.axes[2].collections
    assert render(lambda: drawn).png


def test_bars_are_shares_of_each_class_under_their_counts() -> None:
    counts = {"train": np.array([[1, 3], [2, 0]]), "test": np.array([[0, 0], [1, 1]])}
    train, test = draw_distribution(counts, ["<0.5", ">1.0"], NAMES, "cm").axes
    heights = [[bar.get_height() for bar in bars] for bars in train.containers]
    assert heights == [[25.0, 75.0], [100.0, 0.0]]
    assert [text.get_text() for text in train.texts] == ["1", "3", "2", "0"]
    assert [[bar.get_height() for bar in bars] for bars in test.containers] == [[0, 0], [50, 50]]
    assert [label.get_text() for label in test.get_xticklabels()] == ["<0.5", ">1.0"]


def test_each_crop_states_the_ratio_before_and_in_the_input() -> None:
    cuts = [
        Cut("square", (50.0, -10.0, 80.0, 80.0), FRAME[:40, :40], 1.0),
        Cut("rectangle", WINDOW, FRAME[:40, :40], 1.33),
    ]
    frame, square, _, rectangle = draw_crop_shapes(FRAME, BOX, 1.0, cuts).axes
    assert frame.get_title().endswith("height / width 1.00")
    assert square.get_title().endswith("height / width 1.00")
    assert rectangle.get_title().endswith("height / width 1.33")
    width, height = rectangle.patches[0].get_bbox().size
    assert height / width == pytest.approx(4 / 3)


def test_maps_of_right_and_wrong_calls_are_told_apart() -> None:
    masses, shares = np.array([0.5, 0.6, 0.1]), np.array([0.2, 0.3, 0.4])
    right = np.array([True, False, True])
    scatter, histogram = draw_mass_in_box(masses, shares, right, "lesion").axes
    found = {points.get_label(): points.get_offsets().tolist() for points in scatter.collections}
    assert found == {
        "right call (n = 2)": [[0.2, 0.5], [0.4, 0.1]],
        "wrong call (n = 1)": [[0.3, 0.6]],
    }
    assert histogram.get_ylabel() == "lesions"
    assert sum(bar.get_height() for bar in histogram.patches[:20]) == 3
