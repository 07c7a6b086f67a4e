"""From maps of the open pass to one mask a vertebra, on the native grid of the image."""

from __future__ import annotations

import numpy as np
from acvl_utils.morphology.morphology_helper import remove_all_but_largest_component
from scipy.spatial import cKDTree

from spinecls.geometry import Geometry

FARTHEST_VOTE_MM = 15.0
"""A voxel whose vote for a centre misses every centre by more belongs to no vertebra; misses to the side count half."""

VOTE_WEIGHTS = np.array([0.5, 1.0, 1.0])
"""Of a miss left-right, along the spine and front-back. Vertebrae lie above each other, so which one a voxel is of is
told along the spine; how far to the side it lies is learnt last of thick slices, and tells no two vertebrae apart."""

SMALLEST_SHARE = 0.15
"""A mask smaller than this share of the median mask of its case is no vertebra's mask."""


def vote_instances(
    foreground: np.ndarray, offset_mm: np.ndarray, geometry: Geometry, centres_lps: np.ndarray
) -> np.ndarray:
    """Assign each voxel of the vertebra map to the centre that it points at.

    Parameters
    ----------
    foreground : (S, R, A) probability of "vertebra"
    offset_mm : (3, S, R, A) vectors to the own centre along the array axes
    centres_lps : (N, 3) detected centres

    Returns
    -------
    (S, R, A) uint8 array, 0 background, i + 1 for centre i; each instance one connected component
    """
    instances = np.zeros(foreground.shape, np.uint8)
    voxels = np.argwhere(foreground > 0.5)
    if len(voxels) == 0 or len(centres_lps) == 0:
        return instances
    spacing = np.asarray(geometry.spacing_mm)
    votes = voxels * spacing + offset_mm[:, voxels[:, 0], voxels[:, 1], voxels[:, 2]].T
    targets = geometry.to_index(centres_lps).reshape(-1, 3) * spacing
    distance, nearest = cKDTree(targets * VOTE_WEIGHTS).query(votes * VOTE_WEIGHTS)
    close = distance <= FARTHEST_VOTE_MM
    kept = voxels[close]
    instances[kept[:, 0], kept[:, 1], kept[:, 2]] = nearest[close] + 1
    return _largest_components(instances, len(centres_lps))


def _largest_components(instances: np.ndarray, count: int) -> np.ndarray:
    clean = np.zeros_like(instances)
    sizes = np.bincount(instances.ravel(), minlength=count + 1)[1:]
    typical = np.median(sizes[sizes > 0]) if np.any(sizes > 0) else 0
    for value in range(1, count + 1):
        if sizes[value - 1] <= SMALLEST_SHARE * typical:
            continue
        mask = instances == value
        seen = np.argwhere(mask)
        box = tuple(slice(a, b) for a, b in zip(seen.min(axis=0), seen.max(axis=0) + 1, strict=True))
        clean[box][remove_all_but_largest_component(mask[box])] = value
    return clean
