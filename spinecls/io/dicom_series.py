"""One DICOM series of a folder as a volume, its slice positions checked one by one.

The image library's own series reader stretches the spacing over a missing slice, drops slices that it cannot read and
flips the stack at a repeated position, all without an error. So the positions are read from each file first, and the
grid is built from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from spinecls.io.file_kinds import dicom_files, path_fault, readable_name
from spinecls.io.findings import CodedFault

_UNEVEN = 0.01
_SERIES, _POSITION, _ORIENTATION = "0020|000e", "0020|0032", "0020|0037"
_SLICE_DISTANCE = "0018|0088"
_RIGHT_ANGLE = 1e-3


@dataclass(frozen=True, kw_only=True)
class _Slice:
    path: Path
    series: str
    size: tuple[int, int]
    spacing_mm: tuple[float, float]
    position_lps: np.ndarray
    axes: np.ndarray
    told_distance_mm: float | None


def read_dicom_series(folder: Path) -> tuple[sitk.Image, list[tuple[str, str]]]:
    """Volume of the only series in a folder, and coded warnings.

    Positions of the slices say how far they lie apart; what else the headers say of it is compared with them.

    Raises
    ------
    CodedFault
        E901 to E909: no or several series, a missing, repeated, unreadable, differing or unevenly placed slice.
    """
    files = dicom_files(folder)
    for path in (folder, *files):
        if reason := path_fault(path):
            raise CodedFault("E907", Path(readable_name(str(path))), f"{reason}.")
    if not files:
        raise CodedFault("E901", folder, "holds no DICOM files. Give the folder of one series.")
    slices = [_read_header(path) for path in files]
    _require_one_series(folder, slices)
    first = slices[0]
    for other in slices[1:]:
        if other.size != first.size or np.abs(other.axes - first.axes).max() > 1e-3:
            text = f"{other.path.name} differs from {first.path.name} in size or orientation (a localiser?). Remove it."
            raise CodedFault("E906", folder, text)
        if np.abs(np.subtract(other.spacing_mm, first.spacing_mm)).max() > _UNEVEN * min(first.spacing_mm):
            text = f"{other.path.name} has pixels of {other.spacing_mm} mm, {first.path.name} of {first.spacing_mm} mm."
            raise CodedFault("E906", folder, text + " Export the series again.")
    if abs(first.axes[0] @ first.axes[1]) > _RIGHT_ANGLE:
        raise CodedFault("E405", folder, "rows and columns are not at right angles. Export the series again.")
    normal = np.cross(first.axes[0], first.axes[1])
    slices.sort(key=lambda item: float(item.position_lps @ normal))
    gap_mm = _slice_distance_mm(folder, slices, normal)
    return _build(slices, normal, gap_mm), _distance_notes(slices, gap_mm)


def _distance_notes(slices: Sequence[_Slice], gap_mm: float) -> list[tuple[str, str]]:
    told = {item.told_distance_mm for item in slices if item.told_distance_mm is not None}
    other = next((value for value in sorted(told) if abs(value - gap_mm) > _UNEVEN * gap_mm), None)
    if other is None:
        return []
    text = f"SpacingBetweenSlices says {other:g} mm, the positions of the slices {gap_mm:.3f} mm; the positions are "
    return [("W424", text + "taken")]


def _read_header(path: Path) -> _Slice:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        raise CodedFault("E907", path, "this DICOM file cannot be read. Export it again.") from None
    size = reader.GetSize()
    if len(size) > 2 and max(size[2:]) > 1:
        text = f"holds {max(size[2:])} frames in one file. Convert it to NIfTI with a DICOM converter."
        raise CodedFault("E908", path, text)
    if not (reader.HasMetaDataKey(_POSITION) and reader.HasMetaDataKey(_ORIENTATION)):
        text = "has no slice position or orientation (a secondary capture or report?). Remove it."
        raise CodedFault("E909", path, text)
    axes = _numbers(path, reader.GetMetaData(_ORIENTATION), 6).reshape(2, 3)
    series = reader.GetMetaData(_SERIES).strip("\0 ") if reader.HasMetaDataKey(_SERIES) else ""
    across_mm, along_mm = (float(value) for value in reader.GetSpacing()[:2])
    return _Slice(
        path=path,
        series=series,
        size=tuple(size[:2]),
        spacing_mm=(across_mm, along_mm),
        position_lps=_numbers(path, reader.GetMetaData(_POSITION), 3),
        axes=axes,
        told_distance_mm=_told_distance_mm(reader),
    )


def _told_distance_mm(reader: sitk.ImageFileReader) -> float | None:
    if not reader.HasMetaDataKey(_SLICE_DISTANCE):
        return None
    try:
        return abs(float(reader.GetMetaData(_SLICE_DISTANCE).strip("\0 ")))
    except ValueError:
        return None


def _numbers(path: Path, text: str, count: int) -> np.ndarray:
    try:
        values = np.array([float(part) for part in text.strip("\0 ").split("\\")])
    except ValueError:
        values = np.array([])
    if values.size != count or not np.all(np.isfinite(values)):
        raise CodedFault("E909", path, f"its slice position or orientation reads {text!r}, expected {count} numbers.")
    return values


def _require_one_series(folder: Path, slices: Sequence[_Slice]) -> None:
    counts: dict[str, int] = {}
    for item in slices:
        counts[item.series] = counts.get(item.series, 0) + 1
    if len(counts) > 1:
        # Identifiers of series are not shown: they may be traced to a patient.
        numbers = ", ".join(str(count) for count in counts.values())
        raise CodedFault("E902", folder, f"holds {len(counts)} series ({numbers} files). Keep one series a folder.")


def _slice_distance_mm(folder: Path, slices: Sequence[_Slice], normal: np.ndarray) -> float:
    if len(slices) < 2:
        raise CodedFault("E402", folder, "holds a single slice, expected a volume.")
    along = np.array([item.position_lps @ normal for item in slices])
    gaps = np.diff(along)
    usual = float(np.median(gaps))
    for index, gap in enumerate(gaps):
        pair = f"{slices[index].path.name} and {slices[index + 1].path.name}"
        if gap < 1e-3:
            raise CodedFault("E904", folder, f"{pair} lie at the same position. Remove the repeated slice.")
        if gap > 1.5 * usual:
            text = f"a gap of {gap:.2f} mm between {pair}, elsewhere {usual:.2f} mm. Export the missing slices."
            raise CodedFault("E903", folder, text)
        if abs(gap - usual) > _UNEVEN * usual:
            raise CodedFault("E905", folder, f"{pair} are {gap:.3f} mm apart, the other slices {usual:.3f} mm.")
    sideways = np.array([item.position_lps for item in slices]) - np.outer(along, normal)
    if np.abs(sideways - sideways[0]).max() > 0.1 * min(slices[0].spacing_mm):
        raise CodedFault("E905", folder, "the slices are shifted sideways against each other (a sheared stack).")
    return float(gaps.mean())


def _build(slices: Sequence[_Slice], normal: np.ndarray, gap_mm: float) -> sitk.Image:
    arrays = []
    for item in slices:
        try:
            image = sitk.ReadImage(str(item.path))
        except RuntimeError:
            raise CodedFault("E907", item.path, "its pixels cannot be read. Export it again.") from None
        if image.GetNumberOfComponentsPerPixel() != 1:
            raise CodedFault("E403", item.path, "its pixels are colours, expected one real number a pixel.")
        arrays.append(sitk.GetArrayFromImage(image).reshape(item.size[::-1]))
    volume = sitk.GetImageFromArray(np.stack(arrays))
    first = slices[0]
    volume.SetSpacing((*first.spacing_mm, gap_mm))
    volume.SetOrigin(tuple(float(v) for v in first.position_lps))
    # Rows and columns as written are unit vectors to six digits only; the third axis makes the frame orthonormal.
    frame = np.stack([first.axes[0], np.cross(normal, first.axes[0]), normal], axis=1)
    frame /= np.linalg.norm(frame, axis=0)
    volume.SetDirection(tuple(float(v) for v in frame.ravel()))
    return volume
