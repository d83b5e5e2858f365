"""The mean of several runs: on the same nodules only, in the form that `analyse` reads."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from thyrojax.analysis import roc
from thyrojax.analysis.predictions import Predictions, read_predictions, write_predictions
from thyrojax.cli import main
from thyrojax.ensemble import ensemble
from thyrojax.errors import ConfigError, DataError, RunError, ThyrojaxError

LABELS = np.arange(40) % 2
PARTS = ["train"] * 16 + ["validation"] * 12 + ["test"] * 12
NAMES = {"val": "validation", "test": "test"}


def make_run(folder: Path, seed: int, parts: list[str] = PARTS, margin: str = "50") -> Path:
    """What training and evaluation leave of 40 nodules, two a patient, without a network."""
    folder.mkdir(parents=True)
    data = {"fingerprint": "f" * 64, "label_names": ["benign", "malignant"], "folder": "."}
    (folder / "data.json").write_text(json.dumps(data))
    (folder / "config.json").write_text("{}")
    rows = [f"i{i},p{i // 2},{part}" for i, part in enumerate(parts)]
    (folder / "split.csv").write_text("\n".join(["image_id,patient_id,part", *rows]) + "\n")
    rng = np.random.default_rng(seed)
    for name, in_split in NAMES.items():
        # In an order of the run's own: nodules are told by their ids.
        chosen = rng.permutation([i for i, part in enumerate(parts) if part == in_split])
        predictions = Predictions(
            tuple(f"i{i}" for i in chosen),
            tuple(f"p{i // 2}" for i in chosen),
            LABELS[chosen],
            np.clip(0.3 * LABELS[chosen] + rng.uniform(0.1, 0.6, len(chosen)), 0, 1),
            {
                "margin": (margin,) * len(chosen),
                "tirads": tuple(f"4{'abc'[i % 3]}" for i in chosen),
            },
        )
        write_predictions(folder / "predictions" / f"{name}.csv", predictions)
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    margins = ("50", "50", "25")
    return [make_run(tmp_path / f"run{n}", n, margin=m) for n, m in enumerate(margins)]


def scores_of(path: Path) -> dict[str, float]:
    found = read_predictions(path)
    return dict(zip(found.image_ids, found.scores.tolist(), strict=True))


def test_the_mean_is_over_the_same_nodule_of_each_run(runs: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "mean"
    figures = ensemble(runs, out)
    for name in NAMES:
        each = [scores_of(run / "predictions" / f"{name}.csv") for run in runs]
        found = read_predictions(out / "predictions" / f"{name}.csv")
        assert set(found.image_ids) == set(each[0])
        for image_id, label, score, grade in zip(
            found.image_ids, found.labels, found.scores, found.columns["tirads"], strict=True
        ):
            number = int(image_id[1:])
            assert score == pytest.approx(sum(one[image_id] for one in each) / 3, abs=1e-12)
            assert (label, grade) == (LABELS[number], f"4{'abc'[number % 3]}")
    assert figures["auc"] == roc.auc(found.labels, found.scores)
    assert figures["cutoff_from"] == "validation, Youden"
    assert (figures["n"], figures["n_patients"], figures["split"]) == (12, 6, "test")
    own = [read_predictions(run / "predictions" / "test.csv") for run in runs]
    assert figures["aucs"] == [roc.auc(one.labels, one.scores) for one in own]
    assert json.loads((out / "metrics.json").read_text())["runs"] == [str(run) for run in runs]
    # The margin is not the same for all.
    assert "margin" not in found.columns
    ensemble(runs[:2], out)
    assert set(read_predictions(out / "predictions" / "test.csv").columns["margin"]) == {"50"}


def test_the_validation_part_has_no_cutoff_of_its_own(runs: list[Path], tmp_path: Path) -> None:
    assert ensemble(runs, tmp_path / "mean", "val")["cutoff"] == 0.5
    assert (tmp_path / "mean" / "metrics_val.json").exists()
    assert not (tmp_path / "mean" / "metrics.json").exists()


def test_analyse_reads_it(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mean"
    assert main(["ensemble", *map(str, runs), "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert told.startswith("test: 12 nodules of 6 patients\nauc alone ")
    assert told.count("auc alone") == 3
    test, val = (str(out / "predictions" / f"{name}.csv") for name in ("test", "val"))
    study = str(tmp_path / "study")
    command = ["analyse", test, "--cutoff-from", val, "--out", study, "--resamples", "100"]
    assert main([*command, "--quiet"]) == 0
    figures = json.loads((tmp_path / "study" / "metrics.json").read_text())
    assert figures["auc"] == json.loads((out / "metrics.json").read_text())["auc"]


def other_data(run: Path) -> None:
    data = json.loads((run / "data.json").read_text())
    (run / "data.json").write_text(json.dumps({**data, "fingerprint": "e" * 64}))


def other_label_names(run: Path) -> None:
    data = json.loads((run / "data.json").read_text())
    (run / "data.json").write_text(json.dumps({**data, "label_names": ["good", "bad"]}))


def other_label(run: Path) -> None:
    path = run / "predictions" / "test.csv"
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    rows[3][2] = "1" if rows[3][2] == "0" else "0"
    path.write_text("\n".join(map(",".join, [header, *rows])) + "\n")


def trained_on_a_test_nodule(run: Path) -> None:
    shutil.rmtree(run)
    make_run(run, 1, [*PARTS[:14], "test", "test", *PARTS[16:38], "train", "train"])


def chosen_on_a_training_nodule(run: Path) -> None:
    shutil.rmtree(run)
    make_run(run, 1, ["validation"] * 2 + PARTS[2:26] + ["train"] * 2 + PARTS[28:])


def another_fold(run: Path) -> None:
    shutil.rmtree(run)
    make_run(run, 1, ["test"] * 12 + PARTS[12:28] + ["train"] * 12)


def not_evaluated(run: Path) -> None:
    (run / "predictions" / "test.csv").unlink()


def evaluated_in_part(run: Path) -> None:
    path = run / "predictions" / "test.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def chosen_at_another_margin(run: Path) -> None:
    path = run / "predictions" / "val.csv"
    path.write_text(path.read_text().replace(",50,", ",0,"))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (other_data, DataError, r"run1/data.json: found fingerprint eee.*, expected fff.*run0"),
        (other_label_names, DataError, r"found label_names \['good', 'bad'\], expected \['benign'"),
        (other_label, RunError, r"run1/predictions/test.csv, i\d+: found label \d, expected \d as"),
        (trained_on_a_test_nodule, DataError, r"run1: found 4 nodules in the test .*run0 .*i14: t"),
        (chosen_on_a_training_nodule, DataError, r"run1: found 4 nodules in the validation part"),
        (another_fold, DataError, r"run1: found no nodule in the test .* put together, not averag"),
        (
            not_evaluated,
            RunError,
            r"test.csv: found no such file.*thyrojax evaluate .*--split test",
        ),
        (chosen_at_another_margin, RunError, r"val.csv, margin: found 0, expected 50 as in test"),
        (evaluated_in_part, RunError, r"test.csv: found 1 nodules more or less than the test part"),
    ],
)
def test_runs_that_cannot_be_averaged_are_refused_by_name(
    change: Callable[[Path], None],
    error: type[ThyrojaxError],
    message: str,
    runs: list[Path],
    tmp_path: Path,
) -> None:
    change(runs[1])
    with pytest.raises(error, match=message):
        ensemble(runs[:2], tmp_path / "mean")
    assert not (tmp_path / "mean").exists()


def test_one_run_or_a_run_twice_is_no_ensemble(runs: list[Path], tmp_path: Path) -> None:
    for given in (runs[:1], [runs[0], runs[0]]):
        with pytest.raises(ConfigError, match="expected two or more, each once"):
            ensemble(given, tmp_path / "mean")
    before = (runs[0] / "predictions" / "test.csv").read_bytes()
    with pytest.raises(ConfigError, match=r"--out: found .*run0, a run"):
        ensemble(runs, runs[0])
    assert (runs[0] / "predictions" / "test.csv").read_bytes() == before
