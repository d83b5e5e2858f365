"""A simulator of B-mode frames of the thyroid in transverse section: the physics of the image.

Fully developed speckle from a field of random scatterers blurred by a point-spread function (the
convolution model of Bamber and Dickinson 1980), then envelope detection, time gain compensation and
log compression to about 60 dB.
Anatomy is in `phantom_scene` and `phantom_tissue`, who has which nodule in `phantom_case`.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from thyrojax.data.phantom_case import random_generator
from thyrojax.data.phantom_maps import blank_maps, mottle
from thyrojax.data.phantom_nodule import paint_nodule
from thyrojax.data.phantom_scene import (
    FRAME_HEIGHT,
    FRAME_WIDTH,
    SECTOR_HEIGHT,
    SECTOR_TOP,
    SECTOR_WIDTH,
    Scene,
)
from thyrojax.data.phantom_tissue import paint_tissue
from thyrojax.shapes import Float, UInt8

BLACK = 5  # grey of no echo: as on scanners, it stands a little above the frame's ground


def render(scene: Scene) -> UInt8[np.ndarray, "height width"]:
    """Renders a scene as a grey frame of FRAME_HEIGHT x FRAME_WIDTH pixels.

    The same scene gives the same pixels in any process of a machine (libraries may differ by a grey
    level between processors).
    """
    rng = random_generator(scene.case.seed, scene.case.patient, scene.view, 1)
    sector = _scan(scene, rng)
    if scene.mirrored:
        sector = sector[:, ::-1]
    frame = np.zeros((FRAME_HEIGHT, FRAME_WIDTH), np.uint8)
    left = scene.sector_left
    frame[SECTOR_TOP : SECTOR_TOP + SECTOR_HEIGHT, left : left + SECTOR_WIDTH] = sector
    _burn_in_marks(frame, scene, rng)
    return frame


def _scan(scene: Scene, rng: np.random.Generator) -> UInt8[np.ndarray, "height width"]:
    """The sector's image: echoes, beam, envelope, gain, compression."""
    import cv2

    maps = blank_maps(scene.spacing)
    paint_tissue(maps, scene, rng)
    paint_nodule(maps, scene, rng)
    depth = maps.z[:, 0]

    # Echo strength: sound that has crossed a tissue twice is weaker, or stronger, by what it lost.
    lost = np.cumsum(maps.attenuation, axis=0, dtype=np.float32) * np.float32(scene.spacing)
    loss = cv2.GaussianBlur(lost, (0, 0), 3.0, sigmaY=0.6)
    # Uneven contact and overlying tissue shade whole scan lines, more so with depth.
    shade = mottle(rng, (1, SECTOR_WIDTH), 2, 14) + mottle(rng, (1, SECTOR_WIDTH), 2, 45)
    loss += np.maximum(0.07 * shade, -0.05) * maps.z  # dB/mm times mm
    passed = _amplitude(-loss)
    # An interface is rough: most of its echo is scattered like tissue's, the rest is a mirror's.
    rough = maps.interface * passed
    strength = np.sqrt(((_amplitude(maps.level) * passed) ** 2 + rough**2) / 2)
    white = rng.standard_normal((*strength.shape, 2), np.float32)
    echoes = white * strength[..., None]
    echoes[..., 0] += 0.4 * rough + maps.artefact

    echoes = _blur_by_beam(echoes, scene.spacing, rng)

    # Electronic noise, which TGC raises with depth; then the envelope's square. The same white
    # numbers from half the sector away are as good as new ones and save a fifth of the time.
    noise = _amplitude(rng.uniform(-38, -34) + 0.35 * depth)
    echoes += np.roll(white, SECTOR_HEIGHT // 2, axis=0) * noise[:, None, None]
    power = echoes[..., 0] ** 2 + echoes[..., 1] ** 2
    power = cv2.GaussianBlur(power, (0, 0), 0.7)

    # Log compression to a dynamic range of about 60 dB; normal thyroid lies at mid grey.
    dynamic_range = rng.uniform(56, 64)
    residual = rng.uniform(-0.25, 0.05)  # dB/mm that TGC leaves
    gain = rng.uniform(-2.5, 2.5) + residual * (depth - 15)
    decibels = cv2.log(power + np.float32(1e-9)) * np.float32(10 / np.log(10))
    decibels += gain.astype(np.float32)[:, None]
    grey = np.float32(118) + decibels * np.float32(255 / dynamic_range)
    grey = np.clip(grey, BLACK, 255)
    half_width = scene.spacing * SECTOR_WIDTH / 2
    if scene.corner > 0:
        slope = np.maximum(scene.corner * (1 - maps.z / (0.6 * depth[-1])), 0)
        grey[np.abs(maps.x - half_width) > half_width - slope] = 0
    return grey.astype(np.uint8)


def _amplitude(decibels: Float[np.ndarray, " ..."]) -> Float[np.ndarray, " ..."]:
    return np.exp(decibels * np.float32(np.log(10) / 20))


@lru_cache(maxsize=64)
def _kernel(sigma: float) -> Float[np.ndarray, " taps"]:
    """A Gaussian of unit energy, so that blurring white scatterers keeps their mean power."""
    reach = int(np.ceil(3 * sigma))
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return (taps / np.sqrt(np.sum(taps**2))).astype(np.float32)


def _blur_by_beam(
    echoes: Float[np.ndarray, "height width 2"], spacing: float, rng: np.random.Generator
) -> Float[np.ndarray, "height width 2"]:
    """The point-spread function: short along the beam, wider across it, and wider with depth.

    The lateral width runs linearly with depth through three blurred copies; their mixture is
    brought back to unit energy row by row.
    """
    import cv2

    axial, shallow, slope = rng.uniform(0.075, 0.095), rng.uniform(0.15, 0.19), 0.006
    height = echoes.shape[0]
    one = np.ones(1, np.float32)
    echoes = cv2.sepFilter2D(echoes, -1, one, _kernel(axial / spacing))
    blurred = np.empty_like(echoes)
    knots = (0, height // 2, height)
    kernels = [_kernel((shallow + slope * spacing * row) / spacing) for row in knots]
    for band in range(2):
        rows = slice(knots[band], knots[band + 1])
        share = np.linspace(0, 1, rows.stop - rows.start, dtype=np.float32)
        near, far = kernels[band], kernels[band + 1]
        padded = np.pad(near, (len(far) - len(near)) // 2)
        mixed = (1 - share)[:, None] * padded + share[:, None] * far
        energy = np.sqrt(np.sum(mixed**2, axis=1))
        part = echoes[rows]
        blurred[rows] = (
            cv2.sepFilter2D(part, -1, near, one) * ((1 - share) / energy)[:, None, None]
            + cv2.sepFilter2D(part, -1, far, one) * (share / energy)[:, None, None]
        )
    return blurred


def _burn_in_marks(
    frame: UInt8[np.ndarray, "height width"], scene: Scene, rng: np.random.Generator
) -> None:
    """What machines write beside the sector: grey bar, depth ticks, focus, settings, probe side."""
    import cv2

    left, right = scene.sector_left, scene.sector_left + SECTOR_WIDTH
    bar = np.linspace(255, 0, 96).astype(np.uint8)
    frame[120:216, 10:18] = bar[:, None]
    depth = int(SECTOR_HEIGHT * scene.spacing)
    for millimetre in range(0, depth + 1, 5):
        row = SECTOR_TOP + min(round(millimetre / scene.spacing), SECTOR_HEIGHT - 1)
        frame[row, left - (7 if millimetre % 10 == 0 else 5) : left - 3] = 200
    focus = SECTOR_TOP + round(rng.uniform(12, 20) / scene.spacing)
    for step in range(4):
        frame[focus - step : focus + step + 1, left - 16 + step] = 220
    settings = (
        "12L",
        f"{rng.integers(9, 13)}.0",
        f"{rng.integers(24, 38)}fps",
        f"G{rng.integers(70, 95)}",
    )
    for number, text in enumerate(settings):
        _write(frame, text, right + 6, SECTOR_TOP + 12 + 13 * number)
    _write(
        frame,
        str(depth // 10),
        left - 20,
        SECTOR_TOP + round(10 * (depth // 10) / scene.spacing) - 2,
    )
    side = "R" if scene.mirrored else "L"  # the trachea is medial, the patient's right on the left
    cv2.circle(frame, (left + SECTOR_WIDTH - 12, SECTOR_TOP + 12), 3, 210, 1, cv2.LINE_AA)
    _write(frame, f"{side} THYROID", left + 4, FRAME_HEIGHT - 3)


def _write(frame: UInt8[np.ndarray, "height width"], text: str, x: int, y: int) -> None:
    import cv2

    cv2.putText(frame, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.34, 200, 1, cv2.LINE_AA)
