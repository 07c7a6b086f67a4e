"""The region of a vertebra: the only voxels its class may depend on.

Regions are built on the native grid of the image, from the vertebra's mask where there is one, else from an ellipsoid
at its centre.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.morphology import convex_hull_image

from spinecls.geometry import Geometry
from spinecls.types import triple

ELLIPSOID_SHARE = 0.95
"""Size of a vertebra's ellipsoid against the median size of its level.

On outlined lumbar spines, with the error of a localiser, a share of 1 holds 0.81 of the lesions' voxels and 36 % of it
is no vertebra; 0.95 holds 0.72 and has 29 %; 0.9 holds 0.50 and has 23 %. What is no vertebra, canal above all, looks
like oedema.
"""

CORNER_PERCENT = 5.0
"""Share of a slice's voxels, percent, that may lie beyond each side of the rectangle of its corners."""

BODY_FILL = 0.75
"""Least share of that rectangle that a body fills. Where a mask fills less, of arches for one, it has other corners."""


@dataclass(frozen=True)
class Region:
    """A set of voxels in a small box of a grid.

    Attributes
    ----------
    mask : bool array of the box
    start : index of the box's first voxel in the whole grid
    geometry : grid of the box
    source : "mask" or "ellipsoid"
    outline : bool array of the box, where the bone is believed to end: the region without its margin; None where
        nothing tells, as of an ellipsoid
    """

    mask: np.ndarray
    start: tuple[int, int, int]
    geometry: Geometry
    source: str
    outline: np.ndarray | None = None

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """The box in the whole grid."""
        return triple(slice(a, a + n) for a, n in zip(self.start, self.mask.shape, strict=True))

    @property
    def centre_lps(self) -> np.ndarray:
        """World position (mm) of the middle of the region's bounding box."""
        index = np.argwhere(self.mask)
        return self.geometry.to_world((index.min(axis=0) + index.max(axis=0)) / 2)

    @property
    def box_lps(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Smallest and largest world coordinates (mm) of the region's voxel centres."""
        world = self.geometry.to_world(np.argwhere(self.mask))
        return tuple(map(float, world.min(axis=0))), tuple(map(float, world.max(axis=0)))


def mask_distance(mask: np.ndarray, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """In-plane distance (mm) to the border of the convex hull of a mask, slice by slice; negative inside.

    The hull closes dents, so a lesion that a segmentation left out of the vertebra stays inside its region.

    Returns
    -------
    float32 array of the mask's shape
        At most 0 at voxels of the hull, above 0 beyond it; infinite in slices without the mask, so a region never grows
        through the slices.
    """
    distance = np.full(mask.shape, np.inf, np.float32)
    for index in np.flatnonzero(mask.any(axis=(1, 2))):
        plane = mask[index]
        # The hull of one or two points or of a line is not defined; such a slice keeps its own voxels.
        hull = convex_hull_image(plane) if np.ptp(np.argwhere(plane), axis=0).min() > 0 else plane
        outside = ndimage.distance_transform_edt(~hull, sampling=spacing_mm[1:])
        # Of a voxel at the border the distance to the nearest one outside is a voxel, not nothing.
        inside = ndimage.distance_transform_edt(np.pad(hull, 1), sampling=spacing_mm[1:])[1:-1, 1:-1]
        distance[index] = np.where(hull, np.minimum(min(spacing_mm[1:]) - inside, 0), outside)
    return distance


def padded_box(mask: np.ndarray, margin_mm: float, geometry: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """First and last-plus-one index of the mask's bounding box grown by a margin in plane, cut at the grid's end."""
    grow = np.ceil(margin_mm / np.asarray(geometry.spacing_mm)).astype(int) + 1
    grow[0] = 0
    low = np.zeros(3, int)
    high = np.zeros(3, int)
    for axis in range(3):
        seen = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        low[axis] = max(0, seen[0] - grow[axis])
        high[axis] = min(mask.shape[axis], seen[-1] + 1 + grow[axis])
    return low, high


def region_from_mask(mask: np.ndarray, geometry: Geometry, margin_mm: float) -> Region:
    """Region of a vertebra that has a mask: convex hull a slice, grown in plane by `margin_mm`.

    Parameters
    ----------
    mask : (S, R, A) bool array on the native grid, not empty
    geometry : the native grid
    margin_mm : corners and endplates, where lesions begin, lie on the border of a mask
    """
    low, high = padded_box(mask, margin_mm, geometry)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    distance = mask_distance(mask[box], geometry.spacing_mm)
    return Region(
        distance <= margin_mm, triple(map(int, low)), geometry.cropped(low, high), "mask", outline=distance <= 0
    )


def with_corners(mask: np.ndarray, geometry: Geometry, tangent_lps: np.ndarray) -> np.ndarray:
    """A segmented vertebra with the corners of its body, slice by slice.

    Lesions of spondyloarthritis lie at corners and do not look like marrow. A segmentation that leaves one out cuts the
    corner off, which no convex hull gives back. Nearly all of a body lies in a rectangle along and across the spine;
    what that holds is the vertebra's.

    Parameters
    ----------
    mask : (S, R, A) bool array on the native grid, not empty
    geometry : the native grid
    tangent_lps : direction of the spine at the vertebra

    Returns
    -------
    (S, R, A) bool
        Holds the mask.
    """
    index = np.argwhere(mask)
    low, high = index.min(axis=0), index.max(axis=0) + 1
    # A tilted rectangle sticks out of the box by less than the box is long.
    grow = np.array([0, *(high - low)[1:]])
    low, high = np.maximum(low - grow, 0), np.minimum(high + grow, mask.shape)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    whole = mask.copy()
    axes = vertebra_axes(geometry, tangent_lps)
    _, along, across = positions_along(geometry.cropped(low, high), geometry.to_world(index.mean(axis=0)), axes)
    for drawn, slice_along, slice_across, kept in zip(mask[box], along, across, whole[box], strict=True):
        if not drawn.any():
            continue
        rectangle = _between(slice_along, drawn) & _between(slice_across, drawn)
        if rectangle.any() and np.mean(drawn[rectangle]) >= BODY_FILL:
            kept |= rectangle
    return whole


def _between(position: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Where a position lies among those of the drawn voxels, their outermost ones left out."""
    least, greatest = np.percentile(position[drawn], (CORNER_PERCENT, 100 - CORNER_PERCENT))
    return (position >= least) & (position <= greatest)


def ellipsoid_distance(
    geometry: Geometry, centre_lps: np.ndarray, axes_lps: np.ndarray, extent_mm: np.ndarray
) -> np.ndarray:
    """Value of |u/a|^4 + |v/b|^4 + |w/c|^4 at every voxel; 1 on the surface.

    A plain ellipsoid (exponent 2) in the box of a vertebral body leaves out its corners, where most lesions of
    spondyloarthritis lie; exponent 4 fills 0.81 of the box instead of 0.52 and keeps them.

    Parameters
    ----------
    axes_lps : (3, 3), columns = unit vectors of the ellipsoid's axes
    extent_mm : full lengths along these axes
    """
    total = np.zeros(geometry.shape)
    positions = positions_along(geometry, centre_lps, axes_lps)
    for position, half in zip(positions, np.asarray(extent_mm, float) / 2, strict=True):
        total += np.square(np.square(position / half))
    return total


def positions_along(geometry: Geometry, centre_lps: np.ndarray, axes_lps: np.ndarray) -> Iterator[np.ndarray]:
    """(S, R, A) mm of every voxel from a centre along each axis, one axis after the other."""
    # A position along an axis is affine in the voxel's index: three small tables add up to it.
    origin = (geometry.to_world(np.zeros(3)) - centre_lps) @ axes_lps
    steps = (geometry.to_world(np.eye(3)) - geometry.to_world(np.zeros(3))) @ axes_lps
    grid = np.meshgrid(*(np.arange(n) for n in geometry.shape), indexing="ij", sparse=True)
    for axis in range(3):
        yield origin[axis] + sum(ticks * step for ticks, step in zip(grid, steps[:, axis], strict=True))


def vertebra_axes(geometry: Geometry, tangent_lps: np.ndarray) -> np.ndarray:
    """Axes of a vertebra: left-right, along the spine, front-back, as columns of a (3, 3) matrix.

    The spine's tangent is followed within the sagittal plane and sideways; the left-right axis stays as close to
    the slice axis as that allows.
    """
    along = tangent_lps / np.linalg.norm(tangent_lps)
    right = np.asarray(geometry.direction, float)[:, 0]
    right = right - along * (right @ along)
    right /= np.linalg.norm(right)
    return np.stack([right, along, np.cross(right, along)], axis=1)


def ellipsoid_mask(
    geometry: Geometry, centre_lps: np.ndarray, axes_lps: np.ndarray, extent_mm: np.ndarray
) -> np.ndarray:
    """(S, R, A) bool, inside the ellipsoid of a vertebra whose level has the size `extent_mm`."""
    return ellipsoid_distance(geometry, centre_lps, axes_lps, ELLIPSOID_SHARE * np.asarray(extent_mm, float)) <= 1


def box_about(
    geometry: Geometry, centre_lps: np.ndarray, axes_lps: np.ndarray, extent_mm: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """First and last-plus-one index of the part of the grid that holds a body; alike along an axis where it is outside.

    Parameters
    ----------
    extent_mm : full lengths along the body's own axes
    """
    middle = geometry.to_index(centre_lps)
    # The body lies in the box of its extents, turned into the axes of the grid.
    reach = np.abs(np.asarray(geometry.direction, float).T @ axes_lps) @ np.asarray(extent_mm, float) / 2
    steps = reach / np.asarray(geometry.spacing_mm)
    low = np.clip(np.floor(middle - steps), 0, geometry.shape).astype(int)
    return low, np.clip(np.ceil(middle + steps) + 1, low, geometry.shape).astype(int)


def region_from_ellipsoid(
    geometry: Geometry, centre_lps: np.ndarray, tangent_lps: np.ndarray, extent_mm: np.ndarray
) -> Region | None:
    """Region of a vertebra without a mask; None when it lies outside the grid.

    It has no margin, and is a little smaller than the level's bounding box, see `ELLIPSOID_SHARE`.

    Parameters
    ----------
    extent_mm : median size of the level (left-right, along the spine, front-back)
    """
    full = ELLIPSOID_SHARE * np.asarray(extent_mm, float)
    axes = vertebra_axes(geometry, tangent_lps)
    low, high = box_about(geometry, centre_lps, axes, full)
    if np.any(high <= low):
        return None
    box = geometry.cropped(low, high)
    mask = ellipsoid_mask(box, centre_lps, axes, extent_mm)
    if not mask.any():
        return None
    return Region(mask, triple(map(int, low)), box, "ellipsoid")
