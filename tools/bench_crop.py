"""Crops a second inside jit: the resident feed's samplers side by side, on the device at hand.

    python tools/bench_crop.py [--size 384 299] [--frame 800x600 560x360] [--batch 32]

Every candidate cuts the same windows of the same frames: boxes of 60 to 200 pixels with margins of
0 to 100. They take turns, so that a busy minute hits all alike; the best turn counts. `bytes` is
what the compiled program says it moves for a crop, over the least possible: the window's pixels
read once and the crop written once. `bandwidth` is that least, per second, over what a plain copy
moves on the device. The feed's rows are whole batches with their draws, one step and a scan over
four. OpenCV, where it is installed, runs on as many threads as there are cores.
Read the figures as ratios: machines differ. Needs jax and numpy.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from thyrojax.config import Config
from thyrojax.data import resample, resident
from thyrojax.data.crop import Window, crop_numpy, crop_opencv
from thyrojax.data.resident_frames import ResidentFrames

N_FRAMES = 64
LARGEST = 400  # side of the largest window
SCANNED = 4  # steps of a scan


def draw_windows(count: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Frame numbers [count] and windows [count, 4] (left, top, width, height), int32."""
    random = np.random.default_rng(0)
    side = random.integers(60, 201, count) + 2 * random.integers(0, 101, count)
    left = random.integers(100, width - 100, count) - side // 2
    top = random.integers(100, height - 100, count) - side // 2
    windows = np.stack([left, top, side, side], axis=1).astype(np.int32)
    return random.integers(0, N_FRAMES, count).astype(np.int32), windows


# ---- Candidates: (frames, frame, window) to a crop, for one row; border "constant".


def product_sampler(sampler: resample.Sampler, size: int) -> Callable[..., Any]:
    def one(frames: Any, frame: Any, window: Any) -> Any:
        rows, columns = taps(frames, window, size)
        rows, columns = lax.optimization_barrier((rows, columns))
        across = resample.Taps(*(x[None, :] for x in columns))
        return sampler(frames, frame, resample.Taps(*(x[:, None] for x in rows)), across)

    return one


def taps(frames: Any, window: Any, size: int) -> tuple[resample.Taps, resample.Taps]:
    left, top, width, height = window
    rows, columns = resample.grid_places(height, size), resample.grid_places(width, size)
    return (
        resample.frame_taps(rows, top, jnp.int32(frames.shape[1]), "constant"),
        resample.frame_taps(columns, left, jnp.int32(frames.shape[2]), "constant"),
    )


def map_coordinates(size: int) -> Callable[..., Any]:
    """jax.scipy's, on the frame as floats: of whole numbers it rounds the result."""

    def one(frames: Any, frame: Any, window: Any) -> Any:
        left, top, width, height = window
        row, down = resample.grid_places(height, size)
        column, across = resample.grid_places(width, size)
        places = [
            jnp.broadcast_to((top + row + down)[:, None], (size, size)),
            jnp.broadcast_to((left + column + across)[None], (size, size)),
        ]
        pixels = frames[frame].astype(jnp.float32)
        return jax.scipy.ndimage.map_coordinates(pixels, places, order=1)

    return one


def rows_then_columns(size: int) -> Callable[..., Any]:
    """Two gathers of whole rows of the frame, then two of columns of what they make."""

    def one(frames: Any, frame: Any, window: Any) -> Any:
        rows, columns = taps(frames, window, size)
        above, below = frames[frame, rows.first], frames[frame, rows.second]
        squeezed = above * rows.first_weight[:, None] + below * rows.second_weight[:, None]
        squeezed = lax.optimization_barrier(squeezed)
        before, after = squeezed[:, columns.first], squeezed[:, columns.second]
        return before * columns.first_weight[None] + after * columns.second_weight[None]

    return one


def products_on_a_slice(size: int) -> Callable[..., Any]:
    """Two matrix products on a slice that holds any window."""

    def one(frames: Any, frame: Any, window: Any) -> Any:
        left, top, _, _ = window
        rows, columns = taps(frames, window, size)
        height, width = (min(LARGEST, length) for length in frames.shape[1:])
        first_row = jnp.clip(top, 0, frames.shape[1] - height)
        first_column = jnp.clip(left, 0, frames.shape[2] - width)
        cut = lax.dynamic_slice(frames, (frame, first_row, first_column), (1, height, width))
        moved = (
            rows._replace(first=rows.first - first_row, second=rows.second - first_row),
            columns._replace(
                first=columns.first - first_column, second=columns.second - first_column
            ),
        )
        return resample.multiply(cut, jnp.int32(0), *moved)

    return one


# ---- Timing.


def compiled(one: Callable[..., Any], *arguments: Any) -> tuple[Callable[[], Any], float]:
    """A call that cuts a batch, and the bytes that the program says it moves."""
    program = jax.jit(jax.vmap(one, (None, 0, 0))).lower(*arguments).compile()
    cost = program.cost_analysis() or {}
    return lambda: program(*arguments), float(cost.get("bytes accessed", np.nan))


def copy_bandwidth() -> float:
    """Bytes a second of reading and writing a large array on the device."""
    held = [jnp.zeros(2**26, jnp.float32)]
    add = jax.jit(lambda x: x + 1.0, donate_argnums=0)  # in place: no new pages are asked for

    def copy() -> Any:
        held[0] = add(held[0])
        return held[0]

    return 2 * held[0].nbytes / best({"copy": copy}, 10)["copy"]


def best(calls: dict[str, Callable[[], Any]], turns: int) -> dict[str, float]:
    """Least seconds of each, after one call that does not count."""
    seconds = dict.fromkeys(calls, np.inf)
    for turn in range(turns + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            if turn:
                seconds[name] = min(seconds[name], time.perf_counter() - start)
    return seconds


def opencv(
    frames: np.ndarray, frame: np.ndarray, windows: np.ndarray, size: int
) -> Callable[[], Any] | None:
    try:
        import cv2
    except ModuleNotFoundError:
        return None
    cv2.setNumThreads(1)
    pool = ThreadPoolExecutor(os.cpu_count())

    def one(row: int) -> np.ndarray:
        return crop_opencv(frames[frame[row]], Window(*windows[row].tolist()), size, "constant")

    return lambda: list(pool.map(one, range(len(frame))))


def feed_calls(frames: Any, batch: int, size: int) -> dict[str, Callable[[], Any]]:
    """The feed's own batches, one by one and as one scan over steps."""
    height, width = frames.shape[1:]
    number = np.arange(4 * N_FRAMES, dtype=np.int32)
    random = np.random.default_rng(1)
    side = random.integers(60, 201, (len(number), 2))
    corner = np.stack(
        [
            random.integers(0, width - 200, len(number)),
            random.integers(0, height - 200, len(number)),
        ],
        axis=1,
    )
    same = np.ones_like(number)
    held = ResidentFrames(
        frames=frames,
        frame=number % N_FRAMES,
        height=height * same,
        width=width * same,
        box=np.concatenate([corner, corner + side], axis=1).astype(np.int32),
        label=number % 2,
        place=number,
        margin_low=0 * same,
        margin_high=100 * same,
        bad=np.zeros(0, bool),
        mixing=np.zeros((2, 1025), np.float32),
    )
    held = jax.tree.map(jnp.asarray, held)
    make = resident.make_batch(Config(batch_size=batch, input_size=size), len(number))
    # Without the last axis: as a program's result, XLA lays it out anew, which no train step does.
    step = jax.jit(lambda held, step: make(held, step)["image"][..., 0])

    def scanned(held: ResidentFrames, first: Any) -> Any:
        kernel = jnp.ones((3, 3, 1, 8))

        def body(total: Any, step: Any) -> tuple[Any, None]:
            image = lax.optimization_barrier(make(held, step)["image"])  # really written
            # Stands for the network: a loop of plain arithmetic alone XLA runs on one core.
            features = lax.conv_general_dilated(
                image[:, ::8, ::8],
                kernel,
                (2, 2),
                "SAME",
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )
            return total + features.sum(), None

        return lax.scan(body, jnp.float32(0), first + jnp.arange(SCANNED))[0]

    scan = jax.jit(scanned)
    return {
        "feed, one step": lambda: step(held, 0),
        "feed, one scan": lambda: scan(held, 0),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", nargs="+", type=int, default=[384, 299], metavar="PX")
    parser.add_argument("--frame", nargs="+", default=["800x600", "560x360"], metavar="WxH")
    parser.add_argument("--batch", type=int, default=32, metavar="N")
    parser.add_argument("--turns", type=int, default=20, metavar="N")
    args = parser.parse_args()

    device = jax.devices()[0]
    bandwidth = copy_bandwidth()
    print(
        f"jax {jax.__version__}, {device.platform} {device.device_kind}, {os.cpu_count()} CPUs; "
        f"a copy moves {bandwidth / 1e9:,.1f} GB/s"
    )
    for text in args.frame:
        width, height = (int(length) for length in text.split("x"))
        host = np.random.default_rng(2).integers(0, 256, (N_FRAMES, height, width), np.uint8)
        frames = jnp.asarray(host)
        frame, windows = draw_windows(args.batch, height, width)
        ends = np.minimum(windows[:, :2] + windows[:, 2:], [width, height])
        inside = np.prod(ends - np.maximum(windows[:, :2], 0), axis=1).mean()
        for size in args.size:
            least = inside + 4 * size * size
            candidates = {
                "gather": product_sampler(resample.gather, size),
                "map_coordinates": map_coordinates(size),
                "rows, then columns": rows_then_columns(size),
                "products on a slice": products_on_a_slice(size),
                "products on the frame": product_sampler(resample.multiply, size),
            }
            calls, moved = {}, {}
            where = (frames, jnp.asarray(frame), tuple(jnp.asarray(windows.T)))
            for name, one in candidates.items():
                calls[name], total = compiled(one, *where)
                moved[name] = total / args.batch / least
            reference = crop_numpy(host[frame[0]], Window(*windows[0].tolist()), size, "constant")
            wrong = {
                name: float(np.abs(np.asarray(call()[0]) - reference).max())
                for name, call in calls.items()
            }
            calls |= feed_calls(frames, args.batch, size)
            if (peer := opencv(host, frame, windows, size)) is not None:
                calls["OpenCV threads"] = peer
            seconds = best(calls, args.turns)

            print(f"\n{size}x{size} from {text}, batches of {args.batch}; {least / 1e3:,.0f} kB")
            print(f"{'':<22} {'images/s':>10} {'bytes':>7} {'bandwidth':>10} {'error':>9}")
            for name, found in seconds.items():
                rate = args.batch * (SCANNED if name.endswith("scan") else 1) / found
                print(
                    f"{name:<22} {rate:>10,.0f} "
                    + (f"{moved[name]:>6.1f}x" if name in moved else f"{'':>7}")
                    + f" {rate * least / bandwidth:>10.1%}"
                    + (f" {wrong[name]:>9.1e}" if name in wrong else "")
                )


if __name__ == "__main__":
    main()
