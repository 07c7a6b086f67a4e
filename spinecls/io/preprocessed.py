"""Preprocessed cases on disk: compressed arrays with checksums, and one JSON file a case that makes them valid.

Below `<preprocessed>/<Dataset>/` the folder `native` holds what no plan changes, shared by all configurations, and
`<plans>_<configuration>` the image on that configuration's grid. The JSON file is deleted before the arrays of a case
are touched and written after them, so a killed process leaves either a whole case or none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import blosc2
import numpy as np

from spinecls import files
from spinecls.errors import DatasetError
from spinecls.geometry import Geometry

STORAGE_VERSION = 1
NATIVE = "native"
ARRAY_ENDINGS = {"image": ".b2nd", "map": "_map.b2nd", "structures": "_structures.b2nd"}

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
    marrow: tuple[tuple[float, float], ...] | None
    annotation_form: Mapping[str, Mapping] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class GridPart:
    """The image on the grid of one configuration; see `PreprocessedCase`."""

    identifier: str
    image: np.ndarray
    geometry: Geometry
    vertebra_map: np.ndarray | None
    structures: np.ndarray | None
    normalisation: tuple[tuple[float, float], ...]


@dataclass(frozen=True, kw_only=True)
class PreprocessedCase(NativePart):
    """One case, ready for training.

    Attributes
    ----------
    native : (C, S, R, A) on `native_geometry`; uint8, int16 or uint16 where that holds the values exactly, else float32
    native_map : (S, R, A) uint8 codes of levels, or None; native_structures : likewise codes of structures
    image : (C, S', R', A') float16, normalised, on `geometry`
    vertebra_map, structures : (S', R', A') uint8 on `geometry`, or None
    vertebrae : from head to feet, each with `level`, `centre_lps` and `box_lps` (world mm, None where unknown),
        `in_map`, `truncated` (its voxels touch the first or last row or column of the uncropped image) and `readings`,
        each with `classes` (names), `confidence` and `reader`
    marrow : median and scaled median absolute deviation of marrow a channel, in native intensities; None without a map
    normalisation : (centre, scale) a channel: image = (native - centre) / scale
    annotation_form : how loose the annotation is
    """

    image: np.ndarray
    geometry: Geometry
    vertebra_map: np.ndarray | None
    structures: np.ndarray | None
    normalisation: tuple[tuple[float, float], ...]


def grid_folder_name(plans_name: str, configuration: str) -> str:
    """Name of the folder of one configuration's images."""
    return f"{plans_name}_{configuration}"


def grid_settings(spacing_mm: Iterable[float], normalisation: Iterable[str]) -> str:
    """Hash of that part of a plan that the stored images depend on."""
    return files.text_hash([STORAGE_VERSION, [float(s) for s in spacing_mm], list(normalisation)])


NATIVE_SETTINGS = files.text_hash([STORAGE_VERSION, NATIVE])


def save_native(dataset_folder: Path, part: NativePart, inputs: str) -> None:
    """Store what all configurations share; `inputs` is the hash of the files and rows that it was made from."""
    values = {
        "patient": part.patient,
        "site": part.site,
        "geometry": part.native_geometry.as_dict(),
        "vertebrae": list(part.vertebrae),
        "marrow": part.marrow,
        "annotation_form": part.annotation_form,
    }
    arrays = {"image": part.native, "map": part.native_map, "structures": part.native_structures}
    _save(dataset_folder / NATIVE, part.identifier, arrays, values, inputs, NATIVE_SETTINGS)


def save_grid(dataset_folder: Path, plans_config: str, part: GridPart, inputs: str, settings: str) -> None:
    """Store the image of one configuration; `settings` comes from `grid_settings`."""
    values = {"geometry": part.geometry.as_dict(), "normalisation": part.normalisation}
    arrays = {"image": part.image, "map": part.vertebra_map, "structures": part.structures}
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


def is_stored(folder: Path, identifier: str, inputs: str, settings: str) -> bool:
    """Whether a case is stored, undamaged and made from these inputs with these settings."""
    record_path = folder / f"{identifier}.json"
    if not record_path.is_file():
        return False
    try:
        record = _read_record(folder, identifier)
        if (record["inputs"], record["settings"]) != (inputs, settings):
            return False
        for name in record["arrays"]:
            _read_checked(folder, record, name)
    except DatasetError:
        return False
    return True


def stored_cases(dataset_folder: Path, plans_config: str) -> tuple[str, ...]:
    """Identifiers of the cases that are whole in a configuration's folder, sorted."""
    names = [{path.stem for path in (dataset_folder / folder).glob("*.json")} for folder in (plans_config, NATIVE)]
    return tuple(sorted(names[0] & names[1]))


def check_stored(dataset_folder: Path, plans_config: str, settings: str, identifiers: Iterable[str]) -> None:
    """Refuse cases that are missing, or were made for another plan or from other annotations than their native part.

    Raises
    ------
    DatasetError
        Naming all such cases and the command that redoes them.
    """
    with ThreadPoolExecutor(4) as pool:
        faults = list(pool.map(lambda name: _fault(dataset_folder, plans_config, settings, name), identifiers))
    found = [fault for fault in faults if fault]
    if found:
        shown = "\n".join(found[:10]) + (f"\n... and {len(found) - 10} more" if len(found) > 10 else "")
        folder = dataset_folder / plans_config
        raise DatasetError(f"{folder}: not ready for training.\n{shown}\n{_advice(dataset_folder)}")


def _fault(dataset_folder: Path, plans_config: str, settings: str, identifier: str) -> str | None:
    if not all((dataset_folder / part / f"{identifier}.json").is_file() for part in (NATIVE, plans_config)):
        return f"{identifier}: not preprocessed"
    native = _read_record(dataset_folder / NATIVE, identifier)
    grid = _read_record(dataset_folder / plans_config, identifier)
    if grid["settings"] != settings:
        return f"{identifier}: preprocessed with another spacing or normalisation than the plan's"
    if grid["inputs"] != native["inputs"]:
        return f"{identifier}: the image or its annotation changed since"
    return None


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
    native = _read_record(native_folder, identifier)
    grid = _read_record(grid_folder, identifier)
    if native["inputs"] != grid["inputs"]:
        raise DatasetError(
            f"Case {identifier}: {grid_folder / identifier}.json was made from another image or annotation than the "
            f"file of this name in {native_folder}. {_advice(dataset_folder)}"
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
        marrow=None if native["marrow"] is None else tuple(tuple(pair) for pair in native["marrow"]),
        annotation_form=native["annotation_form"],
        image=_read_array(grid_folder, grid, "image"),
        geometry=Geometry.from_dict(grid["geometry"]),
        vertebra_map=_read_array(grid_folder, grid, "map"),
        structures=_read_array(grid_folder, grid, "structures"),
        normalisation=tuple(tuple(pair) for pair in grid["normalisation"]),
    )


def _read_record(folder: Path, identifier: str) -> dict:
    path = folder / f"{identifier}.json"
    if not path.is_file():
        raise DatasetError(f"Case {identifier}: {path} does not exist. {_advice(folder.parent)}")
    record = files.read_json(path)
    needed = {"version", "identifier", "inputs", "settings", "geometry", "arrays"}
    complete = isinstance(record, dict) and needed <= record.keys() and "image" in record["arrays"]
    if not complete or record["identifier"] != identifier or record["version"] != STORAGE_VERSION:
        raise DatasetError(
            f"Case {identifier}: {path} is not a record of this case in storage version {STORAGE_VERSION}. "
            f"{_advice(folder.parent)}"
        )
    return record


def _read_checked(folder: Path, record: Mapping, name: str) -> bytes:
    path = folder / f"{record['identifier']}{ARRAY_ENDINGS[name]}"
    expected = record["arrays"][name]
    if not path.is_file():
        found = "the file does not exist"
    else:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() == expected["sha256"]:
            return content
        found = f"the file is damaged ({len(content)} bytes, written with {expected['bytes']}, another checksum)"
    raise DatasetError(f"Case {record['identifier']}: {path}: {found}. {_advice(folder.parent)}")


def _read_array(folder: Path, record: Mapping, name: str) -> np.ndarray | None:
    if name not in record["arrays"]:
        return None
    return blosc2.ndarray_from_cframe(_read_checked(folder, record, name))[...]


def _advice(dataset_folder: Path) -> str:
    return f"Run spinecls_preprocess -d {dataset_folder.name} again; it redoes damaged and changed cases only."
