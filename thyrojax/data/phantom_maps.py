"""The phantom's maps: what each pixel's tissue does to sound, and the brushes that paint them.

Echogenicity is in decibels relative to normal thyroid, which is how the paper grades a nodule's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from thyrojax.data.phantom_scene import (
    COSINES,
    N_ANGLES,
    SECTOR_HEIGHT,
    SECTOR_WIDTH,
    SINES,
    Blob,
    Scene,
)
from thyrojax.shapes import Float

SKIN_DB = 4.0
FAT_DB = -12.0
MUSCLE_DB = -13.0  # strap muscle: what a markedly hypoechoic nodule is darker than
SHEATH_DB = -3.0  # loose tissue about the carotid
FLUID_DB = -34.0
NODULE_DB = {
    "hyperechoic": 5.5,
    "isoechoic": -1.5,
    "hypoechoic": -9.5,
    "markedly_hypoechoic": -18.5,
}
HALO_DB = -19.0

Region = tuple[slice, slice]


@dataclass(frozen=True, eq=False)
class Maps:
    """A scene over the sector's pixels (depth, lateral). Amplitudes are relative to thyroid = 1."""

    x: Float[np.ndarray, "1 width"]  # mm
    z: Float[np.ndarray, "height 1"]  # mm
    level: Float[np.ndarray, "height width"]  # diffuse echogenicity, dB
    interface: Float[np.ndarray, "height width"]  # amplitude of mirror-like echoes
    attenuation: Float[np.ndarray, "height width"]  # dB/mm both ways, beyond what TGC takes back
    artefact: Float[np.ndarray, "height width"]  # amplitude of reverberations, which no shadow dims


def blank_maps(spacing: float) -> Maps:
    """Maps of a sector full of muscle, at `spacing` mm per pixel."""
    shape = (SECTOR_HEIGHT, SECTOR_WIDTH)
    return Maps(
        x=((np.arange(SECTOR_WIDTH, dtype=np.float32) + 0.5) * spacing)[None, :],
        z=((np.arange(SECTOR_HEIGHT, dtype=np.float32) + 0.5) * spacing)[:, None],
        level=np.full(shape, MUSCLE_DB, np.float32),
        interface=np.zeros(shape, np.float32),
        attenuation=np.zeros(shape, np.float32),
        artefact=np.zeros(shape, np.float32),
    )


def region(scene: Scene, blob: Blob, around: float) -> Region:
    """The pixels that hold a blob and `around` mm about it; may be empty outside the sector."""
    x, z = blob.outline()

    def cut(low: float, high: float, size: int) -> slice:
        first = int(np.clip((low - around) / scene.spacing, 0, size))
        return slice(first, int(np.clip((high + around) / scene.spacing + 1, first, size)))

    return cut(z.min(), z.max(), SECTOR_HEIGHT), cut(x.min(), x.max(), SECTOR_WIDTH)


def distance(maps: Maps, blob: Blob, where: Region) -> Float[np.ndarray, "rows columns"]:
    """mm from the blob's edge along the ray from its centre; negative inside."""
    u = (maps.x[:, where[1]] - np.float32(blob.x)) / np.float32(blob.half_width)
    v = (maps.z[where[0]] - np.float32(blob.z)) / np.float32(blob.half_height)
    turn = np.arctan2(v, u) * np.float32(N_ANGLES / (2 * np.pi))
    place = turn.astype(np.int32) % N_ANGLES
    reach = np.hypot(blob.half_width * COSINES, blob.half_height * SINES).astype(np.float32)
    radii = blob.radii.astype(np.float32)
    return (np.sqrt(u * u + v * v) - radii[place]) * reach[place]


def inside(distances: Float[np.ndarray, " ..."], blur: float) -> Float[np.ndarray, " ..."]:
    """1 inside, 0 outside, a straight ramp over +-blur mm about the edge."""
    return np.clip(np.float32(0.5) - distances * np.float32(0.5 / blur), 0, 1)


def line(distances: Float[np.ndarray, " ..."], width: float) -> Float[np.ndarray, " ..."]:
    """1 on the edge, falling to 0 at `width` mm on both sides."""
    return np.clip(1 - np.abs(distances) * np.float32(1 / width), 0, 1)


def blend(
    field: Float[np.ndarray, "rows columns"],
    weight: Float[np.ndarray, "rows columns"],
    value: Float[np.ndarray, "rows columns"] | float,
) -> None:
    """Moves the field towards the value by the weight, in place."""
    field += weight * (value - field)


def mottle(
    rng: np.random.Generator, shape: tuple[int, int], rows: int, columns: int
) -> Float[np.ndarray, "rows columns"]:
    """Smooth noise of unit variance at its knots, which are `rows` and `columns` pixels apart."""
    if 0 in shape:  # an organ outside the sector
        return np.zeros(shape, np.float32)
    import cv2

    knots = rng.standard_normal(
        (max(2, shape[0] // rows + 2), max(2, shape[1] // columns + 2)), np.float32
    )
    return cv2.resize(knots, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
