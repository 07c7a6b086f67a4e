"""How large vertebrae are, and which voxels most likely belong to which, also where nobody drew them."""

from __future__ import annotations

import numpy as np

from spinecls.anatomy import RANK
from spinecls.curve import image_tangents_lps
from spinecls.geometry import Geometry
from spinecls.planning.plan import Plan
from spinecls.sealing.region import ellipsoid_distance, vertebra_axes


def level_extent_mm(plan: Plan, level: str) -> np.ndarray:
    """Median size of a level (left-right, along the spine, front-back); that of the nearest known level if unseen."""
    known = plan.level_statistics
    if not known:
        return np.array([40.0, 26.0, 32.0])
    nearest = min(known, key=lambda name: abs(RANK[name] - RANK[level]))
    return np.asarray(known[nearest].extent_mm, float)


def likely_bodies(
    geometry: Geometry,
    drawn: np.ndarray | None,
    centres_lps: np.ndarray,
    extents_mm: np.ndarray,
    unknown: int,
    partly: bool,
) -> np.ndarray:
    """Vertebrae as far as a map shows them, and bodies of usual size at the centres of the others.

    Voxels learn to point at their centre in the whole of a body. Taught in its middle alone they miss it at the ends,
    and what votes for no centre is lost (`inference.instances.vote_instances`).

    Parameters
    ----------
    drawn : (S, R, A) uint8, 0 background, i + 1 the vertebra of row i, `unknown`; None = nothing is drawn
    centres_lps, extents_mm : (N, 3); sizes left-right, along the spine, front-back
    partly : whether of a vertebra that the map shows there may be more where the map is unknown

    Returns
    -------
    (S, R, A) uint8, numbered like `drawn`; a voxel in several bodies belongs to the one in which it lies deepest
    """
    numbers = np.full(geometry.shape, unknown, np.uint8) if drawn is None else drawn.copy()
    free = numbers == unknown
    numbers[free] = 0
    if not len(centres_lps):
        return numbers
    deepest = np.ones(geometry.shape, np.float32)
    tangents = image_tangents_lps(np.asarray(centres_lps, float), geometry)
    for row, (centre, tangent, extent) in enumerate(zip(centres_lps, tangents, extents_mm, strict=True)):
        if not partly and np.any(numbers == row + 1):
            continue
        depth = ellipsoid_distance(geometry, centre, vertebra_axes(geometry, tangent), extent)
        own = free & (depth <= deepest)
        numbers[own], deepest[own] = row + 1, depth[own]
    return numbers
