"""From a volume to the network's grid: find the body, crop, normalise, resample. Training and prediction share it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np
from acvl_utils.morphology.morphology_helper import remove_all_but_largest_component
from scipy import ndimage
from skimage.filters import threshold_otsu

from spinecls.errors import PlanError
from spinecls.geometry import Geometry
from spinecls.planning.plan import Configuration
from spinecls.planning.resample import resample_image
from spinecls.sealing.marrow import MAD_TO_SD
from spinecls.types import triple

COARSE_MM = 4.0
"""Voxel edge on which the body is sought; its outline needs no more detail."""

BODY_MARGIN_MM = 8.0
"""Width kept around the body, two coarse voxels."""

CLIP = (-5.0, 8.0)
"""Range kept after normalisation; fluid and fat lie below 8, beyond are metal and vessels."""

INTENSITY_SAMPLES = 200_000
"""Voxels that the median is taken from: more would not change it, and cost time."""

NORMALISATIONS = ("robust_zscore", "none")

Box = tuple[tuple[int, int, int], tuple[int, int, int]]


class OpenVolume(NamedTuple):
    """An image on the grid of the open pass.

    `image` (C, S, R, A) float32 on `geometry`; `normalisation` (centre, scale) a channel; `crop_box` start and stop
    index of the part of the native grid that it was made from.
    """

    image: np.ndarray
    geometry: Geometry
    normalisation: tuple[tuple[float, float], ...]
    crop_box: Box


def body_mask(image: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
    """Where the patient is, to about 4 mm.

    Channels are brought to a common range between their own 1st and 99th percentile, so air need not be zero. The
    threshold lies half way between air and Otsu's, since signal falls off away from a surface coil.

    Parameters
    ----------
    image : (C, S, R, A) array

    Returns
    -------
    (S, R, A) bool array; everywhere true for an image of one value
    """
    steps = [max(1, min(round(COARSE_MM / s), n)) for s, n in zip(spacing_mm, image.shape[1:], strict=True)]
    coarse = reduce(np.add, (_unit_range(block_means(channel, steps)) for channel in image)) / len(image)
    if coarse.max() <= coarse.min():
        return np.ones(image.shape[1:], bool)
    coarse = ndimage.gaussian_filter(coarse, [COARSE_MM / max(COARSE_MM, s) for s in spacing_mm], mode="nearest")
    tissue = remove_all_but_largest_component(coarse > threshold_otsu(coarse) / 2)
    for axis, (step, size) in enumerate(zip(steps, image.shape[1:], strict=True)):
        tissue = tissue.take(np.minimum(np.arange(size) // step, tissue.shape[axis] - 1), axis=axis)
    return tissue


def block_means(volume: np.ndarray, steps: Sequence[int]) -> np.ndarray:
    """Means of whole blocks; an incomplete block at the far end is left out."""
    blocks = [n // step for n, step in zip(volume.shape, steps, strict=True)]
    whole = volume[tuple(slice(0, b * step) for b, step in zip(blocks, steps, strict=True))]
    for axis, (count, step) in enumerate(zip(blocks, steps, strict=True)):
        if step > 1:
            parts = whole.reshape(*whole.shape[:axis], count, step, *whole.shape[axis + 1 :])
            whole = parts.mean(axis=axis + 1, dtype=np.float32)
    return np.asarray(whole, np.float32)


def _unit_range(volume: np.ndarray) -> np.ndarray:
    low, high = np.percentile(volume, [1, 99])
    return np.clip((volume - low) / (high - low if high > low else 1), 0, 1)


def body_box(mask: np.ndarray, spacing_mm: Sequence[float], keep: Box | None = None) -> Box:
    """Bounding box of a body mask with a margin, grown to hold the box `keep`.

    Parameters
    ----------
    mask : (S, R, A) bool array
    keep : start and stop index that must not be cut, such as that of the annotated vertebrae

    Returns
    -------
    start and stop index
    """
    start, stop = [], []
    for axis, (size, spacing) in enumerate(zip(mask.shape, spacing_mm, strict=True)):
        inside = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        first, last = (inside[0], inside[-1] + 1) if len(inside) else (0, size)
        margin = int(np.ceil(BODY_MARGIN_MM / spacing))
        low, high = first - margin, last + margin
        if keep is not None:
            low, high = min(low, keep[0][axis]), max(high, keep[1][axis])
        start.append(int(max(0, low)))
        stop.append(int(min(size, high)))
    return triple(start), triple(stop)


def intensity_reference(image: np.ndarray, mask: np.ndarray, schemes: Sequence[str]) -> tuple[tuple[float, float], ...]:
    """Centre and scale of each channel: median and scaled median absolute deviation inside the body.

    Parameters
    ----------
    image : (C, S, R, A) array
    mask : (S, R, A) bool array
    schemes : `robust_zscore` or `none` a channel; `none` gives (0, 1)

    Raises
    ------
    PlanError
        When the number of schemes is not that of the channels, or a scheme is unknown.
    """
    if len(schemes) != len(image):
        raise PlanError(
            f"normalisation: the plan has {len(schemes)} channels ({', '.join(schemes)}), the image has {len(image)}. "
            "Give images with the channels of the training data, in the same order."
        )
    numbers = []
    for channel, scheme in zip(image, schemes, strict=True):
        if scheme not in NORMALISATIONS:
            raise PlanError(f"normalisation: {scheme!r} is not known. Known: {', '.join(NORMALISATIONS)}.")
        numbers.append((0.0, 1.0) if scheme == "none" else _median_and_spread(channel[mask]))
    return tuple(numbers)


def _median_and_spread(values: np.ndarray) -> tuple[float, float]:
    sample = values[:: max(1, len(values) // INTENSITY_SAMPLES)].astype(np.float64)
    centre = np.median(sample)
    scale = MAD_TO_SD * np.median(np.abs(sample - centre)) or sample.std() or 1.0
    return float(centre), float(scale)


def normalise(image: np.ndarray, normalisation: Sequence[tuple[float, float]], schemes: Sequence[str]) -> np.ndarray:
    """(image - centre) / scale a channel, clipped to `CLIP`; channels of scheme `none` are left alone.

    Parameters
    ----------
    image : (C, S, R, A) array

    Returns
    -------
    (C, S, R, A) float32 array
    """
    result = np.array(image, np.float32)
    for channel, (centre, scale), scheme in zip(result, normalisation, schemes, strict=True):
        if scheme != "none":
            channel -= centre
            channel /= scale
            np.clip(channel, *CLIP, out=channel)
    return result


def preprocess_volume(
    volume_array: np.ndarray,
    geometry: Geometry,
    configuration: Configuration,
    body: np.ndarray | None = None,
    keep: Box | None = None,
) -> OpenVolume:
    """Crop to the body, normalise and resample to the grid of the open pass; the same for training and prediction.

    Parameters
    ----------
    volume_array : (C, S, R, A) array, canonical axes
    body : (S, R, A) bool mask where already known; else it is found here
    keep : start and stop index that the crop must hold (training: the annotated vertebrae)

    Raises
    ------
    PlanError
        When the image has another number of channels than the plan.
    """
    mask = body_mask(volume_array, geometry.spacing_mm) if body is None else body
    normalisation = intensity_reference(volume_array, mask, configuration.normalisation)
    start, stop = body_box(mask, geometry.spacing_mm, keep)
    part = volume_array[(slice(None), *(slice(a, b) for a, b in zip(start, stop, strict=True)))]
    part_geometry = geometry.cropped(start, stop)
    target = part_geometry.resampled(configuration.spacing_mm)
    normal = normalise(part, normalisation, configuration.normalisation)
    return OpenVolume(resample_image(normal, part_geometry, target), target, normalisation, (start, stop))
