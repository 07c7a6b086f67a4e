"""SimpleITK images of phantoms, in any orientation."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from spinecls.errors import UsageError
from spinecls.geometry import Geometry
from spinecls.testing.phantom_options import ORIENTATIONS

_UNIT_LPS = {"R": (-1, 0, 0), "L": (1, 0, 0), "A": (0, -1, 0), "P": (0, 1, 0), "I": (0, 0, -1), "S": (0, 0, 1)}
_OBLIQUE_AXIS_LPS = np.array([0.48, 0.6, 0.64])


def axes_lps(code: str, oblique_degrees: float) -> np.ndarray:
    """(3, 3) matrix whose columns are the unit vectors that the letters name, turned about one fixed oblique axis."""
    x, y, z = _OBLIQUE_AXIS_LPS / np.linalg.norm(_OBLIQUE_AXIS_LPS)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(oblique_degrees)
    turn = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return turn @ np.array([_UNIT_LPS[letter] for letter in code], float).T


def to_image(array: np.ndarray, geometry: Geometry, orientation: str = "PIR") -> sitk.Image:
    """SimpleITK image of a canonical (S, R, A) array, its axes turned to `orientation`; every voxel keeps its place."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(geometry.spacing_mm[::-1])
    image.SetOrigin(geometry.origin_lps)
    image.SetDirection(np.asarray(geometry.direction)[:, ::-1].ravel().tolist())
    return sitk.DICOMOrient(image, orientation)


def marked_voxel(
    orientation: str,
    voxel_xyz: tuple[int, int, int],
    oblique_degrees: float = 0.0,
    size_xyz: tuple[int, int, int] = (9, 21, 14),
    spacing_mm: tuple[float, float, float] = (1.5, 0.8, 3.0),
) -> sitk.Image:
    """float32 image whose axes run as `orientation` says; the voxel `voxel_xyz` is 1, the rest 0.

    Size, spacing and origin differ along every axis, so that exchanged axes do not go unnoticed.
    """
    if orientation not in ORIENTATIONS:
        raise UsageError(f"marked_voxel: orientation is {orientation!r}, expected a code such as 'PIR' or 'LAS'.")
    if not all(0 <= index < n for index, n in zip(voxel_xyz, size_xyz, strict=True)):
        raise UsageError(f"marked_voxel: voxel_xyz is {voxel_xyz}, expected an index within size_xyz {size_xyz}.")
    array = np.zeros(size_xyz[::-1], np.float32)
    array[tuple(voxel_xyz[::-1])] = 1
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing_mm)
    image.SetOrigin((-31.5, 12.25, 207.0))
    image.SetDirection(axes_lps(orientation, oblique_degrees).ravel().tolist())
    return image
