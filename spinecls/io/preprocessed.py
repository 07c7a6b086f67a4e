"""Preprocessed cases on disk: compressed arrays with checksums, and one JSON record a case that makes them valid."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import blosc2
import numpy as np

from spinecls import files
from spinecls.errors import DatasetError
from spinecls.geometry import Geometry
from spinecls.io.preprocessed_records import (
    ARRAY_ENDINGS,
    NATIVE,
    NATIVE_SETTINGS,
    STORAGE_VERSION,
    advice,
    check_stored,
    grid_folder_name,
    grid_settings,
    is_stored,
    read_checked,
    read_record,
)

__all__ = [
    "NATIVE",
    "GridPart",
    "NativePart",
    "PreprocessedCase",
    "check_stored",
    "grid_folder_name",
    "grid_settings",
    "is_stored",
    "load_case",
    "save_grid",
    "save_native",
]

_COMPRESSION = {"codec": blosc2.Codec.ZSTD, "clevel": 1, "filters": [blosc2.Filter.SHUFFLE], "nthreads": 1}
"""Fast enough not to be noticed; higher levels cost ten times the time for a tenth less space."""


@dataclass(frozen=True, kw_only=True)
class NativePart:
    """What no plan changes: the image on its own grid, canonical axes, cropped to the body; see `PreprocessedCase`."""

    identifier: str
    patient: str
    site: str
    native: np.ndarray
    native_geometry: Geometry
    native_map: np.ndarray | None
    native_structures: np.ndarray | None
    vertebrae: tuple[Mapping, ...]
    annotation_form: Mapping[str, Mapping] = field(default_factory=dict)
    registration: tuple[Mapping, ...] = ()


@dataclass(frozen=True, kw_only=True)
class GridPart:
    """The image on the grid of one configuration; see `PreprocessedCase`."""

    identifier: str
    image: np.ndarray
    geometry: Geometry
    vertebra_map: np.ndarray | None
    structures: np.ndarray | None
    normalisation: tuple[tuple[float, float], ...]
    reader_maps: np.ndarray | None = None
    chance_percent: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class PreprocessedCase(NativePart):
    """One case, ready for training.

    Attributes
    ----------
    native : (C, S, R, A) on `native_geometry`; uint8, int16 or uint16 where that holds the values exactly, else float32
    native_map : (S, R, A) uint8 codes of levels, or None; native_structures : likewise codes of structures
    image : (C, S', R', A') float16, normalised, on `geometry`
    vertebra_map, structures : (S', R', A') uint8 on `geometry`, or None; of several readers what most drew
    reader_maps : (readers, S', R', A') uint8, the vertebra map of each, or None with fewer than two
    chance_percent : (S', R', A') uint8, chance of each voxel to be vertebra, 0 to 100, or None without such a map
    vertebrae : from head to feet, each with `level`, `centre_lps` and `box_lps` (world mm, None where unknown),
        `in_map`, `truncated` (its voxels touch the first or last row or column of the uncropped image) and `readings`,
        each with `classes` (names), `confidence` and `reader`
    normalisation : (centre, scale) a channel: image = (native - centre) / scale
    annotation_form : how loose the annotation is
    registration : motion by which each further channel was aligned onto the first, see `registration.RigidMotion`;
        empty when channels were not aligned
    """

    image: np.ndarray
    geometry: Geometry
    vertebra_map: np.ndarray | None
    structures: np.ndarray | None
    normalisation: tuple[tuple[float, float], ...]
    reader_maps: np.ndarray | None = None
    chance_percent: np.ndarray | None = None


def save_native(dataset_folder: Path, part: NativePart, inputs: str) -> None:
    """Store what all configurations share; `inputs` is the hash of the files and rows that it was made from."""
    values = {
        "patient": part.patient,
        "site": part.site,
        "geometry": part.native_geometry.as_dict(),
        "vertebrae": list(part.vertebrae),
        "annotation_form": part.annotation_form,
        "registration": list(part.registration),
    }
    arrays = {"image": part.native, "map": part.native_map, "structures": part.native_structures}
    _save(dataset_folder / NATIVE, part.identifier, arrays, values, inputs, NATIVE_SETTINGS)


def save_grid(dataset_folder: Path, plans_config: str, part: GridPart, inputs: str, settings: str) -> None:
    """Store the image of one configuration; `settings` comes from `grid_settings`."""
    values = {"geometry": part.geometry.as_dict(), "normalisation": part.normalisation}
    arrays = {
        "image": part.image,
        "map": part.vertebra_map,
        "structures": part.structures,
        "readers": part.reader_maps,
        "chances": part.chance_percent,
    }
    _save(dataset_folder / plans_config, part.identifier, arrays, values, inputs, settings)


def _save(folder: Path, identifier: str, arrays: Mapping, values: Mapping, inputs: str, settings: str) -> None:
    record = folder / f"{identifier}.json"
    record.unlink(missing_ok=True)
    stored = {}
    for name, array in arrays.items():
        path = folder / f"{identifier}{ARRAY_ENDINGS[name]}"
        if array is None:
            path.unlink(missing_ok=True)
            continue
        content = blosc2.asarray(np.ascontiguousarray(array), cparams=_COMPRESSION).to_cframe()
        files.write_bytes(path, content)
        stored[name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    header = {"version": STORAGE_VERSION, "identifier": identifier, "inputs": inputs, "settings": settings}
    files.write_json(record, header | values | {"arrays": stored})


def load_case(dataset_folder: Path, plans_config: str, identifier: str) -> PreprocessedCase:
    """Read one case; every array is checked against its checksum.

    Parameters
    ----------
    dataset_folder : `<preprocessed>/<Dataset>`
    plans_config : `<plans>_<configuration>`, see `grid_folder_name`

    Raises
    ------
    DatasetError
        When the case is missing or damaged, or when its two parts were made from different inputs; names the case, the
        file and the command that redoes it.
    """
    native_folder, grid_folder = dataset_folder / NATIVE, dataset_folder / plans_config
    native = read_record(native_folder, identifier)
    grid = read_record(grid_folder, identifier)
    if native["inputs"] != grid["inputs"]:
        raise DatasetError(
            f"Case {identifier}: {grid_folder / identifier}.json was made from another image or annotation than the "
            f"file of this name in {native_folder}. {advice(dataset_folder)}"
        )
    return PreprocessedCase(
        identifier=identifier,
        patient=native["patient"],
        site=native["site"],
        native=_read_array(native_folder, native, "image"),
        native_geometry=Geometry.from_dict(native["geometry"]),
        native_map=_read_array(native_folder, native, "map"),
        native_structures=_read_array(native_folder, native, "structures"),
        vertebrae=tuple(native["vertebrae"]),
        annotation_form=native["annotation_form"],
        registration=tuple(native.get("registration", ())),
        image=_read_array(grid_folder, grid, "image"),
        geometry=Geometry.from_dict(grid["geometry"]),
        vertebra_map=_read_array(grid_folder, grid, "map"),
        structures=_read_array(grid_folder, grid, "structures"),
        reader_maps=_read_array(grid_folder, grid, "readers"),
        chance_percent=_read_array(grid_folder, grid, "chances"),
        normalisation=tuple(tuple(pair) for pair in grid["normalisation"]),
    )


def _read_array(folder: Path, record: Mapping, name: str) -> np.ndarray | None:
    if name not in record["arrays"]:
        return None
    return blosc2.ndarray_from_cframe(read_checked(folder, record, name))[...]
