"""A run on many chips, on paper: input, communication, checkpoints and hours, before any is rented.

Bytes and collectives are read from the training step itself, lowered for several devices. All else
is arithmetic on the options, which say where their defaults are from. Communication is not taken to
overlap with compute.

    python tools/plan_scale.py
    python tools/plan_scale.py --peak-tflops 918 --link-gb 400 --latency-us 20 --memory-gb 32 \\
        --chips-per-host 4
"""

from __future__ import annotations

import dataclasses
import os
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

CORES = 8  # of a host for each of its chips
DEVICES = 2  # that the step is lowered for; how many collectives it has does not depend on it


@dataclass(frozen=True)
class Inputs:
    """What the plan is made from."""

    preset: str = "guan2019"
    images: int = 1_000_000  # for training
    validation_images: int = 150_000
    epochs: float = 30.0
    chips: int = 64
    chips_per_host: int = 8
    chip_batch: int = 32  # images that each chip takes in a step
    size: int = 384
    gmac: float = 9.446  # 10^9 multiply-adds forward for one image of `size` (5.713 at 299)
    peak_tflops: float = 989.0  # bfloat16, dense: NVIDIA's data sheet of the H100 SXM
    peak_share: float = 0.25  # of it that the step reaches: ASSUMED, not measured
    memory_gb: float = 80.0
    link_gb: float = 50.0  # GB/s out of a chip: one 400 Gb/s adapter for each GPU
    latency_us: float = 30.0  # of a small all-reduce over all chips: ASSUMED, measure it
    frame_width: int = 800
    frame_height: int = 600
    stored_bytes_per_pixel: float = 0.186  # JPEG: mean of 387 frames of DDTI
    stream_rate: float = 1075.0  # images/s of one core from JPEG: 0.93 ms, docs/feeds.md
    disk_gb: float = 0.5  # GB/s that the shared disk takes: ASSUMED
    save_s: float = 0.7  # that a save stops the steps: measured on two cores, 349 MB


class Step(NamedTuple):
    """What one training step holds and exchanges, whatever the batch."""

    parameters: int  # bytes, float32
    statistics: int  # bytes of running means and variances
    state: int  # bytes of all that a checkpoint keeps
    layers: int  # BatchNorm layers
    chain: int  # of them that follow one another
    reduces: int  # all-reduces of one step
    small_reduces: int  # of them those that are not gradients
    small_bytes: int  # that these sum


def measure(preset: str) -> Step:
    """Reads a preset's step: its state's bytes, and its all-reduces as lowered for two devices."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ.setdefault("JAX_NUM_CPU_DEVICES", str(DEVICES))
    import jax
    import numpy as np

    from thyrojax.model.architecture import describe
    from thyrojax.presets import load_preset
    from thyrojax.train.mapping import map_over_devices
    from thyrojax.train.schedule import make_optimizer
    from thyrojax.train.state import abstract_state, example_images, make_model
    from thyrojax.train.step import make_train_step

    config = dataclasses.replace(load_preset(preset), batch_size=2 * DEVICES)
    optimizer = make_optimizer(config, 1000)
    state = abstract_state(config, optimizer)
    step = map_over_devices(
        "pmap",
        make_train_step(config, optimizer, np.ones(2, np.float32)),
        ("state", "rows"),
        ("state", "all"),
        jax.local_devices()[:DEVICES],
    )
    image = example_images(config)
    batch = {
        "image": jax.ShapeDtypeStruct((DEVICES, 2, *image.shape[1:3], 1), np.float32),
        "label": jax.ShapeDtypeStruct((DEVICES, 2), np.int32),
    }
    replicated = jax.tree.map(lambda x: jax.ShapeDtypeStruct((DEVICES, *x.shape), x.dtype), state)
    shapes = reduced_shapes(step.lower(replicated, batch).as_text())
    parameters = jax.tree.leaves(state.params)
    gradients = [list(x.shape) for x in parameters]
    small = list(shapes)
    for shape in gradients:
        small.remove(shape)
    structure = describe(make_model(config), image)
    return Step(
        parameters=_bytes(parameters),
        statistics=_bytes(jax.tree.leaves(state.batch_stats)),
        state=_bytes(jax.tree.leaves(state)),
        layers=len(jax.tree.leaves(state.batch_stats)) // 2,
        chain=sum(_longest(stage["branches"]) for stage in structure["stages"]),
        reduces=len(shapes),
        small_reduces=len(small),
        small_bytes=sum(4 * int(np.prod(shape)) for shape in small),
    )


def reduced_shapes(program: str) -> list[list[int]]:
    """The shape of what each all-reduce of a lowered program (StableHLO) sums."""
    found = re.findall(
        r'"stablehlo\.all_reduce"\(.*?\}\) : \(tensor<((?:\d+x)*)f32>\)', program, re.DOTALL
    )
    return [[int(x) for x in sizes.split("x") if x] for sizes in found]


def _bytes(leaves: list[Any]) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)


def _longest(branches: list[list[dict[str, Any]]]) -> int:
    """Layers with BatchNorm on the longest way through a stage."""
    return max(sum(layer["kind"] == "convolution" for layer in branch) for branch in branches)


def plan(inputs: Inputs, step: Step) -> dict[str, float]:
    """The figures of a run, in the units that their names end with."""
    from thyrojax.data.resident import most_of_a_pair

    c = inputs
    n, hosts = c.chips, c.chips / c.chips_per_host
    batch = n * c.chip_batch
    forward_ms = c.chip_batch * 2 * c.gmac * 1e9 / (c.peak_tflops * 1e12 * c.peak_share) * 1e3
    compute_ms = 3 * forward_ms  # forward, and backward by inputs and by kernels
    gradient_wire_mb = ring(n) * step.parameters / 1e6
    gradient_ms = gradient_wire_mb / c.link_gb  # MB by GB/s
    small_ms = step.small_reduces * c.latency_us / 1e3 if n > 1 else 0.0
    step_ms = compute_ms + gradient_ms + small_ms
    images_per_second = batch / step_ms * 1e3
    validation_s = c.validation_images / batch * forward_ms / 1e3
    epoch_s = c.images / images_per_second + validation_s + c.save_s
    frame = c.frame_width * c.frame_height
    stored = frame * c.stored_bytes_per_pixel
    everything = c.images + c.validation_images
    # Room for crops, float32, from each chip to each other one.
    sent_gb = (n - 1) * most_of_a_pair(c.chip_batch, n) * c.size**2 * 4 / 1e9
    return {
        "batch": batch,
        "compute_ms": compute_ms,
        "gradient_wire_mb": gradient_wire_mb,
        "gradient_ms": gradient_ms,
        "small_ms": small_ms,
        "small_least_ms": 2 * step.chain * c.latency_us / 1e3 if n > 1 else 0.0,
        "step_ms": step_ms,
        "share": compute_ms / step_ms,
        "images_per_second": images_per_second,
        "chip_images_per_second": images_per_second / n,
        "validation_s": validation_s,
        "epoch_s": epoch_s,
        "run_minutes": c.epochs * epoch_s / 60,
        "steps": c.epochs * c.images / batch,
        "stored_gb": everything * stored / 1e9,
        "read_host_mb_per_second": images_per_second / hosts * stored / 1e6,
        "cores_per_chip": images_per_second / n / c.stream_rate,
        "cores_per_host": images_per_second / hosts / c.stream_rate,
        "crops_host_gb_per_second": images_per_second / hosts * c.size**2 * 4 / 1e9,
        "resident_chip_gb": everything * frame / n / 1e9,
        "resident_share": everything * frame / n / (c.memory_gb * 1e9),
        "exchange_gb": sent_gb,
        "exchange_ms": sent_gb / c.link_gb * 1e3,
        "decode_s": everything / hosts / (c.stream_rate * CORES * c.chips_per_host),
        "checkpoint_mb": step.state / 1e6,
        "checkpoint_s": step.state / 1e9 / c.disk_gb,
    }


def ring(n: int) -> float:
    """Bytes that each of n chips sends for a byte of a ring all-reduce: 2 (n - 1) / n."""
    return 2 * (n - 1) / n


def tables(inputs: Inputs, step: Step) -> str:
    """The plan as Markdown: the run, and what other batches and numbers of chips make of it."""
    p = plan(inputs, step)
    rows = [
        ("batch", f"{inputs.chips} x {inputs.chip_batch} = {p['batch']:,.0f} images"),
        ("compute a step", f"{p['compute_ms']:.1f} ms"),
        (
            "gradients a step",
            f"{step.parameters / 1e6:.1f} MB, {p['gradient_wire_mb']:.0f} MB sent by each chip: "
            f"{p['gradient_ms']:.1f} ms",
        ),
        (
            "BatchNorm and figures a step",
            f"{step.small_reduces} all-reduces of {step.small_bytes / 1e3:.0f} kB in all: "
            f"{p['small_ms']:.1f} ms one after the other; {p['small_least_ms']:.1f} ms for the "
            f"{step.chain} layers that follow one another, forward and back",
        ),
        ("step, nothing overlapped", f"{p['step_ms']:.1f} ms, {p['share']:.0%} of it compute"),
        (
            "images/s",
            f"{p['images_per_second']:,.0f}, {p['chip_images_per_second']:,.0f} on each chip",
        ),
        (
            "epoch",
            f"{p['epoch_s']:.1f} s, of it {p['validation_s']:.1f} s validation and "
            f"{inputs.save_s:g} s save",
        ),
        (f"{inputs.epochs:g} epochs", f"{p['steps']:,.0f} steps, {p['run_minutes']:.1f} min"),
        (
            "set as stored",
            f"{p['stored_gb']:.0f} GB; {p['read_host_mb_per_second']:,.0f} MB/s read by each host",
        ),
        (
            "stream feed",
            f"{p['cores_per_chip']:.1f} cores for each chip, {p['cores_per_host']:.0f} for each "
            f"host; {p['crops_host_gb_per_second']:.1f} GB/s of crops to its chips",
        ),
        (
            "resident feed",
            f"{p['resident_chip_gb']:.1f} GB on each chip, {p['resident_share']:.0%} of its "
            f"memory; decoded in {p['decode_s']:.0f} s by {CORES} cores for each chip",
        ),
        (
            "its exchange of crops",
            f"{p['exchange_gb']:.2f} GB sent by each chip, {p['exchange_ms']:.1f} ms a step more",
        ),
        (
            "checkpoint",
            f"{p['checkpoint_mb']:.0f} MB, {p['checkpoint_s']:.1f} s to the disk in the background",
        ),
    ]
    lines = ["| | |", "|---|---|", *(f"| {name} | {told} |" for name, told in rows), ""]
    batches = (4, 8, 16, 32, 64, 128)
    lines += [
        "| images of a chip's step | " + " | ".join(map(str, batches)) + " |",
        "|---|" + "---:|" * len(batches),
    ]
    found = [plan(dataclasses.replace(inputs, chip_batch=one), step) for one in batches]
    lines += _lines(found)
    chips = [one for one in (1, 8, 16, 32, 64, 128, 256) if not p["batch"] % one]
    found = [
        plan(
            dataclasses.replace(
                inputs,
                chips=one,
                chips_per_host=min(one, inputs.chips_per_host),
                chip_batch=int(p["batch"]) // one,
            ),
            step,
        )
        for one in chips
    ]
    lines += [
        "",
        f"| chips of a batch of {p['batch']:,.0f} | " + " | ".join(map(str, chips)) + " |",
        "|---|" + "---:|" * len(chips),
        *_lines(found),
        "| resident GB on each | " + _row(found, "resident_chip_gb", ".1f"),
    ]
    return "\n".join(lines)


def _lines(found: list[dict[str, float]]) -> list[str]:
    return [
        "| step, ms | " + _row(found, "step_ms", ".1f"),
        "| of it compute | " + _row(found, "share", ".0%"),
        "| images/s | " + _row(found, "images_per_second", ",.0f"),
        "| minutes | " + _row(found, "run_minutes", ".1f"),
    ]


def _row(found: list[dict[str, float]], name: str, form: str) -> str:
    return " | ".join(format(one[name], form) for one in found) + " |"


def main() -> None:
    """Prints the tables of the options."""
    import tyro

    inputs = tyro.cli(Inputs, description=__doc__)
    print(tables(inputs, measure(inputs.preset)))


if __name__ == "__main__":
    main()
