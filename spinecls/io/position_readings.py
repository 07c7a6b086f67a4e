"""Ways in which a table's coordinates may be meant, and whether a column of vertebrae comes out of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from spinecls.anatomy import PLAUSIBLE_PITCH, RANK, pitch_quotient
from spinecls.geometry import Geometry
from spinecls.types import Point, triple

# Sides that the canonical array axes run towards, each with its opposite.
_CANONICAL_AXES = ("RL", "IS", "PA")
SAME_PLACE_MM = 2.0
"""Two vertebrae that are less apart are at one place."""

_STEP_MM = -1.0
_LEAST_DESCENT = 0.4


@dataclass(frozen=True, kw_only=True)
class PlacedCase:
    """Positions that a table gives the vertebrae of one case, and what its files show.

    `kind` is "point" or "box centre"; `orientation` names the axes of the image's file; `in_map` holds the centroid of
    every level in a map.
    """

    case: str
    kind: str
    positions: Mapping[str, Point]
    geometry: Geometry
    orientation: str
    in_map: Mapping[str, Point] = field(default_factory=dict)

    def read_as(self, reading: str) -> dict[str, Point]:
        """Positions (LPS mm) if the table's numbers are meant as one of `READINGS`."""
        levels = list(self.positions)
        points = READINGS[reading](np.array([self.positions[level] for level in levels], float), self)
        return {level: triple(float(v) for v in point) for level, point in zip(levels, points, strict=True)}

    def from_index(self, index, towards: str) -> np.ndarray:
        """World positions (LPS mm) of voxel indices (N, 3) in an image whose axes run `towards` sides such as RAS."""
        own = [next(j for j in range(3) if towards[j] in pair) for pair in _CANONICAL_AXES]
        canonical = np.asarray(index, float)[:, own]
        for axis, pair in enumerate(_CANONICAL_AXES):
            if towards[own[axis]] == pair[1]:
                canonical[:, axis] = self.geometry.shape[axis] - 1 - canonical[:, axis]
        return self.geometry.to_world(canonical)

    def from_file_index(self, index) -> np.ndarray:
        """World positions (LPS mm) of voxel indices (i, j, k) in the axis order of the image's file."""
        return self.from_index(index, self.orientation)

    def file_spacing_mm(self) -> np.ndarray:
        """Voxel distances in the axis order of the image's file."""
        order = [next(k for k, pair in enumerate(_CANONICAL_AXES) if letter in pair) for letter in self.orientation]
        return np.array(self.geometry.spacing_mm)[order]


Reading = Callable[[np.ndarray, PlacedCase], np.ndarray]


def _ordered(*order: int) -> Reading:
    """Voxel indices whose axes are written in another order."""
    return lambda p, case: case.from_file_index(p[:, order])


def _turned(sides: str) -> Reading:
    """Voxel indices of the image turned so that its axes run towards `sides`."""
    return lambda p, case: case.from_index(p, sides)


READINGS: dict[str, Reading] = {
    "LPS millimetres": lambda p, _: p,
    "RAS millimetres (change the signs of x_mm and y_mm)": lambda p, _: p * (-1, -1, 1),
    "voxel indices (i, j, k) of the image file": lambda p, case: case.from_file_index(p),
    "voxel indices (k, j, i) of an array": lambda p, case: case.from_file_index(p[:, ::-1]),
    "centimetres (multiply by 10)": lambda p, _: p * 10,
    "RAS centimetres": lambda p, _: p * (-10, -10, 10),
    "metres (multiply by 1000)": lambda p, _: p * 1000,
    "millimetres from the first voxel of the file": lambda p, case: case.from_file_index(p / case.file_spacing_mm()),
    "millimetres with y_mm and z_mm exchanged": lambda p, _: p[:, [0, 2, 1]],
    "millimetres with x_mm and z_mm exchanged": lambda p, _: p[:, [2, 1, 0]],
    "millimetres with x_mm and y_mm exchanged": lambda p, _: p[:, [1, 0, 2]],
    "millimetres with the sign of x_mm reversed": lambda p, _: p * (-1, 1, 1),
    "millimetres with the sign of y_mm reversed": lambda p, _: p * (1, -1, 1),
    "millimetres with the sign of z_mm reversed": lambda p, _: p * (1, 1, -1),
    **{
        f"voxel indices {written} of the image file": _ordered(*order)
        for written, order in {
            "(j, i, k)": (1, 0, 2), "(i, k, j)": (0, 2, 1), "(j, k, i)": (2, 0, 1), "(k, i, j)": (1, 2, 0),
        }.items()
    },
    **{
        f"voxel indices of the image turned to {sides}": _turned(sides) for sides in ("RAS", "LPS", "PIR", "RIP")
    },
}  # fmt: skip
"""Meanings of the three numbers, the right one first, then the usual mistakes; each gives LPS millimetres."""

AS_WRITTEN = next(iter(READINGS))


def is_column(positions: Mapping[str, Sequence[float]], geometry: Geometry) -> bool:
    """Whether positions lie in the image, run from head to feet and are as far apart as vertebrae are."""
    points = np.array([positions[level] for level in sorted(positions, key=RANK.__getitem__)])
    if not geometry.contains(points).all():
        return False
    quotient = pitch_quotient(positions)
    if quotient is None:
        return True
    if np.linalg.norm(np.diff(points, axis=0), axis=1).min() < SAME_PLACE_MM:
        return False
    low, high = PLAUSIBLE_PITCH
    return _runs_down(points, geometry) and low <= quotient <= high


def _runs_down(points: np.ndarray, geometry: Geometry) -> bool:
    """Whether points follow each other towards the feet, and mostly so."""
    rows_mm = geometry.to_index(points)[:, 1] * geometry.spacing_mm[1]
    return bool(np.all(np.diff(rows_mm) > _STEP_MM)) and descent_share(points, geometry) >= _LEAST_DESCENT


def descent_share(points: np.ndarray, geometry: Geometry) -> float:
    """Way from head to feet as a share of the whole way from the first point to the last; negative when upwards."""
    index = geometry.to_index(points)
    rows_mm = index[:, 1] * geometry.spacing_mm[1]
    way_mm = np.linalg.norm(np.diff(points, axis=0), axis=1).sum()
    return float((rows_mm[-1] - rows_mm[0]) / way_mm) if way_mm > 0 else 0.0


def beside_middle_mm(positions: Mapping[str, Sequence[float]], geometry: Geometry) -> float:
    """Median distance of positions from the middle of the image, left to right."""
    index = geometry.to_index(np.array(list(positions.values())))[:, 0]
    return float(np.median(np.abs(index - (geometry.shape[0] - 1) / 2)) * geometry.spacing_mm[0])
