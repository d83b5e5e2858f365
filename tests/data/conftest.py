"""Small sets with nothing medical in them: frames drawn from a seed, boxes and labels by rule."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

from thyrojax.data.builder import build
from thyrojax.data.dataset import Dataset, open_dataset
from thyrojax.data.records import Box, Exclusion, Nodule, SourceData


def noise_frame(seed: int, height: int = 60, width: int = 80) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)


def noise_source(count: int, source: str = "csv") -> SourceData:
    """`count` nodules, two views for every patient, every other patient malignant."""
    nodules = tuple(
        Nodule(
            image=partial(noise_frame, i),
            image_id=f"image-{i}",
            patient_id=f"patient-{i // 2}",
            box=Box(20 + i % 5, 15, 50, 40 + i % 7),
            label=(i // 2) % 2,
        )
        for i in range(count)
    )
    excluded = (Exclusion("other", "no box", "page 3"),)
    return SourceData(source, nodules, excluded, count + 1, ("Nobody is named.",))


@pytest.fixture(scope="session")
def make_source() -> Callable[..., SourceData]:
    return noise_source


@pytest.fixture(scope="session")
def set_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A built set of 23 nodules; not to be changed."""
    return build(noise_source(23), tmp_path_factory.mktemp("sets") / "noise", mask_overlay=False)


@pytest.fixture
def small_set(set_folder: Path) -> Dataset:
    return open_dataset(set_folder)


@pytest.fixture(scope="session")
def image_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 small PNG files of noise, enough for three shards; not to be changed."""
    folder = tmp_path_factory.mktemp("images")
    for i in range(300):
        cv2.imwrite(str(folder / f"{i:03d}.png"), noise_frame(i, 16, 24))
    return folder
