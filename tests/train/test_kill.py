"""SIGKILL at random moments: the run still comes to the same bytes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "kill_test.py"


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_comes_to_the_same_end(
    phantom_set: Path, tmp_path: Path
) -> None:
    options = ["--kills", "2", "--steps", "3", "--data", str(phantom_set), "--seed", "1"]
    done = subprocess.run(
        [sys.executable, str(TOOL), *options, "--workdir", str(tmp_path / "kills")],
        env={**os.environ, "JAX_NUM_CPU_DEVICES": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for number, kind in enumerate(("save", "steps"), start=1):
        assert re.search(rf"^{number} {kind} ", done.stdout, re.MULTILINE), done.stdout
    digests = set(re.findall(r"digest ([0-9a-f]{64})  step 3", done.stdout))
    assert len(digests) == 1
    assert "DIFFERENT" not in done.stdout
