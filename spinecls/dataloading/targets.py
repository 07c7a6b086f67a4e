"""Targets of the open pass, drawn after augmentation so they stay exact."""

from __future__ import annotations

import numpy as np

from spinecls.dataloading.cases import UNKNOWN

OFFSET_UNIT_MM = 10.0

CENTRE_JITTER_MM = (1.5, 1.5, 1.5)
"""Standard deviation of the centres' error that training adds, about that of the localiser (2 mm in space)."""


def heatmap_target(shape: tuple[int, int, int], centres: np.ndarray, spacing_mm, sigma_mm: float) -> np.ndarray:
    """Gaussian of width `sigma_mm` at every centre, the greatest where they overlap; (S, R, A) float32."""
    target = np.zeros(shape, np.float32)
    reach = np.ceil(4 * sigma_mm / np.asarray(spacing_mm)).astype(int)
    for centre in centres:
        low = np.maximum(0, np.floor(centre).astype(int) - reach)
        high = np.minimum(shape, np.floor(centre).astype(int) + reach + 2)
        if np.any(high <= low):
            continue
        profiles = [
            np.exp(-0.5 * ((np.arange(a, b) - c) * s / sigma_mm) ** 2)
            for a, b, c, s in zip(low, high, centre, spacing_mm, strict=True)
        ]
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        blob = profiles[0][:, None, None] * profiles[1][None, :, None] * profiles[2][None, None, :]
        target[box] = np.maximum(target[box], blob)
    return target


def offset_target(
    shape: tuple[int, int, int], centres: np.ndarray, spacing_mm, numbers: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Vector from each voxel of a vertebra to its centre, along the array axes.

    Parameters
    ----------
    numbers : (S, R, A), one more than the row in `centres` of the vertebra that a voxel belongs to; 0 where none is

    Returns
    -------
    offset : (3, S, R, A) float32, units of 10 mm
    known : (S, R, A) bool
    """
    offset = np.zeros((3, *shape), np.float32)
    known = np.zeros(shape, bool)
    for row, centre in enumerate(centres):
        ticks = [(c - np.arange(n)) * s for n, c, s in zip(shape, centre, spacing_mm, strict=True)]
        vector = np.meshgrid(*ticks, indexing="ij", sparse=True)
        voxels = numbers == row + 1
        for axis in range(3):
            offset[axis][voxels] = (np.broadcast_to(vector[axis], shape)[voxels]) / OFFSET_UNIT_MM
        known |= voxels
    return offset, known


def centres_in_patch(centres: np.ndarray, shape: tuple[int, int, int], border_voxels: float = 1.0) -> np.ndarray:
    """Rows of `centres` that lie at least `border_voxels` inside the patch (slices count to their outer face)."""
    inset = np.array([-0.5, border_voxels, border_voxels])
    upper = np.asarray(shape) - 1 - inset
    return np.flatnonzero(np.all((centres >= inset) & (centres <= upper), axis=1)) if len(centres) else np.zeros(0, int)


def binary_map(vertebra_map: np.ndarray | None, shape: tuple[int, int, int]) -> np.ndarray:
    """0 background, 1 vertebra, `UNKNOWN`; all unknown without a map."""
    if vertebra_map is None:
        return np.full(shape, UNKNOWN, np.uint8)
    return np.where(vertebra_map == UNKNOWN, UNKNOWN, vertebra_map > 0).astype(np.uint8)
