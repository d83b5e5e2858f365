"""StableHLO, for inference: a function that JAX exported, for CPU, CUDA and TPU in one file.

Written only. The weights and their preprocessing are within; input and outputs are those of
`thyrojax.weights.formats.inference`, computed in float32 at the highest precision on every
platform. Needs jax, and neither flax nor thyrojax, to run:

    import jax
    function = jax.export.deserialize(bytearray(open(FILE, "rb").read()))
    outputs = function.call(images)  # {"pool": ..., "logits": ..., "probabilities": ...}

JAX reads what it exported for at least six months, and what a release newer by three weeks at most
has exported (docs.jax.dev, "Exporting and serializing", compatibility guarantees): export again
after that. It has no place for a description, so that stands behind what JAX reads, which is a
FlatBuffer and has its end in itself: the file's last line is the JSON.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from thyrojax.errors import WeightsError
from thyrojax.shapes import Float, UInt8
from thyrojax.weights import flatbuffer, graph
from thyrojax.weights.formats import inference
from thyrojax.weights.types import (
    MAX_DESCRIPTION_BYTES,
    PREPROCESSING,
    Arrays,
    Reading,
    Request,
    Variant,
)

NAME = "stablehlo"
DESCRIPTION = "StableHLO exported by JAX (written only)"
ENDING = ".stablehlo"
NATIVE = None
CHANNELS = (1, 3)

PLATFORMS = ("cpu", "cuda", "tpu")
FUNCTION = "thyrojax_inception_v3"  # by which our files are known
FUNCTION_FIELD = 1  # of the table that a serialized function begins with


def recognises(path: Path) -> bool:
    """Whether it is an export of ours."""
    if not path.is_file() or path.stat().st_size < 64:
        return False
    with path.open("rb") as file:
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    try:
        return flatbuffer.root(data).text(FUNCTION_FIELD) == FUNCTION
    except ValueError:
        return False


def read(path: Path, request: Request) -> Reading:
    """Nothing is read back.

    Raises:
      WeightsError: always: what it is, and where its weights are to be had.
    """
    inference.refuse(path, "a StableHLO export", _description(path))


def _description(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - MAX_DESCRIPTION_BYTES))
        return inference.parse(file.read().rpartition(b"\n")[2])


def write(path: Path, arrays: Arrays, variant: Variant, metadata: Mapping[str, Any]) -> list[str]:
    """Writes the function, for any batch; for one size of image where `metadata["export"]` has an
    `input_size`, else for any.

    Raises:
      WeightsError: the package flatbuffers is not installed, or a size that cannot be.
    """
    size, description = inference.settle(path, arrays, variant, metadata)
    serialized = _export(path, arrays, variant, size)
    with path.open("xb") as file:
        file.write(serialized)
        file.write(b"\n" + description.encode())
    return inference.notes(arrays)


def _export(path: Path, arrays: Arrays, variant: Variant, size: int | None) -> bytearray:
    import jax
    import jax.numpy as jnp

    # Each is needed by name: neither is imported with jax.
    try:
        import flatbuffers  # noqa: F401
        from jax import export
    except ImportError:
        raise WeightsError(
            f"{path}: found no package flatbuffers, expected it (pip install flatbuffers)"
        ) from None
    from thyrojax.weights.network import network_of
    from thyrojax.weights.store import Weights

    depth = _depth_multiplier(arrays)
    weights = Weights(arrays, variant, NAME, (), {}, path, "", depth_multiplier=depth)
    network, variables = network_of(weights)
    scale, offset = (
        np.array(values[: weights.channels], np.float32).reshape(1, 1, 1, -1)
        for values in PREPROCESSING[variant.preprocessing]
    )

    def thyrojax_inception_v3(image: Any) -> dict[str, Any]:
        with jax.default_matmul_precision("highest"):
            ends = network.apply(variables, image * scale + offset)
        outputs = {name: ends[name] for name in ("pool", "logits") if name in ends}
        if "logits" in outputs:
            outputs["probabilities"] = jax.nn.softmax(outputs["logits"])
        return outputs

    side = [str(size)] * 2 if size else ["height", "width"]
    constraints = [f"{name} >= {inference.MIN_SIZE}" for name in side if size is None]
    shape = export.symbolic_shape(
        f"batch, {side[0]}, {side[1]}, {weights.channels}", constraints=constraints
    )
    with _no_source_locations():
        exported = export.export(jax.jit(thyrojax_inception_v3), platforms=PLATFORMS)(
            jax.ShapeDtypeStruct(shape, jnp.float32)
        )
        return exported.serialize(vjp_order=0)


@contextmanager
def _no_source_locations() -> Iterator[None]:
    """Keeps out of the file which files on this machine the function was traced through, and makes
    it the same whoever calls."""
    import jax

    limit = jax.config.jax_traceback_in_locations_limit
    jax.config.update("jax_traceback_in_locations_limit", 0)
    try:
        yield
    finally:
        jax.config.update("jax_traceback_in_locations_limit", limit)


def _depth_multiplier(arrays: Arrays) -> float:
    """One that gives a network of these widths: each bounds it, but for those at the floor, which
    bound it from above only."""
    low, high = 0.0, math.inf
    for unit in graph.trunk().units:
        width = arrays[f"params/{unit.path}/conv/kernel"].shape[3]
        if width > graph.MIN_DEPTH:
            low = max(low, width / unit.outputs)
        high = min(high, (width + 1) / unit.outputs)
    return (low + high) / 2


def probe_size(path: Path) -> int:
    """Side in px of images to try an export with."""
    return inference.probe_size(_description(path))


def run(
    path: Path, images: UInt8[np.ndarray, "n height width channels"]
) -> dict[str, Float[np.ndarray, "n _"]]:
    """Outputs of an export for images of grey levels, computed by JAX on its default device."""
    import jax
    from jax import export

    function = export.deserialize(bytearray(path.read_bytes()))
    return jax.device_get(function.call(images.astype(np.float32)))
