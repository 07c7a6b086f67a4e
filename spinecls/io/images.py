"""Images and label maps between files and canonical arrays.

Canonical arrays run (slice left to right, row head to feet, column front to back), whatever the order in the file;
world coordinates are LPS millimetres. Results return to the axis order and position of the file they belong to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from spinecls.errors import DatasetError, ResourceError, UsageError
from spinecls.files import atomic_path
from spinecls.geometry import Geometry
from spinecls.io.findings import CodedFault
from spinecls.io.image_checks import directions_notes, grid_notes, intensity_notes, require_volume
from spinecls.io.image_files import Notes, file_grid, placed, read_file, refuse_segmentation
from spinecls.io.library_messages import library_messages
from spinecls.io.registration import RigidMotion, find_motion, resample_moved
from spinecls.io.source_grid import (
    SourceGrid,
    canonical_geometry,
    directions,
    from_canonical,
    grid_difference,
    grid_from,
    overlap,
    source_grid,
    to_canonical,
)
from spinecls.io.voxel_values import chances, finite_float32, whole_numbers

MIN_OVERLAP = 0.5
"""Share of the first channel that every other channel must cover."""
_WRITTEN = 1e-3
"""Voxels by which a written grid may differ from the one that was meant."""
_WRITABLE = (".nii.gz", ".nii", ".nrrd", ".mha")


@dataclass(frozen=True, kw_only=True)
class Volume:
    """An image in canonical order.

    Attributes
    ----------
    array : float32 (C, S, R, A), channels first
    geometry : canonical grid of one channel
    source : grid of the first channel as read
    notes : what was odd and how it was handled, each with its code (see `findings.TITLES`) and the channel's name
    registration : motion by which each further channel was aligned onto the first, None where the search failed; empty
        when alignment was not asked for
    """

    array: np.ndarray
    geometry: Geometry
    source: SourceGrid
    notes: tuple[tuple[str, str], ...] = ()
    registration: tuple[RigidMotion | None, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """The notes without their codes."""
        return tuple(text for _, text in self.notes)


def read_image(paths: Sequence[Path], register: bool = False) -> Volume:
    """Read the channels of one examination.

    A channel on another grid than the first is interpolated linearly onto the first one's grid, with a warning.

    Parameters
    ----------
    paths : one file or DICOM folder a channel, in channel order
    register : align every further channel onto the first, because the patient may have moved between them; a channel
        whose alignment fails stays as it was scanned, with a warning

    Raises
    ------
    DatasetError
        When a file is missing, damaged, truncated, no volume or not finite, lies where programs do not agree, holds
        nothing that could be a scan, or channels overlap by less than half.
    """
    if not paths:
        raise DatasetError("read_image: no file was given, expected one path a channel.")
    return _assembled([_file_channel(Path(path)) for path in paths], register)


@dataclass(frozen=True)
class _Channel:
    """One channel as it was read: where it comes from in errors, its name in warnings, coded warnings."""

    place: Path | str
    name: str
    image: sitk.Image
    notes: Notes


def _file_channel(path: Path) -> _Channel:
    refuse_segmentation(path)
    return _Channel(path, path.name, *read_file(path))


def _assembled(channels: Sequence[_Channel], register: bool) -> Volume:
    """All channels on the grid of the first, every one judged as it was scanned."""
    first, *others = channels
    source = source_grid(first.image)
    arrays = [_canonical(first.place, first.image)]
    grid = canonical_geometry(source)
    require_volume(first.place, grid)
    notes = _named(first, [*first.notes, *grid_notes(grid), *_voxel_notes(first, arrays[0])])
    motions = []
    for channel in others:
        moved, motion, more = _onto_first(channel.place, channel.image, first.image, register)
        arrays.append(_canonical(channel.place, moved))
        notes += _named(channel, [*channel.notes, *more, *_voxel_notes(channel, arrays[-1])])
        motions.append(motion)
    return Volume(
        array=np.stack(arrays),
        geometry=grid,
        source=source,
        notes=tuple(dict.fromkeys(notes)),
        registration=tuple(motions) if register else (),
    )


def _voxel_notes(channel: _Channel, array: np.ndarray) -> Notes:
    """Warnings about the voxels of a channel; raises `CodedFault` for one that shows nothing."""
    notes = intensity_notes(array)
    for code, text in notes:
        if code.startswith("E"):
            raise CodedFault(code, channel.place, text)
    return notes


def _named(channel: _Channel, notes: Notes) -> Notes:
    return [(code, f"{channel.name}: {text}") for code, text in notes]


def _canonical(place: Path | str, image: sitk.Image) -> np.ndarray:
    return finite_float32(place, to_canonical(sitk.GetArrayViewFromImage(image), source_grid(image)))


def _onto_first(
    place: Path | str, image: sitk.Image, first: sitk.Image, register: bool
) -> tuple[sitk.Image, RigidMotion | None, Notes]:
    """A further channel on the grid of the first, the motion that brought it there, and warnings."""
    grid, own = (canonical_geometry(source_grid(one)) for one in (first, image))
    share = overlap(grid, own)
    if share < MIN_OVERLAP:
        text = f"covers {share:.0%} of the first channel, expected at least {MIN_OVERLAP:.0%}."
        raise CodedFault("E414", place, text + " The channels must show the same region.")
    motion = find_motion(first, image) if register else None
    if motion is not None:
        return resample_moved(image, first, motion), motion, []
    notes = [("W414", "could not be aligned onto the first channel; left as scanned")] if register else []
    difference = grid_difference(grid, own)
    if difference is None:
        return image, None, notes
    image = sitk.Resample(sitk.Cast(image, sitk.sitkFloat32), first, sitk.Transform(), sitk.sitkLinear, 0.0)
    notes.append(("W414", f"{difference[1]}, compared with the first channel; interpolated onto its grid"))
    return image, None, notes


def read_label_map(path: Path) -> tuple[np.ndarray, Geometry]:
    """Read a map of whole numbers.

    Returns
    -------
    int16 (S, R, A) canonical array and its grid. Values within 0.001 of a whole number are rounded.

    Raises
    ------
    DatasetError
        As `read_image`; also when values are not whole, negative or above 32767.
    """
    image, _ = read_file(Path(path))
    source = source_grid(image)
    array = whole_numbers(path, to_canonical(sitk.GetArrayViewFromImage(image), source))
    return array, canonical_geometry(source)


def read_chance_map(path: Path) -> tuple[np.ndarray, Geometry]:
    """Read a map of chances.

    Returns
    -------
    float32 (S, R, A) canonical array in 0..1 and its grid. What rounding put beyond by up to 0.001 is clipped.

    Raises
    ------
    DatasetError
        As `read_image`; also when values are not from 0 to 1.
    """
    volume = read_map(path)
    return chances(path, volume.array[0]), volume.geometry


def read_map(path: Path) -> Volume:
    """Read a map of any numbers, such as of evidence; nothing is asked of its values but that they are finite.

    Raises
    ------
    DatasetError
        When the file cannot be read as `read_image` says.
    """
    image, _ = read_file(Path(path))
    source = source_grid(image)
    return Volume(array=_canonical(path, image)[None], geometry=canonical_geometry(source), source=source)


def read_geometry(path: Path) -> Geometry:
    """Canonical grid of a file, from its header alone (a DICOM folder is read whole)."""
    return canonical_geometry(read_header(path)[0])


def read_header(path: Path) -> tuple[SourceGrid, tuple[tuple[str, str], ...]]:
    """Grid of a scan and coded warnings (code, text), from the header alone (a DICOM folder is read whole)."""
    refuse_segmentation(Path(path))
    return read_map_header(path)


def read_map_header(path: Path) -> tuple[SourceGrid, tuple[tuple[str, str], ...]]:
    """As `read_header`, of a map."""
    grid, notes = file_grid(Path(path))
    return grid, tuple(notes)


def volume_from_sitk(images: sitk.Image | Sequence[sitk.Image], register: bool = False) -> Volume:
    """Volume of images in memory, one a channel; of a single image the components of a voxel are the channels.

    Parameters
    ----------
    register : as for `read_image`

    Raises
    ------
    DatasetError
        When one is not three-dimensional or not finite, or channels overlap by less than half.
    """
    place = "image in memory"
    several: list[sitk.Image] = []
    notes = []
    for image in images if isinstance(images, (list, tuple)) else [images]:
        if not isinstance(image, sitk.Image):
            raise UsageError(
                f"{place}: expected a SimpleITK image, one a channel; got {type(image).__name__}. Read a file by "
                "SimpleITK.ReadImage, or give an array to predict_array."
            )
        if image.GetDimension() != 3:
            raise CodedFault("E402", place, f"has {image.GetDimension()} dimensions, expected 3.")
        grid = image.GetSize(), image.GetSpacing(), image.GetOrigin(), directions(image)
        several.append(image)
        notes.append(directions_notes(place, *grid))
    if len(several) == 1 and (count := several[0].GetNumberOfComponentsPerPixel()) > 1:
        several = [sitk.VectorIndexSelectionCast(several[0], index) for index in range(count)]
        notes *= count
    channels = zip(several, notes, strict=True)
    return _assembled([_Channel(place, f"channel {i}", *channel) for i, channel in enumerate(channels)], register)


def volume_from_array(array: np.ndarray, geometry: Geometry) -> Volume:
    """Volume of an array (C, ...) or (...) that lies on `geometry`, whose axes may be in any order.

    Raises
    ------
    DatasetError
        When the shapes differ or voxels are not finite.
    """
    if not isinstance(geometry, Geometry):
        raise UsageError(f"array in memory: expected a spinecls.Geometry of its axes, got {type(geometry).__name__}.")
    array = np.asarray(array)
    array = array[None] if array.ndim == 3 else array
    place = "array in memory"
    if array.shape[1:] != tuple(geometry.shape):
        raise CodedFault("E410", place, f"has shape {array.shape[1:]}, its geometry says {tuple(geometry.shape)}.")
    direction = np.array(geometry.direction, float)[:, ::-1]
    spacing_mm = geometry.spacing_mm[::-1]
    notes = directions_notes(place, geometry.shape[::-1], spacing_mm, geometry.origin_lps, direction)
    grid = grid_from(geometry.shape[::-1], spacing_mm, geometry.origin_lps, direction.ravel())
    # A number too large for float32 becomes infinite, which is told with its place.
    with np.errstate(over="ignore"):
        images = [placed(sitk.GetImageFromArray(np.ascontiguousarray(one, np.float32)), grid) for one in array]
    return _assembled([_Channel(place, f"channel {i}", one, notes) for i, one in enumerate(images)], register=False)


def map_image(array: np.ndarray, source: SourceGrid) -> sitk.Image:
    """A canonical map (S, R, A) as an image in the axis order and position of the one it belongs to."""
    return placed(sitk.GetImageFromArray(map_array(array, source)), source)


def map_array(array: np.ndarray, source: SourceGrid) -> np.ndarray:
    """A canonical map (S, R, A) in the axis order of the array it belongs to; for a file that is (z, y, x)."""
    return np.ascontiguousarray(from_canonical(array, source))


def write_map(path: Path, array: np.ndarray, source: SourceGrid, canonical: Geometry) -> None:
    """Write a canonical map (S, R, A) in the axis order and position of the file it belongs to.

    The file holds no metadata of the input. It appears whole or not at all: it is read back and compared before it
    gets its name, because on a full disk the image library writes half a file without an error.

    Parameters
    ----------
    array : whole numbers are stored as uint8 when they fit, else uint16; other numbers as float32
    source, canonical : the two grids of the same image, as in `Volume`

    Raises
    ------
    DatasetError
        When the array is not on the grid.
    ResourceError
        When the file cannot be written completely.
    """
    path, array = Path(path), np.asarray(array)
    if array.shape != tuple(canonical.shape) or grid_difference(canonical_geometry(source), canonical):
        raise DatasetError(f"{path}: an array of shape {array.shape} is not on the image's grid {canonical.shape}.")
    if not path.name.endswith(_WRITABLE):
        raise UsageError(f"{path}: maps are written as {', '.join(_WRITABLE)}.")
    image = map_image(_storable(path, array), source)
    with atomic_path(path) as temporary:
        try:
            with library_messages():
                sitk.WriteImage(image, str(temporary), useCompression=True)
            back = read_file(temporary)[0]
            whole = np.array_equal(sitk.GetArrayViewFromImage(back), sitk.GetArrayViewFromImage(image))
        except (RuntimeError, CodedFault) as error:
            raise ResourceError(f"{path}: could not be written ({error}). Is the disk full?") from error
        if not whole or grid_difference(canonical, canonical_geometry(source_grid(back)), _WRITTEN):
            raise ResourceError(f"{path}: what was written reads back differently. Is the disk full?")


def _storable(path: Path, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise DatasetError(f"{path}: the map to be written holds not finite values.")
        return array.astype(np.float32)
    if array.dtype in (np.uint8, np.uint16):
        return array
    low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
    if low < 0 or high > 65535:
        raise DatasetError(f"{path}: the map to be written holds values {low} to {high}, expected 0 to 65535.")
    return array.astype(np.uint8 if high < 256 else np.uint16)
