"""From files with a patient's name in their tags, names and pixels to a set without it."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from array_record.python.array_record_module import ArrayRecordReader
from PIL import Image
from pydicom.uid import JPEGBaseline8Bit

from thyrojax.cli import main
from thyrojax.data.dataset import Dataset, open_dataset
from thyrojax.data.identity import pseudonym, read_key
from thyrojax.data.records import Box

# What must not be found anywhere: names, numbers, dates, places, UIDs, and the key.
SECRETS = (
    *("featherstone", "wilhelmina", "abernathy", "montague", "elsewhere", "scanner inc"),
    *("47110815", "20202020", "19530204", "1953-02-04", "530204", "20210317", "2021-03-17"),
    *("1.2.826.0.1", "1.2.840.10008.5", "0123456789abcdef0123"),
)


@pytest.fixture
def export(scanner: Any) -> Any:
    """A cine of half-sampled YBR in JPEG, RGB planes, a palette, and plain grey; text in all."""
    colours = [np.repeat(scanner.draw(seed)[..., None], 3, axis=2) for seed in range(4)]
    cine = scanner.dataset(1, np.stack(colours), "YBR_FULL_422")
    scanner.write(scanner.compress(cine, JPEGBaseline8Bit, colours), "FEATHERSTONE_W/cine.dcm")

    planes = scanner.dataset(2, colours[1], "RGB", PlanarConfiguration=1, PatientID="MRN-20202020")
    planes.PixelData = colours[1].transpose(2, 0, 1).tobytes()
    scanner.write(planes, "MRN-20202020 19530204")

    palette = scanner.dataset(3, 255 - scanner.draw(5), "PALETTE COLOR", PatientID="MRN-20202020")
    for name in ("Red", "Green", "Blue"):
        setattr(palette, f"{name}PaletteColorLookupTableDescriptor", [256, 0, 8])
        entries = np.arange(255, -1, -1, dtype=np.uint8).tobytes()
        setattr(palette, f"{name}PaletteColorLookupTableData", entries)
    palette.SequenceOfUltrasoundRegions = [scanner.region(deltas=(0.02, 0.02))]
    scanner.write(palette)

    scanner.write(scanner.dataset(4, scanner.draw(6)))
    scanner.write(scanner.dataset(5, scanner.draw(7)))  # no box
    scanner.table(
        scanner.boxes,
        f"{scanner.root}.1,2,40,50,80,90,benign,4a,7.5",
        f"{scanner.root}.1,4,41,50,80,90,benign,,",
        f"{scanner.root}.2,,42,50,80,90,malignant,,",
        f"{scanner.root}.3,1,43,50,80,90,malignant,,",
        f"{scanner.root}.4,,44,50,80,90,benign,,",
        f"{scanner.root}.4,,90,50,120,90,benign,,",
        columns=",tirads,size_mm",
    )
    return scanner


def build(scanner: Any, out: str, *more: str, key: Path | None = None) -> Dataset:
    folder = scanner.folder.parent / "sets" / out
    words = ["dicom", "--from", str(scanner.folder), "--boxes", str(scanner.boxes)]
    words += ["--key-file", str(key or scanner.key)]
    assert main(["data", "build", *words, "--out", str(folder), *more]) == 0
    return open_dataset(folder)


def test_a_set_has_boxes_spacing_and_frames_blank_outside_their_regions(
    export: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--from", str(export.folder), "--boxes", str(export.boxes)]
    assert main(["data", "check", "dicom", *words, "--key-file", str(export.key)]) == 0
    told = capsys.readouterr().out
    assert not [secret for secret in SECRETS if secret in told.lower()]

    dataset = build(export, "set", "--no-mask-overlay")
    key = read_key(export.key)
    ids = {n: pseudonym(key, "image", f"{export.root}.{n}") for n in range(1, 6)}
    patients = {n: pseudonym(key, "patient", n) for n in ("MRN-47110815", "MRN-20202020")}
    found = {r.image_id: (r.patient_id, r.box, r.label) for r in dataset.records}
    assert found == {
        f"{ids[1]}-f2": (patients["MRN-47110815"], Box(40, 50, 80, 90), 0),
        f"{ids[1]}-f4": (patients["MRN-47110815"], Box(41, 50, 80, 90), 0),
        ids[2]: (patients["MRN-20202020"], Box(42, 50, 80, 90), 1),
        ids[3]: (patients["MRN-20202020"], Box(43, 50, 80, 90), 1),
        f"{ids[4]}-1": (patients["MRN-47110815"], Box(44, 50, 80, 90), 0),
        f"{ids[4]}-2": (patients["MRN-47110815"], Box(90, 50, 120, 90), 0),
    }
    seeds = {ids[1] + "-f2": 1, ids[1] + "-f4": 3, ids[2]: 1, ids[3]: 5, ids[4] + "-1": 6}
    x0, y0, x1, y1 = export.corners
    for position, record in enumerate(dataset.records):
        spacing = 0.2 if record.image_id == ids[3] else 0.08
        assert record.pixel_spacing_mm == pytest.approx(spacing)
        frame = np.array(dataset.frame(position))
        inside = frame[y0 : y1 + 1, x0 : x1 + 1].copy()
        frame[y0 : y1 + 1, x0 : x1 + 1] = 0
        assert not frame.any()
        if record.image_id in seeds:
            drawn = export.draw(seeds[record.image_id])[y0 : y1 + 1, x0 : x1 + 1].astype(int)
            tolerance = 12 if record.image_id.startswith(ids[1]) else 0  # JPEG
            assert np.abs(inside - drawn).max() <= tolerance
    with (dataset.folder / "exclusions.csv").open() as file:
        rows = {tuple(row) for row in csv.reader(file)}
    assert rows == {
        ("image_id", "reason", "detail"),
        (ids[1], "frames without a box", "frames: 2"),
        (ids[5], "no box", ""),
    }


def test_nothing_of_tags_file_names_or_key_is_in_any_file_of_a_set(export: Any) -> None:
    before = b"".join(name.encode() + content for name, content in contents(export.folder))
    held = [secret for secret in SECRETS if secret.encode() in before.lower()]
    assert len(held) >= len(SECRETS) - 3  # dates in another form, and the key

    dataset = build(export, "set")
    looked_at = set()
    for name, content in contents(dataset.folder.parent):
        looked_at.add(name.rpartition(".")[2])
        text = content.lower()
        for secret in SECRETS:
            assert secret.encode() not in text, f"{secret} in {name}"
    assert {"json", "csv", "parquet", "example", "image"} <= looked_at


def contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file and its name; of shards each record, of tables each value, of images each part."""
    for path in sorted(folder.rglob("*")):
        yield f"{path} name", str(path.relative_to(folder)).encode()
        if not path.is_file():
            continue
        yield str(path), path.read_bytes()
        if ".array_record" in path.name:
            for example in ArrayRecordReader(str(path)).read_all():
                yield f"{path.name}.example", example
                start = example.index(b"\x89PNG")
                image = Image.open(io.BytesIO(example[start:]))
                image.load()
                yield f"{path.name}.image", repr(image.info).encode()
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            told = [table.to_pylist(), table.schema.metadata, pq.read_metadata(path).metadata]
            yield str(path), repr(told).encode()
        if path.suffix == ".json":
            yield str(path), repr(json.loads(path.read_text())).encode()


def test_text_that_was_burnt_in_around_the_sector_cannot_be_read_in_a_set(export: Any) -> None:
    # Of the frame's own text no letter is left: its best match is far from one.
    text = export.draw(1)[:20]
    for overlay in ("--mask-overlay", "--no-mask-overlay"):
        dataset = build(export, overlay.strip("-"), overlay)
        for position in range(len(dataset.records)):
            frame = dataset.frame(position)
            match = cv2.matchTemplate(frame, text, cv2.TM_CCOEFF_NORMED)
            assert match.max() < 0.5
            assert not frame[:20].any()


def test_a_page_of_a_set_shows_its_frames_and_nobody_s_name(export: Any) -> None:
    dataset = build(export, "set")
    page = dataset.folder.with_name("sheet.html")
    cuts = ["--margins", "0", "2", "--margin-unit", "mm"]
    assert main(["data", "view", str(dataset.folder), "--out", str(page), "--quiet", *cuts]) == 0
    shown = page.read_text()
    assert not [secret for secret in SECRETS if secret in shown.lower()]
    data = re.search(r'<script[^>]*id="data"[^>]*>(.*?)</script>', shown, re.DOTALL)
    assert data is not None
    content = json.loads(data.group(1))
    assert content["masked"]
    assert [entry["id"] for entry in content["entries"]] == [r.image_id for r in dataset.records]
    x0, y0, x1, y1 = export.corners
    for width, height, *_, picture, _ in content["frames"]:
        jpeg = np.frombuffer(base64.b64decode(picture.partition("base64,")[2]), np.uint8)
        frame = cv2.imdecode(jpeg, cv2.IMREAD_GRAYSCALE)
        assert frame.shape == (height, width)
        assert frame[y0:y1, x0:x1].any()
        frame[y0 - 8 : y1 + 9, x0 - 8 : x1 + 9] = 0  # a block of JPEG more
        assert frame.max() < 10


def test_a_set_is_the_same_under_the_same_key_and_has_other_ids_under_another(
    export: Any, tmp_path: Path
) -> None:
    first = build(export, "first")
    (export.folder / "MRN-20202020 19530204").rename(export.folder / "z")
    second = build(export, "second")
    assert first.records == second.records
    other = tmp_path / "other.txt"
    other.write_text("quite another secret\n")
    third = build(export, "third", key=other)
    for field in ("image_id", "patient_id"):
        ids = [{getattr(r, field) for r in s.records} for s in (first, third)]
        assert len(ids[0]) == len(ids[1])
        assert not ids[0] & ids[1]


def test_a_key_is_asked_for_before_anything_is_written(
    export: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["data", "build", "dicom", "--from", str(export.folder), "--out", str(tmp_path / "s")]
    assert main(words) == 2
    told = capsys.readouterr().err
    assert "--key-file" in told
    assert told.count("\n") == 1
    assert not (tmp_path / "s").exists()
