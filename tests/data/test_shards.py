"""Sets in several shards: who writes them does not matter, nor how often they were killed."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
import tensorflow_datasets as tfds

from thyrojax.data import sector, shards
from thyrojax.data.builder import ThyroidUltrasound, build
from thyrojax.data.dataset import open_dataset
from thyrojax.data.incomplete import digest, incomplete_folder
from thyrojax.data.records import Box, Nodule, SourceData, load_image
from thyrojax.errors import ConfigError, DataError, ThyrojaxError

Killed = type("Killed", (BaseException,), {})


def source_of(folder: Path) -> SourceData:
    """Every image of a folder but for the last has one nodule, the first of all two."""
    paths = sorted(folder.iterdir())
    nodules = [Nodule(path, path.stem, path.stem, Box(2, 2, 9, 9), 0) for path in paths]
    second = dataclasses.replace(nodules[0], image_id="second", box=Box(3, 3, 8, 8))
    return SourceData("csv", (nodules[0], second, *nodules[1:]), (), len(paths))


@pytest.fixture(scope="session")
def source(image_files: Path) -> SourceData:
    return source_of(image_files)


@pytest.fixture(scope="session")
def uninterrupted(source: SourceData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(source, tmp_path_factory.mktemp("sets") / "whole", False)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def shard_times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("thyroid*array_record-*")}


def kill_at_shard(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Ends a build by an exception when it has written shard `number`, but not yet moved it."""
    check = shards._check_examples

    def checked(path: Path, checksums: list[int]) -> None:
        check(path, checksums)
        if f"-{number:05d}-of-" in path.name:
            raise Killed

    monkeypatch.setattr(shards, "_check_examples", checked)


@pytest.mark.parametrize("count", [1, 23, 128, 129, 300, 2048, 15_999, 16_001, 1_000_000])
def test_a_plan_holds_every_nodule_once_in_shards_of_like_size(count: int) -> None:
    plan = shards.plan(count)
    assert [i for positions in plan for i in positions] == list(range(count))
    lengths = {len(positions) for positions in plan}
    assert max(lengths) - min(lengths) <= 1
    assert max(lengths) <= 1000
    assert len(plan) == 1 or min(lengths) >= 64


def test_plans_stay_as_they_are() -> None:
    assert [len(shards.plan(n)) for n in (128, 129, 2000, 10_000, 16_001, 1_000_000)] == [
        1,
        2,
        16,
        16,
        17,
        1000,
    ]


def test_frames_of_all_shards_come_back_in_order(source: SourceData, uninterrupted: Path) -> None:
    opened = open_dataset(uninterrupted)
    assert [record.image_id for record in opened.records] == [n.image_id for n in source.nodules]
    for i in (0, 1, 100, 101, 200, 300):
        np.testing.assert_array_equal(opened.frame(i), load_image(source.nodules[i].image))
    names = [path.name for path in uninterrupted.glob("*array_record*")]
    assert sorted(names) == [
        f"thyroid_ultrasound-nodules.array_record-0000{i}-of-00003" for i in range(3)
    ]


def test_several_processes_write_the_same_bytes(
    source: SourceData, uninterrupted: Path, tmp_path: Path
) -> None:
    several = build(source, tmp_path / "set", False, workers=2)
    assert contents(several) == contents(uninterrupted)


def test_tfds_itself_builds_the_same_examples(
    source: SourceData, uninterrupted: Path, tmp_path: Path
) -> None:
    parts = [
        shards.Shard(
            number=number,
            count=3,
            start=positions.start,
            source="csv",
            label_names=("benign", "malignant"),
            mask_overlay=False,
            nodules=source.nodules[positions.start : positions.stop],
            work=tmp_path,
        )
        for number, positions in enumerate(shards.plan(len(source.nodules)))
    ]
    builder = ThyroidUltrasound(parts=parts, config="csv", data_dir=tmp_path)
    builder.download_and_prepare(
        download_dir=tmp_path / "downloads",
        download_config=tfds.download.DownloadConfig(try_download_gcs=False),
    )
    theirs = builder.as_data_source(split="nodules")
    ours = tfds.builder_from_directory(uninterrupted).as_data_source(split="nodules")
    assert len(theirs) == len(ours) == 301
    for i in (0, 1, 150, 300):
        assert theirs[i]["image_id"] == ours[i]["image_id"]
        assert theirs[i]["perceptual_hash"] == ours[i]["perceptual_hash"]
        np.testing.assert_array_equal(theirs[i]["image"], ours[i]["image"])


KILLED_HALF_WAY = """
import os, signal, sys
from pathlib import Path
from thyrojax.data import shards
from thyrojax.data.builder import build
sys.path.insert(0, {here!r})
from test_shards import source_of

check = shards._check_examples

def checked(path, checksums):
    if "-00002-of-" in path.name:
        os.kill(os.getpid(), signal.SIGKILL)
    check(path, checksums)

shards._check_examples = checked
build(source_of(Path(sys.argv[1])), Path(sys.argv[2]), False)
"""


def test_a_killed_build_goes_on_and_ends_as_if_never_killed(
    image_files: Path, source: SourceData, uninterrupted: Path, tmp_path: Path
) -> None:
    out = tmp_path / "set"
    code = KILLED_HALF_WAY.format(here=str(Path(__file__).parent))
    done = subprocess.run([sys.executable, "-c", code, image_files, out], check=False)
    assert done.returncode == -signal.SIGKILL
    (incomplete,) = tmp_path.iterdir()
    assert incomplete.name == ".set.incomplete"
    for folder in (out, incomplete, *incomplete.glob("work-*"), *incomplete.glob("work-*/set")):
        with pytest.raises(DataError, match=r"found no (such folder|data\.json)"):
            open_dataset(folder)
    finished = shard_times(incomplete)
    assert len(finished) == 2
    assert len(list(incomplete.glob("work-*/set/.*.part"))) == 1  # the third, half-written
    time.sleep(0.01)
    build(source, out, False)
    assert contents(out) == contents(uninterrupted)
    assert {name: shard_times(out)[name] for name in finished} == finished
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_build_killed_when_all_shards_were_written_only_ends(
    source: SourceData, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from thyrojax.data import builder

    def killed(*args: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(builder, "_write_tfds_info", killed)
        with pytest.raises(Killed):
            build(source, tmp_path / "set", False)
    finished = shard_times(tmp_path)
    assert len(finished) == 3
    monkeypatch.setattr(shards, "_stored", killed)  # nothing is encoded again
    build(source, tmp_path / "set", False)
    assert contents(tmp_path / "set") == contents(uninterrupted)
    assert shard_times(tmp_path / "set") == finished


def test_other_options_start_afresh(
    source: SourceData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sector, "mask_overlay", lambda image: image * (image > 200))
    expected = contents(build(source, tmp_path / "expected", True))
    with monkeypatch.context() as patch:
        kill_at_shard(patch, 1)
        with pytest.raises(Killed):
            build(source, tmp_path / "set", False)
    (work,) = tmp_path.glob(".set.incomplete/work-*")
    build(source, tmp_path / "set", True)
    assert contents(tmp_path / "set") == expected
    assert not work.exists()


def test_data_that_changed_start_afresh(source: SourceData, image_files: Path) -> None:
    def with_first(**changes: object) -> SourceData:
        first = dataclasses.replace(source.nodules[0], **changes)
        return dataclasses.replace(source, nodules=(first, *source.nodules[1:]))

    others = [
        digest(source, False),
        digest(source, True),
        digest(dataclasses.replace(source, source="busbra"), False),
        digest(dataclasses.replace(source, nodules=source.nodules[1:]), False),
        digest(dataclasses.replace(source, nodules=source.nodules[::-1]), False),
        digest(with_first(label=1), False),
        digest(with_first(box=Box(2, 2, 9, 10)), False),
        digest(with_first(image=image_files / "001.png"), False),
        digest(with_first(image=partial(np.zeros, (20, 20), np.uint8)), False),
        digest(with_first(image=partial(np.ones, (20, 20), np.uint8)), False),
        digest(with_first(image=image_files / "gone.png"), False),
    ]
    assert len(set(others)) == len(others)
    assert digest(source_of(image_files), False) == others[0]


@pytest.mark.parametrize("image", [lambda path: path, lambda path: partial(load_image, path)])
def test_an_image_file_that_was_replaced_is_other_data(
    tmp_path: Path, image_files: Path, image: Callable[[Path], object]
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes((image_files / "000.png").read_bytes())
    nodule = Nodule(image(path), "a", "a", Box(0, 0, 2, 2), 0)  # type: ignore[arg-type]
    data = SourceData("csv", (nodule,), (), 1)
    before = digest(data, False)
    assert digest(data, False) == before
    os.utime(path, ns=(0, 12345))
    assert digest(data, False) != before


@pytest.mark.parametrize("workers", [1, 2])
def test_faults_of_all_shards_are_told_in_order(
    source: SourceData, tmp_path: Path, workers: int
) -> None:
    nodules = list(source.nodules)
    for i in (5, 140, 299):
        nodules[i] = dataclasses.replace(nodules[i], box=Box(0, 0, 99, 9), image_id=f"wide-{i}")
    nodules[200] = dataclasses.replace(nodules[200], image=tmp_path / "gone.png")
    with pytest.raises(DataError) as caught:
        build(
            dataclasses.replace(source, nodules=tuple(nodules)),
            tmp_path / "set",
            False,
            workers=workers,
        )
    lines = str(caught.value).splitlines()
    assert [
        word in line
        for word, line in zip(("wide-5", "wide-140", "gone.png", "wide-299"), lines, strict=True)
    ] == [True] * 4
    assert not list(tmp_path.iterdir())


def test_two_builds_at_once_are_refused(source: SourceData, tmp_path: Path) -> None:
    out = tmp_path / "set"
    with incomplete_folder(out), pytest.raises(DataError, match="set: found another build at work"):
        build(source, out, False)
    assert not list(tmp_path.iterdir())
    build(source, out, False)


def test_a_set_that_was_being_replaced_is_put_back(source: SourceData, tmp_path: Path) -> None:
    out = build(source, tmp_path / "set", False)
    before = contents(out)
    (tmp_path / ".set.incomplete").mkdir()
    out.rename(tmp_path / ".set.incomplete" / "replaced")  # killed between the two steps
    with incomplete_folder(out):
        pass
    assert contents(out) == before
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


@pytest.mark.parametrize("meanwhile", [[], ["set"], ["set", "set/notes.txt"]], ids=str)
def test_what_comes_to_stand_in_its_place_costs_no_set(
    source: SourceData, tmp_path: Path, meanwhile: list[str]
) -> None:
    """A set that was being replaced stays, whatever its owner does before the next build."""
    before = contents(build(source, tmp_path / "set", False))
    (tmp_path / ".set.incomplete").mkdir()
    kept = (tmp_path / "set").rename(tmp_path / ".set.incomplete" / "replaced")
    for name in meanwhile:
        (tmp_path / name).touch() if name.endswith(".txt") else (tmp_path / name).mkdir()
    with pytest.raises(DataError, match="found a folder that is not empty"):
        build(source, tmp_path / "set", False)
    assert contents(kept if len(meanwhile) == 2 else tmp_path / "set") == before


def test_a_build_that_fails_while_it_replaces_a_set_leaves_it(
    source: SourceData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(build(source, tmp_path / "set", False))
    replace = os.replace

    def stopped(start: Path, end: Path) -> None:
        if Path(start).name == "set" and Path(end) == tmp_path / "set":
            raise Killed
        replace(start, end)

    monkeypatch.setattr(os, "replace", stopped)
    with pytest.raises(Killed):
        build(source, tmp_path / "set", False, overwrite=True)
    assert contents(tmp_path / "set") == before


def test_files_that_appear_in_its_place_while_it_is_built_stay(
    source: SourceData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from thyrojax.data import builder

    def meanwhile(folder: Path) -> None:
        (tmp_path / "set").mkdir()
        (tmp_path / "set" / "notes.txt").write_text("mine")

    monkeypatch.setattr(builder, "open_dataset", meanwhile)
    with pytest.raises(DataError, match="set: found a folder that is not empty"):
        build(source, tmp_path / "set", False)
    assert (tmp_path / "set" / "notes.txt").read_text() == "mine"


def test_a_shard_whose_records_were_lost_is_written_again(
    source: SourceData, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        kill_at_shard(patch, 2)
        with pytest.raises(Killed):
            build(source, tmp_path / "set", False)
    (lost,) = tmp_path.glob(".set.incomplete/work-*/parts/00001.parquet")
    lost.unlink()
    assert contents(build(source, tmp_path / "set", False)) == contents(uninterrupted)


def test_a_mount_point_is_refused_before_anything_is_written(
    source: SourceData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "set").mkdir()
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path).name == "set")
    with pytest.raises(DataError, match="set: found a mount point, expected a folder within one"):
        build(source, tmp_path / "set", False)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_place_that_cannot_be_written_is_named(source: SourceData, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file/set: found .*expected a place that can be written"):
        build(source, tmp_path / "file" / "set", False)


def test_no_workers_are_none(source: SourceData, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="workers: found 0, expected a whole number >= 1"):
        build(source, tmp_path / "set", False, workers=0)
    assert not list(tmp_path.iterdir())


def test_a_worker_that_dies_is_told_and_what_was_finished_stays(
    source: SourceData, tmp_path: Path
) -> None:
    nodules = list(source.nodules)
    nodules[250] = dataclasses.replace(nodules[250], image=partial(os._exit, 9))
    with pytest.raises(ThyrojaxError, match="found a worker process that died") as caught:
        build(
            dataclasses.replace(source, nodules=tuple(nodules)), tmp_path / "set", False, workers=2
        )
    assert "goes on where this one stopped" in str(caught.value)
    assert not (tmp_path / "set").exists()


WORKERS_THAT_WAIT = """
import sys, time
from functools import partial
from pathlib import Path
from thyrojax.data.builder import build
from thyrojax.data.records import Box, Nodule, SourceData

if __name__ == "__main__":
    nodules = tuple(
        Nodule(partial(time.sleep, 100 + i), str(i), "p", Box(0, 0, 2, 2), 0) for i in range(300)
    )
    build(SourceData("csv", nodules, (), 300), Path(sys.argv[1]), False, workers=2)
"""


def test_workers_do_not_outlive_a_build_that_was_killed(tmp_path: Path) -> None:
    script = tmp_path / "build.py"
    script.write_text(WORKERS_THAT_WAIT)
    build_process = subprocess.Popen([sys.executable, script, tmp_path / "set"])
    try:
        parent = psutil.Process(build_process.pid)
        waiting: list[Path] = []
        for _ in range(600):
            waiting = list(tmp_path.glob(".set.incomplete/work-*/set/.*.part"))
            if len(waiting) == 2:
                break
            time.sleep(0.05)
        assert len(waiting) == 2
        workers = [
            child for child in parent.children() if "spawn_main" in " ".join(child.cmdline())
        ]
        assert len(workers) == 2
    finally:
        build_process.kill()
        build_process.wait()
    gone, alive = psutil.wait_procs(workers, timeout=10)
    assert (len(gone), alive) == (2, [])
