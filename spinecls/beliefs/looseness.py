"""What loose annotation is measured against: shapes of exactly drawn vertebrae, and how loose boxes are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

FILL_OF_TIGHT_BOX = (0.30, 0.90)
"""Least and greatest share of a tight box (of space) that an object fills, where none is drawn exactly."""

FILL_OF_EXTENT = (0.6, 1.2)
"""The same for the box along the vertebra's own axes whose edges are the usual size of its level.

Usual sizes are mean diameters, so a large body can fill more than that box.
"""

USUAL_FILL = 0.8
"""Share of the box of usual size along its own axes that a body fills: an elliptic cylinder pi/4, less some for the
waist, more for rims. Outlined lumbar bodies fill 0.80."""

FEWEST_SHAPES = 10
"""Exactly drawn vertebrae from which on their shapes replace the assumptions."""

ASSUMED_SLACK_MM = 3.0


@dataclass(frozen=True)
class Shapes:
    """What the exactly drawn vertebrae of a training set look like.

    Attributes
    ----------
    fill_of_box : least and greatest share of its bounding box that a vertebra fills
    fill_of_extent : likewise of the product of its level's median size
    usual_fill_of_extent : median of the same
    box_mm : level -> median edges of its bounding box along the array axes
    """

    fill_of_box: tuple[float, float] = FILL_OF_TIGHT_BOX
    fill_of_extent: tuple[float, float] = FILL_OF_EXTENT
    usual_fill_of_extent: float = USUAL_FILL
    box_mm: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class DrawnVertebra:
    """Size of one exactly drawn vertebra; `box_mm` along the array axes, `extent_mm` the median of its level."""

    level: str
    volume_mm3: float
    box_mm: np.ndarray
    extent_mm: np.ndarray


def shapes_of(drawn: Iterable[DrawnVertebra]) -> Shapes:
    """Shapes from exact outlines, the 5th to the 95th percentile; assumptions where there are too few."""
    drawn = list(drawn)
    if len(drawn) < FEWEST_SHAPES:
        return Shapes()
    of_box = [v.volume_mm3 / np.prod(v.box_mm) for v in drawn]
    of_extent = [v.volume_mm3 / np.prod(v.extent_mm) for v in drawn]
    boxes: dict[str, list] = {}
    for vertebra in drawn:
        boxes.setdefault(vertebra.level, []).append(vertebra.box_mm)
    return Shapes(
        tuple(np.percentile(of_box, (5, 95)).tolist()),
        tuple(np.percentile(of_extent, (5, 95)).tolist()),
        float(np.median(of_extent)),
        {level: np.median(sizes_mm, axis=0) for level, sizes_mm in boxes.items()},
    )


def measured_slack_mm(boxes_mm: Iterable[tuple[str, np.ndarray]], shapes: Shapes) -> float:
    """How far the faces of boxes lie outside the vertebrae, when nobody said so.

    Half of the median excess of their edges over those of exactly drawn vertebrae of the same level;
    `ASSUMED_SLACK_MM` where none of these levels is drawn exactly, for a box that is taken as tight and is not does
    the greater harm.

    Parameters
    ----------
    boxes_mm : level and edges along the array axes of each box
    """
    excess = [np.median(edges - shapes.box_mm[level]) for level, edges in boxes_mm if level in shapes.box_mm]
    return max(0.0, float(np.median(excess)) / 2) if excess else ASSUMED_SLACK_MM
