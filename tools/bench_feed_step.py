"""What a feed adds to the training step: the same step on one constant batch, and fed.

    python tools/bench_feed_step.py [--size 384] [--batch 8] [--turns 7] [--dtype float32]

Contenders take turns, so that all see the same machine. Each turn's time is divided by that of the
constant batch in the same turn; the table has the medians. At most 1.03 is demanded of the resident
feed. Frames are noise of 800x600. Needs jax, flax, optax and numpy; for the stream feed, all that
training needs.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np

from thyrojax.config import Config
from thyrojax.data import resident, resident_frames
from thyrojax.data.dataset import Record, frame_digest
from thyrojax.data.records import Box
from thyrojax.train.feeds import scanned_steps
from thyrojax.train.mapping import make_mapping, map_over_devices
from thyrojax.train.schedule import make_optimizer
from thyrojax.train.state import AXIS, create_state, random_variables
from thyrojax.train.step import make_score_step, make_train_step

FRAMES = 64
HEIGHT, WIDTH = 600, 800
MOST = 1.03


class NoiseFrames:
    """A set of noise with a nodule in each frame."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.frames = rng.integers(0, 256, (FRAMES, HEIGHT, WIDTH), np.uint8)
        self.records = [self._record(number, rng) for number in range(FRAMES)]

    def _record(self, number: int, rng: np.random.Generator) -> Record:
        x, y = (int(edge) for edge in rng.integers(100, 350, 2))
        width, height = (int(side) for side in rng.integers(60, 240, 2))
        names = ("tirads", "composition", "echogenicity", "calcification", "margin", "shape")
        digest = frame_digest(self.frames[number])
        return Record(
            image_id=f"noise-{number}",
            patient_id=f"noise-{number}",
            box=Box(x, y, x + width, y + height),
            label=number % 2,
            size_mm=None,
            pixel_spacing_mm=None,
            reader_label=None,
            image_sha256=digest,
            frame_sha256=digest,
            height=HEIGHT,
            width=WIDTH,
            perceptual_hash="",
            **dict.fromkeys(names),
        )

    def frame(self, index: int) -> np.ndarray:
        return self.frames[index]


def contenders(config: Config, steps: int) -> dict[str, Callable[[], None]]:
    """Name to a function that takes `steps` steps and waits for them."""
    optimizer = make_optimizer(config, 10_000)
    train_step = make_train_step(config, optimizer, np.ones(2, np.float32))
    mapping = make_mapping("pmap", train_step, make_score_step(config), config.batch_size)
    frames = NoiseFrames()
    held = resident_frames.load(frames, np.arange(FRAMES), config, AXIS, mapping.devices)
    make = resident.make_batch(config, FRAMES, AXIS, held.n_devices, held.sharded)
    variables = random_variables(config)

    def started() -> SimpleNamespace:
        copied = jax.tree.map(lambda x: jax.numpy.array(x), variables)
        return SimpleNamespace(state=mapping.put(create_state(copied, optimizer, config)), step=0)

    def mapped(count: int) -> Any:
        return map_over_devices(
            "pmap",
            scanned_steps(train_step, make, count),
            ("state", "rows", "all"),
            ("state", "all"),
            mapping.devices,
            donate=True,
        )

    one_batch = map_over_devices("pmap", make, ("rows", "all"), ("rows",), mapping.devices)(
        held.frames, np.int32(0)
    )
    constant = map_over_devices(
        "pmap", train_step, ("state", "rows"), ("state", "all"), mapping.devices, donate=True
    )
    single, scan = mapped(1), mapped(steps)
    of = {name: started() for name in ("constant", "single", "scan")}

    def on_constant() -> None:
        mine = of["constant"]
        for _ in range(steps):
            mine.state, _ = constant(mine.state, one_batch)
        jax.block_until_ready(mine.state)

    def one_by_one() -> None:
        mine = of["single"]
        for _ in range(steps):
            mine.state, _ = single(mine.state, held.frames, np.int32(mine.step))
            mine.step += 1
        jax.block_until_ready(mine.state)

    def in_a_scan() -> None:
        mine = of["scan"]
        mine.state, _ = scan(mine.state, held.frames, np.int32(mine.step))
        mine.step += steps
        jax.block_until_ready(mine.state)

    return {
        "constant batch": on_constant,
        "resident feed": one_by_one,
        f"resident feed, {steps} steps a dispatch": in_a_scan,
    }


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size", type=int, default=384)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--steps", type=int, default=2, help="in a turn, and in a dispatch")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    args = parser.parse_args()
    config = replace(
        Config(feed="resident", gain=0.1, contrast=0.1),
        input_size=args.size,
        batch_size=args.batch,
        dtype=args.dtype,
    )
    running = contenders(config, args.steps)
    for run in running.values():
        run()  # compiles
    seconds: dict[str, list[float]] = {name: [] for name in running}
    names = list(running)
    for turn in range(args.turns):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            start = time.perf_counter()
            running[name]()
            seconds[name].append((time.perf_counter() - start) / args.steps)
    device = jax.local_devices()[0]
    print(
        f"Training step at {args.size} px, batch {args.batch}, {args.dtype}, on "
        f"{jax.local_device_count()} x {device.device_kind}, jax {jax.__version__}; "
        f"{args.turns} turns\n"
    )
    print("| step on | ms, median | / constant batch, median | demanded |")
    print("|---|---:|---:|---|")
    for name, mine in seconds.items():
        ratios = [x / y for x, y in zip(mine, seconds["constant batch"], strict=True)]
        ratio = statistics.median(ratios)
        verdict = "" if name == names[0] else f"{MOST}: {'held' if ratio <= MOST else 'missed'}"
        print(f"| {name} | {1e3 * statistics.median(mine):,.1f} | {ratio:.3f} | {verdict} |")


if __name__ == "__main__":
    main()
