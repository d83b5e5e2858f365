"""The cache: mirrors before the publishers, trust on first use, and what is whole in it."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import sys
import time
from pathlib import Path

import pytest

from thyrojax.errors import WeightsError
from thyrojax.weights import CATALOG, fetch, fetching, verify_cache
from thyrojax.weights.catalog import Entry, Origin
from thyrojax.weights.fetching import fetch_entry
from thyrojax.weights.progress import terminal_progress
from thyrojax.weights.types import KERAS_VARIANT

CONTENT = bytes(range(256)) * 500  # 128 kB
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NOWHERE = "file:///no/such/file.h5"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "published" / "net.h5"
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def origin(where: str, checksum: str = SHA256) -> Origin:
    return Origin(where, len(CONTENT), "sha256", checksum)


def unchecked(where: str) -> Origin:
    return Origin(where, None, "", "")


def entry(*origins: Origin) -> Entry:
    return Entry("test", "a test's weights", "none", KERAS_VARIANT, origins)


def test_file_addresses_are_read(source: Path, folder: Path) -> None:
    path = fetch_entry(entry(origin(source.as_uri())), folder / "new")
    assert path.read_bytes() == CONTENT
    assert os.listdir(folder / "new") == [path.name]


def test_all_failures_stand_in_one_line(folder: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        fetch_entry(entry(origin(NOWHERE), origin("file:///nor/this")), folder)
    assert "\n" not in str(caught.value)
    assert f"{NOWHERE}: not reachable" in str(caught.value)
    assert "file:///nor/this: not reachable" in str(caught.value)


def test_damaged_cache_is_fetched_anew(source: Path, folder: Path) -> None:
    announced: list[str] = []
    wanted = entry(origin(source.as_uri()))
    path = fetch_entry(wanted, folder)
    path.write_bytes(CONTENT[:-1] + b"!")
    assert fetch_entry(wanted, folder, announced.append).read_bytes() == CONTENT
    assert announced[0].startswith(f"{path}: found sha256 ")


def test_damaged_cache_is_not_used_when_nothing_is_reachable(source: Path, folder: Path) -> None:
    path = fetch_entry(entry(origin(source.as_uri())), folder)
    path.write_bytes(CONTENT[:100])
    with pytest.raises(WeightsError, match=rf"{path.name}: found 100 bytes, expected"):
        fetch_entry(entry(origin(NOWHERE)), folder)


def test_cache_that_cannot_be_written_is_an_error(source: Path, folder: Path) -> None:
    folder.write_text("not a folder")
    with pytest.raises(WeightsError, match=r"found a cache that cannot be used"):
        fetch_entry(entry(origin(source.as_uri())), folder)


def test_leftovers_of_a_killed_process_are_removed(source: Path, folder: Path) -> None:
    folder.mkdir()
    for name, age in ((".fetch-old", 2 * fetching.STALE_SECONDS), (".fetch-running", 0.0)):
        (folder / name).mkdir()
        (folder / name / "part").write_bytes(b"half")
        for path in (folder / name / "part", folder / name):
            os.utime(path, (time.time() - age,) * 2)
    os.utime(folder / ".fetch-running", (0, 0))  # a long download changes only what is in it
    path = fetch_entry(entry(origin(source.as_uri())), folder)
    assert sorted(os.listdir(folder)) == [".fetch-running", path.name]


# ---- mirrors and no network


@pytest.mark.parametrize("as_address", [True, False], ids=["address", "folder"])
def test_mirror_comes_first_and_is_verified(
    source: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, as_address: bool
) -> None:
    announced: list[str] = []
    mirror = source.parent.as_uri() + "/" if as_address else str(source.parent)
    monkeypatch.setenv("THYROJAX_MIRROR", mirror)
    wanted = entry(origin("https://example.org/models/net.h5"))
    assert fetch_entry(wanted, folder, announced.append).read_bytes() == CONTENT
    assert announced == [f"fetching {source.as_uri()} (0 MB)"]

    wrong = entry(origin("file:///no/such/net.h5", checksum="0" * 64))
    with pytest.raises(WeightsError) as caught:
        fetch_entry(wrong, folder)
    assert f"{source.as_uri()}: found sha256 {SHA256}, expected {'0' * 64}" in str(caught.value)
    assert "; file:///no/such/net.h5: not reachable" in str(caught.value)


def test_publisher_is_asked_where_the_mirror_lacks_the_file(
    source: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THYROJAX_MIRROR", folder.as_uri())
    assert fetch_entry(entry(origin(source.as_uri())), folder).read_bytes() == CONTENT


@pytest.mark.parametrize("mirror", ["http://[", "nonsense:", "http://127.0.0.1:1", "/no/such"])
def test_mirror_that_leads_nowhere_is_passed_over(
    source: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, mirror: str
) -> None:
    monkeypatch.setenv("THYROJAX_MIRROR", mirror)
    announced: list[str] = []
    path = fetch_entry(entry(origin(source.as_uri())), folder, announced.append)
    assert path.read_bytes() == CONTENT
    assert "net.h5: not reachable (" in announced[1]


def test_offline_takes_the_cache_only(
    source: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = entry(origin(source.as_uri()))
    monkeypatch.setenv("THYROJAX_OFFLINE", "1")
    with pytest.raises(WeightsError, match=r"found no whole file of it, and THYROJAX_OFFLINE set"):
        fetch_entry(wanted, folder)
    assert not folder.exists()
    monkeypatch.setenv("THYROJAX_OFFLINE", "0")
    path = fetch_entry(wanted, folder)
    monkeypatch.setenv("THYROJAX_OFFLINE", "1")
    assert fetch_entry(wanted, folder) == path
    path.write_bytes(b"damaged")
    with pytest.raises(WeightsError, match=rf"{path.name}: found 7 bytes, expected .*OFFLINE set"):
        fetch_entry(wanted, folder)


# ---- what the publisher does not state


def test_file_without_a_checksum_is_announced_and_must_stay_the_same(
    source: Path, folder: Path
) -> None:
    announced: list[str] = []
    wanted = entry(unchecked(source.as_uri()))
    path = fetch_entry(wanted, folder, announced.append)
    assert announced[0].endswith("(size unknown)")
    assert f"states no checksum; its SHA-256 {SHA256} is kept beside it" in announced[1]
    record = path.with_name(path.name + ".sha256")
    assert record.read_text() == f"{SHA256}  {path.name}\n"
    assert fetch_entry(wanted, folder, announced.append) == path
    assert len(announced) == 2

    source.write_bytes(b"something else")
    path.unlink()
    with pytest.raises(WeightsError, match=rf"expected {SHA256}, as when it was first fetched"):
        fetch_entry(wanted, folder)
    assert sorted(os.listdir(folder)) == [record.name]
    record.unlink()
    assert fetch_entry(wanted, folder, announced.append).read_bytes() == b"something else"


def test_file_without_a_checksum_is_warned_of_where_nobody_listens(
    source: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        fetch_entry(entry(unchecked(source.as_uri())), folder)
    assert "its publisher states no checksum" in caplog.text


def test_file_without_checksum_or_record_is_not_taken_for_whole(source: Path, folder: Path) -> None:
    wanted = entry(unchecked(source.as_uri()))
    path = fetch_entry(wanted, folder, print)
    record = path.with_name(path.name + ".sha256")
    for text in (None, "", "no digest\n", "ab" * 33):
        record.unlink() if text is None else record.write_text(text)
        announced: list[str] = []
        try:
            fetch_entry(wanted, folder, announced.append)
        except WeightsError as error:
            announced.append(str(error))
        assert f"{path}: found " in announced[0], text
    source.unlink()


def test_beginning_of_a_digest_is_enough_at_first_and_the_whole_counts_later(
    source: Path, folder: Path
) -> None:
    wanted = entry(Origin(source.as_uri(), None, "sha256 prefix", SHA256[:8]))
    path = fetch_entry(wanted, folder)
    assert path.name == f"test-{SHA256[:8]}.h5"
    record = path.with_name(path.name + ".sha256")
    assert record.read_text().startswith(SHA256)
    # Another file whose digest begins alike cannot be made here: the record is changed instead.
    record.write_text(f"{SHA256[:8]}{'0' * 56}  {path.name}\n")
    with pytest.raises(WeightsError, match=r"expected \w{8}0{56}, as when it was first fetched"):
        fetch_entry(wanted, folder)
    other = entry(Origin(source.as_uri(), None, "sha256 prefix", "01234567"))
    with pytest.raises(WeightsError, match=rf"found sha256 {SHA256}, expected 01234567\.\.\."):
        fetch_entry(other, folder)


# ---- what lies in it


def test_every_file_of_the_cache_is_told_from_the_others(
    folder: Path, monkeypatch: pytest.MonkeyPatch, source: Path
) -> None:
    good = Entry("good", "", "", KERAS_VARIANT, (origin(source.as_uri()),))
    first = Entry("first", "", "", KERAS_VARIANT, (unchecked(source.as_uri()),))
    begun = Entry("begun", "", "", KERAS_VARIANT, (unchecked("https://example.org/net.pth"),))
    for tag in (good, first, begun):
        monkeypatch.setitem(CATALOG, tag.tag, tag)
    assert verify_cache(folder) == []
    whole, kept = (fetch(tag, folder, print) for tag in ("good", "first"))
    keras = CATALOG["imagenet"].cached_path(CATALOG["imagenet"].origins[0], folder)
    keras.write_bytes(b"damaged")
    begun_path = begun.cached_path(begun.origins[0], folder)
    part = folder / f".{begun_path.name}.01234567.part"
    part.write_bytes(b"12345")
    Path(f"{part}.etag").write_text('"x"')
    (folder / "notes.txt").write_text("mine")
    (folder / "xla").mkdir()

    rows = {row.path: row for row in verify_cache(folder)}
    assert set(rows) == {whole, kept, keras, part, folder / "notes.txt"}
    assert (rows[whole].tag, rows[whole].state) == ("good", "ok")
    assert rows[whole].detail == "sha256 as its publisher states"
    assert (rows[kept].tag, rows[kept].state) == ("first", "ok")
    assert "as when it was first fetched" in rows[kept].detail
    assert (rows[keras].tag, rows[keras].state) == ("imagenet", "damaged")
    assert rows[keras].detail == "found 7 bytes, expected 87910968"
    assert (rows[part].tag, rows[part].state) == ("begun", "partial")
    assert rows[part].detail == "5 bytes so far"
    assert rows[folder / "notes.txt"].state == "unknown"


def test_cache_that_cannot_be_read_is_one_line(folder: Path) -> None:
    folder.write_text("not a folder")
    with pytest.raises(WeightsError, match="expected a cache of weights"):
        verify_cache(folder)


# ---- the bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_bar_is_drawn_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal_progress() as progress:
        assert progress is None
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with terminal_progress(quiet=True) as progress:
        assert progress is None
    assert not terminal.getvalue()
    with terminal_progress() as progress:
        assert progress is not None
        progress(80_000_000, 90_000_000)
        progress(1_000_000, None)
        progress(2_000_000, None)
    assert "2.0/? MB" in terminal.getvalue()
