"""Preprocessed cases on disk: compressed arrays with checksums, and one JSON record a case that makes them valid."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import blosc2
import numpy as np

from spinecls import files
from spinecls.errors import DatasetError
from spinecls.geometry import Geometry
from spinecls.io.preprocessed_checks import check_stored, is_stored
from spinecls.io.preprocessed_records import (
    ARRAY_ENDINGS,
    NATIVE,
    NATIVE_SETTINGS,
    STORAGE_VERSION,
    GridRecord,
    NativeRecord,
    PreparedVertebra,
    StoredArray,
    advice,
    grid_folder_name,
    grid_settings,
    read_checked,
    read_grid,
    read_native,
    write_record,
)
from spinecls.io.rigid_motion import RigidMotion
from spinecls.records import AnnotationForms

__all__ = [
    "NATIVE",
    "GridPart",
    "NativePart",
    "PreprocessedCase",
    "StoredCases",
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
    vertebrae: tuple[PreparedVertebra, ...]
    annotation_form: AnnotationForms = field(default_factory=AnnotationForms)
    registration: tuple[RigidMotion | None, ...] = ()


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
    vertebrae : from head to feet
    normalisation : (centre, scale) a channel: image = (native - centre) / scale
    annotation_form : how loose the annotation is
    registration : motion by which each further channel was aligned onto the first, None where the search failed; empty
        when channels were not aligned
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
    folder = dataset_folder / NATIVE
    arrays = {"image": part.native, "map": part.native_map, "structures": part.native_structures}
    record = NativeRecord(
        version=STORAGE_VERSION,
        identifier=part.identifier,
        inputs=inputs,
        settings=NATIVE_SETTINGS,
        patient=part.patient,
        site=part.site,
        geometry=part.native_geometry,
        vertebrae=part.vertebrae,
        annotation_form=part.annotation_form,
        registration=part.registration,
        arrays=_save_arrays(folder, part.identifier, arrays),
    )
    write_record(folder, record)


def save_grid(dataset_folder: Path, plans_config: str, part: GridPart, inputs: str, settings: str) -> None:
    """Store the image of one configuration; `settings` comes from `grid_settings`."""
    folder = dataset_folder / plans_config
    arrays = {
        "image": part.image,
        "map": part.vertebra_map,
        "structures": part.structures,
        "readers": part.reader_maps,
        "chances": part.chance_percent,
    }
    record = GridRecord(
        version=STORAGE_VERSION,
        identifier=part.identifier,
        inputs=inputs,
        settings=settings,
        geometry=part.geometry,
        normalisation=part.normalisation,
        arrays=_save_arrays(folder, part.identifier, arrays),
    )
    write_record(folder, record)


def _save_arrays(folder: Path, identifier: str, arrays: Mapping[str, np.ndarray | None]) -> dict[str, StoredArray]:
    """Write the arrays of a case, whose record no longer holds and is deleted first."""
    (folder / f"{identifier}.json").unlink(missing_ok=True)
    stored = {}
    for name, array in arrays.items():
        path = folder / f"{identifier}{ARRAY_ENDINGS[name]}"
        if array is None:
            path.unlink(missing_ok=True)
            continue
        content = blosc2.asarray(np.ascontiguousarray(array), cparams=_COMPRESSION).to_cframe()
        files.write_bytes(path, content)
        stored[name] = StoredArray(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
    return stored


@dataclass(frozen=True)
class StoredCases:
    """Some cases of a dataset, read anew each time somebody goes through them; parameters as for `load_case`."""

    dataset_folder: Path
    plans_config: str
    identifiers: Sequence[str]

    def __iter__(self) -> Iterator[PreprocessedCase]:
        return (load_case(self.dataset_folder, self.plans_config, name) for name in self.identifiers)


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
    native, grid = read_native(dataset_folder, identifier), read_grid(dataset_folder, plans_config, identifier)
    native_folder, grid_folder = dataset_folder / NATIVE, dataset_folder / plans_config
    if native.inputs != grid.inputs:
        raise DatasetError(
            f"Case {identifier}: {grid_folder / identifier}.json was made from another image or annotation than the "
            f"file of this name in {native_folder}. {advice(dataset_folder)}"
        )
    return PreprocessedCase(
        identifier=identifier,
        patient=native.patient,
        site=native.site,
        native=_read_array(native_folder, native, "image"),
        native_geometry=native.geometry,
        native_map=_read_optional(native_folder, native, "map"),
        native_structures=_read_optional(native_folder, native, "structures"),
        vertebrae=native.vertebrae,
        annotation_form=native.annotation_form,
        registration=native.registration,
        image=_read_array(grid_folder, grid, "image"),
        geometry=grid.geometry,
        vertebra_map=_read_optional(grid_folder, grid, "map"),
        structures=_read_optional(grid_folder, grid, "structures"),
        reader_maps=_read_optional(grid_folder, grid, "readers"),
        chance_percent=_read_optional(grid_folder, grid, "chances"),
        normalisation=grid.normalisation,
    )


def _read_optional(folder: Path, record: NativeRecord | GridRecord, name: str) -> np.ndarray | None:
    return _read_array(folder, record, name) if name in record.arrays else None


def _read_array(folder: Path, record: NativeRecord | GridRecord, name: str) -> np.ndarray:
    return blosc2.ndarray_from_cframe(read_checked(folder, record, name))[...]
