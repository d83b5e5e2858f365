"""Our side of `tools/bench_train.py`, which starts it: one case, or a probe of the device."""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from turns import host_peak_bytes, say, serve

from thyrojax.config import Config
from thyrojax.train.mapping import make_mapping, map_over_devices
from thyrojax.train.schedule import make_optimizer
from thyrojax.train.state import create_state, example_images, make_model, random_variables
from thyrojax.train.step import make_score_step, make_train_step

# The peer's network has three input channels, so has ours here.
BASE = Config(grey=False, optimizer="adamw")
COUNTED_SIZE = 384


def probe(sizes: list[int]) -> None:
    """Says what the device is, its measured matmul peaks, and XLA's operation counts by size."""
    device = jax.local_devices()[0]
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("jax", "flax", "optax")]
    side = 2048 if device.platform == "cpu" else 8192
    counts = {}
    for size in {*sizes, COUNTED_SIZE}:
        config = replace(BASE, input_size=size)
        model, images = make_model(config), example_images(config)
        variables = jax.eval_shape(model.init, jax.random.key(0), images)
        lowered = jax.jit(lambda v, x, model=model: model.apply(v, x)["logits"]).lower(
            variables, images
        )
        counted = lowered.cost_analysis()
        assert counted is not None, "this XLA counts no operations"
        counts[size] = counted["flops"]
    say(
        {
            "platform": device.platform,
            "kind": device.device_kind,
            "versions": ", ".join(versions),
            "peak": {name: matmul_peak(name, side) for name in ("float32", "bfloat16")},
            "operations": counts,
        }
    )


def matmul_peak(dtype: str, side: int) -> float:
    """Operations a second of the best of several square matrix products; on a CPU, which others may
    be using, a second of CPU time of each of its cores."""
    a = jax.random.normal(jax.random.key(0), (side, side)).astype(dtype)
    product = jax.jit(lambda a, b: a @ b)
    on_cpu = jax.local_devices()[0].platform == "cpu"
    at_once = 1 if on_cpu else 20
    cores = len(os.sched_getaffinity(0)) if on_cpu else 1
    clock = time.process_time if on_cpu else time.perf_counter
    product(a, a).block_until_ready()
    best = float("inf")
    for _ in range(8):
        start = clock()
        found = [product(a, a) for _ in range(at_once)]
        jax.block_until_ready(found)
        best = min(best, (clock() - start) / at_once)
    return 2 * side**3 / best * cores


def configured(fields: str, case: dict[str, Any]) -> Config:
    """The configuration of a case; `fields` as "name=value,name=value", values as JSON or words."""
    changes: dict[str, Any] = {}
    for field in filter(None, fields.split(",")):
        name, _, value = field.partition("=")
        try:
            changes[name] = json.loads(value)
        except ValueError:
            changes[name] = value
    return replace(
        BASE, input_size=case["size"], batch_size=case["batch"], dtype=case["dtype"], **changes
    )


def prepare(fields: str, case: dict[str, Any]) -> Callable[[int], None]:
    """A function that takes so many steps of the case and waits for them."""
    config = configured("" if fields == "fed" else fields, case)
    if fields == "fed":
        from bench_feed_step import contenders

        feed_step = contenders(replace(config, feed="resident"), 1)["resident feed"]

        def fed(steps: int) -> None:
            for _ in range(steps):
                feed_step()

        return fed
    devices = jax.local_devices()[:1]
    optimizer = make_optimizer(config, 10_000)
    train_step = make_train_step(config, optimizer, np.ones(2, np.float32))
    score_step = make_score_step(config)
    mapping = make_mapping("pmap", train_step, score_step, config.batch_size, devices)
    on_device = map_over_devices("pmap", lambda x: x, ("rows",), ("rows",), devices)
    rng = np.random.default_rng(0)
    shape = (config.batch_size, config.input_size, config.input_size, 1)
    batch = {
        "image": rng.integers(0, 256, shape, np.uint8),
        "label": np.arange(config.batch_size, dtype=np.int32) % 2,
    }
    batch = on_device(jax.tree.map(mapping.split, batch))
    variables = random_variables(config)
    if case["mode"] == "infer":
        score = map_over_devices("pmap", score_step, ("state", "rows"), ("rows",), devices)
        held = on_device(mapping.put(variables))

        def infer(steps: int) -> None:
            jax.block_until_ready([score(held, batch["image"]) for _ in range(steps)])

        return infer

    step = map_over_devices(
        "pmap", train_step, ("state", "rows"), ("state", "all"), devices, donate=True
    )
    state = on_device(
        mapping.put(create_state(jax.tree.map(jnp.asarray, variables), optimizer, config))
    )

    def train(steps: int) -> None:
        nonlocal state
        for _ in range(steps):
            state, _ = step(state, batch)
        jax.block_until_ready(state)

    return train


def peak_bytes() -> int:
    """Of the device, or of the process where they share memory."""
    stats = jax.local_devices()[0].memory_stats()
    return stats["peak_bytes_in_use"] if stats else host_peak_bytes()


def main() -> None:
    """Serves the case of the last argument with the fields of the one before."""
    fields, argument = sys.argv[1], json.loads(sys.argv[2])
    if fields == "probe":
        probe(argument)
    else:
        serve(prepare(fields, argument), argument["seconds"], peak_bytes)


if __name__ == "__main__":
    main()
