"""Outlines as a finder draws them: training regions that are wrong in the way that those of prediction will be.

A reader that only ever saw regions of exact outlines takes what a segmentation adds at the rim, disc and fluid, for
oedema. So in training the outline of a vertebra is drawn a little too large or too small, wavers along its border, and
now and then misses an outermost slice or reaches into the one beside it.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as functional

GROWN = (-1.5, 2.25)
"""Range of what is added all round, in units of the border error; segmentations err to the larger side."""

WAVER_LIMIT = 2.0
"""Greatest deviation of the border, in units of its error."""

KNOT_MM = 10.0
"""Distance between the places at which the border's deviation is drawn; between them it is interpolated."""

LOST_SLICE_SHARE = 0.3
FEWEST_SLICES = 4
"""Slices from which on an outermost one may be missed."""

ADDED_SLICE_SHARE = 0.3
"""How often an outline reaches into the next slice, beside the vertebra."""

ADDED_SMALLER_MM = (0.0, 4.0)
"""By how much the outline there lies within that of the outermost slice."""


def largest_growth_mm(error_mm: float) -> float:
    """How far beyond the true outline a rough one may reach."""
    return (GROWN[1] + WAVER_LIMIT) * error_mm


def rough_distance(
    distance_mm: np.ndarray, spacing_mm: tuple[float, float, float], error_mm: float, rng: np.random.Generator
) -> np.ndarray:
    """Distance to the border of a rough outline, from that to the border of the true one.

    Parameters
    ----------
    distance_mm : (S, R, A) as `sealing.region.mask_distance` gives it: at most 0 inside, infinite in slices without
        the vertebra
    error_mm : standard deviation of the border; 0 = the outline as it is

    Returns
    -------
    (S, R, A) float32
        The true distance where the rough outline would hold nothing.
    """
    if error_mm == 0:
        return distance_mm
    waver = np.clip(smooth_field(distance_mm.shape, spacing_mm, rng), -WAVER_LIMIT, WAVER_LIMIT)
    rough = distance_mm - error_mm * (waver + np.float32(rng.uniform(*GROWN)))
    held = np.flatnonzero(np.isfinite(distance_mm).any(axis=(1, 2)))
    outermost, beside = ((held[0], held[0] - 1), (held[-1], held[-1] + 1))[rng.integers(2)]
    drawn = rng.random()
    if drawn < LOST_SLICE_SHARE and len(held) >= FEWEST_SLICES:
        rough[outermost] = np.inf
    elif drawn > 1 - ADDED_SLICE_SHARE and 0 <= beside < len(rough):
        rough[beside] = rough[outermost] + np.float32(rng.uniform(*ADDED_SMALLER_MM))
    return rough if (rough <= 0).any() else distance_mm


def smooth_field(
    shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], rng: np.random.Generator
) -> np.ndarray:
    """(S, R, A) float32, normal deviates at knots `KNOT_MM` apart and values interpolated between; variance 1."""
    knots = [max(1, round(n * s / KNOT_MM)) + 1 for n, s in zip(shape, spacing_mm, strict=True)]
    drawn = torch.from_numpy(rng.standard_normal((1, 1, *knots), dtype=np.float32))
    field = functional.interpolate(drawn, size=shape, mode="trilinear", align_corners=True)[0, 0].numpy()
    # A mean of two neighbours, anywhere between them, has two thirds of their variance on each axis.
    return field / np.float32((2 / 3) ** (3 / 2))
