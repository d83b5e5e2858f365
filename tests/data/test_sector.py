from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from thyrojax.data.records import load_image
from thyrojax.data.sector import find_sector, mask_overlay
from thyrojax.data.sources import read_source

HEIGHT, WIDTH = 360, 560


def speckle(area: np.ndarray, seed: int = 0) -> np.ndarray:
    """A frame with Rayleigh speckle in an area (bool [height, width]) and a black ground."""
    noise = np.random.default_rng(seed).rayleigh(50, area.shape).clip(5, 255)
    return np.where(area, noise, 0).astype(np.uint8)


def rectangle(left: int, top: int, right: int, bottom: int) -> np.ndarray:
    area = np.zeros((HEIGHT, WIDTH), bool)
    area[top:bottom, left:right] = True
    return area


def trapezoid() -> np.ndarray:
    area = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.fillPoly(area, [np.array([(200, 20), (360, 20), (440, 310), (120, 310)])], 1)
    return area > 0


def curved() -> np.ndarray:
    """A convex probe's sector: two arcs about a point above the frame, 35 degrees each way."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    radius = np.hypot(x - 280, y + 60)
    return (abs(np.arctan2(x - 280, y + 60)) < np.radians(35)) & (radius > 90) & (radius < 390)


def burn_in(frame: np.ndarray) -> np.ndarray:
    """Typed remarks, settings, a grey bar, a depth scale and ticks around the sector."""
    frame = frame.copy()
    for text, place in (("TIRADS 4A (4B)", (180, 345)), ("DER", (60, 345)), ("P100", (500, 20))):
        cv2.putText(frame, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 255, 1, cv2.LINE_AA)
    for line in range(5):
        cv2.putText(frame, "12L6", (505, 40 + 16 * line), cv2.FONT_HERSHEY_SIMPLEX, 0.4, 220, 1)
    frame[160:250, 6:20] = np.linspace(255, 0, 90)[:, None]
    frame[20:310:29, 470:473] = 255
    return frame


def jpeg(frame: np.ndarray) -> np.ndarray:
    _, coded = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 85])
    decoded = cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE)
    assert decoded is not None
    return decoded


@pytest.mark.parametrize(
    "area",
    [
        rectangle(85, 6, 460, 308),
        rectangle(150, 60, 400, 310),
        trapezoid(),
        curved(),
        rectangle(30, 40, 230, 308) | rectangle(230, 6, 440, 308),
        rectangle(30, 6, 230, 308) | rectangle(240, 6, 440, 308),
    ],
    ids=["rectangle", "deep rectangle", "trapezoid", "curved", "steps", "two panels"],
)
def test_the_sector_is_kept_and_all_around_it_blanked(area: np.ndarray) -> None:
    frame = jpeg(burn_in(speckle(area)))
    found = find_sector(frame)
    inner = cv2.erode(area.astype(np.uint8), np.ones((5, 5))) > 0
    outer = cv2.dilate(area.astype(np.uint8), np.ones((9, 9))) > 0
    # The rounding of the disc takes some pixels of a wedge's two acute corners.
    assert (inner & ~found).sum() < 0.002 * area.sum()
    gap = np.zeros_like(area)
    gap[:, 230:240] = True  # between two panels lies no text
    assert not (found & ~outer & ~gap).any()
    assert not mask_overlay(frame)[~outer & ~gap].any()
    assert np.array_equal(mask_overlay(frame)[found], frame[found])


def test_dark_corners_and_a_dark_bottom_of_a_rectangle_are_kept() -> None:
    area = rectangle(85, 6, 460, 308)
    frame = speckle(area)
    for corner in (np.s_[200:308, 85:180], np.s_[250:308, 330:460]):
        frame[corner] = 0
    assert find_sector(burn_in(frame))[area].mean() > 0.995


def test_a_black_cyst_within_the_sector_is_kept() -> None:
    area = rectangle(85, 6, 460, 308)
    frame = speckle(area)
    cv2.circle(frame, (270, 150), 80, 0, -1)
    assert find_sector(frame)[90:230, 190:350].all()


def test_a_cyst_at_the_edge_of_the_sector_is_kept() -> None:
    area = rectangle(85, 6, 460, 308)
    frame = speckle(area)
    cv2.circle(frame, (85, 150), 60, 0, -1)
    assert find_sector(frame)[area].mean() > 0.995


def test_a_frame_that_is_all_sector_is_kept_whole() -> None:
    frame = speckle(np.ones((200, 300), bool))
    assert find_sector(frame).all()


@pytest.mark.parametrize("shape", [(360, 560), (1, 1), (4, 7), (20, 400)])
def test_nothing_is_blanked_where_no_sector_stands_out(shape: tuple[int, int]) -> None:
    assert find_sector(np.zeros(shape, np.uint8)).all()
    dots = np.zeros(shape, np.uint8)
    dots[::9, ::9] = 200
    assert find_sector(dots).all()


def test_masking_twice_changes_no_more_than_a_corners_rounding() -> None:
    once = mask_overlay(burn_in(speckle(rectangle(85, 6, 460, 308))))
    assert (mask_overlay(once) != once).sum() < 20


@pytest.fixture(scope="module")
def frames(shared: Path) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Each DDTI frame with nodules: the frame, its sector, and its annotated boxes as a mask."""
    boxes: dict[Path, list[tuple[int, int, int, int]]] = {}
    for nodule in read_source("ddti", shared / "data" / "DDTI").nodules:
        assert isinstance(nodule.image, Path)
        boxes.setdefault(nodule.image, []).append(nodule.box)
    found = []
    for image, corners in boxes.items():
        frame = load_image(image)
        inside = np.zeros(frame.shape, bool)
        for x_min, y_min, x_max, y_max in corners:
            inside[y_min:y_max, x_min:x_max] = True
        found.append((frame, find_sector(frame), inside))
    return found


def test_no_echo_of_an_annotated_box_is_lost(
    frames: list[tuple[np.ndarray, np.ndarray, np.ndarray]],
) -> None:
    lost = sum((inside & ~sector).sum() for _, sector, inside in frames)
    total = sum(inside.sum() for _, _, inside in frames)
    assert lost / total < 0.001  # outlines drawn a little beyond the sector, onto the black ground
    assert not any((frame[inside & ~sector] > 16).any() for frame, sector, inside in frames)


def test_the_text_below_the_sector_is_gone(
    frames: list[tuple[np.ndarray, np.ndarray, np.ndarray]],
) -> None:
    # DDTI's usual frames end at row 309 and carry their remarks below row 312.
    with_text = [sector for frame, sector, _ in frames if (frame[312:] > 60).any()]
    reaching = sum(bool(sector[312:].any()) for sector in with_text)
    assert len(with_text) > 250
    assert reaching < 0.06 * len(with_text)  # the few frames of a larger format, without remarks


@pytest.mark.parametrize("ground", [0, 30])
@pytest.mark.parametrize("store", [np.asarray, jpeg])
def test_a_grey_banner_with_a_name_on_it_is_no_sector(
    store: Callable[[np.ndarray], np.ndarray], ground: int
) -> None:
    """As on scanners that write name, hospital and date on a bar, here 60 of grey level 58."""
    sector = trapezoid()
    sector[:75] = False
    frame = speckle(sector)
    frame[~sector] = ground
    frame[:60] = 58
    for text, place in (("DOE JANE 1953-02-04", (20, 25)), ("SAINT ELSEWHERE", (200, 50))):
        cv2.putText(frame, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.7, 255, 1, cv2.LINE_AA)
    masked = mask_overlay(store(frame))
    assert not masked[:66].any()
    assert (masked > 0)[sector].mean() > 0.9
