"""A study through the command: what it writes, going on, shards, and what it refuses."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from thyrojax.analysis.predictions import read_predictions
from thyrojax.cli import main
from thyrojax.config import Config
from thyrojax.data.dataset import open_dataset
from thyrojax.errors import ConfigError
from thyrojax.files import write_json
from thyrojax.study import run
from thyrojax.study.plan import Arm, load_study, units_of
from thyrojax.study.run import is_finished, unit_file

STUDY = """
from thyrojax.study.plan import Arm, Change, Combined, Scoring, Study

SCORINGS = (
    Scoring("m0", "margin 0", 0, x=0.0),
    Scoring("m50", "margin 50", 50, x=50.0),
    Scoring("blurred", "blurred", change=Change("blur", 2.0)),
)

study = Study(
    name="tiny",
    title="A tiny study",
    question="Does it run?",
    arms=lambda base: [
        Arm("square", "square", scorings=SCORINGS),
        Arm("frame", "whole frame", {"crop_shape": "frame"}),
        Arm("mm", "in mm", lacks=lambda dataset: "found no spacing, expected one"),
        Arm("elsewhere", "of another set", data="other"),
    ],
    reference="square-m50",
    answer="frame",
    seeds=2,
    subgroups=("box_shape", "echo"),
    x_label="margin, px",
    combined=(Combined("both", "mean of margins and seeds", ("square-m0", "square-m50"), True),),
)
"""
FIELDS = [
    *("--input-size", "75", "--depth-multiplier", "0.05", "--weights", "none", "--steps", "2"),
    *("--batch-size", "16", "--log-images", "0", "--dropout", "0.5"),
]
ARMS = ("square-m0", "square-m50", "square-blurred", "frame")


def command(study: Path, data: Path, workdir: Path, *more: str) -> list[str]:
    place = ["study", str(study), "--data", str(data), "--workdir", str(workdir)]
    return [*place, *FIELDS, "--quiet", *more]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("studies") / "tiny.py"
    path.write_text(STUDY)
    return path


@pytest.fixture(scope="module")
def done(tiny: Path, phantom_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp("studies") / "done"
    assert main(command(tiny, phantom_set, workdir)) == 0
    return workdir


@pytest.mark.slow
def test_every_condition_has_its_row_and_its_predictions(done: Path) -> None:
    with (done / "tables" / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["condition"] for row in rows] == [*ARMS, "both"]
    seeds = [
        read_predictions(done / "runs" / "square" / f"seed{seed}" / "predictions" / "m0_test.csv")
        for seed in (0, 1)
    ]
    assert seeds[0].image_ids == seeds[1].image_ids  # one split for all seeds
    assert not np.array_equal(seeds[0].scores, seeds[1].scores)
    areas = [roc_auc_score(each.labels, each.scores) for each in seeds]
    assert float(rows[0]["auc"]) == pytest.approx(np.mean(areas))
    pooled = read_predictions(done / "predictions" / "square-m0.csv")
    of = dict(zip(pooled.image_ids, pooled.scores.tolist(), strict=True))
    mean = np.mean([each.scores for each in seeds], axis=0)
    assert [of[i] for i in seeds[0].image_ids] == pytest.approx(mean.tolist())
    assert pooled.columns["fold"] == ("0",) * len(pooled)


@pytest.mark.slow
def test_a_change_is_of_the_test_part_alone(done: Path) -> None:
    folder = done / "runs" / "square" / "seed0" / "predictions"
    plain, blurred = (read_predictions(folder / f"{name}_val.csv") for name in ("m50", "blurred"))
    np.testing.assert_array_equal(plain.scores, blurred.scores)
    plain, blurred = (read_predictions(folder / f"{name}_test.csv") for name in ("m50", "blurred"))
    assert not np.allclose(plain.scores, blurred.scores, atol=1e-6)


@pytest.mark.slow
def test_the_page_tells_what_was_done_and_left_out(done: Path) -> None:
    page = (done / "study.html").read_text()
    about = json.loads((done / "about.json").read_text())
    assert about["finding"].replace("<", "&lt;") in page
    assert about["finding"].startswith("square, margin 50: AUC 0.")
    shown = re.findall(r"<th[^>]*>([^<]+)</th>", page.partition("Every condition on")[2])
    assert shown[:4] == ["condition", "AUC", "difference in AUC", "P, Holm"]  # narrow enough
    assert "; whole frame differs by " in about["finding"]
    assert about["runs"] == 4
    assert about["command"].startswith("thyrojax study ")
    assert about["resumed"] == 0
    assert "in mm: found no spacing" in about["left_out"]
    assert "by echo: found fewer than two categories" in about["left_out"]
    assert "of another set: found no --data other=DIR" in about["left_out"]
    assert {"jax", "git_commit", "machine"} <= about["versions"].keys()
    assert "--quiet" not in about["command"]
    assert about["machines"] == about["versions"]["processor"]
    assert about["hours"] > 0.0
    for name in ("areas", "differences", "along"):
        assert (done / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_networks_go_when_they_are_scored(done: Path) -> None:
    assert not list(done.glob("runs/*/*/checkpoints"))
    assert len(list(done.glob("runs/*/*/unit.json"))) == 4


@pytest.mark.slow
def test_two_shards_and_what_was_lost_give_the_same_tables(
    done: Path, tiny: Path, phantom_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = tmp_path / "runs" / "frame" / "seed0"
    shutil.copytree(done / "runs" / "frame" / "seed0", lost)
    unit = json.loads((lost / "unit.json").read_text())
    del unit["config"]["inner_fold"]  # as of a time when there was no such field
    (lost / "unit.json").write_text(json.dumps(unit))
    assert main(command(tiny, phantom_set, tmp_path, "--shard", "2/2")) == 0
    assert "2 of 4 runs are still to be done elsewhere" in capsys.readouterr().out
    shutil.copytree(done / "runs" / "square" / "seed0", tmp_path / "runs" / "square" / "seed0")
    assert main(command(tiny, phantom_set, tmp_path, "--shard", "1/2")) == 0
    for path in sorted((done / "tables").iterdir()):
        assert (tmp_path / "tables" / path.name).read_text() == path.read_text()
    assert "--shard" not in json.loads((tmp_path / "about.json").read_text())["command"]


@pytest.mark.slow
def test_runs_of_other_machines_and_commits_are_counted_and_old_files_go(
    done: Path, tiny: Path, phantom_set: Path, tmp_path: Path
) -> None:
    shutil.copytree(done, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "runs" / "frame" / "seed1" / "unit.json"
    unit = json.loads(path.read_text())
    unit["versions"] |= {"processor": "96 x Other", "git_commit": "f" * 40}
    unit["resumed"] = True
    path.write_text(json.dumps(unit))
    before = json.loads((tmp_path / "about.json").read_text())
    for name in ("tables/by_colour.csv", "predictions/gone.csv", "figures/gone.png"):
        (tmp_path / name).write_text("of an earlier study")
        before["written"][name.partition("/")[0]].append(Path(name).stem)
    (tmp_path / "about.json").write_text(json.dumps(before))
    (tmp_path / "figures" / "mine.png").write_text("of the user's")
    assert main(command(tiny, phantom_set, tmp_path)) == 0
    about = json.loads((tmp_path / "about.json").read_text())
    assert "96 x Other" in about["machines"]
    assert f"{'f' * 40} (1 run)" in about["versions"]["git_commit"]
    assert about["resumed"] == 1
    found = {path.relative_to(tmp_path) for path in tmp_path.glob("[tpf]*/*")}
    kept = Path("figures/mine.png")
    assert found == {kept, *(path.relative_to(done) for path in done.glob("[tpf]*/*"))}


@pytest.mark.slow
def test_runs_of_other_data_and_damaged_ones_are_refused(
    done: Path, tiny: Path, phantom_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(done, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "runs" / "frame" / "seed1" / "unit.json"
    unit = json.loads(path.read_text())
    unit["data"]["fingerprint"] = "0" * 64
    for content, told in (
        (json.dumps(unit), f"fingerprint '{'0' * 64}' (now "),
        (path.read_text()[:100], "without this file the unit is run again"),
    ):
        path.write_text(content)
        assert main(command(tiny, phantom_set, tmp_path)) == 2
        line = capsys.readouterr().err
        assert str(path) in line
        assert told in line
        assert line.count("\n") == 1


def test_a_phantom_of_the_other_size_is_not_taken(
    tiny: Path, phantom_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(phantom_set, tmp_path / "data" / "phantom")
    place = ["study", str(tiny), "--workdir", str(tmp_path), "--dry-run"]
    assert main(place) == 2
    assert "found 60 patients, expected 600 without --small" in capsys.readouterr().err


@pytest.mark.slow
def test_a_changed_study_does_not_go_on_with_finished_runs(
    done: Path, tiny: Path, phantom_set: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (done / "study.html").read_text()
    assert main(command(tiny, phantom_set, done, "--lr", "0.5")) == 2
    told = capsys.readouterr().err
    assert "lr 0.001 (now 0.5)" in told
    assert "expected the study as it is now" in told
    assert (done / "study.html").read_text() == before


@pytest.mark.slow
def test_a_probe_trains_nothing_and_leaves_out_what_is_training_alone(
    phantom_set: Path, shared: Path, tmp_path: Path
) -> None:
    study = tmp_path / "probed.py"
    slower = 'Arm("slower", "a lower rate", {"lr": 1e-4}), Arm("mm"'
    study.write_text(STUDY.replace('Arm("mm"', slower).replace("seeds=2", "seeds=1"))
    weights = str(shared / "weights" / "keras" / "inceptionv3_v1.h5")
    place = ["study", str(study), "--data", str(phantom_set), "--workdir", str(tmp_path / "work")]
    assert main([*place, "--probe", "--quiet", "--input-size", "75", "--weights", weights]) == 0
    about = json.loads((tmp_path / "work" / "about.json").read_text())
    assert about["method"] == "linear probe"
    assert "a lower rate: differs from “square” in training alone" in about["left_out"]
    folder = tmp_path / "work" / "runs" / "square" / "seed0" / "predictions"
    plain, blurred = (read_predictions(folder / f"{name}_val.csv") for name in ("m50", "blurred"))
    np.testing.assert_array_equal(plain.scores, blurred.scores)
    plain, blurred = (read_predictions(folder / f"{name}_test.csv") for name in ("m50", "blurred"))
    assert not np.allclose(plain.scores, blurred.scores, atol=1e-6)
    assert not list(tmp_path.glob("work/runs/*/*/checkpoints"))


def test_dry_run_lists_units_and_trains_nothing(
    tiny: Path, phantom_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = ("--folds", "3", "--seed", "1")  # the split's; the study has seeds of its own
    assert main(command(tiny, phantom_set, tmp_path, "--dry-run", *fields)) == 0
    told = capsys.readouterr().out
    assert "square/seed1-fold2" in told
    assert "12 of 12 runs left" in told
    assert not (tmp_path / "runs").exists()


def test_the_main_set_again_is_no_other_set(
    tiny: Path, phantom_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = command(tiny, phantom_set, tmp_path, "--dry-run")
    arguments.insert(arguments.index("--workdir"), f"other={phantom_set}")
    arguments.remove("--quiet")
    assert main(arguments) == 0
    said = capsys.readouterr()
    assert "of another set: found the main set again as other, expected another" in said.err
    assert "elsewhere" not in said.out


def test_every_study_of_the_project_can_be_planned(phantom_set: Path) -> None:
    from thyrojax.data.dataset import open_dataset
    from thyrojax.study.plan import chosen_arms, conditions_of
    from thyrojax.study.sets import base_config

    folder = Path(__file__).parents[2] / "experiments"
    places = [path for path in folder.glob("*.py") if "study = Study(" in path.read_text()]
    assert len(places) >= 8
    for place in [*places, folder / "guan2019"]:
        study = load_study(place)
        for small in (False, True):
            base = base_config(study, phantom_set, small)
            sets = {"": open_dataset(phantom_set)}
            arms, _ = chosen_arms(study, base, (), sets)
            assert units_of(arms, base, range(2), sets)
            names = {condition.name for condition in conditions_of(arms)}
            assert all(name in names for one in study.combined for name in one.conditions)


@pytest.mark.parametrize(
    ("change", "more", "told"),
    [
        (("study = Study(", "studie = Study("), (), "found no `study`"),
        (('reference="square-m50"', 'reference="m50"'), (), "reference: found 'm50'"),
        (('answer="frame"', 'answer="form"'), (), "answer: found 'form', expected one of"),
        (('"crop_shape": "frame"', '"shape": "frame"'), (), "arm frame: found field 'shape'"),
        (('Arm("frame"', 'Arm("square"'), (), "found arm 'square' twice"),
        (("SCORINGS = (", "SCORINGS = (1 / 0,"), (), "found ZeroDivisionError"),
        (("", ""), ("--only", "round"), "--only: found 'round', expected one of square"),
        (("", ""), ("--only", "mm"), "found no arm that can be run"),
        (('"crop_shape": "frame"', '"crop_shape": "circle"'), (), "arm frame: crop_shape: found"),
        (('"crop_shape": "frame"', '"epochs": "3"'), (), "arm frame: epochs: found '3'"),
        (('"crop_shape": "frame"', '"epochs": 0.0'), (), "arm frame: epochs: found 0.0"),
        (("seeds=2,", 'small={"size": 96},'), (), "tiny, small: found field 'size'"),
        (('Arm("frame"', 'Arm("../frame"'), (), "found an arm or scoring '../frame'"),
        (
            ("arms=lambda base: [", "arms=lambda base: [base.rate,"),
            (),
            "arms: found AttributeError",
        ),
        (('reference="square-m50"', "reference=lambda base: 1 / 0"), (), "found ZeroDivisionError"),
        (("lambda dataset: ", "lambda dataset: dataset.no or "), (), "lacks of mm: found Attrib"),
        (("", ""), ("--split", "s.csv", "--folds", "3"), "folds: found 3 with split s.csv"),
        (
            ('"crop_shape": "frame"', '"train_share": 0.5'),
            ("--split", "s.csv"),
            "train_share: found",
        ),
        (("", ""), ("--weights", "imagenet"), "and THYROJAX_OFFLINE set"),
        (("", ""), ("--shard", "3/2"), "--shard: found '3/2'"),
        (("", ""), ("--jobs", "0", "--dry-run"), "--jobs: found 0, expected 1 to "),
        (("", ""), ("--jobs", "4096"), "--jobs: found 4096, expected 1 to "),
        (("", ""), ("--seeds", "0"), "--seeds: found 0"),
        (("", ""), ("--colour", "red"), "options: "),
    ],
)
def test_faults_are_one_line(
    change: tuple[str, str],
    more: tuple[str, ...],
    told: str,
    phantom_set: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("THYROJAX_OFFLINE", "1")
    monkeypatch.setenv("THYROJAX_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "bad.py"
    path.write_text(STUDY.replace(*change) if change[0] else STUDY)
    assert main(command(path, phantom_set, tmp_path / "work", *more)) == 2
    line = capsys.readouterr().err
    assert told in line
    assert line.count("\n") == 1
    assert not (tmp_path / "work" / "runs").exists()


def test_a_folder_that_cannot_be_made_is_one_line(
    tiny: Path, phantom_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "work").write_text("a file")
    assert main(command(tiny, phantom_set, tmp_path / "work")) == 2
    line = capsys.readouterr().err
    assert "found Not a directory, expected a place where a run can be written" in line
    assert line.count("\n") == 1


def test_a_start_from_random_weights_does_not_pass_for_another(
    tiny: Path, phantom_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "weights.h5"
    weights.write_text("never read")
    run = tmp_path / "work" / "runs" / "square" / "seed0"
    run.mkdir(parents=True)
    (run / "config.json").write_text("{}")
    (run / "weights.json").write_text('{"source": null}')
    fields = ("--weights", str(weights))
    assert main(command(tiny, phantom_set, tmp_path / "work", *fields)) == 2
    assert "weights.json: found a start from random weights" in capsys.readouterr().err


def test_a_file_with_other_content_makes_another_unit(phantom_set: Path, tmp_path: Path) -> None:
    split = tmp_path / "s.csv"
    split.write_text("one")
    arm = Arm("base", "base")
    (unit,) = units_of([arm], Config(split=str(split)), [0], {"": open_dataset(phantom_set)})
    path = unit_file(unit, tmp_path)
    path.parent.mkdir(parents=True)
    write_json(path, {**run._identity(unit), "data": {"fingerprint": unit.fingerprint}})
    assert is_finished(unit, tmp_path)
    split.write_text("another")
    with pytest.raises(ConfigError, match=r"unit\.json: found a finished unit of split "):
        is_finished(unit, tmp_path)


def test_no_such_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", str(tmp_path / "none.py"), "--workdir", str(tmp_path)]) == 2
    assert "none.py: found no such study" in capsys.readouterr().err
