"""The phantom's anatomy: tissue layers, vessels, thyroid and trachea, painted into the maps."""

from __future__ import annotations

import numpy as np

from thyrojax.data.phantom_maps import (
    FAT_DB,
    FLUID_DB,
    MUSCLE_DB,
    SHEATH_DB,
    SKIN_DB,
    Maps,
    blend,
    distance,
    inside,
    line,
    mottle,
    region,
)
from thyrojax.data.phantom_scene import N_ANGLES, SECTOR_HEIGHT, SECTOR_WIDTH, Blob, Scene
from thyrojax.shapes import Float


def paint_tissue(maps: Maps, scene: Scene, rng: np.random.Generator) -> None:
    """Paints all of a scene but its nodule, from what lies behind to what lies over it."""
    _paint_layers(maps, scene, rng)
    _paint_depth(maps, scene, rng)
    _paint_vessels(maps, scene, rng)
    _paint_thyroid(maps, scene, rng)
    _paint_trachea(maps, scene, rng)


def _paint_layers(maps: Maps, scene: Scene, rng: np.random.Generator) -> None:
    """Skin, fat with its septa, strap muscles with their fibres, and the fasciae between them."""
    import cv2

    shape = maps.level.shape
    centre, curvature = scene.bulge
    # Depth from the skin along the bent layers: the probe flattens the skin, not what lies deeper.
    bend = np.minimum(curvature * (maps.x - np.float32(centre)) ** 2, 4.0)
    depth = maps.z - bend * np.minimum(maps.z / 8, 1) + 0.25 * mottle(rng, (1, shape[1]), 2, 60)
    rows = (depth / scene.spacing).astype(np.float32)
    columns = np.broadcast_to(np.arange(shape[1], dtype=np.float32), shape)
    streaks = cv2.remap(
        mottle(rng, shape, 4, 60) + 0.5 * mottle(rng, shape, 2, 24),
        np.ascontiguousarray(columns),
        rows,
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT,
    )
    maps.level[:] += 3.0 * streaks
    is_fat = inside(depth - scene.fat, 0.15)
    blend(maps.level, is_fat, FAT_DB + 2.0 * streaks)
    blend(maps.level, inside(depth - scene.skin, 0.15), SKIN_DB + 1.5 * streaks)
    # Septa and fibres are the crests of the streaks: thin, bright, nearly level.
    crests = np.maximum(streaks - 0.7, 0)
    maps.interface[:] = crests * (0.35 + 0.6 * is_fat)
    # The fasciae lie in the upper part only: bends go down by at most 4 mm.
    top = slice(0, int((scene.strap + 7) / scene.spacing))
    depth, interface = depth[top], maps.interface[top]
    gloss = _gloss(rng, shape[1])
    for at, strength in (
        (0.25, 5.0),
        (scene.skin, 3.0),
        (scene.fat, 3.2),
        (scene.strap - 0.5, 2.2),
    ):
        np.maximum(interface, strength * gloss * line(depth - at, 0.16), out=interface)
    # The sternocleidomastoid lies over the straps at the side: an oblique fascia divides them.
    oblique = depth - (scene.fat + 0.30 * (maps.x - np.float32(scene.lobe.x - 3)))
    on_straps = (depth > scene.fat) & (depth < scene.strap + 2)
    np.maximum(interface, 1.8 * gloss * line(oblique, 0.16) * on_straps, out=interface)


def _gloss(rng: np.random.Generator, width: int) -> Float[np.ndarray, "1 width"]:
    """How strongly an interface reflects along its course: it is nowhere quite even."""
    uneven = 0.5 * mottle(rng, (1, width), 2, 25) + 0.3 * mottle(rng, (1, width), 2, 6)
    return np.clip(0.9 + uneven, 0.1, 2.0)


def _paint_depth(maps: Maps, scene: Scene, rng: np.random.Generator) -> None:
    """Behind the lobe: longus colli muscle, prevertebral fascia, and the spine with its shadow."""
    longus = scene.longus
    where = region(scene, longus, 1.0)
    edge = distance(maps, longus, where)
    level = maps.level[where]
    blend(level, inside(edge, 0.3), MUSCLE_DB - 2.0 + 2.0 * mottle(rng, level.shape, 4, 40))
    front = np.clip((longus.z + 0.5 - maps.z[where[0]]) / longus.half_height, 0, 1)
    gloss = np.clip(0.8 + 0.8 * mottle(rng, (1, level.shape[1]), 2, 20), 0, 2.5)
    np.maximum(
        maps.interface[where], 3.0 * gloss * front * line(edge, 0.3), out=maps.interface[where]
    )
    bone = (
        longus.z
        + longus.half_height
        + 0.6
        + 0.012 * (maps.x - np.float32(longus.x + 3)) ** 2
        + 0.4 * mottle(rng, (1, SECTOR_WIDTH), 2, 30)
    )
    below = maps.z - bone
    shine = np.clip(0.5 + 0.9 * mottle(rng, (1, SECTOR_WIDTH), 2, 22), 0, 2.0)
    np.maximum(maps.interface, 5.0 * shine * line(below - 0.2, 0.45), out=maps.interface)
    maps.attenuation[:] += np.where((below > 0.5) & (below < 4), np.float32(4.0), np.float32(0))


def _paint_vessels(maps: Maps, scene: Scene, rng: np.random.Generator) -> None:
    """The carotid sheath: loose tissue, the artery with its bright walls, the flattened vein."""
    carotid = scene.carotid
    sheath = Blob(
        carotid.x, carotid.z, carotid.half_width + 1.3, carotid.half_height + 1.0, carotid.radii
    )
    where = region(scene, sheath, 1.0)
    level = maps.level[where]
    blend(
        level,
        inside(distance(maps, sheath, where), 0.6),
        SHEATH_DB + 2.0 * mottle(rng, level.shape, 12, 20),
    )
    for vessel, wall in ((scene.jugular, 1.2), (carotid, 3.0)):
        where = region(scene, vessel, 1.0)
        edge = distance(maps, vessel, where)
        blend(maps.level[where], inside(edge, 0.12), FLUID_DB)
        blend(maps.interface[where], inside(edge, 0.2), 0.0)
        upright = (maps.z[where[0]] - vessel.z) ** 2 / np.float32(vessel.half_height**2)
        np.maximum(
            maps.interface[where],
            wall * np.minimum(upright, 1) ** 2 * line(edge - 0.25, 0.3),
            out=maps.interface[where],
        )
        maps.attenuation[where] -= np.float32(0.9) * inside(edge, 0.2)


def _paint_thyroid(maps: Maps, scene: Scene, rng: np.random.Generator) -> None:
    """One lobe and the isthmus: brighter and more even than muscle, in a thin capsule."""
    lobe = scene.lobe
    where = region(scene, lobe, 1.2)
    edge = distance(maps, lobe, where)
    trachea_x, trachea_z, radius = scene.trachea
    from_trachea = np.hypot(maps.x[:, where[1]] - trachea_x, maps.z[where[0]] - trachea_z)
    _paint_isthmus(maps, scene)
    within = inside(edge, 0.15)
    level = maps.level[where]
    blend(level, within, 0.7 * mottle(rng, level.shape, 14, 18))
    blend(maps.interface[where], within, 0.0)
    # A mirror returns sound where it faces the probe: the capsule shows at front and back.
    facing = np.minimum(((maps.z[where[0]] - lobe.z) / np.float32(lobe.half_height)) ** 2, 1)
    capsule = (
        3.0
        * _gloss(rng, level.shape[1])
        * facing
        * line(edge - 0.15, 0.22)
        * (from_trachea > radius)
    )
    np.maximum(maps.interface[where], capsule, out=maps.interface[where])


def _paint_isthmus(maps: Maps, scene: Scene) -> None:
    x, z, radius = scene.trachea
    ring = Blob(x, z, radius + scene.isthmus, radius + scene.isthmus, np.ones(N_ANGLES))
    where = region(scene, ring, 0.5)
    offset_z = maps.z[where[0]] - np.float32(z)
    height = np.sqrt((maps.x[:, where[1]] - np.float32(x)) ** 2 + offset_z**2) - np.float32(radius)
    front = inside(offset_z + np.float32(0.2 * radius), 1.0)
    band = inside(np.abs(height - scene.isthmus / 2) - scene.isthmus / 2, 0.15) * front
    blend(maps.level[where], band, -0.5)
    interface = maps.interface[where]
    blend(interface, band, 0.0)
    facing = np.minimum(offset_z / np.float32(radius), 0) ** 2
    np.maximum(interface, 2.4 * facing * front * line(height - scene.isthmus, 0.25), out=interface)


def _paint_trachea(maps: Maps, scene: Scene, rng: np.random.Generator) -> None:
    """Dark cartilage, the bright line of mucosa on air within; then shadow and echoes of it."""
    x, z, radius = scene.trachea
    ring = Blob(x, z, radius, radius, np.ones(N_ANGLES))
    where = region(scene, ring, 0.5)
    depth_rows = slice(where[0].start, SECTOR_HEIGHT)
    where = (depth_rows, where[1])
    offset_x = maps.x[:, where[1]] - np.float32(x)
    offset_z = maps.z[depth_rows] - np.float32(z)
    edge = np.sqrt(offset_x**2 + offset_z**2) - np.float32(radius)
    blend(maps.level[where], inside(edge, 0.2), MUSCLE_DB - 4.0)
    blend(maps.interface[where], inside(edge, 0.2), 0.0)
    # Air begins 1.4 mm inside; below its front nothing is seen but repetitions of the line.
    inner = np.float32(radius - 1.4)
    half_chord = np.sqrt(np.maximum(inner**2 - offset_x**2, 0)) + 0.2 * mottle(
        rng, (1, edge.shape[1]), 2, 14
    )
    below = offset_z + half_chord  # mm under the air's front, in this column
    airy = (np.abs(offset_x) < inner) & (below > 0)
    maps.attenuation[where] += np.where(airy & (below < 3), np.float32(9.0), np.float32(0))
    facing = (half_chord / inner) ** 2
    gloss = np.clip(0.8 + 0.6 * mottle(rng, edge.shape, 30, 12), 0.05, 2.2)
    air = facing * gloss * line(below - 0.1, 0.35) * (np.abs(offset_x) < inner)
    np.maximum(maps.interface[where], 9.0 * air, out=maps.interface[where])
    haze = np.exp(-np.maximum(below, 0) / np.float32(3.0)) * airy
    gap = np.float32(rng.uniform(1.5, 2.2))
    repeats = np.maximum(np.cos(2 * np.pi * below / gap), 0) ** 4
    maps.artefact[where] += facing * gloss * haze * (0.10 + 0.5 * repeats)
