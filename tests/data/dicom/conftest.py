"""DICOM files as a scanner would write them, with nobody in them: drawn frames, invented tags."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders import RLELosslessEncoder
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

HEIGHT, WIDTH = 120, 160
REGION = (20, 30, 139, 109)  # x0, y0, x1, y1, both corners included
ROOT = "1.2.826.0.1.3680043.8.498.77"
ULTRASOUND, MULTI_FRAME = "1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.3.1"


def draw_frame(seed: int) -> np.ndarray:
    """Speckle in the region, remarks around it; uint8 [120, 160]."""
    frame = np.zeros((HEIGHT, WIDTH), np.uint8)
    x0, y0, x1, y1 = REGION
    noise = np.random.default_rng(seed).integers(40, 200, (y1 - y0 + 1, x1 - x0 + 1))
    frame[y0 : y1 + 1, x0 : x1 + 1] = cv2.blur(noise.astype(np.uint8), (3, 3))
    cv2.putText(frame, "FEATHERST 530204", (2, 15), cv2.FONT_HERSHEY_PLAIN, 0.9, 255)
    return frame


def region(
    corners: tuple[int, int, int, int] = REGION,
    deltas: tuple[float, float] = (0.008, 0.008),
    **other: Any,
) -> Dataset:
    item = Dataset()
    item.RegionSpatialFormat = item.RegionDataType = 1
    item.RegionFlags = 0
    for name, corner in zip(("MinX0", "MinY0", "MaxX1", "MaxY1"), corners, strict=True):
        setattr(item, f"RegionLocation{name}", corner)
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = 3
    item.PhysicalDeltaX, item.PhysicalDeltaY = deltas
    for name, value in other.items():
        setattr(item, name, value)
    return item


def make_dataset(
    number: int, pixels: np.ndarray, kind: str = "MONOCHROME2", **attributes: Any
) -> Dataset:
    """An ultrasound data set: `pixels` uint8 [frames, height, width(, 3)] or of one frame."""
    frames = pixels if pixels.ndim == 4 or (pixels.ndim == 3 and pixels.shape[-1] != 3) else None
    one = pixels if frames is None else frames[0]
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = ULTRASOUND if frames is None else MULTI_FRAME
    dataset.SOPInstanceUID = f"{ROOT}.{number}"
    dataset.StudyInstanceUID = f"{ROOT}.9.{number}"
    dataset.SeriesInstanceUID = f"{ROOT}.8.{number}"
    dataset.PatientName, dataset.PatientID = "Featherstone^Wilhelmina", "MRN-47110815"
    dataset.PatientBirthDate, dataset.StudyDate = "19530204", "20210317"
    dataset.InstitutionName = "Saint Elsewhere"
    dataset.ReferringPhysicianName = "Abernathy^Montague"
    dataset.Modality = "US"
    dataset.Rows, dataset.Columns = one.shape[:2]
    dataset.SamplesPerPixel = 3 if one.ndim == 3 else 1
    if one.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = kind
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    if frames is not None:
        dataset.NumberOfFrames = len(frames)
    dataset.SequenceOfUltrasoundRegions = [region()]
    raw = pixels.tobytes()
    dataset.PixelData = raw + b"\0" * (len(raw) % 2)
    dataset["PixelData"].VR = "OB"
    private = dataset.private_block(0x0019, "SCANNER INC", create=True)
    private.add_new(0x01, "LO", "Featherstone^Wilhelmina at Saint Elsewhere")
    for name, value in attributes.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    return dataset


def compress(dataset: Dataset, syntax: str, frames: list[np.ndarray]) -> Dataset:
    """Puts compressed frames into a data set: RLE, baseline JPEG or JPEG 2000."""
    encoded = []
    for frame in frames:
        if syntax == RLELossless:
            encoded.append(
                RLELosslessEncoder.encode(
                    frame.tobytes(),
                    rows=frame.shape[0],
                    columns=frame.shape[1],
                    samples_per_pixel=3 if frame.ndim == 3 else 1,
                    planar_configuration=0,
                    bits_allocated=8,
                    bits_stored=8,
                    pixel_representation=0,
                    photometric_interpretation=dataset.PhotometricInterpretation,
                    number_of_frames=1,
                )
            )
            continue
        file = io.BytesIO()
        if syntax == JPEGBaseline8Bit:
            Image.fromarray(frame).save(file, "JPEG", quality=95, subsampling="4:2:2")
        else:
            assert syntax == JPEG2000Lossless
            Image.fromarray(frame).save(file, "JPEG2000", no_jp2=True, mct=1)
        encoded.append(file.getvalue())
    return put_encoded(dataset, syntax, encoded)


def put_encoded(dataset: Dataset, syntax: str, frames: list[bytes]) -> Dataset:
    dataset.PixelData = encapsulate(frames)
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    return dataset


def write_table(path: Path, *rows: str, columns: str = "") -> Path:
    header = f"sop_instance_uid,frame,x_min,y_min,x_max,y_max,label{columns}"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


class Scanner:
    """Writes files into a folder, and knows the helpers above."""

    draw = staticmethod(draw_frame)
    region = staticmethod(region)
    dataset = staticmethod(make_dataset)
    compress = staticmethod(compress)
    put_encoded = staticmethod(put_encoded)
    table = staticmethod(write_table)
    root, shape, corners = ROOT, (HEIGHT, WIDTH), REGION

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "export"
        self.folder.mkdir()
        self.key = folder / "key.txt"
        self.key.write_text("0123456789abcdef" * 4 + "\n")
        self.boxes = folder / "boxes.csv"

    def write(self, dataset: Dataset, name: str = "") -> Path:
        path = self.folder / (name or f"FEATHERSTONE_W_{dataset.SOPInstanceUID[-3:]}.dcm")
        path.parent.mkdir(parents=True, exist_ok=True)
        dataset.save_as(path, enforce_file_format=True)
        return path

    def options(self) -> dict[str, Path]:
        return {"boxes": self.boxes, "key_file": self.key}


@pytest.fixture
def scanner(tmp_path: Path) -> Scanner:
    return Scanner(tmp_path)


@pytest.fixture
def one_file(scanner: Scanner) -> Callable[..., Path]:
    """Writes a file of one frame and a table with its one box, 40 50 80 90 benign."""

    def write(dataset: Dataset | None = None, **attributes: Any) -> Path:
        if dataset is None:
            dataset = make_dataset(1, draw_frame(1), **attributes)
        write_table(scanner.boxes, f"{ROOT}.1,,40,50,80,90,benign")
        return scanner.write(dataset)

    return write
