"""Fetching weights by tag: verified before they are named, never half there, soon given up."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import stat
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from thyrojax.errors import WeightsError
from thyrojax.weights import CATALOG, catalog, download, fetch
from thyrojax.weights.catalog import Entry, Origin, fetch_entry
from thyrojax.weights.types import KERAS_VARIANT

CONTENT = bytes(range(256)) * 5000  # 1.28 MB
SHA256 = hashlib.sha256(CONTENT).hexdigest()

needs_pip = pytest.mark.skipif(importlib.util.find_spec("pip") is None, reason="no pip here")


class Handler(BaseHTTPRequestHandler):
    """Serves CONTENT under paths that say how it goes wrong."""

    requests: list[str]

    def do_GET(self) -> None:
        self.requests.append(self.path)
        if self.path == "/missing":
            self.send_error(404)
            return
        if self.path == "/silent":
            time.sleep(1.0)
            return
        body = {
            "/wrong": CONTENT[:-1] + b"!",
            "/longer": CONTENT + b"!",
            "/half": CONTENT[: len(CONTENT) // 2],
        }.get(self.path, CONTENT)
        self.send_response(200)
        if self.path != "/longer":
            self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of a local server; what it was asked for is in Handler.requests."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    Handler.requests = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def origin(where: str, member: str = "") -> Origin:
    return Origin(where, len(CONTENT), "sha256", SHA256, member)


def entry(*origins: Origin) -> Entry:
    return Entry("test", "a test's weights", "none", KERAS_VARIANT, origins)


def test_whole_file_is_fetched_once_and_then_served_from_the_cache(
    server: str, tmp_path: Path
) -> None:
    announced: list[str] = []
    for _ in range(2):
        path = fetch_entry(entry(origin(f"{server}/whole")), tmp_path, announced.append)
        assert path.read_bytes() == CONTENT
    assert Handler.requests == ["/whole"]
    assert announced == [f"fetching {server}/whole (1 MB)"]
    assert os.listdir(tmp_path) == [path.name]


def test_md5_of_older_publishers_is_verified_too(server: str, tmp_path: Path) -> None:
    md5 = hashlib.md5(CONTENT).hexdigest()
    good = Origin(f"{server}/whole", len(CONTENT), "md5", md5)
    assert fetch_entry(entry(good), tmp_path).read_bytes() == CONTENT
    with pytest.raises(WeightsError, match=rf"found md5 {md5}, expected 0123"):
        fetch_entry(entry(Origin(good.where, good.size, "md5", "0123")), tmp_path)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/half", f"found {len(CONTENT) // 2} bytes, expected {len(CONTENT)}|broke off after"),
        ("/wrong", rf"found sha256 \w+, expected {SHA256}"),
        ("/longer", f"found more than the expected {len(CONTENT)} bytes"),
        ("/missing", "not reachable .*404"),
    ],
)
def test_bad_transfer_leaves_nothing_behind(
    server: str, tmp_path: Path, path: str, reason: str
) -> None:
    with pytest.raises(
        WeightsError, match=rf"test: could not be fetched: {server}{path}: {reason}"
    ):
        fetch_entry(entry(origin(f"{server}{path}")), tmp_path)
    assert not os.listdir(tmp_path)


def test_next_origin_is_tried_and_the_failure_told(server: str, tmp_path: Path) -> None:
    announced: list[str] = []
    origins = [origin(f"{server}/{name}") for name in ("missing", "wrong", "whole")]
    path = fetch_entry(entry(*origins), tmp_path, announced.append)
    assert path.read_bytes() == CONTENT
    assert Handler.requests == ["/missing", "/wrong", "/whole"]
    assert "/missing: not reachable" in announced[2]
    assert "/wrong: found sha256" in announced[2]


def test_all_failures_stand_in_one_line(server: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        fetch_entry(entry(origin(f"{server}/missing"), origin("file:///no/such/file")), tmp_path)
    assert "\n" not in str(caught.value)
    assert "/missing: not reachable" in str(caught.value)
    assert "file:///no/such/file: not reachable" in str(caught.value)


def test_server_that_does_not_answer_is_given_up_soon(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "CONNECT_SECONDS", 0.2)
    start = time.perf_counter()
    with pytest.raises(WeightsError, match=r"/silent: not reachable \(no answer within"):
        fetch_entry(entry(origin(f"{server}/silent")), tmp_path)
    assert time.perf_counter() - start < 0.9


def test_offline_costs_about_ten_seconds_at_most() -> None:
    assert download.CONNECT_SECONDS + download.PIP_ANSWER_SECONDS <= 11.0


def test_interruption_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(address: str, target: Path, size: int) -> None:
        target.write_bytes(CONTENT[: size // 2])
        raise KeyboardInterrupt

    monkeypatch.setattr(download, "from_address", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch_entry(entry(origin("https://example.org/x")), tmp_path)
    assert not os.listdir(tmp_path)


def test_leftovers_of_a_killed_process_are_removed(server: str, tmp_path: Path) -> None:
    for name, age in ((".fetch-old", 2 * catalog.STALE_SECONDS), (".fetch-running", 0.0)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "part").write_bytes(b"half")
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    path = fetch_entry(entry(origin(f"{server}/whole")), tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".fetch-running", path.name]


def test_damaged_cache_is_fetched_anew(server: str, tmp_path: Path) -> None:
    wanted = entry(origin(f"{server}/whole"))
    path = fetch_entry(wanted, tmp_path)
    path.write_bytes(CONTENT[:-1] + b"!")
    assert fetch_entry(wanted, tmp_path).read_bytes() == CONTENT
    assert Handler.requests == ["/whole", "/whole"]


def test_damaged_cache_is_not_used_when_nothing_is_reachable(server: str, tmp_path: Path) -> None:
    path = fetch_entry(entry(origin(f"{server}/whole")), tmp_path)
    path.write_bytes(CONTENT[:100])
    with pytest.raises(WeightsError, match=rf"{path.name}: found 100 bytes, expected"):
        fetch_entry(entry(origin("file:///no/such/file")), tmp_path)


def test_file_addresses_are_read(tmp_path: Path) -> None:
    source = tmp_path / "source.h5"
    source.write_bytes(CONTENT)
    path = fetch_entry(entry(origin(source.as_uri())), tmp_path / "new" / "cache")
    assert path.read_bytes() == CONTENT


def test_cache_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(WeightsError, match=r"found a cache that cannot be used"):
        fetch_entry(entry(origin("file:///no/such/file")), tmp_path / "file")


def test_unknown_tag_is_told_the_known_ones() -> None:
    with pytest.raises(
        WeightsError, match=r"imagenette: found no such tag, expected one of imagenet"
    ):
        fetch("imagenette")


def test_cache_folder_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("THYROJAX_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/user")
    assert catalog.cache_folder() == Path("/home/user/.cache/thyrojax")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # the standard says to ignore such
    assert catalog.cache_folder() == Path("/home/user/.cache/thyrojax")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert catalog.cache_folder() == Path("/caches/thyrojax")
    monkeypatch.setenv("THYROJAX_CACHE", "/own")
    assert catalog.cache_folder() == Path("/own")


def test_imagenet_tries_keras_first_and_states_real_checksums(shared: Path) -> None:
    keras, package = CATALOG["imagenet"].origins
    assert keras.where.startswith("https://storage.googleapis.com/tensorflow/keras-applications/")
    assert (keras.algorithm, len(keras.checksum)) == ("md5", 32)
    with (shared / "weights" / "keras" / "inceptionv3_v1.h5").open("rb") as file:
        assert package.checksum == hashlib.file_digest(file, "sha256").hexdigest()
        assert package.size == file.seek(0, os.SEEK_END)


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
