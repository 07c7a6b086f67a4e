"""What a scan looks like, in a few numbers that need neither a network nor an annotation: contrast and image quality.

None depends on the unit of the intensities: a * image + b with a > 0 gives the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from spinecls.planning.volume import block_means, body_box, body_mask
from spinecls.sealing.marrow import MAD_TO_SD
from spinecls.types import triple

MIDDLE_SHARE = 1 / 3
"""Share of the slices, the middle ones, that is looked at: they show the column, and the others cost time."""

MOST_SLICES = 16
"""Of more slices, evenly chosen ones are looked at."""

DETAIL_MM = 2.0
"""Voxel edge, in plane, on which contrast is measured, so that it hardly depends on the resolution of the scan."""

RIM_MM = 12.0
"""Rim of the body that is left out of the contrast: bright skin beside dark air tells of coils, not of tissue."""

STRIPE_MM = (3.0, 9.0)
"""Standard deviations, front to back, of the two Gaussians whose difference shows stripes as wide as the canal."""

STRIPE_LENGTH_MM = 12.0
"""Standard deviation along the stripe; a longer one would smear the canal where the column is curved."""

SMALL_MM = (1.5, 4.0)
"""Standard deviations of the two Gaussians whose difference shows small structures."""

LEAST_VOXELS = 50
"""Fewer tell nothing."""


def appearance(
    image: np.ndarray, spacing_mm: Sequence[float], body: np.ndarray | None = None
) -> tuple[dict[str, float], ...]:
    """Numbers of each channel by name; none for a channel that is constant or too small to be measured.

    With p5 the 5th percentile of the voxels of the body, and the spread p95 - p5:

    - `asymmetry`: (p95 + p5 - 2 p50) / spread, above 0 where few voxels are bright and most are dark
    - `evenness`: (p75 - p25) / spread, small where one tissue prevails
    - `bright_tail`: (p99 - p95) / spread, of what is far brighter than all else
    - `detail`: range of small bright and dark structures (p95 - p5 of a difference of Gaussians) / spread
    - `stripes`: balance of bright and dark upright stripes as wide as the canal, -1 to 1
    - `noise`: standard deviation of the noise / spread (Immerkaer, Comput Vis Image Underst 1996, with the median in
      place of the mean, so that edges do not count)
    - `fineness_head_feet`, `fineness_front_back`: root mean square difference of neighbours over that of voxels two
      apart; 0.5 where the image is smooth, 1 where every voxel is independent
    - `saturated`: share of voxels that have the greatest value

    Parameters
    ----------
    image : (C, S, R, A) array, canonical axes
    body : (S, R, A) bool mask where already known; else it is found here
    """
    body = body_mask(image, spacing_mm) if body is None else body
    (first, *start), (last, *stop) = body_box(body, spacing_mm)
    middle, half = (first + last) / 2, max(0.5, (last - first) * MIDDLE_SHARE / 2)
    low, high = int(np.floor(middle - half)), int(np.ceil(middle + half))
    step = -(-(high - low) // MOST_SLICES)
    part = (slice(low, high, step), *(slice(a, b) for a, b in zip(start, stop, strict=True)))
    return tuple(_channel(channel[part].astype(np.float32), spacing_mm, body[part]) for channel in image)


def _channel(volume: np.ndarray, spacing_mm: Sequence[float], body: np.ndarray) -> dict[str, float]:
    # Voxels whose neighbours in the slice are all of the body, so that its outline does not count as structure.
    inner = _all_three(_all_three(body, 1), 2)
    if inner.sum() < LEAST_VOXELS:
        return {}
    values = volume[body]
    spread = float(np.subtract(*np.percentile(values, (95, 5))))
    if not spread > 0:
        return {}
    numbers = _contrast(volume, spacing_mm, body) | {
        "noise": _noise(volume, inner) / spread,
        "fineness_head_feet": _fineness(volume[:, :, 1:-1], inner, 1),
        "fineness_front_back": _fineness(volume[:, 1:-1], inner, 2),
        "saturated": float((values == values.max()).mean()),
    }
    return numbers if np.isfinite(list(numbers.values())).all() else {}


def _thirds(values: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Voxels that have two neighbours along an axis: those before, themselves, those after."""
    values = np.moveaxis(values, axis, 0)
    return triple(np.moveaxis(part, 0, axis) for part in (values[:-2], values[1:-1], values[2:]))


def _all_three(mask: np.ndarray, axis: int) -> np.ndarray:
    before, here, after = _thirds(mask, axis)
    return before & here & after


def _second_difference(volume: np.ndarray, axis: int) -> np.ndarray:
    before, here, after = _thirds(volume, axis)
    return before - 2 * here + after


def _noise(volume: np.ndarray, inner: np.ndarray) -> float:
    """Standard deviation of the noise: second differences along both axes leave out planes and straight edges."""
    second = _second_difference(_second_difference(volume, 1), 2)
    return MAD_TO_SD * float(np.median(np.abs(second[inner]))) / 6


def _fineness(volume: np.ndarray, inner: np.ndarray, axis: int) -> float:
    before, here, after = _thirds(volume, axis)
    near = [np.mean((a - b)[inner] ** 2, dtype=float) for a, b in ((here, before), (after, here))]
    far = np.mean((after - before)[inner] ** 2, dtype=float)
    return float(np.sqrt(np.mean(near) / far)) if far > 0 else np.nan


def _contrast(volume: np.ndarray, spacing_mm: Sequence[float], body: np.ndarray) -> dict[str, float]:
    steps = [1, *(max(1, min(round(DETAIL_MM / s), n)) for s, n in zip(spacing_mm[1:], volume.shape[1:], strict=True))]
    edges_mm = [s * step for s, step in zip(spacing_mm[1:], steps[1:], strict=True)]
    volume = block_means(volume, steps)
    inside = block_means(body, steps) > 0.99
    # The image's own border is no skin, so nothing is left out there.
    rim = max(1, round(RIM_MM / max(edges_mm)))
    core = ndimage.binary_erosion(inside, np.ones((1, 3, 3)), iterations=rim, border_value=1)
    core = next(mask for mask in (core, inside, np.ones_like(inside)) if mask.sum() >= min(LEAST_VOXELS, mask.size))
    low, lower, middle, upper, high, top = (float(v) for v in np.percentile(volume[core], (5, 25, 50, 75, 95, 99)))
    if not high > low:
        return {"asymmetry": np.nan}
    return {
        "asymmetry": (high + low - 2 * middle) / (high - low),
        "evenness": (upper - lower) / (high - low),
        "bright_tail": (top - high) / (high - low),
        "detail": _detail(volume, edges_mm, core) / (high - low),
        "stripes": _stripes(volume, edges_mm, core),
    }


def _smooth(volume: np.ndarray, edges_mm: Sequence[float], along_mm: float, across_mm: float) -> np.ndarray:
    return ndimage.gaussian_filter(volume, [0, along_mm / edges_mm[0], across_mm / edges_mm[1]], mode="nearest")


def _detail(volume: np.ndarray, edges_mm: Sequence[float], core: np.ndarray) -> float:
    small, large = (_smooth(volume, edges_mm, width, width)[core] for width in SMALL_MM)
    return float(np.subtract(*np.percentile(small - large, (95, 5))))


def _stripes(volume: np.ndarray, edges_mm: Sequence[float], core: np.ndarray) -> float:
    """Balance of the ends of the distribution of the response to stripes, each place scaled by its surroundings."""
    narrow, wide = (_smooth(volume, edges_mm, STRIPE_LENGTH_MM, width) for width in STRIPE_MM)
    response = narrow - wide
    around_mm = 2 * STRIPE_MM[1]
    strength = np.sqrt(_smooth(response**2, edges_mm, around_mm, around_mm))
    scaled = response[core] / np.maximum(strength[core], 1e-6 * strength.max() or 1)
    low, high = (float(v) for v in np.percentile(scaled, (3, 97)))
    return (high + low) / (high - low) if high > low else np.nan
