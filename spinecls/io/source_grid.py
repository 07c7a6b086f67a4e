"""The grid of an image as it lies in its file, and the way from there to canonical order and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from spinecls.geometry import Geometry

_SAME_GRID = 1e-3
# Letters of the side that each canonical array axis runs towards, and of the opposite side.
_TOWARDS = (("R", "L"), ("I", "S"), ("P", "A"))


@dataclass(frozen=True, kw_only=True)
class SourceGrid:
    """Grid of an image as it lies in its file, in the axis order of the file (x, y, z).

    `direction` holds the nine direction cosines row by row; column j belongs to axis j of the file.
    """

    orientation: str
    size: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    origin_lps: tuple[float, float, float]
    direction: tuple[float, ...]


def source_grid(image) -> SourceGrid:
    """Grid of an image or of a header reader."""
    size, count = image.GetSize(), len(image.GetSize())
    direction = np.array(image.GetDirection()).reshape(count, count)[:3, :3]
    return grid_from(size[:3], image.GetSpacing()[:3], image.GetOrigin()[:3], direction.ravel())


def grid_from(size, spacing_mm, origin_lps, direction) -> SourceGrid:
    """Grid of the nine direction cosines and the three other values an axis; names its orientation."""
    direction = tuple(float(v) for v in direction)
    return SourceGrid(
        orientation=sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(direction),
        size=tuple(int(n) for n in size),
        spacing_mm=tuple(float(v) for v in spacing_mm),
        origin_lps=tuple(float(v) for v in origin_lps),
        direction=direction,
    )


def canonical_geometry(source: SourceGrid) -> Geometry:
    """Canonical grid of an image that lies in its file as `source` says."""
    axes, flips = _canonical_axes(source)
    direction = np.array(source.direction).reshape(3, 3)[:, axes]
    spacing = np.array(source.spacing_mm)[axes]
    size = np.array(source.size)[axes]
    # A flipped axis starts at what was its last voxel.
    last = direction @ (spacing * (size - 1) * flips)
    return Geometry(
        shape=tuple(int(n) for n in size),
        spacing_mm=tuple(float(s) for s in spacing),
        origin_lps=tuple(float(v) for v in np.array(source.origin_lps) + last),
        direction=tuple(tuple(float(v) for v in row) for row in np.where(flips, -direction, direction)),
    )


def to_canonical(array_zyx: np.ndarray, source: SourceGrid) -> np.ndarray:
    """Canonical view (S, R, A) of an array in the reversed axis order (z, y, x) of its file."""
    axes, flips = _canonical_axes(source)
    turned = array_zyx.transpose([2 - axis for axis in axes])
    return np.flip(turned, [k for k in range(3) if flips[k]])


def from_canonical(array: np.ndarray, source: SourceGrid) -> np.ndarray:
    """Inverse of `to_canonical`."""
    axes, flips = _canonical_axes(source)
    turned = np.flip(array, [k for k in range(3) if flips[k]])
    return turned.transpose([axes.index(2 - axis) for axis in range(3)])


def _canonical_axes(source: SourceGrid) -> tuple[list[int], np.ndarray]:
    """For each canonical axis the axis of the file, and whether it runs the other way."""
    axes = [next(j for j in range(3) if source.orientation[j] in pair) for pair in _TOWARDS]
    flips = np.array([source.orientation[j] != pair[0] for j, pair in zip(axes, _TOWARDS, strict=True)])
    return axes, flips


def grid_difference(expected: Geometry, found: Geometry) -> tuple[str, str] | None:
    """Number of the fault and text for the first thing in which a canonical grid differs from the expected one."""
    if found.shape != expected.shape:
        return "410", f"has {times(found.shape)} voxels instead of {times(expected.shape)}"
    spacing, wanted = np.array(found.spacing_mm), np.array(expected.spacing_mm)
    if np.any(np.abs(spacing - wanted) > _SAME_GRID * wanted):
        return "411", f"has a spacing of {times(spacing)} mm instead of {times(wanted)} mm"
    shift = np.array(found.origin_lps) - np.array(expected.origin_lps)
    if np.any(np.abs(expected.to_index(found.origin_lps)) > _SAME_GRID):
        parts = ", ".join(f"{value:+.2f}" for value in shift)
        return "412", f"is shifted by {np.linalg.norm(shift):.2f} mm ({parts} along x, y, z LPS)"
    turn = np.abs(np.array(found.direction) - np.array(expected.direction)).max()
    if turn > _SAME_GRID:
        return "413", f"is turned by about {np.degrees(turn):.2f} degrees"
    return None


def overlap(reference: Geometry, other: Geometry) -> float:
    """Share of the reference grid, sampled at up to 16 places an axis, that lies in the other grid."""
    places = [np.linspace(0, n - 1, min(n, 16)) for n in reference.shape]
    index = np.stack(np.meshgrid(*places, indexing="ij"), axis=-1).reshape(-1, 3)
    return float(other.contains(reference.to_world(index)).mean())


def times(values) -> str:
    """Numbers as `1 x 2 x 3`."""
    return " x ".join(f"{value:g}" for value in values)
