"""Where an array lies in the patient.

Two frames: *index* is the array order (slice, row, column), continuous, voxel centres at integers;
*world* is LPS millimetres (ITK, DICOM). Canonical arrays run left to right, head to feet, front to back.
Points are arrays of shape (N, 3) or (3,).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spinecls.types import triple


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """Grid of an array.

    Attributes
    ----------
    shape : voxels along the array axes
    spacing_mm : voxel distance along the array axes
    origin_lps : world position of the centre of voxel (0, 0, 0)
    direction : 3 x 3, row i column j = LPS component i of the unit vector along array axis j
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    origin_lps: tuple[float, float, float]
    direction: tuple[tuple[float, float, float], ...]

    @property
    def matrix(self) -> np.ndarray:
        """(3, 3) matrix from index steps to world millimetres."""
        return np.asarray(self.direction, float) * np.asarray(self.spacing_mm, float)

    def to_world(self, index) -> np.ndarray:
        """World position (LPS mm) of continuous indices."""
        return np.asarray(index, float) @ self.matrix.T + np.asarray(self.origin_lps)

    def to_index(self, world_lps) -> np.ndarray:
        """Continuous index of world positions (LPS mm)."""
        return (np.asarray(world_lps, float) - np.asarray(self.origin_lps)) @ np.linalg.inv(self.matrix).T

    def cropped(self, start, stop) -> Geometry:
        """Grid of `array[start[0]:stop[0], start[1]:stop[1], start[2]:stop[2]]`."""
        return Geometry(
            shape=triple(int(b - a) for a, b in zip(start, stop, strict=True)),
            spacing_mm=self.spacing_mm,
            origin_lps=triple(float(v) for v in self.to_world(start)),
            direction=self.direction,
        )

    def resampled(self, spacing_mm) -> Geometry:
        """Grid of another spacing over the same field of view.

        The outer faces of the voxels stay where they are, as closely as whole voxels allow; the centre of the grid
        stays exactly.
        """
        old = np.asarray(self.spacing_mm, float)
        new = np.asarray(spacing_mm, float)
        shape = np.maximum(1, np.round(np.asarray(self.shape) * old / new)).astype(int)
        centre = self.to_world((np.asarray(self.shape) - 1) / 2)
        origin = centre - (np.asarray(self.direction, float) * new) @ ((shape - 1) / 2)
        return Geometry(
            shape=triple(int(n) for n in shape),
            spacing_mm=triple(float(s) for s in new),
            origin_lps=triple(float(v) for v in origin),
            direction=self.direction,
        )

    def contains(self, world_lps, margin_voxels: float = 0.5) -> np.ndarray:
        """Whether world positions lie in the grid, its voxels' outer faces included."""
        index = self.to_index(world_lps)
        upper = np.asarray(self.shape) - 1 + margin_voxels
        return np.all((index >= -margin_voxels) & (index <= upper), axis=-1)
