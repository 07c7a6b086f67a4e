"""How large vertebrae are, and which voxels most likely belong to which, also where nobody drew them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import gamma

from spinecls.anatomy import RANK, chain
from spinecls.beliefs.looseness import USUAL_FILL
from spinecls.geometry import Geometry
from spinecls.planning.plan import Plan
from spinecls.sealing.region import ellipsoid_distance, positions_along


def level_extent_mm(plan: Plan, level: str) -> np.ndarray:
    """Median size of a level (left-right, along the spine, front-back); that of the nearest known level if unseen."""
    known = plan.level_statistics
    if not known:
        return np.array([40.0, 26.0, 32.0])
    nearest = min(known, key=lambda name: abs(RANK[name] - RANK[level]))
    return np.asarray(known[nearest].extent_mm, float)


PITCH_POWER = 0.7
"""Power of a spine's pitch by which its bodies are larger. In proportion (1) is too much, for discs differ as well and
centres are off by some mm; on outlined lumbar spines 0.5 to 1.3 served alike."""

PITCH_RATIOS = (0.75, 1.35)
"""Least and greatest pitch, in parts of the usual, that is believed; what lies beyond is a wrong level or centre."""


def extents_by_pitch_mm(plan: Plan, levels: Sequence[str], centres_lps: np.ndarray) -> np.ndarray:
    """(N, 3) median sizes of levels, larger or smaller as the centres of a scan lie further apart than usual.

    Parameters
    ----------
    centres_lps : (N, 3) world mm of the levels
    """
    place = {level: np.asarray(centre, float) for level, centre in zip(levels, centres_lps, strict=True)}
    usual = {level: known.pitch_mm for level, known in plan.level_statistics.items() if known.pitch_mm > 0}
    pairs = [(a, b) for a, b in itertools.pairwise(chain(place)) if a in usual and a in place and b in place]
    length_mm = sum(np.linalg.norm(place[a] - place[b]) for a, b in pairs)
    ratio = np.clip(length_mm / sum(usual[a] for a, _ in pairs), *PITCH_RATIOS) if pairs else 1.0
    return np.array([level_extent_mm(plan, level) for level in levels]).reshape(-1, 3) * ratio**PITCH_POWER


ACROSS_POWER, ALONG_POWER = 2.2, 12.0
"""Powers of the surface of a body of usual shape, across the spine and along it: a round cylinder with flat ends."""

WIDER = 1.12
"""How much wider a body is, against its other sizes, than its box, which rims make higher and deeper. On thick slices
usual sizes are too narrow as well, for a slice of which only a part is vertebra is drawn on."""

SHAPE_OF_BOX = WIDER ** (np.array([2.0, -1.0, -1.0]) / 3)
"""Size of a body in parts of its box, left-right, along the spine and front-back; its volume is that without it."""

FILL_OF_BODY = float(
    gamma(1 + 1 / ACROSS_POWER) ** 2 / gamma(1 + 2 / ACROSS_POWER)
    * gamma(1 + 1 / ALONG_POWER) * gamma(1 + 2 / ALONG_POWER) / gamma(1 + 3 / ALONG_POWER)
)  # fmt: skip
"""Share of its box that such a body fills, 0.80."""


@dataclass(frozen=True)
class Body:
    """Where a vertebra lies, by what was annotated of it.

    Attributes
    ----------
    centre_lps : (3,) world mm; axes_lps : (3, 3), columns left-right, along the spine, front-back
    extent_mm : (3,) size along the axes, the usual one of its level in this spine, or as its box tells
    error_mm : standard deviation of its centre, of a box that of its faces
    fill : share of the box of its size which it fills
    """

    centre_lps: np.ndarray
    axes_lps: np.ndarray
    extent_mm: np.ndarray
    error_mm: float = 0.0
    fill: float = USUAL_FILL

    @property
    def surface(self) -> float:
        """Size against that of a body of usual shape (`body_distance`) that fills its box as it does."""
        return (self.fill / FILL_OF_BODY) ** (1 / 3)

    @property
    def size_mm(self) -> np.ndarray:
        """(3,) what lies between its outermost points along the axes, if it has the usual shape."""
        return self.extent_mm * self.surface * SHAPE_OF_BOX


def body_distance(
    geometry: Geometry, centre_lps: np.ndarray, axes_lps: np.ndarray, extent_mm: np.ndarray
) -> np.ndarray:
    """How much larger than a body of usual shape one is whose surface runs through each voxel; 1 on its own surface.

    With (u, v, w) in parts of half the size left-right, along the spine and front-back it is
    ((|u|^2.2 + |w|^2.2)^(12 / 2.2) + |v|^12)^(1 / 12), where u is counted in parts of a somewhat larger size than v and
    w are (`SHAPE_OF_BOX`): seen from above nearly an ellipse, with end plates that are nearly flat. Of the powers and
    widths tried these overlap most with some two hundred outlined lumbar bodies, where those are boxed and where they
    are pointed at.

    Parameters
    ----------
    axes_lps : (3, 3), columns = unit vectors left-right, along the spine, front-back
    extent_mm : full lengths along these axes
    """
    u, v, w = (
        np.abs(position / half)
        for position, half in zip(
            positions_along(geometry, centre_lps, axes_lps),
            SHAPE_OF_BOX * np.asarray(extent_mm, float) / 2,
            strict=True,
        )
    )
    across = (u**ACROSS_POWER + w**ACROSS_POWER) ** (1 / ACROSS_POWER)
    return (across**ALONG_POWER + v**ALONG_POWER) ** (1 / ALONG_POWER)


def likely_bodies(
    geometry: Geometry,
    drawn: np.ndarray | None,
    centres_lps: np.ndarray,
    axes_lps: np.ndarray,
    extents_mm: np.ndarray,
    unknown: int,
    partly: bool,
) -> np.ndarray:
    """Vertebrae as far as a map shows them, and bodies of the given size at the centres of the others.

    Voxels learn to point at their centre in the whole of a body. Taught in its middle alone they miss it at the ends,
    and what votes for no centre is lost (`inference.instances.vote_instances`).

    Parameters
    ----------
    drawn : (S, R, A) uint8, 0 background, i + 1 the vertebra of row i, `unknown`; None = nothing is drawn
    centres_lps, extents_mm : (N, 3); sizes left-right, along the spine, front-back
    axes_lps : (N, 3, 3), columns = unit vectors of each vertebra's axes
    partly : whether of a vertebra that the map shows there may be more where the map is unknown

    Returns
    -------
    (S, R, A) uint8, numbered like `drawn`; a voxel in several bodies belongs to the one in which it lies deepest
    """
    numbers = np.full(geometry.shape, unknown, np.uint8) if drawn is None else drawn.copy()
    free = numbers == unknown
    numbers[free] = 0
    deepest = np.ones(geometry.shape, np.float32)
    for row, (centre, axes, extent) in enumerate(zip(centres_lps, axes_lps, extents_mm, strict=True)):
        if not partly and np.any(numbers == row + 1):
            continue
        depth = ellipsoid_distance(geometry, centre, axes, extent)
        own = free & (depth <= deepest)
        numbers[own], deepest[own] = row + 1, depth[own]
    return numbers
