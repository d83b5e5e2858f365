"""The forward pass of one file of weights: ours, and its ONNX export in onnxruntime, in turns.

    python tools/bench_onnx.py FILE [--size 384] [--batches 1 4] [--turns 7]

Both have the machine's cores, float32 and the preprocessing inside, and are asked for `pool`. The
ratios are medians over turns of ours' time to theirs: above 1 onnxruntime is the faster. Its
threads are told not to spin while they wait, which CPU seconds would count. Needs the extra "onnx"
and onnxruntime.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import onnxruntime

from thyrojax import weights
from thyrojax.weights.network import network_of, preprocess


def exported(file: Path, size: int, folder: Path) -> onnxruntime.InferenceSession:
    """A session on the file's export for images of one size."""
    path = folder / "network.onnx"
    command = ["-m", "thyrojax.cli", "weights", "convert", str(file), str(path)]
    subprocess.run([sys.executable, *command, "--input-size", str(size)], check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--size", type=int, default=384)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--turns", type=int, default=7)
    args = parser.parse_args()
    read = weights.read(args.file)
    model, variables = network_of(read)
    variables = jax.device_put(variables)

    @jax.jit
    def pool(variables: Any, images: jax.Array) -> jax.Array:
        ends: Any = model.apply(variables, preprocess(images, read.variant.preprocessing))
        return ends["pool"]

    with tempfile.TemporaryDirectory() as folder:
        session = exported(args.file, args.size, Path(folder))
    print(f"\njax {jax.__version__}, onnxruntime {onnxruntime.__version__}, {args.size} px\n")
    print("| batch | ours, images/s | ours / onnxruntime, wall | CPU time | largest difference |")
    print("|---:|---:|---:|---:|---:|")
    for batch in args.batches:
        shape = (batch, args.size, args.size, read.channels)
        images = np.random.default_rng(0).integers(0, 256, shape).astype(np.float32)
        ways: dict[str, Callable[[], np.ndarray]] = {
            "ours": lambda images=images: np.asarray(pool(variables, images)),
            "theirs": lambda images=images: session.run(["pool"], {"image": images})[0],
        }
        found = {name: way() for name, way in ways.items()}  # compiles
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for _ in range(args.turns):
            for name, way in ways.items():
                start = time.perf_counter(), time.process_time()
                way()
                taken[name].append((time.perf_counter() - start[0], time.process_time() - start[1]))
        pairs = list(zip(taken["ours"], taken["theirs"], strict=True))
        wall, cpu = (statistics.median(a[i] / b[i] for a, b in pairs) for i in (0, 1))
        speed = batch / statistics.median(seconds for seconds, _ in taken["ours"])
        apart = np.abs(found["ours"] - found["theirs"]).max()
        print(f"| {batch} | {speed:.1f} | {wall:.2f} | {cpu:.2f} | {apart:.1e} |", flush=True)


if __name__ == "__main__":
    main()
