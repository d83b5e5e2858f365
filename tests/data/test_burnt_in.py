"""Marks inside the scan sector: text and calipers are found, and speckle is not taken for them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from thyrojax.data.burnt_in import find_text
from thyrojax.data.records import Box, load_image
from thyrojax.data.sector import find_sector
from thyrojax.data.sources.phantom import read

EVERYWHERE = np.ones((360, 480), bool)


@pytest.fixture(scope="module")
def frames() -> list[np.ndarray]:
    return [load_image(nodule.image) for nodule in read(n_patients=40).nodules]


def tissue() -> np.ndarray:
    """Speckle of grey levels up to about 150."""
    noise = np.random.default_rng(0).rayleigh(1.0, (360, 480)).astype(np.float32)
    return np.clip(40.0 * cv2.GaussianBlur(noise, (0, 0), 1.2), 0, 255).astype(np.uint8)


def covers(box: Box, x: int, y: int) -> bool:
    return box.x_min <= x < box.x_max and box.y_min <= y < box.y_max


def test_frames_without_marks_have_none(frames: list[np.ndarray]) -> None:
    assert sum(bool(find_text(frame, find_sector(frame))) for frame in frames) == 0


def test_a_line_of_text_is_one_box() -> None:
    image = tissue()
    cv2.putText(image, "TIRADS", (60, 200), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 255, 1)
    (box,) = find_text(image, EVERYWHERE)
    assert 55 <= box.x_min <= 64
    assert 183 <= box.y_min <= 190
    assert 198 <= box.y_max <= 203
    assert 115 <= box.x_max <= 140


@pytest.mark.parametrize("oblique", [False, True])
@pytest.mark.parametrize("reach", [4, 5, 7])
def test_a_caliper_is_found_with_its_number(reach: int, oblique: bool) -> None:
    image = tissue()
    for step in range(-reach, reach + 1):
        image[100 + step, 200 + (step if oblique else 0)] = 220
        image[100 - (step if oblique else 0), 200 + step] = 220
    cv2.putText(image, "1", (200 - 12, 100 - 4), cv2.FONT_HERSHEY_PLAIN, 0.6, 220)
    assert any(covers(box, 200, 100) for box in find_text(image, EVERYWHERE))


def test_what_lies_outside_the_sector_is_not_reported() -> None:
    image = tissue()
    cv2.putText(image, "TIRADS", (60, 200), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 255, 1)
    sector = EVERYWHERE.copy()
    sector[180:210] = False
    assert find_text(image, sector) == []


def test_lone_bright_dots_and_lines_are_not_text() -> None:
    image = tissue()
    random = np.random.default_rng(1)
    for y, x in random.integers(10, 340, (40, 2)):
        image[y : y + 2, x : x + 2] = 255  # calcifications
    cv2.line(image, (20, 300), (460, 310), 255, 2)  # a capsule
    assert find_text(image, EVERYWHERE) == []


def test_an_image_smaller_than_a_mark_has_none() -> None:
    assert find_text(np.full((5, 4), 200, np.uint8), np.ones((5, 4), bool)) == []


def test_marks_of_the_public_sets(shared: Path) -> None:
    """Of DDTI's 387 frames, these eight have calipers or a line of text that are found."""
    marked_ones = {"139_2", "146_2", "158_1", "173_2", "80_2", "92_2", "92_3", "92_4"}
    folder = shared / "data" / "DDTI"
    frames = {path.stem: path for path in sorted(folder.glob("*.jpg"))[::5]}
    frames |= {name: folder / f"{name}.jpg" for name in marked_ones}
    found = set()
    for name, path in frames.items():
        image = load_image(path)
        if find_text(image, find_sector(image)):
            found.add(name)
    assert found == marked_ones
    images = sorted((shared / "data" / "BUS-BRA" / "Images").glob("*.png"))[::20]
    marked = sum(bool(find_text(image := load_image(p), find_sector(image))) for p in images)
    assert marked >= 0.7 * len(images)
