"""Images altered outside or inside a vertebra's region, on the native grid. Pure functions; no input is changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy import ndimage

from spinecls.geometry import Geometry
from spinecls.sealing.region import Region
from spinecls.types import triple

EXTREMES = (-1e30, 1e30)
"""Finite values far beyond any image; divided by the smallest marrow spread they still fit into float32."""

BLOB_RADIUS_MM = 6.0
BLOB_CONTRAST = 6.0
"""Brightness of a planted lesion above the marrow median, in scaled deviations of the marrow."""


def intensity_matched(image: np.ndarray, own: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Image (C, ...) scaled so that its marrow reference `own` (C, 2) becomes `wanted` (C, 2)."""
    shape = (-1, *[1] * (image.ndim - 1))
    gain = wanted[:, 1] / np.maximum(own[:, 1], 1e-6)
    return ((image - own[:, 0].reshape(shape)) * gain.reshape(shape) + wanted[:, 0].reshape(shape)).astype(np.float32)


def placed(donor: np.ndarray, shape: Sequence[int], shift_voxels: Sequence[int]) -> np.ndarray:
    """Donor image on a grid of another shape, moved by whole voxels, tiled where it ends and cut where it is larger.

    Parameters
    ----------
    donor : (C, s, r, a) array
    shape : wanted (S, R, A)
    shift_voxels : voxel v of the donor lands on voxel v + shift
    """
    rows = [(np.arange(n) - move) % size for n, move, size in zip(shape, shift_voxels, donor.shape[1:], strict=True)]
    return donor[(slice(None), *np.ix_(*rows))]


def centre_voxel(region: Region) -> np.ndarray:
    """(3,) index, in the whole grid, of the voxel in the middle of a region's bounding box."""
    low, high = bounding_box(region)
    return np.asarray(region.start) + (low + high) // 2


def bounding_box(region: Region) -> tuple[np.ndarray, np.ndarray]:
    """First and last index of a region's voxels, in its box."""
    index = np.argwhere(region.mask)
    return index.min(axis=0), index.max(axis=0)


def with_outside(image: np.ndarray, region: Region, outside: np.ndarray) -> np.ndarray:
    """`outside` (C, S, R, A) everywhere but in the region, where `image` stays as it is."""
    changed = np.array(outside, np.float32)
    inside = changed[(slice(None), *region.slices)]
    inside[:, region.mask] = image[(slice(None), *region.slices)][:, region.mask]
    return changed


def with_blob(
    image: np.ndarray, grid: Geometry, neighbour: Region, region: Region, marrow: np.ndarray
) -> np.ndarray | None:
    """A bright blob in the middle of a neighbour's region and nowhere in `region`.

    Parameters
    ----------
    marrow : (C, 2) reference by which the brightness is chosen

    Returns
    -------
    (C, S, R, A) array, or None where the two regions leave no voxel for the blob
    """
    blob = np.zeros(grid.shape, bool)
    index = np.argwhere(neighbour.mask)
    near = np.linalg.norm(neighbour.geometry.to_world(index) - neighbour.centre_lps, axis=1) <= BLOB_RADIUS_MM
    blob[tuple((index[near] + neighbour.start).T)] = True
    blob[region.slices] &= ~region.mask
    if not blob.any():
        return None
    changed = np.array(image, np.float32)
    changed[:, blob] = (marrow[:, 0] + BLOB_CONTRAST * marrow[:, 1])[:, None]
    return changed


def with_content(
    image: np.ndarray,
    region: Region,
    marrow: np.ndarray,
    donor: np.ndarray,
    donor_region: Region,
    donor_marrow: np.ndarray,
) -> np.ndarray:
    """The region filled with what another vertebra's region shows, everything else as it is.

    The bounding box of one region is stretched onto that of the other, linearly in plane and by whole slices, because
    a mixture of two slices would halve the contrast of a lesion seen on one. Where the donor's region does not reach
    its nearest voxel is repeated, so nothing of the donor's surroundings comes along.

    Parameters
    ----------
    image, donor : (C, S, R, A) arrays with as many channels
    marrow, donor_marrow : (C, 2) references; intensities are scaled from one to the other
    """
    low, high = bounding_box(region)
    donor_low, donor_high = bounding_box(donor_region)
    voxels = np.argwhere(region.mask)
    stretch = (donor_high - donor_low) / np.maximum(high - low, 1)
    # A side of a single voxel shows the middle of the donor's.
    position = np.where(high > low, donor_low + (voxels - low) * stretch, (donor_low + donor_high) / 2)
    position[:, 0] = np.round(position[:, 0])
    spacing_mm = donor_region.geometry.spacing_mm
    _, nearest = ndimage.distance_transform_edt(~donor_region.mask, sampling=spacing_mm, return_indices=True)
    content = intensity_matched(donor[(slice(None), *donor_region.slices)], donor_marrow, marrow)
    changed = np.array(image, np.float32)
    box = changed[(slice(None), *region.slices)]
    for channel, values in enumerate(content):
        filled = values[tuple(nearest)]
        box[channel][region.mask] = ndimage.map_coordinates(filled, position.T, order=1, mode="nearest")
    return changed


def region_of(mask: np.ndarray, grid: Geometry, source: str, outline: np.ndarray | None = None) -> Region | None:
    """Region of the true voxels of a whole-grid mask, with a whole-grid outline; None where there is none."""
    index = np.argwhere(mask)
    if not len(index):
        return None
    low, high = index.min(axis=0), index.max(axis=0) + 1
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    start = triple(map(int, low))
    return Region(mask[box], start, grid.cropped(low, high), source, None if outline is None else outline[box])


def whole_mask(region: Region, grid: Geometry) -> np.ndarray:
    """(S, R, A) bool array of a region on the whole grid."""
    return _on_grid(region.mask, region, grid)


def _on_grid(part: np.ndarray, region: Region, grid: Geometry) -> np.ndarray:
    """(S, R, A) bool array of an array of the region's box on the whole grid."""
    whole = np.zeros(grid.shape, bool)
    whole[region.slices] = part
    return whole


def _changed(region: Region, grid: Geometry, change: Callable[[np.ndarray], np.ndarray]) -> Region | None:
    """Region whose mask and outline, on the whole grid, both went through the same change."""
    outline = None if region.outline is None else change(_on_grid(region.outline, region, grid))
    return region_of(change(whole_mask(region, grid)), grid, region.source, outline)


def moved_region(region: Region, grid: Geometry, axis: int, distance_mm: float) -> Region | None:
    """Region and its outline moved along an array axis by whole voxels, at least one; what leaves the grid is lost."""
    spacing = grid.spacing_mm[axis]
    steps = int(np.sign(distance_mm)) * max(1, round(abs(distance_mm) / spacing))

    def moved(mask: np.ndarray) -> np.ndarray:
        index = np.argwhere(mask)
        index[:, axis] += steps
        index = index[(index[:, axis] >= 0) & (index[:, axis] < grid.shape[axis])]
        there = np.zeros(grid.shape, bool)
        there[tuple(index.T)] = True
        return there

    return _changed(region, grid, moved)


def grown_region(region: Region, grid: Geometry, distance_mm: float) -> Region | None:
    """Region grown (positive distance) or shrunk (negative) in plane, slice by slice; None where nothing is left.

    At least by one voxel along the finer in-plane axis. Its outline grows or shrinks as much, so the margin stays.
    """
    reach_mm = max(abs(distance_mm), min(grid.spacing_mm[1:]))

    def grown(mask: np.ndarray) -> np.ndarray:
        for index in np.flatnonzero(mask.any(axis=(1, 2))):
            plane = mask[index]
            if distance_mm > 0:
                plane |= ndimage.distance_transform_edt(~plane, sampling=grid.spacing_mm[1:]) <= reach_mm
            else:
                # The border of the image is no border of the vertebra, so it eats nothing away.
                plane &= ndimage.distance_transform_edt(plane, sampling=grid.spacing_mm[1:]) > reach_mm
        return mask

    return _changed(region, grid, grown)
