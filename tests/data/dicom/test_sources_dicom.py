from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread, examples
from pydicom.dataset import Dataset

from thyrojax.data.check import summarise
from thyrojax.data.identity import NOTE, pseudonym, read_key
from thyrojax.data.records import Box, SourceData, load_image
from thyrojax.data.sector import mask_overlay
from thyrojax.data.sources import dicom, read_source
from thyrojax.errors import DataError

ONE_BOX = Box(40, 50, 80, 90)


def read(scanner: Any, **options: Any) -> SourceData:
    data = read_source("dicom", scanner.folder, **(scanner.options() | options))
    summarise(data)  # every image is accounted for
    return data


def without_regions(scanner: Any, **attributes: Any) -> Dataset:
    frame = scanner.draw(1)
    return scanner.dataset(1, frame, SequenceOfUltrasoundRegions=[], **attributes)


def test_a_box_is_read_with_spacing_blanking_and_pseudonyms(
    scanner: Any, one_file: Callable[..., Path]
) -> None:
    one_file()
    (nodule,) = read(scanner).nodules
    key = read_key(scanner.key)
    assert nodule.image_id == pseudonym(key, "image", f"{scanner.root}.1")
    assert nodule.patient_id == pseudonym(key, "patient", "MRN-47110815")
    assert (nodule.box, nodule.label) == (ONE_BOX, 0)
    assert nodule.pixel_spacing_mm == pytest.approx(0.08)  # 0.008 cm
    frame = load_image(nodule.image)
    x0, y0, x1, y1 = scanner.corners
    np.testing.assert_array_equal(
        frame[y0 : y1 + 1, x0 : x1 + 1], scanner.draw(1)[y0 : y1 + 1, x0 : x1 + 1]
    )
    frame[y0 : y1 + 1, x0 : x1 + 1] = 0
    assert not frame.any()


def test_a_single_file_is_a_source_too(scanner: Any, one_file: Callable[..., Path]) -> None:
    path = one_file()
    assert len(read_source("dicom", path, **scanner.options()).nodules) == 1


def test_all_columns_of_the_table_are_used(scanner: Any, one_file: Callable[..., Path]) -> None:
    one_file()
    scanner.table(
        scanner.boxes,
        f"{scanner.root}.1,1,40,50,80,90,malignant,8.5,4a,solid,irregular,1,0.1",
        columns=",size_mm,tirads,composition,margin,reader_label,pixel_spacing_mm",
    )
    (nodule,) = read(scanner).nodules
    assert (nodule.label, nodule.size_mm, nodule.tirads) == (1, 8.5, "4a")
    assert (nodule.composition, nodule.margin, nodule.reader_label) == ("solid", "irregular", 1)
    assert nodule.pixel_spacing_mm == 0.1  # a person's word goes before the file's


def test_frames_of_a_cine_are_images_and_the_rest_of_them_is_one(scanner: Any) -> None:
    cine = np.stack([scanner.draw(seed) for seed in range(5)])
    scanner.write(scanner.dataset(1, cine), "a/cine.dcm")
    scanner.write(scanner.dataset(2, cine), "b/other.dcm")
    scanner.write(scanner.dataset(3, scanner.draw(9), PatientID="MRN-20202020"), "b/still.dcm")
    scanner.table(
        scanner.boxes,
        f"{scanner.root}.1,2,40,50,80,90,1",
        f"{scanner.root}.1,5,30,50,60,90,1",
        f"{scanner.root}.1,5,90,50,110,90,0",
    )
    data = read(scanner)
    name = {n: pseudonym(read_key(scanner.key), "image", f"{scanner.root}.{n}") for n in (1, 2, 3)}
    assert [nodule.image_id for nodule in data.nodules] == [
        f"{name[1]}-f2",
        f"{name[1]}-f5-1",
        f"{name[1]}-f5-2",
    ]
    assert data.nodules[1].image == data.nodules[2].image != data.nodules[0].image
    np.testing.assert_array_equal(
        load_image(data.nodules[0].image)[40:100, 30:130], cine[1, 40:100, 30:130]
    )
    assert {(entry.image_id, entry.reason, entry.detail) for entry in data.exclusions} == {
        (name[1], dicom.OTHER_FRAMES, "frames: 3"),
        (name[2], dicom.NO_BOX, "frames: 5"),
        (name[3], dicom.NO_BOX, ""),
    }
    assert data.n_images == 2 + 3


@pytest.mark.parametrize(
    ("deltas", "other", "expected"),
    [
        ((0.008, 0.00807), {}, 0.0803492),  # unlike by less than 1 %: sqrt(0.08 x 0.0807)
        ((0.008, 0.0082), {}, None),
        ((0.008, -0.008), {}, 0.08),
        ((0.0, 0.0), {}, None),
        ((0.008, 0.008), {"PhysicalUnitsXDirection": 4}, None),  # seconds
        ((0.008, 0.008), {"PhysicalUnitsYDirection": 0}, None),
    ],
)
def test_spacing_is_known_where_a_region_has_it_in_centimetres(
    scanner: Any,
    one_file: Callable[..., Path],
    deltas: tuple[float, float],
    other: dict[str, int],
    expected: float | None,
) -> None:
    item = scanner.region(deltas=deltas, **other)
    one_file(SequenceOfUltrasoundRegions=[item])
    data = read(scanner)
    assert data.nodules[0].pixel_spacing_mm == pytest.approx(expected)
    uneven = "1 boxes lie in pixels that are not square: their pixel spacing is not known."
    assert (uneven in data.notes) == (deltas == (0.008, 0.0082))


def test_a_box_takes_the_spacing_of_the_region_that_holds_it(
    scanner: Any, one_file: Callable[..., Path]
) -> None:
    regions = [
        scanner.region((20, 30, 70, 109), (0.01, 0.01)),
        scanner.region((75, 30, 139, 109), (0.02, 0.02)),
        scanner.region((0, 0, 159, 119), RegionDataType=2),  # colour flow
        scanner.region((0, 0, 159, 119), RegionSpatialFormat=3),  # a spectrum
    ]
    one_file(SequenceOfUltrasoundRegions=regions)
    scanner.table(
        scanner.boxes,
        f"{scanner.root}.1,,40,50,74,90,0",
        f"{scanner.root}.1,,71,50,110,90,0",
        f"{scanner.root}.1,,145,50,155,90,0",
    )
    data = read(scanner)
    assert [nodule.pixel_spacing_mm for nodule in data.nodules] == pytest.approx([0.1, 0.2])
    assert [(entry.reason, entry.detail) for entry in data.exclusions] == [
        (dicom.OUTSIDE, "region 3 of 3")
    ]
    assert not load_image(data.nodules[0].image)[:, 71:75].any()


@pytest.mark.parametrize(
    ("spacing", "expected"), [([0.2, 0.2], 0.2), ([0.2, 0.3], None), ([0.2, 0.0], None)]
)
def test_without_regions_pixel_spacing_counts_and_a_note_says_that_nothing_is_blanked(
    scanner: Any, one_file: Callable[..., Path], spacing: list[float], expected: float | None
) -> None:
    one_file(without_regions(scanner, PixelSpacing=spacing))
    data = read(scanner)
    assert data.nodules[0].pixel_spacing_mm == expected
    assert any(note.startswith("1 files describe no tissue region") for note in data.notes)
    np.testing.assert_array_equal(load_image(data.nodules[0].image), scanner.draw(1))


def test_a_regions_last_corner_may_be_counted_as_outside_and_empty_ones_are_none(
    scanner: Any, one_file: Callable[..., Path]
) -> None:
    regions = [scanner.region((20, 30, 160, 120)), scanner.region((50, 50, 40, 40)), Dataset()]
    one_file(SequenceOfUltrasoundRegions=regions)
    (nodule,) = read(scanner).nodules
    assert nodule.image.regions == (Box(20, 30, 160, 120),)  # type: ignore[union-attr]


@pytest.mark.parametrize("other", [{}, {"RegionSpatialFormat": 4, "RegionDataType": 10}])
def test_regions_of_a_larger_frame_are_not_believed(
    scanner: Any, one_file: Callable[..., Path], other: dict[str, int]
) -> None:
    # As in files that pydicom brings along: 320 x 240, and a region up to 595, 414.
    regions = [scanner.region(), scanner.region((84, 31, 595, 414), **other)]
    one_file(SequenceOfUltrasoundRegions=regions)
    data = read(scanner)
    assert data.nodules[0].image.regions == ()  # type: ignore[union-attr]
    assert data.nodules[0].pixel_spacing_mm is None
    assert any(note.startswith("1 files describe regions beyond their") for note in data.notes)
    assert any(note.startswith("1 files describe no tissue region") for note in data.notes)


def test_files_of_real_scanners_are_read(scanner: Any) -> None:
    """Those that pydicom brings along, of 4 kinds: cine in JPEG, palette, RGB, JPEG 2000."""
    rows = []
    for name in ("ybr_color", "palette_color", "rgb_color", "jpeg2k"):
        path = Path(examples.get_path(name))
        shutil.copy(path, scanner.folder)
        dataset = dcmread(path, stop_before_pixels=True)
        frame = 2 if name == "ybr_color" else ""
        rows.append(f"{dataset.SOPInstanceUID},{frame},100,100,150,150,0")
    scanner.table(scanner.boxes, *rows)
    data = read(scanner)
    shapes = {load_image(nodule.image).shape for nodule in data.nodules}
    assert shapes == {(240, 320), (350, 800), (480, 640)}
    assert len(data.nodules) == 4
    # The palette's frame has 60 rows of banner with date, time and hospital, and no regions of use.
    wide = next(nodule.image for nodule in data.nodules if load_image(nodule.image).shape[1] == 800)
    assert load_image(wide)[:60].any()
    assert not mask_overlay(load_image(wide))[:60].any()


def test_patients_are_those_of_patient_id_or_where_it_is_empty_the_study(scanner: Any) -> None:
    for number, patient in enumerate(["A", " A ", "B", "", ""], start=1):
        scanner.write(scanner.dataset(number, scanner.draw(number), PatientID=patient))
    rows = [f"{scanner.root}.{number},,40,50,80,90,0" for number in range(1, 6)]
    scanner.table(scanner.boxes, *rows)
    data = read(scanner)
    assert len({nodule.patient_id for nodule in data.nodules}) == 4
    assert any(note.startswith("2 files name no patient: their study") for note in data.notes)


def test_pseudonyms_hold_under_a_key_and_change_with_it(
    scanner: Any, one_file: Callable[..., Path], tmp_path: Path
) -> None:
    path = one_file()
    before = read(scanner)
    path.rename(path.with_name("renamed.dcm"))
    after = read(scanner)
    other = tmp_path / "other.txt"
    other.write_text("another secret of some length")
    changed = read(scanner, key_file=other)
    ids = [(data.nodules[0].image_id, data.nodules[0].patient_id) for data in (before, after)]
    assert ids[0] == ids[1]
    assert changed.nodules[0].image_id != ids[0][0]
    assert changed.nodules[0].patient_id != ids[0][1]


def test_what_is_no_image_or_nothing_new_is_told_in_counts(
    scanner: Any, one_file: Callable[..., Path]
) -> None:
    path = one_file(BurnedInAnnotation="YES")
    shutil.copy(path, scanner.folder / "copy.dcm")
    (scanner.folder / "readme.txt").write_text("hello")
    (scanner.folder / "._hidden.dcm").write_text("hello")
    scanner.write(scanner.dataset(2, scanner.draw(2), SOPClassUID="1.2.840.10008.5.1.4.1.1.2"))
    state = scanner.dataset(3, scanner.draw(3), SOPClassUID="1.2.840.10008.5.1.4.1.1.11.1")
    for name in ("Rows", "Columns", "PixelData"):
        delattr(state, name)
    scanner.write(state)
    directory = scanner.dataset(4, scanner.draw(4), SOPClassUID=None, PixelData=None, Rows=None)
    directory.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    directory.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    scanner.write(directory, "DICOMDIR")
    video = scanner.dataset(5, scanner.draw(5))
    scanner.write(scanner.put_encoded(video, "1.2.840.10008.1.2.4.102", [b"MPEG-4"]))
    data = read(scanner)
    assert data.notes == (
        NOTE,
        "1 files say that text is burnt into them.",
        "1 DICOM objects hold no image.",
        "1 files are copies of others.",
    )
    assert sorted(entry.reason for entry in data.exclusions) == [
        dicom.NOT_ULTRASOUND,
        dicom.VIDEO,
    ]
    assert (len(data.nodules), data.n_images) == (1, 3)


def test_without_key_or_pydicom_one_line_says_what_to_do(
    scanner: Any, one_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    one_file()
    with pytest.raises(DataError, match=r"found no key file.*openssl rand -hex 32 > key.txt"):
        read_source("dicom", scanner.folder, boxes=scanner.boxes)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(DataError, match=r"pip install 'thyrojax\[dicom\]'"):
        read(scanner)
