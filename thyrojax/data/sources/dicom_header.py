"""A DICOM file up to its pixels: read whatever it holds, and asked for values that may be missing.

Files come from many scanners and hands. What is absent, empty or of another kind than the standard
says is None here; whoever needs it says so. Attributes are named by their keywords in DICOM PS3.6.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from thyrojax.errors import Fault

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

PREFIX_AT, PREFIX = 128, b"DICM"  # PS3.10, 7.1
SUFFIXES = (".dcm", ".dicom")  # a file so named that is no DICOM file is broken
DIRECTORY_CLASS = "1.2.840.10008.1.3.10"  # DICOMDIR: a list of the other files
# Of these the whole data set is stored in another way, not the pixels alone.
UNREAD_SYNTAXES = ("1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2")  # deflated, big endian
IMPLICIT = "1.2.840.10008.1.2"  # the VR of an element is not written
UNDEFINED_LENGTH = 0xFFFFFFFF  # that of compressed frames, which end with a delimiter
_PIXEL_DATA = b"\xe0\x7f\x10\x00"  # the tag (7FE0,0010) in little endian


@dataclass(frozen=True)
class Header:
    """What stands before a file's pixels, and how much follows."""

    path: Path
    kind: str  # SOP class UID
    syntax: str  # transfer syntax UID
    dataset: Dataset
    pixel_bytes: int  # of the pixel data, as far as the file holds them; 0 where there are none


def dicom_files(path: Path, faults: list[Fault]) -> tuple[list[Path], int]:
    """The DICOM files in a folder and all below it, in order, and how many others lie there.

    Hidden files are neither. A file that is named as DICOM or given by itself, and is none, is
    added to the faults.
    """
    found = [path] if path.is_file() else sorted(path.rglob("*"))
    files, others = [], 0
    for file in found:
        if file.name.startswith(".") or not file.is_file():
            continue
        try:
            with file.open("rb") as opened:
                is_dicom = opened.read(PREFIX_AT + 4)[PREFIX_AT:] == PREFIX
        except OSError as error:
            faults.append(Fault(str(file), "", f"no readable file ({error.strerror})", "one"))
            continue
        if is_dicom:
            files.append(file)
        elif file == path or file.suffix.lower() in SUFFIXES:
            expected = "DICM after a preamble of 128 bytes (DICOM PS3.10)"
            faults.append(Fault(str(file), "", "no DICOM file", expected))
        else:
            others += 1
    return files, others


def read_header(path: Path, faults: list[Fault]) -> Header | None:
    """Reads a file as far as its pixels; None, beside a fault, where that fails."""
    from pydicom import dcmread
    from pydicom.filereader import read_file_meta_info

    try:
        with quiet():
            syntax = text(read_file_meta_info(path), "TransferSyntaxUID")
            if not syntax or syntax in UNREAD_SYNTAXES:
                found = f"transfer syntax {syntax_name(syntax)}" if syntax else "no transfer syntax"
                expected = "explicit or implicit VR little endian"
                faults.append(Fault(str(path), "", found, expected))
                return None
            with path.open("rb") as file:
                dataset = dcmread(file, stop_before_pixels=True)
                pixel_bytes = _pixel_bytes(file, path.stat().st_size, syntax)
        # A DICOMDIR names its class before the data set only.
        kind = text(dataset, "SOPClassUID") or text(dataset.file_meta, "MediaStorageSOPClassUID")
        return Header(path, kind, syntax, dataset, pixel_bytes)
    except Exception as error:  # pydicom raises what its parts do, of a dozen kinds
        found = f"a broken DICOM file ({_reason(error)})"
        faults.append(Fault(str(path), "", found, "one that can be read to its pixels"))
        return None


def _pixel_bytes(file: BinaryIO, size: int, syntax: str) -> int:
    """The length of the pixel data element that a file stands at; 0 where it stands at none."""
    if file.read(4) != _PIXEL_DATA:
        return 0
    # Tag, then VR and two bytes where the VR is explicit, then the length.
    length = file.read(4 if syntax == IMPLICIT else 8)[-4:]
    left = size - file.tell()
    stated = int.from_bytes(length, "little")
    return left if stated == UNDEFINED_LENGTH else min(stated, left)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences pydicom's warnings: they quote values of the file, which may be a patient's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def syntax_name(uid: str) -> str:
    """A transfer syntax in words and as UID."""
    from pydicom.uid import UID

    with quiet():
        name = str(UID(uid).name)
    return repr(uid)[1:-1] if name == uid else f"{name} ({uid})"


def value(dataset: Dataset, keyword: str) -> Any:
    """An attribute's value; None where it is absent, empty, or cannot be decoded."""
    try:
        with quiet():
            found = dataset.get(keyword)
    except Exception:  # a value's decoder raises anything; one that cannot be had is not there
        return None
    return None if found == "" else found


def text(dataset: Dataset, keyword: str) -> str:
    """An attribute as text without blanks at its ends; "" where there is none."""
    found = value(dataset, keyword)
    return "" if found is None else str(found).strip(" \0")


def number(dataset: Dataset, keyword: str) -> float | None:
    """An attribute as a finite number; None where it is none, or several."""
    try:
        found = float(value(dataset, keyword))
    except (TypeError, ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def whole(dataset: Dataset, keyword: str) -> int | None:
    """An attribute as a whole number; None where it is none, or several."""
    found = number(dataset, keyword)
    return int(found) if found is not None and found == int(found) else None


def numbers(dataset: Dataset, keyword: str) -> list[float]:
    """An attribute's numbers, one or several; [] where one of them is none."""
    found = value(dataset, keyword)
    if found is None or isinstance(found, (str, bytes)):
        return []
    try:
        values = [float(each) for each in (found if hasattr(found, "__iter__") else [found])]
    except (TypeError, ValueError, OverflowError):
        return []
    return values if all(map(math.isfinite, values)) else []


def items(dataset: Dataset, keyword: str) -> list[Dataset]:
    """The items of a sequence; [] where it is absent, empty, or no sequence."""
    from pydicom.sequence import Sequence

    found = value(dataset, keyword)
    return list(found) if isinstance(found, Sequence) else []


def first(dataset: Dataset, *keywords: str) -> Dataset:
    """The first item of the first item of nested sequences; empty where there is none."""
    from pydicom.dataset import Dataset

    for keyword in keywords:
        found = items(dataset, keyword)
        if not found:
            return Dataset()
        dataset = found[0]
    return dataset


def _reason(error: Exception) -> str:
    """An error in a few words; its text may quote the file's values, hence only its kind."""
    return type(error).__name__
