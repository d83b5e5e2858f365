"""Fetching weights: verified before they are named, never half there, and gone on with."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from thyrojax.errors import WeightsError
from thyrojax.weights import download, partial, verify_cache
from thyrojax.weights.catalog import Entry, Origin
from thyrojax.weights.fetching import fetch_entry
from thyrojax.weights.types import KERAS_VARIANT

CONTENT = bytes(range(256)) * 5000  # 1.28 MB
SHA256 = hashlib.sha256(CONTENT).hexdigest()
HALF = len(CONTENT) // 2


class Handler(BaseHTTPRequestHandler):
    """Serves CONTENT; the path says how it goes wrong, and the server how it does ranges."""

    def do_GET(self) -> None:
        server: Any = self.server
        first = self._first_byte() if server.ranges else 0
        server.requests.append((self.path, first))
        if self.path == "/missing":
            self.send_error(404)
            return
        if self.path == "/silent":
            time.sleep(1.0)
            return
        body = {
            "/wrong": CONTENT[:-1] + b"!",
            "/longer": CONTENT + b"!",
            "/other": CONTENT[:-1],
        }.get(self.path, CONTENT)
        self.send_response(206 if first else 200)
        if server.etag:
            self.send_header("ETag", server.etag)
        if first:
            first += server.range_lie
            self.send_header("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}")
        body = body[first:]
        if self.path not in ("/longer", "/endless"):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        until = server.cuts.pop(0) if server.cuts else len(body)
        for start in range(0, min(until, len(body)), 2**16):
            block = body[start : min(start + 2**16, until)]
            server.sent += len(block)
            self.wfile.write(block)
            time.sleep(server.pause)

    def _first_byte(self) -> int:
        found = re.fullmatch("bytes=([0-9]+)-", self.headers.get("Range", ""))
        same = self.headers.get("If-Range") == self.server.etag  # type: ignore[attr-defined]
        return int(found[1]) if found and same else 0

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """`requests`: path and first byte of each; `sent`: bytes of content; `cuts`: after how many
    bytes the next answers break off."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[tuple[str, int]] = []
        self.cuts: list[int] = []
        self.sent, self.range_lie, self.pause = 0, 0, 0.0
        self.etag, self.ranges = '"first"', True
        self.address = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_: object) -> None:
        pass  # a client that has gone


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Server() as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}).start()
        yield running
        running.shutdown()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(partial, "WAIT_SECONDS", 0.01)


def origin(where: str) -> Origin:
    return Origin(where, len(CONTENT), "sha256", SHA256)


def entry(*origins: Origin) -> Entry:
    return Entry("test", "a test's weights", "none", KERAS_VARIANT, origins)


def test_whole_file_is_fetched_once_and_then_served_from_the_cache(
    server: Server, tmp_path: Path
) -> None:
    announced: list[str] = []
    for _ in range(2):
        path = fetch_entry(entry(origin(f"{server.address}/whole.h5")), tmp_path, announced.append)
        assert path.read_bytes() == CONTENT
    assert path.name == f"test-{SHA256[:16]}.h5"
    assert server.requests == [("/whole.h5", 0)]
    assert announced == [f"fetching {server.address}/whole.h5 (1 MB)"]
    assert os.listdir(tmp_path) == [path.name]


def test_md5_of_older_publishers_is_verified_too(server: Server, tmp_path: Path) -> None:
    md5 = hashlib.md5(CONTENT).hexdigest()
    good = Origin(f"{server.address}/whole", len(CONTENT), "md5", md5)
    assert fetch_entry(entry(good), tmp_path).read_bytes() == CONTENT
    with pytest.raises(WeightsError, match=rf"found md5 {md5}, expected 0123"):
        fetch_entry(entry(Origin(good.where, good.size, "md5", "0123")), tmp_path)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/wrong", rf"found sha256 \w+, expected {SHA256}"),
        ("/longer", f"found more than the expected {len(CONTENT)} bytes"),
        ("/other", f"found {len(CONTENT) - 1} bytes, expected {len(CONTENT)}"),
        ("/missing", "not reachable .*404"),
    ],
)
def test_wrong_file_leaves_nothing_behind(
    server: Server, tmp_path: Path, path: str, reason: str
) -> None:
    with pytest.raises(
        WeightsError, match=rf"test: could not be fetched: {server.address}{path}: {reason}"
    ):
        fetch_entry(entry(origin(f"{server.address}{path}")), tmp_path)
    assert not os.listdir(tmp_path)


def test_next_origin_is_tried_and_the_failure_told(server: Server, tmp_path: Path) -> None:
    announced: list[str] = []
    origins = [origin(f"{server.address}/{name}") for name in ("missing", "wrong", "whole")]
    path = fetch_entry(entry(*origins), tmp_path, announced.append)
    assert path.read_bytes() == CONTENT
    assert [path for path, _ in server.requests] == ["/missing", "/wrong", "/whole"]
    assert "/missing: not reachable" in announced[2]
    assert "/wrong: found sha256" in announced[2]


def test_server_that_does_not_answer_is_given_up_soon(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "CONNECT_SECONDS", 0.2)
    start = time.perf_counter()
    with pytest.raises(WeightsError, match=r"/silent: not reachable \(no answer within"):
        fetch_entry(entry(origin(f"{server.address}/silent")), tmp_path)
    assert time.perf_counter() - start < 2.5  # the default gives up after 3


def test_no_network_costs_about_ten_seconds_at_most() -> None:
    assert download.CONNECT_SECONDS + download.PIP_ANSWER_SECONDS <= 11.0


def test_length_is_needed_where_no_size_is_known(server: Server, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="found a file without a length"):
        fetch_entry(entry(Origin(f"{server.address}/endless", None, "", "")), tmp_path)
    assert not os.listdir(tmp_path)


def test_too_large_a_file_of_unknown_size_is_refused(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MAX_BYTES", 10**6)
    with pytest.raises(WeightsError, match=f"found {len(CONTENT)} bytes, expected at most 1000000"):
        fetch_entry(entry(Origin(f"{server.address}/whole", None, "", "")), tmp_path)


@pytest.mark.parametrize("address", ["ftp://127.0.0.1:1/x", "http://127.0.0.1:1/x"])
def test_address_that_leads_nowhere_is_one_line(tmp_path: Path, address: str) -> None:
    with pytest.raises(WeightsError, match="not reachable") as caught:
        fetch_entry(entry(origin(address)), tmp_path)
    assert "\n" not in str(caught.value)


# ---- going on


def test_transfer_that_breaks_off_is_gone_on_with_at_once(server: Server, tmp_path: Path) -> None:
    server.cuts = [300_000, 400_000]
    path = fetch_entry(entry(origin(f"{server.address}/whole")), tmp_path)
    assert path.read_bytes() == CONTENT
    assert server.requests == [("/whole", 0), ("/whole", 300_000), ("/whole", 700_000)]
    assert server.sent == len(CONTENT)
    assert os.listdir(tmp_path) == [path.name]


def test_transfer_given_up_is_gone_on_with_by_the_next_fetch(
    server: Server, tmp_path: Path
) -> None:
    server.cuts = [100_000] * 3
    wanted = entry(origin(f"{server.address}/whole"))
    with pytest.raises(WeightsError, match=rf"broke off after 300000 bytes of {len(CONTENT)}"):
        fetch_entry(wanted, tmp_path)
    assert not wanted.is_cached(tmp_path)
    seen: list[tuple[int, int | None]] = []
    path = fetch_entry(wanted, tmp_path, progress=lambda *now: seen.append(now))
    assert path.read_bytes() == CONTENT
    assert server.requests[-1] == ("/whole", 300_000)
    assert server.sent == len(CONTENT)
    assert seen[0] == (300_000, len(CONTENT))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize(
    "change",
    [{"ranges": False}, {"etag": '"second"'}, {"range_lie": 1}, {"etag": None}],
    ids=["no ranges", "another file", "wrong range", "no validator any more"],
)
def test_server_that_cannot_go_on_with_it_sends_it_anew(
    server: Server, tmp_path: Path, change: dict[str, Any]
) -> None:
    server.cuts = [HALF] * 3
    server.ranges = False  # so that each attempt begins anew
    with pytest.raises(WeightsError, match="broke off after 640000 bytes"):
        fetch_entry(entry(origin(f"{server.address}/whole")), tmp_path)
    server.ranges = True
    for name, value in change.items():
        setattr(server, name, value)
    path = fetch_entry(entry(origin(f"{server.address}/whole")), tmp_path)
    assert path.read_bytes() == CONTENT
    assert server.requests[-1] == ("/whole", 0)
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_beginning_is_not_kept_where_the_server_could_not_vouch_for_it(
    server: Server, tmp_path: Path, etag: str | None
) -> None:
    server.etag, server.cuts = etag, [HALF]  # type: ignore[assignment]
    with pytest.raises(WeightsError, match=f"broke off after {HALF} bytes"):
        fetch_entry(entry(origin(f"{server.address}/whole")), tmp_path)
    assert server.requests == [("/whole", 0)]
    assert not os.listdir(tmp_path)


def test_wrong_beginning_costs_a_second_transfer_only(server: Server, tmp_path: Path) -> None:
    server.cuts = [100_000] * 3
    wanted = entry(origin(f"{server.address}/whole"))
    with pytest.raises(WeightsError):
        fetch_entry(wanted, tmp_path)
    (part,) = tmp_path.glob(".*.part")
    part.write_bytes(bytes(300_000))
    assert fetch_entry(wanted, tmp_path).read_bytes() == CONTENT
    assert [first for _, first in server.requests[-2:]] == [300_000, 0]


def test_interruption_keeps_the_beginning(server: Server, tmp_path: Path) -> None:
    def interrupt(received: int, total: int | None) -> None:
        if received >= HALF:
            raise KeyboardInterrupt

    wanted = entry(origin(f"{server.address}/whole"))
    with pytest.raises(KeyboardInterrupt):
        fetch_entry(wanted, tmp_path, progress=interrupt)
    assert [row.state for row in verify_cache(tmp_path)] == ["partial"]
    assert fetch_entry(wanted, tmp_path).read_bytes() == CONTENT
    assert server.requests[-1][1] >= HALF


# ---- several processes


SCRIPT = """
import sys
from pathlib import Path
from thyrojax.weights import fetching, types
from thyrojax.weights.catalog import Entry, Origin
address, size, sha256, folder = sys.argv[1:]
entry = Entry("test", "", "", types.KERAS_VARIANT, (Origin(address, int(size), "sha256", sha256),))
print(fetching.fetch_entry(entry, Path(folder), print))
"""


def test_two_processes_at_once_fetch_one_file_once(server: Server, tmp_path: Path) -> None:
    server.pause = 0.05
    command = [sys.executable, "-c", SCRIPT, f"{server.address}/whole", str(len(CONTENT)), SHA256]
    processes = [
        subprocess.Popen([*command, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=60)[0].splitlines() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    (name,) = os.listdir(tmp_path)
    assert (tmp_path / name).read_bytes() == CONTENT
    assert {lines[-1] for lines in said} == {str(tmp_path / name)}
    assert server.sent == len(CONTENT)


def test_killed_process_leaves_a_beginning_to_go_on_with(server: Server, tmp_path: Path) -> None:
    server.pause = 0.05
    command = [sys.executable, "-c", SCRIPT, f"{server.address}/whole", str(len(CONTENT)), SHA256]
    process = subprocess.Popen([*command, str(tmp_path)], stdout=subprocess.DEVNULL)
    while server.sent < HALF:
        time.sleep(0.01)
    process.kill()
    process.wait()
    server.pause = 0.0
    assert fetch_entry(entry(origin(f"{server.address}/whole")), tmp_path).read_bytes() == CONTENT
    assert server.requests[-1][1] > 0


def test_threads_wait_for_each_other_and_say_so(server: Server, tmp_path: Path) -> None:
    server.pause = 0.02
    announced: list[str] = []
    wanted = entry(origin(f"{server.address}/whole"))
    threads = [
        threading.Thread(target=fetch_entry, args=(wanted, tmp_path, announced.append))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.requests) == 1
    assert sum("waiting for another process that fetches" in line for line in announced) == 3


def test_file_system_without_locks_does_without_going_on(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    def refuse(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    server.cuts = [100_000] * 3
    wanted = entry(origin(f"{server.address}/whole"))
    with pytest.raises(WeightsError, match="broke off after 300000 bytes"):
        fetch_entry(wanted, tmp_path)
    assert not os.listdir(tmp_path)
    assert fetch_entry(wanted, tmp_path).read_bytes() == CONTENT
    assert len(os.listdir(tmp_path)) == 1
