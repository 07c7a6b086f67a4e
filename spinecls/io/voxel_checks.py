"""What the files of one case hold: its grid, its levels, and every fault of header and voxels."""

from __future__ import annotations

import hashlib
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import numpy as np

from spinecls.anatomy import RANK
from spinecls.errors import ResourceError
from spinecls.geometry import Geometry
from spinecls.io.case_facts import CaseFacts, CaseFiles
from spinecls.io.findings import CodedFault, Finding, error, warning
from spinecls.io.images import MIN_OVERLAP, read_chance_map, read_header, read_image, read_label_map
from spinecls.io.map_codes import LevelInMap, check_codes, levels_in_map
from spinecls.io.map_shapes import FEW_SLICES, shape_findings
from spinecls.io.source_grid import canonical_geometry, grid_difference, overlap, times
from spinecls.records import DatasetDescription

_SPACING_MM = (0.1, 15.0)
_FIELD_MM = (50.0, 1200.0)
_MOSTLY_ZERO = 0.95
_CLIPPED_SHARE = 0.05
_TOMOGRAPHY_AIR = -900
_EXTREME_RATIO = 1000.0


def inspect_cases(
    cases: Sequence[CaseFiles], description: DatasetDescription, verify_voxels: bool, num_processes: int
) -> dict[str, CaseFacts]:
    """Facts of cases by identifier, see `inspect_case`.

    Raises
    ------
    ResourceError
        When a worker process died, usually for want of memory.
    """
    inspect = partial(inspect_case, description=description, verify_voxels=verify_voxels)
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


def inspect_case(case: CaseFiles, description: DatasetDescription, verify_voxels: bool) -> CaseFacts:
    """Read the files of a case and judge them.

    Maps are always read, since they say which vertebrae exist; the voxels of images only with `verify_voxels`.
    """
    found: list[Finding] = []
    geometry, orientation = _inspect_headers(case, found)
    if geometry is None:
        return CaseFacts(identifier=case.identifier, findings=tuple(found))
    image, hashes = None, ()
    if verify_voxels:
        image, hashes = _inspect_images(case, found)
    levels: dict[str, LevelInMap] = {}
    levels_of: dict[str, set[str]] = {}
    for reader, path in case.vertebra_maps.items():
        array = _inspect_map(case.identifier, path, geometry, image, found)
        if array is None:
            continue
        in_map = levels_in_map(case.identifier, path, array, geometry, description, found)
        if verify_voxels:
            centres = {name: level.centre_lps for name, level in in_map.items()}
            found += shape_findings(case.identifier, array, geometry, description, centres)
        levels_of[reader] = set(in_map)
        levels = {**in_map, **levels}
    if len({frozenset(levels) for levels in levels_of.values()}) > 1:
        listed = "; ".join(f"{reader or 'no reader'}: {_named(levels)}" for reader, levels in levels_of.items())
        found.append(warning("610", f"the readers' maps show other levels ({listed})", case.identifier))
    if case.chance_map is not None:
        _inspect_chances(case.identifier, case.chance_map, geometry, found)
    if case.structure_map is not None:
        array = _inspect_map(case.identifier, case.structure_map, geometry, None, found)
        if array is not None:
            check_codes(case.identifier, case.structure_map, array, description, description.structures, found)
    return CaseFacts(
        identifier=case.identifier,
        findings=tuple(found),
        geometry=geometry,
        orientation=orientation,
        centres_lps={name: level.centre_lps for name, level in levels.items()},
        voxels={name: level.voxels for name, level in levels.items()},
        sizes_mm={name: level.size_mm for name, level in levels.items()},
        image_hash=hashes,
    )


def _coded(fault: CodedFault, case: str) -> Finding:
    return Finding(code=fault.code, text=f"{Path(fault.place).name} {fault.detail}", case=case)


def _inspect_headers(case: CaseFiles, found: list[Finding]) -> tuple[Geometry | None, str]:
    """Grid of the first channel (None when a channel cannot be used) and the orientation of its file."""
    first, orientation = None, ""
    faults = 0
    for path in case.images:
        try:
            source, notes = read_header(path)
        except CodedFault as fault:
            found.append(_coded(fault, case.identifier))
            faults += 1
            continue
        found += [Finding(code=code, text=f"{path.name} {text}", case=case.identifier) for code, text in notes]
        geometry = canonical_geometry(source)
        if first is None:
            first, orientation = geometry, source.orientation
            found += _grid_findings(case.identifier, path, geometry)
            continue
        difference = grid_difference(first, geometry)
        share = overlap(first, geometry)
        if share < MIN_OVERLAP:
            text = f"{path.name} covers {share:.0%} of {case.images[0].name}, expected at least {MIN_OVERLAP:.0%}."
            found.append(error("414", text + " Channels must show the same region.", case.identifier))
            faults += 1
        elif difference:
            text = f"{path.name} {difference[1]}, compared with {case.images[0].name}; it will be interpolated"
            text += " onto that grid"
            found.append(warning("414", text, case.identifier))
    return (None if faults else first), orientation


def _grid_findings(case: str, path: Path, geometry: Geometry) -> list[Finding]:
    """Judge the plausibility of a canonical grid."""
    found = []
    spacing = np.array(geometry.spacing_mm)
    field_mm = spacing * geometry.shape
    low, high = _SPACING_MM
    if spacing.min() < low or spacing.max() > high:
        text = f"{path.name} has a spacing of {times(spacing.round(4))} mm; expected {low:g} to {high:g} mm"
        found.append(warning("406", text, case))
    low, high = _FIELD_MM
    if field_mm[1:].min() < low or field_mm[1:].max() > high:
        text = f"{path.name} covers {field_mm[1]:.0f} mm head-feet and {field_mm[2]:.0f} mm front-back; "
        found.append(warning("406", text + f"expected {low:g} to {high:g} mm", case))
    thick = int(np.argmax(spacing))
    others = np.delete(spacing, thick)
    if thick != 0 and spacing[thick] > 1.5 * others.max():
        name = ("left-right", "head-feet", "front-back")[thick]
        text = f"{path.name} has its thick slices along {name} ({spacing[thick]:.1f} mm); a sagittal stack is expected"
        found.append(warning("409", text, case))
    elif geometry.shape[0] < FEW_SLICES:
        text = f"{path.name} has {geometry.shape[0]} sagittal slices, expected {FEW_SLICES} or more"
        found.append(warning("408", text, case))
    return found


def _inspect_images(case: CaseFiles, found: list[Finding]) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Voxels of the first channel and a hash a channel."""
    try:
        volume = read_image(case.images)
    except CodedFault as fault:
        found.append(_coded(fault, case.identifier))
        return None, ()
    for path, channel in zip(case.images, volume.array, strict=True):
        found += _intensity_findings(case.identifier, path, channel)
    return volume.array[0], tuple(hashlib.blake2b(channel, digest_size=16).hexdigest() for channel in volume.array)


def _intensity_findings(case: str, path: Path, channel: np.ndarray) -> list[Finding]:
    low, high = float(channel.min()), float(channel.max())
    if low == high:
        return [error("502", f"{path.name} has the value {low:g} everywhere.", case)]
    found = []
    zeros = 1 - np.count_nonzero(channel) / channel.size
    if zeros > _MOSTLY_ZERO:
        found.append(warning("503", f"{zeros:.0%} of the voxels of {path.name} are zero", case))
    if low <= _TOMOGRAPHY_AIR:
        found.append(warning("504", f"{path.name} has values down to {low:g}: computed tomography?", case))
    # Every third voxel is enough to tell what values are usual.
    usual = float(np.percentile(np.abs(channel.ravel()[::3]), 99))
    largest = max(abs(low), abs(high))
    if usual > 0 and largest > _EXTREME_RATIO * usual:
        text = f"{path.name} has a value of {largest:g}, 99 % of the voxels lie below {usual:g}"
        found.append(warning("507", text, case))
    clipped = np.count_nonzero(channel == high) / channel.size
    if clipped > _CLIPPED_SHARE and np.unique(channel.ravel()[::3]).size > 2:
        text = f"{clipped:.0%} of the voxels of {path.name} have the largest value {high:g}"
        found.append(warning("508", text, case))
    return found


def _inspect_map(case: str, path: Path, geometry: Geometry, image: np.ndarray | None, found) -> np.ndarray | None:
    """Canonical array of a map on the image's grid, or None with findings."""
    try:
        array, own = read_label_map(path)
    except CodedFault as fault:
        found.append(_coded(fault, case))
        return None
    place = f"{path.parent.name}/{path.name}"
    difference = grid_difference(geometry, own)
    if difference:
        number, text = difference
        text = f"{place} {text}, compared with the image. Resample it by nearest neighbour."
        found.append(error(number, text, case))
        return None
    if image is not None and array.any() and np.array_equal(array, image):
        found.append(error("611", f"{place} holds the image itself. Put the map there.", case))
        return None
    return array


def _inspect_chances(case: str, path: Path, geometry: Geometry, found: list[Finding]) -> None:
    """Judge a map of chances: on the image's grid, from 0 to 1, and not empty."""
    place = f"{path.parent.name}/{path.name}"
    try:
        chances, own = read_chance_map(path)
    except CodedFault as fault:
        found.append(_coded(fault, case))
        return
    difference = grid_difference(geometry, own)
    if difference:
        number, text = difference
        found.append(error(number, f"{place} {text}, compared with the image. Resample it linearly.", case))
    elif not chances.any():
        found.append(error("604", f"{place} shows no vertebra. Remove it or draw it.", case))


def _named(levels: set[str]) -> str:
    return ", ".join(sorted(levels, key=RANK.__getitem__)) or "none"
