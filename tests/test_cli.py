"""The command on good input, as the README uses it."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from thyrojax.cli import main

WEIGHTS_ACTIONS = ("inspect", "convert", "compare", "classify", "list", "fetch", "verify")


def out(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(arguments) == 0
    return capsys.readouterr().out


def test_help_answers_at_once_and_every_command_has_an_example(
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = [sys.executable, "-m", "thyrojax.cli", "--help"]
    subprocess.run(command, check=True, capture_output=True)  # files into the page cache
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # The demand is half a second; processor time is the same on a busy machine.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.75
    for words in (
        ["data", "check"],
        ["data", "build"],
        ["train"],
        ["evaluate"],
        ["predict"],
        ["features"],
        ["report"],
        ["runs"],
        ["digest"],
        ["ensemble"],
        *(["weights", action] for action in WEIGHTS_ACTIONS),
    ):
        with pytest.raises(SystemExit) as stop:
            main([*words, "--help"])
        assert stop.value.code == 0
        assert f"example: thyrojax {' '.join(words)}" in capsys.readouterr().out


@pytest.mark.parametrize("module", ["thyrojax.model", "thyrojax.train.step", "thyrojax.data.crop"])
def test_core_needs_jax_flax_optax_and_numpy_only(module: str) -> None:
    # Of what flax itself would import, rich is needed.
    blocked = (
        "tensorflow_datasets array_record grain orbax cv2 PIL h5py scipy sklearn matplotlib tyro "
        "tensorboardX jaxtyping"
    )
    program = (
        f"import sys\nfor name in {blocked!r}.split(): sys.modules[name] = None\nimport {module}\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_check_counts_the_phantom(capsys: pytest.CaptureFixture[str]) -> None:
    table = out(["data", "check", "phantom", "--patients", "20", "--seed", "3"], capsys)
    assert "nodules" in table
    assert "patients" in table


def test_build_says_what_it_built(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "set"
    said = out(["data", "build", "phantom", "--patients", "4", "--out", str(folder)], capsys)
    assert said.endswith("of 4 patients\n")
    assert json.loads((folder / "data.json").read_text())["n_patients"] == 4


@pytest.mark.slow
def test_train_evaluate_predict_and_report(
    small_run: Path, phantom_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    preset = tmp_path / "small.py"
    preset.write_text(
        "from thyrojax.config import from_json\n"
        "from pathlib import Path\n"
        f"config = from_json(Path({str(small_run / 'config.json')!r}))\n"
    )
    run = tmp_path / "run"
    arguments = ["train", str(preset), "--data", str(phantom_set), "--workdir", str(run)]
    assert out([*arguments, "--quiet", "--steps", "2"], capsys) == f"{run}\n"
    assert json.loads((run / "config.json").read_text())["steps"] == 2

    table = out(["evaluate", str(run), "--split", "test", "--margin", "25"], capsys)
    assert "95 % CI" in table
    assert "validation" in table
    assert json.loads((run / "metrics.json").read_text())["margin"] == 25

    image = tmp_path / "frame.png"
    Image.fromarray(np.full((120, 160, 3), 90, np.uint8)).save(image)
    box = ["--box", "40", "30", "79.5", "60"]
    found = json.loads(out(["predict", str(run), str(image), *box, "--json"], capsys))
    # Box 40..80 after rounding outward, margin 50: 140 px wide, and as high.
    assert found["window"] == [-10, -25, 140, 140]
    assert 0.0 <= found["score"] <= 1.0
    assert found["call"] == ("malignant" if found["score"] >= found["cutoff"] else "benign")
    assert "score" in out(["predict", str(run), str(image), *box], capsys)

    assert out(["report", str(run)], capsys) == f"{run / 'report.html'}\n"
    assert (run / "report.html").read_text().startswith("<!")
    assert (run / "figures" / "roc.svg").exists()


@pytest.mark.slow
def test_features_of_the_golden_inputs_are_the_golden_features(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    golden = np.load(shared / "golden" / "inception_v3_imagenet.npz")
    files = []
    for i, pixels in enumerate(golden["input_uint8"]):
        files.append(str(tmp_path / f"{i}.png"))
        Image.fromarray(pixels).save(files[-1])
    weights = str(shared / "weights" / "keras" / "inceptionv3_v1.h5")
    target = tmp_path / "features.npz"
    said = out(["features", "--weights", weights, "--images", *files, "--out", str(target)], capsys)
    assert "4 x 2048" in said
    found = np.load(target)
    assert found["names"].tolist() == files
    np.testing.assert_allclose(found["pool"], golden["pool"], atol=2e-5)


def test_check_tells_of_shared_frames_and_marks(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    command = ["data", "check", "phantom", "--patients", "4", "--csv", str(tmp_path / "x.csv")]
    table = out([*command, "--marks", "3"], capsys)
    assert "near-duplicates, several patients        0  pairs with a similarity of 0.9 or" in table
    assert "marks inside the scan sector             0  of " in table
    assert "were not looked for" in out([*command, "--near-duplicates", "0"], capsys)
    assert main([*command, "--near-duplicates", "2"]) == 2
    assert "--near-duplicates: found 2, expected a number from 0 to 1" in capsys.readouterr().err
    assert main([*command, "--marks", "-1"]) == 2
    assert "--marks: found -1, expected a whole number >= 0" in capsys.readouterr().err
