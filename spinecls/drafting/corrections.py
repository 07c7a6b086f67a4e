"""What people corrected in drafts, back in a dataset: maps and points, which count as exact from then on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spinecls import files
from spinecls.anatomy import RANK, parse_level
from spinecls.drafting.drafts import FORMS, changed_drafts, forget_drafts
from spinecls.errors import DatasetError, UsageError, some_names
from spinecls.geometry import Geometry
from spinecls.io.images import read_header, read_label_map, write_map
from spinecls.io.source_grid import SourceGrid, canonical_geometry, grid_difference
from spinecls.io.table_rewriting import rewrite_table
from spinecls.io.text_headers import segments, text_fields
from spinecls.records import Case, DatasetDescription, RawDataset

POINTS = (".mrk.json", ".json")
MAPS = (".seg.nrrd", ".nii.gz", ".nii", ".nrrd", ".mha")
PLACE = ("x_mm", "y_mm", "z_mm")

_OFF_LATTICE_VOXELS = 0.05
"""How far the voxels of a map may lie from those of the image, for rounding of headers."""


@dataclass(frozen=True)
class Applied:
    """Cases of which corrected maps and points were taken, and the earlier table, where points made a new one."""

    maps: tuple[str, ...]
    points: tuple[str, ...]
    earlier_table: Path | None = None


def apply_corrections(dataset: RawDataset, cases: Mapping[str, Case], folder: Path) -> Applied:
    """Take every corrected file of a folder, named by its case, into the dataset.

    All files are read and judged before the first is taken.

    Parameters
    ----------
    cases : by name, those that corrections may be of
    folder : labelsTr of the dataset itself means the drafts in it that were changed since they were drawn

    Raises
    ------
    UsageError
        When there is nothing to take.
    DatasetError
        When a file is of no such case, or cannot be read as what it is.
    """
    paths = _corrected(dataset, cases, folder)
    maps = {case: _map(dataset.description, cases[case], path) for case, path in paths.items() if not _is_points(path)}
    points = {case: _points(dataset.description, path) for case, path in paths.items() if _is_points(path)}
    for case, level_map in maps.items():
        source, geometry = _grid(cases[case])
        write_map(_map_path(dataset, case), level_map, source, geometry)
    for case in points:
        # The draft would be taken for a map of what the points say.
        _map_path(dataset, case).unlink(missing_ok=True)
    kept = _write_points(dataset.folder / "vertebraeTr.csv", points) if points else None
    _unmark(dataset.folder / FORMS, paths)
    forget_drafts(dataset.folder, paths)
    return Applied(tuple(maps), tuple(points), kept)


def _corrected(dataset: RawDataset, cases: Mapping[str, Case], folder: Path) -> dict[str, Path]:
    """Case -> its corrected file."""
    if not folder.is_dir():
        raise UsageError(f"--apply {folder}: no such folder. Give the folder of the corrected files.")
    endings = (*MAPS, *POINTS)
    named = {path: next((e for e in endings if path.name.endswith(e)), None) for path in sorted(folder.iterdir())}
    paths: dict[str, Path] = {}
    own = folder.resolve() == (dataset.folder / "labelsTr").resolve()
    changed = changed_drafts(dataset.folder, dataset.description.file_ending) if own else []
    for path, ending in named.items():
        if ending is None or path.name.startswith("."):
            continue
        case = path.name[: -len(ending)]
        if own and case not in changed:
            continue
        if case not in cases:
            raise DatasetError(f"{path}: no case is called {case!r}. Name the file as the case, such as {min(cases)}.")
        if case in paths:
            raise DatasetError(f"{path}: {paths[case].name} is of the same case. Keep one of them.")
        paths[case] = path
    if not paths:
        what = "no draft in it was changed since it was drawn" if own else f"no file of a case ({', '.join(endings)})"
        raise UsageError(f"--apply {folder}: {what}, so there is nothing to take.")
    return paths


def _is_points(path: Path) -> bool:
    return path.name.endswith(POINTS)


def _grid(case: Case) -> tuple[SourceGrid, Geometry]:
    """Grid of the image of a case as it lies in its file, and canonical."""
    source, _ = read_header(case.images[0])
    return source, canonical_geometry(source)


def _map_path(dataset: RawDataset, case: str) -> Path:
    return dataset.folder / "labelsTr" / f"{case}{dataset.description.file_ending}"


def _map(description: DatasetDescription, case: Case, path: Path) -> np.ndarray:
    """A corrected map on the grid of its image, in the codes of the dataset."""
    drawn, grid = read_label_map(path)
    names = {int(value): name for name, value in segments(text_fields(path)).items() if value.isdigit()}
    values = [int(value) for value in np.unique(drawn) if value not in (0, description.ignore_label)]
    levels = {value: _code_of(value, names, description.levels, path) for value in values}
    coded = np.where(drawn == description.ignore_label, drawn, 0)
    for value, code in levels.items():
        coded[drawn == value] = code
    return on_grid(coded, grid, _grid(case)[1], path)


def _code_of(value: int, names: Mapping[int, str], codes: Mapping[str, int], path: Path) -> int:
    """Code of the dataset for a value of a corrected map: by the name of its segment, else the value itself."""
    if value in names:
        level = parse_level(names[value])
        if level is None or level not in codes:
            known = ", ".join(sorted(codes, key=RANK.__getitem__))
            raise DatasetError(f"{path}: segment {names[value]!r} is no vertebra of the dataset ({known}). Rename it.")
        return codes[level]
    if value not in codes.values():
        raise DatasetError(f"{path}: value {value} stands for no vertebra. Values of the dataset: {dict(codes)}.")
    return value


def on_grid(drawn: np.ndarray, grid: Geometry, image: Geometry, path: Path) -> np.ndarray:
    """A map on the grid of its image; one that was cut to what is drawn is laid where it lies.

    Parameters
    ----------
    drawn, grid : (S, R, A) map and its canonical grid

    Raises
    ------
    DatasetError
        When its voxels are not those of the image.
    """
    if grid_difference(image, grid) is None:
        return drawn
    shape = np.array(drawn.shape)
    corners = image.to_index(grid.to_world(np.array([np.zeros(3), shape - 1])))
    first = np.rint(corners[0]).astype(int)
    if np.abs(corners - [first, first + shape - 1]).max() > _OFF_LATTICE_VOXELS:
        raise DatasetError(
            f"{path}: its voxels are not those of the image (voxels of {grid.spacing_mm} mm, of the image "
            f"{image.spacing_mm}). Draw on the image of the dataset, or export with it as the reference volume."
        )
    result = np.zeros(image.shape, drawn.dtype)
    low, high = np.maximum(first, 0), np.minimum(first + shape, image.shape)
    inside = tuple(slice(a, max(a, b)) for a, b in zip(low, high, strict=True))
    source = tuple(slice(a, max(a, b)) for a, b in zip(low - first, high - first, strict=True))
    result[inside] = drawn[source]
    if (result > 0).sum() < (drawn > 0).sum():
        raise DatasetError(f"{path}: reaches beyond the image. Draw on the image of the dataset.")
    return result


def _points(description: DatasetDescription, path: Path) -> dict[str, tuple[float, float, float]]:
    """Level -> centre (LPS mm), from a markups file of 3D Slicer."""
    content = files.read_json(path)
    try:
        (markup,) = content["markups"]
        system = str(markup.get("coordinateSystem", "LPS")).upper()
        sign = {"LPS": (1, 1, 1), "RAS": (-1, -1, 1)}[system]
        placed = [
            (str(point["label"]), np.array(sign) * np.array(point["position"], float))
            for point in markup["controlPoints"]
            if point.get("positionStatus", "defined") == "defined"
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        text = f"{path}: no list of points of 3D Slicer ({type(error).__name__}: {error}). Save it from Markups."
        raise DatasetError(text) from None
    centres: dict[str, tuple[float, float, float]] = {}
    for label, place in placed:
        level = parse_level(label)
        if level is None or level not in description.levels:
            raise DatasetError(f"{path}: point {label!r} is no vertebra of the dataset. Name it L1, L2, ...")
        if level in centres or place.shape != (3,) or not np.isfinite(place).all():
            raise DatasetError(f"{path}: point {label!r} twice, or without a place. Keep one with three numbers.")
        centres[level] = (float(place[0]), float(place[1]), float(place[2]))
    return centres


def _write_points(path: Path, points: Mapping[str, Mapping[str, tuple[float, float, float]]]) -> Path | None:
    """Centres into the table: rows of a vertebra get them, others are added; returns the earlier table."""
    rows = files.read_csv(path) if path.exists() else []
    if rows and (missing := [name for name in ("case", "vertebra") if name not in rows[0]]):
        raise DatasetError(f"{path}: has no column {missing[0]!r} (with commas, in small letters).")
    columns = list(dict.fromkeys([*(rows[0] if rows else ("case", "vertebra", "class")), *PLACE]))
    left = {(case, level): centre for case, centres in points.items() for level, centre in centres.items()}
    written = []
    for row in rows:
        key = (row["case"], parse_level(row["vertebra"]) or row["vertebra"])
        centre = points.get(key[0], {}).get(key[1])
        left.pop(key, None)
        written.append({**dict.fromkeys(columns, ""), **row, **(_cells(centre) if centre else {})})
    patients = {row["case"]: {k: row[k] for k in ("patient", "site") if k in row} for row in rows}
    for (case, level), centre in left.items():
        told = {**dict.fromkeys(columns, ""), **patients.get(case, {})}
        written.append({**told, "case": case, "vertebra": level, **_cells(centre)})
    return rewrite_table(path, columns, written, "prelabel")


def _cells(centre: tuple[float, float, float]) -> dict[str, str]:
    return {name: f"{value:.3f}" for name, value in zip(PLACE, centre, strict=True)}


def _unmark(path: Path, cases: Iterable[str]) -> None:
    """Say no longer that the vertebrae of cases are drafts."""
    content = files.read_json(path) if path.is_file() else {}
    for case in cases:
        entry = content.get(case, {})
        entry.pop("vertebrae", None)
        if not entry:
            content.pop(case, None)
    if path.is_file():
        files.write_json(path, content)


def told(applied: Applied) -> str:
    """What was taken, as a sentence."""
    parts = [f"maps of {some_names(list(applied.maps))}"] if applied.maps else []
    parts += [f"points of {some_names(list(applied.points))}"] if applied.points else []
    kept = f" The earlier table is {applied.earlier_table.name}." if applied.earlier_table else ""
    return f"Taken as exact: {', '.join(parts)}.{kept} Run spinecls_plan_and_preprocess again."
