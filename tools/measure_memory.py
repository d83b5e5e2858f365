"""Memory of the compiled training step of one device, by batch, micro-batches and recomputation.

    python tools/measure_memory.py [--sizes 384] [--batches 8 32] [--dtypes float32]
    python tools/measure_memory.py --with accumulate=4 --with accumulate=4,remat=true
    python tools/measure_memory.py --batches 8 --steps 3
    python tools/measure_memory.py --with members=3,member_mapping=vmap \
        --with members=3,member_mapping=unroll

Each line is a process of its own. Temporary memory is what XLA's compiled program says it needs
beside its arguments, the state and the batch, whose memory it reuses for its results. With
`--steps` it also takes steps: `peak` is then the high-water mark of the process while it does so
(on an accelerator, of the device), and `time` the median step's over that of the first line of the
same size, batch and dtype; on a CPU, which others may be using, by CPU time. Only then do compile
times tell what a run pays: without steps, machine code is left unoptimised.
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
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PLAIN = ""


def measured(case: dict[str, Any], fields: str, steps: int) -> dict[str, Any]:
    """Figures of one case in this process: bytes, and seconds of each step after the first."""
    import jax
    import numpy as np
    from train_own import configured, peak_bytes

    from thyrojax.train.members import train_members
    from thyrojax.train.schedule import make_optimizer
    from thyrojax.train.state import abstract_state
    from thyrojax.train.step import make_train_step

    config = configured(fields, case)
    optimizer = make_optimizer(config, 10_000)
    state = abstract_state(config, optimizer)
    rng = np.random.default_rng(0)
    rows = (config.batch_size,) if config.members == 1 else (config.batch_size, config.members)
    shape = (*rows, config.input_size, config.input_size, 1)
    batch: dict[str, Any] = {
        "image": rng.integers(0, 256, shape, np.uint8),
        "label": np.arange(np.prod(rows), dtype=np.int32).reshape(rows) % 2,
    }
    of_one = make_train_step(config, optimizer, np.ones(2, np.float32), axis_name=None)
    train_step = train_members(config, of_one)
    lowered = jax.jit(train_step, donate_argnums=0).lower(state, batch)
    start = time.perf_counter()
    program = lowered.compile()
    found: dict[str, Any] = {"compile_seconds": time.perf_counter() - start}
    memory = program.memory_analysis()
    found["temporary"] = memory.temp_size_in_bytes
    found["arguments"] = memory.argument_size_in_bytes
    if steps:
        device = jax.local_devices()[0]
        clock = time.process_time if device.platform == "cpu" else time.perf_counter
        held = jax.device_put(jax.tree.map(lambda x: np.full(x.shape, 0.01, x.dtype), state))
        batch = jax.device_put(batch)
        _forget_peak()
        found["seconds"] = []
        for _ in range(steps + 1):
            start = clock()
            held, metrics = program(held, batch)
            jax.block_until_ready((held, metrics))
            found["seconds"].append(clock() - start)
        del found["seconds"][0]
        found["peak"] = peak_bytes()
    return found


def _forget_peak() -> None:
    """That compiling took more must not show: Linux' high-water mark starts from here."""
    Path("/proc/self/clear_refs").write_text("5")


def line_of(case: dict[str, Any], fields: str, found: dict[str, Any], first: dict[str, Any]) -> str:
    """The table's line; `first` are the figures that time is told against."""
    ran = ["", ""]
    if "seconds" in found:
        ran[0] = f"{found['peak'] / 1e6:,.0f}"
        if "seconds" in first:
            ratio = statistics.median(found["seconds"]) / statistics.median(first["seconds"])
            ran[1] = f"{ratio:.2f}"
    start = f"| {case['size']} | {case['batch']} | {case['dtype']} | {fields or 'plain'} |"
    if "failed" in found:
        return f"{start} {found['failed']} | | | | |"
    return (
        f"{start} {found['temporary'] / 1e6:,.0f} | {found['arguments'] / 1e6:,.0f} | {ran[0]}"
        f" | {ran[1]} | {found['compile_seconds']:.0f} |"
    )


def in_its_own_process(case: dict[str, Any], fields: str, steps: int) -> dict[str, Any]:
    """`measured` elsewhere; {"failed": reason} where it cannot be done."""
    environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    if (
        not steps
    ):  # nothing will run: machine code need not be good, and buffers do not depend on it
        flags = environment.get("XLA_FLAGS", "")
        environment["XLA_FLAGS"] = f"{flags} --xla_backend_optimization_level=0".strip()
    command = [sys.executable, __file__, "--case", json.dumps([case, fields, steps])]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"ended with {done.returncode}"]
        return {"failed": lines[-1][:120]}
    return json.loads(done.stdout.splitlines()[-1])


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[299, 384], metavar="PX")
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--dtypes", nargs="+", default=["float32"])
    parser.add_argument(
        "--with",
        action="append",
        default=[],
        dest="variants",
        metavar="FIELD=VALUE[,...]",
        help="one more line: with these fields of the configuration",
    )
    parser.add_argument("--steps", type=int, default=0, help="taken for peak and time; 0 = none")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.case:
        print(json.dumps(measured(*json.loads(args.case))))
        return
    print(f"`{shlex.join(['python', *sys.argv])}`, {platform.machine()}, {os.cpu_count()} CPUs\n")
    print("| px | batch | dtype | | temporary MB | arguments MB | peak MB | time | compile s |")
    print("|---:|---:|---|---|---:|---:|---:|---:|---:|", flush=True)
    for size, dtype, batch in itertools.product(args.sizes, args.dtypes, args.batches):
        case = {"size": size, "batch": batch, "dtype": dtype}
        first: dict[str, Any] | None = None
        for fields in (PLAIN, *args.variants):
            found = in_its_own_process(case, fields, args.steps)
            first = first or found
            print(line_of(case, fields, found, first), flush=True)


if __name__ == "__main__":
    main()
