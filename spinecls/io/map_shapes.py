"""Faults that the shapes in a vertebra map show: scattered parts, sizes that no vertebra has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import ndimage

from spinecls.anatomy import LEVELS, RANK, adult_pitch_mm
from spinecls.geometry import Geometry
from spinecls.io.findings import Finding, warning
from spinecls.io.level_order import order_findings
from spinecls.records import DatasetDescription

FEW_SLICES = 5
_FAR_PART_MM = 10.0
_TINY_MM3 = 200.0
_SIMILAR_SIZE = 0.4
_NEXT_VERTEBRA = 0.75


def shape_findings(
    case: str,
    array: np.ndarray,
    geometry: Geometry,
    description: DatasetDescription,
    centres: Mapping[str, Sequence[float]],
) -> list[Finding]:
    """Judge order, gaps, parts and sizes of the vertebrae in a map.

    Parameters
    ----------
    array : (S, R, A) codes of levels on `geometry`
    centres : centroid (LPS mm) of every level in the map
    """
    findings = order_findings(case, geometry, centres, description.levels)
    boxes = ndimage.find_objects(array)
    spacing = np.array(geometry.spacing_mm)
    for level in centres:
        code = description.levels[level]
        part = array[boxes[code - 1]] == code
        volume_mm3 = part.sum() * spacing.prod()
        if volume_mm3 < _TINY_MM3:
            text = f"{level} has {int(part.sum())} voxels ({volume_mm3:.0f} mm3)"
            findings.append(warning("609", text, case))
        elif part.shape[0] == 1 and array.shape[0] >= FEW_SLICES:
            findings.append(warning("609", f"{level} is drawn in a single slice", case))
        far = _far_part(part, spacing)
        if far:
            findings.append(warning("608", f"{level} has {far}", case))
        second_mm = _second_vertebra_mm(part, spacing)
        if level != LEVELS[-1] and second_mm > _NEXT_VERTEBRA * adult_pitch_mm(level, LEVELS[RANK[level] + 1]):
            text = f"{level} has two large parts, {second_mm:.0f} mm apart from head to feet. "
            findings.append(warning("615", f"{text}Do two vertebrae have the code {code}?", case))
    return findings


def _second_vertebra_mm(part: np.ndarray, spacing_mm: np.ndarray) -> float:
    """Distance from head to feet of the two largest separate parts, if they are of similar size; else 0."""
    parts, count = ndimage.label(part, np.ones((3, 3, 3)))
    if count < 2:
        return 0.0
    sizes = np.bincount(parts.ravel())[1:]
    first, second = np.argsort(sizes)[-1:-3:-1]
    if sizes[second] < _SIMILAR_SIZE * sizes[first]:
        return 0.0
    rows = [np.argwhere(parts == label + 1)[:, 1].mean() for label in (first, second)]
    return float(abs(rows[0] - rows[1]) * spacing_mm[1])


def _far_part(part: np.ndarray, spacing_mm: np.ndarray) -> str:
    """Text about the farthest part that is apart from the largest one, or nothing."""
    parts, count = ndimage.label(part, np.ones((3, 3, 3)))
    if count < 2:
        return ""
    sizes = np.bincount(parts.ravel())[1:]
    boxes = ndimage.find_objects(parts)
    edges = np.array([[(p.start, p.stop - 1) for p in box] for box in boxes])
    main = edges[int(np.argmax(sizes))]
    gaps = np.maximum(0, np.maximum(edges[..., 0] - main[:, 1], main[:, 0] - edges[..., 1]))
    distances_mm = np.linalg.norm(gaps * spacing_mm, axis=1)
    farthest = int(np.argmax(distances_mm))
    if distances_mm[farthest] < _FAR_PART_MM:
        return ""
    return f"{count} parts, one of {sizes[farthest]} voxels {distances_mm[farthest] / 10:.1f} cm from the largest"
