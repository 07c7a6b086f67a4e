"""From exact outlines to what a physician has time to draw: boxes, points, scribbles, coarse maps, some slices.

All randomness comes from a generator that is given; all lengths are in millimetres of the plane, since slices are thick
and nobody draws between them.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.morphology import skeletonize

from spinecls.dataloading.forms import depth_mm
from spinecls.geometry import Geometry

FORMS = ("box", "point", "coarse", "scribble", "slices", "none")

WARP_MM = 1.5
WARP_LENGTH_MM = 8.0
"""Standard deviation of a coarse outline's local error, and over how far it keeps its sign."""

SECONDS = {"point": 2.4, "scribble": 10.9, "box": 7.0, "mask": 79.0, "coarse": 26.0}
"""Time to draw one object in one picture. Point, scribble and mask: Bearman et al., ECCV 2016; box: Papadopoulos et
al., ICCV 2017; coarse: a third of a mask, own. They were measured on photographs; use them for proportions."""


def loose_box_lps(
    mask: np.ndarray, geometry: Geometry, slack_mm: tuple[float, float], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Corners (world, least and greatest) of a box around a mask, each face moved outwards by a draw from `slack_mm`.

    Without slack the box holds the mask's voxels to their faces, and nothing more along the world's axes.
    """
    index = np.argwhere(mask)
    half = np.array(np.meshgrid(*([(-0.5, 0.5)] * 3))).reshape(3, -1).T
    # Corners of the outermost voxels of the grid's box would do for an upright grid, not for an oblique one.
    edge = index[ndimage.binary_erosion(mask, border_value=0)[tuple(index.T)] == 0]
    corners = geometry.to_world((edge[:, None] + half[None]).reshape(-1, 3))
    slack = rng.uniform(*slack_mm, size=(2, 3))
    return corners.min(axis=0) - slack[0], corners.max(axis=0) + slack[1]


def loose_point_lps(mask: np.ndarray, geometry: Geometry, jitter_mm: float, rng: np.random.Generator) -> np.ndarray:
    """The mask's centroid (world) with an error of standard deviation `jitter_mm` along each axis."""
    return geometry.to_world(np.argwhere(mask).mean(axis=0)) + rng.normal(0, 1, 3) * jitter_mm


def coarse_map(
    labels: np.ndarray, spacing_mm, tolerance_mm: float, rng: np.random.Generator, ignored: int
) -> np.ndarray:
    """Every label grown or shrunk by up to `tolerance_mm` in plane, with an outline that wavers; slice by slice.

    Where two labels meet the one whose outline is farther keeps the voxel; voxels of `ignored` stay. A label that would
    vanish keeps what it was.
    """
    result = np.where(labels == ignored, labels, 0)
    best = np.zeros(labels.shape)
    sigma = (0.0, *(WARP_LENGTH_MM / np.asarray(spacing_mm, float)[1:]))
    for code in [c for c in np.unique(labels) if c not in (0, ignored)]:
        mask = labels == code
        depth = depth_mm(mask, spacing_mm)
        field = ndimage.gaussian_filter(rng.normal(size=labels.shape), sigma)
        field *= WARP_MM / max(float(field.std()), 1e-9)
        drawn = depth + rng.uniform(-tolerance_mm, tolerance_mm) + np.clip(field, -2 * WARP_MM, 2 * WARP_MM)
        # Slices that do not show the label at all are not drawn on.
        drawn[~mask.any(axis=(1, 2))] = -np.inf
        if not np.any((drawn > 0) & (labels != ignored)):
            drawn = depth
        stronger = (drawn > 0) & (drawn > best) & (labels != ignored)
        result[stronger] = code
        best[stronger] = drawn[stronger]
    return result.astype(labels.dtype)


def scribble_map(labels: np.ndarray, share: float, rng: np.random.Generator, ignored: int) -> np.ndarray:
    """On every slice a stroke through each label: a connected part of its skeleton, `share` of the label's voxels long.

    Everything else is `ignored`, the background too: nobody scribbled there.
    """
    result = np.full(labels.shape, ignored, labels.dtype)
    for code in [c for c in np.unique(labels) if c not in (0, ignored)]:
        for number in np.flatnonzero((labels == code).any(axis=(1, 2))):
            plane = labels[number] == code
            stroke = _stroke(plane, max(1, round(share * plane.sum())), rng)
            result[number][tuple(stroke.T)] = code
    return result


def _stroke(plane: np.ndarray, length: int, rng: np.random.Generator) -> np.ndarray:
    """(N, 2) voxels: of a skeleton, those nearest along it to a voxel drawn at random."""
    skeleton = skeletonize(plane)
    voxels = {tuple(v) for v in np.argwhere(skeleton if skeleton.any() else plane)}
    start = sorted(voxels)[int(rng.integers(len(voxels)))]
    stroke: list[tuple[int, ...]] = []
    seen, queue = {start}, [start]
    while queue and len(stroke) < length:
        here = queue.pop(0)
        stroke.append(here)
        around = [(here[0] + a, here[1] + b) for a in (-1, 0, 1) for b in (-1, 0, 1)]
        fresh = [v for v in around if v in voxels and v not in seen]
        seen.update(fresh)
        queue += fresh
    return np.array(stroke)


def sliced_map(labels: np.ndarray, every: int, rng: np.random.Generator, ignored: int) -> tuple[np.ndarray, list[int]]:
    """One slice in `every` as it was drawn, all others `ignored`; also the numbers of the slices that were kept.

    The first kept slice is drawn at random among those that show something; there is always one.
    """
    shown = np.flatnonzero(((labels != 0) & (labels != ignored)).any(axis=(1, 2)))
    if not len(shown):
        return np.full_like(labels, ignored), []
    first = int(shown[rng.integers(min(every, len(shown)))])
    kept = [n for n in range(labels.shape[0]) if (n - first) % every == 0]
    result = np.full_like(labels, ignored)
    result[kept] = labels[kept]
    return result, kept


def drawing_seconds(form: str, labels: np.ndarray, code: int, every: int = 1) -> float:
    """Time to draw one label of a map in a form, see `SECONDS`; a box takes two views, a point one click."""
    slices = int((labels == code).any(axis=(1, 2)).sum())
    if form == "none" or slices == 0:
        return 0.0
    if form == "point":
        return SECONDS["point"]
    if form == "box":
        return 2 * SECONDS["box"]
    if form == "slices":
        return SECONDS["mask"] * -(-slices // every)
    return SECONDS[form] * slices
