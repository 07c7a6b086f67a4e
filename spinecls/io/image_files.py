"""One file, or one DICOM folder, as an image of the library that lies where every program would read it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NamedTuple

import SimpleITK as sitk

from spinecls.io.affine import times
from spinecls.io.dicom_series import read_dicom_series
from spinecls.io.file_kinds import image_stem, is_dicom
from spinecls.io.findings import CodedFault
from spinecls.io.image_checks import directions_notes
from spinecls.io.library_messages import library_messages, sheared_sforms_allowed
from spinecls.io.nifti_forms import compare_forms
from spinecls.io.nifti_gate import (
    MAX_SIDE,
    MAX_VOXELS,
    NiftiHeader,
    check_file,
    check_nifti_bytes,
    is_nifti,
    one_value,
    read_nifti_header,
    several_volumes,
)
from spinecls.io.remedies import SINGLE_DICOM, rewrite_by_sform
from spinecls.io.source_grid import SourceGrid, directions, source_grid
from spinecls.io.text_headers import check_text_header, segmentation_text, segments, text_fields, text_header_notes

Notes = list[tuple[str, str]]
"""Coded warnings."""

_JUDGED = ("has unexpected scales in sform", "has non-orthogonal sform")
"""What the library says about NIfTI forms, which `nifti_forms` judges by how far voxels are moved."""


def refuse_segmentation(path: Path) -> None:
    """Raise `CodedFault` for a segmentation of 3D Slicer, which is no scan."""
    if path.is_file() and segments(fields := text_fields(path)):
        raise CodedFault("E307", path, f"{segmentation_text(fields)} It is no scan.")


def file_grid(path: Path) -> tuple[SourceGrid, Notes]:
    """Where the voxels of a file lie and coded warnings, from the header alone (a DICOM folder is read whole)."""
    if path.is_dir():
        image, notes = read_file(path)
        return source_grid(image), notes
    with library_messages() as messages:
        opened = _open(path)
        return opened.grid, _with_messages(opened.notes, messages)


def read_file(path: Path) -> tuple[sitk.Image, Notes]:
    """Whole image of a file or DICOM folder, three-dimensional, and coded warnings.

    Raises
    ------
    CodedFault
        When the file is missing, damaged, no volume of real numbers, or programs would put it at different places.
    """
    with library_messages() as messages:
        if path.is_dir():
            _refuse_folder_of_an_image(path)
            image, notes = read_dicom_series(path)
            return image, _with_messages(notes, messages)
        reader, grid, notes, header = _open(path)
        if header:
            notes = [*notes, *check_nifti_bytes(path, header)]
        try:
            with _leave_to_read(header):
                image = reader.Execute()
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise CodedFault("E302", path, f"the voxels cannot be read ({reason}). Copy the file again.") from None
    while image.GetDimension() > 3:
        image = image[..., 0]
    return placed(image, grid), _with_messages(notes, messages)


def placed(image: sitk.Image, grid: SourceGrid) -> sitk.Image:
    """The image, moved to where a grid says."""
    image.SetSpacing(grid.spacing_mm)
    image.SetOrigin(grid.origin_lps)
    image.SetDirection(grid.direction)
    return image


class _Opened(NamedTuple):
    """Header reader of a file that passed the gate, where its voxels lie, coded warnings, its header if it is NIfTI."""

    reader: sitk.ImageFileReader
    grid: SourceGrid
    notes: Notes
    header: NiftiHeader | None


def _open(path: Path) -> _Opened:
    check_file(path)
    header = read_nifti_header(path) if is_nifti(path) else None
    fields = {} if header else text_fields(path)
    check_text_header(path, fields)
    if header is None and is_dicom(path):
        raise CodedFault("E306", path, SINGLE_DICOM)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        with _leave_to_read(header):
            reader.ReadImageInformation()
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        if header is not None:
            check_nifti_bytes(path, header)
            if header.version == 2:
                text = "is NIfTI of version 2, which the image library does not read. Write it as version 1: "
                raise CodedFault("E306", path, text + rewrite_by_sform(path)) from None
        raise CodedFault("E306", path, f"cannot be read as an image ({reason}). Export it again.") from None
    size = list(reader.GetSize())
    while len(size) > 3 and size[-1] == 1:
        size.pop()
    if len(size) > 3:
        raise CodedFault("E402", path, several_volumes(path, size))
    if len(size) != 3:
        raise CodedFault("E402", path, f"a flat image of {times(size)} pixels, expected a volume.")
    if max(size) > MAX_SIDE or math.prod(size) > MAX_VOXELS:
        raise CodedFault("E401", path, f"the header says {times(size)} voxels, at most {MAX_VOXELS} are read.")
    if reader.GetNumberOfComponents() != 1 or "complex" in sitk.GetPixelIDValueAsString(reader.GetPixelID()):
        raise CodedFault("E403", path, f"its voxels are colours or vectors, {one_value(path)}")
    notes = directions_notes(path, size, reader.GetSpacing()[:3], reader.GetOrigin()[:3], directions(reader))
    if header is not None:
        straight = header.forms.straight
        grid = source_grid(reader) if straight is None else SourceGrid.of(size, straight)
        return _Opened(reader, grid, [*header.warnings, *notes, *compare_forms(path, header.forms, grid)], header)
    grid = source_grid(reader)
    return _Opened(reader, grid, [*notes, *text_header_notes(fields, grid)], None)


def _leave_to_read(header: NiftiHeader | None) -> AbstractContextManager:
    """The library reads no bent sform unless it is told to; that it is bent by little is known by now."""
    return nullcontext() if header is None or header.forms.straight is None else sheared_sforms_allowed()


def _refuse_folder_of_an_image(path: Path) -> None:
    """Some programs unpack `x.nii.gz` into a folder of that name."""
    if image_stem(path.name) is not None:
        inside = next((entry.name for entry in sorted(path.iterdir()) if image_stem(entry.name)), None)
        todo = "Give the image itself." if inside is None else f"Give the image in it, {inside}."
        raise CodedFault("E301", path, f"is a folder with the name of an image. {todo}")


def _with_messages(notes: Notes, messages: Sequence[str]) -> Notes:
    """Notes and what the library says besides."""
    return [*notes, *(("W419", f"the image library says: {text}") for text in messages if not text.endswith(_JUDGED))]
