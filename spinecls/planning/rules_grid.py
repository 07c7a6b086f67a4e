"""Rules for grids: spacing, sealed crop, open patch. Each returns a value and the sentence that explains it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable

import numpy as np

from spinecls.anatomy import RANK, region
from spinecls.errors import PlanError
from spinecls.planning.fingerprint_types import Fingerprint
from spinecls.planning.topology import round_up
from spinecls.types import SpacingMm, Triple, triple

TYPICAL_MM = {
    "cervical": ((18.0, 13.0, 17.0), 17.0),
    "thoracic": ((29.0, 20.0, 27.0), 24.0),
    "lumbar": ((46.0, 27.0, 35.0), 36.0),
    "sacral": ((50.0, 30.0, 33.0), 33.0),
}
"""Adult bodies (left-right, along the spine, front-back) and pitch, about those of Panjabi et al., Spine 1991 and 1992;
used only where a dataset has no extents or no neighbouring levels of its own."""

MIDDLE_OF_REGION = {"C5": "cervical", "T6": "thoracic", "L3": "lumbar", "S1": "sacral"}
"""Levels for which the typical sizes hold; from one to the next vertebrae grow steadily."""

FALLBACK_LESION_MM = 4.0
COARSENING = (1.0, 1.5, 2.0)
COARSEST_CROP_MM = 2.0
"""In-plane spacing up to which a CPU coarsens the crops of vertebrae."""
SHORT_BUDGET_MINUTES = 15.0
"""Time budget below which lesions alone say how coarse crops may be."""
SEALED_SLACK_MM = 2.0
PATCH_SURROUND_MM = 20.0


def target_spacing(fingerprint: Fingerprint) -> tuple[SpacingMm, str]:
    """Median in plane, at most half the smallest lesion; the median of the most frequent slice distance."""
    slice_mm, slice_reason = slice_spacing([case.spacing_mm[0] for case in fingerprint.cases.values()])
    median = fingerprint.median_spacing_mm
    finest = np.percentile([case.spacing_mm[1:] for case in fingerprint.cases.values()], 5, axis=0)
    lesion = fingerprint.smallest_lesion_mm
    plane = list(median[1:])
    reason = f"in plane the median, {median[1]:.3g} x {median[2]:.3g} mm"
    if lesion is not None and lesion / 2 < max(plane):
        # Finer than what was acquired shows nothing more.
        plane = [min(p, max(lesion / 2, float(f))) for p, f in zip(plane, finest, strict=True)]
        reason = (
            f"in plane {plane[0]:.3g} x {plane[1]:.3g} mm, because the smallest lesions measure {lesion:.3g} mm and "
            f"need two voxels (median {median[1]:.3g} x {median[2]:.3g} mm)"
        )
    spacing = (slice_mm, *(float(p) for p in plane))
    return triple(round(s, 4) for s in spacing), f"{slice_reason}; {reason}."


def reader_spacing(
    fingerprint: Fingerprint, on_cpu: bool, budget_minutes: float | None = None
) -> tuple[SpacingMm, str]:
    """Grid of the sealed crops: that of the scans, and in plane at most half the smallest lesion.

    On a CPU coarser, up to `COARSEST_CROP_MM`, and where time is very short as far as lesions allow: a crop of twice
    the voxel size costs a quarter.
    """
    spacing, reason = target_spacing(fingerprint)
    if not on_cpu:
        return spacing, reason
    limit, why = COARSEST_CROP_MM, "which a vertebra is still seen by"
    if budget_minutes is not None and budget_minutes < SHORT_BUDGET_MINUTES:
        limit = coarsest_in_plane_mm(fingerprint)
        why = f"half the smallest lesion or 2 mm, for {budget_minutes:g} minutes are little"
    return coarsened(spacing, COARSENING[-1], limit), f"{reason[:-1]}; on a CPU coarsened up to {limit:.3g} mm, {why}."


def slice_spacing(spacings_mm: list[float]) -> tuple[float, str]:
    """Median of the largest group of slice distances.

    Groups part where the next distance is more than 1.4 times the one before. A low percentile over all cases would
    take the few thin-slice cases as the target and invent slices for all others.
    """
    groups: list[list[float]] = []
    for value in sorted(spacings_mm):
        if groups and value <= 1.4 * groups[-1][-1]:
            groups[-1].append(value)
        else:
            groups.append([value])
    chosen = max(groups, key=lambda group: (len(group), group[0]))
    middle = float(statistics.median(chosen))
    if len(groups) == 1:
        return middle, f"slice distance the median, {middle:.3g} mm"
    listed = ", ".join(f"{len(g)} near {statistics.median(g):.3g} mm" for g in groups)
    return middle, f"slice distances form {len(groups)} groups ({listed}); the most frequent, {middle:.3g} mm, decides"


def coarsest_in_plane_mm(fingerprint: Fingerprint) -> float:
    """Coarsest in-plane spacing that a limited time budget may force: half the smallest lesion, 2 mm at least."""
    return max(2.0, (fingerprint.smallest_lesion_mm or FALLBACK_LESION_MM) / 2)


def coarsened(spacing_mm: SpacingMm, factor: float, limit_mm: float = math.inf) -> SpacingMm:
    """In-plane spacing times a factor, at most the limit; slices never finer than the plane becomes."""
    plane = [max(s, min(s * factor, limit_mm)) for s in spacing_mm[1:]]
    slice_mm = spacing_mm[0] if factor == 1 else max(spacing_mm[0], min(plane))
    return triple(round(s, 4) for s in (slice_mm, *plane))


def typical_extent_mm(level: str) -> tuple[float, float, float]:
    """Size of an adult body of a level: left-right, along the spine, front-back."""
    ranks = [RANK[name] for name in MIDDLE_OF_REGION]
    sizes = np.array([TYPICAL_MM[name][0] for name in MIDDLE_OF_REGION.values()])
    return triple(float(np.interp(RANK[level], ranks, axis)) for axis in sizes.T)


def vertebra_extent_mm(fingerprint: Fingerprint, percentile: float) -> tuple[tuple[float, float, float], str]:
    """Percentile of the vertebrae's extents along the canonical axes, all levels together."""
    extents = fingerprint.extents_mm()
    if len(extents):
        values = np.percentile(extents, percentile, axis=0)
        return triple(float(v) for v in values), f"{len(extents)} vertebrae"
    regions = {region(v.level) for v in fingerprint.vertebrae} or set(TYPICAL_MM)
    typical = np.max([TYPICAL_MM[name][0] for name in sorted(regions)], axis=0)
    # A fifth is added because a percentile near 100 is asked for and vertebrae lie oblique to the axes.
    return triple(float(v) * 1.2 for v in typical), "typical adults, because no vertebra is outlined"


def pitch_mm(fingerprint: Fingerprint, percentile: float) -> float:
    """Percentile of the distances between neighbouring centres; of typical adults where none is known."""
    pitches = [p for values in fingerprint.pitches_mm.values() for p in values]
    if pitches:
        return float(np.percentile(pitches, percentile))
    regions = sorted({region(v.level) for v in fingerprint.vertebrae}) or sorted(TYPICAL_MM)
    return max(TYPICAL_MM[name][1] for name in regions)


def sealed_extent_mm(fingerprint: Fingerprint, margin_mm: float, tight: bool) -> tuple[tuple[float, float, float], str]:
    """Room that a sealed crop needs: almost every vertebra, its margin and a little slack for augmentation.

    Parameters
    ----------
    tight : where time is short. Nineteen of twenty vertebrae fit and the largest lose a rim; voxels saved buy crops
    """
    percentile, slack_mm = (95, 0.0) if tight else (99, SEALED_SLACK_MM)
    extent, source = vertebra_extent_mm(fingerprint, percentile)
    # Regions grow within slices only, and no vertebra is wider than all slices together.
    grown = [e + 2 * (m + slack_mm) for e, m in zip(extent, (0.0, margin_mm, margin_mm), strict=True)]
    grown[0] = min(grown[0], max(case.shape[0] * case.spacing_mm[0] for case in fingerprint.cases.values()))
    room = " x ".join(f"{g:.0f}" for g in grown)
    return triple(grown), (
        f"{percentile} % of the boxes of {source} fit into {' x '.join(f'{e:.0f}' for e in extent)} mm; with the "
        f"margin of {margin_mm:.3g} mm in plane and {slack_mm:.0f} mm slack a side {room} mm"
    )


def minimum_patch_mm(fingerprint: Fingerprint) -> tuple[float, float, float]:
    """Smallest useful open patch: three vertebrae head to feet and a vertebra with its surroundings otherwise."""
    extent, _ = vertebra_extent_mm(fingerprint, 99)
    return (extent[0] + 2 * SEALED_SLACK_MM, 3 * pitch_mm(fingerprint, 99), extent[2] + PATCH_SURROUND_MM)


def patch_bounds(fingerprint: Fingerprint, spacing_mm: SpacingMm, flat: bool) -> tuple[Triple, Triple]:
    """Smallest useful and largest sensible patch (voxels): the minimum above and the median body box."""
    spacing = np.asarray(spacing_mm)
    body = np.maximum(1, np.round(np.asarray(fingerprint.median_body_mm) / spacing))
    least = np.maximum(1, np.ceil(np.asarray(minimum_patch_mm(fingerprint)) / spacing))
    # A patch larger than the body would hold nothing but padding.
    least = np.minimum(least, body)
    if flat:
        least[0] = body[0] = 1
    return triple(int(n) for n in least), triple(int(n) for n in body)


def grow_patch(least: Triple, most: Triple, divisor: Triple, fits: Callable[[Triple], bool]) -> Triple | None:
    """Largest patch that fits, grown from the smallest in the order that serves naming most.

    All slices first if they are few (thick slices), then head to feet, then front to back, then the slices.

    Returns
    -------
    Multiples of the divisor; None when not even the smallest fits.
    """
    size = round_up(least, divisor)
    if not fits(size):
        return None
    ends = round_up(most, divisor)
    whole_slices = (ends[0], size[1], size[2])
    if most[0] <= 32 and fits((ends[0], size[1], size[2] * 2)):
        size = whole_slices
    for axis in (1, 2, 0):
        while size[axis] < ends[axis]:
            larger = triple(n + divisor[a] * (a == axis) for a, n in enumerate(size))
            if not fits(larger):
                break
            size = larger
    return size


def require_patch(size: Triple | None, configuration: str, spacing_mm: SpacingMm, least: Triple, limit: str) -> Triple:
    """The patch, or the error that none fits."""
    if size is not None:
        return size
    raise PlanError(
        f"{configuration}: no patch fits. At {' x '.join(f'{s:.3g}' for s in spacing_mm)} mm the smallest useful "
        f"patch, three vertebrae head to feet, has {' x '.join(map(str, least))} voxels; the limit is {limit}. "
        "Choose a coarser grid with --set spacing_mm=..., or, on a GPU with more memory, raise -gpu_memory_target."
    )
