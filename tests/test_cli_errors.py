"""Malformed input to the command: one line on stderr, exit status 2, nothing written or lost.

Faults inside a CSV are one line each; every case here has one fault.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from thyrojax.cli import main

HEADER = "image,image_id,patient_id,x_min,y_min,x_max,y_max,label"
GOOD = "a.png,n1,p1,10,10,60,50,0"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with two good images and a good CSV in it."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        Image.fromarray(rng.integers(0, 255, (80, 100), dtype=np.uint8)).save(tmp_path / name)
    (tmp_path / "good.csv").write_text(f"{HEADER}\n{GOOD}\nb.png,n2,p2,5,5,50,40,1\n")
    return tmp_path


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a refused command leaves on stderr."""
    try:
        status = main(arguments)
    except SystemExit as stop:
        status = stop.code
    said = capsys.readouterr()
    assert status == 2, said
    assert said.out == ""
    lines = said.err.splitlines()
    assert len(lines) == 1, said.err
    assert lines[0].startswith("thyrojax")
    return lines[0]


CSV_FAULTS = {
    "missing column": (HEADER.replace(",label", ""), GOOD[:-2], "label"),
    "empty file": ("", "", "bad.csv"),
    "no rows": (HEADER, "", "bad.csv"),
    "missing image": (HEADER, "none.png,n1,p1,10,10,60,50,0", "none.png"),
    "no image id": (HEADER, "a.png,,p1,10,10,60,50,0", "image_id"),
    "no patient id": (HEADER, "a.png,n1,,10,10,60,50,0", "patient_id"),
    "box outside": (HEADER, "a.png,n1,p1,10,10,101,50,0", "100x80"),
    "negative edge": (HEADER, "a.png,n1,p1,-1,10,60,50,0", "-1"),
    "no area": (HEADER, "a.png,n1,p1,10,10,10,50,0", "area"),
    "edges swapped": (HEADER, "a.png,n1,p1,60,10,10,50,0", "row 1"),
    "edge not a number": (HEADER, "a.png,n1,p1,ten,10,60,50,0", "ten"),
    "edge not finite": (HEADER, "a.png,n1,p1,nan,10,60,50,0", "nan"),
    "label 2": (HEADER, "a.png,n1,p1,10,10,60,50,2", "label"),
    "label word": (HEADER, "a.png,n1,p1,10,10,60,50,maybe", "maybe"),
    "unknown grade": (HEADER + ",tirads", GOOD + ",4d", "4d"),
    "unknown shape": (HEADER + ",shape", GOOD + ",round", "round"),
    "unknown composition": (HEADER + ",composition", GOOD + ",stone", "stone"),
    "negative size": (HEADER + ",size_mm", GOOD + ",-3", "-3"),
    "infinite size": (HEADER + ",size_mm", GOOD + ",inf", "inf"),
    "reader label": (HEADER + ",reader_label", GOOD + ",3", "reader_label"),
    "misspelt column": (HEADER + ",compositon", GOOD + ",solid", "compositon"),
    "ragged row": (HEADER, GOOD + ",extra", "row 1"),
    "duplicate id": (HEADER, f"{GOOD}\nb.png,n1,p2,5,5,50,40,1", "n1"),
    "conflicting labels": (HEADER, f"{GOOD}\na.png,n2,p1,10,10,60,50,1", "a.png"),
    "two header columns alike": (HEADER + ",label", GOOD + ",0", "label"),
}


@pytest.mark.parametrize("name", CSV_FAULTS)
def test_csv_faults(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    header, rows, mentioned = CSV_FAULTS[name]
    (folder / "bad.csv").write_text(f"{header}\n{rows}\n" if header else "")
    line = run(["data", "check", "csv", "--from", "bad.csv"], capsys)
    assert "bad.csv" in line
    assert mentioned in line
    assert "found" in line
    assert "expected" in line


def damaged_image(folder: Path, content: bytes) -> None:
    (folder / "a.png").write_bytes(content)


IMAGE_FAULTS: dict[str, Callable[[Path], None]] = {
    "cut off": lambda f: damaged_image(f, (f / "a.png").read_bytes()[:300]),
    "empty": lambda f: damaged_image(f, b""),
    "text": lambda f: damaged_image(f, b"not an image"),
    "16 bits": lambda f: Image.fromarray(np.zeros((80, 100), np.uint16)).save(f / "a.png"),
}


@pytest.mark.parametrize("name", IMAGE_FAULTS)
def test_image_faults(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    IMAGE_FAULTS[name](folder)
    line = run(["data", "build", "csv", "--from", "good.csv", "--out", "set"], capsys)
    assert "a.png" in line
    assert not (folder / "set").exists()


OPTIONS = {
    "no command": ([], "COMMAND"),
    "unknown command": (["dance"], "dance"),
    "unknown source": (["data", "check", "tn9k", "--from", "x"], "tn9k"),
    "source without a path": (["data", "check", "csv"], "csv"),
    "path that is not there": (["data", "check", "ddti", "--from", "nowhere"], "nowhere"),
    "folder for a file": (["data", "check", "csv", "--from", "."], "folder"),
    "file for a folder": (["data", "check", "busbra", "--from", "good.csv"], "good.csv"),
    "path for the phantom": (["data", "check", "phantom", "--from", "x"], "built in"),
    "no patients": (["data", "check", "phantom", "--patients", "0"], "n_patients"),
    "patients of a csv": (["data", "check", "csv", "--from", "x", "--patients", "3"], "--patients"),
    "build without --out": (["data", "build", "phantom"], "--out"),
    "unknown argument": (["data", "check", "phantom", "--colour", "red"], "--colour"),
    "unknown preset": (["train", "guan2018", "--data", "d", "--workdir", "r"], "guan2018"),
    "preset file missing": (["train", "mine.py", "--data", "d", "--workdir", "r"], "mine.py"),
    "unknown field": (["train", "ddti", "--data", "d", "--workdir", "r", "--rate", "1"], "rate"),
    "field of another type": (
        ["train", "ddti", "--data", "d", "--workdir", "r", "--epochs", "many"],
        "epochs",
    ),
    "field out of range": (
        ["train", "ddti", "--data", "d", "--workdir", "r", "--input-size", "64"],
        "input_size: found 64, expected a whole number >= 75",
    ),
    "unknown crop shape": (
        ["train", "ddti", "--data", "d", "--workdir", "r", "--crop-shape", "circle"],
        "circle",
    ),
    "data that is no set": (["train", "ddti", "--data", ".", "--workdir", "r"], "data build"),
    "evaluate no run": (["evaluate", "nowhere"], "nowhere"),
    "report no run": (["report", "nowhere"], "nowhere"),
    "predict without a box": (["predict", "nowhere", "a.png"], "--box"),
    "box of three": (["predict", "nowhere", "a.png", "--box", "1", "2", "3"], "--box"),
    "box outside": (["predict", ".", "a.png", "--box", "0", "0", "200", "50"], "100x80"),
    "box not finite": (["predict", ".", "a.png", "--box", "nan", "0", "9", "9"], "nan"),
    "image that is not there": (["predict", ".", "c.png", "--box", "0", "0", "9", "9"], "c.png"),
    "unknown tag": (["weights", "fetch", "imagenet22k"], "imagenet22k"),
    "weights that are not there": (
        ["features", "--weights", "w.h5", "--images", "a.png", "--out", "f.npz"],
        "w.h5",
    ),
    "weights that are a picture": (
        ["features", "--weights", "b.png", "--images", "a.png", "--out", "f.npz"],
        "b.png",
    ),
    "features of no image": (
        ["features", "--weights", "w.h5", "--images", "good.csv", "--out", "f.npz"],
        "good.csv",
    ),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_option_faults(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(path.name for path in folder.iterdir())
    arguments, mentioned = OPTIONS[name]
    assert mentioned in run(arguments, capsys)
    assert sorted(path.name for path in folder.iterdir()) == before


@pytest.mark.parametrize(
    ("text", "mentioned"),
    [
        ("config = 3\n", "config"),
        ("raise ValueError('no')\n", "ValueError"),
        ("def (:\n", "mine.py"),
        ("from thyrojax.config import Config\nconfig = Config(lr=-1.0)\n", "lr: found -1.0"),
    ],
)
def test_preset_file_faults(
    text: str, mentioned: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "mine.py").write_text(text)
    assert mentioned in run(["train", "mine.py", "--data", "d", "--workdir", "r"], capsys)


def test_weights_without_a_layer_name_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with h5py.File(folder / "w.h5", "w") as file:
        file.create_group("conv2d_1").create_dataset("kernel:0", data=np.zeros((3, 3, 3, 32)))
    line = run(["features", "--weights", "w.h5", "--images", "a.png", "--out", "f.npz"], capsys)
    assert "w.h5" in line


def test_existing_folder_is_not_built_over(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "set").mkdir()
    (folder / "set" / "mine.txt").write_text("mine")
    line = run(["data", "build", "csv", "--from", "good.csv", "--out", "set"], capsys)
    assert "set" in line
    assert (folder / "set" / "mine.txt").read_text() == "mine"


def test_all_faults_are_told_at_once_and_written_out(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "bad.csv").write_text(
        f"{HEADER}\na.png,n1,p1,10,10,999,50,0\nc.png,n2,p2,1,1,5,5,1\na.png,n3,p3,1,1,5,5,7\n"
    )
    status = main(["data", "check", "csv", "--from", "bad.csv", "--csv", "faults.csv"])
    told = capsys.readouterr().err
    assert status == 2
    assert all(f"row {row}" in told for row in (1, 2, 3))
    assert len((folder / "faults.csv").read_text().splitlines()) == 4


RUN_FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "config.json cut off": (lambda r: (r / "config.json").write_text('{"name"'), "config.json"),
    "config.json of another kind": (lambda r: (r / "config.json").write_text("[]"), "object"),
    "unknown field": (
        lambda r: (r / "config.json").write_text(
            json.dumps({**json.loads((r / "config.json").read_text()), "rate": 1})
        ),
        "rate",
    ),
    "no checkpoints": (lambda r: shutil.rmtree(r / "checkpoints"), "checkpoints"),
    "empty checkpoints": (
        lambda r: [shutil.rmtree(path) for path in (r / "checkpoints").iterdir()],
        "no checkpoint",
    ),
    "split.csv of a nodule twice": (
        lambda r: (r / "split.csv").write_text(
            (r / "split.csv").read_text() + (r / "split.csv").read_text().splitlines()[1] + "\n"
        ),
        "split.csv",
    ),
    "data that has moved": (
        lambda r: (r / "data.json").write_text(
            json.dumps({**json.loads((r / "data.json").read_text()), "folder": str(r / "gone")})
        ),
        "gone",
    ),
    "no data.json": (lambda r: (r / "data.json").unlink(), "data.json"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RUN_FAULTS)
def test_run_folder_faults(
    name: str, small_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(small_run, tmp_path / "run")
    damage, mentioned = RUN_FAULTS[name]
    damage(tmp_path / "run")
    before = (tmp_path / "run" / "metrics.json").read_text()
    assert mentioned in run(["evaluate", str(tmp_path / "run")], capsys)
    assert (tmp_path / "run" / "metrics.json").read_text() == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "mentioned"),
    [(["--split", "holdout"], "holdout"), (["--margin", "-5"], "-5")],
)
def test_evaluation_option_faults(
    options: list[str], mentioned: str, small_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mentioned in run(["evaluate", str(small_run), *options], capsys)
