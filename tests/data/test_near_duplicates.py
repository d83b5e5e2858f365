"""Near-duplicates: copies in other bytes are found, and another anatomy is never joined."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from thyrojax.data.near_duplicates import FAR, HASH_BYTES, find, perceptual_hash, similarity
from thyrojax.data.records import load_image
from thyrojax.data.sources.phantom import read


@pytest.fixture(scope="module")
def frames() -> list[np.ndarray]:
    """One simulated frame of each of sixteen patients."""
    first = {nodule.patient_id: nodule.image for nodule in reversed(read(n_patients=16).nodules)}
    return [load_image(image) for image in first.values()]


def bits_apart(one: str, other: str) -> int:
    return bin(int(one, 16) ^ int(other, 16)).count("1")


def saved_at_60(frame: np.ndarray) -> np.ndarray:
    jpeg = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 60])[1]
    return cv2.imdecode(jpeg, cv2.IMREAD_GRAYSCALE)


def smaller(frame: np.ndarray) -> np.ndarray:
    return cv2.resize(frame, None, fx=0.9, fy=0.9, interpolation=cv2.INTER_AREA)


def brighter(frame: np.ndarray) -> np.ndarray:
    return np.clip(frame * 1.1, 0, 255).astype(np.uint8)


def captioned(frame: np.ndarray) -> np.ndarray:
    frame = frame.copy()
    place = (frame.shape[1] // 10, frame.shape[0] * 11 // 12)
    return cv2.putText(frame, "THYROID RT 2.4 cm", place, cv2.FONT_HERSHEY_SIMPLEX, 0.6, 255, 2)


def shifted(frame: np.ndarray) -> np.ndarray:
    by_three = np.array([[1, 0, 3], [0, 1, 3]], np.float32)
    return cv2.warpAffine(frame, by_three, frame.shape[::-1])


def cropped(frame: np.ndarray) -> np.ndarray:
    y, x = (round(side * 0.02) for side in frame.shape)
    return np.ascontiguousarray(frame[y:-y, x:-x])


def all_at_once(frame: np.ndarray) -> np.ndarray:
    return saved_at_60(captioned(brighter(smaller(cropped(frame)))))


CHANGES = [saved_at_60, smaller, brighter, captioned, shifted, cropped, all_at_once]


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found_under_another_patient(
    frames: list[np.ndarray], change: Callable[[np.ndarray], np.ndarray]
) -> None:
    both = [*frames[:8], change(frames[3])]
    pairs = find(
        [perceptual_hash(frame) for frame in both], lambda i: both[i], [str(i) for i in range(9)]
    )
    assert [(pair.first, pair.second) for pair in pairs] == [(3, 8)]
    assert pairs[0].similarity > 0.95


def test_other_patients_are_not_alike_even_where_hashes_are_near(
    frames: list[np.ndarray],
) -> None:
    hashes = ["0" * 64] * len(frames)
    patients = [str(i) for i in range(len(frames))]
    compared = find(hashes, lambda i: frames[i], patients, floor=0.0)
    assert len(compared) == 120  # all of them
    assert max(pair.similarity for pair in compared) < 0.6


def test_a_shared_layout_is_not_likeness(frames: list[np.ndarray]) -> None:
    def laid_out(frame: np.ndarray) -> np.ndarray:
        page = np.zeros((600, 800), np.uint8)
        page[60:420, 100:580] = frame[:360, :480]
        for row in range(20, 600, 30):
            cv2.putText(page, "MI 0.6 TIS 0.1", (600, row), cv2.FONT_HERSHEY_PLAIN, 1.2, 255)
        page[480:590, 40:560] = 0
        cv2.putText(page, "TIRADS 4", (60, 540), cv2.FONT_HERSHEY_PLAIN, 3.0, 255, 2)
        return page

    assert similarity(laid_out(frames[0]), laid_out(frames[1])) < 0.6


def test_frames_of_one_patient_and_equal_digests_are_left_out(frames: list[np.ndarray]) -> None:
    both = [frames[0], frames[0], saved_at_60(frames[0])]
    hashes = [perceptual_hash(frame) for frame in both]
    assert find(hashes, lambda i: both[i], ["p", "p", "p"]) == []
    pairs = find(hashes, lambda i: both[i], ["p", "q", "q"], same=["a", "a", "b"])
    assert [(pair.first, pair.second) for pair in pairs] == [(0, 2)]
    identical = find(hashes, lambda i: both[i], ["p", "q", "q"])[0]
    assert identical == (0, 1, 1.0)


def test_nothing_is_not_like_nothing() -> None:
    black = np.zeros((300, 400), np.uint8)
    assert similarity(black, black) == 0.0
    assert perceptual_hash(black) == "0" * 64
    assert perceptual_hash(np.full((5, 900), 77, np.uint8)) == "0" * 64
    assert find([], lambda i: black, []) == []


def test_the_hash_is_of_64_digits_and_of_the_picture(frames: list[np.ndarray]) -> None:
    assert len(perceptual_hash(frames[0])) == 2 * HASH_BYTES == 64
    assert bits_apart(perceptual_hash(frames[0]), perceptual_hash(brighter(frames[0]))) <= 12
    assert bits_apart(perceptual_hash(frames[0]), perceptual_hash(frames[1])) > FAR


def test_ten_thousand_frames_are_compared_in_seconds() -> None:
    random = np.random.default_rng(0)
    hashes = [random.bytes(32).hex() for _ in range(10_000)]
    near = bytes.fromhex(hashes[17])
    hashes[9_000] = (bytes([near[0] ^ 255, near[1] ^ 255]) + near[2:]).hex()  # 16 bits
    asked = []

    def frame_of(position: int) -> np.ndarray:
        asked.append(position)
        return np.zeros((64, 64), np.uint8)

    start = time.thread_time()
    assert find(hashes, frame_of, [str(i) for i in range(10_000)]) == []
    assert asked == [17, 9_000]
    assert time.thread_time() - start < 10.0


def test_the_public_sets_hold_the_known_copies_and_no_others(shared: Path) -> None:
    paths = sorted((shared / "data" / "DDTI").glob("*.jpg"))
    paths += sorted((shared / "data" / "BUS-BRA" / "Images").glob("*.png"))
    frames = [load_image(path) for path in paths]
    patients = [path.stem.rpartition("_" if path.suffix == ".jpg" else "-")[0] for path in paths]
    pairs = find([perceptual_hash(frame) for frame in frames], lambda i: frames[i], patients, 0.6)
    five = ("150_1", "233_2", "323_1", "326_1", "349_1")
    expected = {(a, b) for a in five for b in five if a < b} | {("353_2", "396_1")}
    assert {(paths[pair.first].stem, paths[pair.second].stem) for pair in pairs} == expected
    assert all(pair.similarity == 1.0 for pair in pairs)
    by_name = dict(zip((path.stem for path in paths), frames, strict=True))
    # One frame saved twice: 294_3 has its grade written below.
    assert similarity(by_name["294_2"], by_name["294_3"]) > 0.99
