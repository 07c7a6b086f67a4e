"""Measure one case: body, intensities, vertebrae, lesions. Pure functions of arrays."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from scipy import ndimage

from spinecls.anatomy import LEVEL_CODES, RANK, chain
from spinecls.beliefs import agreed_class
from spinecls.geometry import Geometry
from spinecls.io.annotation_forms import PARTLY_DRAWN, plain_forms
from spinecls.io.image_digests import image_digests
from spinecls.planning.appearance import appearance
from spinecls.planning.fingerprint_types import CaseFingerprint, ChannelIntensities, Extent, VertebraFingerprint
from spinecls.planning.volume import Box, body_box, body_mask
from spinecls.records import EXACT, Case, DatasetDescription, VertebraAnnotation
from spinecls.types import triple

INTENSITY_SAMPLES = 200_000
"""Voxels that percentiles are taken from; more would not change them."""


def fingerprint_case(
    case: Case,
    description: DatasetDescription,
    image: np.ndarray,
    geometry: Geometry,
    vertebra_map: np.ndarray | None = None,
    structure_map: np.ndarray | None = None,
) -> CaseFingerprint:
    """Fingerprint of one case.

    Parameters
    ----------
    image : (C, S, R, A) float32 array, canonical axes
    geometry : grid of the image
    vertebra_map, structure_map : (S, R, A) integer arrays on the same grid, codes of `description`
    """
    body = body_mask(image, geometry.spacing_mm)
    annotated = None if vertebra_map is None else (vertebra_map > 0) & (vertebra_map != description.ignore_label)
    start, stop = body_box(body, geometry.spacing_mm, None if annotated is None else _bounds(annotated))
    return CaseFingerprint(
        case=case.identifier,
        patient=case.patient,
        site=case.site,
        shape=geometry.shape,
        spacing_mm=geometry.spacing_mm,
        channels=tuple(_intensities(channel[body]) for channel in image),
        body_start=start,
        body_stop=stop,
        appearance=appearance(image, geometry.spacing_mm, body),
        vertebrae=_vertebrae(case, description, geometry, vertebra_map),
        image_digests=image_digests(image),
        lesions_mm=() if structure_map is None else lesion_sizes_mm(structure_map, description, geometry.spacing_mm),
        annotation_forms=_forms(case, vertebra_map is not None, structure_map is not None),
    )


def _bounds(mask: np.ndarray) -> Box | None:
    """Start and stop index of the voxels, None without any."""
    if not mask.any():
        return None
    seen = [np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    return triple(int(s[0]) for s in seen), triple(int(s[-1]) + 1 for s in seen)


def _intensities(values: np.ndarray) -> ChannelIntensities:
    values = values[:: max(1, len(values) // INTENSITY_SAMPLES)].astype(np.float64)
    if not len(values):
        return ChannelIntensities(p005=0.0, p50=0.0, p995=0.0, mad=0.0)
    low, middle, high = np.percentile(values, (0.5, 50, 99.5))
    mad = float(np.median(np.abs(values - middle)))
    return ChannelIntensities(p005=float(low), p50=float(middle), p995=float(high), mad=mad)


def _vertebrae(
    case: Case, description: DatasetDescription, geometry: Geometry, vertebra_map: np.ndarray | None
) -> tuple[VertebraFingerprint, ...]:
    ordered = sorted(case.vertebrae, key=lambda a: RANK[a.level])
    form = case.annotation_form.vertebrae or EXACT
    codes = description.levels or LEVEL_CODES
    voxels = {} if vertebra_map is None else _voxels(vertebra_map, {a.level: codes.get(a.level, 0) for a in ordered})
    centres = {a.level: _centre(a, voxels.get(a.level), geometry) for a in ordered}
    known = {level: centre for level, centre in centres.items() if centre is not None}
    pitches = pitches_mm(known)
    result = []
    for annotation in ordered:
        level, centre = annotation.level, centres[annotation.level]
        sizes, truncated = _sizes(annotation, voxels.get(level), geometry, _tangent(level, known, geometry))
        if sizes is not None and level not in voxels:
            slack_mm = float(form.slack_mm or 0.0)
            sizes = _without_slack(sizes[0], slack_mm), _without_slack(sizes[1], slack_mm)
        elif form.form in PARTLY_DRAWN:
            # Nobody drew the outer parts.
            sizes = None
        extent, own = (None, None) if sizes is None else sizes
        result.append(
            VertebraFingerprint(
                level=level,
                class_name=single_class(annotation),
                centre_lps=None if centre is None else triple(float(v) for v in centre),
                extent_mm=extent,
                own_extent_mm=own,
                pitch_mm=pitches.get(level),
                truncated=truncated,
            )
        )
    return tuple(result)


def _voxels(vertebra_map: np.ndarray, codes: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Indices (N, 3) of the voxels of each level that the map holds."""
    boxes = ndimage.find_objects(np.maximum(vertebra_map, 0))
    return {
        level: np.argwhere(vertebra_map[box] == code) + [part.start for part in box]
        for level, code in codes.items()
        if 0 < code <= len(boxes) and (box := boxes[code - 1]) is not None
    }


def _centre(annotation: VertebraAnnotation, voxels: np.ndarray | None, geometry: Geometry) -> np.ndarray | None:
    if voxels is not None:
        return geometry.to_world(voxels.mean(axis=0))
    if annotation.centre_lps is not None:
        return np.asarray(annotation.centre_lps, float)
    if annotation.box_lps is not None:
        return np.mean(np.asarray(annotation.box_lps, float), axis=0)
    return None


def pitches_mm(centres: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Distance of each centre to that of the next level below, where both are known.

    T13 and L6 count as levels only in a spine that has them.
    """
    return {
        upper: float(np.linalg.norm(np.subtract(centres[lower], centres[upper])))
        for upper, lower in pairwise(chain(centres))
        if upper in centres and lower in centres
    }


def _tangent(level: str, centres: Mapping[str, np.ndarray], geometry: Geometry) -> np.ndarray:
    """Unit vector down the spine at a level, from its neighbours; the head-feet axis for a lone vertebra."""
    ordered = sorted(centres, key=RANK.__getitem__)
    if level in centres and len(ordered) > 1:
        position = ordered.index(level)
        upper, lower = ordered[max(0, position - 1)], ordered[min(len(ordered) - 1, position + 1)]
        step = np.subtract(centres[lower], centres[upper])
        if np.linalg.norm(step) > 0:
            return step / np.linalg.norm(step)
    return np.asarray(geometry.direction, float)[:, 1]


def _without_slack(extent: Extent, slack_mm: float) -> Extent:
    return triple(max(e - 2 * slack_mm, 1.0) for e in extent)


def _sizes(
    annotation: VertebraAnnotation, voxels: np.ndarray | None, geometry: Geometry, tangent: np.ndarray
) -> tuple[tuple[Extent, Extent] | None, bool]:
    """Extents along the canonical axes and along the vertebra's own axes, and whether the image cuts it."""
    if voxels is not None:
        low, high = voxels.min(axis=0), voxels.max(axis=0)
        extent = (high - low + 1) * geometry.spacing_mm
        own = own_extent_mm(voxels, geometry, tangent)
    elif annotation.box_lps is not None:
        # Canonical axes lie close to the world's: left-right is x, head-feet z, front-back y.
        extent = own = np.abs(np.subtract(annotation.box_lps[1], annotation.box_lps[0]))[[0, 2, 1]]
        corners = geometry.to_index(np.asarray(annotation.box_lps, float))
        low, high = corners.min(axis=0), corners.max(axis=0)
    else:
        return None, False
    # Sagittal series often end within the vertebrae at both sides; only rows and columns tell a cut vertebra.
    truncated = bool(np.any(low[1:] <= 0) or np.any(high[1:] >= np.asarray(geometry.shape)[1:] - 1))
    return (triple(float(e) for e in extent), triple(float(e) for e in own)), truncated


def own_extent_mm(voxels: np.ndarray, geometry: Geometry, tangent: np.ndarray) -> np.ndarray:
    """Extent of voxels left-right, along the spine and front-back, the voxels' own size included.

    Parameters
    ----------
    voxels : (N, 3) indices
    tangent : unit vector along the spine, world
    """
    right = np.asarray(geometry.direction, float)[:, 0]
    right = right - tangent * (right @ tangent)
    right /= np.linalg.norm(right)
    axes = np.stack([right, tangent, np.cross(right, tangent)], axis=1)
    voxel = np.sqrt(((axes.T @ geometry.matrix) ** 2).sum(axis=1))
    return np.ptp(geometry.to_world(voxels) @ axes, axis=0) + voxel


def single_class(annotation: VertebraAnnotation) -> str:
    """The class that most of the confidence says exactly; "" when there is none or a tie."""
    return agreed_class((reading.classes, reading.confidence) for reading in annotation.readings) or ""


def lesion_sizes_mm(
    structure_map: np.ndarray, description: DatasetDescription, spacing_mm: Extent
) -> tuple[float, ...]:
    """Size of every connected lesion: the smaller of its equivalent diameter and its in-plane width.

    The equivalent diameter is that of a ball of the same volume; the width the shorter side of the in-plane box.
    """
    sizes = []
    for name in description.lesion_structures:
        labels, _ = ndimage.label(structure_map == description.structures[name], structure=np.ones((3, 3, 3)))
        counts = np.bincount(labels.ravel())
        for index, box in enumerate(ndimage.find_objects(labels), start=1):
            diameter = float(np.cbrt(6 * counts[index] * np.prod(spacing_mm) / np.pi))
            sides = [(part.stop - part.start) * s for part, s in zip(box[1:], spacing_mm[1:], strict=True)]
            sizes.append(min(diameter, *sides))
    return tuple(float(size) for size in sizes)


def _forms(case: Case, has_map: bool, has_structures: bool) -> dict[str, str]:
    """Declared forms; else what is there: maps are masks, then boxes, then points."""
    if has_map:
        positions = "mask"
    elif any(v.box_lps is not None for v in case.vertebrae):
        positions = "box"
    else:
        positions = "point" if any(v.centre_lps is not None for v in case.vertebrae) else "none"
    declared = {kind: entry["form"] for kind, entry in plain_forms(case.annotation_form).items()}
    return {"vertebrae": positions, "structures": "mask" if has_structures else "none"} | declared
