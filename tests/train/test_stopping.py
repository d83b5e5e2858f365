"""SIGTERM: the run saves where it is, leaves in time, and goes on to the same end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from thyrojax.cli import main
from thyrojax.config import Config
from thyrojax.runs import digest_run, find_runs
from thyrojax.train import checkpoint, loop
from thyrojax.train.feeds import Feeding
from thyrojax.train.file_seals import SEAL, damaged_files
from thyrojax.train.provenance import read_starts
from thyrojax.train.stopping import StopRequest

HANGING = """
import os, signal, time
from thyrojax.train.stopping import StopRequest

with StopRequest(0.2, lambda line: print(line, flush=True)) as stop:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(30)
"""


def test_a_process_that_hangs_is_ended_after_the_grace_period() -> None:
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", HANGING], capture_output=True, text=True)
    assert done.returncode == 143
    assert done.stdout == "SIGTERM: not done within 0.2 s; left without saving\n"
    assert time.monotonic() - began < 20


def test_the_signal_is_asked_for_only_while_the_request_is_open() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest(60.0, print) as stop:
        assert not stop.asked
        os.kill(os.getpid(), signal.SIGTERM)
        deadline = time.monotonic() + 10
        while not stop.asked and time.monotonic() < deadline:
            time.sleep(0.01)
        assert stop.asked
    assert signal.getsignal(signal.SIGTERM) == before


def test_interrupts_still_interrupt() -> None:
    def interrupted() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # may have been ignored
    try:
        with StopRequest(60.0, print) as stop, pytest.raises(KeyboardInterrupt):
            interrupted()
    finally:
        signal.signal(signal.SIGINT, before)
    assert not stop.asked


def test_outside_the_main_thread_signals_are_left_alone() -> None:
    found = []

    def enter() -> None:
        with StopRequest(1.0, print) as stop:
            found.append(stop.asked)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [False]


def test_a_stopped_training_has_an_exit_status_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(loop, "train", lambda *arguments, **options: False)
    command = ["train", "quickstart", "--data", str(tmp_path), "--workdir", str(tmp_path)]
    with pytest.raises(SystemExit) as stop:
        main(command)
    assert stop.value.code == 143


@pytest.mark.slow
@pytest.mark.parametrize(("moment", "step"), [("between lines", 5), ("validation", 4), ("save", 4)])
def test_a_run_that_is_stopped_goes_on_to_the_same_end(
    small_run: Path,
    small_config: Config,
    phantom_set: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
    step: int,
) -> None:
    def terminated() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.5)

    real_feeding, real_save = loop.stream_feeding, checkpoint.save

    def feeding_with_signal(*arguments: Any) -> Feeding:
        feeding = real_feeding(*arguments)

        def advance(state: Any, step: int, count: int) -> Any:
            if step == 4:  # the fifth step, between the lines of steps 4 and 6
                terminated()
            return feeding.advance(state, step, count)

        def score(variables: Any) -> Any:
            terminated()
            return feeding.score(variables)

        changed = {"advance": advance} if moment == "between lines" else {"score": score}
        return feeding._replace(**changed)

    def save_with_signal(*arguments: Any) -> None:
        real_save(*arguments)  # which goes on in the background
        terminated()

    run, said = tmp_path / "run", list[str]()
    with monkeypatch.context() as patched:
        if moment == "save":
            patched.setattr(checkpoint, "save", save_with_signal)
        else:
            patched.setattr(loop, "stream_feeding", feeding_with_signal)
        assert not loop.train(small_config, phantom_set, run, quiet=True, say=said.append)
    assert said[-1] == f"SIGTERM: stopped after step {step} of 6, to go on from there"
    assert find_runs(run)[0].state == f"stopped, step {step} of 6"
    assert damaged_files(run / "checkpoints" / str(step)) == ""
    assert (run / "checkpoints" / str(step) / SEAL).exists()
    assert loop.train(small_config, phantom_set, run, quiet=True, say=said.append)
    assert f"resuming {run} from step {step}" in said
    for name in ("metrics.jsonl", "split.csv", "config.json"):
        assert (run / name).read_bytes() == (small_run / name).read_bytes()
    assert digest_run(run) == digest_run(small_run)
    assert [line["step"] for line in read_starts(run)] == [0, step]
