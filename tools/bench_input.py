"""Every input feed and its peers in one table: 384 x 384 crops a second from 800 x 600 frames.

    python tools/bench_input.py [--torch-python PYTHON] [--tf-python PYTHON] > table.md

Frames of simulated patients are enlarged, written as JPEG (quality 95) and PNG, and built into
sets. Each contender is a process of its own, in the Python that has what it needs, and waits its
turn; the turns rotate, so that a busy moment of the machine hits all alike. A turn first takes a
few batches that may have been cut ahead, then counts for some seconds. Peers cut the windows that
our feed draws: same frames, same margins, batches of 32 in float32.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import functools
import importlib
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import input_peers
import numpy as np
from input_peers import BATCH, FRAME_HEIGHT, FRAME_WIDTH, SIZE, THREADS

SKIPPED = 8  # batches of a turn that are not counted; more than any contender keeps ready
WINDOWS = 2048  # that the peers cut, again and again


# ---- Our feeds.


def our_stream(folder: Path, name: str, cache_mb: int = 0) -> Iterator[Any]:
    from thyrojax.config import Config
    from thyrojax.data.dataset import open_dataset
    from thyrojax.data.stream import TrainFeed

    dataset = open_dataset(folder / name, cache_mb)
    if cache_mb:
        for index in range(len(dataset)):
            dataset.frame(index)
    config = Config(input_size=SIZE, batch_size=BATCH)
    return TrainFeed(dataset, np.arange(len(dataset), dtype=np.int32), config).batches(seed=0)


def our_resident(folder: Path) -> Iterator[Any]:
    import jax

    from thyrojax.config import Config
    from thyrojax.data import resident, resident_frames
    from thyrojax.data.dataset import open_dataset

    dataset = open_dataset(folder / "jpeg")
    config = Config(input_size=SIZE, batch_size=BATCH)
    indices = np.arange(len(dataset), dtype=np.int32)
    loaded = resident_frames.load(dataset, indices, config, devices=jax.local_devices()[:1])
    batch = jax.jit(resident.make_batch(config, len(indices)))
    step = 0
    while True:
        yield jax.block_until_ready(batch(loaded.frames, step))
        step += 1


class Contender(NamedTuple):
    what: str
    batches: Callable[[Path], Iterator[Any]]
    module: str  # that its Python must have
    python: str = ""  # the option that names it; "" = the running one
    least: Mapping[str, float] = MappingProxyType({})  # demanded: times a contender, or "" images/s


CONTENDERS = {
    "torch": Contender(
        f"torch DataLoader + PIL, {THREADS} workers, JPEG",
        input_peers.torch_loader,
        "torch",
        "torch_python",
    ),
    "tf.data": Contender(
        "tf.data, decode_and_crop_jpeg", input_peers.tf_data, "tensorflow", "tf_python"
    ),
    "PIL": Contender(f"PIL, {THREADS} threads, JPEG", input_peers.pil_threads, "PIL"),
    "OpenCV": Contender(f"OpenCV, {THREADS} threads, JPEG", input_peers.opencv_threads, "cv2"),
    "stream, JPEG": Contender(
        "stream feed from JPEG",
        functools.partial(our_stream, name="jpeg"),
        "thyrojax",
        least={"torch": 1.8, "OpenCV": 0.9},
    ),
    "stream, PNG": Contender(
        "stream feed from PNG", functools.partial(our_stream, name="png"), "thyrojax"
    ),
    "stream, cache": Contender(
        "stream feed from the RAM cache",
        functools.partial(our_stream, name="jpeg", cache_mb=1024),
        "thyrojax",
        least={"": 4000.0},
    ),
    "resident": Contender(
        "resident feed", our_resident, "thyrojax.data.resident", least={"": 2500.0}
    ),
}


def work(name: str, folder: Path) -> None:
    """A contender's process: for each line of stdin (seconds) a line of JSON with its rate."""
    contender = CONTENDERS[name]
    try:
        importlib.import_module(contender.module)
        batches = contender.batches(folder)
        next(batches)
    except ModuleNotFoundError as error:
        print(json.dumps({"missing": f"{platform.python_version()} has no {error.name}"}))
        return
    print(json.dumps({"ready": device() if name == "resident" else ""}), flush=True)
    for line in sys.stdin:
        for _ in range(SKIPPED):
            next(batches)
        count, start, used = 0, time.perf_counter(), cpu_seconds()
        while time.perf_counter() - start < float(line):
            next(batches)
            count += 1
        rate = count * BATCH / (time.perf_counter() - start)
        used = 1000.0 * (cpu_seconds() - used) / (count * BATCH)
        print(json.dumps({"rate": rate, "cpu_ms": used}), flush=True)
    os._exit(0)  # some contenders' threads would wait for batches that nobody takes


def cpu_seconds() -> float:
    """Of this process and, where /proc tells, its children."""
    seconds = time.process_time()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[1]) == os.getpid():
                seconds += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return seconds


def device() -> str:
    import jax

    return f" on {jax.local_devices()[0].device_kind}"


# ---- The run.


def make_sets(folder: Path, count: int) -> None:
    """Frames as files and sets, and the windows that our feed draws from them."""
    import cv2

    from thyrojax.config import Config
    from thyrojax.data.builder import build
    from thyrojax.data.crop import window
    from thyrojax.data.dataset import open_dataset
    from thyrojax.data.records import load_image
    from thyrojax.data.sources import read_source
    from thyrojax.data.stream import TrainFeed

    nodules = read_source("phantom", None, n_patients=count).nodules[:count]
    for name, options in (("jpeg", [cv2.IMWRITE_JPEG_QUALITY, 95]), ("png", [])):
        lines = []
        for number, nodule in enumerate(nodules):
            frame = load_image(nodule.image)
            large = cv2.resize(frame, (FRAME_WIDTH, FRAME_HEIGHT), interpolation=cv2.INTER_CUBIC)
            cv2.imwrite(str(folder / f"{number}.{name}"), large, options)
            x, y = FRAME_WIDTH / frame.shape[1], FRAME_HEIGHT / frame.shape[0]
            edges = [round(edge * (x, y)[axis % 2]) for axis, edge in enumerate(nodule.box)]
            lines.append([f"{number}.{name}", number, f"p{number}", *edges, nodule.label])
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            header = "image,image_id,patient_id,x_min,y_min,x_max,y_max,label"
            writer.writerows([header.split(","), *lines])
        build(read_source("csv", folder / f"{name}.csv"), folder / name, mask_overlay=False)

    dataset = open_dataset(folder / "jpeg")
    config = Config(input_size=SIZE, batch_size=BATCH)
    feed = TrainFeed(dataset, np.arange(len(dataset), dtype=np.int32), config)
    rows = []
    for step in range(WINDOWS // BATCH):
        drawn = feed.draws(0, step)
        for index, margin in zip(drawn["index"].tolist(), drawn["margin"].tolist(), strict=True):
            record = dataset.records[index]
            cut = window(
                record.box, margin, config.crop_shape, config.border, record.height, record.width
            )
            rows.append([str(folder / f"{record.image_id}.jpeg"), *cut])
    (folder / "windows.json").write_text(json.dumps(rows))


def start(name: str, folder: Path, args: argparse.Namespace) -> subprocess.Popen[str]:
    python = getattr(args, CONTENDERS[name].python) if CONTENDERS[name].python else sys.executable
    return subprocess.Popen(
        [python, __file__, "--work", name, "--folder", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def ask(process: subprocess.Popen[str], line: str = "") -> dict[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    if line:
        process.stdin.write(line + "\n")
        process.stdin.flush()
    answer = process.stdout.readline()
    return json.loads(answer) if answer else {"missing": "it stopped with an error, see above"}


def machine() -> str:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [x for x in cpuinfo.read_text().splitlines() if x.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    return f"{model}, {THREADS} of {os.cpu_count()} cores"


def versions(python: str, *packages: str) -> str:
    code = (
        "import importlib.metadata as m, platform, sys\n"
        "found = [f'Python {platform.python_version()}']\n"
        "for name in sys.argv[1:]:\n"
        "    try: found.append(f'{name} {m.version(name)}')\n"
        "    except m.PackageNotFoundError: pass\n"
        "print(', '.join(found))"
    )
    return subprocess.run(
        [python, "-c", code, *packages], capture_output=True, text=True, check=True
    ).stdout.strip()


def table(
    turns: dict[str, list[dict[str, float]]], missing: dict[str, str], notes: dict[str, str]
) -> str:
    rates = {name: [turn["rate"] for turn in found] for name, found in turns.items()}
    middle = {name: statistics.median(found) for name, found in rates.items()}
    lines = [
        "| feed | images/s, median | range | CPU ms/image | / torch | / OpenCV | demanded |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    for name, contender in CONTENDERS.items():
        if name in missing:
            lines.append(f"| {contender.what} | left out: {missing[name]} | | | | | |")
            continue
        ratios = [
            f"{middle[name] / middle[peer]:.2f}" if peer in middle else ""
            for peer in ("torch", "OpenCV")
        ]
        demands = [
            f"{least:g} {'x ' + peer if peer else 'images/s'}: "
            + ("held" if middle[name] >= least * middle.get(peer, 1.0) else "MISSED")
            for peer, least in contender.least.items()
            if not peer or peer in middle
        ]
        found = rates[name]
        used = statistics.median(turn["cpu_ms"] for turn in turns[name])
        lines.append(
            f"| {contender.what}{notes[name]} | {middle[name]:,.0f} "
            f"| {min(found):,.0f} to {max(found):,.0f} | {used:.2f} "
            f"| {' | '.join(ratios)} | {'; '.join(demands)} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch-python", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--tf-python", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, metavar="NAME")
    parser.add_argument("--frames", type=int, default=48, metavar="N")
    parser.add_argument("--seconds", type=float, default=1.5, help="of each turn")
    parser.add_argument("--repeat", type=int, default=7, metavar="N", help="turns of each")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        work(args.work, args.folder)
        return

    if hasattr(os, "sched_setaffinity"):  # inherited by every contender
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_sets(folder, args.frames)
        processes, missing, notes = {}, {}, {}
        for name in args.only or CONTENDERS:
            process = start(name, folder, args)
            answer = ask(process)
            if "missing" in answer:
                missing[name] = answer["missing"]
            else:
                processes[name], notes[name] = process, answer["ready"]
        turns: dict[str, list[dict[str, float]]] = {name: [] for name in processes}
        names = list(processes)
        for turn in range(args.repeat):
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                turns[name].append(ask(processes[name], str(args.seconds)))
        for process in processes.values():
            process.communicate()
    for name in CONTENDERS:
        if name not in turns:
            missing.setdefault(name, "not asked for")
    print(f"`{shlex.join(['python', *sys.argv])}` on {machine()}")
    packages = ("thyrojax", "numpy", "opencv-python-headless", "pillow", "grain", "jax")
    print(f"- ours: {versions(sys.executable, *packages)}")
    print(f"- torch: {versions(args.torch_python, 'torch', 'pillow')}")
    print(f"- tf.data: {versions(args.tf_python, 'tensorflow-cpu', 'tensorflow')}\n")
    print(table(turns, missing, notes))


if __name__ == "__main__":
    main()
