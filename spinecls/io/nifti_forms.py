"""Where a NIfTI header says that its voxels lie, and whether all programs that read it would agree.

A header places its voxels up to twice (qform and sform), tells the voxel edges up to twice (pixdim and the columns of
the sform) and names a unit that some programs ignore. Programs differ in what they prefer, so a result would lie
elsewhere than its image in some viewer unless all of them agree.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spinecls.io.affine import SAME_PLACE, SAME_VOXEL, Affine, apart, right_angled, times
from spinecls.io.findings import CodedFault
from spinecls.io.remedies import BY_LIBRARY, BY_SFORM, either, resample_sheared, rewrite, rewrite_at
from spinecls.io.source_grid import SourceGrid
from spinecls.types import triple

Notes = list[tuple[str, str]]

_CODES = range(6)
_UNITS = {1: "metre", 3: "micrometre"}
_TO_LPS = np.array([[-1], [-1], [1]])
_QUATERNION_ROUNDING = 1e-5
_HALF_TURN = 1e-6
_HALF_TURN_RADIANS = 1e-3
"""What a quaternion of three float32 cannot tell: near a half turn the fourth number is lost in their rounding."""
_BENT = 1e-5
"""Cosine between two axes from which on the image library cannot be trusted with an sform."""


@dataclass(frozen=True, kw_only=True)
class NiftiForms:
    """What a header says about place; a form is None where its code is 0. Axes in file order, LPS millimetres.

    `straight` is the sform at right angles where it is bent by a little, else None; `qform_radians` how far the turn of
    the qform may be rounded.
    """

    qform: Affine | None
    sform: Affine | None
    straight: Affine | None
    codes: tuple[int, int]
    edges_mm: tuple[float, float, float]
    qform_radians: float
    unit: int
    notes: Notes


def forms_of(path: Path, fields: Mapping, size: tuple[int, int, int]) -> NiftiForms:
    """Both forms of a header, and coded warnings.

    Raises
    ------
    CodedFault
        E405 for a matrix that cannot be used or is sheared, E420 for a code or quaternion that programs do not read
        alike.
    """
    codes = (fields["qform_code"], fields["sform_code"])
    for name, code in zip(("qform", "sform"), codes, strict=True):
        if code not in _CODES:
            text = f"the {name}_code is {code}, expected 0 to 5; some programs ignore such a {name}, others use it. "
            text += f"If {BY_LIBRARY} show the image where it belongs, keep a copy and run: {rewrite(path)}"
            raise CodedFault("E420", path, text)
    sform = _sform(path, fields["rows"]) if codes[1] else None
    straight, notes = (None, []) if sform is None else _straightened(path, sform, size)
    return NiftiForms(
        qform=_qform(path, fields) if codes[0] else None,
        sform=sform,
        straight=straight,
        codes=codes,
        edges_mm=triple(float(value) for value in fields["pixdim"][1:4]),
        qform_radians=_HALF_TURN_RADIANS if 1 - np.square(fields["quaternion"][:3]).sum() < _HALF_TURN else 0.0,
        unit=fields["unit"],
        notes=notes,
    )


def _sform(path: Path, rows: np.ndarray) -> Affine:
    lengths = np.linalg.norm(rows[:, :3], axis=0)
    if not np.all(np.isfinite(rows)) or np.any(lengths == 0) or abs(np.linalg.det(rows[:, :3] / lengths)) < 1e-3:
        text = "the sform matrix has a zero or not finite column, or two columns along one line. Convert it again from "
        raise CodedFault("E405", path, text + "DICOM, or give it the header of another series of the examination.")
    return Affine(_TO_LPS * rows[:, :3], _TO_LPS[:, 0] * rows[:, 3])


def _qform(path: Path, fields: Mapping) -> Affine:
    b, c, d, *offset = (float(value) for value in fields["quaternion"])
    qfac = fields["pixdim"][0]
    square = b * b + c * c + d * d
    if not (math.isfinite(square) and np.all(np.isfinite(offset))) or square > 1 + _QUATERNION_ROUNDING:
        text = f"the quaternion of its qform is ({b:g}, {c:g}, {d:g}), expected numbers whose squares sum to 1 at most."
        raise CodedFault("E420", path, text + " Convert it again from DICOM.")
    if qfac < 0 and qfac != -1:
        text = f"pixdim[0] is {qfac:g}, expected 1 or -1; some programs mirror the qform for it, others do not. "
        text += f"If {BY_LIBRARY} show the image where it belongs, keep a copy and run: {rewrite(path)}"
        raise CodedFault("E420", path, text)
    return Affine(_TO_LPS * _rotation(b, c, d, qfac) * fields["pixdim"][1:4], _TO_LPS[:, 0] * offset)


def _rotation(b: float, c: float, d: float, qfac: float) -> np.ndarray:
    """Rotation of a NIfTI quaternion, third column flipped for a `qfac` below 0."""
    rest = 1 - (b * b + c * c + d * d)
    if rest < 1e-7:
        scale = 1 / math.sqrt(b * b + c * c + d * d)
        a, b, c, d = 0.0, b * scale, c * scale, d * scale
    else:
        a = math.sqrt(rest)
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    if qfac < 0:
        rotation[:, 2] *= -1
    return rotation


def compare_forms(path: Path, forms: NiftiForms, grid: SourceGrid) -> Notes:
    """Coded warnings about fields that differ by less than half a voxel.

    Parameters
    ----------
    grid : where the image is taken to lie

    Raises
    ------
    CodedFault
        Where two ways to read the header place a voxel farther apart: E418 unit, E417 voxel edges, E415 qform and
        sform.
    """
    if forms.unit in _UNITS:
        _refuse_unit(path, forms, grid)
    if forms.qform is None and forms.sform is None:
        return [("W407", "has neither sform nor qform, the orientation is assumed to be left-posterior-superior")]
    edges = [] if forms.sform is None else _edges_notes(path, forms, forms.sform, grid)
    return [*edges, *_forms_notes(path, forms, grid)]


def _refuse_unit(path: Path, forms: NiftiForms, grid: SourceGrid) -> None:
    written = forms.sform or forms.qform or Affine(_TO_LPS * np.diag(forms.edges_mm), np.zeros(3))
    text = f"the header gives its lengths in {_UNITS[forms.unit]} (voxels of {times(grid.spacing_mm)} mm), and many "
    text += f"programs read them as millimetres ({times(forms.edges_mm)} mm). "
    raise CodedFault("E418", path, text + either(rewrite(path), rewrite_at(path, written)))


def _edges_notes(path: Path, forms: NiftiForms, sform: Affine, grid: SourceGrid) -> Notes:
    columns, edges = np.linalg.norm(sform.matrix, axis=0), np.array(forms.edges_mm)
    voxels = (np.abs(columns - edges) / edges * (np.array(grid.size) - 1)).max()
    text = f"pixdim says voxels of {times(forms.edges_mm)} mm, the columns of the sform {times(columns)} mm"
    if voxels > SAME_VOXEL:
        raise CodedFault("E417", path, f"{text}. {either(rewrite(path), rewrite_at(path, sform))}")
    return [("W417", f"{text}; {times(grid.spacing_mm)} mm are taken")] if voxels > SAME_PLACE else []


def _straightened(path: Path, sform: Affine, size: tuple[int, int, int]) -> tuple[Affine | None, Notes]:
    """The sform at right angles, None where it is so, and coded warnings."""
    lengths = np.linalg.norm(sform.matrix, axis=0)
    unit = sform.matrix / lengths
    if np.abs(unit.T @ unit - np.eye(3)).max() < _BENT:
        return None, []
    straight = Affine(right_angled(unit) * lengths, sform.origin)
    voxels, _ = apart(size, straight, sform)
    text = sheared_text(unit, voxels)
    if voxels > SAME_VOXEL:
        text += " Keep a copy and resample it onto right angles: "
        raise CodedFault("E405", path, text + resample_sheared(path, sform))
    return straight, [("W405", f"{text} The nearest right angles are taken")] if voxels > SAME_PLACE else []


def sheared_text(direction: np.ndarray, voxels: float) -> str:
    """How much unit columns (3, 3) miss right angles."""
    cosines = np.abs(direction.T @ direction - np.eye(3)).max()
    angle = math.degrees(math.asin(min(1.0, cosines)))
    return f"the axes are sheared by {angle:.2g} degrees, which moves voxels by up to {voxels:.2g} of their size."


def _forms_notes(path: Path, forms: NiftiForms, grid: SourceGrid) -> Notes:
    """Compare each form with what the library reads."""
    places = {"qform": forms.qform, "sform": forms.straight or forms.sform}
    named = {name: form for name, form in places.items() if form is not None}
    distances = {name: apart(grid.size, grid.affine, form) for name, form in named.items()}
    other = max(distances, key=distances.__getitem__)
    voxels, apart_mm = distances[other]
    edges = np.array(grid.spacing_mm)
    voxels -= forms.qform_radians * (edges * grid.size).max() / edges.min()
    if voxels <= SAME_PLACE:
        return []
    if len(distances) < 2:
        text = f"the image library reads its {other} {apart_mm:.3g} mm away from where the header says."
        raise CodedFault("E420", path, f"{text} Convert it again from DICOM.")
    taken = "sform" if other == "qform" else "qform"
    text = f"its qform (code {forms.codes[0]}) and sform (code {forms.codes[1]}) place a voxel up to {apart_mm:.3g} mm "
    text += "apart"
    if voxels <= SAME_VOXEL:
        return [("W415", f"{text}; the {taken} is taken")]
    if other == "sform":
        text += f". {BY_LIBRARY} show it by the qform, {BY_SFORM} by the sform. "
        raise CodedFault("E415", path, text + either(rewrite(path), rewrite_at(path, named["sform"])))
    text += ". ITK-SNAP, 3D Slicer, FSLeyes and nibabel show it by the sform, older programs by the qform. Keep a copy "
    text += "and run one. "
    text += f"By the sform: {rewrite(path)}. By the qform: {rewrite_at(path, named['qform'])}."
    raise CodedFault("E415", path, text)
