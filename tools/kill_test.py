"""Kills a training at random moments until it is through, and compares it with an undisturbed one.

Of five kills two are in a start's first to third save, two anywhere from its first save on, one
before it. Prints a line for each start: how long it ran, how it ended, what lay in checkpoints/
then, and where it had begun. The end is bitwise the same where `thyrojax digest` and metrics.jsonl
are. Exit status 0 if so, 1 if not. With --devices each start has another number of (virtual)
devices, all kills are just after a save has begun, optimizer and BatchNorm are plain (`PLAIN`), and
the end has to be the same to rounding.

    python tools/kill_test.py --kills 25 --workdir /tmp/kills
    python tools/kill_test.py --kills 25 --signal TERM --workdir /tmp/terms
    python tools/kill_test.py --kills 2 --signal TERM --devices 8 1 4 --workdir /tmp/devices
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PRESET = """from thyrojax.config import Config

config = Config(
    input_size=75, depth_multiplier=0.05, weights="none", batch_size=8, steps={steps}, log_every=2,
    eval_every=0.01, lr=1e-3, trunk_lr_scale=1.0, ema=0.5, dropout=0.5, aux_head=True, gain=0.2,
    {more}
)
"""
# For another number of devices, whose sums are in another order: in a network of random weights
# Adam and batch statistics enlarge rounding within a few steps to differences of any size.
PLAIN = 'optimizer="sgd", freeze_bn=True,'
LONGEST = 600.0  # seconds that one start may take


@dataclass
class Attempt:
    """One start of the training."""

    seconds: float
    first_save: float  # seconds until one began; 0 where none did
    leaving: float  # seconds from the signal to the end
    status: int  # of the process; less than 0 the signal that ended it
    began: str  # "from step 3", "anew", or that it did not come so far


class Training:
    """A training command, started again and again on one run folder."""

    def __init__(self, preset: Path, data: Path, run: Path, number: int) -> None:
        self.run, self._signal = run, number
        self._command = [
            *_thyrojax("train"),
            str(preset),
            "--data",
            str(data),
            "--workdir",
            str(run),
        ]

    def start(
        self, kill_after: float | None = None, of_save: int = 0, devices: int | None = None
    ) -> Attempt:
        """Trains to the end, or to a kill: so many seconds after the start, or its nth save's."""
        output = self.run.with_suffix(".stderr")
        began, saves, killed = time.monotonic(), list[float](), 0.0
        with output.open("w") as file:
            process = subprocess.Popen(
                self._command, stdout=subprocess.DEVNULL, stderr=file, env=_environment(devices)
            )
            while process.poll() is None:
                now = time.monotonic() - began
                while len(saves) < output.read_text().count("validation AUC"):  # one has begun
                    saves.append(now)
                since = now
                if of_save:
                    since = now - saves[of_save - 1] if len(saves) >= of_save else -1.0
                if not killed and kill_after is not None and since >= kill_after:
                    process.send_signal(self._signal)
                    killed = now
                if now > LONGEST:
                    process.kill()
                time.sleep(0.005)
        seconds, said = time.monotonic() - began, output.read_text()
        if process.returncode not in (0, -self._signal, 128 + self._signal):
            raise SystemExit(f"the training ended with {process.returncode}:\n{said}")
        resumed = re.search(r"resuming .* (from step \d+)", said)
        fresh = "anew" if "starting from" in said else "killed before it began"
        return Attempt(
            seconds,
            saves[0] if saves else 0.0,
            seconds - killed if killed else 0.0,
            process.returncode,
            resumed.group(1) if resumed else fresh,
        )

    def unfinished_saves(self) -> list[str]:
        """Names of the steps whose save is under way, or was cut off."""
        return [path.name for path in (self.run / "checkpoints").glob("*tmp*")]

    def steps(self) -> list[int]:
        """Steps of the checkpoints that are whole."""
        names = [path.name for path in (self.run / "checkpoints").glob("*")]
        return sorted(int(name) for name in names if name.isdecimal())

    def digest(self) -> str:
        """What `thyrojax digest` prints."""
        command = [*_thyrojax("digest"), str(self.run)]
        done = subprocess.run(command, env=_environment(), capture_output=True, text=True)
        return done.stdout.strip() or done.stderr.strip()


def _thyrojax(command: str) -> list[str]:
    return [sys.executable, "-m", "thyrojax.cli", command]


def _environment(devices: int | None = None) -> dict[str, str]:
    found = {**os.environ, "PYTHONPATH": str(ROOT)}
    if devices is not None:
        found |= {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)}
    return found


def main() -> int:
    """Runs the test; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, required=True, help="a new folder")
    parser.add_argument("--data", type=Path, help="a built set; default: a small phantom")
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--signal", choices=("KILL", "TERM"), default="KILL")
    parser.add_argument("--devices", type=int, nargs="+", metavar="N", help="of each start in turn")
    parser.add_argument("--steps", type=int, default=8, help="of the run, each with a checkpoint")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    args = parser.parse_args()
    args.workdir.mkdir(parents=True)
    preset = args.workdir / "preset.py"
    preset.write_text(PRESET.format(steps=args.steps, more=PLAIN if args.devices else ""))
    data = args.data or args.workdir / "phantom"
    if args.data is None:
        build = [*_thyrojax("data"), "build", "phantom", "--patients", "40", "--out", str(data)]
        subprocess.run(build, check=True, env=_environment(), stdout=subprocess.DEVNULL)

    number = signal.Signals[f"SIG{args.signal}"]
    counts = args.devices or [None]
    whole = Training(preset, data, args.workdir / "whole", number)
    undisturbed = whole.start(devices=counts[0])
    expected = whole.digest()
    print(f"undisturbed: {undisturbed.seconds:.1f} s, digest {expected}", flush=True)

    moments = random.Random(args.seed)
    broken = Training(preset, data, args.workdir / "broken", number)
    print("kill        at s  leaving s  status  checkpoints/ at its end" + " " * 27 + "it began")
    steps_take = undisturbed.seconds - undisturbed.first_save
    # Half of them, so that most kills come before the end on a machine that others use too.
    longest = {"save": 0.5, "steps": steps_take / 2, "start": undisturbed.first_save}
    kinds = ("save",) if args.devices else ("save", "steps", "save", "steps", "start")
    kills, starts, same = 0, 0, True
    while True:
        done = kills == args.kills
        kind = "end" if done else kinds[kills % len(kinds)]
        after = None if done else moments.uniform(0.0, longest[kind])
        of_save = {"save": 1 if args.devices else moments.randint(1, 3), "steps": 1}.get(kind, 0)
        devices = counts[starts % len(counts)]
        attempt = broken.start(after, of_save, devices)
        finished = attempt.status == 0
        kills, starts = kills + (not finished), starts + 1
        if attempt.first_save:  # the machine may have become faster
            longest["start"] = min(longest["start"], attempt.first_save)
        name = "end" if finished else f"{kills} {kind}"
        held = f"steps {broken.steps()}, unfinished {broken.unfinished_saves()}"
        on = "" if devices is None else f", on {devices} devices"
        print(
            f"{name:9s}{attempt.seconds - attempt.leaving:7.1f}  {attempt.leaving:9.1f}  "
            f"{attempt.status:6d}  {held:50s}  {attempt.began}{on}",
            flush=True,
        )
        if finished:
            same &= _equal(broken, whole, expected, to_rounding=args.devices is not None)
            if attempt.began == "anew":
                steps_take = attempt.seconds - attempt.first_save
                longest["steps"] = min(longest["steps"], steps_take / 2)
            if done:
                return 0 if same else 1
            shutil.rmtree(broken.run)  # through before the last kill: once more


def _equal(broken: Training, whole: Training, expected: str, to_rounding: bool) -> bool:
    names = ("metrics.jsonl", "split.csv", "config.json")
    lines = all((broken.run / x).read_bytes() == (whole.run / x).read_bytes() for x in names)
    digest = broken.digest()
    print(f"digest {digest}; metrics.jsonl {'equal' if lines else 'DIFFERENT'}", flush=True)
    same = lines and digest == expected and " step " in digest
    if not to_rounding:
        return same
    found = _difference(whole.run, broken.run)
    print("\n".join(found), flush=True)
    return same or found[-1] == "equal to rounding"


def _difference(run: Path, other: Path) -> list[str]:
    sys.path.insert(0, str(ROOT))  # as the trainings have it
    from thyrojax.train import comparison
    from thyrojax.trained_run import restore_run

    states: list[Any] = [restore_run(folder, "latest")[1].state for folder in (run, other)]
    metrics, state = comparison.compare_metrics(run, other), comparison.compare_states(*states)
    return [*comparison.told(metrics, state), comparison.verdict(metrics, state)]


if __name__ == "__main__":
    sys.exit(main())
