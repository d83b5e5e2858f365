"""Built sets: what goes in comes out, all or nothing, and damage is told by name."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from thyrojax.data import sector
from thyrojax.data.builder import build
from thyrojax.data.dataset import Dataset, frame_digest, open_dataset
from thyrojax.data.records import Box, Nodule, SourceData
from thyrojax.errors import DataError

Make = Callable[..., SourceData]
FULL = Nodule(
    image=partial(np.full, (40, 50), 9, np.uint8),
    image_id="full",
    patient_id="p",
    box=Box(0, 0, 50, 40),
    label=1,
    size_mm=5.1,
    tirads="4b",
    composition="solid",
    echogenicity="hypoechoic",
    calcification="micro",
    margin="ill_defined",
    shape="taller",
    pixel_spacing_mm=0.08,
    reader_label=0,
)
BARE = Nodule(FULL.image, "bare", "q", Box(1, 2, 3, 4), 0)


def source(*nodules: Nodule, name: str = "csv") -> SourceData:
    return SourceData(name, nodules, (), len(nodules))


def shard(folder: Path) -> Path:
    return folder / "thyroid_ultrasound-nodules.array_record-00000-of-00001"


def test_records_and_frames_come_back(make_source: Make, small_set: Dataset) -> None:
    data = make_source(23)
    assert len(small_set) == len(data.nodules) == 23
    for i, (record, nodule) in enumerate(zip(small_set.records, data.nodules, strict=True)):
        assert (record.image_id, record.patient_id) == (nodule.image_id, nodule.patient_id)
        assert (record.box, record.label) == (nodule.box, nodule.label)
        assert (record.height, record.width) == (60, 80)
        assert not isinstance(nodule.image, Path)
        np.testing.assert_array_equal(small_set.frame(i), nodule.image())


def test_every_field_and_every_unknown_survives(tmp_path: Path) -> None:
    full, bare = open_dataset(build(source(FULL, BARE), tmp_path / "set", False)).records
    fields = [field.name for field in dataclasses.fields(Nodule)][4:]
    for name in fields:
        expected = getattr(FULL, name)
        assert getattr(full, name) == (
            pytest.approx(expected) if isinstance(expected, float) else expected
        )
    assert {name for name in fields if getattr(bare, name) is not None} == {"label"}


def test_set_loads_with_plain_tfds(tmp_path: Path) -> None:
    folder = build(source(FULL, BARE), tmp_path / "set", False)
    data = tfds.builder_from_directory(folder).as_data_source(split="nodules")
    full, bare = data
    assert len(data) == 2
    assert full["image"].shape == (40, 50, 1)
    assert full["image"].dtype == np.uint8
    assert (full["image"] == 9).all()
    assert full["box"].tolist() == [0, 0, 50, 40]
    assert full["margin"] == b"ill_defined"
    assert (bare["tirads"], bare["reader_label"]) == (b"", -1)
    assert np.isnan(bare["size_mm"])
    assert np.isnan(bare["pixel_spacing_mm"])
    by_name = tfds.data_source("thyroid_ultrasound/csv", data_dir=folder, split="nodules")
    assert [example["image_id"] for example in by_name] == [b"full", b"bare"]


def test_set_loads_where_neither_thyrojax_nor_tensorflow_is(tmp_path: Path) -> None:
    folder = tmp_path / "thyroid_ultrasound" / "csv" / "1.0.0"
    build(source(FULL, BARE), folder, False)
    code = (
        "import sys, tensorflow_datasets as tfds\n"
        "data = tfds.data_source('thyroid_ultrasound/csv', data_dir=sys.argv[1], split='nodules')\n"
        "assert data[0]['image_id'] == b'full', data[0]\n"
        "assert not {'thyrojax', 'tensorflow'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True, cwd=tmp_path)


@pytest.mark.parametrize(
    ("name", "subject", "labels"),
    [
        ("csv", "thyroid nodules", ["benign", "malignant"]),
        ("phantom", "simulated thyroid nodules", ["benign", "malignant"]),
        ("busbra", "breast lesions", ["benign", "malignant"]),
        ("ddti", "thyroid nodules", ["TI-RADS-benign (2, 3)", "TI-RADS-suspicious (4a-5)"]),
    ],
)
def test_each_source_names_its_subject_and_labels(
    tmp_path: Path, name: str, subject: str, labels: list[str]
) -> None:
    folder = build(source(FULL, name=name), tmp_path / "set", False)
    info = open_dataset(folder).info
    assert (info["subject"], info["label_names"]) == (subject, labels)
    assert tfds.builder_from_directory(folder).info.features["label"].names == labels


def test_folder_tells_its_counts_and_exclusions(set_folder: Path) -> None:
    info = json.loads((set_folder / "data.json").read_text())
    assert info.pop("fingerprint") == open_dataset(set_folder).fingerprint
    sha256 = {
        name: hashlib.sha256((set_folder / name).read_bytes()).hexdigest()
        for name in ("records.parquet", "near_duplicates.csv")
    }
    assert info == {
        "version": "2.0.0",
        "source": "csv",
        "subject": "thyroid nodules",
        "label_names": ["benign", "malignant"],
        "n_images": 24,
        "n_nodules": 23,
        "n_patients": 12,
        "exclusions": {"no box": 1},
        "notes": ["Nobody is named."],
        "mask_overlay": False,
        "sha256": sha256,
    }
    with (set_folder / "exclusions.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["image_id", "reason", "detail"],
            ["other", "no box", "page 3"],
        ]


def test_fingerprint_tells_sets_apart_and_only_them(tmp_path: Path, make_source: Make) -> None:
    def built(name: str, data: SourceData) -> str:
        return open_dataset(build(data, tmp_path / name, False)).fingerprint

    data = make_source(4)
    one = built("one", data)
    assert built("again", data) == one
    assert shard(tmp_path / "one").read_bytes() == shard(tmp_path / "again").read_bytes()

    def with_first(**changes: Any) -> SourceData:
        first = dataclasses.replace(data.nodules[0], **changes)
        return dataclasses.replace(data, nodules=(first, *data.nodules[1:]))

    frame = data.nodules[0].image()  # type: ignore[operator]
    frame[0, 0] ^= 1
    swapped = dataclasses.replace(data, nodules=data.nodules[::-1])
    others = [
        built("label", with_first(label=1)),
        built("box", with_first(box=Box(20, 15, 50, 41))),
        built("pixel", with_first(image=frame.copy)),
        built("order", swapped),
    ]
    assert len({one, *others}) == 5


def test_masking_changes_what_is_stored_and_not_what_is_named_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sector, "mask_overlay", lambda image: image * (image > 200))
    frame = np.random.default_rng(0).integers(0, 256, (30, 30), np.uint8)
    nodule = dataclasses.replace(BARE, image=frame.copy)
    plain = open_dataset(build(source(nodule), tmp_path / "plain", mask_overlay=False))
    masked = open_dataset(build(source(nodule), tmp_path / "masked", mask_overlay=True))
    np.testing.assert_array_equal(masked.frame(0), frame * (frame > 200))
    assert masked.info["mask_overlay"] is True
    assert masked.records[0].image_sha256 == plain.records[0].image_sha256
    assert masked.records[0].frame_sha256 != plain.records[0].frame_sha256
    assert masked.fingerprint != plain.fingerprint


def test_frames_of_different_patients_that_look_alike_are_listed(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    noise = (random.integers(0, 256, (200, 300)).astype(np.float32) for _ in range(2))
    frame, other = (cv2.GaussianBlur(each, (0, 0), 3) for each in noise)
    frame = cv2.normalize(frame, None, 20, 235, cv2.NORM_MINMAX).astype(np.uint8)
    other = cv2.normalize(other, None, 20, 235, cv2.NORM_MINMAX).astype(np.uint8)
    darker = (frame * 0.8).astype(np.uint8)
    views = {
        "a": ("p", frame),
        "a-darker": ("q", darker),
        "a-again": ("r", frame),  # equal frames are of one patient by their digest
        "a-of-the-same": ("p", darker[:, 2:]),
        "b": ("s", other),
    }
    nodules = [
        Nodule(image.copy, image_id, patient, Box(9, 9, 99, 99), 0)
        for image_id, (patient, image) in views.items()
    ]
    opened = open_dataset(build(source(*nodules), tmp_path / "set", False))
    names = [record.image_id for record in opened.records]
    pairs = {(names[i], names[j]) for i, j, _ in opened.near_duplicates}
    assert ("a", "a-darker") in pairs
    assert not {("a", "a-again"), ("a", "a-of-the-same")} & pairs
    assert not any("b" in pair for pair in pairs)
    assert all(0.9 <= similarity <= 1.0 for *_, similarity in opened.near_duplicates)


def test_digest_is_of_pixels_and_shape(tmp_path: Path) -> None:
    frame = np.arange(24, dtype=np.uint8).reshape(4, 6)
    assert frame_digest(frame) == frame_digest(np.asfortranarray(frame))
    assert frame_digest(frame) != frame_digest(frame.reshape(6, 4))
    # Two regions of one file, the same pixels in another file format.
    for name in ("a.png", "b.bmp"):
        cv2.imwrite(str(tmp_path / name), frame)
    nodules = [
        Nodule(tmp_path / name, image_id, image_id, Box(0, 0, 2, 2), 0)
        for name, image_id in (("a.png", "a-1"), ("a.png", "a-2"), ("b.bmp", "b"))
    ]
    records = open_dataset(build(source(*nodules), tmp_path / "set", False)).records
    assert {record.image_sha256 for record in records} == {frame_digest(frame)}


def test_all_faults_are_told_and_nothing_is_left(tmp_path: Path) -> None:
    missing = dataclasses.replace(BARE, image=tmp_path / "gone.png", image_id="m")
    outside = dataclasses.replace(FULL, box=Box(0, 0, 51, 40), image_id="o")
    flat = dataclasses.replace(FULL, box=Box(5, 5, 5, 9), image_id="f")
    with pytest.raises(DataError) as caught:
        build(source(FULL, missing, outside, flat), tmp_path / "set", False)
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert "gone.png: found no such file" in lines[0]
    assert "csv, o: found box 0 0 51 40, expected a box inside the 50x40 image" in lines[1]
    assert "csv, f: found box 5 5 5 9 of no area" in lines[2]
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_built_is_refused(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    good = source(FULL)
    for data, out, message in (
        (source(FULL, name="atlas"), "set", "found 'atlas', expected one of csv, busbra"),
        (source(), "set", "found no usable nodule"),
        (source(FULL, FULL), "set", "found image_id full more than once"),
        (good, "full", "found a folder that is not empty"),
        (good, "full/notes.txt", "found a file, expected a new or empty folder"),
    ):
        with pytest.raises(DataError, match=message):
            build(data, tmp_path / out, False)
    with pytest.raises(DataError, match="no built set, expected one to overwrite"):
        build(good, tmp_path / "full", False, overwrite=True)
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "notes.txt"]


def test_overwriting_replaces_a_set_or_leaves_it(tmp_path: Path, make_source: Make) -> None:
    folder = build(make_source(4), tmp_path / "set", False)
    broken = dataclasses.replace(BARE, image=tmp_path / "gone.png")
    with pytest.raises(DataError, match=r"gone\.png"):
        build(source(broken), folder, False, overwrite=True)
    assert len(open_dataset(folder)) == 4
    build(make_source(6), folder, False, overwrite=True)
    assert len(open_dataset(folder)) == 6
    (folder / "run").mkdir()
    with pytest.raises(DataError, match="found run, which is no part of a built set"):
        build(make_source(4), folder, False, overwrite=True)
    (folder / "run").rmdir()
    assert len(open_dataset(folder)) == 6
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_building_says_nothing_on_stdout(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make_source: Make
) -> None:
    build(make_source(2), tmp_path / "set", False)
    assert capsys.readouterr() == ("", "")


def test_a_folder_that_is_no_set_is_named(tmp_path: Path, set_folder: Path) -> None:
    with pytest.raises(DataError, match="nowhere: found no such folder"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"data\.json: found a file"):
        open_dataset(set_folder / "data.json")
    with pytest.raises(DataError, match=r"found no data\.json, expected a folder made by"):
        open_dataset(tmp_path)


def _truncate(folder: Path) -> None:
    shard(folder).write_bytes(shard(folder).read_bytes()[:70_000])


def _change_data(**changes: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        info = json.loads((folder / "data.json").read_text())
        (folder / "data.json").write_text(json.dumps(info | changes))

    return damage


def _change_records(folder: Path) -> None:
    content = bytearray((folder / "records.parquet").read_bytes())
    content[100] ^= 1
    (folder / "records.parquet").write_bytes(content)


def _make_version_1(folder: Path) -> None:
    info = json.loads((folder / "data.json").read_text())
    del info["version"], info["sha256"]
    (folder / "data.json").write_text(json.dumps(info))
    (folder / "records.parquet").unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "features.json").unlink(), r"found no features\.json"),
        (lambda folder: (folder / "data.json").write_text("{"), r"data\.json: found JSONDecode"),
        (lambda folder: (folder / "data.json").write_text("[]"), r"data\.json: found list"),
        (_change_data(source=None), r"data\.json: found no source"),
        (_change_data(sha256=[]), r"data\.json: found no sha256"),
        (
            lambda folder: (folder / "dataset_info.json").write_text("{"),
            r"dataset_info\.json: found JSONDecodeError .*expected what TFDS wrote",
        ),
        (
            lambda folder: (folder / "dataset_info.json").write_text("{}"),
            r"dataset_info\.json: found KeyError",
        ),
        (
            lambda folder: shard(folder).unlink(),
            "found no thyroid_ultrasound.*00000-of-00001, expected all 1 shards",
        ),
        (_truncate, "found shards of 70000 bytes, expected the .* build the set again"),
        (_change_data(n_nodules=24), r"found 23 records in records\.parquet, expected the 24 of"),
        (_change_records, r"records\.parquet: found .* SHA-256 .* build the set again"),
        (
            lambda folder: (folder / "records.parquet").unlink(),
            r"records\.parquet: found No such file",
        ),
        (
            lambda folder: (folder / "near_duplicates.csv").write_text("image_id\n"),
            r"near_duplicates\.csv: found .* SHA-256 .* build the set again",
        ),
        (_make_version_1, r"found a set of version 1\.0\.0, expected 2\.0\.0; build the set again"),
        (_change_data(version="3.1.0"), r"found a set of version 3\.1\.0, expected 2\.0\.0"),
    ],
)
def test_an_incomplete_or_changed_set_is_not_opened(
    tmp_path: Path, set_folder: Path, damage: Callable[[Path], Any], message: str
) -> None:
    folder = tmp_path / "set"
    shutil.copytree(set_folder, folder)
    damage(folder)
    with pytest.raises(DataError, match=message) as caught:
        open_dataset(folder)
    assert len(str(caught.value).splitlines()) == 1


def _damage_middle_record(folder: Path) -> None:
    content = bytearray(shard(folder).read_bytes())
    content[len(content) // 2] ^= 255
    shard(folder).write_bytes(content)


def test_a_corrupt_record_is_named(tmp_path: Path, set_folder: Path) -> None:
    folder = tmp_path / "set"
    shutil.copytree(set_folder, folder)
    opened = open_dataset(folder)
    _damage_middle_record(folder)
    with pytest.raises(DataError, match=r"set, record \d+ \(image-\d+\): found RuntimeError"):
        list(map(opened.frame, range(len(opened))))


@pytest.mark.parametrize("cache_mb", [0, 1])
def test_threads_read_the_same_frames(set_folder: Path, cache_mb: int) -> None:
    opened = open_dataset(set_folder, cache_mb)
    order = np.random.default_rng(0).integers(0, len(opened), 300).tolist()
    with ThreadPoolExecutor(4) as pool:
        for i, frame in zip(order, pool.map(opened.frame, order), strict=True):
            assert frame_digest(frame) == opened.records[i].frame_sha256
