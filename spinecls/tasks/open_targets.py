"""Targets of the finder that are drawn on the patch itself, so that turning and zooming leaves them exact."""

from __future__ import annotations

import numpy as np

from spinecls.dataloading.cases import UNKNOWN, TrainingCase
from spinecls.dataloading.spatial import PatchSampler

OFFSET_UNIT_MM = 10.0


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


def vertebra_numbers(case: TrainingCase, sampler: PatchSampler) -> np.ndarray:
    """(S, R, A) uint8, one more than the row in `case.centres` of the vertebra of each voxel most likely; 0 = none."""
    numbers = sampler.labels(case.numbers, outside=0)
    return np.where(numbers <= len(case.centres), numbers, 0).astype(np.uint8)


def binary_map(vertebra_map: np.ndarray) -> np.ndarray:
    """0 background, 1 vertebra, `UNKNOWN`."""
    return np.where(vertebra_map == UNKNOWN, UNKNOWN, vertebra_map > 0).astype(np.uint8)
