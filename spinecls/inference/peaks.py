"""Vertebra centres from a heatmap: local maxima, one within a distance, at sub-voxel position."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from spinecls.errors import ModelError

MOST_CENTRES = 100
"""Centres that are looked at; a spine has 27 vertebrae at most. A network that has learnt nothing sees thousands, and
the curve through them would take hours to find."""

_LEAST_SHARE = 1e-6
"""Heat below this share of its peak counts as this share, so that its logarithm exists."""


@dataclass(frozen=True, kw_only=True)
class Centres:
    """N centres, hottest first.

    Attributes
    ----------
    index : (N, 3) continuous index (slice, row, column)
    score : (N,) heat of the peak voxel
    """

    index: np.ndarray
    score: np.ndarray


def find_centres(
    heatmap: np.ndarray,
    offset_mm: np.ndarray | None,
    spacing_mm: tuple[float, float, float] | np.ndarray,
    *,
    threshold: float,
    min_distance_mm: float,
) -> Centres:
    """Centres in a heatmap.

    Every local maximum is a candidate; of candidates within `min_distance_mm` the hottest stays (a sphere in
    millimetres, so thick slices do not join or part vertebrae), and of those the `MOST_CENTRES` hottest. Its position
    is refined to the vertex of the parabola through the log-heat along each axis, exact for a Gaussian (Zhang et al.,
    DARK, CVPR 2020), and with offsets to the heat-weighted mean of where the voxels around it point.

    Parameters
    ----------
    heatmap : (S, R, A)
    offset_mm : (3, S, R, A) vectors to the own centre along the array axes, or None
    spacing_mm : voxel distance along the array axes
    threshold : least heat of a centre
    min_distance_mm : least distance of two centres; votes come from half as far

    Raises
    ------
    ModelError
        When heat or a vote is not a finite number.
    """
    spacing = np.asarray(spacing_mm, float)
    if heatmap.ndim != 3 or (offset_mm is not None and offset_mm.shape != (3, *heatmap.shape)):
        offset_shape = None if offset_mm is None else offset_mm.shape
        raise ValueError(f"expected a heatmap (S, R, A) and offsets (3, S, R, A), got {heatmap.shape}, {offset_shape}")
    if not np.isfinite(heatmap).all():
        raise ModelError("The centre heatmap holds values that are not finite numbers. Train again.")
    index = _tops(heatmap, threshold)
    score = heatmap[tuple(np.round(index).astype(int).T)].astype(float)
    kept = _hottest_apart(index * spacing, score, min_distance_mm)[:MOST_CENTRES]
    index, score = index[kept], score[kept]
    index = np.array([_vertex(heatmap, peak) for peak in index]).reshape(-1, 3)
    if offset_mm is not None:
        votes = [_vote(heatmap, offset_mm, peak, spacing, min_distance_mm / 2) for peak in index]
        index = np.array(votes).reshape(-1, 3)
        if not np.isfinite(index).all():
            raise ModelError("The centre offsets hold values that are not finite numbers. Train again.")
        # Two halves of one vertebra point at the same place.
        kept = _hottest_apart(index * spacing, score, min_distance_mm)
        index, score = index[kept], score[kept]
    return Centres(index=index, score=score)


def _tops(heatmap: np.ndarray, threshold: float) -> np.ndarray:
    """(K, 3) middles of all local maxima among 26 neighbours; a flat top is one maximum.

    A middle is at a half or other fraction only along axes where its top is flat over several voxels.
    """
    hot = heatmap >= threshold
    if not hot.any():
        return np.zeros((0, 3))
    bounds = []
    for axis in range(3):
        used = np.flatnonzero(hot.any(axis=tuple(a for a in range(3) if a != axis)))
        bounds.append((max(used[0] - 1, 0), used[-1] + 2))
    box = tuple(slice(a, b) for a, b in bounds)
    heat = heatmap[box]
    top = hot[box] & (heat == ndimage.maximum_filter(heat, size=3, mode="nearest"))
    label, count = ndimage.label(top, np.ones((3, 3, 3)))
    middle = np.array(ndimage.center_of_mass(top, label, np.arange(1, count + 1))).reshape(-1, 3)
    return middle + np.array([a for a, _ in bounds])


def _hottest_apart(position_mm: np.ndarray, score: np.ndarray, least_mm: float) -> np.ndarray:
    """Rows, hottest first, of which no two are nearer than `least_mm`."""
    if len(position_mm) == 0:
        return np.zeros(0, int)
    tree = cKDTree(position_mm)
    free = np.ones(len(position_mm), bool)
    kept = []
    for row in np.argsort(-score, kind="stable"):
        if free[row]:
            kept.append(row)
            free[tree.query_ball_point(position_mm[row], least_mm)] = False
    return np.array(kept)


def _vertex(heatmap: np.ndarray, peak: np.ndarray) -> np.ndarray:
    """Continuous index of the maximum near a peak voxel, at most half a voxel away along each axis.

    At the border of the image the parabola goes through the three outermost voxels. An axis of fewer than three
    voxels, or along which the top is flat, keeps its position.
    """
    voxel = np.round(peak).astype(int)
    floor = _LEAST_SHARE * max(float(heatmap[tuple(voxel)]), float(np.finfo(np.float32).tiny))
    refined = peak.astype(float)
    for axis in range(3):
        if heatmap.shape[axis] < 3 or peak[axis] != voxel[axis]:
            continue
        middle = min(max(voxel[axis], 1), heatmap.shape[axis] - 2)
        line = heatmap[tuple(slice(middle - 1, middle + 2) if a == axis else voxel[a] for a in range(3))]
        before, here, after = np.log(np.maximum(line.astype(float), floor))
        curvature = before - 2 * here + after
        if curvature < 0:
            vertex = middle + 0.5 * (before - after) / curvature
            refined[axis] = np.clip(vertex, voxel[axis] - 0.5, voxel[axis] + 0.5)
    return refined


def _vote(
    heatmap: np.ndarray, offset_mm: np.ndarray, peak: np.ndarray, spacing: np.ndarray, radius_mm: float
) -> np.ndarray:
    """Continuous index where the voxels in the ball around a peak point; those that point out of it have no vote.

    They belong to a neighbour. Without any vote the peak stays.
    """
    reach = np.ceil(radius_mm / spacing)
    start = np.maximum(np.floor(peak - reach), 0).astype(int)
    stop = np.minimum(np.ceil(peak + reach) + 1, heatmap.shape).astype(int)
    box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    position_mm = np.stack(np.meshgrid(*(np.arange(a, b) for a, b in zip(start, stop, strict=True)), indexing="ij"))
    position_mm = position_mm * spacing[:, None, None, None]
    target_mm = position_mm + offset_mm[(slice(None), *box)]
    peak_mm = (peak * spacing)[:, None, None, None]
    inside = np.linalg.norm(position_mm - peak_mm, axis=0) <= radius_mm
    # A vote that is not a number must surface, not lose its vote.
    away = np.linalg.norm(target_mm - peak_mm, axis=0) > radius_mm
    weight = np.where(inside & ~away, np.maximum(heatmap[box], 0), 0)
    if weight.sum() <= 0:
        return peak
    votes = np.where(weight > 0, target_mm, 0)
    return (votes * weight).sum(axis=(1, 2, 3)) / weight.sum() / spacing
