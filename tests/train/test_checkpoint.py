"""Checkpoints: what is kept, that damage is found, and that another run's are refused."""

from __future__ import annotations

import dataclasses
import gc
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from thyrojax.config import Config
from thyrojax.errors import ConfigError, RunError
from thyrojax.train import checkpoint
from thyrojax.train.digests import leaf_digests, state_digest
from thyrojax.train.file_seals import SEAL, damaged_files, seal_files
from thyrojax.train.state import TrainState

# Orbax leaves the coroutines of a read that failed behind, whose end is told when they are
# collected.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. (None|<coroutine object _read)"
    ":pytest.PytestUnraisableExceptionWarning",
    "ignore:coroutine .* was never awaited:RuntimeWarning",
)


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """What a test leaves behind is collected before the next one begins."""
    yield
    gc.collect()


DATA = {"fingerprint": "f" * 64, "label_names": ["benign", "malignant"]}
OF = checkpoint.identity(Config(), DATA)


def state_at(step: int) -> TrainState:
    noise = np.random.default_rng(step).normal(size=(64, 32)).astype(np.float32)
    return TrainState(
        step=jnp.asarray(step, jnp.int32),
        params={"fc": {"kernel": jnp.asarray(noise), "bias": jnp.zeros(32)}},
        batch_stats={"bn": {"mean": jnp.ones(32)}},
        opt_state=(jnp.asarray(noise + 1),),
        ema={},
    )


ABSTRACT = jax.eval_shape(lambda: state_at(0))


def saved(run: Path, aucs: dict[int, float | None], keep_steps: int = 0) -> Path:
    manager = checkpoint.open_checkpoints(run, keep_steps=keep_steps)
    for step, auc in aucs.items():
        metrics = None if auc is None else {"val_auc": auc, "val_loss": 0.5}
        checkpoint.save(manager, state_at(step), metrics, OF, {"loss": [0.1, 1 / 3]})
    manager.close()
    return run


@pytest.fixture(scope="module")
def two_steps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("runs") / "run", {2: 0.7, 4: 0.8})


def last_good(run: Path, of: dict[str, Any] = OF) -> tuple[int, list[str]]:
    said: list[str] = []
    manager = checkpoint.open_checkpoints(run)
    try:
        found = checkpoint.restore_last_good(manager, ABSTRACT, of, said.append)
        assert found is not None
        step = int(found.state.step)
        jax.tree.map(np.testing.assert_array_equal, found.state, state_at(step))
        assert found.since_line == {"loss": [0.1, 1 / 3]}
        checkpoint.save(manager, state_at(6), {"val_auc": 0.1}, of, {})
        return step, said
    finally:
        manager.close()


def test_a_leaf_is_digested_with_its_type_and_shape() -> None:
    found = leaf_digests({"a": {"b": np.array([[1, 2]], np.int16)}})
    expected = hashlib.sha256(b"\x01\x00\x02\x00").hexdigest()
    assert found == {"a/b": {"dtype": "int16", "shape": [1, 2], "sha256": expected}}
    assert state_digest(found) != state_digest(leaf_digests({"a": {"b": np.array([1, 2], "i2")}}))


def test_kept_are_the_best_the_last_two_and_every_kth(tmp_path: Path) -> None:
    aucs: dict[int, float | None] = {1: 0.5, 2: 0.9, 3: 0.6, 4: 0.7, 5: None, 6: 0.6, 7: 0.5}
    manager = checkpoint.open_checkpoints(saved(tmp_path / "run", aucs, keep_steps=3))
    assert manager.all_steps() == [2, 3, 6, 7]
    assert checkpoint.choose_step(manager, tmp_path, "best") == 2
    assert checkpoint.choose_step(manager, tmp_path, "latest") == 7
    manager.close()


def test_before_the_first_validation_the_latest_is_the_best(tmp_path: Path) -> None:
    manager = checkpoint.open_checkpoints(saved(tmp_path / "run", {3: None}))
    assert checkpoint.choose_step(manager, tmp_path, "best") == 3
    manager.close()


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def other_auc(path: Path) -> None:
    path.write_text(path.read_text().replace("0.8", "0.9"))


@pytest.mark.parametrize(
    ("pattern", "damage", "told"),
    [
        ("default/ocdbt.process_0/d/*", flipped, "leaves that are not as they were saved"),
        ("default/ocdbt.process_0/d/*", Path.unlink, "files that do not restore"),
        ("default/manifest.ocdbt", flipped, "files that do not restore"),
        ("default/_METADATA", Path.unlink, "files that do not restore"),
        ("contents/metadata", flipped, r"contents: found"),
        ("contents/metadata", Path.unlink, r"contents: found"),
        ("metrics/metrics", other_auc, r"metrics: found .*0\.9.*, expected .*0\.8"),
        ("metrics/metrics", Path.unlink, "metrics: found none, expected"),
        ("metrics/metrics", lambda path: path.write_text("{"), "metrics: found none, expected"),
    ],
)
def test_damage_is_told_and_the_last_good_one_is_taken(
    two_steps: Path, tmp_path: Path, pattern: str, damage: Callable[[Path], Any], told: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(two_steps, run)
    files = list((run / "checkpoints" / "4").glob(pattern))
    damage(max(files, key=lambda path: path.stat().st_size))
    step, said = last_good(run)
    assert step == 2
    (line,) = said
    assert "\n" not in line
    assert line.startswith(str(run / "checkpoints" / "4"))
    assert re.search(told, line), line
    assert line.endswith(f"moved to {run / 'damaged' / '4'}, going on from step 2")
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"2", "6"}
    assert (run / "damaged" / "4").is_dir()


@pytest.fixture(scope="module")
def sealed_steps(two_steps: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both checkpoints with the digests of their files, as a training leaves them."""
    run = tmp_path_factory.mktemp("sealed") / "run"
    shutil.copytree(two_steps, run)
    seal_files(run / "checkpoints")
    return run


def test_a_flipped_byte_in_any_file_is_found(sealed_steps: Path, tmp_path: Path) -> None:
    folder = sealed_steps / "checkpoints" / "4"
    names = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    assert {"files.json", "contents/metadata", "default/_METADATA"} <= set(map(str, names))
    for number, name in enumerate(names):
        run = tmp_path / str(number)
        shutil.copytree(sealed_steps, run)
        flipped(run / "checkpoints" / "4" / name)
        step, (line,) = last_good(run)
        assert step == 2, name
        found = "files.json" if str(name) == "files.json" else f"the first is {name}"
        assert found in line, line


def test_a_save_seals_the_files_of_the_one_before_it(two_steps: Path) -> None:
    assert (two_steps / "checkpoints" / "2" / SEAL).exists()
    assert damaged_files(two_steps / "checkpoints" / "2") == ""
    assert not (two_steps / "checkpoints" / "4" / SEAL).exists()


@pytest.mark.parametrize(
    ("abstract", "of", "first"),
    [
        (dataclasses.replace(ABSTRACT, ema={"mean": ABSTRACT.step}), OF, "ema"),
        (dataclasses.replace(ABSTRACT, opt_state=(ABSTRACT.opt_state[0], {})), OF, "opt_state/1"),
        (dataclasses.replace(ABSTRACT, batch_stats={}), OF, "batch_stats"),
        (ABSTRACT, {**OF, "new_field": 0}, "new_field"),
    ],
)
def test_a_checkpoint_of_another_version_is_refused_and_stays(
    two_steps: Path, abstract: TrainState, of: dict[str, Any], first: str
) -> None:
    manager = checkpoint.open_checkpoints(two_steps)
    with pytest.raises(RunError, match=rf"4: found .*another version .*the first is {first}\b"):
        checkpoint.restore_last_good(manager, abstract, of, print)
    assert manager.all_steps() == [2, 4]
    manager.close()
    assert not (two_steps / "damaged").exists()


def test_nothing_is_touched_where_no_checkpoint_is_good(two_steps: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(two_steps, run)
    for step in ("2", "4"):
        (run / "checkpoints" / step / "default" / "manifest.ocdbt").unlink()
    with pytest.raises(RunError, match=r"checkpoints/4/default: found .*checkpoints/2: found"):
        last_good(run)
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"2", "4"}


def test_metrics_that_are_no_json_are_named_where_nothing_may_be_written(
    two_steps: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(two_steps, run)
    (run / "checkpoints" / "4" / "metrics" / "metrics").write_text("{")
    with pytest.raises(RunError, match=r"4/metrics/metrics: found no JSON object"):
        checkpoint.open_checkpoints(run, read_only=True)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"fingerprint": "0" * 64}, "fingerprint 'ffff.*now '0000"),
        ({"label_names": ["malignant", "benign"]}, r"label_names \['benign', .*now \['malignant"),
        ({"pooling": "padded"}, "pooling 'valid', now 'padded'"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(
    two_steps: Path, changed: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        last_good(two_steps, {**OF, **changed})
    assert not (two_steps / "damaged").exists()


def test_every_field_of_the_identity_is_one_of_the_configuration() -> None:
    assert set(checkpoint.MODEL_FIELDS) <= {field.name for field in dataclasses.fields(Config)}
    assert json.loads(json.dumps(OF)) == OF
