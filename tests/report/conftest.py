"""A finished run, made up: a folder with everything that training and evaluation leave."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from thyrojax.analysis.cutoff import choose_cutoff
from thyrojax.analysis.operating_point import summarise, write_metrics
from thyrojax.analysis.predictions import Predictions, write_predictions
from thyrojax.report import data_section, gallery, html, network_section
from thyrojax.report.figures import Rendered
from thyrojax.report.html import write_report

PARTS = {"train": 140, "validation": 40, "test": 60}
SIZES = ("<0.5", "0.5-1.0", ">1.0", "")
GRADES = ("2", "3", "4a", "4b", "4c", "5")


def _predictions(part: str, n: int, random: np.random.Generator) -> Predictions:
    """Scores that separate the classes well but not wholly; every fourth patient has two images."""
    labels = np.arange(n) % 2
    scores = 1.0 / (1.0 + np.exp(-random.normal(2.2 * (labels - 0.5), 1.2)))
    patients = [f"{part}-p{index - (index % 4 == 1)}" for index in range(n)]
    return Predictions(tuple(f"{part}-{i}" for i in range(n)), tuple(patients), labels, scores)


def _write_log(path: Path) -> None:
    lines = []
    for step in range(10, 410, 10):
        epoch = step / 40
        lines.append({"step": step, "epoch": epoch, "loss": 0.7 * np.exp(-epoch / 5) + 0.02})
        if step % 40 == 0:
            auc = 0.9 - 0.35 * np.exp(-epoch / 3)
            loss = 0.45 + 0.3 * np.exp(-epoch)
            lines.append({"step": step, "epoch": epoch, "val_loss": loss, "val_auc": auc})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def _write_split(path: Path, parts: dict[str, Predictions], random: np.random.Generator) -> None:
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image_id", "patient_id", "part", "label", "size_group", "tirads"])
        for part, cases in parts.items():
            for image, patient, label in zip(
                cases.image_ids, cases.patient_ids, cases.labels, strict=True
            ):
                size, grade = random.choice(SIZES, p=(0.2, 0.4, 0.35, 0.05)), random.choice(GRADES)
                table.writerow([image, patient, part, label, size, grade])


def _write_examples(folder: Path, test: Predictions, n: int, random: np.random.Generator) -> None:
    (folder / "examples").mkdir()
    examples = []
    for index in range(n):
        name = test.image_ids[index]
        frame = random.integers(20, 90, (90, 140), dtype=np.uint8)
        Image.fromarray(frame).save(folder / "examples" / f"{name}.png")
        Image.fromarray(frame[:64, :64]).save(folder / "examples" / f"{name}_input.png")
        Image.fromarray(frame[:64, :64]).save(folder / "examples" / f"{name}_map.png")
        examples.append(
            {
                "image_id": name,
                "label": int(test.labels[index]),
                "score": float(test.scores[index]),
                "frame": f"examples/{name}.png",
                "input": f"examples/{name}_input.png",
                "box": [90, 30, 120, 60],
                "window": [65, 5, 80, 80],
                "map": f"examples/{name}_map.png",
                "mass_in_box": 0.25,
                "box_in_input": [20, 20, 44, 44],
                "map_layer": "mixed10",
            }
        )
    (folder / "examples.json").write_text(json.dumps(examples))


def _write_crop_shapes(folder: Path, test: Predictions, random: np.random.Generator) -> None:
    """A nodule of 20 x 30 px, margin 10: a rectangle of 40 x 50 px makes 30/20 into 24/20."""
    windows = {
        "square": [90, 25, 40, 40],
        "rectangle": [90, 20, 40, 50],
        "square_cover": [85, 20, 50, 50],
    }
    frame = random.integers(20, 90, (90, 140), dtype=np.uint8)
    Image.fromarray(frame).save(folder / "examples" / "crop_frame.png")
    for name in windows:
        Image.fromarray(frame[:64, :64]).save(folder / "examples" / f"crop_{name}.png")
    content = {
        "image_id": test.image_ids[1],
        "label": 1,
        "frame": "examples/crop_frame.png",
        "box": [100, 30, 120, 60],
        "margin": 10,
        "shapes": {
            name: {"window": window, "input": f"examples/crop_{name}.png"}
            for name, window in windows.items()
        },
        "aspect_ratio": 1.5,
        "aspect_ratio_in_input": {"square": 1.5, "rectangle": 1.2, "square_cover": 1.5},
    }
    (folder / "crop_shapes.json").write_text(json.dumps(content))


def _write_explanations(folder: Path, test: Predictions) -> None:
    """Six nodules; the box holds 0.2 of each input, and 0.1, 0.3, ... 0.9 of five maps."""
    (folder / "explanations" / "test").mkdir(parents=True)
    names = "image_id,label,score,method,layer,mass_in_box,box_share,target,map,note"
    lines = [names]
    for place, mass in enumerate((0.1, 0.3, 0.5, 0.7, 0.9, "")):
        note = "" if mass else "the map is 0 everywhere"
        case = f"{test.image_ids[place]},{test.labels[place]},{test.scores[place]}"
        lines.append(f"{case},gradcam,mixed10,{mass},0.2,1,,{note}")
    (folder / "explanations" / "test.csv").write_text("\n".join(lines) + "\n")
    (folder / "explanations" / "test" / "sanity.csv").write_text(
        "layer,rank_correlation,n\nfc,0.512,16\nMixed_7c,-0.03,16\nConv2d_1a_3x3,,0\n"
    )


def layer(name: str, kernel: list[int] | None, features: int, **options: object) -> dict[str, Any]:
    """A layer on a grid of 9 x 9, as architecture.json has it."""
    made = {"name": name, "kind": "convolution", "kernel": kernel, "stride": 1, "padding": "SAME"}
    return {**made, "output": [9, 9, features], **options}


def small_architecture() -> dict[str, Any]:
    """A network of a convolution, two blocks of one kind that share a layer late, and a head."""

    def block(name: str, follows: str, features: int, inputs: int) -> dict[str, Any]:
        shared = layer("shared", [1, 1], 8)
        return {
            "name": name,
            "kind": "BlockX",
            "follows": follows,
            "endpoint": None,
            "before": [],
            "input": [9, 9, inputs],
            "output": [9, 9, features + 12 + inputs],
            "parameters": 150_000,
            "statistics": 40,
            "branches": [
                [layer("one", [1, 1], features)],
                [shared, layer("wide", [1, 3], 6)],
                [shared, layer("high", [3, 1], 6)],
                [layer("", [3, 3], inputs, kind="average pool")],
            ],
        }

    pool = layer("", [3, 3], 4, kind="maximum pool", stride=2)
    stem = layer("stem", [3, 3], 4, stride=2, output=[18, 18, 4])
    blocks = [block("block_1", "stem", 16, 4), block("block_2", "block_1", 24, 32)]
    blocks[0]["before"] = [pool]
    head = layer("fc", None, 2, kind="dense", stride=None, padding=None, output=[2])
    aside = {**head, "name": "conv"}
    plain = {"endpoint": None, "before": [], "input": [9, 9, 68], "output": [2], "statistics": 0}
    return {
        "network": "SmallNetwork",
        "input": [37, 37, 1],
        "parameters": 300_500,
        "statistics": 88,
        "stages": [
            {
                **plain,
                "name": "stem",
                "kind": "ConvBN",
                "follows": "images",
                "input": [37, 37, 1],
                "output": [18, 18, 4],
                "parameters": 100,
                "statistics": 8,
                "branches": [[stem]],
            },
            *blocks,
            {
                **plain,
                "name": "Aside",
                "kind": "AuxiliaryHead",
                "follows": "block_1",
                "parameters": 200,
                "branches": [[aside, head]],
            },
            {
                **plain,
                "name": "fc",
                "kind": "Dense",
                "follows": "block_2",
                "parameters": 200,
                "branches": [[head]],
            },
        ],
    }


def make_run(folder: Path, examples: int = 1, **data: Any) -> Path:
    """Writes a whole run into `folder`; `data` replaces entries of data.json."""
    random = np.random.default_rng(20)
    folder.mkdir(parents=True)
    parts = {part: _predictions(part, n, random) for part, n in PARTS.items()}
    test, validation = parts["test"], parts["validation"]
    (folder / "config.json").write_text(
        json.dumps({"name": "made_up", "seed": 0, "input_size": 160, "crop_shape": "square"})
    )
    summary = {
        "source": "phantom",
        "n_images": 260,
        "n_nodules": 240,
        "n_patients": 180,
        "exclusions": {"no box": 12, "unreadable image": 8},
        "label_names": ["benign", "malignant"],
        "subject": "simulated thyroid nodules",
        "fingerprint": "0f" * 32,
    }
    (folder / "data.json").write_text(json.dumps(summary | data))
    weights = {"source": "keras file", "sha256": "47" * 32, "tag": "imagenet", "note": ""}
    (folder / "weights.json").write_text(json.dumps(weights))
    _write_log(folder / "metrics.jsonl")
    _write_split(folder / "split.csv", parts, random)
    write_predictions(folder / "predictions" / "test.csv", test)
    write_predictions(folder / "predictions" / "val.csv", validation)
    cutoff = choose_cutoff(validation.labels, validation.scores)
    metrics = summarise(test.labels, test.scores, cutoff.value, cutoff.source, test.patient_ids)
    write_metrics(folder / "metrics.json", metrics)
    _write_examples(folder, test, examples, random)
    _write_crop_shapes(folder, test, random)
    _write_explanations(folder, test)
    (folder / "architecture.json").write_text(json.dumps(small_architecture()))
    return folder


@pytest.fixture(scope="session")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with its report written, for tests that only look."""
    run = make_run(tmp_path_factory.mktemp("report") / "run", examples=4)
    write_report(run)
    return run


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are not drawn, which takes seconds a report: for tests of what a page says."""
    blank = Rendered(b"png", b"svg", 400)
    for module in (html, data_section, gallery, network_section):
        monkeypatch.setattr(module, "render", lambda *arguments, **options: blank)


@pytest.fixture
def run_folder(tmp_path: Path, undrawn: None) -> Path:
    return make_run(tmp_path / "run")


@pytest.fixture
def new_run(tmp_path: Path, undrawn: None) -> Callable[..., Path]:
    """Makes a run with other numbers of examples, or other entries of data.json."""
    return lambda **options: make_run(tmp_path / "other", **options)


@pytest.fixture
def small() -> dict[str, Any]:
    """The content of the made-up run's architecture.json."""
    return small_architecture()
