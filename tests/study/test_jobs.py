"""Several units at once: the same results, all stopped together, and faults as of one process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from thyrojax.analysis.predictions import read_predictions
from thyrojax.cli import main
from thyrojax.train.provenance import usable_cores

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(len(usable_cores()) < 2, reason="needs two cores"),
]
STUDY = """
from thyrojax.study.plan import Arm, Study

study = Study(
    name="pair",
    title="A pair",
    question="Does it run?",
    arms=lambda base: [
        Arm("square", "square", lacks=lambda dataset: ""),
        Arm("frame", "whole frame", {"crop_shape": "frame"}),
    ],
    reference="square",
    seeds=1,
)
"""
FIELDS = [
    *(
        "--input-size",
        "75",
        "--depth-multiplier",
        "0.05",
        "--weights",
        "none",
        "--batch-size",
        "16",
    ),
    *("--log-images", "0", "--dropout", "0.5"),
]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("studies") / "pair.py"
    path.write_text(STUDY)
    return path


def command(study: Path, data: Path, workdir: Path, *more: str) -> list[str]:
    place = ["study", str(study), "--data", str(data), "--workdir", str(workdir)]
    return [*place, *FIELDS, "--quiet", *more]


def test_jobs_give_what_one_process_gives(
    pair: Path, phantom_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert main(command(pair, phantom_set, one, "--steps", "2")) == 0
    assert main(command(pair, phantom_set, two, "--steps", "2", "--jobs", "2")) == 0
    cores = len(usable_cores())
    for arm in ("square", "frame"):
        apart = [read_predictions(folder / "predictions" / f"{arm}.csv") for folder in (one, two)]
        assert apart[0].image_ids == apart[1].image_ids
        np.testing.assert_allclose(apart[0].scores, apart[1].scores, atol=1e-5)
        unit = json.loads((two / "runs" / arm / "seed0" / "unit.json").read_text())
        assert int(unit["versions"]["processor"].split(" x ")[0]) < cores
    assert (two / "study.html").is_file()
    capsys.readouterr()
    # What is finished is not run again, and is refused as another configuration's in one line.
    assert main(command(pair, phantom_set, two, "--steps", "3", "--jobs", "2")) == 2
    told = capsys.readouterr().err
    assert "steps 2 (now 3)" in told
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("whose", "number", "status"),
    [
        ("parent", signal.SIGTERM, 128 + signal.SIGTERM),
        ("parent", signal.SIGKILL, -signal.SIGKILL),
        ("child", signal.SIGKILL, 2),  # as the kernel does where memory is short
    ],
)
def test_all_jobs_save_and_stop_together(
    whose: str,
    number: signal.Signals,
    status: int,
    pair: Path,
    phantom_set: Path,
    tmp_path: Path,
) -> None:
    endless = ("--steps", "100000", "--eval-every", "100000", "--log-every", "1", "--jobs", "2")
    entry = "import sys; from thyrojax.cli import main; sys.exit(main())"
    arguments = command(pair, phantom_set, tmp_path, *endless)
    with (tmp_path / "said").open("w") as said:
        parent = subprocess.Popen(
            [sys.executable, "-c", entry, *arguments], stderr=said, start_new_session=True
        )
    runs = [tmp_path / "runs" / arm / "seed0" for arm in ("square", "frame")]

    def wait_until(true: Callable[[], bool]) -> None:
        end = time.monotonic() + 240.0
        while not true():
            assert time.monotonic() < end, (tmp_path / "said").read_text()
            time.sleep(0.2)

    wait_until(lambda: parent.poll() is not None or all(_has_stepped(run) for run in runs))
    assert parent.poll() is None, (tmp_path / "said").read_text()
    assert not any(_saved(run) for run in runs)
    if whose == "child":
        of_jobs = [
            c for c in psutil.Process(parent.pid).children() if "spawn_main" in str(c.cmdline())
        ]
        of_jobs[0].send_signal(number)
    else:
        parent.send_signal(number)
    assert parent.wait(120) == status
    wait_until(lambda: not _alive(parent.pid))
    assert sum(_saved(run) for run in runs) == (1 if whose == "child" else 2)
    if whose == "child":
        told, *_ = (tmp_path / "said").read_text().splitlines()  # Python speaks of semaphores after
        assert told.startswith("thyrojax: ")
        assert "found one of 2 processes end with status -9" in told


def _has_stepped(run: Path) -> bool:
    told = run / "metrics.jsonl"
    return told.is_file() and told.stat().st_size > 0


def _saved(run: Path) -> bool:
    return any(path.name.isdecimal() for path in (run / "checkpoints").glob("*"))


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
