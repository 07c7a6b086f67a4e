"""Tissue of a phantom, painted on a grid twice as fine as the image along every axis."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spinecls.testing.phantom_anatomy import Vertebra

SUPERSAMPLING = 2
FAT, MUSCLE, MARROW, CORTEX, NUCLEUS, ANNULUS, FLUID, CORD, VISCERA, VESSEL, VEIN = range(1, 12)
"""Indices into the signal tables; 0 is air."""

SIGNAL = {
    #      air   fat  muscle marrow cortex nucleus annulus fluid cord viscera vessel vein
    "T2": (0.02, 0.80, 0.20, 0.48, 0.07, 0.72, 0.18, 1.00, 0.50, 0.33, 0.06, 0.62),
    "STIR": (0.02, 0.12, 0.28, 0.38, 0.06, 0.66, 0.20, 1.00, 0.52, 0.42, 0.08, 0.48),
    "T1": (0.02, 0.95, 0.32, 0.55, 0.07, 0.36, 0.28, 0.14, 0.40, 0.34, 0.06, 0.42),
}
"""Signal of each tissue index, brightest tissue about 1 (our choice, after the look of clinical sequences)."""

CORTEX_MM = 1.3


class TissueGrid:
    """Fine voxel arrays of a field of view that are painted shape by shape.

    Attributes
    ----------
    axes_mm : positions (mm) of the fine voxels along slice, row, column; the image's voxel 0 begins at 0
    tissue : uint8, index into `SIGNAL`
    body : uint8, 1 + position of the vertebra in the column whose body this is, 0 elsewhere
    disc, canal : bool
    """

    def __init__(self, shape: Sequence[int], spacing_mm: Sequence[float]) -> None:
        self.axes_mm = [
            ((np.arange(n * SUPERSAMPLING) + 0.5) * step / SUPERSAMPLING).astype(np.float32)
            for n, step in zip(shape, spacing_mm, strict=True)
        ]
        fine_shape = tuple(len(axis) for axis in self.axes_mm)
        self.tissue = np.zeros(fine_shape, np.uint8)
        self.body = np.zeros(fine_shape, np.uint8)
        self.disc = np.zeros(fine_shape, bool)
        self.canal = np.zeros(fine_shape, bool)

    def local(self, centre_mm, axes, reach_mm):
        """Part of the grid around a point, and its local coordinates.

        Parameters
        ----------
        centre_mm, axes : origin (3,) and rows t, v, u (3, 3) of the local frame
        reach_mm : half extents along t, v, u that must be covered

        Returns
        -------
        slices into the fine arrays, or None when nothing lies in the field of view; coordinates t, v, u (mm) there
        """
        axes = np.asarray(axes)
        half = np.abs(axes).T @ np.asarray(reach_mm)
        bounds = [
            np.searchsorted(axis, (centre - extent, centre + extent))
            for axis, centre, extent in zip(self.axes_mm, centre_mm, half, strict=True)
        ]
        if any(start == stop for start, stop in bounds):
            return None, None
        slices = tuple(slice(int(start), int(stop)) for start, stop in bounds)
        x, y, z = (
            (axis[part] - np.float32(centre))
            for axis, part, centre in zip(self.axes_mm, slices, centre_mm, strict=True)
        )
        weights = axes.astype(np.float32)
        coordinates = [(w[0] * x)[:, None, None] + ((w[1] * y)[:, None] + (w[2] * z)[None, :])[None] for w in weights]
        return slices, coordinates

    def ellipsoid(self, centre_mm, axes, radii_mm, tissue: int, rim: bool = False, fourth_power: bool = False) -> None:
        """Paint an ellipsoid (or a rounded block, `fourth_power`) with or without a rim of cortex."""
        slices, coordinates = self.local(centre_mm, axes, radii_mm)
        if slices is None:
            return
        power = sum(_power(c / np.float32(r), fourth_power) for c, r in zip(coordinates, radii_mm, strict=True))
        target = self.tissue[slices]
        if rim:
            target[power <= 1] = CORTEX
            inner = (1 - CORTEX_MM / min(radii_mm)) ** (4 if fourth_power else 2)
            target[power <= inner] = tissue
        else:
            target[power <= 1] = tissue

    def block_mean(self, fine: np.ndarray) -> np.ndarray:
        """(S, R, A) float32 mean over the fine voxels of each image voxel: the partial volume effect."""
        total = np.zeros(tuple(n // SUPERSAMPLING for n in fine.shape), np.float32)
        for offset in np.ndindex(*(SUPERSAMPLING,) * 3):
            total += fine[tuple(slice(first, None, SUPERSAMPLING) for first in offset)]
        return total / SUPERSAMPLING**3

    def block_maximum(self, fine: np.ndarray) -> np.ndarray:
        """(S, R, A) largest of the fine voxels of each image voxel."""
        parts = [fine[tuple(slice(i, None, SUPERSAMPLING) for i in o)] for o in np.ndindex(*(SUPERSAMPLING,) * 3)]
        return np.maximum.reduce(parts)


def paint_disc(grid: TissueGrid, above: Vertebra, below: Vertebra, nucleus: int) -> None:
    """Disc between two bodies; it is painted before them and fills the hollow of their endplates."""
    upper = above.point_mm(0, above.height_mm / 2, 0)
    lower = below.point_mm(0, -below.height_mm / 2, 0)
    axes = above.axes + below.axes
    axes = axes / np.linalg.norm(axes, axis=1, keepdims=True)
    half_height = above.disc_mm / 2 + 2.5
    radii = ((above.width_mm + below.width_mm) / 4, half_height, (above.depth_mm + below.depth_mm) / 4 + 0.5)
    slices, coordinates = grid.local((upper + lower) / 2, axes, radii)
    if slices is None:
        return
    t, v, u = (c / np.float32(r) for c, r in zip(coordinates, radii, strict=True))
    radial = _power(t, True) + _power(u, True)
    inside = (radial <= 1) & (np.abs(v) <= 1)
    target = grid.tissue[slices]
    target[inside] = ANNULUS
    grid.disc[slices] |= inside
    if above.disc_mm > 4:
        target[(t * t + u * u) / 0.5 + v * v <= 1] = nucleus


def paint_body(grid: TissueGrid, vertebra: Vertebra, number: int) -> None:
    """Vertebral body: marrow with a dark cortex, hollow endplates, a waist and the basivertebral vein.

    `number` is written into `grid.body`.
    """
    if vertebra.name == "C1":
        _paint_atlas(grid, vertebra, number)
        return
    half = (vertebra.width_mm / 2, vertebra.height_mm / 2, vertebra.depth_mm / 2)
    slices, coordinates = grid.local(vertebra.centre_mm, vertebra.axes, np.array(half) * 1.25)
    if slices is None:
        return
    t, v, u = (c / np.float32(h) for c, h in zip(coordinates, half, strict=True))
    width = (0.95 + 0.05 * v * v) * (1 - vertebra.taper * v)
    radial = np.cbrt(np.abs(t / width) ** 3 + np.abs(u / width) ** 3)
    height = (0.9 + 0.1 * np.minimum(radial, 1) ** 2) * (1 - vertebra.wedge * u)
    beyond_mm = np.maximum((radial - 1) * half[2], (np.abs(v) - height) * half[1])
    inside = beyond_mm <= 0
    grid.body[slices][inside] = number
    grid.disc[slices][inside] = False
    target = grid.tissue[slices]
    target[inside] = CORTEX
    target[beyond_mm <= -CORTEX_MM] = MARROW
    vein = (t / 0.25) ** 2 + (v / 0.1) ** 2 + ((u - 0.75) / 0.35) ** 2 <= 1
    target[vein & inside] = VEIN
    if vertebra.name == "C2":
        dens_mm = (0.0, -vertebra.height_mm / 2 - 5, -0.5)
        _paint_bone(grid, vertebra, number, dens_mm, (5.5, 12.0, 5.5))


def _paint_atlas(grid: TissueGrid, atlas: Vertebra, number: int) -> None:
    """Front arch and lateral masses; C1 has no body."""
    _paint_bone(grid, atlas, number, (0.0, 0.0, -11.5), (11.0, 5.0, 3.5))
    for side in (-1.0, 1.0):
        _paint_bone(grid, atlas, number, (side * 15.0, 0.0, -1.0), (8.0, 6.5, 9.0))


def _paint_bone(grid: TissueGrid, vertebra: Vertebra, number: int, local_mm, radii_mm) -> None:
    """An ellipsoid of bone that belongs to the body."""
    slices, coordinates = grid.local(vertebra.point_mm(*local_mm), vertebra.axes, radii_mm)
    if slices is None:
        return
    radius = np.sqrt(sum((c / np.float32(r)) ** 2 for c, r in zip(coordinates, radii_mm, strict=True)))
    inside = radius <= 1
    grid.body[slices][inside] = number
    target = grid.tissue[slices]
    marrow = radius <= 1 - CORTEX_MM / min(radii_mm)
    target[inside & ~marrow & (target != MARROW)] = CORTEX
    target[marrow] = MARROW


def paint_posterior_elements(grid: TissueGrid, vertebra: Vertebra) -> None:
    """Pedicles, joints, spinous and transverse processes and ribs; their shapes tell the regions apart."""
    height, depth, width = vertebra.height_mm, vertebra.depth_mm, vertebra.width_mm
    axes = vertebra.axes
    joints = {"cervical": 0.42, "thoracic": 0.36, "lumbar": 0.34, "sacral": 0.34}[vertebra.region] * width
    for side in (-1.0, 1.0):
        grid.ellipsoid(
            vertebra.point_mm(side * joints, -0.18 * height, depth / 2 + 5),
            axes,
            (4.5, 0.26 * height, 10.0),
            MARROW,
            rim=True,
        )
        grid.ellipsoid(
            vertebra.point_mm(side * joints, 0.1 * height, depth / 2 + 17),
            axes,
            (6.0, 0.5 * height, 5.0),
            MARROW,
            rim=True,
        )
        _paint_side_process(grid, vertebra, side)
    length, half_height, slant = {
        "cervical": (13.0 if vertebra.name != "C7" else 22.0, 4.0, 15.0),
        "thoracic": (24.0, 4.5, 50.0 if vertebra.rib_mm > 50 else 25.0),
        "lumbar": (17.0, 0.36 * height, 5.0),
        "sacral": (7.0, 0.3 * height, 10.0),
    }[vertebra.region]
    if vertebra.name in ("C1", "S3", "S4", "S5"):
        return
    angle = np.radians(slant)
    tilted = np.stack(
        [axes[0], np.cos(angle) * axes[1] - np.sin(angle) * axes[2], np.sin(angle) * axes[1] + np.cos(angle) * axes[2]]
    )
    root = vertebra.point_mm(0, 0.2 * height, depth / 2 + 15)
    grid.ellipsoid(root + tilted[2] * length, tilted, (3.2, half_height, length), MARROW, rim=True, fourth_power=True)


def _paint_side_process(grid: TissueGrid, vertebra: Vertebra, side: float) -> None:
    """A rib that runs back, then out and down, or the shorter transverse process of the other regions."""
    height, depth, width = vertebra.height_mm, vertebra.depth_mm, vertebra.width_mm
    if vertebra.rib_mm:
        direction = np.array([0.8 * side, 0.5, 0.3])
        start, half_length, radius = (side * 0.42 * width, -0.3 * height, depth / 2 - 1), vertebra.rib_mm / 2, 5.0
    else:
        direction = np.array([side, 0.0, 0.15])
        start, half_length, radius = (side * 0.45 * width, -0.1 * height, depth / 2 + 7), 10.0, 3.2
    direction /= np.linalg.norm(direction)
    along = direction @ vertebra.axes
    up = np.cross(along, vertebra.axes[2])
    up /= np.linalg.norm(up)
    frame = np.stack([along, up, np.cross(along, up)])
    grid.ellipsoid(
        vertebra.point_mm(*start) + along * half_length, frame, (half_length, radius, radius), MARROW, rim=True
    )


def _power(ratio: np.ndarray, fourth: bool) -> np.ndarray:
    square = ratio * ratio
    return square * square if fourth else square
