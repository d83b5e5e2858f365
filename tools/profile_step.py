"""Where the time of a training step goes: its floor first, then XLA's profile of one step by kind.

    python tools/profile_step.py [--size 384] [--batch 8] [--dtype float32] [--with FIELD=VALUE,...]

The floor is the step's operations on paper over the measured matrix product, and the bytes that XLA
counts (every operand of every fusion, caches or not) over the measured copy. The profile adds up
what each operation of the compiled step took; shares hold on a busy machine too, milliseconds do
not. An operation counts as what is heaviest in it. Needs jax, flax, optax and numpy.
"""

from __future__ import annotations

import argparse
import os
import re
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from bench_train import MULTIPLY_ADDS, PASSES
from train_own import configured, matmul_peak

from thyrojax.config import Config
from thyrojax.train.schedule import make_optimizer
from thyrojax.train.state import create_state, random_variables
from thyrojax.train.step import make_train_step

COPIED_BYTES = 1 << 28


class Instruction(NamedTuple):
    """Of the compiled step: its name, what it computes, what lies in it, and whose it is."""

    key: str
    text: str
    inside: str
    source: str  # path through the network, with the transformations that made it


def compiled_step(config: Config) -> tuple[Any, Any, dict[str, np.ndarray]]:
    """The step of one device, a state and a batch of noise."""
    optimizer = make_optimizer(config, 1000)
    step = make_train_step(config, optimizer, np.ones(2, np.float32), axis_name=None)
    state = jax.device_put(create_state(random_variables(config), optimizer, config))
    shape = (config.batch_size, config.input_size, config.input_size, 1)
    batch = {
        "image": np.random.default_rng(0).integers(0, 256, shape, np.uint8),
        "label": np.arange(config.batch_size, dtype=np.int32) % 2,
    }
    return jax.jit(step, donate_argnums=0).lower(state, batch).compile(), state, batch


def copy_rate() -> float:
    """Bytes a second, read and written, of the best of several copies of a large array; on a CPU,
    which others may be using, a second of CPU time of each of its cores."""
    array = jnp.zeros(COPIED_BYTES // 4, jnp.float32)
    negative = jax.jit(lambda x: -x)
    negative(array).block_until_ready()
    on_cpu = jax.local_devices()[0].platform == "cpu"
    cores = len(os.sched_getaffinity(0)) if on_cpu else 1
    clock = time.process_time if on_cpu else time.perf_counter
    best = float("inf")
    for _ in range(5):
        start = clock()
        negative(array).block_until_ready()
        best = min(best, clock() - start)
    return 2 * COPIED_BYTES / best * cores


def instructions(text: str) -> dict[str, Instruction]:
    """Of a compiled program's text, by name."""
    bodies: dict[str, list[str]] = {}
    found: dict[str, str] = {}
    body: list[str] = []
    for line in text.splitlines():
        if start := re.match(r"(?:ENTRY )?%?([\w.\-]+) \(.*\{$", line):
            body = bodies.setdefault(start[1], [])
        elif one := re.match(r"\s+(?:ROOT )?%?([\w.\-]+) = (.*)$", line):
            found[one[1]] = one[2]
            body.append(one[2])
    made = {}
    for name, what in found.items():
        calls = re.search(r"calls=%?([\w.\-]+)", what)
        source = re.search(r'op_name="([^"]*)"', what)
        inside = "\n".join(bodies.get(calls[1], [])) if calls else what
        made[name] = Instruction(name, what, inside, source[1] if source else "")
    return made


def kind_of(one: Instruction, batch: int) -> str:
    """What an instruction counts as in the table."""
    back = "transpose(" in one.source
    way = "backward" if back else "forward"
    if " convolution(" in one.inside:
        if not back:
            return "convolution, forward"
        of_input = re.match(rf"\(?\w+\[{batch},", one.text)
        return f"convolution, gradient of the {'input' if of_input else 'kernel'}"
    if " dot(" in one.inside:
        return f"matrix product, {way}"
    if "reduce-window(" in one.inside:
        return f"average pool, {way}"
    if "/bn/" in one.source:
        return f"BatchNorm and ReLU, {way}"
    if re.match("transpose|copy", one.key):
        return "copies in another order"
    if "jvp(" in one.source or back:
        return f"other elementwise, {way}"
    return "copies, optimizer and the rest"


def durations(folder: Path) -> Iterator[tuple[str, float]]:
    """(instruction, seconds) of everything that a trace saw of compiled programs."""
    (path,) = folder.rglob("*.xplane.pb")
    for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
        for line in plane.lines:
            for event in line.events:
                stats = dict(event.stats)
                if "hlo_op" in stats:
                    yield str(stats["hlo_op"]), event.duration_ns / 1e9


def main() -> None:
    """Prints the floor and the table."""
    warnings.simplefilter("ignore")  # the profile's own
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size", type=int, default=384)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--with", default="", dest="fields", metavar="FIELD=VALUE[,...]")
    parser.add_argument("--most", type=int, default=12, help="single operations listed")
    args = parser.parse_args()
    case = {"size": args.size, "batch": args.batch, "dtype": args.dtype}
    step, state, batch = compiled_step(configured(args.fields, case))
    cost = step.cost_analysis()
    device = jax.local_devices()[0]
    print(f"One {device.device_kind}, jax {jax.__version__}, {args.fields or 'as configured'}\n")
    peak = matmul_peak(args.dtype, 2048 if device.platform == "cpu" else 8192)
    if args.size in MULTIPLY_ADDS:
        operations = 2 * MULTIPLY_ADDS[args.size] * PASSES["train"] * args.batch
        print(
            f"floor by operations: {operations / 1e9:,.0f} G at {peak / 1e12:.3g} T/s (measured): "
            f"{operations / peak:.3g} s"
        )
    rate = copy_rate()
    print(
        f"floor by bytes: {cost['bytes accessed'] / 1e9:,.1f} GB at {rate / 1e9:.3g} GB/s "
        f"(measured): {cost['bytes accessed'] / rate:.3g} s"
    )
    for _ in range(2):
        state, _ = step(state, batch)
    jax.block_until_ready(state)
    start, cpu = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            state, _ = step(state, batch)
            jax.block_until_ready(state)
            wall, cpu = time.perf_counter() - start, time.process_time() - cpu
        taken = Counter[str]()
        for name, seconds in durations(Path(folder)):
            taken[name] += seconds
    print(f"one step, profiled: {wall:.3g} s, {cpu:.3g} CPU s\n")
    known = instructions(step.as_text())
    kinds, numbers = Counter[str](), Counter[str]()
    for name, seconds in taken.items():
        kind = kind_of(known.get(name, Instruction(name, "", "", "")), args.batch)
        kinds[kind] += seconds
        numbers[kind] += 1
    whole = sum(taken.values())
    print("| kind | share | operations |\n|---|---:|---:|")
    for kind, seconds in kinds.most_common():
        print(f"| {kind} | {100 * seconds / whole:.1f} % | {numbers[kind]} |")
    print("\n| heaviest | share | |\n|---|---:|---|")
    for name, seconds in taken.most_common(args.most):
        one = known.get(name, Instruction(name, "", "", ""))
        layer = re.search(r"InceptionV3\)*/(.*)/", one.source)
        of = layer[1] if layer else name
        print(f"| {kind_of(one, args.batch)} | {100 * seconds / whole:.1f} % | {of} |")


if __name__ == "__main__":
    main()
