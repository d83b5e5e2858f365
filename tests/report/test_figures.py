"""Figures: both files are whole, equal input gives equal files, and odd input draws too."""

from __future__ import annotations

import io
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from thyrojax.analysis.operating_point import count_confusion
from thyrojax.report import figures
from thyrojax.report.figures import Rendered, render

NAMES = ("benign", "malignant")
LABELS = np.arange(40) % 2
SCORES = np.clip(np.arange(40) / 40 * 0.6 + 0.3 * LABELS, 0, 1)


def _svg_size(rendered: Rendered) -> tuple[float, float]:
    root = ElementTree.fromstring(rendered.svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    return float(root.attrib["width"][:-2]), float(root.attrib["height"][:-2])


def _draw(labels: np.ndarray, scores: np.ndarray, cutoff: float) -> Rendered:
    return render(figures.draw_confusion, count_confusion(labels, scores, cutoff), NAMES, cutoff)


def test_png_and_svg_hold_the_same_figure() -> None:
    rendered = _draw(LABELS, SCORES, 0.5)
    width, height = _svg_size(rendered)  # points
    with Image.open(io.BytesIO(rendered.png)) as image:
        assert image.size == (round(width / 72 * 160), round(height / 72 * 160))
    assert rendered.width == round(width / 72 * 96)


def test_the_same_numbers_give_the_same_files() -> None:
    assert _draw(LABELS, SCORES, 0.5) == _draw(LABELS, SCORES, 0.5)


def test_the_style_does_not_leak_into_the_callers_matplotlib() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    _draw(LABELS, SCORES, 0.5)
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("cutoff", [0.0, 1.0])
def test_extreme_cutoffs_are_drawn(cutoff: float) -> None:
    assert _draw(np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.8, 0.9]), cutoff).png


@pytest.mark.parametrize("names", [NAMES, ("TI-RADS-benign (2, 3)", "cost $5 & <b>_x_</b> $")])
def test_names_are_drawn_as_they_are_written(names: tuple[str, str]) -> None:
    confusion = count_confusion(LABELS, SCORES, 0.5)
    assert render(figures.draw_confusion, confusion, names, 0.5).png
    assert render(figures.draw_calibration, LABELS, SCORES, names, 0.2, 0.1).png


def test_one_class_alone_has_confusion_and_calibration() -> None:
    labels = np.ones(5, int)
    scores = np.linspace(0, 1, 5)
    confusion = count_confusion(labels, scores, 0.5)
    assert render(figures.draw_confusion, confusion, NAMES, 0.5).png
    assert render(figures.draw_calibration, labels, scores, NAMES, 0.2, 0.1).png


@pytest.mark.parametrize("auc", [[0.6, 0.8], [np.nan, 0.8], [np.nan, np.nan], [0.3, 0.2]])
def test_learning_curves_bear_gaps(auc: list[float]) -> None:
    epochs = np.array([1.0, 2.0])
    losses = np.array([0.7, np.nan])
    none = np.zeros(0)
    assert render(figures.draw_learning_curves, epochs, losses, epochs, losses, np.array(auc)).png
    assert render(figures.draw_learning_curves, none, none, epochs, losses, np.array(auc)).png
