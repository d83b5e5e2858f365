"""Two processes that train one run together: undisturbed, killed, stopped, and gone on elsewhere.

Each has two CPU devices, and they meet on loopback. Prints a line for each start: what was done, on
which processes and devices, how long it ran, how long from a signal to the end of the last process,
the status of each, the checkpoints then, and where it had begun. What is compared: one process of
the same four devices, and one device, to rounding; what was killed or stopped and went on in two
processes, bitwise; what went on in another number of processes, to rounding. Exit status 0 if all
is so and every status is the expected one, 1 if not.

    python tools/two_processes.py --workdir /tmp/two
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
# Rounding stays small where BatchNorm has many values to normalise by and the rate is low. It still
# moves gradients: a ReLU whose input is about 0 is on or off by the last bit.
PRESET = """from thyrojax.config import Config

config = Config(
    input_size=107, depth_multiplier=0.05, weights="none", batch_size=16, steps={steps},
    log_every=1, eval_every=0.01, keep_every=1, log_images=0, optimizer="sgd", lr=1e-5,
    trunk_lr_scale=1.0, ema=0.5, dropout=0.5, gain=0.2, on_bad_record="skip",
)
"""
HEARTBEAT = 10  # seconds
GRADIENT_ROUNDING = 0.05  # share of the gradient's norm; all else `comparison.ROUNDING`
LONGEST = 900.0  # seconds that one start may take
TWO, FOUR, ONE = (2, 2), (4,), (1,)  # devices of each process


class Story:
    """Starts of one training, each told by a line, and what differs from what was expected."""

    def __init__(self, preset: Path, data: Path, folder: Path) -> None:
        self.folder = folder
        self.faults: list[str] = []
        self._preset, self._data = preset, data
        print("run         devices       s  left s  statuses   began; checkpoints", flush=True)

    def start(
        self,
        name: str,
        devices: tuple[int, ...],
        expected: tuple[int, ...],
        send: tuple[signal.Signals, int, int] | None = None,
    ) -> None:
        """Trains a run in as many processes as `devices` has entries.

        Args:
          name: of the run's folder.
          devices: of each process.
          expected: status of each process, less than 0 the signal that ended it.
          send: a signal, to which process, after which step's validation.
        """
        run = self.folder / name
        began, sent = time.monotonic(), 0.0
        outputs = [run.with_suffix(f".{i}.txt") for i in range(len(devices))]
        command = ["train", str(self._preset), "--data", str(self._data), "--workdir", str(run)]
        processes = start_together([command] * len(devices), devices, outputs)
        while any(process.poll() is None for process in processes):
            if send and not sent and f"step {send[2]} of" in outputs[0].read_text():
                processes[send[1]].send_signal(send[0])
                sent = time.monotonic()
            if time.monotonic() - began > LONGEST:
                for process in processes:
                    process.kill()
            time.sleep(0.005)
        ended = time.monotonic()
        statuses = tuple(process.returncode for process in processes)
        said = outputs[0].read_text()
        resumed = re.search(r"resuming .* (from step \d+)", said)
        done = "" if send is None else f"  {send[0].name} to process {send[1]}"
        print(
            f"{name:12s}{' + '.join(map(str, devices)):9s}{ended - began:6.1f}  "
            f"{ended - sent if sent else 0.0:6.1f}  {' '.join(map(str, statuses)):11s}"
            f"{resumed.group(1) if resumed else 'anew'}; {self._held(run)}{done}",
            flush=True,
        )
        if statuses != expected:
            told = "\n".join(f"{path}:\n{path.read_text()}" for path in outputs)
            self.faults.append(f"{name}: found statuses {statuses}, expected {expected}\n{told}")

    def _held(self, run: Path) -> str:
        names = [path.name for path in (run / "checkpoints").glob("*")]
        steps = sorted(int(name) for name in names if name.isdecimal())
        unfinished = sorted(name for name in names if "tmp" in name)
        return ", ".join([f"steps {steps}", *unfinished])

    def copy(self, name: str, to: str, step: int | None = None) -> None:
        """Copies a run; with `step`, as a kill after that step's checkpoint would have left it."""
        shutil.copytree(self.folder / name, self.folder / to)
        for path in (self.folder / to / "checkpoints").glob("[0-9]*"):
            if step is not None and path.name.isdecimal() and int(path.name) > step:
                shutil.rmtree(path)

    def compare(self, name: str, other: str, expected: str) -> None:
        """Prints how far a finished run is from another, and whether that was to be expected."""
        found, lines = difference(self.folder / other, self.folder / name)
        print("\n  ".join([f"{name} and {other}: {found}", *lines]), flush=True)
        if found != expected:
            self.faults.append(f"{name} and {other}: found {found}, expected {expected}")


def difference(run: Path, other: Path) -> tuple[str, list[str]]:
    """What two finished runs differ by: a verdict, and figures and digests in words."""
    from thyrojax.train import comparison
    from thyrojax.trained_run import restore_run

    states: list[Any] = [restore_run(folder, "latest")[1].state for folder in (run, other)]
    metrics, state = comparison.compare_metrics(run, other), comparison.compare_states(*states)
    told = comparison.told(metrics, state)
    if metrics.largest.pop("gradient_norm", 0.0) > GRADIENT_ROUNDING:
        return "different", told
    return comparison.verdict(metrics, state), told


def start_together(
    commands: Sequence[Sequence[str]],
    devices: Sequence[int],
    outputs: Sequence[Path],
    program: Sequence[str] = ("-m", "thyrojax.cli"),
) -> list[subprocess.Popen[bytes]]:
    """Starts a process for each training command, on so many CPU devices; they meet on loopback.

    Each writes what it says, on stdout too, to its output.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    meet = ["--coordinator", f"127.0.0.1:{port}", "--num-processes", str(len(commands))]
    meet += ["--heartbeat-seconds", str(HEARTBEAT)]
    started = []
    for i, (command, count, output) in enumerate(zip(commands, devices, outputs, strict=True)):
        more = [*meet, "--process-id", str(i)] if len(commands) > 1 else []
        with output.open("w") as file:
            started.append(
                subprocess.Popen(
                    [sys.executable, *program, *command, *more],
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    env=_environment(count),
                )
            )
    return started


def _thyrojax(command: str) -> list[str]:
    return [sys.executable, "-m", "thyrojax.cli", command]


def _environment(devices: int) -> dict[str, str]:
    ours = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices), "PYTHONPATH": str(ROOT)}
    return {**os.environ, **ours}


def main() -> int:
    """Tells the story; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, required=True, help="a new folder")
    parser.add_argument("--data", type=Path, help="a built set; default: a small phantom")
    parser.add_argument("--steps", type=int, default=8, help="of the run, each with a checkpoint")
    parser.add_argument("--short", action="store_true", help="a part of it, for tests")
    args = parser.parse_args()
    logging.getLogger("absl").setLevel(logging.ERROR)
    args.workdir.mkdir(parents=True)
    preset = args.workdir / "preset.py"
    preset.write_text(PRESET.format(steps=args.steps))
    data = args.data or args.workdir / "phantom"
    if args.data is None:
        build = [*_thyrojax("data"), "build", "phantom", "--patients", "40", "--out", str(data)]
        subprocess.run(build, check=True, env=_environment(1), stdout=subprocess.DEVNULL)

    story = Story(preset, data, args.workdir)
    (_short if args.short else _whole)(story)
    for fault in story.faults:
        print(fault, file=sys.stderr)
    return 1 if story.faults else 0


def _short(story: Story) -> None:
    story.start("two", TWO, (0, 0))
    story.start("one", ONE, (0,))
    story.compare("two", "one", "equal to rounding")
    story.start("killed", TWO, (75, -9), (signal.SIGKILL, 1, 2))
    story.start("killed", TWO, (0, 0))
    story.compare("killed", "two", "bitwise equal")
    story.copy("two", "two to one", step=2)
    story.start("two to one", ONE, (0,))
    story.compare("two to one", "two", "equal to rounding")


def _whole(story: Story) -> None:
    kill, term = signal.SIGKILL, signal.SIGTERM
    story.start("two", TWO, (0, 0))
    story.start("four", FOUR, (0,))
    story.start("one", ONE, (0,))
    story.compare("two", "four", "equal to rounding")
    story.compare("two", "one", "equal to rounding")

    story.start("killed", TWO, (75, -9), (kill, 1, 2))
    story.start("killed", TWO, (-9, 75), (kill, 0, 4))
    story.start("killed", TWO, (0, 0))
    story.compare("killed", "two", "bitwise equal")

    story.start("stopped", TWO, (143, 143), (term, 1, 2))
    story.copy("stopped", "two to one")
    story.start("stopped", TWO, (0, 0))
    story.compare("stopped", "two", "bitwise equal")
    story.start("two to one", ONE, (0,))
    story.compare("two to one", "two", "equal to rounding")

    story.copy("one", "one to two", step=2)
    story.start("one to two", TWO, (0, 0))
    story.compare("one to two", "one", "equal to rounding")


if __name__ == "__main__":
    sys.exit(main())
