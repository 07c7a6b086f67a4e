"""Vertebrae with a position, and what is known of their place beyond what preprocessing stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spinecls.curve import image_tangents_lps
from spinecls.dataloading.body_shapes import Body, extents_by_pitch_mm
from spinecls.geometry import Geometry
from spinecls.io.preprocessed import PreprocessedCase
from spinecls.io.preprocessed_records import PreparedVertebra
from spinecls.planning.plan import Plan
from spinecls.sealing.region import vertebra_axes
from spinecls.types import Point


@dataclass(frozen=True, kw_only=True)
class PlacedVertebra(PreparedVertebra):
    """A vertebra with a position, made by `placed`.

    Attributes
    ----------
    body : where its voxels are believed to be, see `dataloading.alignment`; None = as drawn, or nobody knows
    certainty : probability that what lies there has this name; below 1 where a model placed it
    """

    centre_lps: Point
    body: Body | None = None
    certainty: float = 1.0


def placed(vertebra: PreparedVertebra, **known) -> PlacedVertebra:
    """A vertebra with what is known of its place: `centre_lps`, `body`, `certainty`; the rest stays as it is."""
    return PlacedVertebra(**{**vars(vertebra), **known})


def placed_vertebrae(case: PreprocessedCase) -> list[PlacedVertebra]:
    """Vertebrae with a position, in whose order arrays of a case are."""
    return [placed(vertebra) for vertebra in case.vertebrae if vertebra.centre_lps is not None]


def axes_and_sizes_mm(
    plan: Plan, geometry: Geometry, vertebrae: Sequence[PlacedVertebra]
) -> tuple[np.ndarray, np.ndarray]:
    """(N, 3, 3) axes and (N, 3) sizes of the vertebrae of a scan, which hold all that may be theirs.

    Those of the believed body where there is one (see `dataloading.alignment`), rims included: where voxels did
    not learn to point at their vertebra they are lost. Else along the spine, and as large as the pitch tells.
    """
    centres_lps = np.array([v.centre_lps for v in vertebrae], float).reshape(-1, 3)
    sizes = extents_by_pitch_mm(plan, [v.level for v in vertebrae], centres_lps)
    tangents = image_tangents_lps(centres_lps, geometry) if len(vertebrae) else np.zeros((0, 3))
    axes = np.array([vertebra_axes(geometry, tangent) for tangent in tangents]).reshape(-1, 3, 3)
    for row, vertebra in enumerate(vertebrae):
        if (body := vertebra.body) is not None:
            axes[row], sizes[row] = body.axes_lps, np.maximum(body.extent_mm, body.size_mm)
    return axes, sizes
