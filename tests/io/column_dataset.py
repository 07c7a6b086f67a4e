"""Raw datasets of upright columns, T12 to S1, with points or boxes instead of maps, and ways of getting them wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tiny_dataset as tiny

LEVELS = ("T12", "L1", "L2", "L3", "L4", "L5", "S1")
CODES = {"T12": 19, "L1": 20, "L2": 21, "L3": 22, "L4": 23, "L5": 24, "S1": 26}
PITCH_MM = 34.0
SHAPE = (12, 130, 50)
SPACING_MM = (4.0, 2.0, 2.0)
CORNERS = {"a1": (60.0, -130.0, 150.0), "a2": (46.0, 20.0, 90.0), "a3": (-10.0, -130.0, 400.0)}
"""World position (LPS mm) of the first canonical voxel: left, top, front."""


def points(case: str) -> np.ndarray:
    """Centres (LPS mm) of the vertebrae: in the middle left to right, from 20 mm below the top, a little bent."""
    down = 20 + PITCH_MM * np.arange(len(LEVELS))
    back = 40 + 6 * np.sin(np.arange(len(LEVELS)))
    left, front, top = CORNERS[case]
    return np.stack([np.full(len(LEVELS), left - 23.0), front + back, top - down], axis=1)


def rows_of(change=None, cases=tuple(CORNERS)) -> list[str]:
    """Rows of a table of points; `change` maps the points (N, 3) of each of `cases`."""
    lines = []
    for number, case in enumerate(CORNERS):
        place = points(case) if change is None or case not in cases else change(points(case), case)
        for i, (level, point) in enumerate(zip(LEVELS, place, strict=True)):
            lines.append(f"{case},p{number},{level},{i % 2}," + ",".join(f"{value:.4f}" for value in point))
    return lines


def write_points(folder: Path, lines: list[str]) -> None:
    _write_images(folder)
    tiny.table(folder, "case,patient,vertebra,class,x_mm,y_mm,z_mm", *lines)


def write_boxes(folder: Path, half_mm, factor: float = 1.0) -> None:
    """Boxes that reach `half_mm` (x, y, z) to either side of each centre."""
    _write_images(folder)
    lines = []
    for number, case in enumerate(CORNERS):
        for i, (level, point) in enumerate(zip(LEVELS, points(case), strict=True)):
            corners = np.concatenate([point - half_mm, point + np.array(half_mm)]) * factor
            lines.append(f"{case},p{number},{level},{i % 2}," + ",".join(f"{value:.4f}" for value in corners))
    tiny.table(folder, "case,patient,vertebra,class,x_min_mm,y_min_mm,z_min_mm,x_max_mm,y_max_mm,z_max_mm", *lines)


def vertebra_map() -> np.ndarray:
    """(S, R, A) map of the column: blocks of 10 x 14 x 15 voxels with the usual codes."""
    array = np.zeros(SHAPE, np.int16)
    for i, level in enumerate(LEVELS):
        row = round((20 + PITCH_MM * i) / SPACING_MM[1])
        array[1:11, row - 7 : row + 7, 13:28] = CODES[level]
    return array


def write_maps(folder: Path, change, **description) -> None:
    """Maps whose codes are `change(array)` and no classes; keys of dataset.json may be given."""
    _write_images(folder)
    for case, origin in CORNERS.items():
        _write(folder / f"labelsTr/{case}.nii.gz", change(vertebra_map()), origin)
    tiny.description(folder, **{"classes": {}, "vertebrae": None, "numTraining": 3, "structures": None, **description})


def file_indices(place: np.ndarray, case: str) -> np.ndarray:
    """Voxel indices (i, j, k) of world positions: i runs to the back, j to the feet, k to the right."""
    left, front, top = CORNERS[case]
    canonical = np.stack([left - place[:, 0], top - place[:, 2], place[:, 1] - front], axis=1) / SPACING_MM
    return canonical[:, ::-1]


def _write_images(folder: Path) -> None:
    for number, (case, origin) in enumerate(CORNERS.items()):
        voxels = np.random.default_rng(number).integers(1, 1000, SHAPE).astype(np.int16)
        _write(folder / f"imagesTr/{case}_0000.nii.gz", voxels, origin)
    tiny.description(folder, numTraining=3, vertebrae=CODES)


def _write(path: Path, array: np.ndarray, origin) -> None:
    tiny.write(path, array, spacing=SPACING_MM[::-1], origin=origin)
