"""Time and memory of reading weights, side by side with what a user would do without thyrojax.

    python tools/bench_weights.py FILE... [--torch-python PYTHON] [--keras-python PYTHON]

Each read is a process of its own: imports first, then the clock and the memory's high-water mark
from there on. A `.pth` is also read by torch and copied into Flax's layout by hand, a `.h5` also by
Keras on JAX (building the model, `load_weights`, `get_weights`), where the named Python has them.
Read it as ratios: machines differ.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

MEASURE = """
import json, resource, sys, time

def memory(key):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(key))

def measure(read):
    before, start = memory("VmRSS"), time.perf_counter()
    arrays = read(sys.argv[1])
    total = sum(float(array.sum()) for array in arrays)  # touches every page
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "bytes": memory("VmHWM") - before, "sum": total}))
"""

OURS = """
import flax.traverse_util, h5py, numpy, safetensors
from thyrojax import weights
from thyrojax.weights import formats
for name in formats.FORMATS:
    formats.load(name)
measure(lambda path: list(weights.read(path).arrays.values()))
"""

TORCH = """
import numpy, torch

def read(path):
    state = torch.load(path, weights_only=True)
    arrays = []
    for name, value in state.items():
        array = value.numpy()
        if array.ndim == 4:
            array = numpy.ascontiguousarray(array.transpose(2, 3, 1, 0))
        arrays.append(array if array.ndim == 4 else array.copy())
    return arrays

measure(read)
"""

KERAS = """
import os
os.environ["KERAS_BACKEND"] = "jax"
import keras, numpy

def read(path):
    model = keras.applications.InceptionV3(weights=None, include_top=False)
    model.load_weights(path)
    return [numpy.asarray(array) for array in model.get_weights()]

measure(read)
"""


def run(python: str, code: str, path: Path) -> dict[str, float] | str:
    """One measurement in a process of its own; or the last line of why there is none."""
    done = subprocess.run(
        [python, "-c", MEASURE + code, str(path)],
        capture_output=True,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        check=False,
    )
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--torch-python", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--keras-python", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--repeat", type=int, default=5, metavar="N")
    args = parser.parse_args()

    print(f"Python {platform.python_version()}, {os.cpu_count()} CPUs, {platform.machine()}")
    print(
        f"{'file':<32} {'MB':>6}  {'reader':<9} {'seconds (min, median)':>22} {'memory / file':>14}"
    )
    for path in args.files:
        readers = {"thyrojax": (sys.executable, OURS)}
        if path.suffix == ".pth":
            readers["torch"] = (args.torch_python, TORCH)
        if path.suffix == ".h5":
            readers["keras"] = (args.keras_python, KERAS)
        found: dict[str, list[dict[str, float]]] = {}
        for _ in range(args.repeat):  # in turns, so that a busy minute hits all alike
            for name, (python, code) in readers.items():
                result = run(python, code, path)
                if isinstance(result, str):
                    print(f"{path.name:<32} {name}: {result}")
                else:
                    found.setdefault(name, []).append(result)
        files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
        size = sum(file.stat().st_size for file in files)
        for name, results in found.items():
            seconds = [result["seconds"] for result in results]
            memory = max(result["bytes"] for result in results) / size
            print(
                f"{path.name:<32} {size / 1e6:>6.1f}  {name:<9} {min(seconds):>10.2f}, "
                f"{statistics.median(seconds):>10.2f} {memory:>14.2f}"
            )


if __name__ == "__main__":
    main()
