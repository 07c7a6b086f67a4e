"""Marrow, changes to an image, and how they are rounded.

Changes are added, so the noise of the scan stays, and a voxel with no change keeps its value to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from spinecls.sealing.marrow import MAD_TO_SD
from spinecls.simulation.bodies import Body

_ERODE_MM = 3.0
_MOST_LEVELS = 65536
_VOXELS_A_LEVEL = 8
_SURROUNDINGS_MM = 40.0
# Of the way to fluid and to a void on average over a lesion: its middle goes further, and a void would lose its noise.
_BRIGHTEST, _DARKEST = 0.75, 0.65
_ADJUSTMENTS = 6


@dataclass(frozen=True, kw_only=True)
class Channel:
    """One channel of a scan and what is known of its tissue.

    Attributes
    ----------
    sequence : "T2", "STIR" or "T1"
    median, deviation : of all marrow of the scan, 1.48 times the median absolute deviation (`marrow`)
    dark, bright : 1st and 99th percentile around the column, about the values of air and of fluid or fat
    grey_levels : ascending values that occur, when the image is quantised; else None
    value_range : smallest and largest value that occurs
    """

    sequence: str
    median: float
    deviation: float
    dark: float
    bright: float
    grey_levels: np.ndarray | None
    value_range: tuple[float, float]


def measure_channel(volume: np.ndarray, sequence: str, bodies: Sequence[Body]) -> Channel:
    """Tissue of one channel (S, R, A) float32; `bodies` must not be empty."""
    marrow = np.concatenate([volume[body.slices][core(body)] for body in bodies]).astype(np.float64)
    median = float(np.median(marrow))
    deviation = MAD_TO_SD * float(np.median(np.abs(marrow - median)))
    levels = np.unique(volume)
    quantised = len(levels) <= min(_MOST_LEVELS, volume.size // _VOXELS_A_LEVEL)
    dark, bright = np.percentile(volume[_surroundings(volume.shape, bodies)], [1, 99])
    return Channel(
        sequence=sequence,
        median=median,
        deviation=deviation or max(float(marrow.std()), 1.0),
        dark=float(dark),
        bright=float(bright),
        grey_levels=levels if quantised else None,
        value_range=(float(levels[0]), float(levels[-1])),
    )


def core(body: Body) -> np.ndarray:
    """Voxels of the body's box that lie 3 mm inside it in plane; the whole body when that leaves nothing."""
    spacing_mm = body.geometry.spacing_mm[1:]
    padded = np.pad(body.mask, ((0, 0), (1, 1), (1, 1)))
    depth_mm = np.stack([ndimage.distance_transform_edt(plane, sampling=spacing_mm) for plane in padded])
    inner = depth_mm[:, 1:-1, 1:-1] > _ERODE_MM
    return inner if inner.any() else body.mask


def _surroundings(shape: tuple[int, ...], bodies: Sequence[Body]) -> tuple[slice, ...]:
    box = []
    for axis in range(3):
        grow = round(_SURROUNDINGS_MM / bodies[0].geometry.spacing_mm[axis]) if axis else 0
        low = min(body.slices[axis].start for body in bodies) - grow
        high = max(body.slices[axis].stop for body in bodies) + grow
        box.append(slice(max(0, low), min(shape[axis], high)))
    return tuple(box)


def rounded(values: np.ndarray, channel: Channel, uniforms: np.ndarray) -> np.ndarray:
    """Values that the image could hold, float32.

    A quantised image keeps to the values that occur in it: each new value becomes one of its two neighbours among
    them, the nearer the likelier. A fraction, or a grey value that the scan never has, would give the change away;
    rounding always to the nearest would leave terraces in it.

    Parameters
    ----------
    uniforms : 0..1, of the shape of `values`
    """
    inside = np.clip(values, *channel.value_range)
    levels = channel.grey_levels
    if levels is None or len(levels) < 2:
        return inside.astype(np.float32)
    below = np.clip(np.searchsorted(levels, inside, side="right") - 1, 0, len(levels) - 2)
    low, high = levels[below].astype(np.float64), levels[below + 1].astype(np.float64)
    return np.where(uniforms < (inside - low) / (high - low), high, low).astype(np.float32)


def changed(
    before: np.ndarray,
    pattern: np.ndarray,
    outline: np.ndarray,
    channel: Channel,
    target: float,
    uniforms: np.ndarray,
    tissue: bool = True,
) -> np.ndarray:
    """The box of an image after adding `pattern`, scaled so that the contrast in the outline is `target`.

    Contrast is the mean change over the marrow's deviation. Clipping and rounding cost contrast, so the scale is
    adjusted to what was reached.

    Parameters
    ----------
    before : float32 array
    pattern : float array of the same shape, not negative
    outline : bool array, not empty
    target : signed contrast; 0 returns `before` unchanged
    tissue : bound the change by what tissue looks like, no brighter than fluid or fat and no darker than a void; False
        bounds it by the values of the image alone
    """
    if target == 0:
        return before
    own = float(before[outline].mean(dtype=np.float64))
    if tissue:
        room = _BRIGHTEST * (channel.bright - own) if target > 0 else _DARKEST * (own - channel.dark)
    else:
        room = channel.value_range[1] - own if target > 0 else own - channel.value_range[0]
    wanted = np.sign(target) * min(abs(target) * channel.deviation, max(room, 0))
    if wanted == 0:
        return before
    scale = wanted / float(pattern[outline].mean())
    strongest = abs(scale) * 1.5
    best, best_miss = before, np.inf
    for _ in range(_ADJUSTMENTS):
        after = rounded(before + scale * pattern.astype(np.float64), channel, uniforms)
        reached = float((after - before)[outline].mean(dtype=np.float64))
        if abs(reached - wanted) < best_miss:
            best, best_miss = after, abs(reached - wanted)
        if reached * wanted <= 0 or best_miss < 0.01 * abs(wanted):
            break
        scale = np.clip(scale * wanted / reached, -strongest, strongest)
    return best


def contrast(before: np.ndarray, after: np.ndarray, outline: np.ndarray, channel: Channel) -> float:
    """Absolute mean change in the outline over the marrow's deviation."""
    return abs(float((after - before)[outline].mean(dtype=np.float64))) / channel.deviation
