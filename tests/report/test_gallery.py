"""Crop shapes, examples and explanations in a run's report, and their files when they are wrong."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from thyrojax.errors import RunError
from thyrojax.report.gallery import MOST_SHOWN
from thyrojax.report.html import write_report


def text_of(run: Path) -> str:
    """The page without its tags."""
    page = write_report(run).read_text(encoding="utf-8")
    words = unescape(re.sub(r"<[^>]*>", " ", page.split("</style>")[1]))
    return " ".join(words.replace("\N{NO-BREAK SPACE}", " ").split())


def set_example(run: Path, **values: Any) -> None:
    examples = json.loads((run / "examples.json").read_text())
    examples[0] |= values
    (run / "examples.json").write_text(json.dumps(examples))


def set_shapes(run: Path, **values: Any) -> None:
    content = json.loads((run / "crop_shapes.json").read_text())
    (run / "crop_shapes.json").write_text(json.dumps(content | values))


def set_explanation(run: Path, **values: str) -> None:
    path = run / "explanations" / "test.csv"
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    rows[0] |= values
    text = io.StringIO()
    table = csv.DictWriter(text, rows[0])
    table.writeheader()
    table.writerows(rows)
    path.write_text(text.getvalue())


def test_the_crop_section_says_what_the_resize_does_to_the_shape(run_folder: Path) -> None:
    text = text_of(run_folder)
    assert "test-1 (malignant), cut with a margin of 10 px in every shape" in text
    assert "square (this run) 40 × 40 1.50 1.50 kept rectangle" in text  # noqa: RUF001
    assert "rectangle 40 × 50 1.50 1.20 changed by -20 % square cover" in text  # noqa: RUF001


def test_a_nodule_that_its_square_cuts_off_is_said_to_be_cut(run_folder: Path) -> None:
    set_shapes(run_folder, box=[100, 20, 120, 80], choice="The tallest of the test part.")
    text = text_of(run_folder)
    assert "square (this run) 40 × 40 1.50 1.50 kept, cut off" in text  # noqa: RUF001
    assert "The tallest of the test part." in text


def test_an_example_says_what_its_map_holds_of_the_box(run_folder: Path) -> None:
    text = text_of(run_folder)
    assert "Mass in box 0.25." in text
    assert "Grad-CAM at mixed10" in text


def test_a_map_of_zeros_is_said_to_be_one(run_folder: Path) -> None:
    set_example(run_folder, mass_in_box=None)
    assert "The map is 0 everywhere." in text_of(run_folder)


def test_examples_of_older_runs_have_no_map(run_folder: Path) -> None:
    examples = json.loads((run_folder / "examples.json").read_text())
    for name in ("map", "mass_in_box", "box_in_input", "map_layer"):
        del examples[0][name]
    (run_folder / "examples.json").write_text(json.dumps(examples))
    text = text_of(run_folder)
    assert "No maps: `thyrojax evaluate` has not written any into this run." in text
    assert "Mass in box" not in text.split("Explanations")[-2]


def test_the_surest_wrong_call_comes_first_and_a_crowd_is_cut(
    new_run: Callable[..., Path],
) -> None:
    run = new_run(examples=1)
    (first,) = json.loads((run / "examples.json").read_text())
    scores = np.linspace(0.98, 0.9, MOST_SHOWN + 2)
    several = [
        {**first, "image_id": f"case-{place}", "label": int(place % 2), "score": float(score)}
        for place, score in enumerate(scores)
    ]
    (run / "examples.json").write_text(json.dumps(several))
    text = text_of(run)
    assert f"{MOST_SHOWN} of {MOST_SHOWN + 2} are shown." in text
    order = [text.index(f"case-{place}: ") for place in (0, 2, 4, 1, 3, 5)]
    assert order == sorted(order)
    assert f"case-{MOST_SHOWN + 1}: " not in text


def test_explanations_are_held_against_chance(run_folder: Path) -> None:
    text = text_of(run_folder)
    # Masses 0.1, 0.3, 0.5, 0.7, 0.9 and a map of zeros, in boxes of 0.2 of the input.
    assert "gradcam at mixed10, on 6 nodules of the test part: median (quartiles)" in text
    assert "all 5 0.50 (0.30 to 0.70) 0.20 (0.20 to 0.20) 4 (80 %) 1" in text
    assert "benign 3 0.50 (0.30 to 0.70) 0.20 (0.20 to 0.20) 2 (67 %) 0" in text
    assert "What this does not prove" in text


def test_the_randomisation_check_is_shown_or_said_to_be_missing(run_folder: Path) -> None:
    text = text_of(run_folder)
    assert "fc 0.51 16 Mixed_7c -0.03 16 Conv2d_1a_3x3 no map left 0" in text
    (run_folder / "explanations" / "test" / "sanity.csv").unlink()
    assert "was not checked: `thyrojax explain RUN --sanity` does so." in text_of(run_folder)


def write_map(run: Path) -> None:
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(run / "examples" / "test-0_map.png")


def write_sanity(run: Path) -> None:
    path = run / "explanations" / "test" / "sanity.csv"
    path.write_text("layer,rank_correlation,n\nfc,7,16\n")


SHAPES = {"square": {"window": [0, 0, 9, 9], "input": "examples/crop_square.png"}}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda run: set_example(run, map="no.png"), "example 1: found no file no.png in the run"),
        (lambda run: set_example(run, map="../run/config.json"), "found no file ../run/config"),
        (lambda run: set_example(run, mass_in_box=1.5), "example 1, mass_in_box: found 1.5"),
        (lambda run: set_example(run, box_in_input=[1]), "example 1, box_in_input: found [1]"),
        (lambda run: set_example(run, window=[0, 0, 0, 9]), "example 1, window: found"),
        (write_map, "test-0_map.png: found 9x9 px, expected the input's 64x64 px"),
        (lambda run: set_shapes(run, margin=-1), "crop_shapes.json, margin: found -1"),
        (lambda run: set_shapes(run, shapes={}), "crop_shapes.json, shapes: found {}"),
        (lambda run: set_shapes(run, shapes={"oval": {}}), "shapes: found {'oval': {}}"),
        (lambda run: set_shapes(run, shapes={"square": {}}), "square: found no window"),
        (lambda run: set_shapes(run, aspect_ratio=0), "aspect_ratio: found 0"),
        (
            lambda run: set_shapes(run, shapes=SHAPES, aspect_ratio_in_input={"rectangle": 1}),
            "aspect_ratio_in_input: found no square",
        ),
        (lambda run: set_explanation(run, image_id="x"), "row 1: found 'x', expected a nodule of"),
        (lambda run: set_explanation(run, label="2"), "row 1, label: found '2'"),
        (lambda run: set_explanation(run, mass_in_box="2"), "row 1, mass_in_box: found '2'"),
        (lambda run: set_explanation(run, mass_in_box="nan"), "row 1, mass_in_box: found 'nan'"),
        (lambda run: set_explanation(run, box_share=""), "row 1, box_share: found nothing"),
        (lambda run: set_explanation(run, mass_in_box=""), "row 1: found no mass_in_box and no"),
        (write_sanity, "sanity.csv, row 1, rank_correlation: found '7'"),
        (
            lambda run: (run / "explanations" / "test.csv").write_text("image_id\n"),
            "test.csv: found no column label, score, method",
        ),
    ],
)
def test_wrong_pictures_and_figures_are_refused_in_one_line(
    run_folder: Path, spoil: Callable[[Path], Any], message: str
) -> None:
    spoil(run_folder)
    with pytest.raises(RunError) as caught:
        write_report(run_folder)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
