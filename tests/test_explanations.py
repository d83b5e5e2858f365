"""What `explain` and `evaluate` leave in a run folder to be shown, and nothing old with it."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from thyrojax import explanations, gallery
from thyrojax.analysis.predictions import read_predictions
from thyrojax.cli import main
from thyrojax.cli_explain import METHODS
from thyrojax.config import Config
from thyrojax.data.crop import AROUND_BOX, Window
from thyrojax.data.dataset import open_dataset
from thyrojax.data.records import Box
from thyrojax.errors import ConfigError, ThyrojaxError
from thyrojax.evaluate import evaluate
from thyrojax.files import write_folder
from thyrojax.nodule_maps import box_in_input, choose_shown, explain_rows, grey
from thyrojax.train.state import random_variables


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def size_of(path: Path) -> tuple[int, int]:
    """Width and height of an image, which must be grey."""
    with Image.open(path) as image:
        assert image.mode == "L"
        return image.size


def test_box_in_the_input_is_scaled_and_clipped() -> None:
    # A window of 200x100 px from (-10, 20) in an input of 50 px: a quarter across, half down.
    box, cut = Box(30, 0, 110, 60), Window(-10, 20, 200, 100)
    assert box_in_input(box, cut, 50, clip=False) == (10.0, -10.0, 30.0, 20.0)
    assert box_in_input(box, cut, 50) == (10.0, 0.0, 30.0, 20.0)


def test_shown_are_of_each_class_the_six_surest_wrong_and_two_surest_right_calls() -> None:
    labels = np.asarray([0] * 10 + [1] * 4)
    scores = np.asarray(
        [0.9, 0.3, 0.8, 0.1, 0.7, 0.6, 0.95, 0.65, 0.55, 0.2, 0.45, 0.99, 0.51, 0.7]
    )
    # At 0.5, class 0: 0, 2, 4, 5, 6, 7, 8 are wrong (seven, the least sure, 8, stays out).
    assert choose_shown(labels, scores, 0.5) == [6, 0, 2, 4, 7, 5, 3, 9, 10, 11, 13]
    assert choose_shown(np.asarray([1, 1]), np.asarray([0.2, 0.9]), 0.1) == [1, 0]


def test_a_map_as_an_image_has_its_largest_value_white() -> None:
    image = grey(np.asarray([[0.0, 0.1], [0.4, 0.2]], np.float32))
    np.testing.assert_array_equal(image, [[0, 64], [255, 128]])
    assert not grey(np.zeros((2, 2), np.float32)).any()


def test_a_folder_is_replaced_whole_or_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "shown"
    write_folder(folder, {"a": b"1", "b": b"2"})
    write_folder(folder, {"b": b"3"})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"b": b"3"}
    with pytest.raises(ThyrojaxError, match=r"shown: found .*, expected a place"):
        write_folder(folder, {"c": b"4", "no/such/folder": b"5"})
    assert [path.name for path in folder.iterdir()] == ["b"]
    assert [path.name for path in tmp_path.iterdir()] == ["shown"]


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_explained_rows_come_in_order_whatever_the_batch(
    method: Any, small_config: Config, phantom_set: Path
) -> None:
    config = replace(small_config, input_size=139)
    variables = random_variables(config)
    dataset = open_dataset(phantom_set)
    rows = np.asarray([7, 3, 11, 0, 5, 20, 2], np.int32)
    targets = np.asarray([1, 0, 1, 0, 1, 0, 1])
    explained = list(explain_rows(variables, config, dataset, rows, targets, 50, method))
    assert len(explained) == 7
    (alone,) = explain_rows(variables, config, dataset, rows[:1], targets[:1], 50, method)
    np.testing.assert_allclose(explained[0].map, alone.map, rtol=1e-3, atol=1e-6)
    for row, one in zip(rows, explained, strict=True):
        box = dataset.records[row].box
        # Square windows: width w + 100.
        width = box.width * 139 / (box.width + 100)
        assert one.box[2] - one.box[0] == pytest.approx(width, rel=1e-5)
        assert one.map.shape == one.crop.shape == (139, 139)
        assert one.map.min() >= 0.0
        if one.mass_in_box is None:
            assert one.map.max() == 0.0
            assert one.note
        else:
            x_min, y_min, x_max, y_max = (round(edge) for edge in one.box)
            mass = one.map[y_min:y_max, x_min:x_max].sum() / one.map.sum()
            assert one.mass_in_box == pytest.approx(mass, abs=0.02)
        assert (one.gap is not None) == (method == "integrated-gradients")


def test_methods_of_the_command_are_those_there_are() -> None:
    assert METHODS == explanations.METHODS


@pytest.fixture
def run(small_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_run, tmp_path / "run"))


@pytest.mark.slow
def test_explain_writes_a_line_for_every_nodule_and_images_of_those_shown(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", str(run), "--sanity", "--quiet"]) == 0
    said = capsys.readouterr()
    predictions = read_predictions(run / "predictions" / "test.csv")
    file = run / "explanations" / "test.csv"
    lines = rows_of(file)
    assert [line["image_id"] for line in lines] == list(predictions.image_ids)
    scores = [float(line["score"]) for line in lines]
    np.testing.assert_allclose(scores, predictions.scores, atol=1e-6)
    cutoff = json.loads((run / "metrics.json").read_text())["cutoff"]
    assert [int(line["target"]) for line in lines] == [int(score >= cutoff) for score in scores]
    for line in lines:
        assert (line["method"], line["layer"]) == ("gradcam", "mixed10")
        assert bool(line["mass_in_box"]) != bool(line["note"])
        if line["mass_in_box"]:
            # At 75 px the last grid is one cell: its map is even, its mass is the box's share.
            assert float(line["mass_in_box"]) == pytest.approx(float(line["box_share"]), abs=1e-3)
    shown = [line["map"] for line in lines if line["map"]]
    assert len(shown) == len(choose_shown(predictions.labels, predictions.scores, cutoff))
    for name in shown:
        assert size_of(run / name) == (75, 75)
        assert (run / name.replace("_map", "_input")).exists()
    assert said.err == ""
    told = said.out.splitlines()
    assert told[0].startswith(f"test: {len(lines)} nodules, gradcam of mixed10, class called")
    assert told[-1] == str(file)
    assert sum(line.startswith("random from fc to ") for line in told) == 17
    assert len(rows_of(run / "explanations" / "test" / "sanity.csv")) == 17

    command = ["explain", str(run), "--method", "integrated-gradients", "--n", "3", "--quiet"]
    assert main(command) == 0
    assert "completeness" in capsys.readouterr().out
    lines = rows_of(file)
    assert len(lines) == 3
    assert all(line["completeness_gap"] and line["layer"] == "input" for line in lines)
    # Of the first call nothing is left.
    left = {path.name for path in (run / "explanations" / "test").iterdir()}
    assert left == {f"{n:02d}_{kind}.png" for n in range(3) for kind in ("input", "map")}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "mentioned"),
    [
        (["--layer", "mixed11"], "layer: found 'mixed11', expected mixed0 to mixed10"),
        (["--layer", "mixed7", "--method", "smoothgrad"], "with gradcam only"),
        (["--split", "holdout"], "holdout"),
        (["--margin", "-1"], "margin: found -1"),
        (["--n", "0"], "n: found 0"),
        (["--data", "nowhere"], "nowhere"),
        (["--method", "lime"], "lime"),
    ],
)
def test_explain_refuses_in_one_line_and_writes_nothing(
    options: list[str], mentioned: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main(["explain", str(run), *options])
    except SystemExit as stop:
        status = stop.code  # type: ignore[assignment]
    said = capsys.readouterr()
    assert status == 2
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert mentioned in line
    assert not (run / "explanations").exists()


def test_explain_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["explain", "--help"])
    assert stop.value.code == 0
    assert "example: thyrojax explain runs/demo" in capsys.readouterr().out
    assert main(["explain", "nowhere"]) == 2
    assert "nowhere: found no config.json" in capsys.readouterr().err


@pytest.mark.slow
def test_gallery_has_maps_boxes_and_the_crop_shapes(small_run: Path, phantom_set: Path) -> None:
    predictions = read_predictions(small_run / "predictions" / "test.csv")
    cutoff = json.loads((small_run / "metrics.json").read_text())["cutoff"]
    records = {record.image_id: record for record in open_dataset(phantom_set).records}
    examples = json.loads((small_run / "examples.json").read_text())
    chosen = choose_shown(predictions.labels, predictions.scores, cutoff)
    assert [e["image_id"] for e in examples] == [predictions.image_ids[i] for i in chosen]
    for example in examples:
        record = records[example["image_id"]]
        assert example["box"] == list(record.box)
        assert size_of(small_run / example["frame"]) == (record.width, record.height)
        assert size_of(small_run / example["input"]) == (75, 75)
        assert size_of(small_run / example["map"]) == (75, 75)
        assert example["map_layer"] == "mixed10"
        assert example["map_class"] == int(example["score"] >= cutoff)
        x_min, y_min, x_max, y_max = example["box_in_input"]
        assert 0.0 <= x_min < x_max <= 75.0
        assert 0.0 <= y_min < y_max <= 75.0
        if example["mass_in_box"] is None:
            assert example["note"]
        else:
            assert example["mass_in_box"] == pytest.approx(example["box_share"], abs=1e-3)

    shapes = json.loads((small_run / "crop_shapes.json").read_text())
    record, margin = records[shapes["image_id"]], shapes["margin"]
    width, height = record.box.width, record.box.height
    assert shapes["aspect_ratio"] == pytest.approx(height / width)
    assert list(shapes["shapes"]) == ["square", "square_cover", "rectangle"]
    ratios = shapes["aspect_ratio_in_input"]
    assert ratios["square"] == ratios["square_cover"] == pytest.approx(height / width)
    # Squeezed to a square, a rectangle of w + 2m by h + 2m changes the nodule's shape so.
    squeezed = height / (height + 2 * margin) * (width + 2 * margin) / width
    assert ratios["rectangle"] == pytest.approx(squeezed)
    for shape in shapes["shapes"].values():
        left, top, window_width, window_height = shape["window"]
        assert min(left, top) >= 0 or "none has" in shapes["choice"]
        assert window_width >= width + 2 * margin
        assert size_of(small_run / shape["input"]) == (75, 75)
        assert window_height > 0


@pytest.mark.slow
def test_nothing_of_an_earlier_evaluation_stays(
    run: Path, phantom_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run / "examples" / "99.png").write_bytes(b"old")
    predictions = run / "predictions"
    assert evaluate(run, phantom_set, margins=[0, 50])["margin"] == 50
    assert not (run / "examples" / "99.png").exists()
    named = {Path(e[key]).name for e in _examples(run) for key in ("frame", "input", "map")}
    crops = {f"crop_{name}.png" for name in ("frame", *AROUND_BOX)}
    assert {path.name for path in (run / "examples").iterdir()} == named | crops
    for part in ("val", "test"):
        assert set(read_predictions(predictions / f"{part}_margin0.csv").columns["margin"]) == {"0"}
        same = (predictions / f"{part}_margin50.csv").read_bytes()
        assert same == (predictions / f"{part}.csv").read_bytes()
    index = json.loads((predictions / "margins.json").read_text())
    assert index["margins"] == {"val": [0, 50], "test": [0, 50]}

    # Scores of this checkpoint at other margins stay true; those of another one do not.
    (predictions / "test_margin7.csv").write_text("of nobody knows what")
    (predictions / "my_margins.csv").write_text("not ours")
    evaluate(run, phantom_set, "val", margins=[25])
    assert not (predictions / "test_margin7.csv").exists()
    index = json.loads((predictions / "margins.json").read_text())
    assert index["margins"] == {"val": [0, 25, 50], "test": [0, 50]}
    (predictions / "margins.json").write_text(json.dumps({**index, "step": 999}))
    evaluate(run, phantom_set)
    assert sorted(path.name for path in predictions.iterdir()) == [
        "my_margins.csv",
        "test.csv",
        "val.csv",
    ]


@pytest.mark.slow
def test_margins_are_checked_before_anything_is_done(run: Path, phantom_set: Path) -> None:
    with pytest.raises(ConfigError, match="margins: found -5"):
        evaluate(run, phantom_set, margins=[0, -5])


def _examples(run: Path) -> list[dict[str, Any]]:
    examples: list[dict[str, Any]] = json.loads((run / "examples.json").read_text())
    return examples


def test_crop_shapes_show_the_nodule_farthest_from_square_that_fits(phantom_set: Path) -> None:
    dataset = open_dataset(phantom_set)
    rows = np.arange(len(dataset), dtype=np.int32)
    row, choice = gallery._far_from_square(dataset, rows, Config(), 10)
    ratios = [max(r.box.height / r.box.width, r.box.width / r.box.height) for r in dataset.records]
    fitting = [i for i, r in enumerate(dataset.records) if _reach(r.box, 10, r.width, r.height)]
    assert ratios[row] == max(ratios[i] for i in fitting)
    assert f"Of the {len(fitting)} of {len(rows)}" in choice
    row, choice = gallery._far_from_square(dataset, rows, Config(), 5_000)
    assert ratios[row] == max(ratios)
    assert "none has its windows" in choice


def _reach(box: Box, margin: int, width: int, height: int) -> bool:
    """Whether a square of the longer side and the margin, centred on the box, is in the frame."""
    side = max(box.width, box.height) + 2 * margin
    left, top = (box.x_min + box.x_max - side) // 2, (box.y_min + box.y_max - side) // 2
    return min(left, top) >= 0 and left + side <= width and top + side <= height
