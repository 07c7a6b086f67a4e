"""Which codes a map holds: their levels with place and size, and codes that stand for nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from spinecls.anatomy import LEVEL_CODES, RANK
from spinecls.geometry import Geometry
from spinecls.io.code_guess import code_hint
from spinecls.io.code_schemes import scheme_hint
from spinecls.io.findings import Finding, error
from spinecls.records import DatasetDescription
from spinecls.types import triple

_MOST_UNKNOWN = 5


@dataclass(frozen=True, kw_only=True)
class LevelInMap:
    """Centroid (LPS mm), voxels and size of a level in a map.

    `size_mm` (left-right, head-feet, front-back) has the sides of the solid block with the same spread, which a stray
    voxel hardly changes.
    """

    centre_lps: tuple[float, float, float]
    voxels: int
    size_mm: tuple[float, float, float]


def levels_in_map(
    case: str,
    path: Path,
    array: np.ndarray,
    geometry: Geometry,
    description: DatasetDescription,
    findings: list[Finding],
) -> dict[str, LevelInMap]:
    """Every level in a vertebra map (S, R, A) from head to feet; faults of its codes become findings."""
    present = check_codes(case, path, array, description, description.levels, findings)
    if not set(present) - {description.ignore_label}:
        place = f"{path.parent.name}/{path.name}"
        if present:
            text = f"{place} holds {description.ignore_label} alone, the ignore_label of dataset.json, which means "
            text += "unknown. A mask of 0 and 255 does not tell the vertebrae apart: draw each with its code."
        else:
            text = f"{place} shows no vertebra. Remove it or draw it."
        findings.append(error("604", text, case))
    levels = sorted((name for name, code in description.levels.items() if code in present), key=RANK.__getitem__)
    boxes = ndimage.find_objects(array)
    return {name: _level(array, description.levels[name], boxes, geometry) for name in levels}


def _level(array: np.ndarray, code: int, boxes, geometry: Geometry) -> LevelInMap:
    box = boxes[code - 1]
    index = np.argwhere(array[box] == code)
    centre = index.mean(axis=0) + [part.start for part in box]
    # n voxels in a row have the variance (n^2 - 1) / 12.
    size_mm = np.sqrt(12 * index.var(axis=0) + 1) * geometry.spacing_mm
    return LevelInMap(
        centre_lps=triple(float(v) for v in geometry.to_world(centre)),
        voxels=len(index),
        size_mm=triple(float(v) for v in size_mm),
    )


def check_codes(
    case: str,
    path: Path,
    array: np.ndarray,
    description: DatasetDescription,
    codes: Mapping[str, int],
    findings: list[Finding],
) -> dict[int, int]:
    """Voxels by code; codes that stand for nothing become findings."""
    counts = np.bincount(array.ravel())
    present = {int(code): int(counts[code]) for code in np.flatnonzero(counts) if code != 0}
    known = {*codes.values(), description.ignore_label}
    of_vertebrae = codes is description.levels
    place = f"{path.parent.name}/{path.name}"
    unknown = [code for code in present if code not in known]
    drawn = set(present) - {description.ignore_label}
    hint = scheme_hint(drawn, codes, _fall(array, drawn)) if of_vertebrae and unknown else ""
    hint = hint or code_hint(Path(place), drawn, set(codes.values()))
    if len(unknown) > _MOST_UNKNOWN or (hint and len(unknown) > 1):
        text = f"{place} has {len(unknown)} values that dataset.json does not name, from {min(unknown)} to "
        findings.append(error("603", f"{text}{max(unknown)}.{hint or ' Is it an image?'}", case))
        unknown = []
    listed = ", ".join(f"{name} {code}" for name, code in codes.items()) or "none"
    names = {code: name for name, code in LEVEL_CODES.items()}
    for code in unknown:
        where = tuple(int(v) for v in np.argwhere(array == code)[0])
        text = f"{place} has {present[code]} voxels of {code} (first at canonical index {where}), a code that "
        text += f"dataset.json does not name; it names {listed}."
        if of_vertebrae and code in names:
            text += f" By the usual codes {code} is {names[code]}."
        if len(present) == 1 and code == 1 and of_vertebrae:
            text += " A mask of 0 and 1 does not tell the vertebrae apart."
        findings.append(error("603", text + hint, case))
    return present


def _fall(array: np.ndarray, codes: Collection[int]) -> bool:
    """Whether codes of a map (S, R, A) fall from each vertebra to the next below."""
    listed = sorted(codes)
    rows = [centre[1] for centre in ndimage.center_of_mass(array > 0, array, listed)]
    return len(rows) > 1 and bool(np.all(np.diff(rows) < 0))
