"""Changes of nodules before they are scored: what they do, how much, and the same each time."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from thyrojax.config import Config
from thyrojax.data.dataset import Dataset, open_dataset
from thyrojax.data.records import Box
from thyrojax.study.changes import changed_crop, exported, moved_box
from thyrojax.study.plan import Change, Kind

CONFIG = Config(input_size=96)


@pytest.fixture(scope="module")
def dataset(phantom_set: Path) -> Dataset:
    return open_dataset(phantom_set)


def crop(dataset: Dataset, kind: Kind, strength: float, row: int = 0) -> np.ndarray:
    return changed_crop(dataset, row, CONFIG, 20, Change(kind, strength))


def test_nothing_is_changed_at_the_strength_of_nothing(dataset: Dataset) -> None:
    plain = crop(dataset, "gain", 1.0)
    for kind, strength in (("blur", 0.0), ("speckle", 0.0), ("box", 0.0), ("downscale", 1.0)):
        np.testing.assert_allclose(crop(dataset, kind, strength), plain, atol=1e-4)  # type: ignore[arg-type]


def test_gain_scales_and_saturates(dataset: Dataset) -> None:
    plain = crop(dataset, "gain", 1.0)
    np.testing.assert_allclose(crop(dataset, "gain", 0.5), 0.5 * plain, rtol=1e-6)
    np.testing.assert_allclose(
        crop(dataset, "gain", 9.0), np.minimum(9.0 * plain, 255.0), rtol=1e-6
    )


def test_blur_keeps_the_mean_and_takes_the_detail(dataset: Dataset) -> None:
    plain, blurred = crop(dataset, "gain", 1.0), crop(dataset, "blur", 2.0)
    assert abs(blurred.mean() - plain.mean()) < 1.5
    assert np.diff(blurred, axis=1).std() < 0.3 * np.diff(plain, axis=1).std()


def test_speckle_has_the_spread_that_it_is_called_by_and_mean_one(dataset: Dataset) -> None:
    plain = crop(dataset, "gain", 1.0)
    # Where neither end of the scale cuts it off.
    inside = (plain > 20.0) & (plain < 100.0)
    factor = (crop(dataset, "speckle", 0.2) / np.maximum(plain, 1.0))[inside]
    assert factor.mean() == pytest.approx(1.0, abs=0.02)
    assert factor.std() == pytest.approx(0.2, abs=0.02)


def test_noise_is_of_the_nodule_alone(dataset: Dataset) -> None:
    one, again = crop(dataset, "speckle", 0.2), crop(dataset, "speckle", 0.2)
    np.testing.assert_array_equal(one, again)
    pattern = one / np.maximum(crop(dataset, "gain", 1.0), 1.0)
    other = crop(dataset, "speckle", 0.2, row=1) / np.maximum(
        crop(dataset, "gain", 1.0, row=1), 1.0
    )
    assert abs(np.corrcoef(pattern.ravel(), other.ravel())[0, 1]) < 0.3


def test_a_moved_box_stays_inside_the_frame_and_has_an_area() -> None:
    random = np.random.default_rng(0)
    moves = []
    for _ in range(500):
        box = moved_box(Box(2, 40, 30, 46), 20, 50, 60, random)
        assert 0 <= box.x_min < box.x_max <= 60
        assert 0 <= box.y_min < box.y_max <= 50
        assert box.width >= 28 // 3
        moves += [box.x_max - 30, box.y_max - 46]
    assert max(abs(move) for move in moves) <= 20
    assert min(moves) < 0 < max(moves)
    assert moved_box(Box(2, 40, 30, 46), 0, 50, 60, random) == Box(2, 40, 30, 46)


def test_exports_are_those_of_the_codec_and_of_the_factor() -> None:
    frame = np.random.default_rng(1).integers(0, 256, (60, 81), dtype=np.uint8)
    worst = [
        np.abs(exported(frame, change).astype(int) - frame).mean()
        for change in (Change("jpeg", 95.0), Change("jpeg", 50.0), Change("jpeg", 10.0))
    ]
    assert worst == sorted(worst)
    again = exported(frame, Change("jpeg", 10.0))
    _, stream = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 10])
    np.testing.assert_array_equal(again, cv2.imdecode(stream, cv2.IMREAD_GRAYSCALE))
    halved = exported(np.full((60, 81), 77, np.uint8), Change("downscale", 2.0))
    assert halved.shape == (60, 81)
    assert (halved == 77).all()
    assert exported(frame, Change("downscale", 4.0)).std() < 0.4 * frame.std()
