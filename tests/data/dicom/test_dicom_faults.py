"""Files and tables that cannot be used: one line for each fault, and nothing is built."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit

from thyrojax.data.sources import read_source
from thyrojax.errors import DataError, DataFaults

Change = Callable[[Any, Dataset], object]


def faults_of(scanner: Any) -> list[str]:
    """One line a fault, the folder's name cut."""
    with pytest.raises(DataFaults) as caught:
        read_source("dicom", scanner.folder, **scanner.options())
    faults = [str(fault) for fault in caught.value.faults]
    assert not any("\n" in fault for fault in faults)
    return [
        fault.replace(f"{scanner.folder}/", "").replace(f"{scanner.folder.parent}/", "")
        for fault in faults
    ]


def change(**attributes: Any) -> Change:
    def apply(scanner: Any, dataset: Dataset) -> None:
        for name, value in attributes.items():
            if value is None:
                delattr(dataset, name)
            else:
                setattr(dataset, name, value)

    return apply


def deep(scanner: Any, dataset: Dataset) -> None:
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelData = dataset.PixelData * 2
    dataset["PixelData"].VR = "OW"


def broken_jpeg(scanner: Any, dataset: Dataset) -> None:
    scanner.put_encoded(dataset, JPEGBaseline8Bit, [b"\xff\xd8\xff\xe0 no more of it than this"])


def turned_jpeg(scanner: Any, dataset: Dataset) -> None:
    scanner.compress(dataset, JPEGBaseline8Bit, [scanner.draw(1)])
    dataset.Rows, dataset.Columns = dataset.Columns, dataset.Rows


def turned_jpeg_2000(scanner: Any, dataset: Dataset) -> None:
    scanner.compress(dataset, JPEG2000Lossless, [scanner.draw(1)])
    dataset.Rows, dataset.Columns = dataset.Columns, dataset.Rows


def lossless_jpeg(scanner: Any, dataset: Dataset) -> None:
    scanner.put_encoded(dataset, "1.2.840.10008.1.2.4.70", [b"\xff\xd8\xff\xc3"])


def jpeg_ls(scanner: Any, dataset: Dataset) -> None:
    scanner.put_encoded(dataset, "1.2.840.10008.1.2.4.80", [b"\xff\xd8\xff\xf7"])


@pytest.mark.parametrize(
    ("make_wrong", "told"),
    [
        (change(PixelData=None), "found no pixel data, expected an image"),
        (change(PixelData=b"\1\2"), "found 2 bytes of pixel data, expected at least 19200 for"),
        (change(Rows=60000), "found 19200 bytes of pixel data, expected at least 9600000 for"),
        (change(Rows=0), "found 160 columns, 0 rows, expected a frame of 1 to"),
        (change(Rows=65535, Columns=65535), "found 65535 columns, 65535 rows, expected"),
        (change(Columns=None), "found no columns, 120 rows, expected"),
        (
            change(NumberOfFrames=2**31 - 1),
            "found 19200 bytes of pixel data, expected at least 41231686022400 for 2147483647",
        ),
        (change(NumberOfFrames=-3), "found '-3' frames, expected 1 or more"),
        (deep, "found 12 bits stored in 16, expected 8 bits per channel, unsigned"),
        (change(PixelRepresentation=1), "found 8 bits stored in 8, signed, expected 8 bits"),
        (change(BitsStored=7, HighBit=6), "found 7 bits stored in 8, expected"),
        (change(PhotometricInterpretation="CMYK"), "found photometric interpretation 'CMYK'"),
        (change(PhotometricInterpretation="YBR_RCT"), "photometric interpretation 'YBR_RCT'"),
        (change(PhotometricInterpretation="RGB"), "found 1 samples per pixel of RGB, expected 3"),
        (
            change(PhotometricInterpretation="PALETTE COLOR"),
            "frame 1: found a palette that cannot be used",
        ),
        (broken_jpeg, "frame 1: found pixels that cannot be decoded"),
        (turned_jpeg, "frame 1: found a JPEG of 160x120, expected 120x160, as the file says"),
        (turned_jpeg_2000, "frame 1: found a JPEG of 160x120, expected 120x160"),
        (
            lossless_jpeg,
            "found transfer syntax JPEG Lossless, Non-Hierarchical, First-Order Prediction",
        ),
        (jpeg_ls, "(1.2.840.10008.1.2.4.80), expected uncompressed little endian, RLE, baseline"),
        (change(SOPInstanceUID=""), "found no SOP Instance UID, expected one"),
    ],
)
def test_an_image_that_cannot_be_used_is_named(
    scanner: Any, one_file: Callable[..., Path], make_wrong: Change, told: str
) -> None:
    dataset = scanner.dataset(1, scanner.draw(1))
    make_wrong(scanner, dataset)
    if not dataset.SOPInstanceUID:
        dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
        one_file(dataset).rename(scanner.folder / "FEATHERSTONE_W_7.1.dcm")
    else:
        one_file(dataset)
    (fault,) = faults_of(scanner)
    assert fault.startswith("FEATHERSTONE_W_7.1.dcm")
    assert told in fault
    assert ", expected " in fault


def cut(content: bytes) -> bytes:
    return content[:-1000]


def without_preamble(content: bytes) -> bytes:
    return content[132:]


def deflated(content: bytes) -> bytes:
    """A data set that would grow a thousand times, in the deflated transfer syntax."""
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    bomb = packer.compress(bytes(10**7)) + packer.flush()
    syntax = b"1.2.840.10008.1.2.1.99"
    element = struct.pack("<HH2sH", 2, 0x10, b"UI", len(syntax)) + syntax
    group = struct.pack("<HH2sHL", 2, 0, b"UL", 4, len(element))
    return content[:132] + group + element + bomb


def big_endian(content: bytes) -> bytes:
    return content.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.2\0")


def endless_sequence(content: bytes) -> bytes:
    """Sequences within sequences, deeper than any stack."""
    start = struct.pack("<HH2sHL", 0x18, 0x6011, b"SQ", 0, 0xFFFFFFFF)
    start += struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
    at = content.index(struct.pack("<HH2s", 0x18, 0x6011, b"SQ"))
    return content[:at] + start * 20000


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda content: b"", "found no DICOM file, expected DICM after a preamble"),
        (lambda content: b"not DICOM at all" * 20, "found no DICOM file, expected DICM"),
        (without_preamble, "found no DICOM file, expected DICM"),
        (lambda content: content[:132], "found no transfer syntax, expected"),
        (lambda content: content[:400], ""),
        (cut, "found 18200 bytes of pixel data, expected at least 19200 for 1 frames"),
        (deflated, "found transfer syntax Deflated Explicit VR Little Endian (1.2.840.10008.1.2."),
        (big_endian, "found transfer syntax Explicit VR Big Endian (1.2.840.10008.1.2.2)"),
        (endless_sequence, "found a broken DICOM file (RecursionError), expected"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    scanner: Any,
    one_file: Callable[..., Path],
    spoil: Callable[[bytes], bytes],
    told: str,
) -> None:
    path = one_file()
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(DataError) as caught:
        read_source("dicom", scanner.folder, **scanner.options())
    assert str(path if told else scanner.folder) in str(caught.value)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("{root}.5,,40,50,80,90,0", "found SOP Instance UID '{root}.5', expected one of an image"),
        (",,40,50,80,90,0", "found an empty sop_instance_uid, expected a value"),
        ("{root}.2,,40,50,80,90,0", "found no frame, expected one of 1 to 3"),
        ("{root}.2,4,40,50,80,90,0", "found frame 4, expected 1 to 3"),
        ("{root}.2,0,40,50,80,90,0", "found frame 0, expected a whole number, 1 for the first"),
        ("{root}.2,1.5,40,50,80,90,0", "found frame 1.5, expected a whole number"),
        ("{root}.2,last,40,50,80,90,0", "found frame 'last', expected a finite number"),
        ("{root}.2,1,40,50,80,190,0", "found box 40 50 80 190, expected a box inside the 160x120"),
        ("{root}.2,1,40,50,40,90,0", "found box 40 50 40 90 of no area"),
        ("{root}.2,1,40,50,80,90,maybe", "found label 'maybe', expected 0, 1, benign or malignant"),
        ("{root}.1,,40,50,80,90,0", "found the box of row 1 again, expected each box once"),
        ("{root}.1,,40,50,80,90", "found 6 cells, expected 7, as the header has"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(scanner: Any, row: str, told: str) -> None:
    scanner.write(scanner.dataset(1, scanner.draw(1)))
    scanner.write(scanner.dataset(2, np.stack([scanner.draw(seed) for seed in range(3)])))
    root = scanner.root
    scanner.table(scanner.boxes, f"{root}.1,,40,50,80,90,0", row.format(root=root))
    (fault,) = faults_of(scanner)
    assert fault.startswith(f"boxes.csv, row 2: {told.format(root=root)}")


def test_columns_that_are_missing_or_misspelt_are_named(
    scanner: Any, one_file: Callable[..., Path]
) -> None:
    one_file()
    scanner.boxes.write_text("sop_instance_uid,frames,x_min,y_min,x_max,label\n1,2,3,4,5,0\n")
    faults = faults_of(scanner)
    assert any("expected a column 'y_max'" in fault for fault in faults)
    assert any("found column 'frames', expected 'frame', or another" in fault for fault in faults)


def test_one_uid_of_two_images_is_a_fault(scanner: Any, one_file: Callable[..., Path]) -> None:
    one_file()
    scanner.write(scanner.dataset(1, scanner.draw(2)), "other.dcm")
    (fault,) = faults_of(scanner)
    assert fault.startswith("other.dcm: found the SOP Instance UID of FEATHERSTONE_W_7.1.dcm again")


def test_all_faults_come_together(scanner: Any, one_file: Callable[..., Path]) -> None:
    one_file(Rows=0)
    scanner.write(scanner.dataset(2, scanner.draw(2), BitsStored=7))
    (scanner.folder / "text.dcm").write_text("hello")
    scanner.table(scanner.boxes, f"{scanner.root}.1,,40,50,80,90,x")
    assert len(faults_of(scanner)) == 4


@pytest.mark.parametrize("name", ["nothing here", "empty"])
def test_a_folder_without_images_is_one_line(scanner: Any, tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    scanner.table(scanner.boxes, "1.2,,40,50,80,90,0")
    with pytest.raises(DataError, match=rf"{name}: found .*, expected DICOM ultrasound"):
        read_source("dicom", tmp_path / name, **scanner.options())


def test_other_attributes_behind_short_pixel_data_are_not_taken_for_pixels(
    scanner: Any, one_file: Callable[..., Path]
) -> None:
    secret = scanner.draw(1).tobytes()  # as large as the frame that is missing
    dataset = scanner.dataset(1, scanner.draw(1), PixelData=b"\1" * 100)
    dataset.add_new(0xFFFCFFFC, "OB", secret)
    one_file(dataset)
    (fault,) = faults_of(scanner)
    assert "found 100 bytes of pixel data" in fault
