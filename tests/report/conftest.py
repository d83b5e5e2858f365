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
        examples.append(
            {
                "image_id": name,
                "label": int(test.labels[index]),
                "score": float(test.scores[index]),
                "frame": f"examples/{name}.png",
                "input": f"examples/{name}_input.png",
                "box": [90, 30, 120, 60],
                "window": [65, 5, 80, 80],
            }
        )
    (folder / "examples.json").write_text(json.dumps(examples))


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
    return folder


@pytest.fixture(scope="session")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with its report written, for tests that only look."""
    run = make_run(tmp_path_factory.mktemp("report") / "run", examples=4)
    write_report(run)
    return run


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


@pytest.fixture
def new_run(tmp_path: Path) -> Callable[..., Path]:
    """Makes a run with other numbers of examples, or other entries of data.json."""
    return lambda **options: make_run(tmp_path / "other", **options)
