"""Vertebral bodies in their own millimetres: across the slices, along the spine, front to back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from spinecls.anatomy import RANK
from spinecls.curve import image_tangents_lps
from spinecls.geometry import Geometry
from spinecls.sealing.region import padded_box, vertebra_axes
from spinecls.types import triple

MARGIN_MM = 4.0
SMALLEST_AREA_MM2 = 100.0
_TURNS_DEGREES = np.arange(-30, 31, 2)
_TURN_PENALTY = 0.003
# Few voxels left out: were it many, a rectangle turned by some degrees would look as small as one that is not.
_EXTENT_PERCENTILES = (0.5, 99.5)


@dataclass(frozen=True, kw_only=True)
class Body:
    """One vertebral body.

    Attributes
    ----------
    slices : box of the body, grown in plane, in the whole canonical array
    mask : bool array of the box
    geometry : grid of the box
    centre_lps : mean of the body's voxels, world mm
    axes_lps : columns t (to the left), w (to the feet), u (to the back), unit vectors
    size_mm : extent along t, w, u
    position_mm : (3, box) t, w, u of each voxel
    border_mm : "upper", "lower", "front", "back" -> array of the box, depth below that border of the body
    endplates : those of "upper" and "lower" that lie inside the image
    """

    level: str
    slices: tuple[slice, slice, slice]
    mask: np.ndarray
    geometry: Geometry
    centre_lps: np.ndarray
    axes_lps: np.ndarray
    size_mm: tuple[float, float, float]
    position_mm: np.ndarray
    border_mm: Mapping[str, np.ndarray]
    endplates: tuple[str, ...]

    @property
    def usable(self) -> bool:
        """Whether a lesion can be put here: a body (C1 has none) that the image does not cut off."""
        area_mm2 = self.mask.sum(axis=(1, 2)).max() * np.prod(self.geometry.spacing_mm[1:])
        return self.level != "C1" and bool(self.endplates) and area_mm2 >= SMALLEST_AREA_MM2

    def corner_mm(self, endplate: str, side: str) -> tuple[np.ndarray, np.ndarray]:
        """How far along u and w each voxel of the box lies from a corner of the body in its slice.

        At least as far as below the two borders; these alone would let a small lesion run along a tilted endplate.
        """
        _, w, u = self.position_mm
        backwards, downwards = u / self.size_mm[2], w / self.size_mm[1]
        outwards = (-backwards if side == "front" else backwards) + (-downwards if endplate == "upper" else downwards)
        best = np.where(self.mask, outwards, -np.inf).reshape(len(w), -1).argmax(axis=1)
        at = (np.arange(len(w)), best)
        along, below = (np.abs(axis - axis.reshape(len(w), -1)[at][:, None, None]) for axis in (u, w))
        return np.maximum(along, self.border_mm[side]), np.maximum(below, self.border_mm[endplate])

    def world(self, t_mm: float, w_mm: float, u_mm: float) -> np.ndarray:
        """World position (LPS mm) of a point of the body's frame."""
        return self.centre_lps + self.axes_lps @ np.array([t_mm, w_mm, u_mm])


def find_bodies(vertebra_map: np.ndarray, geometry: Geometry, codes: Mapping[str, int]) -> tuple[Body, ...]:
    """Bodies of a map from head to feet.

    Parameters
    ----------
    vertebra_map : (S, R, A) whole numbers, canonical
    codes : code of each level in the map; levels without voxels are left out
    """
    present = set(np.unique(vertebra_map).tolist())
    levels = sorted((level for level, code in codes.items() if code in present), key=RANK.__getitem__)
    masks = [vertebra_map == codes[level] for level in levels]
    centres = np.array([geometry.to_world(np.argwhere(mask).mean(axis=0)) for mask in masks]).reshape(-1, 3)
    tangents = image_tangents_lps(centres, geometry)
    return tuple(
        _body(level, mask, geometry, centre, tangent)
        for level, mask, centre, tangent in zip(levels, masks, centres, tangents, strict=True)
    )


def local_mm(geometry: Geometry, centre_lps: np.ndarray, axes_lps: np.ndarray) -> np.ndarray:
    """(3, S, R, A) position of every voxel of a grid along the columns of `axes_lps`, from a centre."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in geometry.shape), indexing="ij"), axis=-1)
    return np.moveaxis((geometry.to_world(index) - centre_lps) @ axes_lps, -1, 0)


def _body(level: str, mask: np.ndarray, geometry: Geometry, centre_lps: np.ndarray, tangent_lps: np.ndarray) -> Body:
    low, high = padded_box(mask, MARGIN_MM, geometry)
    slices = triple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    box, inside = geometry.cropped(low, high), mask[slices]
    axes_lps = vertebra_axes(geometry, tangent_lps)
    to_back = np.sign(axes_lps[:, 2] @ np.asarray(geometry.direction, float)[:, 2])
    axes_lps = axes_lps * np.array([1.0, 1.0, to_back])
    axes_lps = _squared(axes_lps, local_mm(box, centre_lps, axes_lps)[:, inside])
    position_mm = local_mm(box, centre_lps, axes_lps)
    _, w, u = position_mm
    step_mm = float(np.mean(geometry.spacing_mm[1:]))
    upper, lower = _borders(inside, u, w, step_mm)
    front, back = _borders(inside, w, u, step_mm)
    rows = np.flatnonzero(mask.any(axis=(0, 2)))
    cut = {"upper": rows[0] == 0, "lower": rows[-1] == mask.shape[1] - 1}
    return Body(
        level=level,
        slices=slices,
        mask=inside,
        geometry=box,
        centre_lps=centre_lps,
        axes_lps=axes_lps,
        size_mm=triple(float(np.ptp(np.percentile(axis[inside], _EXTENT_PERCENTILES))) for axis in position_mm),
        position_mm=position_mm,
        border_mm={"upper": upper, "lower": lower, "front": front, "back": back},
        endplates=tuple(name for name, is_cut in cut.items() if not is_cut),
    )


def _squared(axes_lps: np.ndarray, points_mm: np.ndarray) -> np.ndarray:
    """Axes turned in the sagittal plane to the smallest rectangle around the middle of a body.

    The curve through the centres misses the tilt of single vertebrae, of L5 and S1 above all.
    """
    off_mm = np.abs(points_mm[0])
    _, w, u = points_mm[:, off_mm <= max(off_mm.min(), 0.25 * np.ptp(points_mm[0]))]
    angles = np.radians(_TURNS_DEGREES)
    spans = [
        np.ptp(np.percentile(along * np.cos(a) + across * np.sin(a), _EXTENT_PERCENTILES))
        for a in angles
        for along, across in ((w, u), (u, -w))
    ]
    areas = np.prod(np.reshape(spans, (-1, 2)), axis=1) * (1 + _TURN_PENALTY * np.abs(_TURNS_DEGREES))
    best = angles[areas.argmin()]
    along = axes_lps[:, 1] * np.cos(best) + axes_lps[:, 2] * np.sin(best)
    back = axes_lps[:, 2] * np.cos(best) - axes_lps[:, 1] * np.sin(best)
    return np.stack([axes_lps[:, 0], along, back], axis=1)


def _borders(mask: np.ndarray, across_mm: np.ndarray, along_mm: np.ndarray, step_mm: float):
    """Depth of every voxel below the two borders of a mask along one axis, slice by slice.

    The borders are functions of the other axis, so a lesion at an endplate follows its shape. Slices without the mask
    hold zeros.
    """
    from_low, from_high = np.zeros(mask.shape), np.zeros(mask.shape)
    for index in np.flatnonzero(mask.any(axis=(1, 2))):
        inside = mask[index]
        across, along = across_mm[index][inside], along_mm[index][inside]
        # Columns of voxels lie a step apart, the first in the middle of its bin, so rounding cannot split a column.
        bins = np.floor((across - across.min()) / step_mm + 0.5).astype(int)
        ticks = np.unique(bins)
        low = ndimage.minimum(along, bins, ticks) - step_mm / 2
        high = ndimage.maximum(along, bins, ticks) + step_mm / 2
        low, high = (ndimage.median_filter(np.asarray(border), 3, mode="nearest") for border in (low, high))
        place = (across_mm[index] - across.min()) / step_mm
        from_low[index] = along_mm[index] - np.interp(place, ticks, low)
        from_high[index] = np.interp(place, ticks, high) - along_mm[index]
    return from_low, from_high
