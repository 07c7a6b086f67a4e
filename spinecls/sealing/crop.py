"""The crop that shows one vertebra: sealed, or for comparison open.

Nothing from outside the region reaches a sealed crop: the box is cut and overwritten on the native grid first, then
smoothed and resampled, so no interpolation kernel can carry a neighbour's voxel in. What the classifier gets besides
are two numbers a channel, the median and the scaled median absolute deviation of the marrow: at level S2 of the whole
case, at S3 of the region. An open crop (S0, S1) is the same view without anything overwritten.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as functional
from scipy import ndimage, sparse
from scipy.spatial import cKDTree

from spinecls.geometry import Geometry
from spinecls.sealing.marrow import own_reference
from spinecls.sealing.region import Region
from spinecls.sealing.sealing_levels import is_guaranteed
from spinecls.types import triple

INTENSITY_LIMITS = (-8.0, 12.0)
"""Range kept, in scaled deviations of the marrow; beyond it a voxel is metal, an artefact or fluid at its brightest."""

RIM = 1
"""Empty voxels around a region's box while it is sampled."""

FILL = 0.0
"""Value of voxels that are not shown: the marrow median after normalisation."""

MARGIN = 0.5
"""Value of the margin in the channel that shows the region, whose outline is 1 and what is outside it 0."""

SMOOTHING_REACH = 3
"""Standard deviations at which the smoothing kernel is cut off."""


@dataclass(frozen=True)
class VertebraCrop:
    """Input of the classifier for one vertebra, on the sealed grid.

    Attributes
    ----------
    image : (C + 1, s, r, a) float32, the channels, `FILL` where nothing is shown, and the region (see `sealed_crop`)
    shown : (s, r, a) bool, where the channels show the image: the region, or in an open crop all of the image
    pooled : (s, r, a) bool, voxels whose evidence counts
    """

    image: torch.Tensor
    shown: torch.Tensor
    pooled: torch.Tensor


def vertebra_crop(
    seal: str,
    image: np.ndarray,
    grid: Geometry,
    region: Region,
    marrow: np.ndarray,
    size: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    affine: np.ndarray | None = None,
    centre_lps: np.ndarray | None = None,
) -> VertebraCrop:
    """Crop of a vertebra at a sealing level.

    Parameters
    ----------
    seal : one of `levels.SEALS`
    image : (C, S, R, A) native array that `region.slices` refers to; of an open crop any native array around the region
    grid : grid of `image`
    marrow : (C, 2) reference of the case, which S3 does not look at
    size, spacing_mm, affine, centre_lps : as for `_sample_grid`; the centre is `snapped_centre` by default
    """
    affine = np.eye(3) if affine is None else affine
    centre = snapped_centre(region, size, spacing_mm) if centre_lps is None else centre_lps
    if is_guaranteed(seal):
        reference = own_reference(image, region) if seal == "S3" else marrow
        crop = sealed_crop(image, region, reference, size, spacing_mm, affine, centre)
        inside = crop[-1] > 0
        return VertebraCrop(crop, inside, inside)
    crop, shown = _open_crop(image, grid, region, marrow, size, spacing_mm, affine, centre)
    return VertebraCrop(crop, shown, shown if seal == "S0" else crop[-1] > 0)


def normalised(box: np.ndarray, marrow: np.ndarray) -> np.ndarray:
    """(C, s, r, a) float32 array in scaled deviations from the (C, 2) marrow reference, clipped."""
    centre = marrow[:, 0].reshape(-1, 1, 1, 1).astype(np.float32)
    scale = np.maximum(marrow[:, 1], 1e-6).reshape(-1, 1, 1, 1).astype(np.float32)
    return np.clip((np.asarray(box, np.float32) - centre) / scale, *INTENSITY_LIMITS)


def seal(image: np.ndarray, region: Region, marrow: np.ndarray) -> np.ndarray:
    """Cut the box of a region out of a native image, normalise it and overwrite everything outside the region.

    Parameters
    ----------
    image : (C, S, R, A) array, native grid, any scale
    marrow : (C, 2) array, median and scaled deviation of the marrow

    Returns
    -------
    (C, s, r, a) float32 array
    """
    box = normalised(image[(slice(None), *region.slices)], marrow)
    return np.where(region.mask[None], box, np.float32(FILL))


def smooth_inside(sealed: np.ndarray, mask: np.ndarray, sigma_voxels: tuple[float, ...]) -> np.ndarray:
    """Gaussian smoothing that uses voxels of the region only (normalised convolution).

    Applied before sampling on a coarser grid, against aliasing; Knutsson and Westin, CVPR 1993.
    """
    if max(sigma_voxels) <= 0:
        return sealed
    weight = ndimage.gaussian_filter(mask.astype(np.float32), sigma_voxels, truncate=SMOOTHING_REACH)
    smooth = np.stack([ndimage.gaussian_filter(c * mask, sigma_voxels, truncate=SMOOTHING_REACH) for c in sealed])
    return np.where(mask[None], smooth / np.maximum(weight, 1e-3), np.float32(FILL)).astype(np.float32)


def smoothing_sigma(native_mm: tuple[float, ...], target_mm: tuple[float, ...]) -> tuple[float, ...]:
    """Standard deviation (voxels) of the smoothing before resampling; 0 on an axis that is not made coarser.

    Half the excess of the voxel size, in quadrature: a voxel's box profile has about that width.
    """
    ratio = np.asarray(target_mm, float) / np.asarray(native_mm, float)
    return tuple(float(v) for v in 0.5 * np.sqrt(np.maximum(0.0, ratio**2 - 1)) * (ratio > 1.05))


def _sample_grid(
    size: tuple[int, int, int], spacing_mm: tuple[float, ...], box: Geometry, centre_lps: np.ndarray, affine: np.ndarray
) -> torch.Tensor:
    """Sampling positions of a crop for `grid_sample`, in a box that has a rim of `RIM` empty voxels.

    Parameters
    ----------
    size, spacing_mm : the sealed grid
    box : native grid of the box that is sampled
    centre_lps : world position that the middle of the sealed grid shows
    affine : (3, 3), applied to millimetre offsets from the middle (rotation, zoom, mirror); identity at prediction

    Returns
    -------
    (1, s, r, a, 3) float32 tensor
        In units of `grid_sample` with `align_corners=True`.
    """
    ticks = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(size, spacing_mm, strict=True)]
    offsets = np.stack(np.meshgrid(*ticks, indexing="ij"), axis=-1) @ affine.T
    voxels = offsets / np.asarray(box.spacing_mm) + box.to_index(centre_lps) + RIM
    unit = voxels / (np.asarray(box.shape) - 1 + 2 * RIM) * 2 - 1
    return torch.from_numpy(np.ascontiguousarray(unit[..., ::-1], np.float32))[None]


def sealed_crop(
    image: np.ndarray,
    region: Region,
    marrow: np.ndarray,
    size: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    affine: np.ndarray | None = None,
    centre_lps: np.ndarray | None = None,
) -> torch.Tensor:
    """Input of the classifier for one vertebra.

    Returns
    -------
    (C + 1, s, r, a) float32 tensor
        The channels, `FILL` outside the region, and as the last channel the region itself: 1 within its outline,
        `MARGIN` beyond it, 0 outside the region. Without an outline all of the region is 1.
    """
    box = region.geometry
    sealed = smooth_inside(seal(image, region, marrow), region.mask, smoothing_sigma(box.spacing_mm, spacing_mm))
    centre = snapped_centre(region, size, spacing_mm) if centre_lps is None else centre_lps
    grid = _sample_grid(size, spacing_mm, box, centre, np.eye(3) if affine is None else affine)
    values, inside = _sampled(sealed, region.mask, grid)
    return torch.cat([values, _with_outline(inside, region, grid)])


def _with_outline(inside: torch.Tensor, region: Region, grid: torch.Tensor) -> torch.Tensor:
    """(1, s, r, a) the region on the sealed grid, its margin told from what its outline holds."""
    if region.outline is None:
        return inside
    _, within = _sampled(np.zeros((0, *region.mask.shape), np.float32), region.outline, grid)
    return inside * (MARGIN + (1 - MARGIN) * within)


def _sampled(values: np.ndarray, mask: np.ndarray, grid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Values inside a mask, `FILL` outside, and the mask (1 inside), on the positions of `_sample_grid`.

    Dividing by the interpolated mask removes the fill that linear interpolation mixed in at its border.
    """
    stacked = torch.from_numpy(np.concatenate([values, mask[None].astype(np.float32)]))[None]
    # The rim lets `grid_sample`, which maps first and last voxel to -1 and 1, place a box of a single slice.
    rimmed = functional.pad(stacked, [RIM] * 6)
    sampled = functional.grid_sample(rimmed, grid, mode="bilinear", padding_mode="zeros", align_corners=True)[0]
    inside = (sampled[-1:] > 0.5).float()
    return torch.where(inside > 0, sampled[:-1] / sampled[-1:].clamp_min(0.5), torch.tensor(FILL)), inside


def _open_crop(
    image: np.ndarray,
    geometry: Geometry,
    region: Region,
    marrow: np.ndarray,
    size: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    affine: np.ndarray,
    centre_lps: np.ndarray,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The view of `sealed_crop` with nothing overwritten.

    Parameters
    ----------
    image : (C, S, R, A) array on `geometry`, at least as large as the crop and its smoothing wherever the scan is

    Returns
    -------
    crop : (C + 1, s, r, a) float32 tensor, `FILL` outside the image, the last channel the region
    shown : (s, r, a) bool tensor, inside the image
    """
    sigma = smoothing_sigma(geometry.spacing_mm, spacing_mm)
    half_mm = np.abs(affine) @ ((np.asarray(size) - 1) / 2 * np.asarray(spacing_mm))
    # Besides what interpolation touches, as much as the smoothing kernel reaches.
    low, high = crop_box(geometry, centre_lps, half_mm, SMOOTHING_REACH * np.asarray(sigma) + 2)
    box = geometry.cropped(low, high)
    cut = normalised(image[(slice(None), *(slice(a, b) for a, b in zip(low, high, strict=True)))], marrow)
    if max(sigma) > 0:
        smoothed = [ndimage.gaussian_filter(c, sigma, truncate=SMOOTHING_REACH, mode="nearest") for c in cut]
        cut = np.stack(smoothed)
    values, shown = _sampled(cut, np.ones(box.shape, bool), _sample_grid(size, spacing_mm, box, centre_lps, affine))
    own_grid = _sample_grid(size, spacing_mm, region.geometry, centre_lps, affine)
    _, inside = _sampled(np.zeros((0, *region.mask.shape), np.float32), region.mask, own_grid)
    return torch.cat([values, _with_outline(inside, region, own_grid)]), shown[0] > 0


def crop_box(
    geometry: Geometry, centre_lps: np.ndarray, half_mm: np.ndarray, margin_voxels: np.ndarray | float = 0.0
) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """First and last-plus-one index of the voxels within `half_mm` of a position along each array axis.

    Cut at the grid's end, where at least one voxel is left on each axis.
    """
    half = np.asarray(half_mm) / np.asarray(geometry.spacing_mm) + margin_voxels
    middle = geometry.to_index(centre_lps)
    last = np.asarray(geometry.shape) - 1
    # The tolerance keeps a voxel exactly at the border in, whatever the rounding of the world position.
    low = np.clip(np.ceil(middle - half - 1e-6), 0, last).astype(int)
    high = np.clip(np.floor(middle + half + 1e-6), low, last).astype(int) + 1
    return triple(map(int, low)), triple(map(int, high))


def shown_voxels(
    geometry: Geometry, region: Region, size: tuple[int, int, int], spacing_mm: tuple[float, float, float]
) -> Region:
    """The native voxels that the open crop of a region shows at prediction."""
    half_mm = np.asarray(size) / 2 * np.asarray(spacing_mm)
    low, high = crop_box(geometry, snapped_centre(region, size, spacing_mm), half_mm)
    box = geometry.cropped(low, high)
    return Region(np.ones(box.shape, bool), low, box, "crop")


def snapped_centre(
    region: Region,
    size: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    centre_lps: np.ndarray | None = None,
) -> np.ndarray:
    """World position (mm) for the middle of a sealed grid, at most half a slice from `centre_lps`.

    Its first slice then coincides with a slice of the image. Between two slices, interpolation would halve the
    contrast of a lesion that is seen on one slice only.

    Parameters
    ----------
    centre_lps : wanted position; by default the middle of the region
    """
    index = region.geometry.to_index(region.centre_lps if centre_lps is None else centre_lps)
    half_mm = (size[0] - 1) / 2 * spacing_mm[0]
    half = half_mm / region.geometry.spacing_mm[0]
    index[0] = np.round(index[0] - half) + half
    return region.geometry.to_world(index)


def evidence_to_native(
    evidence: np.ndarray,
    region: Region,
    spacing_mm: tuple[float, float, float],
    centre_lps: np.ndarray | None = None,
) -> np.ndarray:
    """Bring a map of the sealed grid back to the voxels of a region; zero outside it.

    Parameters
    ----------
    evidence : (s, r, a) array on the sealed grid that `vertebra_crop` makes by default
    region : the region that the crop was made from, or `shown_voxels`
    centre_lps : middle of the sealed grid; by default that of a crop made from `region`

    Returns
    -------
    float32 array of the region's box
    """
    voxels = _sealed_index(region, evidence.shape, spacing_mm, centre_lps)
    values = ndimage.map_coordinates(evidence.astype(np.float32), voxels.T, order=1, mode="nearest")
    native = np.zeros(region.mask.shape, np.float32)
    native[region.mask] = values
    return native


def shares_to_native(
    shares: np.ndarray,
    region: Region,
    spacing_mm: tuple[float, float, float],
    centre_lps: np.ndarray | None = None,
) -> np.ndarray:
    """Hand what each voxel of the sealed grid contributes on to the voxels of a region; every sum stays what it was.

    A voxel of the sealed grid divides its share among the native voxels that it interpolates to, by their weights; one
    that reaches no voxel of the region gives it to the nearest. (Interpolating instead, as `evidence_to_native` does,
    keeps values, and would count a share once for every finer voxel.)

    Parameters
    ----------
    shares : (E, s, r, a) array on the sealed grid
    region, spacing_mm, centre_lps : as for `evidence_to_native`

    Returns
    -------
    (E, ...) float64 array of the region's box, zero outside the region
    """
    size = np.asarray(shares.shape[1:])
    voxels = np.clip(_sealed_index(region, size, spacing_mm, centre_lps), 0, size - 1)
    low = np.minimum(np.floor(voxels).astype(int), np.maximum(size - 2, 0))
    columns, weights = [], []
    for corner in itertools.product((0, 1), repeat=3):
        index = np.minimum(low + corner, size - 1)
        columns.append(np.ravel_multi_index(index.T, size))
        weights.append(np.prod(np.where(corner, voxels - low, 1 - (voxels - low)), axis=1))
    rows = np.tile(np.arange(len(voxels)), len(columns))
    cells = (np.concatenate(weights), (rows, np.concatenate(columns)))
    spread = sparse.csr_array(cells, shape=(len(voxels), int(size.prod())))
    flat = shares.reshape(len(shares), -1).astype(float)
    reached = spread.sum(axis=0)
    values = spread @ (flat / np.where(reached > 0, reached, 1)).T
    stray = np.flatnonzero((reached <= 0) & np.any(flat != 0, axis=0))
    if len(stray):
        _, nearest = cKDTree(voxels).query(np.stack(np.unravel_index(stray, size), axis=1))
        np.add.at(values, nearest, flat[:, stray].T)
    native = np.zeros((len(shares), *region.mask.shape))
    native[:, region.mask] = values.T
    return native


def _sealed_index(region: Region, size, spacing_mm, centre_lps: np.ndarray | None) -> np.ndarray:
    """(V, 3) continuous index on the sealed grid of the voxels of a region."""
    centre = snapped_centre(region, size, spacing_mm) if centre_lps is None else centre_lps
    offsets = region.geometry.to_world(np.argwhere(region.mask)) - centre
    local = offsets @ np.asarray(region.geometry.direction, float)
    return local / np.asarray(spacing_mm) + (np.asarray(size) - 1) / 2
