"""Built sets: what goes in comes out, all or nothing, and damage is told by name."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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
    image=lambda: np.full((40, 50), 9, np.uint8),
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
        ("phantom", "thyroid nodules", ["benign", "malignant"]),
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
    assert info == {
        "source": "csv",
        "subject": "thyroid nodules",
        "label_names": ["benign", "malignant"],
        "n_images": 24,
        "n_nodules": 23,
        "n_patients": 12,
        "exclusions": {"no box": 1},
        "mask_overlay": False,
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
        built("pixel", with_first(image=lambda: frame)),
        built("order", swapped),
    ]
    assert len({one, *others}) == 5


def test_masking_changes_what_is_stored_and_not_what_is_named_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sector, "mask_overlay", lambda image: image * (image > 200))
    frame = np.random.default_rng(0).integers(0, 256, (30, 30), np.uint8)
    nodule = dataclasses.replace(BARE, image=lambda: frame)
    plain = open_dataset(build(source(nodule), tmp_path / "plain", mask_overlay=False))
    masked = open_dataset(build(source(nodule), tmp_path / "masked", mask_overlay=True))
    np.testing.assert_array_equal(masked.frame(0), frame * (frame > 200))
    assert masked.info["mask_overlay"] is True
    assert masked.records[0].image_sha256 == plain.records[0].image_sha256
    assert masked.records[0].frame_sha256 != plain.records[0].frame_sha256
    assert masked.fingerprint != plain.fingerprint


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
        (source(FULL, name="atlas"), "set", "found 'atlas', expected one of csv, phantom"),
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


def _other_count(folder: Path) -> None:
    info = json.loads((folder / "data.json").read_text())
    (folder / "data.json").write_text(json.dumps(info | {"n_nodules": 24}))


def _other_fingerprint(folder: Path) -> None:
    info = json.loads((folder / "data.json").read_text())
    (folder / "data.json").write_text(json.dumps(info | {"fingerprint": "0" * 64}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "features.json").unlink(), r"found no features\.json"),
        (lambda folder: (folder / "data.json").write_text("{"), r"data\.json: found JSONDecode"),
        (lambda folder: (folder / "data.json").write_text("[]"), r"data\.json: found no source"),
        (lambda folder: (folder / "dataset_info.json").write_text("{"), "found a damaged set"),
        (lambda folder: shard(folder).unlink(), "record 0: found .*No such file"),
        (_truncate, "record 0: found .*Riegeli"),
        (_other_count, "found 23 records, expected the 24 of"),
        (_other_fingerprint, "found records with fingerprint .*build the set again"),
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
    with pytest.raises(DataError, match=r"record (\d+) \(after image-\d+\): found RuntimeError"):
        open_dataset(folder)
    with pytest.raises(DataError, match=r"set, record \d+ \(image-\d+\): found RuntimeError"):
        list(map(opened.frame, range(len(opened))))


def test_frames_are_kept_only_where_all_fit(set_folder: Path) -> None:
    not_kept = open_dataset(set_folder)
    kept = open_dataset(set_folder, cache_mb=1)  # 23 frames of 60 x 80 bytes
    assert (not_kept.cached, kept.cached) == (False, True)
    assert kept.frame_bytes == 23 * 60 * 80
    assert kept.frame(3) is kept.frame(3)
    assert not kept.frame(3).flags.writeable
    assert not_kept.frame(3) is not not_kept.frame(3)
    np.testing.assert_array_equal(kept.frame(3), not_kept.frame(3))


def test_frames_larger_than_the_budget_are_not_kept(tmp_path: Path) -> None:
    frames = [np.full((600, 900), value, np.uint8) for value in (1, 2)]
    nodules = [
        dataclasses.replace(BARE, image=frame.copy, image_id=str(i))
        for i, frame in enumerate(frames)
    ]
    folder = build(source(*nodules), tmp_path / "set", False)
    assert not open_dataset(folder, cache_mb=1).cached  # 1.03 MiB
    assert open_dataset(folder, cache_mb=2).cached


@pytest.mark.parametrize("cache_mb", [0, 1])
def test_threads_read_the_same_frames(set_folder: Path, cache_mb: int) -> None:
    opened = open_dataset(set_folder, cache_mb)
    order = np.random.default_rng(0).integers(0, len(opened), 300).tolist()
    with ThreadPoolExecutor(4) as pool:
        for i, frame in zip(order, pool.map(opened.frame, order), strict=True):
            assert frame_digest(frame) == opened.records[i].frame_sha256
