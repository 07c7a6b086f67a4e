"""What must hold of every image, whether it is checked, learned from or predicted: its grid and its intensities."""

from __future__ import annotations

import numpy as np

from spinecls.geometry import Geometry
from spinecls.io.affine import SAME_PLACE, SAME_VOXEL, Affine, apart, right_angled, times
from spinecls.io.findings import CodedFault
from spinecls.io.map_shapes import FEW_SLICES
from spinecls.io.nifti_forms import sheared_text

Notes = list[tuple[str, str]]

_SPACING_MM = (0.1, 15.0)
_FIELD_MM = (50.0, 1200.0)
_LARGEST_MM, _LARGEST_MM3 = 2500.0, 1.5e9
_MOSTLY_ZERO = 0.95
_NEARLY_ALL_ZERO = 0.999
_CLIPPED_SHARE = 0.05
_SATURATED_SHARE = 0.5
_TOMOGRAPHY_AIR = -900
_EXTREME_RATIO = 1000.0
_FEW_VALUES = 12
_MANY_EMPTY_SLICES = 0.25
_AIR_SPREAD = 0.1
"""Share of the usual spread of values in a slice from which on a slice shows more than air."""
_UNIT = 1e-3
# Words for the canonical axes, each after the side it runs along.
_AXES = ("left-right", "head-feet", "front-back")


def directions_notes(place: object, size, spacing_mm, origin, direction: np.ndarray) -> Notes:
    """Coded warnings about numbers that place a grid; axes in the order of the file or array.

    Parameters
    ----------
    direction : (3, 3), column j belongs to axis j

    Raises
    ------
    CodedFault
        E404 for a voxel spacing and E405 for directions that cannot be used.
    """
    if not all(np.isfinite(value) and value > 0 for value in spacing_mm):
        text = f"the header says a voxel spacing of {times(spacing_mm)} mm, expected numbers above 0."
        raise CodedFault("E404", place, text)
    lengths = np.linalg.norm(direction, axis=0)
    if not (np.all(np.isfinite(direction)) and np.all(np.isfinite(origin))) or np.abs(lengths - 1).max() > _UNIT:
        text = f"the columns of its directions have the lengths {times(lengths)}, expected 1, and a finite origin. "
        raise CodedFault("E405", place, text + "Export it again from the program that wrote it.")
    # Only the turn counts, so both grids start at the same place.
    bent, straight = (
        Affine(matrix * np.array(spacing_mm), np.zeros(3)) for matrix in (direction, right_angled(direction))
    )
    voxels, _ = apart(size, straight, bent)
    text = sheared_text(direction, voxels)
    if voxels > SAME_VOXEL:
        raise CodedFault("E405", place, f"{text} Resample it onto right angles in the program that wrote it.")
    return [("W405", f"{text} The nearest right angles are taken")] if voxels > SAME_PLACE else []


def grid_notes(geometry: Geometry) -> Notes:
    """Coded warnings about an implausible canonical grid."""
    notes = []
    spacing = np.array(geometry.spacing_mm)
    field_mm = spacing * geometry.shape
    low, high = _SPACING_MM
    if spacing.min() < low or spacing.max() > high:
        text = f"has a spacing of {times(spacing.round(4))} mm; expected {low:g} to {high:g} mm"
        notes.append(("W406", text))
    low, high = _FIELD_MM
    if field_mm[1:].min() < low or field_mm[1:].max() > high:
        text = f"covers {field_mm[1]:.0f} mm head-feet and {field_mm[2]:.0f} mm front-back; "
        notes.append(("W406", text + f"expected {low:g} to {high:g} mm"))
    thick = int(np.argmax(spacing))
    others = np.delete(spacing, thick)
    if thick != 0 and spacing[thick] > 1.5 * others.max():
        text = f"has its thick slices along {_AXES[thick]} ({spacing[thick]:.1f} mm); a sagittal stack is expected"
        notes.append(("W409", text))
    elif geometry.shape[0] < FEW_SLICES:
        notes.append(("W408", f"has {geometry.shape[0]} sagittal slices, expected {FEW_SLICES} or more"))
    return notes


def require_volume(place: object, geometry: Geometry) -> None:
    """Refuse a canonical grid that is no volume of a patient.

    Raises
    ------
    CodedFault
        E402 for a single slice, E406 for what is larger than a person, which a usual grid has no memory for.
    """
    shape = geometry.shape
    if min(shape) < 2:
        axis = _AXES[int(np.argmin(shape))]
        text = f"a single slice ({times(shape)} voxels, one {axis}), expected a volume. Convert the whole series."
        raise CodedFault("E402", place, text)
    field_mm = np.array(geometry.spacing_mm) * shape
    if field_mm.max() > _LARGEST_MM or field_mm.prod() > _LARGEST_MM3:
        text = f"covers {times(field_mm.round())} mm with voxels of {times(np.round(geometry.spacing_mm, 4))} mm, more "
        text += "than a person. Correct the voxel size in its header, or export it again."
        raise CodedFault("E406", place, text)


def intensity_notes(channel: np.ndarray) -> Notes:
    """Coded errors (`E...`) and warnings about the voxels of one channel (S, R, A)."""
    low, high = float(channel.min()), float(channel.max())
    if low == high:
        return [("E502", f"has the value {low:g} everywhere. Export it again.")]
    notes = []
    zeros = 1 - np.count_nonzero(channel) / channel.size
    if zeros > _NEARLY_ALL_ZERO:
        return [("E503", f"is empty but for {np.count_nonzero(channel)} of {channel.size} voxels. Export it again.")]
    if zeros > _MOSTLY_ZERO:
        notes.append(("W503", f"is mostly empty: {zeros:.0%} of the voxels are zero"))
    if low <= _TOMOGRAPHY_AIR:
        notes.append(("W504", f"has values down to {low:g}: computed tomography?"))
    # Every third voxel is enough to tell what values are usual.
    sample = channel.ravel()[::3]
    usual = float(np.percentile(np.abs(sample), 99))
    largest = max(abs(low), abs(high))
    if usual > 0 and largest > _EXTREME_RATIO * usual:
        notes.append(("W507", f"has a value of {largest:g}, 99 % of the voxels lie below {usual:g}"))
    return [*notes, *_range_notes(channel, sample, high), *_empty_slice_notes(channel)]


def _range_notes(channel: np.ndarray, sample: np.ndarray, high: float) -> Notes:
    """Images that hold few values, or one bright value too often."""
    # A few voxels tell most images from maps, all of the sample the rest.
    few = np.unique(sample[:: max(1, sample.size // 10_000)]).size <= _FEW_VALUES
    if few and (values := np.unique(sample)).size <= _FEW_VALUES:
        listed = ", ".join(f"{value:g}" for value in values)
        if values.size <= 2:
            return [("E510", f"holds hardly a value but {listed}: a mask, no scan. Give the image.")]
        return [("W510", f"holds hardly a value but {listed}: a map of labels?")]
    clipped = np.count_nonzero(channel == high) / channel.size
    text = f"is clipped: {clipped:.0%} of the voxels have the largest value {high:g}"
    if clipped > _SATURATED_SHARE:
        return [("E508", f"{text}. Export it again with its full range.")]
    return [("W508", text)] if clipped > _CLIPPED_SHARE else []


def _empty_slice_notes(channel: np.ndarray) -> Notes:
    """Slices of one value between others: voxels that were lost on the way. At the ends they may be padding or air."""
    for axis, name in enumerate(_AXES):
        others = tuple(other for other in range(3) if other != axis)
        spread = channel.max(axis=others) - channel.min(axis=others)
        if not spread.any():
            return [("E509", f"has one value in each of its {len(spread)} slices {name}: no scan. Export it again.")]
        filled = np.flatnonzero(spread > _AIR_SPREAD * np.median(spread[spread > 0]))
        between = spread[filled[0] : filled[-1] + 1]
        empty = int(np.count_nonzero(between == 0))
        if not empty:
            continue
        text = f"is empty in {empty} of {len(between)} slices {name}, between others that are not"
        if empty > _MANY_EMPTY_SLICES * len(between):
            return [("E509", f"{text}. Export it again.")]
        return [("W509", text)]
    return []
