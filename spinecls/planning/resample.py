"""Separable resampling between grids whose axes point the same way.

Every axis is one sparse matrix: linear interpolation where the new voxels are not larger than the old ones, else a
triangle as wide as the new voxels, so that fine structure is averaged and never aliased. Nothing overshoots, which a
spline does across thick slices.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage, sparse

from spinecls.errors import PlanError
from spinecls.geometry import Geometry

DIRECTION_TOLERANCE = 1e-4
"""Largest difference of a direction cosine; over 500 mm it displaces by 0.05 mm."""

_SAME_GRID = 1e-6
_OUTER_FACE = 0.5 + 1e-3

_TIE_SHIFT = 1e-4
"""Displacement, in voxels, of label maps: a new voxel centred on a surface falls to the same side everywhere, so what a
structure gains at one surface it loses at the opposite one and its volume is kept."""


def _axis_weights(
    size_in: int, size_out: int, step: float, offset: float, *, outside_is_zero: bool = False, labels: bool = False
) -> sparse.csr_array | None:
    """Matrix that resamples one axis.

    Parameters
    ----------
    step : distance of new voxels, in old voxels
    offset : position of the first new voxel centre, in old voxels
    outside_is_zero : whether new voxels centred outside the old grid become zero; else they repeat its border
    labels : whether the weights are the shares of a new voxel that old voxels fill, for votes, instead of a triangle

    Returns
    -------
    (size_out, size_in) float32 array, each row summing to one or zero; None where nothing changes
    """
    if size_in == size_out and abs(step - 1) * size_in < _SAME_GRID and abs(offset) < _SAME_GRID:
        return None
    wanted = offset + _TIE_SHIFT * labels + step * np.arange(size_out)
    centre = np.clip(wanted, 0, size_in - 1)
    width = max(1.0, step)
    taps = np.floor(centre - width).astype(int)[:, None] + np.arange(int(np.ceil(2 * width)) + 2)
    distance = np.abs(taps - centre[:, None])
    weights = np.clip((width + 1) / 2 - distance, 0, 1) if labels else np.maximum(0, 1 - distance / width)
    weights[(taps < 0) | (taps >= size_in)] = 0
    weights /= weights.sum(axis=1, keepdims=True)
    if outside_is_zero:
        weights[(wanted < -_OUTER_FACE) | (wanted > size_in - 1 + _OUTER_FACE)] = 0
    rows, columns = np.nonzero(weights)
    values = weights[rows, columns].astype(np.float32)
    return sparse.csr_array((values, (rows, taps[rows, columns])), shape=(size_out, size_in))


def _matrices(
    source: Geometry, target: Geometry, *, outside_is_zero: bool = False, labels: bool = False
) -> list[sparse.csr_array | None]:
    turned = np.abs(np.subtract(source.direction, target.direction)).max()
    if turned > DIRECTION_TOLERANCE:
        raise PlanError(
            f"Cannot resample between grids whose axes differ: a direction cosine differs by {turned:.2g}, at most "
            f"{DIRECTION_TOLERANCE:g} is allowed. Bring both images to the same axes first."
        )
    offset = source.to_index(target.origin_lps)
    step = np.divide(target.spacing_mm, source.spacing_mm)
    return [
        _axis_weights(*numbers, outside_is_zero=outside_is_zero, labels=labels)
        for numbers in zip(source.shape, target.shape, step, offset, strict=True)
    ]


def _apply(volume: np.ndarray, matrices: Sequence[sparse.csr_array | None]) -> np.ndarray:
    """Resample (S, R, A) along its axes; in-plane slice by slice, which keeps the work inside the cache."""
    along_slices, along_rows, along_columns = matrices
    shrinks = along_slices is not None and along_slices.shape[0] < along_slices.shape[1]
    if shrinks:
        volume = _along_slices(volume, along_slices)
    if along_rows is not None or along_columns is not None:
        rows = volume.shape[1] if along_rows is None else along_rows.shape[0]
        columns = volume.shape[2] if along_columns is None else along_columns.shape[0]
        result = np.empty((volume.shape[0], rows, columns), np.float32)
        for index, plane in enumerate(volume):
            moved = plane if along_rows is None else along_rows @ plane
            result[index] = moved if along_columns is None else (along_columns @ moved.T).T
        volume = result
    if along_slices is not None and not shrinks:
        volume = _along_slices(volume, along_slices)
    return volume


def _along_slices(volume: np.ndarray, matrix: sparse.csr_array) -> np.ndarray:
    return (matrix @ volume.reshape(len(volume), -1)).reshape(-1, *volume.shape[1:])


def resample_image(image: np.ndarray, source: Geometry, target: Geometry) -> np.ndarray:
    """Image on another grid; voxels outside the old grid repeat its border.

    Parameters
    ----------
    image : (C, S, R, A) array on `source`

    Returns
    -------
    (C, S', R', A') float32 array on `target`

    Raises
    ------
    PlanError
        When the axes of the grids point different ways.
    """
    return _channels(image, target, _matrices(source, target))


def resample_probabilities(probabilities: np.ndarray, source: Geometry, target: Geometry) -> np.ndarray:
    """As `resample_image`, but zero outside the old grid, as for maps that are put back into an uncropped image."""
    return _channels(probabilities, target, _matrices(source, target, outside_is_zero=True))


def _channels(image: np.ndarray, target: Geometry, matrices: Sequence[sparse.csr_array | None]) -> np.ndarray:
    result = np.empty((len(image), *target.shape), np.float32)
    for channel, volume in enumerate(image):
        result[channel] = _apply(np.asarray(volume, np.float32), matrices)
    return result


def resample_labels(labels: np.ndarray, source: Geometry, target: Geometry) -> np.ndarray:
    """Label map on another grid: the label, or the background, with the largest share of each new voxel.

    Each label is interpolated as an indicator within its own bounding box, so surfaces stay smooth and volumes are
    kept, and the cost depends on the labels' sizes instead of the image's.

    Parameters
    ----------
    labels : (S, R, A) integer array on `source`, 0 = background

    Returns
    -------
    (S', R', A') array of the same type on `target`; 0 outside the old grid

    Raises
    ------
    PlanError
        When the axes of the grids point different ways.
    """
    matrices = _matrices(source, target, outside_is_zero=True, labels=True)
    if all(matrix is None for matrix in matrices):
        return labels.copy()
    along = [
        sparse.eye_array(n, format="csr", dtype=np.float32) if matrix is None else matrix
        for n, matrix in zip(source.shape, matrices, strict=True)
    ]
    result = np.zeros(target.shape, labels.dtype)
    largest = np.zeros(target.shape, np.float32)
    covered = np.zeros(target.shape, np.float32)
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        parts = [matrix[:, part] for matrix, part in zip(along, box, strict=True)]
        reached = [np.flatnonzero(np.diff(part.indptr)) for part in parts]
        if any(len(rows) == 0 for rows in reached):
            continue
        where = tuple(slice(rows[0], rows[-1] + 1) for rows in reached)
        share = _apply((labels[box] == label).astype(np.float32), [p[w] for p, w in zip(parts, where, strict=True)])
        covered[where] += share
        wins = share > largest[where]
        largest[where][wins] = share[wins]
        result[where][wins] = label
    result[largest < 1 - covered] = 0
    return result
