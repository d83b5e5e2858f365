"""The two files that tell of a set's nodules: what goes in comes out, and damage is told."""

from __future__ import annotations

import dataclasses
import gc
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from thyrojax.data import sidecar
from thyrojax.data.dataset import Record
from thyrojax.data.records import Box
from thyrojax.errors import DataError


def sum_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def record(number: int, known: bool) -> Record:
    return Record(
        image_id=f"image-{number}",
        patient_id=f"Łukasz {number // 2}",
        box=Box(number, 2, number + 30, 40),
        label=number % 2,
        size_mm=12.5 if known else None,
        tirads="4a" if known else None,
        composition="solid" if known else None,
        echogenicity="hypoechoic" if known else None,
        calcification="micro" if known else None,
        margin="smooth" if known else None,
        shape="taller" if known else None,
        pixel_spacing_mm=0.07 if known else None,
        reader_label=1 if known else None,
        image_sha256=sum_of(f"image {number}"),
        frame_sha256=sum_of(f"frame {number}"),
        height=600,
        width=800,
        perceptual_hash=sum_of(f"hash {number}"),
    )


RECORDS = [record(i, known=i % 3 > 0) for i in range(40)]
CHECKSUMS = np.arange(40, dtype=np.uint32) * 107_374_182  # up to 2^32


def test_records_come_back_with_their_checksums(tmp_path: Path) -> None:
    path = tmp_path / "records.parquet"
    sidecar.write_records(path, RECORDS, CHECKSUMS)
    records, checksums = sidecar.read_records(path)
    assert records == RECORDS
    assert [type(value) for value in dataclasses.astuple(records[1])] == [
        type(value) for value in dataclasses.astuple(RECORDS[1])
    ]
    assert isinstance(records[0].box, Box)
    np.testing.assert_array_equal(checksums, CHECKSUMS)
    assert gc.isenabled()


def test_every_field_of_a_record_is_a_column_for_other_readers(tmp_path: Path) -> None:
    path = tmp_path / "records.parquet"
    sidecar.write_records(path, RECORDS, CHECKSUMS)
    row = pq.read_table(path).to_pylist()[4]
    expected = dataclasses.asdict(RECORDS[4])
    edges = dict(zip(("x_min", "y_min", "x_max", "y_max"), expected.pop("box"), strict=True))
    assert row == expected | edges | {"encoded_crc32c": CHECKSUMS[4]}


def test_parts_make_the_same_file_as_all_at_once(tmp_path: Path) -> None:
    whole, joined = tmp_path / "whole.parquet", tmp_path / "joined.parquet"
    sidecar.write_records(whole, RECORDS, CHECKSUMS)
    parts = []
    for number, part in enumerate((slice(0, 11), slice(11, 12), slice(12, 40))):
        parts.append(tmp_path / f"{number}.parquet")
        sidecar.write_records(parts[-1], RECORDS[part], CHECKSUMS[part])
    sidecar.join_records(joined, parts)
    assert joined.read_bytes() == whole.read_bytes()


def _without_a_column(path: Path) -> None:
    pq.write_table(pq.read_table(path).drop_columns(["height"]), path)


def _with_text_for_numbers(path: Path) -> None:
    table = pq.read_table(path)
    words = pa.array(["tall"] * len(table))
    pq.write_table(table.set_column(table.column_names.index("height"), "height", words), path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "found no readable Parquet"),
        (lambda path: path.write_bytes(b"PAR1"), "found no readable Parquet"),
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "found no readable Parquet"),
        (_without_a_column, "found columns image_id, .*expected image_id, .*height"),
        (_with_text_for_numbers, "found column height of string, expected int32"),
    ],
)
def test_a_damaged_records_file_is_told(
    tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    path = tmp_path / "records.parquet"
    sidecar.write_records(path, RECORDS, CHECKSUMS)
    damage(path)
    with pytest.raises(DataError, match=message) as caught:
        sidecar.read_records(path)
    assert len(str(caught.value).splitlines()) == 1


def test_near_duplicates_come_back_by_position(tmp_path: Path) -> None:
    path = tmp_path / "near.csv"
    pairs = [(0, 7, 1.0), (3, 39, 0.9375)]
    sidecar.write_near_duplicates(path, pairs, RECORDS)
    assert path.read_text().splitlines() == [
        "image_id,other_image_id,similarity",
        "image-0,image-7,1.0000",
        "image-3,image-39,0.9375",
    ]
    assert sidecar.read_near_duplicates(path, RECORDS) == tuple(pairs)
    sidecar.write_near_duplicates(path, [], RECORDS)
    assert sidecar.read_near_duplicates(path, RECORDS) == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "found no header image_id,other_image_id,similarity"),
        ("a,b\n", "found no header"),
        ("image_id,other_image_id,similarity\nimage-0,atlas,1\n", "row 1: found image-0,atlas,1"),
        ("image_id,other_image_id,similarity\nimage-0,image-1,x\n", "row 1: found image-0,image-1"),
        ("image_id,other_image_id,similarity\nimage-0,image-1\n", "row 1: found image-0,image-1"),
    ],
)
def test_damaged_near_duplicates_are_told(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "near.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        sidecar.read_near_duplicates(path, RECORDS)
