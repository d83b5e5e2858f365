"""Keras files of full shape in a few kB: arrays never written read as their fill value."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from thyrojax.weights import names
from thyrojax.weights.names import UNITS
from thyrojax.weights.types import Arrays


def write_trunk(
    group: h5py.Group,
    first_conv: int = 0,
    first_bn: int = 0,
    suffix: str = "",
    repeat: bool = True,
    scale: bool = False,
) -> None:
    """Adds the 94 units; unit i holds i + 0.1 (kernel), 0.2, 0.3, 0.4 (beta, moving), 0.5."""

    def add(kind: str, number: int, array: str, shape: tuple[int, ...], value: float) -> None:
        layer = f"{kind}_{number}" if number else kind
        path = f"{layer}/{layer}" if repeat else layer
        group.create_dataset(f"{path}/{array}{suffix}", shape, np.float32, fillvalue=value)

    for i, unit in enumerate(UNITS):
        shape = (unit.height, unit.width, unit.inputs, unit.outputs)
        add("conv2d", first_conv + i, "kernel", shape, i + 0.1)
        add("batch_normalization", first_bn + i, "beta", (unit.outputs,), i + 0.2)
        add("batch_normalization", first_bn + i, "moving_mean", (unit.outputs,), i + 0.3)
        add("batch_normalization", first_bn + i, "moving_variance", (unit.outputs,), i + 0.4)
        if scale:
            add("batch_normalization", first_bn + i, "gamma", (unit.outputs,), i + 0.5)


@pytest.fixture(autouse=True)
def no_settings_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fetches in tests are as by default, whatever the environment of who runs them says."""
    for name in ("THYROJAX_MIRROR", "THYROJAX_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def new_arrays() -> Callable[..., Arrays]:
    """Random arrays of a whole network under our names; 16 channels wide unless told

    The scales are one unless `scales`; `channels` is the first kernel's depth.
    """

    def new(
        depth_multiplier: float = 0.05,
        classes: int = 0,
        aux: bool = False,
        scales: bool = False,
        channels: int = 3,
        seed: int = 0,
    ) -> Arrays:
        shapes = names.trunk_shapes(depth_multiplier)
        if classes:
            shapes |= names.head_shapes(classes, depth_multiplier)
        if aux:
            shapes |= names.aux_shapes(classes, depth_multiplier)
        height, width, _, outputs = shapes[names.FIRST_KERNEL]
        shapes[names.FIRST_KERNEL] = (height, width, channels, outputs)
        rng = np.random.default_rng(seed)
        arrays: Arrays = {}
        for path, shape in shapes.items():
            if path.endswith("/bn/scale") and not scales:
                arrays[path] = np.ones(shape, np.float32)
            elif path.endswith(("/bn/scale", "/bn/var")):
                arrays[path] = rng.uniform(0.5, 1.5, shape).astype(np.float32)
            else:
                deviation = (2.0 / np.prod(shape[:-1])) ** 0.5 if path.endswith("kernel") else 0.1
                arrays[path] = rng.normal(0, deviation, shape).astype(np.float32)
        return arrays

    return new


@pytest.fixture
def new_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes a file with a trunk: `group` it stands in, and `write_trunk`'s options."""

    def new(group: str = "/", **options: Any) -> Path:
        path = tmp_path / "new.h5"
        with h5py.File(path, "w") as file:
            write_trunk(file.require_group(group), **options)
        return path

    return new


@pytest.fixture(scope="session")
def plain_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights without a head at the file's root, as of the first network of a session."""
    path = tmp_path_factory.mktemp("keras") / "plain.h5"
    with h5py.File(path, "w") as file:
        write_trunk(file, suffix=":0")
    return path


@pytest.fixture
def changed(plain_file: Path, tmp_path: Path) -> Callable[[Callable[[h5py.File], None]], Path]:
    """Copies `plain_file` and lets a function change the copy.

    Its first convolution is `conv2d/conv2d/kernel:0`, its last `conv2d_93/conv2d_93/kernel:0`.
    """

    def change(function: Callable[[h5py.File], None]) -> Path:
        path = tmp_path / "changed.h5"
        shutil.copy(plain_file, path)
        with h5py.File(path, "r+") as file:
            function(file)
        return path

    return change
