"""Where the voxels of a grid lie, and how far two grids place them apart; without the image library."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

SAME_PLACE = 0.1
"""Voxels that float noise and rounded header fields may move a grid by: nothing is said."""
SAME_VOXEL = 0.5
"""Below this no voxel of a grid lies nearer to another voxel of the other grid: nearest neighbour changes nothing."""


class Affine(NamedTuple):
    """Where voxel (i, j, k) of a grid lies: `origin` + `matrix` @ (i, j, k), LPS millimetres."""

    matrix: np.ndarray
    origin: np.ndarray

    def places(self, index: np.ndarray) -> np.ndarray:
        """World positions (N, 3) of indices (N, 3)."""
        return index @ self.matrix.T + self.origin


def right_angled(direction: np.ndarray) -> np.ndarray:
    """The nearest (3, 3) matrix whose columns are unit vectors at right angles."""
    left, _, right = np.linalg.svd(direction)
    return left @ right


def apart(shape, one: Affine, other: Affine) -> tuple[float, float]:
    """How far apart two grids of one shape place the same voxel at most: in voxels of the first, and in mm.

    Both are linear, so the largest distance is that of a corner.
    """
    corners = np.array(list(itertools.product((0, 1), repeat=3))) * (np.array(shape) - 1)
    offsets_mm = other.places(corners) - one.places(corners)
    voxels = np.abs(offsets_mm @ np.linalg.inv(one.matrix).T).max()
    return float(voxels), float(np.linalg.norm(offsets_mm, axis=1).max())


def times(values) -> str:
    """Numbers as `1 x 2 x 3`."""
    return " x ".join(f"{value:g}" for value in values)
