"""Orbax checkpoints: a run's best one with all that it says of itself, and networks alone."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hostile import fuzz
from thyrojax.errors import WeightsError
from thyrojax.weights import VARIANTS, Weights, names, read, write
from thyrojax.weights.types import Arrays

NewArrays = Callable[..., Arrays]
NARROW: dict[str, Any] = {"depth_multiplier": 0.05}


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


def test_one_step_of_a_run_can_be_named(small_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = sorted(path for path in (small_run / "checkpoints").iterdir() if path.name.isdigit())
    whole = read(steps[-1], **NARROW)
    monkeypatch.chdir(steps[-1])
    for found in (whole, read("default", **NARROW)):
        assert found.metadata["input_size"] == 75
        assert found.classes == 2
        assert found.notes == ()


def test_step_that_was_taken_out_of_its_run_is_read_with_a_note(copied_run: Path) -> None:
    step = max((copied_run / "checkpoints").iterdir()).rename(copied_run.parent / "step")
    found = read(step, **NARROW)
    assert found.variant == VARIANTS["keras"]
    assert found.notes == (
        "no config.json of a run: pooling and epsilon are taken to be the default",
    )


def test_run_without_averages_is_read_by_its_parameters(
    tmp_path: Path, new_arrays: NewArrays, small_run: Path
) -> None:
    import orbax.checkpoint as ocp
    from flax.traverse_util import unflatten_dict

    arrays = new_arrays(classes=2, channels=1)
    state = {**unflatten_dict(arrays, sep="/"), "ema": {}, "step": np.int32(4)}
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "run" / "checkpoints" / "4" / "default", state)
    config = json.loads((small_run / "config.json").read_text())
    odd = {**config, "pooling": "padded", "bn_epsilon": 2e-3, "ema": 0.0}
    (tmp_path / "run" / "config.json").write_text(json.dumps(odd))
    found = read(tmp_path / "run", **NARROW)
    assert all(found.arrays[name].tobytes() == array.tobytes() for name, array in arrays.items())
    assert (found.variant.pooling, found.variant.epsilon) == ("padded", 2e-3)
    assert found.ignored == {"step": "counter of training steps"}


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
    with pytest.raises(WeightsError, match=r"run: (.*: )?found damage"):
        read(copied_run, **NARROW)  # the best is the one that is damaged
    shutil.rmtree(copied_run / "checkpoints" / "100")
    assert read(copied_run, **NARROW).classes == 2


def enlarge_chunks(folder: Path) -> None:
    """One chunk of a gigabyte, which zstd packs into 32 kB, for an array of two numbers."""
    import tensorstore

    base = {"driver": "file", "path": f"{folder}/"}
    store = tensorstore.KvStore.open({"driver": "ocdbt", "base": base}).result()
    array = json.loads(store.read("params.fc.bias/.zarray").result().value)
    store.write("params.fc.bias/.zarray", json.dumps({**array, "chunks": [2**28]})).result()
    zeros = [
        (2**17 << 3 | 2 | (i == 2**13 - 1)).to_bytes(3, "little") + b"\0" for i in range(2**13)
    ]
    store.write("params.fc.bias/0", b"\x28\xb5\x2f\xfd\x00\x58" + b"".join(zeros)).result()


def add_a_name_that_is_no_text(folder: Path) -> None:
    import tensorstore

    base = {"driver": "file", "path": f"{folder}/"}
    store = tensorstore.KvStore.open({"driver": "ocdbt", "base": base}).result()
    store.write(b"params.\x92/.zarray", b"{}").result()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: shutil.rmtree(p / "d"), r"copy: found damage"),
        (
            lambda p: shutil.rmtree(p / "ocdbt.process_0"),
            r"copy: (.*: )?found damage \(.*; .*: fou",
        ),
        (lambda p: os.mkfifo(p / "pipe"), r"pipe: found something that is no file"),
        (add_a_name_that_is_no_text, r"copy: params/.x92: found damage"),
        (enlarge_chunks, r"params/fc/bias: found chunks of shape \(268435456,\), expected none la"),
        (lambda p: (p / "thyrojax.json").write_text(" " * 2**23), r"found 8388608 bytes, expected"),
        (lambda p: (p / "manifest.ocdbt").write_bytes(b"x"), r"copy: found damage"),
        (lambda p: (p / "thyrojax.json").write_text("[1]"), r"found no JSON object"),
        (lambda p: (p / "thyrojax.json").write_text("{}"), r"found a description that cannot"),
    ],
)
def test_damage_is_told_in_one_line(
    copied: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(copied)
    started = time.thread_time()
    with pytest.raises(WeightsError, match=message) as caught:
        read(copied, **NARROW)
    assert time.thread_time() - started < 10.0  # of this thread's own work, whatever else runs
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


def test_two_arrays_of_one_name_are_refused(tmp_path: Path, new_arrays: NewArrays) -> None:
    import orbax.checkpoint as ocp
    from flax.traverse_util import unflatten_dict

    arrays = new_arrays()
    twice = {**unflatten_dict(arrays, sep="/"), names.FIRST_KERNEL: arrays[names.FIRST_KERNEL]}
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "twice", twice)
    with pytest.raises(WeightsError, match=r"found two arrays of one name"):
        read(tmp_path / "twice", **NARROW)


def test_heads_can_be_dropped_and_grey_kernels_kept(tmp_path: Path, new_arrays: NewArrays) -> None:
    arrays = new_arrays(classes=3, aux=True, scales=True, channels=1)
    given = Weights(arrays, VARIANTS["fid"], "none", (), {}, Path("nowhere"), "", 0.05)
    write(given, tmp_path / "net.orbax")
    found = read(tmp_path / "net.orbax", **NARROW)
    assert found.arrays.keys() == arrays.keys()
    assert all(found.arrays[name].tobytes() == array.tobytes() for name, array in arrays.items())
    assert found.variant == VARIANTS["fid"]
    dropped = read(tmp_path / "net.orbax", head="drop", **NARROW)
    assert dropped.arrays.keys() == names.trunk_shapes(0.05).keys()
    assert dropped.ignored["batch_stats/AuxLogits/conv0/bn/var"] == "classifier: not asked for"
    with pytest.raises(WeightsError, match=r"another width, expected depth_multiplier 1\.0"):
        read(tmp_path / "net.orbax")


@pytest.mark.slow
def test_damaged_files_are_read_or_refused(copied: Path) -> None:
    files = [path for path in copied.rglob("*") if path.is_file()]
    counts = {"read": 0, "refused": 0}
    for i, path in enumerate(sorted(files)):
        # Damage to the database's own tables is seen at once, that to arrays when all are read.
        n = 100 if path.parent.name == "d" and path.parent.parent == copied else 4
        found = fuzz(path, lambda _: read(copied, **NARROW), n=n, seed=i)
        counts = {outcome: number + found[outcome] for outcome, number in counts.items()}
    assert sum(counts.values()) == 100 + 4 * (len(files) - 1)
    assert counts["refused"] > 100
