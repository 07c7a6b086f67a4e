"""What the files of one case hold: its grid, its levels, and every fault of header and voxels."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from spinecls.anatomy import RANK
from spinecls.errors import ResourceError
from spinecls.geometry import Geometry
from spinecls.io.affine import SAME_VOXEL
from spinecls.io.case_facts import CaseFacts, CaseFiles
from spinecls.io.findings import CodedFault, Finding, error, warning
from spinecls.io.image_checks import grid_notes, require_volume
from spinecls.io.image_digests import image_digests
from spinecls.io.images import (
    MIN_OVERLAP,
    read_chance_map,
    read_header,
    read_image,
    read_label_map,
    read_map_header,
)
from spinecls.io.map_codes import LevelInMap, check_codes, levels_in_map
from spinecls.io.map_shapes import shape_findings
from spinecls.io.remedies import copy_grid, resample
from spinecls.io.source_grid import canonical_geometry, grid_difference, overlap
from spinecls.records import DatasetDescription

_INTERPOLATORS = {"by nearest neighbour": "sitkNearestNeighbor", "linearly": "sitkLinear"}


class _Grids(NamedTuple):
    """Canonical grid of the first channel, and the orientation of its file."""

    image: Geometry
    orientation: str


def inspect_cases(
    cases: Sequence[CaseFiles], description: DatasetDescription, verify_voxels: bool, num_processes: int
) -> dict[str, CaseFacts]:
    """Facts of cases by identifier, see `_inspect_case`.

    Raises
    ------
    ResourceError
        When a worker process died, usually for want of memory.
    """
    inspect = partial(_inspect_case, description=description, verify_voxels=verify_voxels)
    if num_processes <= 1 or len(cases) < 2:
        return {case.identifier: inspect(case) for case in cases}
    # New processes rather than forks: a fork inherits locks of libraries that already run threads.
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(min(num_processes, len(cases)), mp_context=context) as pool:
            facts = list(pool.map(inspect, cases, chunksize=2))
    except BrokenProcessPool as fault:
        text = "A process that checked images was killed: too little memory? Use fewer processes."
        raise ResourceError(text) from fault
    return {item.identifier: item for item in facts}


def _inspect_case(case: CaseFiles, description: DatasetDescription, verify_voxels: bool) -> CaseFacts:
    """Read the files of a case and judge them.

    Maps are always read, since they say which vertebrae exist; the voxels of images only with `verify_voxels`.
    """
    findings: list[Finding] = []
    geometry, orientation = _inspect_headers(case, findings)
    if geometry is None:
        return CaseFacts(identifier=case.identifier, findings=tuple(findings))
    grids = _Grids(geometry, orientation)
    image: np.ndarray | None = None
    hashes: tuple[str, ...] = ()
    if verify_voxels:
        image, hashes = _inspect_images(case, findings)
    levels: dict[str, LevelInMap] = {}
    levels_of: dict[str, set[str]] = {}
    for reader, path in case.vertebra_maps.items():
        array = _inspect_map(case, path, grids, image, findings)
        if array is None:
            continue
        in_map = levels_in_map(case.identifier, path, array, geometry, description, findings)
        if verify_voxels:
            centres = {name: level.centre_lps for name, level in in_map.items()}
            findings += shape_findings(case.identifier, array, geometry, description, centres)
        levels_of[reader] = set(in_map)
        levels = {**in_map, **levels}
    if len({frozenset(levels) for levels in levels_of.values()}) > 1:
        listed = "; ".join(f"{reader or 'no reader'}: {_named(levels)}" for reader, levels in levels_of.items())
        findings.append(warning("610", f"the readers' maps show other levels ({listed})", case.identifier))
    if case.chance_map is not None:
        _inspect_chances(case, case.chance_map, grids, findings)
    if case.structure_map is not None:
        array = _inspect_map(case, case.structure_map, grids, None, findings)
        if array is not None:
            check_codes(case.identifier, case.structure_map, array, description, description.structures, findings)
    return CaseFacts(
        identifier=case.identifier,
        findings=tuple(findings),
        geometry=geometry,
        orientation=orientation,
        centres_lps={name: level.centre_lps for name, level in levels.items()},
        voxels={name: level.voxels for name, level in levels.items()},
        sizes_mm={name: level.size_mm for name, level in levels.items()},
        image_hash=hashes,
    )


def _coded(fault: CodedFault, case: str) -> Finding:
    return Finding(code=fault.code, text=f"{Path(fault.place).name}: {fault.detail}", case=case)


def _inspect_headers(case: CaseFiles, findings: list[Finding]) -> tuple[Geometry | None, str]:
    """Grid of the first channel (None when a channel cannot be used) and the orientation of its file."""
    first, orientation = None, ""
    faults = 0
    for path in case.images:
        try:
            source, notes = read_header(path)
            geometry = canonical_geometry(source)
            require_volume(path, geometry)
        except CodedFault as fault:
            findings.append(_coded(fault, case.identifier))
            faults += 1
            continue
        if first is None:
            notes = (*notes, *grid_notes(geometry))
        findings += [Finding(code=code, text=f"{path.name}: {text}", case=case.identifier) for code, text in notes]
        if first is None:
            first, orientation = geometry, source.orientation
            continue
        difference = grid_difference(first, geometry)
        share = overlap(first, geometry)
        if share < MIN_OVERLAP:
            text = f"{path.name} covers {share:.0%} of {case.images[0].name}, expected at least {MIN_OVERLAP:.0%}."
            findings.append(error("414", text + " Channels must show the same region.", case.identifier))
            faults += 1
        elif difference:
            text = f"{path.name} {difference[1]}, compared with {case.images[0].name}; it will be interpolated"
            text += " onto that grid"
            findings.append(warning("414", text, case.identifier))
    return (None if faults else first), orientation


def _inspect_images(case: CaseFiles, findings: list[Finding]) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Voxels of the first channel and a hash a channel."""
    try:
        volume = read_image(case.images)
    except CodedFault as fault:
        findings.append(_coded(fault, case.identifier))
        return None, ()
    told = {(finding.code, finding.text) for finding in findings}
    # What the headers show is told already, and of channels on other grids in other words.
    new = [note for note in volume.notes if note not in told and note[0] != "W414"]
    findings += [Finding(code=code, text=text, case=case.identifier) for code, text in new]
    return volume.array[0], image_digests(volume.array)


def _inspect_map(case: CaseFiles, path: Path, grids: _Grids, image: np.ndarray | None, findings) -> np.ndarray | None:
    """Canonical array of a map on the image's grid, or None with findings."""
    try:
        array, own = read_label_map(path)
    except CodedFault as fault:
        findings.append(_coded(fault, case.identifier))
        return None
    place = f"{path.parent.name}/{path.name}"
    if not _on_grid(case, path, grids, own, "by nearest neighbour", findings):
        return None
    if image is not None and array.any() and np.array_equal(array, image):
        findings.append(error("611", f"{place} holds the image itself. Put the map there.", case.identifier))
        return None
    return array


def _inspect_chances(case: CaseFiles, path: Path, grids: _Grids, findings: list[Finding]) -> None:
    """Judge a map of chances: on the image's grid, from 0 to 1, and not empty."""
    try:
        chances, own = read_chance_map(path)
    except CodedFault as fault:
        findings.append(_coded(fault, case.identifier))
        return
    if _on_grid(case, path, grids, own, "linearly", findings) and not chances.any():
        text = f"{path.parent.name}/{path.name} shows no vertebra. Remove it or draw it."
        findings.append(error("604", text, case.identifier))


def _on_grid(case: CaseFiles, path: Path, grids: _Grids, own: Geometry, interpolation: str, findings) -> bool:
    """Whether a map belongs to the image voxel for voxel; if not, says what to do."""
    source, notes = read_map_header(path)
    place = f"{path.parent.name}/{path.name}"
    findings += [Finding(code=code, text=f"{place}: {text}", case=case.identifier) for code, text in notes]
    difference = grid_difference(grids.image, own, SAME_VOXEL)
    if difference is None:
        if small := grid_difference(grids.image, own):
            text = f"{place} {small[1]}, compared with the image, less than half a voxel; it is taken voxel for voxel"
            findings.append(warning("425", text, case.identifier))
        return True
    number, text = difference
    image, name = case.images[0], Path(path.parent.name) / path.name
    text = f"{place} {text}, compared with the image."
    if image.is_file():
        like = Path(image.parent.name) / image.name
        resampled = resample(name, like, _INTERPOLATORS[interpolation])
        file_shape: tuple[int, ...] = own.shape if source.orientation == grids.orientation else ()
        if any(code == "W407" for code, _ in notes):
            # Its axes are not known, so only the order of its voxels in the file can be compared.
            file_shape = _canonical_shape(source.size, grids.orientation)
        if file_shape == grids.image.shape:
            text += f" If it was drawn on this image, only its header is wrong: {copy_grid(name, like)}. If it belongs"
            text += f" where its header says: Resample it {interpolation}: {resampled}"
        else:
            text += f" Resample it {interpolation}, and look at the result: {resampled}"
    else:
        text += f" Resample it {interpolation} onto the grid of the image, or draw it on that."
    findings.append(error(number, text, case.identifier))
    return False


def _canonical_shape(size: Sequence[int], orientation: str) -> tuple[int, ...]:
    """Canonical shape of an array of a file, if its axes run as `orientation` says."""
    return tuple(size[next(j for j in range(3) if orientation[j] in pair)] for pair in ("RL", "IS", "PA"))


def _named(levels: set[str]) -> str:
    return ", ".join(sorted(levels, key=RANK.__getitem__)) or "none"
