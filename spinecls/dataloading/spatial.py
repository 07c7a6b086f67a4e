"""Random spatial changes in millimetres, applied to images, maps and points by one and the same matrix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as functional

from spinecls.types import triple

CENTRE_JITTER_MM = (1.5, 1.5, 1.5)
"""Standard deviation of the centres' error that training adds, about that of the localiser (2 mm in space)."""


def random_affine(
    rng: np.random.Generator, rotation_degrees: float, scale_range: tuple[float, float], mirror_axes: Sequence[int]
) -> np.ndarray:
    """Matrix from millimetre offsets in the new patch to offsets in the old image.

    Rotates and zooms within the sagittal plane only: with thick slices anything else would mix slices that the scanner
    kept apart. The turn is in millimetres, so it is a true rotation on any voxel size. Mirrors each of `mirror_axes`
    with probability one half.

    Returns
    -------
    (3, 3) float array
    """
    angle = np.deg2rad(rng.uniform(-rotation_degrees, rotation_degrees))
    zoom = np.exp(rng.uniform(*np.log(scale_range)))
    cosine, sine = np.cos(angle), np.sin(angle)
    matrix = np.eye(3)
    matrix[1:, 1:] = zoom * np.array([[cosine, -sine], [sine, cosine]])
    for axis in mirror_axes:
        if rng.random() < 0.5:
            matrix[:, axis] *= -1
    return matrix


class PatchSampler:
    """Reads one patch out of a volume, and what lies on its grid, through an affine change.

    Parameters
    ----------
    patch_size : voxels of the patch
    spacing_mm : voxel size of the patch
    middle : (3,) continuous index in the volume that the middle of the patch shows
    matrix : (3, 3) from millimetre offsets in the patch to offsets in the volume
    volume_spacing_mm : voxel size of the volume, if another

    Attributes
    ----------
    patch_size, spacing_mm, matrix : as given
    step : (3, 3) index steps of the volume for one index step of the patch
    """

    def __init__(self, patch_size, spacing_mm, middle, matrix, volume_spacing_mm=None) -> None:
        self.patch_size = triple(int(n) for n in patch_size)
        self.middle = np.asarray(middle, float)
        self.spacing_mm = np.asarray(spacing_mm, float)
        self.matrix = np.asarray(matrix, float)
        volume_mm = self.spacing_mm if volume_spacing_mm is None else np.asarray(volume_spacing_mm, float)
        self.step = self.matrix * self.spacing_mm[None, :] / volume_mm[:, None]
        # Tasks read the same maps, all of one shape. With each result is kept the map that it is of, or another might
        # come to lie at the same address.
        self._grids: dict[tuple[int, ...], torch.Tensor] = {}
        self._labels: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}

    def points(self, index: np.ndarray) -> np.ndarray:
        """(N, 3) continuous indices of the volume as indices of the patch."""
        offsets = (np.asarray(index, float) - self.middle) @ np.linalg.inv(self.step).T
        return offsets + (np.asarray(self.patch_size) - 1) / 2

    def vectors(self, vectors_mm: np.ndarray) -> np.ndarray:
        """(..., 3) millimetres along the axes of the volume as millimetres of the patch.

        A patch that is zoomed shows all of it larger or smaller, so vectors change in length, too.
        """
        return np.asarray(vectors_mm, float) @ np.linalg.inv(self.matrix).T

    def _grid(self, volume_shape) -> torch.Tensor:
        if (shape := tuple(volume_shape)) not in self._grids:
            self._grids[shape] = self._new_grid(shape)
        return self._grids[shape]

    def _new_grid(self, volume_shape) -> torch.Tensor:
        # The position is affine in the patch index, so three small tables are summed instead of a full matrix product.
        ticks = [np.arange(n) - (n - 1) / 2 for n in self.patch_size]
        extent = np.maximum(np.asarray(volume_shape) - 1, 1)
        columns = []
        for axis in (2, 1, 0):
            parts = [self.step[axis, j] * ticks[j] for j in range(3)]
            position = parts[0][:, None, None] + parts[1][None, :, None] + parts[2][None, None, :] + self.middle[axis]
            columns.append(torch.from_numpy((position / extent[axis] * 2 - 1).astype(np.float32)))
        return torch.stack(columns, dim=-1)[None]

    def image(self, volume: np.ndarray) -> np.ndarray:
        """(C, S, R, A) patch by linear interpolation; zero outside the volume."""
        source = torch.from_numpy(np.ascontiguousarray(volume, np.float32))[None]
        patch = functional.grid_sample(source, self._grid(volume.shape[1:]), padding_mode="zeros", align_corners=True)
        return patch[0].numpy()

    def index(self, volume_shape) -> np.ndarray:
        """(3, S, R, A) int, index of the nearest voxel of the volume, beyond its border the one at the border."""
        ticks = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in self.patch_size), indexing="ij", sparse=True)
        rows = [sum(s * t for s, t in zip(step, ticks, strict=True)) for step in self.step]
        return np.stack(
            [
                np.clip(np.round(row + middle), 0, length - 1).astype(np.int64)
                for row, middle, length in zip(rows, self.middle, volume_shape, strict=True)
            ]
        )

    def labels(self, volume: np.ndarray, outside: int) -> np.ndarray:
        """(S, R, A) uint8 patch of a label map by the nearest voxel; `outside` beyond the volume.

        Every task that reads the same map gets the same array, which is read-only.
        """
        key = id(volume), outside
        if key not in self._labels:
            patch = self._new_labels(volume, outside)
            patch.flags.writeable = False
            self._labels[key] = volume, patch
        return self._labels[key][1]

    def _new_labels(self, volume: np.ndarray, outside: int) -> np.ndarray:
        shifted = torch.from_numpy(volume.astype(np.float32) + 1)[None, None]
        patch = functional.grid_sample(
            shifted, self._grid(volume.shape), mode="nearest", padding_mode="zeros", align_corners=True
        )[0, 0].numpy()
        return np.where(patch < 0.5, outside, patch - 1).round().astype(np.uint8)
