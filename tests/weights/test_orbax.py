"""Orbax checkpoints: a run's best one with all that it says of itself, and networks alone."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from thyrojax.errors import WeightsError
from thyrojax.weights import VARIANTS, Weights, names, read, write
from thyrojax.weights.types import Arrays

NewArrays = Callable[..., Arrays]
NARROW = {"depth_multiplier": 0.05}


@pytest.fixture(scope="module")
def folder(new_arrays: NewArrays, tmp_path_factory: pytest.TempPathFactory) -> Path:
    given = Weights(
        new_arrays(classes=2), VARIANTS["gluon"], "none", (), {}, Path("nowhere"), "", 0.05
    )
    path = tmp_path_factory.mktemp("orbax") / "net.orbax"
    write(given, path)
    return path


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


@pytest.fixture
def copied_run(small_run: Path, tmp_path: Path) -> Path:
    run = tmp_path / "run"
    shutil.copytree(small_run / "checkpoints", run / "checkpoints")
    for name in ("config.json", "data.json"):
        shutil.copy(small_run / name, run / name)
    return run


def test_three_lines_of_orbax_read_what_was_written(folder: Path, new_arrays: NewArrays) -> None:
    import orbax.checkpoint as ocp

    with ocp.StandardCheckpointer() as checkpointer:
        variables = checkpointer.restore(folder)
    assert set(variables) == {"params", "batch_stats"}
    expected = new_arrays(classes=2)["params/Mixed_7c/branch1x1/conv/kernel"]
    np.testing.assert_array_equal(
        variables["params"]["Mixed_7c"]["branch1x1"]["conv"]["kernel"], expected
    )


def test_run_is_read_as_what_it_predicts_with(small_run: Path) -> None:
    from thyrojax.evaluate import open_trained

    found = read(small_run, **NARROW)
    trained = open_trained(small_run)
    for tree in ("params", "batch_stats"):
        leaf = trained.variables[tree]["Mixed_6b"]["branch7x7_2"]["bn"]
        name = "scale" if tree == "params" else "mean"
        path = f"{tree}/Mixed_6b/branch7x7_2/bn/{name}"
        np.testing.assert_array_equal(found.arrays[path], np.asarray(leaf[name]))
    assert found.classes == 2
    assert found.channels == 1
    assert found.variant == VARIANTS["keras"]
    assert found.metadata["labels"] == ["benign", "malignant"]
    assert found.metadata["input_size"] == 75
    assert found.metadata["crop"]["shape"] == "square"
    assert found.metadata["crop"]["margin"] == 50
    assert set(found.ignored.values()) == {
        "optimizer state",
        "counter of training steps",
        "the average of it is read instead",
    }


def test_one_step_of_a_run_can_be_named(small_run: Path) -> None:
    steps = sorted(path for path in (small_run / "checkpoints").iterdir() if path.name.isdigit())
    found = read(steps[-1], **NARROW)
    assert found.metadata["input_size"] == 75
    assert found.classes == 2


def test_run_of_another_width_says_which(small_run: Path) -> None:
    with pytest.raises(WeightsError, match=r"found a run of depth_multiplier 0\.05, expected 1\.0"):
        read(small_run)


def test_best_checkpoint_is_that_of_the_highest_validation_auc(copied_run: Path) -> None:
    steps = {int(p.name): p for p in (copied_run / "checkpoints").iterdir() if p.name.isdigit()}
    first = steps[min(steps)]
    for number in (100, 200):
        shutil.copytree(first, copied_run / "checkpoints" / str(number))
    for path in (copied_run / "checkpoints").iterdir():
        auc = {"100": 0.99}.get(path.name, 0.5)
        (path / "metrics" / "metrics").write_text(json.dumps({"val_auc": auc}))
    shutil.rmtree(copied_run / "checkpoints" / "100" / "default" / "d")
    with pytest.raises(WeightsError, match=r"run: found damage"):
        read(copied_run, **NARROW)  # the best is the one that is damaged
    shutil.rmtree(copied_run / "checkpoints" / "100")
    assert read(copied_run, **NARROW).classes == 2


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: shutil.rmtree(p / "d"), r"copy: found damage"),
        (lambda p: (p / "manifest.ocdbt").write_bytes(b"x"), r"copy: found damage"),
        (lambda p: (p / "_METADATA").write_text("{}"), r"copy: found"),
        (lambda p: (p / "_METADATA").write_text("["), r"copy: found"),
        (lambda p: (p / "thyrojax.json").write_text("[1]"), r"found no JSON object"),
        (lambda p: (p / "thyrojax.json").write_text("{}"), r"found a description that cannot"),
    ],
)
def test_damage_is_told_in_one_line(
    copied: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(copied)
    started = time.perf_counter()
    with pytest.raises(WeightsError, match=message) as caught:
        read(copied, **NARROW)
    assert time.perf_counter() - started < 10.0  # Orbax alone takes half a second
    assert "\n" not in str(caught.value)


def test_missing_unknown_and_impossible_arrays_are_told_at_once(
    tmp_path: Path, new_arrays: NewArrays
) -> None:
    import orbax.checkpoint as ocp
    from flax.traverse_util import unflatten_dict

    arrays = new_arrays()
    del arrays["params/Mixed_5b/branch1x1/bn/bias"]
    arrays["params/Mixed_5b/branch1x1/bn/shift"] = np.ones(16, np.float32)
    arrays["params/Mixed_5c/branch1x1/bn/bias"] = np.ones(17, np.float32)
    arrays["params/Mixed_5d/branch1x1/bn/bias"] = np.ones(16, np.int32)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "odd", unflatten_dict(arrays, sep="/"))
    with pytest.raises(WeightsError) as caught:
        read(tmp_path / "odd", **NARROW)
    for fault in (
        "params/Mixed_5b/branch1x1/bn/shift: found an unknown array, expected none",
        "params/Mixed_5b/branch1x1/bn/bias: found none, expected an array of shape (16,)",
        "params/Mixed_5c/branch1x1/bn/bias: found shape (17,), expected (16,)",
        "params/Mixed_5d/branch1x1/bn/bias: found values of type int32, expected floats",
    ):
        assert fault in str(caught.value)


def test_values_that_are_no_numbers_are_refused(tmp_path: Path, new_arrays: NewArrays) -> None:
    arrays = new_arrays()
    arrays[names.FIRST_MEAN][3] = np.nan
    given = Weights(arrays, VARIANTS["keras"], "none", (), {}, Path("nowhere"), "", 0.05)
    write(given, tmp_path / "nan.orbax")
    with pytest.raises(WeightsError, match=r"bn/mean: found 1 values not finite"):
        read(tmp_path / "nan.orbax", **NARROW)


def test_run_without_a_checkpoint_or_configuration_is_told(copied_run: Path) -> None:
    shutil.rmtree(copied_run / "checkpoints")
    (copied_run / "checkpoints").mkdir()
    with pytest.raises(WeightsError, match=r"checkpoints: found no checkpoint, expected a trained"):
        read(copied_run, **NARROW)
    (copied_run / "config.json").unlink()
    with pytest.raises(WeightsError, match=r"found a folder of something else"):
        read(copied_run, **NARROW)


@pytest.mark.slow
# Orbax lets go of reads that failed beside the one that it tells of.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_damaged_files_are_read_or_refused(
    copied: Path, fuzz: Callable[..., dict[str, int]]
) -> None:
    files = [path for path in copied.rglob("*") if path.is_file()]
    total = 0
    for i, path in enumerate(sorted(files)):
        counts = fuzz(path, lambda _: read(copied, **NARROW), n=2, seed=i, max_seconds=20)
        total += sum(counts.values())
    assert total == 2 * len(files)
