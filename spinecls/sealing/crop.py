"""The sealed crop: voxels outside the region are overwritten on the native grid before anything else happens.

Nothing from outside the region reaches the crop: the box is cut and overwritten first, then smoothed and resampled, so
no interpolation kernel can carry a neighbour's voxel in. What the classifier gets besides are two numbers a channel,
the median and the scaled median absolute deviation of the marrow of the whole case.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as functional
from scipy import ndimage

from spinecls.geometry import Geometry
from spinecls.sealing.region import Region

INTENSITY_LIMITS = (-8.0, 12.0)
"""Range kept, in scaled deviations of the marrow; beyond it a voxel is metal, an artefact or fluid at its brightest."""

RIM = 1
"""Empty voxels around a region's box while it is sampled."""

FILL = 0.0
"""Value outside the region: the marrow median after normalisation."""


def seal(image: np.ndarray, region: Region, marrow: np.ndarray) -> np.ndarray:
    """Cut the box of a region out of a native image, normalise it and overwrite everything outside the region.

    Parameters
    ----------
    image : (C, S, R, A) array, native grid, any scale
    marrow : (C, 2) array, median and scaled deviation of the case's marrow

    Returns
    -------
    (C, s, r, a) float32 array
    """
    box = np.asarray(image[(slice(None), *region.slices)], np.float32)
    centre = marrow[:, 0].reshape(-1, 1, 1, 1).astype(np.float32)
    scale = np.maximum(marrow[:, 1], 1e-6).reshape(-1, 1, 1, 1).astype(np.float32)
    box = np.clip((box - centre) / scale, *INTENSITY_LIMITS)
    return np.where(region.mask[None], box, np.float32(FILL))


def smooth_inside(sealed: np.ndarray, mask: np.ndarray, sigma_voxels: tuple[float, ...]) -> np.ndarray:
    """Gaussian smoothing that uses voxels of the region only (normalised convolution).

    Applied before sampling on a coarser grid, against aliasing; Knutsson and Westin, CVPR 1993.
    """
    if max(sigma_voxels) <= 0:
        return sealed
    weight = ndimage.gaussian_filter(mask.astype(np.float32), sigma_voxels, truncate=3)
    smooth = np.stack([ndimage.gaussian_filter(c * mask, sigma_voxels, truncate=3) for c in sealed])
    return np.where(mask[None], smooth / np.maximum(weight, 1e-3), np.float32(FILL)).astype(np.float32)


def smoothing_sigma(native_mm: tuple[float, ...], target_mm: tuple[float, ...]) -> tuple[float, ...]:
    """Standard deviation (voxels) of the smoothing before resampling; 0 on an axis that is not made coarser.

    Half the excess of the voxel size, in quadrature: a voxel's box profile has about that width.
    """
    ratio = np.asarray(target_mm, float) / np.asarray(native_mm, float)
    return tuple(float(v) for v in 0.5 * np.sqrt(np.maximum(0.0, ratio**2 - 1)) * (ratio > 1.05))


def sample_grid(
    size: tuple[int, int, int], spacing_mm: tuple[float, ...], box: Geometry, centre_lps: np.ndarray, affine: np.ndarray
) -> torch.Tensor:
    """Sampling positions of a sealed crop for `grid_sample`, in a box that has a rim of `RIM` empty voxels.

    Parameters
    ----------
    size, spacing_mm : the sealed grid
    box : native grid of the region's box
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
        The channels, `FILL` outside the region, and the region itself (1 inside) as the last channel.
    """
    box = region.geometry
    sealed = smooth_inside(seal(image, region, marrow), region.mask, smoothing_sigma(box.spacing_mm, spacing_mm))
    centre = snapped_centre(region, size, spacing_mm) if centre_lps is None else centre_lps
    grid = sample_grid(size, spacing_mm, box, centre, np.eye(3) if affine is None else affine)
    stacked = torch.from_numpy(np.concatenate([sealed, region.mask[None].astype(np.float32)]))[None]
    # The rim lets `grid_sample`, which maps first and last voxel to -1 and 1, place a box of a single slice.
    rimmed = functional.pad(stacked, [RIM] * 6)
    sampled = functional.grid_sample(rimmed, grid, mode="bilinear", padding_mode="zeros", align_corners=True)[0]
    inside = (sampled[-1:] > 0.5).float()
    # Dividing by the interpolated region removes the fill that linear interpolation mixed in at its border.
    values = torch.where(inside > 0, sampled[:-1] / sampled[-1:].clamp_min(0.5), torch.tensor(FILL))
    return torch.cat([values, inside])


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


def evidence_to_native(evidence: np.ndarray, region: Region, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """Bring a map of the sealed grid back to the voxels of the region; zero outside it.

    Parameters
    ----------
    evidence : (s, r, a) array on the sealed grid that `sealed_crop` makes by default
    region : the region that the crop was made from

    Returns
    -------
    float32 array of the region's box
    """
    centre = snapped_centre(region, evidence.shape, spacing_mm)
    offsets = region.geometry.to_world(np.argwhere(region.mask)) - centre
    local = offsets @ np.asarray(region.geometry.direction, float)
    voxels = local / np.asarray(spacing_mm) + (np.asarray(evidence.shape) - 1) / 2
    values = ndimage.map_coordinates(evidence.astype(np.float32), voxels.T, order=1, mode="nearest")
    native = np.zeros(region.mask.shape, np.float32)
    native[region.mask] = values
    return native
