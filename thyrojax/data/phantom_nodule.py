"""The phantom's nodule: margin, composition, echogenicity and calcification as ultrasound shows."""

from __future__ import annotations

import numpy as np

from thyrojax.data.phantom_maps import (
    FLUID_DB,
    HALO_DB,
    NODULE_DB,
    Maps,
    Region,
    blend,
    distance,
    inside,
    line,
    mottle,
    region,
)
from thyrojax.data.phantom_scene import Blob, Scene
from thyrojax.shapes import Float


def paint_nodule(maps: Maps, scene: Scene, rng: np.random.Generator) -> None:
    """Paints the scene's nodule over the tissues that are already in the maps."""
    case, nodule = scene.case, scene.nodule
    where = region(scene, nodule, 2.0)
    edge = distance(maps, nodule, where)
    shortest = 2 * min(nodule.half_width, nodule.half_height)
    blur = 0.10
    if case.margin == "ill_defined":
        # No edge: the change is spread over a fifth of the nodule and wanders.
        blur = float(np.clip(0.2 * shortest, 0.5, 1.8))
        edge = edge + 0.6 * blur * mottle(rng, edge.shape, 9, 11)
    within = inside(edge, blur)
    level, interface = maps.level[where], maps.interface[where]
    base = NODULE_DB[case.echogenicity] + rng.uniform(-0.7, 0.7)
    blend(interface, inside(edge, max(blur, 0.2)), 0.0)
    blend(level, within, base + 2.0 * mottle(rng, level.shape, 9, 12))
    if case.margin == "halo":
        blend(level, within * inside(-edge - scene.halo, 0.08), HALO_DB)
    elif case.margin in ("smooth", "lobulated"):
        # A thin capsule, bright where it faces the probe.
        facing = np.minimum(
            ((maps.z[where[0]] - nodule.z) / np.float32(nodule.half_height)) ** 2, 1
        )
        blend(level, 0.8 * line(edge + 0.25, 0.25), base - 5.0)
        np.maximum(interface, (0.5 + 1.2 * facing) * line(edge - 0.15, 0.2), out=interface)
    if case.composition == "cystic":
        _paint_cyst(maps, scene, where, edge, rng)
    elif case.composition == "spongiform":
        _paint_sponge(maps, scene, where, edge, rng)
    if case.calcification == "micro":
        _paint_specks(maps, scene, rng)
    elif case.calcification == "macro":
        _paint_plaque(maps, scene, rng)
    elif case.calcification == "comet_tail":
        _paint_comet_tails(maps, scene, rng)


def _paint_cyst(
    maps: Maps,
    scene: Scene,
    where: Region,
    edge: Float[np.ndarray, "rows columns"],
    rng: np.random.Generator,
) -> None:
    """Fluid inside a wall; what lies behind it is brighter, for fluid attenuates less."""
    nodule = scene.nodule
    wall = float(np.clip(0.09 * scene.case.size_mm, 0.4, 1.0))
    fluid = inside(edge + wall + 0.2 * wall * mottle(rng, edge.shape, 16, 20), 0.12)
    blend(maps.level[where], fluid, FLUID_DB)
    maps.attenuation[where] -= np.float32(min(1.0, 7.0 / (2 * nodule.half_height))) * fluid


def _paint_sponge(
    maps: Maps,
    scene: Scene,
    where: Region,
    edge: Float[np.ndarray, "rows columns"],
    rng: np.random.Generator,
) -> None:
    """Tiny cystic spaces fill more than half of the nodule (paper, "Patients and US images")."""
    import cv2

    nodule, spacing = scene.nodule, scene.spacing
    pitch = float(np.clip(0.10 * scene.case.size_mm, 0.85, 1.4))
    left, top = where[1].start * spacing, where[0].start * spacing
    holes = np.zeros(edge.shape, np.uint8)
    n_rows = int(2 * nodule.half_height / pitch) + 3
    n_columns = int(2 * nodule.half_width / (1.15 * pitch)) + 3
    bits = 4  # fractional bits of OpenCV's coordinates
    for row in range(n_rows):
        for column in range(n_columns):
            jitter = rng.uniform(-0.32, 0.32, 2)
            x = nodule.x + (column - n_columns / 2 + 0.5 * (row % 2) + jitter[0]) * 1.15 * pitch
            z = nodule.z + (row - n_rows / 2 + 0.5 + jitter[1]) * pitch
            size = pitch * rng.uniform(0.28, 0.56)
            centre = ((x - left) / spacing - 0.5, (z - top) / spacing - 0.5)
            axes = (1.2 * size / spacing, 0.85 * size / spacing)
            cv2.ellipse(
                holes,
                (round(centre[0] * 2**bits), round(centre[1] * 2**bits)),
                (round(axes[0] * 2**bits), round(axes[1] * 2**bits)),
                0,
                0,
                360,
                255,
                -1,
                cv2.LINE_AA,
                bits,
            )
    fluid = holes.astype(np.float32) * np.float32(1 / 255) * inside(edge + 0.35, 0.15)
    blend(maps.level[where], fluid, -22.0)
    # The far wall of each space is a mirror: short bright lines, the sign of colloid nodules.
    wall = np.maximum(fluid[:-1] - fluid[1:], 0)
    maps.interface[where][1:] += 1.8 * wall
    maps.attenuation[where] -= np.float32(0.25) * fluid


def _positions(
    nodule: Blob, rng: np.random.Generator, n: int, within: float
) -> list[tuple[float, float]]:
    """Random places (x, z) in mm, evenly spread over the middle of the nodule."""
    reach, turn = within * np.sqrt(rng.random(n)), rng.uniform(0, 2 * np.pi, n)
    edge = np.interp(
        turn, np.arange(len(nodule.radii)) * (2 * np.pi / len(nodule.radii)), nodule.radii
    )
    return list(
        zip(
            (nodule.x + nodule.half_width * edge * reach * np.cos(turn)).tolist(),
            (nodule.z + nodule.half_height * edge * reach * np.sin(turn)).tolist(),
            strict=True,
        )
    )


def _pixel(scene: Scene, x: float, z: float, shape: tuple[int, int]) -> tuple[int, int] | None:
    row, column = int(z / scene.spacing), int(x / scene.spacing)
    return (row, column) if 0 <= row < shape[0] and 0 <= column < shape[1] else None


def _paint_specks(maps: Maps, scene: Scene, rng: np.random.Generator) -> None:
    """Microcalcification: bright points under 1 mm, without shadow."""
    nodule = scene.nodule
    area = np.pi * nodule.half_width * nodule.half_height
    n = int(np.clip(4 + 0.16 * area, 4, 22) * rng.uniform(0.8, 1.3))
    for x, z in _positions(nodule, rng, n, 0.8):
        pixel = _pixel(scene, x, z, (maps.level.shape[0], maps.level.shape[1]))
        if pixel is not None:
            maps.interface[pixel] += rng.uniform(25, 55)


def _paint_plaque(maps: Maps, scene: Scene, rng: np.random.Generator) -> None:
    """Macrocalcification: a coarse bright arc of more than 1 mm that casts a shadow."""
    nodule = scene.nodule
    ((x, z),) = _positions(nodule, rng, 1, 0.3)
    half_length = float(np.clip(rng.uniform(0.22, 0.34) * 2 * nodule.half_width, 0.7, 3.5))
    columns = np.abs(maps.x[0] - x) < half_length
    offset = maps.x[:, columns] - np.float32(x)
    arc = z + 0.3 * offset**2 / half_length + 0.22 * mottle(rng, (1, int(columns.sum())), 2, 7)
    below = maps.z - arc
    rough = np.clip(1 + 0.4 * mottle(rng, (1, int(columns.sum())), 2, 5), 0.3, 2)
    plaque = 9.0 * rough * line(below - 0.25, 0.45)
    maps.interface[:, columns] = np.maximum(maps.interface[:, columns], plaque)
    maps.attenuation[:, columns] += np.where(
        (below > 0.5) & (below < 2.0), np.float32(13), np.float32(0)
    )


def _paint_comet_tails(maps: Maps, scene: Scene, rng: np.random.Generator) -> None:
    """Reverberation in colloid: a bright point with a tail of ever shorter and fainter bars."""
    shape = (maps.level.shape[0], maps.level.shape[1])
    for x, z in _positions(
        scene.nodule, rng, int(rng.integers(1, 4 if scene.case.size_mm > 6 else 2)), 0.6
    ):
        gap = rng.uniform(0.26, 0.34)
        n_bars = int(np.clip(0.5 * scene.case.size_mm / gap, 4, rng.integers(6, 11)))
        for bar in range(n_bars):
            left = 1 - bar / n_bars
            half = round(0.32 * left / scene.spacing)
            pixel = _pixel(scene, x, z + bar * gap, shape)
            if pixel is not None:
                row, column = pixel
                maps.artefact[row, max(0, column - half) : column + half + 1] += (
                    9.0 * left * rng.uniform(0.5, 1.3)
                )
