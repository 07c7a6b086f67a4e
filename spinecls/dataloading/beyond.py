"""What lies above and below the annotated span: neighbours that nobody annotated, and where further ones may be."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spinecls.anatomy import LEVELS, RANK, VARIANTS, chain
from spinecls.dataloading.body_shapes import level_extent_mm
from spinecls.planning.plan import Plan

LUMBOSACRAL_BEND = 2.0
"""Turn of the column from L5 to S1 against that from L4 to L5; from outlined sacra."""


def implied_neighbours(
    plan: Plan, levels: Sequence[str], centres: np.ndarray, spacing_mm: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Where the vertebrae next to the annotated span lie that nobody annotated, and what they must be called.

    Below an annotated L5 comes S1 and above an annotated L1 comes T12, outlined or not: so the names at the ends are
    learnt also where few have drawn them. (One person in some tens has T13 or L6 there; that error is accepted.) The
    place is one pitch further along the column, whose bend goes on: exact enough for a name, not for a centre.

    Parameters
    ----------
    centres : (N, 3) continuous index of the annotated vertebrae, one a level of `levels`

    Returns
    -------
    (M, 3) continuous index, possibly outside the image, and (M,) level ranks, M at most 2
    """
    common = chain()
    order = np.argsort(centres[:, 1])
    places, ranks = [], []
    for ends, step in ((order[:3], -1), (order[::-1][:3], 1)):
        if len(ends) < 2 or levels[ends[0]] not in common:
            continue
        number = common.index(levels[ends[0]]) + step
        if not 0 <= number < len(common):
            continue
        points = centres[ends] * spacing_mm
        onward = points[0] - points[1]
        if len(points) == 3:
            bend = LUMBOSACRAL_BEND if common[number] == "S1" else 1.0
            onward = onward + bend * (onward - (points[1] - points[2]))
        pitch_mm = _pitch_mm(plan, common[number] if step < 0 else levels[ends[0]])
        places.append((points[0] + pitch_mm * onward / np.linalg.norm(onward)) / spacing_mm)
        ranks.append(RANK[common[number]])
    return np.array(places).reshape(-1, 3), np.array(ranks, int)


def distance_to_sacrum_mm(plan: Plan, level: str) -> float:
    """Usual distance along the column from a level's centre to the lower end of S1; 0 for S1 itself.

    Below S1 nothing has a name. An unannotated S1 may be found; S2, which looks much like it, must not be.
    """
    if level == "S1":
        return 0.0
    pitches = [_pitch_mm(plan, name) for name in LEVELS[RANK[level] : RANK["S1"]] if name not in VARIANTS]
    return sum(pitches) + pitches[-1] / 2


def _pitch_mm(plan: Plan, level: str) -> float:
    """Distance to the next level below; where it was never seen, a disc more than the level's height."""
    known = plan.level_statistics.get(level)
    return known.pitch_mm if known is not None and known.pitch_mm > 0 else 1.2 * float(level_extent_mm(plan, level)[1])


def unknown_zone(
    shape: tuple[int, int, int],
    centres: np.ndarray,
    spacing_mm: np.ndarray,
    extents_mm: np.ndarray,
    reach_below_mm: float = np.inf,
    next_below: np.ndarray | None = None,
) -> np.ndarray:
    """Voxels above and below the annotated span where further vertebrae may lie.

    A widening beam from the half height of the first and of the last annotated vertebra along the column's end
    direction, as wide as that vertebra at its start; it widens by 0.35 mm a millimetre, since the column bends. Where
    the next vertebra's place is known, the beam below goes there: the sacrum turns away from the line of the lumbar
    spine, and what that line meets, the pelvis, is no vertebra.

    Parameters
    ----------
    centres : (N, 3) continuous index of the annotated vertebrae, any order
    extents_mm : (N, 3) their sizes
    reach_below_mm : how far below the centre of the last vertebra further ones may lie
    next_below : (3,) continuous index, about where the next vertebra below the last one is

    Returns
    -------
    (S, R, A) bool array; all true when nothing is annotated
    """
    if len(centres) == 0:
        return np.ones(shape, bool)
    order = np.argsort(centres[:, 1])
    points = centres[order] * spacing_mm
    zone = np.zeros(shape, bool)
    grid = np.meshgrid(*(np.arange(n) * s for n, s in zip(shape, spacing_mm, strict=True)), indexing="ij", sparse=True)
    for end, neighbour in ((0, 1), (-1, -2)):
        # A single annotated vertebra has no direction of its own; head and feet serve.
        alone = np.array([0.0, -1.0 if end == 0 else 1.0, 0.0])
        outward = points[end] - points[neighbour] if len(points) > 1 else alone
        if end == -1 and next_below is not None:
            outward = next_below * spacing_mm - points[end]
        outward = outward / np.linalg.norm(outward)
        size = extents_mm[order[end]]
        offset = [g - p for g, p in zip(grid, points[end], strict=True)]
        along = sum(o * u for o, u in zip(offset, outward, strict=True))
        across = [o - along * u for o, u in zip(offset, outward, strict=True)]
        beyond = along - size[1] / 2
        widen = 0.35 * np.maximum(beyond, 0)
        ellipse = (across[0] / (size[0] / 2 + widen + 4)) ** 2
        ellipse = ellipse + (across[1] ** 2 + across[2] ** 2) / (size[2] / 2 + widen + 4) ** 2
        zone |= (beyond > 0) & (ellipse <= 1) & (along <= (np.inf if end == 0 else reach_below_mm))
    return zone
