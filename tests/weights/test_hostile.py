"""Files that are wrong, damaged or made to harm: one line that names file and key, soon."""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import hostile
from thyrojax.errors import WeightsError
from thyrojax.weights import read

FIRST = "conv2d/conv2d/kernel:0"  # [3, 3, 3, 32]
FIFTH = "conv2d_5/conv2d_5/kernel:0"
VARIANCE = "batch_normalization_9/batch_normalization_9/moving_variance:0"

ChangeFile = Callable[[h5py.File], None]
Change = Callable[[ChangeFile], Path]


def replaced(key: str, shape: tuple[int, ...], dtype: Any = "f4", **options: Any) -> ChangeFile:
    """A change that puts another array in a key's place."""

    def change(file: h5py.File) -> None:
        del file[key]
        file.create_dataset(key, shape, dtype, **options)

    return change


def removed(*keys: str) -> ChangeFile:
    def change(file: h5py.File) -> None:
        for key in keys:
            del file[key]

    return change


def added(key: str, value: Any) -> ChangeFile:
    def change(file: h5py.File) -> None:
        file[key] = value

    return change


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((3, 3, 3, 32), "f4")
    layout[:] = h5py.VirtualSource("/etc/hostname", "x", (3, 3, 3, 32))
    del file[FIRST]
    file.create_virtual_dataset(FIRST, layout)


def bomb(file: h5py.File) -> None:
    """One chunk of a few kB that expands to 64 MB."""
    del file[FIRST]
    array = file.create_dataset(
        FIRST, (3, 3, 3, 32), "f4", chunks=(3, 3, 3, 32), compression="gzip"
    )
    array.id.write_direct_chunk((0, 0, 0, 0), zlib.compress(bytes(2**26)))


def broken_chunk(file: h5py.File) -> None:
    del file[FIRST]
    array = file.create_dataset(
        FIRST, (3, 3, 3, 32), "f4", chunks=(3, 3, 3, 32), compression="gzip"
    )
    array.id.write_direct_chunk((0, 0, 0, 0), b"no zlib stream")


def second_trunk(file: h5py.File) -> None:
    for i in reversed(range(94)):
        name = f"conv2d_{i}" if i else "conv2d"
        file.copy(name, f"conv2d_{i + 200}")


def halved(file: h5py.File) -> None:
    for i in range(20, 94):
        del file[f"conv2d_{i}"]


def preprocessing_layer(file: h5py.File) -> None:
    file.attrs["layer_names"] = ["normalization", *file]
    file["normalization/mean"] = np.zeros(3, np.float32)


def deep(file: h5py.File) -> None:
    file.create_group("/".join("abcdefghijklmnopqrstuvwxyz"))


def many(file: h5py.File) -> None:
    group = file.create_group("many")
    for i in range(20_001):
        group[str(i)] = h5py.SoftLink("/conv2d")


def object_reference(file: h5py.File) -> None:
    del file[FIFTH]
    file.create_dataset(FIFTH, (1, 1, 192, 64), h5py.ref_dtype)


def nan(file: h5py.File) -> None:
    file[FIRST][1, 1, 1, 1] = np.nan
    file[FIFTH][0, 0, 7] = np.inf


def part_of_the_scales(file: h5py.File) -> None:
    file["batch_normalization_3/gamma"] = np.ones(80, np.float32)


CHANGES: dict[str, tuple[ChangeFile, list[str]]] = {
    "kernel missing": (removed(FIFTH), [r"conv2d_5/kernel: found none"]),
    "statistics missing": (
        removed(VARIANCE),
        [r"batch_normalization_9/moving_variance: found none"],
    ),
    "first and last layer missing": (
        removed("conv2d", "batch_normalization_93"),
        [r"conv2d_0/kernel: found none", r"batch_normalization_93/beta: found none"],
    ),
    "wrong shape": (replaced(FIFTH, (1, 1, 192, 65)), [rf"{FIFTH}: found shape \(1, 1, 192, 65\)"]),
    "transposed kernel": (
        replaced(FIRST, (32, 3, 3, 3)),
        [rf"{FIRST}: found shape \(32, 3, 3, 3\)"],
    ),
    "scalar": (replaced(FIRST, ()), [rf"{FIRST}: found shape \(\)"]),
    "size that lies": (
        replaced(FIRST, (2**20, 2**20, 2**20, 32), chunks=(1, 1, 1, 32)),
        [rf"{FIRST}: found shape \(1048576,"],
    ),
    "whole numbers": (
        replaced(FIRST, (3, 3, 3, 32), "i4"),
        [rf"{FIRST}: found values of type int32"],
    ),
    "text": (
        replaced(FIRST, (3, 3, 3, 32), h5py.string_dtype()),
        [rf"{FIRST}: found values of type object"],
    ),
    "object references": (object_reference, [rf"{FIFTH}: found values of type object"]),
    "convolution with a bias": (
        added("conv2d_5/conv2d_5/bias:0", np.zeros(64, np.float32)),
        [r"conv2d_5/conv2d_5/bias:0: found an unknown array"],
    ),
    "unknown array": (
        added("mystery/w", np.zeros(3, np.float32)),
        [r"mystery/w: found an array neither of Inception-v3's trunk nor of a head"],
    ),
    "layer before the trunk": (
        preprocessing_layer,
        [r"normalization/mean: found an array neither"],
    ),
    "same layer twice": (
        added("inception_v3/conv2d_5/kernel:0", np.zeros((1, 1, 192, 64), np.float32)),
        [r"inception_v3/conv2d_5/kernel:0: found an array neither"],
    ),
    "same array twice": (
        added("conv2d_5/again/kernel:0", np.zeros((1, 1, 192, 64), np.float32)),
        [rf"conv2d_5/again/kernel:0 and {FIFTH}: found 2 arrays"],
    ),
    "two trunks": (second_trunk, [r"found a trunk at conv2d_0 and another at conv2d_200"]),
    "another network": (halved, [r"conv2d: found 20 layers of which 20 .* expected the 94"]),
    "scales of one layer only": (part_of_the_scales, [r"batch_normalization_4/gamma: found none"]),
    "not finite": (nan, [rf"{FIRST}: found 1 values not finite", rf"{FIFTH}: found 64 values not"]),
    "negative variance": (
        replaced(VARIANCE, (96,), fillvalue=-1.0),
        [rf"{VARIANCE}: found a negative variance"],
    ),
    "soft link": (
        added("conv2d_99", h5py.SoftLink("/conv2d")),
        [r"conv2d_99: found a soft or ext"],
    ),
    "external link": (
        added("conv2d_99", h5py.ExternalLink("/etc/hostname", "/")),
        [r"conv2d_99: found a soft or external link"],
    ),
    "named type": (
        added("kind", np.dtype("f4")),
        [r"kind: found a soft or external link or a named"],
    ),
    "group in itself": (
        lambda file: file["conv2d"].__setitem__("again", file["conv2d"]),
        [r"conv2d/again: found a second path"],
    ),
    "values in another file": (virtual, [rf"{FIRST}: found values kept in another file"]),
    "values in an outside file": (
        replaced(FIRST, (3, 3, 3, 32), external=[("/etc/hostname", 0, 3456)]),
        [rf"{FIRST}: found values kept in another file"],
    ),
    "giant chunks": (
        replaced(FIRST, (3, 3, 3, 32), chunks=(2**10, 2**10, 64, 1), maxshape=(None,) * 4),
        [rf"{FIRST}: found 32 chunks of 268435456 bytes"],
    ),
    "crumbs": (
        replaced("conv2d_93/conv2d_93/kernel:0", (1, 1, 2048, 192), chunks=(1, 1, 1, 1)),
        [r"conv2d_93/kernel:0: found 393216 chunks"],
    ),
    "foreign filter": (
        replaced(FIRST, (3, 3, 3, 32), compression="lzf"),
        [rf"{FIRST}: found filters \[32000\]"],
    ),
    "bomb": (bomb, [rf"{FIRST}: found a chunk that expands beyond its 3456 bytes"]),
    "broken chunk": (broken_chunk, [rf"{FIRST}: found damage"]),
    "too deep": (deep, [r"found more than 20000 objects or 12 levels"]),
    "too many": (many, [r"many: found more than 20000 objects"]),
    "Keras 3 layout": (
        added("layers/conv2d/vars/0", np.zeros(3, np.float32)),
        [r"layers/conv2d/vars/0: found an array in Keras 3's layout"],
    ),
    "line break in a name": (
        added("evil\nname/w", np.zeros(3, np.float32)),
        [r"evil\?name/w: found an array neither"],
    ),
}


def assert_refused(path: Path, expected: list[str]) -> None:
    hostile.assert_refused(read, path, *expected)


@pytest.mark.parametrize("fault", CHANGES)
def test_fault_in_the_content_is_named(changed: Change, fault: str) -> None:
    change, expected = CHANGES[fault]
    assert_refused(changed(change), expected)


def test_all_faults_come_at_once(changed: Change) -> None:
    def change(file: h5py.File) -> None:
        del file["conv2d_5"], file["batch_normalization_9"]
        file["mystery/w"] = np.zeros(3, np.float32)

    with pytest.raises(WeightsError) as caught:
        read(changed(change))
    assert str(caught.value).count(": found ") == 5  # one kernel, three vectors, one stranger


def test_long_lists_of_faults_are_cut_and_counted(changed: Change) -> None:
    def change(file: h5py.File) -> None:
        for i in range(60):
            file[f"mystery_{i}/w"] = np.zeros(3, np.float32)

    with pytest.raises(WeightsError, match=r"; and 10 more$"):
        read(changed(change))


def test_file_that_is_not_there(tmp_path: Path) -> None:
    assert_refused(tmp_path / "none.h5", [r"none\.h5: found no such file or tag, expected a file"])


def test_folder_and_pipe(tmp_path: Path) -> None:
    assert_refused(tmp_path, [r": found a folder of something else, expected one of"])
    os.mkfifo(tmp_path / "pipe.h5")
    assert_refused(tmp_path / "pipe.h5", [r"pipe\.h5: found neither a file nor a folder"])


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04 a zip archive", b"<!DOCTYPE html>", bytes(9999)]
)
def test_file_of_another_kind(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "weights.h5"
    path.write_bytes(content)
    assert_refused(
        path,
        [rf"found {len(content)} bytes that begin with .*expected one of: .*Keras legacy \.h5"],
    )


def test_file_of_terabytes(tmp_path: Path) -> None:
    path = tmp_path / "sparse.h5"
    with path.open("wb") as file:
        file.write(b"\x89HDF\r\n\x1a\n")
        file.truncate(2**40)
    assert_refused(path, [r"found 1099511627776 bytes, expected at most"])


def test_file_cut_off(plain_file: Path, tmp_path: Path) -> None:
    whole = plain_file.read_bytes()
    for length in (8, 100, 2000, len(whole) // 2, len(whole) - 1):
        path = tmp_path / "cut.h5"
        path.write_bytes(whole[:length])
        assert_refused(path, [r"found a damaged HDF5 file"])


def test_values_cut_off(tmp_path: Path, plain_file: Path) -> None:
    """The file's own length is mended, so that only the values' place is beyond its end."""
    path = tmp_path / "cut.h5"
    shutil.copy(plain_file, path)
    with h5py.File(path, "r+") as file:
        del file[FIFTH]
        file.create_dataset(FIFTH, data=np.ones((1, 1, 192, 64), np.float32))
        offset = file[FIFTH].id.get_offset()
    content = path.read_bytes()
    cut = content[: offset + 1000]
    at = content.index(len(content).to_bytes(8, "little"))
    path.write_bytes(cut[:at] + len(cut).to_bytes(8, "little") + cut[at + 8 :])
    assert_refused(path, [r"found damage|found a damaged"])


def test_damaged_files_are_read_or_refused(tmp_path: Path, new_file: Callable[..., Path]) -> None:
    counts = hostile.fuzz(new_file(), read, n=300, header=2048)
    assert sum(counts.values()) == 300
    assert counts["refused"] > 30
