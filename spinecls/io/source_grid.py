"""The grid of an image as it lies in its file, and the way from there to canonical order and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from spinecls.geometry import Geometry
from spinecls.io.affine import SAME_PLACE, Affine, apart, right_angled, times
from spinecls.types import triple

_ROUNDING = 1e-6
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

    @classmethod
    def of(cls, size, place: Affine) -> SourceGrid:
        """Grid of a size whose voxels lie as an affine with axes at right angles says."""
        lengths = np.linalg.norm(place.matrix, axis=0)
        return grid_from(size, lengths, place.origin, (place.matrix / lengths).ravel())

    @property
    def affine(self) -> Affine:
        """The same grid as a matrix and an origin."""
        matrix = np.array(self.direction).reshape(3, 3) * np.array(self.spacing_mm)
        return Affine(matrix, np.array(self.origin_lps))


def source_grid(image) -> SourceGrid:
    """Grid of an image or of a header reader; directions that rounding bent are set at right angles."""
    size = image.GetSize()
    direction = directions(image)
    if np.abs(direction.T @ direction - np.eye(3)).max() > _ROUNDING:
        direction = right_angled(direction)
    return grid_from(size[:3], image.GetSpacing()[:3], image.GetOrigin()[:3], direction.ravel())


def directions(image) -> np.ndarray:
    """Direction cosines (3, 3) of an image or of a header reader as they stand there; column j belongs to axis j."""
    count = len(image.GetSize())
    return np.array(image.GetDirection()).reshape(count, count)[:3, :3]


def grid_from(size, spacing_mm, origin_lps, direction) -> SourceGrid:
    """Grid of the nine direction cosines and the three other values an axis; names its orientation."""
    direction = tuple(float(v) for v in direction)
    return SourceGrid(
        orientation=sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(direction),
        size=triple(int(n) for n in size),
        spacing_mm=triple(float(v) for v in spacing_mm),
        origin_lps=triple(float(v) for v in origin_lps),
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
        shape=triple(int(n) for n in size),
        spacing_mm=triple(float(s) for s in spacing),
        origin_lps=triple(float(v) for v in np.array(source.origin_lps) + last),
        direction=tuple(triple(float(v) for v in row) for row in np.where(flips, -direction, direction)),
    )


def to_canonical(array_zyx: np.ndarray, source: SourceGrid) -> np.ndarray:
    """Canonical view (S, R, A) of an array in the reversed axis order (z, y, x) of its file."""
    axes, flips = _canonical_axes(source)
    turned = array_zyx.transpose([2 - axis for axis in axes])
    return np.flip(turned, tuple(k for k in range(3) if flips[k]))


def from_canonical(array: np.ndarray, source: SourceGrid) -> np.ndarray:
    """Inverse of `to_canonical`."""
    axes, flips = _canonical_axes(source)
    turned = np.flip(array, tuple(k for k in range(3) if flips[k]))
    return turned.transpose([axes.index(2 - axis) for axis in range(3)])


def _canonical_axes(source: SourceGrid) -> tuple[list[int], np.ndarray]:
    """For each canonical axis the axis of the file, and whether it runs the other way."""
    axes = [next(j for j in range(3) if source.orientation[j] in pair) for pair in _TOWARDS]
    flips = np.array([source.orientation[j] != pair[0] for j, pair in zip(axes, _TOWARDS, strict=True)])
    return axes, flips


def grid_difference(expected: Geometry, actual: Geometry, tolerance: float = SAME_PLACE) -> tuple[str, str] | None:
    """Number of the fault and text for the first thing in which a canonical grid differs from the expected one.

    Parameters
    ----------
    tolerance : voxels by which a voxel may lie elsewhere
    """
    if actual.shape != expected.shape:
        return "410", f"has {times(actual.shape)} voxels instead of {times(expected.shape)}"
    affines = (Affine(grid.matrix, np.array(grid.origin_lps)) for grid in (expected, actual))
    if apart(expected.shape, *affines)[0] <= tolerance:
        return None
    spacing, wanted = np.array(actual.spacing_mm), np.array(expected.spacing_mm)
    if np.any(np.abs(spacing - wanted) * (np.array(expected.shape) - 1) > tolerance * wanted):
        return "411", f"has a spacing of {times(spacing)} mm instead of {times(wanted)} mm"
    shift = np.array(actual.origin_lps) - np.array(expected.origin_lps)
    if np.any(np.abs(expected.to_index(actual.origin_lps)) > tolerance):
        parts = ", ".join(f"{value:+.2f}" for value in shift)
        return "412", f"is shifted by {np.linalg.norm(shift):.2f} mm ({parts} along x, y, z LPS)"
    turn = np.abs(np.array(actual.direction) - np.array(expected.direction)).max()
    return "413", f"is turned by about {np.degrees(turn):.2f} degrees"


def overlap(reference: Geometry, other: Geometry) -> float:
    """Share of the reference grid, sampled at up to 16 places an axis, that lies in the other grid."""
    places = [np.linspace(0, n - 1, min(n, 16)) for n in reference.shape]
    index = np.stack(np.meshgrid(*places, indexing="ij"), axis=-1).reshape(-1, 3)
    return float(other.contains(reference.to_world(index)).mean())
