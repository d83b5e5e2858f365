"""Training step and inference, side by side with torchvision's Inception-v3 on the same device.

    python tools/bench_train.py [--torch-python PYTHON] [--sizes 299 384] [--batches 32 128 512]
    python tools/bench_train.py --small --torch-python PYTHON        a CPU
    python tools/bench_train.py --with merge_branches=true --with fold_bn=true

Each contender is a process of its own for each case: it compiles, takes a warm-up, and then they
take turns, so that all see the same machine; where memory does not hold them at once, each has it
alone, and its row says so. The batch is constant and on the device; the state is donated. Floating
operations are those of the network on paper (9.446 G multiply-adds forward at 384 px, 5.713 at 299,
other sizes by XLA's count; training three times that), whatever a contender makes of them; the
matmul peak is measured first, on the same device; on a CPU, shares of it are of CPU time. The peer
is `tools/train_peer.py`. Needs jax, flax, optax and numpy.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
MULTIPLY_ADDS = {384: 9.446e9, 299: 5.713e9}  # forward, of one image
OURS, FED = "thyrojax", "thyrojax with its feed"
PASSES = {"train": 3, "infer": 1}
OUT_OF_MEMORY = (
    "out of memory",
    "Out of memory",
    "RESOURCE_EXHAUSTED",
    "OutOfMemory",
    "MemoryError",
    "bad_alloc",
    "can't allocate memory",
)
QUIET = {
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # the others need room
    "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.95",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1",  # compile times are without a cache
}


class Case(NamedTuple):
    """What is measured. `seconds`: about how long a turn lasts."""

    mode: str
    size: int
    batch: int
    dtype: str
    seconds: float


class Contender(NamedTuple):
    """A name and the command of its process, which takes a case as its last argument."""

    name: str
    command: list[str]


class Failed(Exception):
    """A contender's process ended; the message says why in one line."""


class Process:
    """A contender at work on one case."""

    def __init__(self, contender: Contender, case: Case) -> None:
        environment = {**os.environ, **QUIET}
        environment.pop("JAX_COMPILATION_CACHE_DIR", None)
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (a pipe may fill)
        self._child = subprocess.Popen(
            [*contender.command, json.dumps(case._asdict())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=environment,
        )
        self.ready = self._answer()

    def ask(self, word: str) -> dict[str, Any]:
        """The answer to "turn" or "end"."""
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(word + "\n")
            self._child.stdin.flush()
        except BrokenPipeError:
            pass  # the answer says why
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            if line.startswith("bench "):
                return json.loads(line.removeprefix("bench "))
        self._child.wait()
        self._errors.seek(0)
        errors = self._errors.read()
        if self._child.returncode == -9 or any(sign in errors for sign in OUT_OF_MEMORY):
            raise Failed("out of memory")
        raise Failed((errors.strip().splitlines() or ["no reason given"])[-1][:120])

    def end(self) -> None:
        self._child.kill()
        self._child.communicate()
        self._errors.close()


def measure(contenders: Sequence[Contender], case: Case, turns: int) -> dict[str, dict[str, Any]]:
    """Figures of each contender by name; {"failed": reason} of those that have none.

    All at once, taking turns; where one fails, each alone, marked "alone".
    """
    try:
        return _measure_together(contenders, case, turns)
    except Failed:
        found: dict[str, dict[str, Any]] = {}
        for contender in contenders:
            try:
                alone = _measure_together([contender], case, turns)
                found[contender.name] = {**alone[contender.name], "alone": len(contenders) > 1}
            except Failed as error:
                found[contender.name] = {"failed": str(error)}
        return found


def _measure_together(
    contenders: Sequence[Contender], case: Case, turns: int
) -> dict[str, dict[str, Any]]:
    working: dict[str, Process] = {}
    try:
        for contender in contenders:
            working[contender.name] = Process(contender, case)
        taken: dict[str, list[dict[str, Any]]] = {name: [] for name in working}
        names = list(working)
        for turn in range(turns):
            first = turn % len(names)
            for name in names[first:] + names[:first]:
                taken[name].append(working[name].ask("turn"))
        return {
            name: {
                **process.ready,
                "seconds": [turn["seconds"] for turn in taken[name]],
                "cpu_seconds": [turn["cpu_seconds"] for turn in taken[name]],
                "peak_bytes": process.ask("end")["peak_bytes"],
            }
            for name, process in working.items()
        }
    finally:
        for process in working.values():
            process.end()


def rows(
    case: Case, found: dict[str, dict[str, Any]], operations: float, peak: float, on_cpu: bool
) -> Iterator[str]:
    """The table's lines of one case. `operations` of one image, `peak` in operations a second.

    The ratio to the last contender is the median over turns; on a CPU, which others may be using,
    the ratio of CPU seconds is beside it, and of the feed's share too.
    """
    *_, last = found
    peer = found[last]
    clock = "cpu_seconds" if on_cpu else "seconds"
    for name, figures in found.items():
        start = f"| {case.mode} | {case.size} | {case.batch} | {case.dtype} | {name}"
        constant = found[OURS]
        if name == FED and clock in figures and clock in constant:
            start += f", whose share is {100 - 100 * _ratio(constant[clock], figures[clock]):.0f} %"
        start += " |"
        if "failed" in figures:
            yield f"{start} {figures['failed']} | | | | | |" + (" |" if on_cpu else "")
            continue
        speed = case.batch / statistics.median(figures["seconds"])
        ratio = cpu_ratio = ""
        if "seconds" in peer and name != last:
            ratio = f"{_ratio(peer['seconds'], figures['seconds']):.2f}"
            cpu_ratio = f"{_ratio(peer['cpu_seconds'], figures['cpu_seconds']):.2f}"
            if figures.get("alone"):
                ratio += ", apart"
        rate = speed * operations
        share = rate / peak
        if on_cpu:  # both by CPU time
            seconds = statistics.median(figures["cpu_seconds"])
            share = case.batch / seconds * operations * len(os.sched_getaffinity(0)) / peak
        yield (
            f"{start} {speed:,.1f} | {ratio} |"
            + (f" {cpu_ratio} |" if on_cpu else "")
            + f" {rate / 1e12:.3g} | {100 * share:.0f} % | {figures['peak_bytes'] / 1e9:.2f}"
            f" | {figures['compile_seconds']:.0f} |"
        )


def _ratio(others: list[float], own: list[float]) -> float:
    return statistics.median(x / y for x, y in zip(others, own, strict=True))


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[299, 384], metavar="PX")
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 64, 128, 256, 512])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--modes", nargs="+", choices=sorted(PASSES), default=["train", "infer"])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="about how long a turn lasts")
    parser.add_argument("--small", action="store_true", help="139 px, batch 8, for a CPU")
    parser.add_argument("--torch-python", metavar="PYTHON", help="one that has torch, torchvision")
    parser.add_argument(
        "--torch-mode",
        help='of torch.compile, or "none" for eager as --small has it: a CPU compiles for minutes',
    )
    parser.add_argument(
        "--with",
        action="append",
        default=[],
        dest="variants",
        metavar="FIELD=VALUE[,...]",
        help="one more contender: ours with these fields of the configuration",
    )
    parser.add_argument("--feed", action="store_true", help="also training on the resident feed")
    args = parser.parse_args()
    if args.small:
        args.sizes, args.batches = [139], [8]
    torch_mode = args.torch_mode or ("none" if args.small else "default")
    own = [sys.executable, str(HERE / "train_own.py")]
    contenders = [Contender(OURS, [*own, ""])]
    contenders += [Contender(f"{OURS} {fields}", [*own, fields]) for fields in args.variants]
    if args.torch_python:
        peer = [args.torch_python, str(HERE / "train_peer.py"), torch_mode]
        contenders.append(Contender(f"torchvision, compile {torch_mode}", peer))
    probe = subprocess.run(
        [*own, "probe", json.dumps(args.sizes)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **QUIET},
        check=True,
    )
    device = json.loads(probe.stdout.splitlines()[-1].removeprefix("bench "))
    on_cpu = device["platform"] == "cpu"
    print(f"`{shlex.join(['python', *sys.argv])}`\n")
    print(
        f"One {device['kind']} on {platform.machine()}, {os.cpu_count()} CPUs; Python "
        f"{platform.python_version()}, {device['versions']}. Matmul peak measured: "
        + ", ".join(f"{x / 1e12:.3g} TFLOP/s {name}" for name, x in device["peak"].items())
        + ".\n"
    )
    cpu_head = (" / peer, CPU time |", "---:|") if on_cpu else ("", "")
    print(
        "| | px | batch | dtype | | images/s | / peer |" + cpu_head[0] + " TFLOP/s | of peak "
        "| peak GB | compile s |"
    )
    print("|---|---:|---:|---|---|---:|---:|" + cpu_head[1] + "---:|---:|---:|---:|", flush=True)
    base = max(MULTIPLY_ADDS)
    for mode, size, dtype, batch in itertools.product(
        args.modes, args.sizes, args.dtypes, args.batches
    ):
        share = device["operations"][str(size)] / device["operations"][str(base)]
        forward = 2 * MULTIPLY_ADDS.get(size, share * MULTIPLY_ADDS[base])
        case = Case(mode, size, batch, dtype, args.seconds)
        taking_part = contenders
        if args.feed and mode == "train":
            taking_part = [contenders[0], Contender(FED, [*own, "fed"])]
            taking_part += contenders[1:]
        found = measure(taking_part, case, args.turns)
        peak = device["peak"][dtype]
        for line in rows(case, found, PASSES[mode] * forward, peak, on_cpu):
            print(line, flush=True)


if __name__ == "__main__":
    main()
