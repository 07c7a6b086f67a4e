"""Records of preprocessed cases: whether a case is stored, whole, and made for this plan. No array is unpacked here.

Below `<preprocessed>/<Dataset>/` the folder `native` holds what no plan changes, shared by all configurations, and
`<plans>_<configuration>` the image on that configuration's grid. The JSON record of a case is deleted before its arrays
are touched and written after them, so a killed process leaves either a whole case or none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from spinecls import files
from spinecls.errors import DatasetError

STORAGE_VERSION = 1
NATIVE = "native"
ARRAY_ENDINGS = {
    "image": ".b2nd",
    "map": "_map.b2nd",
    "structures": "_structures.b2nd",
    "readers": "_readers.b2nd",
    "chances": "_chances.b2nd",
}


def grid_folder_name(plans_name: str, configuration: str) -> str:
    """Name of the folder of one configuration's images."""
    return f"{plans_name}_{configuration}"


def grid_settings(spacing_mm: Iterable[float], normalisation: Iterable[str]) -> str:
    """Hash of that part of a plan that the stored images depend on."""
    return files.text_hash([STORAGE_VERSION, [float(s) for s in spacing_mm], list(normalisation)])


NATIVE_SETTINGS = files.text_hash([STORAGE_VERSION, NATIVE])


def is_stored(folder: Path, identifier: str, inputs: str, settings: str) -> bool:
    """Whether a case is stored, undamaged and made from these inputs with these settings."""
    record_path = folder / f"{identifier}.json"
    if not record_path.is_file():
        return False
    try:
        record = read_record(folder, identifier)
        if (record["inputs"], record["settings"]) != (inputs, settings):
            return False
        for name in record["arrays"]:
            read_checked(folder, record, name)
    except DatasetError:
        return False
    return True


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
        raise DatasetError(f"{folder}: not ready for training.\n{shown}\n{advice(dataset_folder)}")


def _fault(dataset_folder: Path, plans_config: str, settings: str, identifier: str) -> str | None:
    if not all((dataset_folder / part / f"{identifier}.json").is_file() for part in (NATIVE, plans_config)):
        return f"{identifier}: not preprocessed"
    native = read_record(dataset_folder / NATIVE, identifier)
    grid = read_record(dataset_folder / plans_config, identifier)
    if grid["settings"] != settings:
        return f"{identifier}: preprocessed with another spacing or normalisation than the plan's"
    if grid["inputs"] != native["inputs"]:
        return f"{identifier}: the image or its annotation changed since"
    return None


def read_record(folder: Path, identifier: str) -> dict:
    """Record of a case; one that is missing, of another case or of another storage version raises `DatasetError`."""
    path = folder / f"{identifier}.json"
    if not path.is_file():
        raise DatasetError(f"Case {identifier}: {path} does not exist. {advice(folder.parent)}")
    record = files.read_json(path)
    needed = {"version", "identifier", "inputs", "settings", "geometry", "arrays"}
    complete = isinstance(record, dict) and needed <= record.keys() and "image" in record["arrays"]
    if not complete or record["identifier"] != identifier or record["version"] != STORAGE_VERSION:
        raise DatasetError(
            f"Case {identifier}: {path} is not a record of this case in storage version {STORAGE_VERSION}. "
            f"{advice(folder.parent)}"
        )
    return record


def is_annotated(record: Mapping) -> bool:
    """Whether the case of a native record has rows or maps; others serve as images only and belong to no fold."""
    return bool(record["vertebrae"]) or set(record["arrays"]) != {"image"}


def read_checked(folder: Path, record: Mapping, name: str) -> bytes:
    """Content of the file of an array, by its name in `ARRAY_ENDINGS`; a damaged one raises `DatasetError`."""
    path = folder / f"{record['identifier']}{ARRAY_ENDINGS[name]}"
    expected = record["arrays"][name]
    if not path.is_file():
        found = "the file does not exist"
    else:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() == expected["sha256"]:
            return content
        found = f"the file is damaged ({len(content)} bytes, written with {expected['bytes']}, another checksum)"
    raise DatasetError(f"Case {record['identifier']}: {path}: {found}. {advice(folder.parent)}")


def advice(dataset_folder: Path) -> str:
    """What to do about a case that cannot be used."""
    return f"Run spinecls_preprocess -d {dataset_folder.name} again; it redoes damaged and changed cases only."
