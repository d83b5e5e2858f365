"""Where things lie in a frame of the phantom: tissue layers, organs, nodule, sector and box.

Lengths are millimetres, x lateral from the sector's left edge, z depth from the skin. Everything is
laid out with the trachea on the left; `Scene.mirrored` turns the frame for the other lobe. Nothing
here knows the case's class: two cases of the same features give the same scene.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from thyrojax.data.phantom_case import Case, random_generator
from thyrojax.data.records import Box, box_outward
from thyrojax.shapes import Float

FRAME_WIDTH, FRAME_HEIGHT = 480, 360
SECTOR_WIDTH, SECTOR_HEIGHT, SECTOR_TOP = 372, 332, 14

N_ANGLES = 512
ANGLES = np.arange(N_ANGLES) * (2 * np.pi / N_ANGLES)
COSINES, SINES = np.cos(ANGLES), np.sin(ANGLES)


@dataclass(frozen=True, eq=False)
class Blob:
    """A star-shaped region: an ellipse whose radius is multiplied by `radii` at each angle."""

    x: float
    z: float
    half_width: float
    half_height: float
    radii: Float[np.ndarray, " angles"]  # without unit, about 1, at ANGLES

    def outline(self) -> tuple[Float[np.ndarray, " angles"], Float[np.ndarray, " angles"]]:
        """The edge's x and z in mm."""
        return (
            self.x + self.half_width * self.radii * COSINES,
            self.z + self.half_height * self.radii * SINES,
        )


@dataclass(frozen=True, eq=False)
class Scene:
    """One view of one case, ready to be rendered."""

    case: Case
    view: int
    spacing: float  # mm per pixel
    sector_left: int  # column of the sector's first pixel in the frame
    corner: float  # mm cut from the sector's upper corners (virtual convex scan), 0 = rectangle
    mirrored: bool
    skin: float  # depth of each layer's lower edge
    fat: float
    strap: float
    bulge: tuple[float, float]  # x and curvature (1/mm) of the layers' forward bend
    trachea: tuple[float, float, float]  # x, z, radius
    isthmus: float  # thickness in front of the trachea
    lobe: Blob
    carotid: Blob
    jugular: Blob
    longus: Blob  # longus colli muscle, behind the lobe
    nodule: Blob
    halo: float  # thickness of the dark rim, 0 = none

    @property
    def box(self) -> Box:
        """The smallest whole-pixel box of the frame that holds the nodule's outline."""
        x, z = self.nodule.outline()
        left, right = x.min() / self.spacing, x.max() / self.spacing
        if self.mirrored:
            left, right = SECTOR_WIDTH - right, SECTOR_WIDTH - left
        return box_outward(
            self.sector_left + left,
            SECTOR_TOP + z.min() / self.spacing,
            self.sector_left + right,
            SECTOR_TOP + z.max() / self.spacing,
        )


def wavy_radii(
    rng: np.random.Generator, amplitude: float, lowest: int = 2, highest: int = 4
) -> Float[np.ndarray, " angles"]:
    """Radii about 1 with random harmonics, each of root-mean-square `amplitude` / harmonic."""
    radii = np.ones(N_ANGLES)
    for harmonic in range(lowest, highest + 1):
        size = amplitude * rng.normal() / harmonic
        radii += size * np.cos(harmonic * ANGLES + rng.uniform(0, 2 * np.pi))
    return radii


def nodule_radii(rng: np.random.Generator, margin: str) -> Float[np.ndarray, " angles"]:
    """The outline of each margin of the paper's Table 2, before it is stretched to its size."""
    if margin == "lobulated":  # three to five rounded bulges with notches between them
        n_bulges = int(rng.integers(4, 7))
        bent = ANGLES + 0.25 * np.sin(ANGLES + rng.uniform(0, 2 * np.pi))
        bulges = np.abs(np.sin(n_bulges * bent / 2 + rng.uniform(0, np.pi)))
        return 0.78 + 0.28 * bulges**0.7
    if margin == "irregular":  # angles and spikes: a polygon with corners far out and far in
        n_corners = 2 * int(rng.integers(6, 9))
        steps = rng.uniform(0.6, 1.4, n_corners)
        corners = np.cumsum(steps) / steps.sum() * 2 * np.pi
        radii = 1 + np.where(np.arange(n_corners) % 2 == 0, 1, -1) * rng.uniform(
            0.06, 0.26, n_corners
        )
        return np.interp(ANGLES, corners, radii, period=2 * np.pi)
    if margin == "ill_defined":
        return wavy_radii(rng, 0.18, highest=7)
    if margin == "ete":
        return wavy_radii(rng, 0.16, highest=9)
    return wavy_radii(rng, 0.04)  # smooth, halo


def lay_out(case: Case, view: int) -> Scene:
    """Lays out frame number `view` of a case; seeded by the case's seed, its patient and `view`.

    Views of one case share anatomy, features and size; the section's outline, the place of the
    nodule and of the probe differ a little.
    """
    patient = random_generator(case.seed, case.patient, 0)
    section = random_generator(case.seed, case.patient, view, 0)

    # The patient and the machine's setting.
    mirrored = bool(patient.random() < 0.5)
    depth = float(patient.choice((32.0, 36.0) if case.size_mm < 7 else (36.0, 40.0)))
    if case.size_mm > 16:  # a reader turns the depth to what there is to see
        depth = 45.0
    spacing = depth / SECTOR_HEIGHT
    width = SECTOR_WIDTH * spacing
    corner = float(patient.choice((0.0, 0.0, 2.5)))
    skin = patient.uniform(1.0, 1.5)
    fat = skin + patient.uniform(1.2, 2.8)
    strap = fat + patient.uniform(2.4, 4.0)
    lobe_half_width, lobe_half_height = patient.uniform(7.5, 9.5), patient.uniform(6.5, 8.5)
    place = patient.uniform(-0.8, 0.8, 2)
    long_side, short_side = case.size_mm, case.size_mm * patient.uniform(0.58, 0.82)
    nodule_width, nodule_height = (
        (long_side, short_side) if case.shape == "wider" else (short_side, long_side)
    )

    # This section of it.
    strap += section.uniform(-0.3, 0.3)
    lobe_half_width = max(lobe_half_width, nodule_width / 2 + section.uniform(1.8, 3.0))
    lobe_half_height = max(lobe_half_height, nodule_height / 2 + section.uniform(1.8, 2.6))
    radius = patient.uniform(8.0, 9.0)
    carotid_radius = patient.uniform(2.6, 3.3)
    # The trachea gives way to the side, so that the carotid stays in view beside a large lobe.
    room = width - 2 * carotid_radius - 2 * lobe_half_width - radius
    trachea_x = float(np.clip(room, 2.0 - radius, patient.uniform(0.0, 4.0))) + section.uniform(
        -1, 1
    )
    isthmus = patient.uniform(1.8, 3.0)
    lobe = Blob(
        x=trachea_x + radius + lobe_half_width - 1.6,
        z=strap + lobe_half_height,
        half_width=lobe_half_width,
        half_height=lobe_half_height,
        radii=wavy_radii(section, 0.13, highest=6),
    )
    nodule, lobe = _place_nodule(case, section, lobe, place, nodule_width, nodule_height)
    carotid_x = lobe.x + lobe.half_width + carotid_radius + 0.5
    carotid_z = lobe.z + section.uniform(-1.0, 2.5)
    return Scene(
        case=case,
        view=view,
        spacing=spacing,
        sector_left=int(patient.integers(46, 62)),
        corner=corner,
        mirrored=mirrored,
        skin=skin,
        fat=fat,
        strap=strap,
        bulge=(lobe.x - section.uniform(0, 6), patient.uniform(0.003, 0.008)),
        trachea=(trachea_x, strap + isthmus + radius, radius),
        isthmus=isthmus,
        lobe=lobe,
        carotid=Blob(
            carotid_x, carotid_z, carotid_radius, carotid_radius, wavy_radii(section, 0.07)
        ),
        jugular=Blob(
            carotid_x + section.uniform(1.0, 4.0),
            carotid_z - carotid_radius - section.uniform(2.4, 3.2),
            section.uniform(3.5, 5.5),
            section.uniform(1.0, 2.0),
            wavy_radii(section, 0.2, highest=6),
        ),
        longus=Blob(
            lobe.x + section.uniform(-4, 1),
            lobe.z + lobe.half_height + section.uniform(3.4, 4.4),
            section.uniform(9, 12),
            section.uniform(2.6, 3.4),
            wavy_radii(section, 0.10),
        ),
        nodule=nodule,
        halo=min(section.uniform(0.7, 1.0), 0.2 * short_side) if case.margin == "halo" else 0.0,
    )


def _place_nodule(
    case: Case,
    rng: np.random.Generator,
    lobe: Blob,
    place: Float[np.ndarray, " 2"],
    width: float,
    height: float,
) -> tuple[Blob, Blob]:
    """The nodule, stretched to width and height in mm, inside the lobe or across its front; and the
    lobe, which grows until it holds the nodule."""
    radii = nodule_radii(rng, case.margin)
    x, z = radii * COSINES, radii * SINES
    half_width, half_height = float(width / np.ptp(x)), float(height / np.ptp(z))
    shift = place + rng.uniform(-0.15, 0.15, 2)
    if case.margin == "ete":
        # Table 2's extrathyroidal extension: the front crosses the capsule into the strap muscle.
        crossing = float(np.clip(0.28 * height, 1.1, 2.6))
        centre_x = lobe.x + 0.35 * shift[0] * lobe.half_width
        front = lobe.z - lobe.half_height * np.sqrt(1 - (0.35 * shift[0]) ** 2)
        centre_z = front - crossing - half_height * z.min()
        return Blob(float(centre_x), float(centre_z), half_width, half_height, radii), lobe
    while True:
        for _ in range(12):
            nodule = Blob(
                lobe.x + float(shift[0]) * (lobe.half_width - width / 2),
                lobe.z + float(shift[1]) * (lobe.half_height - height / 2),
                half_width,
                half_height,
                radii,
            )
            edge_x, edge_z = nodule.outline()
            # 0.7 mm of thyroid is left around it, so that no other margin looks like "ete".
            reach = np.hypot(
                (edge_x - lobe.x) / (lobe.half_width - 0.7),
                (edge_z - lobe.z) / (lobe.half_height - 0.7),
            )
            angle = np.arctan2(
                (edge_z - lobe.z) / lobe.half_height, (edge_x - lobe.x) / lobe.half_width
            )
            if np.all(reach < np.interp(angle, ANGLES, lobe.radii, period=2 * np.pi)):
                return nodule, lobe
            shift = shift * 0.8
        taller = 1.05 * lobe.half_height
        lobe = Blob(
            lobe.x, lobe.z - lobe.half_height + taller, 1.05 * lobe.half_width, taller, lobe.radii
        )
