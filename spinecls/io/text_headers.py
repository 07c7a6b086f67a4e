"""What the headers of NRRD and MetaImage files say that the image library does not pass on.

It fills in what is missing (edges of 1 mm, axes along those of the patient) and ignores what contradicts, without a
word.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spinecls.io.affine import times
from spinecls.io.findings import CodedFault
from spinecls.io.remedies import python_line

if TYPE_CHECKING:
    from spinecls.io.source_grid import SourceGrid

Notes = list[tuple[str, str]]

_HEADER_BYTES = 1 << 20
_NO_PLACE = "the axes are assumed to run left-posterior-superior"
_MILLIMETRES = ("mm", "millimeter", "millimetre", "millimeters", "?", "")
_OPPOSITE = dict(zip("RLAPIS", "LRPASI", strict=True))
_COLOURS = ("RGB-color", "RGBA-color", "3-color", "4-color", "HSV-color", "XYZ-color")


def text_fields(path: Path) -> dict[str, str]:
    """Fields of the header of a NRRD or MetaImage file by lower-case name; empty for another or no readable file."""
    try:
        with open(path, "rb") as stream:
            start = stream.read(4)
            nrrd = start == b"NRRD"
            if not nrrd and not path.name.lower().endswith((".mha", ".mhd")):
                return {}
            start += stream.read(_HEADER_BYTES)
    except OSError:
        return {}
    separators = (":=", ":") if nrrd else ("=",)
    fields = {}
    for line in start.decode("latin-1").splitlines():
        separator = next((s for s in separators if s in line), None)
        if nrrd and not line.strip():
            break
        if separator is None:
            continue
        name, _, value = line.partition(separator)
        fields[name.strip().lower()] = value.strip()
        if name.strip() == "ElementDataFile":
            break
    return fields


def check_text_header(path: Path, fields: Mapping[str, str]) -> None:
    """Refuse what the library would read otherwise than it was meant.

    Raises
    ------
    CodedFault
        E307 a segmentation in layers, E403 colours, E404 no voxel edges, E405 no directions, E418 another unit.
    """
    if segments(fields) and int(fields.get("dimension", "3")) > 3:
        raise CodedFault("E307", path, segmentation_text(fields))
    kinds = fields.get("kinds", "").split()
    if any(kind in _COLOURS for kind in kinds):
        text = f"a colour image (kinds: {fields['kinds']}), expected one real number a voxel. Export the scan itself."
        raise CodedFault("E403", path, text)
    rows = fields.get("space directions", "")
    if "space" in fields and "dimension" in fields and (not rows or ("none" in rows and fields["dimension"] == "3")):
        text = f"the header names a space, but its directions read {rows or 'nothing'!r}, so voxel edges and axes are "
        raise CodedFault("E405", path, text + "not known. Export it again, with three directions.")
    unit = next((u for u in _units(fields) if u.lower() not in _MILLIMETRES), None)
    if unit is not None:
        text = f"the header gives its lengths in {unit!r}, which the image library reads as millimetres. Write it in "
        text += "millimetres, such as for metres: "
        name = path.as_posix()
        scaled = (f"i.Set{field}([1000 * v for v in i.Get{field}()])" for field in ("Spacing", "Origin"))
        line = python_line(f"i = s.ReadImage('{name}')", *scaled, f"s.WriteImage(i, '{name}')")
        raise CodedFault("E418", path, f"{text}{line}")
    if "ndims" in fields and not {"elementspacing", "elementsize"} & set(fields):
        raise CodedFault("E404", path, "the header says no ElementSpacing (voxel edges, mm). Add it to the header.")


def _units(fields: Mapping[str, str]) -> list[str]:
    listed = fields.get("space units", "").replace('"', " ").split()
    return [*listed, fields.get("distanceunits", "")]


def text_header_notes(fields: Mapping[str, str], grid: SourceGrid) -> Notes:
    """Coded warnings about what is missing in a header or contradicts the grid that the library made of it."""
    if "ndims" in fields:
        return _meta_image_notes(fields, grid)
    space = fields.get("space", "").lower()
    if "dimension" not in fields or _is_anatomical(space):
        return []
    named = f"the space {fields['space']!r}, which" if space else "no space and"
    if not fields.get("space directions"):
        return [("W407", f"the header names no directions of its axes, {_NO_PLACE}")]
    return [("W407", f"the header names {named} does not say where left and front are; LPS is assumed")]


def _is_anatomical(space: str) -> bool:
    parts = space.removesuffix("-time").removesuffix("t").split("-")
    words = {"left", "right", "anterior", "posterior", "superior", "inferior"}
    return (len(parts) == 3 and set(parts) <= words) or (len(parts[0]) == 3 and set(parts[0]) <= set("lraspi"))


def _meta_image_notes(fields: Mapping[str, str], grid: SourceGrid) -> Notes:
    notes = []
    if not {"transformmatrix", "rotation", "orientation"} & set(fields):
        notes.append(("W407", f"the header has no TransformMatrix, {_NO_PLACE}"))
    # The letters of MetaImage name the side that an axis comes from.
    meant = "".join(_OPPOSITE[letter] for letter in grid.orientation)
    told = fields.get("anatomicalorientation", "").upper()
    if len(told) == 3 and set(told) <= set(_OPPOSITE) and told != meant and "transformmatrix" in fields:
        text = f"AnatomicalOrientation says {told}, the TransformMatrix {meant}; the matrix is taken, as in every "
        notes.append(("W423", text + "viewer. Look whether left is left"))
    edges = {name: _numbers(fields[name]) for name in ("elementspacing", "elementsize") if name in fields}
    if len(edges) == 2:
        spacing, size = edges.values()
        if len(spacing) == len(size) == 3 and np.any(np.abs(size - spacing) > 0.01 * spacing):
            text = f"ElementSpacing says {times(spacing)} mm, ElementSize {times(size)} mm; the spacing is taken"
            notes.append(("W423", text))
    return notes


def _numbers(text: str) -> np.ndarray:
    try:
        return np.array([float(part) for part in text.split()])
    except ValueError:
        return np.array([])


def segments(fields: Mapping[str, str]) -> dict[str, str]:
    """Name -> value of the segments that 3D Slicer wrote into a header."""
    label_values = {}
    for name, value in fields.items():
        if name.startswith("segment") and name.endswith("_name"):
            label_values[value] = fields.get(name.replace("_name", "_labelvalue"), "?")
    return label_values


def segmentation_text(fields: Mapping[str, str]) -> str:
    """What a segmentation of 3D Slicer is, and how to make a map of it."""
    named = segments(fields)
    shown = list(named.items())[:6]
    listed = ", ".join(f"{name} = {value}" for name, value in shown) + (", ..." if len(named) > len(shown) else "")
    layers = {value for name, value in fields.items() if name.startswith("segment") and name.endswith("_layer")}
    text = f"is a segmentation of 3D Slicer with {len(named)} segments ({listed})"
    text += f" in {len(layers)} layers. " if len(layers) > 1 else ". "
    return text + (
        "For a map, open it in 3D Slicer with its image, and in the module Segmentations choose Export to labelmap, "
        "the image as reference volume; save it as labelsTr/<case>.nii.gz, and name its values under vertebrae of "
        "dataset.json."
    )
