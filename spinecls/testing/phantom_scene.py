"""The whole field of view of a phantom: soft tissue, vessels, canal and cord around the column."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spinecls.testing import phantom_tissue as tissue
from spinecls.testing.phantom_anatomy import Vertebra
from spinecls.testing.phantom_tissue import TissueGrid

_CANAL_BEHIND_BODY_MM = 8.0


@dataclass(frozen=True, kw_only=True)
class _Frame:
    """Where fine voxels lie relative to the column, mm.

    `behind` and `ahead` (row, column): behind the canal's middle, in front of the bodies' front wall;
    `aside` (slice, row): to the right of the column's middle; `half_width` (row,): of the bodies;
    `row_of`: level to the row position of its centre.
    """

    behind: np.ndarray
    ahead: np.ndarray
    aside: np.ndarray
    half_width: np.ndarray
    cos_lean: np.ndarray
    rows_mm: np.ndarray
    row_of: dict[str, float]


def paint_scene(
    rng: np.random.Generator, column: list[Vertebra], shape: Sequence[int], spacing_mm: Sequence[float]
) -> TissueGrid:
    """Painted grid of a field of view; `grid.body` holds 1 + position in `column`.

    Every shape overwrites what lies below it, so the order is from the surroundings to the bodies.
    """
    grid = TissueGrid(shape, spacing_mm)
    frame = _frame(grid, column)
    _paint_surroundings(rng, grid, frame)
    _paint_vessels(grid, frame)
    _paint_brain(grid, column[0])
    near = [v for v in column if -60 < v.centre_mm[1] < grid.axes_mm[1][-1] + 60]
    for vertebra in near:
        tissue.paint_posterior_elements(grid, vertebra)
    _paint_canal(grid, frame)
    for above, below in itertools.pairwise(column):
        # A third of the discs has lost its bright nucleus, so a dark disc says nothing about its level.
        nucleus = tissue.ANNULUS if rng.random() < 0.3 else tissue.NUCLEUS
        if above in near and above.name != "C1":
            tissue.paint_disc(grid, above, below, nucleus)
    for vertebra in near:
        tissue.paint_body(grid, vertebra, column.index(vertebra) + 1)
    grid.canal &= grid.body == 0
    return grid


def _frame(grid: TissueGrid, column: list[Vertebra]) -> _Frame:
    slices_mm, rows_mm, columns_mm = grid.axes_mm
    canal = np.array([v.point_mm(0, 0, v.depth_mm / 2 + _CANAL_BEHIND_BODY_MM) for v in column])

    def along(values: Sequence[float] | np.ndarray) -> np.ndarray:
        return np.interp(rows_mm, canal[:, 1], values).astype(np.float32)

    behind = columns_mm[None, :] - along(canal[:, 2])[:, None]
    cos_lean = along([np.cos(np.radians(v.lean_degrees)) for v in column])
    return _Frame(
        behind=behind,
        ahead=-behind - (along([v.depth_mm for v in column]) / cos_lean)[:, None] - _CANAL_BEHIND_BODY_MM,
        aside=slices_mm[:, None] - along(canal[:, 0])[None, :],
        half_width=along([v.width_mm / 2 for v in column]),
        cos_lean=cos_lean,
        rows_mm=rows_mm,
        row_of={v.name: float(v.centre_mm[1]) for v in column},
    )


def _paint_surroundings(rng: np.random.Generator, grid: TissueGrid, frame: _Frame) -> None:
    rows = frame.rows_mm[:, None]
    neck = rows < frame.row_of["T1"] - 10
    # The diaphragm is a dome: in front, the lungs end higher.
    thorax = ~neck & (rows + 0.6 * np.maximum(frame.ahead, 0) < frame.row_of["T11"])
    plane = np.full(frame.behind.shape, tissue.MUSCLE, np.uint8)
    plane[frame.ahead > 0] = tissue.FAT
    plane[(frame.ahead > 5) & ~neck] = tissue.VISCERA
    plane[(frame.ahead > 5) & neck] = tissue.MUSCLE
    plane[(frame.ahead > 8) & (frame.ahead < 22) & neck] = 0
    plane[(frame.ahead > 24) & thorax] = 0
    grid.tissue[:] = plane[None]
    _paint_bowel(rng, grid, frame)
    outside = np.abs(frame.aside) > frame.half_width + 8
    grid.tissue[outside[:, :, None] & (thorax & (frame.behind < 2))[None]] = 0
    # Fat between the spinous processes and behind the dura, midline only.
    midline = np.abs(frame.aside) < 5
    grid.tissue[midline[:, :, None] & (frame.behind > 6)[None]] = tissue.FAT
    _paint_skin(rng, grid, frame, neck)


def _paint_skin(rng: np.random.Generator, grid: TissueGrid, frame: _Frame, neck: np.ndarray) -> None:
    """Fat below the skin and air behind it; the back is flatter than the column."""
    canal_mm = grid.axes_mm[2][0] - frame.behind[:, 0]
    back_mm = np.polyval(np.polyfit(frame.rows_mm, canal_mm, 2), frame.rows_mm)[:, None] + rng.uniform(50, 58)
    columns_mm = grid.axes_mm[2][None, :]
    grid.tissue[:, columns_mm > back_mm - rng.uniform(8, 18)] = tissue.FAT
    grid.tissue[:, columns_mm > back_mm] = 0
    grid.tissue[:, neck & (frame.ahead > rng.uniform(38, 45))] = 0


def _paint_bowel(rng: np.random.Generator, grid: TissueGrid, frame: _Frame) -> None:
    """Loops of bowel and fat in front of the lumbar column."""
    extent_mm = [float(axis[-1]) for axis in grid.axes_mm]
    top = min(max(frame.row_of["L1"], 0.0), extent_mm[1])
    for _ in range(12):
        centre = np.array([rng.uniform(0, extent_mm[0]), rng.uniform(top, extent_mm[1] + 20), 0.0])
        row = min(int(np.searchsorted(frame.rows_mm, centre[1])), len(frame.rows_mm) - 1)
        front_mm = grid.axes_mm[2][0] + float(frame.ahead[row, 0])
        centre[2] = front_mm - rng.uniform(26, 60)
        content = int(rng.choice([tissue.FAT, tissue.FAT, tissue.FLUID, tissue.MUSCLE, 0]))
        if centre[1] > frame.row_of["L1"]:
            grid.ellipsoid(centre, np.eye(3), rng.uniform(6, 15, 3), content)


def _paint_vessels(grid: TissueGrid, frame: _Frame) -> None:
    """Aorta (left) and vena cava (right), dark by flow, that fork in front of the fourth lumbar vertebra."""
    below_fork = np.maximum(frame.rows_mm - frame.row_of["L4"], 0)
    above_thorax = frame.rows_mm < frame.row_of["T4"]
    radius = np.where(below_fork > 0, 5.0, 8.5)
    for side, aside_mm in ((-1.0, -7.0), (1.0, 13.0)):
        middle = aside_mm + side * 0.45 * below_fork
        across = (frame.aside - middle[None, :]) ** 2 - radius[None, :] ** 2
        across[:, above_thorax] = np.inf
        grid.tissue[across.astype(np.float32)[:, :, None] + ((frame.ahead - 11) ** 2)[None] <= 0] = tissue.VESSEL


def _paint_brain(grid: TissueGrid, atlas: Vertebra) -> None:
    """Lower end of the head: brain, the fluid around it and the skull."""
    centre_mm = atlas.point_mm(0, -60, 22)
    for wider_mm, content in ((8.0, tissue.CORTEX), (4.0, tissue.FLUID), (0.0, tissue.CORD)):
        grid.ellipsoid(centre_mm, np.eye(3), np.array([60.0, 40.0, 45.0]) + wider_mm, content)


def _paint_canal(grid: TissueGrid, frame: _Frame) -> None:
    """Canal with fluid, the cord down to the first lumbar vertebra, roots behind below it; it ends in the sacrum."""
    end = frame.row_of["S2"] + 5
    openness = np.clip((end - frame.rows_mm) / (end - frame.row_of["S1"] + 40), 0, 1).astype(np.float32) ** 0.5
    conus = frame.row_of["L1"] + 6
    cord = np.clip((conus - frame.rows_mm) / 30, 0, 1).astype(np.float32) ** 0.5
    behind = frame.behind * frame.cos_lean[:, None]
    across = frame.aside**2

    def tube(radius_aside, radius_behind, offset_mm=0.0) -> np.ndarray:
        lateral = across / np.maximum(radius_aside, 0.01) ** 2
        sagittal = (behind - offset_mm) ** 2 / np.maximum(radius_behind, 0.01)[:, None] ** 2
        return lateral[:, :, None] + sagittal[None] <= 1

    grid.canal = tube(10.5 * openness, 7.5 * openness)
    grid.tissue[grid.canal] = tissue.FLUID
    grid.tissue[tube(6.0 * cord, 4.2 * cord)] = tissue.CORD
    roots = np.where((cord == 0) & (openness > 0.6), 1.0, 0.0).astype(np.float32)
    grid.tissue[tube(6.0 * roots, 1.8 * roots, 3.5)] = tissue.CORD
