"""One frame of a DICOM file as a grey image, blank outside its tissue regions.

What can be decoded: 8-bit pixels, uncompressed in little endian, run-length encoded, baseline JPEG
or JPEG 2000, as Pillow and pydicom itself decode them: other decoders that happen to be installed
are not asked, so that a file gives the same pixels everywhere.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thyrojax.data.records import Box
from thyrojax.data.sources.dicom_header import IMPLICIT, Header, quiet, syntax_name, text, whole
from thyrojax.data.sources.dicom_regions import blank_outside
from thyrojax.errors import DataFaults, Fault
from thyrojax.shapes import UInt8

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

NATIVE = (IMPLICIT, "1.2.840.10008.1.2.1")  # implicit, explicit VR little endian
RUN_LENGTH = "1.2.840.10008.1.2.5"
JPEG = "1.2.840.10008.1.2.4.50"
JPEG_2000 = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")
_DECODERS = {RUN_LENGTH: "pydicom", **dict.fromkeys((JPEG, *JPEG_2000), "pillow")}
READABLE = (*NATIVE, *_DECODERS)
# MPEG-2, MPEG-4 and HEVC: one stream for all frames, 1.2.840.10008.1.2.4.100 to .108
_VIDEO = tuple(f"1.2.840.10008.1.2.4.{number}" for number in range(100, 109))

SAMPLES = {
    "MONOCHROME1": 1,
    "MONOCHROME2": 1,
    "PALETTE COLOR": 1,
    "RGB": 3,
    "YBR_FULL": 3,
    "YBR_FULL_422": 3,
    "YBR_RCT": 3,
    "YBR_ICT": 3,
}
_OF_JPEG_2000 = ("YBR_RCT", "YBR_ICT")  # its decoder gives RGB for these
LARGEST = 2**26  # pixels of a frame; a scanner's has a million
SMALLEST_FRAGMENT = 8  # bytes that a compressed frame takes at least


def is_video(syntax: str) -> bool:
    """Whether a transfer syntax is a video codec's."""
    return any(syntax == uid or syntax.startswith(f"{uid}.") for uid in _VIDEO)


def frame_count(dataset: Dataset) -> int | None:
    """How many frames a file says it has; None where that is no count. 1 where it says nothing."""
    if text(dataset, "NumberOfFrames") == "":
        return 1
    count = whole(dataset, "NumberOfFrames")
    return count if count is not None and count >= 1 else None


def pixel_fault(header: Header) -> tuple[str, str] | None:
    """Why a file's frames cannot be decoded (found, expected), as far as its header tells."""
    dataset = header.dataset
    if header.syntax not in READABLE:
        return (
            f"transfer syntax {syntax_name(header.syntax)}",
            "uncompressed little endian, RLE, baseline JPEG or JPEG 2000 (dcmdjpeg or gdcmconv "
            "--raw converts)",
        )
    if not header.pixel_bytes:
        return "no pixel data", "an image"
    rows, columns = whole(dataset, "Rows") or 0, whole(dataset, "Columns") or 0
    if rows < 1 or columns < 1 or rows * columns > LARGEST:
        found = f"{text(dataset, 'Columns') or 'no'} columns, {text(dataset, 'Rows') or 'no'} rows"
        return found, f"a frame of 1 to {LARGEST} pixels"
    bits = [whole(dataset, name) for name in ("BitsAllocated", "BitsStored", "PixelRepresentation")]
    if bits[:2] != [8, 8] or bits[2] not in (0, None):
        signed = ", signed" if bits[2] else ""
        found = f"{bits[1] or 'unknown'} bits stored in {bits[0] or 'unknown'}{signed}"
        return found, "8 bits per channel, unsigned"
    kind = text(dataset, "PhotometricInterpretation")
    samples = whole(dataset, "SamplesPerPixel") or 0
    if kind not in SAMPLES or (kind in _OF_JPEG_2000 and header.syntax not in JPEG_2000):
        return f"photometric interpretation {kind!r}", f"one of {', '.join(SAMPLES)}"
    if samples != SAMPLES[kind]:
        return f"{samples} samples per pixel of {kind}", str(SAMPLES[kind])
    frames = frame_count(dataset)
    if frames is None:
        return f"{text(dataset, 'NumberOfFrames')[:20]!r} frames", "1 or more"
    per_frame = SMALLEST_FRAGMENT
    if header.syntax in NATIVE:
        per_frame = rows * columns * (2 if kind == "YBR_FULL_422" else samples)
    return length_fault(header, frames * per_frame, frames, columns, rows)


def length_fault(
    header: Header, needed: int, frames: int, width: int, height: int
) -> tuple[str, str] | None:
    """Why pixel data are too short for these frames, which need so many bytes (found, expected).

    To be checked before a frame is read: what follows too short data are other attributes, which
    would be taken for pixels.
    """
    if header.pixel_bytes >= needed:
        return None
    expected = f"at least {needed} for {frames} frames of {width}x{height}"
    return f"{header.pixel_bytes} bytes of pixel data", expected


@dataclass(frozen=True)
class DicomFrame:
    """A frame as grey uint8 [height, width] when called, with 0 outside its regions.

    `name` is a pseudonym: the frame's name wherever it is spoken of. `regions` are in pixels; where
    there are none, nothing is blanked here.
    """

    path: Path = field(repr=False)
    index: int  # 0 is the first
    name: str
    regions: tuple[Box, ...] = ()

    def __call__(self) -> UInt8[np.ndarray, "height width"]:
        """Decodes the frame.

        Raises:
          DataFaults: the file is missing or this frame of it cannot be decoded.
        """
        grey = read_grey(self.path, self.index)
        return blank_outside(grey, self.regions) if self.regions else grey


def read_grey(path: Path, index: int) -> UInt8[np.ndarray, "height width"]:
    """A frame of a file as grey levels; colour is reduced by ITU-R 601 luma, as `load_image` does.

    Raises:
      DataFaults: the file is missing or this frame of it cannot be decoded.
    """
    from PIL import Image

    pixels, dataset = stored_pixels(path, index)
    kind = text(dataset, "PhotometricInterpretation")
    shape = (whole(dataset, "Rows"), whole(dataset, "Columns"), *((3,) * (SAMPLES[kind] == 3)))
    if pixels.shape != shape or pixels.dtype != np.uint8:
        found = f"pixels of shape {pixels.shape} and kind {pixels.dtype}"
        raise DataFaults([Fault(str(path), f"frame {index + 1}", found, f"{shape}, uint8")])
    if kind == "PALETTE COLOR":
        pixels = _colours(path, index, pixels, dataset)
    if pixels.ndim == 3:
        return np.asarray(Image.fromarray(pixels).convert("L"))
    return np.uint8(255) - pixels if kind == "MONOCHROME1" else pixels


def stored_pixels(path: Path, index: int) -> tuple[np.ndarray, Dataset]:
    """One frame's samples, YBR turned to RGB, and the attributes that describe them.

    Raises:
      DataFaults: the file is missing or this frame of it cannot be decoded.
    """
    from pydicom.dataset import Dataset
    from pydicom.filereader import read_file_meta_info
    from pydicom.pixels import pixel_array

    dataset = Dataset()
    try:
        with quiet():
            syntax = text(read_file_meta_info(path), "TransferSyntaxUID")
            plugin = _DECODERS.get(syntax, "")
            if plugin == "pillow":
                _check_encoded_size(path, index)
            pixels = pixel_array(path, ds_out=dataset, index=index, decoding_plugin=plugin)
    except DataFaults:
        raise
    except FileNotFoundError:
        raise DataFaults([Fault(str(path), "", "no such file", "a DICOM file")]) from None
    except Exception as error:  # decoders raise what their parts do, of a dozen kinds
        raise _frame_fault(
            path, index, f"pixels that cannot be decoded ({_first(error)})"
        ) from None
    return pixels, dataset


def _check_encoded_size(path: Path, index: int) -> None:
    """Raises DataFaults where a JPEG has other sides than its file says.

    pydicom counts pixels only: a frame whose sides are exchanged would come out in stripes, and
    parts of it that are to be blank where they are not.
    """
    from PIL import Image
    from pydicom import dcmread
    from pydicom.encaps import get_frame

    with path.open("rb") as file:
        dataset = dcmread(file, stop_before_pixels=True)
        file.seek(12, io.SEEK_CUR)  # tag, VR, two bytes of nothing, undefined length
        tables = (dataset.get("ExtendedOffsetTable"), dataset.get("ExtendedOffsetTableLengths"))
        encoded = get_frame(
            file,
            index,
            extended_offsets=tables if all(tables) else None,
            number_of_frames=frame_count(dataset),
        )
    stated = (dataset.Columns, dataset.Rows)
    with Image.open(io.BytesIO(encoded), formats=("JPEG", "JPEG2000")) as image:
        if image.size != stated:
            found = f"a JPEG of {image.size[0]}x{image.size[1]}"
            expected = f"{stated[0]}x{stated[1]}, as the file says"
            raise DataFaults([Fault(str(path), f"frame {index + 1}", found, expected)])


def _colours(
    path: Path, index: int, pixels: UInt8[np.ndarray, "height width"], dataset: Dataset
) -> UInt8[np.ndarray, "height width 3"]:
    from pydicom.pixels import apply_color_lut

    try:
        with quiet():
            colours = apply_color_lut(pixels, dataset)[..., :3]
            depth = dataset.RedPaletteColorLookupTableDescriptor[2]
    except Exception as error:  # as above
        raise _frame_fault(
            path, index, f"a palette that cannot be used ({_first(error)})"
        ) from None
    # Entries of 16 bits are brought to 8; entries of 8 may be stored in 16.
    return (colours >> 8 if depth == 16 else colours).astype(np.uint8)


def _frame_fault(path: Path, index: int, found: str) -> DataFaults:
    return DataFaults([Fault(str(path), f"frame {index + 1}", found, "a whole frame")])


def _first(error: Exception) -> str:
    """An error's kind and the first line of its text."""
    line = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {line[:120]}"
