"""Torch's archives and streams that are wrong around the pickle: damaged, or made to harm."""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import torch_files as files
from hostile import fuzz
from thyrojax.weights.formats import torch_file, zip_directory

VALUES = np.random.default_rng(0).normal(size=(4, 3, 2)).astype(np.float32)


def changed_directory(path: Path, name: str, offset: int, layout: str, *values: int) -> Path:
    """Overwrites numbers in an entry's record of the directory, at an offset within it."""
    content = bytearray(path.read_bytes())
    at = content.rindex(f"archive/{name}".encode()) - 46
    struct.pack_into(layout, content, at + offset, *values)
    path.write_bytes(content)
    return path


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return files.archive_of_one(tmp_path / "a.pth", files.tensor("0", (24,)), VALUES.tobytes())


@pytest.mark.parametrize(
    ("name", "offset", "layout", "values", "expected"),
    [
        ("data/0", 20, "<LL", (96, 2**31), r"found a storage of 2147483648 bytes, expected 24 tim"),
        ("data/0", 20, "<LL", (2**30, 96), r"data/0 stored in 1073741824 bytes, expected its 96"),
        ("data/0", 42, "<L", (2**30,), r"found no header of archive/data/0"),
        ("data/0", 42, "<L", (0,), r"found archive/data/0 damaged: its checksum"),
        ("data/0", 8, "<H", (1,), r"found archive/data/0 encrypted"),
        ("data/0", 10, "<H", (99,), r"compressed by method 99"),
        ("data/0", 10, "<H", (8,), r"found damage in archive/data/0"),
        ("data.pkl", 20, "<LL", (2**30, 2**30), r"beyond the file's end"),
        ("data.pkl", 16, "<L", (77,), r"found archive/data\.pkl damaged: its checksum"),
        ("byteorder", 8, "<H", (1,), r"found archive/byteorder encrypted"),
        ("data/0", 28, "<H", (60_000,), r"found damage in the archive's directory"),
    ],
)
def test_directory_that_lies(
    plain: Path, name: str, offset: int, layout: str, values: tuple[int, ...], expected: str
) -> None:
    files.assert_refused(changed_directory(plain, name, offset, layout, *values), expected)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("archive/../../evil", r"found the entry 'archive/\.\./\.\./evil', expected names of"),
        ("/etc/passwd", r"found the entry '/etc/passwd', expected"),
        ("..\\evil", r"found the entry"),
        ("archive/data.pkl", r"found the entry 'archive/data\.pkl' twice"),
        ("other/data.pkl", r"found 2 pickles of data in the archive, expected one"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_entries_that_do_not_belong(plain: Path, tmp_path: Path, name: str, expected: str) -> None:
    with zipfile.ZipFile(plain, "a") as archive:
        archive.writestr(name, b"x")
    files.assert_refused(plain, expected)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.pth"]


def test_directory_of_many_entries(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    record = struct.pack("<4s4B4HL2L5H2L", b"PK\x01\x02", *[0] * 18)
    listed = record * 200_000
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0, 0, len(listed), 0, 0)
    path.write_bytes(listed + end)
    with path.open("rb") as file, pytest.raises(ValueError, match=r"directory takes 9200000 bytes"):
        zip_directory.list_entries(file)


@pytest.mark.parametrize("said", [2**26, 100])
def test_bomb(tmp_path: Path, said: int) -> None:
    """64 MB of zeros in 65 kB, with and without saying so."""
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(2**26))
    changed_directory(path, "data.pkl", 24, "<L", said)
    expected = r"of 67108864 bytes, expected at most" if said > 100 else r"found 101 bytes in"
    files.assert_refused(path, expected)


def test_bomb_for_a_storage(tmp_path: Path) -> None:
    n = 2**25
    tensor = files.tensor("0", (24,), n=n)
    path = files.archive_of_one(
        tmp_path / "a.pth", tensor, bytes(4 * n), compression=zipfile.ZIP_DEFLATED
    )
    files.assert_refused(path, r"found a compressed storage of several tensors")
    tensor = files.tensor("0", (n,))
    path = files.archive_of_one(
        tmp_path / "a.pth", tensor, bytes(4 * n), compression=zipfile.ZIP_DEFLATED
    )
    files.assert_refused(path, r"archive/data/0 of 134217728 bytes, expected at most 67108864")


@pytest.mark.parametrize(
    ("tensor", "expected"),
    [
        (files.tensor("0", (25,)), r"found a storage of 96 bytes, expected 25 times 4"),
        (files.tensor("0", (24,), "float64"), r"found a storage of 96 bytes, expected 24 times 8"),
        (files.tensor("0", (24,), offset=1), r"elements 1 to 25 of its storage.*its 24"),
        (files.tensor("0", (4, 6), strides=(7, 1)), r"elements 0 to 27 of its storage"),
        (files.tensor("0", (2**30, 2**30), n=24, strides=(1, 1)), r"of its storage.*its 24"),
        (files.tensor("0", (2,), n=24, strides=(20,)), r"found a tensor of \(2,\) spread over 21"),
        (files.tensor("1", (24,)), r"found no storage '1' in the archive"),
        (files.tensor("../data.pkl", (24,)), r"found no storage '\.\./data\.pkl'"),
    ],
)
def test_tensor_that_does_not_fit_its_storage(tmp_path: Path, tensor: bytes, expected: str) -> None:
    files.assert_refused(
        files.archive_of_one(tmp_path / "a.pth", tensor, VALUES.tobytes()), expected
    )


def test_damaged_values_are_told_by_their_checksum(plain: Path) -> None:
    content = bytearray(plain.read_bytes())
    content[content.index(VALUES.tobytes()) + 50] ^= 1
    plain.write_bytes(content)
    files.assert_refused(plain, r"found archive/data/0 damaged: its checksum is")


def test_archive_cut_off(plain: Path) -> None:
    whole = plain.read_bytes()
    for length in (40, 100, 500, len(whole) - 30, len(whole) - 1):
        plain.write_bytes(whole[:length])
        assert torch_file.kind(plain) == ("archive" if length > 45 else None)
        files.assert_refused(plain, r"found an archive that is cut off")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda whole: whole[:-1], r"found storage 0 to reach beyond the file's end"),
        (lambda whole: whole[:-97], r"found storage 0 to reach beyond the file's end"),
        (lambda whole: whole[:-104] + b"\xff" * 8 + whole[-96:], r"reach beyond the file's end"),
        (lambda whole: whole[:200], r"announced|damaged"),
        (lambda whole: whole.replace(files.PROTOCOL, b"\x80\x02K\x01."), r"found another protocol"),
        (lambda whole: whole.replace(b"e.", b"0K\x01.", 1), r"."),
        (
            lambda whole: whole[:-104] + struct.pack("<q", 23) + whole[-96:],
            r"found a storage of 23 elements '0', expected one of 24",
        ),
    ],
)
def test_stream_that_lies(tmp_path: Path, change: Callable[[bytes], bytes], expected: str) -> None:
    value = files.ordered({"a": files.tensor("0", (24,))})
    path = files.stream(tmp_path / "a.pth", value, {"0": VALUES.tobytes()})
    path.write_bytes(change(path.read_bytes()))
    files.assert_refused(path, expected)


def test_storage_twice_or_unused_in_a_stream(tmp_path: Path) -> None:
    value = files.ordered({"a": files.tensor("0", (24,))})
    storages = {"0": VALUES.tobytes(), "1": bytes(8)}
    files.assert_refused(
        files.stream(tmp_path / "a.pth", value, storages), r"found a storage that no tensor"
    )


def test_stream_of_other_pickles(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(files.MAGIC + files.PROTOCOL + b"\x80\x02K\x01.\x80\x02N.\x80\x02N.")
    files.assert_refused(path, r"found another protocol than torch\.save's")


@pytest.mark.parametrize(
    "content",
    [b"", b"PK", b"PK\x03\x04", b"\x80\x02", pickle.dumps({"a": 1}), b"PK\x05\x06" + bytes(18)],
)
def test_other_files_are_not_torchs(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(content)
    assert torch_file.kind(path) is None
    assert torch_file.kind(tmp_path) is None
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
    assert torch_file.kind(path) is None


@pytest.mark.parametrize("layout", ["archive", "stream", "script"])
def test_damaged_files_are_read_or_refused(tmp_path: Path, layout: str) -> None:
    arrays = {"a.b": VALUES, "c": np.zeros((), np.int64), "d": VALUES[:, 0]}
    made, storages = files.tensors(arrays)
    value = files.ordered(made)
    if layout == "script":
        value = files.module("__torch__.A", {"a": files.module("__torch__.B", made), "c": b"N"})
    path = getattr(files, layout)(tmp_path / "a.pth", value, storages)
    n = 500
    counts = fuzz(path, files.read_all, n=n, header=600)
    assert sum(counts.values()) == n
    assert counts["refused"] > n // 4
