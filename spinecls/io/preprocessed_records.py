"""Records of preprocessed cases, read and written. No array is unpacked here.

Below `<preprocessed>/<Dataset>/` the folder `native` holds what no plan changes, shared by all configurations, and
`<plans>_<configuration>` the image on that configuration's grid. The JSON record of a case is deleted before its arrays
are touched and written after them, so a killed process leaves either a whole case or none.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from spinecls import files
from spinecls.errors import DatasetError
from spinecls.geometry import Geometry
from spinecls.io.annotation_forms import plain_forms
from spinecls.io.rigid_motion import RigidMotion
from spinecls.plain import from_plain
from spinecls.records import AnnotationForms, ClassReading
from spinecls.types import Point

STORAGE_VERSION = 1
NATIVE = "native"
ARRAY_ENDINGS = {
    "image": ".b2nd",
    "map": "_map.b2nd",
    "structures": "_structures.b2nd",
    "readers": "_readers.b2nd",
    "chances": "_chances.b2nd",
}

_NO_MOTION: dict = {}
"""How a channel that could not be aligned is written."""


@dataclass(frozen=True, kw_only=True)
class PreparedVertebra:
    """One vertebra as preprocessing found it.

    Attributes
    ----------
    centre_lps, box_lps : world mm, the box by its corners (minimum, maximum); None where unknown
    in_map : whether the vertebra map of the case has voxels of this level
    truncated : its voxels or its box touch the first or last row or column of the uncropped image
    readings : classes given by readers; empty = not read
    """

    level: str
    centre_lps: Point | None = None
    box_lps: tuple[Point, Point] | None = None
    in_map: bool = False
    truncated: bool = False
    readings: tuple[ClassReading, ...] = ()


@dataclass(frozen=True, kw_only=True)
class StoredArray:
    """What the file of an array was when it was written."""

    sha256: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class _Made:
    """What a part of a case was made from: hashes of its files and rows, and of what it needs of the plan."""

    version: int
    identifier: str
    inputs: str
    settings: str


@dataclass(frozen=True, kw_only=True)
class NativeRecord(_Made):
    """Record of what no plan changes, see `preprocessed.NativePart`; arrays by their names in `ARRAY_ENDINGS`."""

    patient: str
    site: str
    geometry: Geometry
    vertebrae: tuple[PreparedVertebra, ...]
    annotation_form: AnnotationForms
    registration: tuple[RigidMotion | None, ...] = ()
    arrays: Mapping[str, StoredArray]

    @property
    def is_annotated(self) -> bool:
        """Whether the case has rows or maps; others serve as images only and belong to no fold."""
        return bool(self.vertebrae) or set(self.arrays) != {"image"}


@dataclass(frozen=True, kw_only=True)
class GridRecord(_Made):
    """Record of the image on the grid of one configuration, see `preprocessed.GridPart`; arrays likewise."""

    geometry: Geometry
    normalisation: tuple[tuple[float, float], ...]
    arrays: Mapping[str, StoredArray]


_Record = TypeVar("_Record", NativeRecord, GridRecord)


def grid_folder_name(plans_name: str, configuration: str) -> str:
    """Name of the folder of one configuration's images."""
    return f"{plans_name}_{configuration}"


def grid_settings(spacing_mm: Iterable[float], normalisation: Iterable[str]) -> str:
    """Hash of that part of a plan that the stored images depend on."""
    return files.text_hash([STORAGE_VERSION, [float(s) for s in spacing_mm], list(normalisation)])


NATIVE_SETTINGS = files.text_hash([STORAGE_VERSION, NATIVE])


def native_cases(dataset_folder: Path) -> list[str]:
    """Identifiers of the cases whose native part is stored, sorted."""
    return sorted(path.stem for path in (dataset_folder / NATIVE).glob("*.json"))


def read_native(dataset_folder: Path, identifier: str) -> NativeRecord:
    """Record of the native part of a case.

    Parameters
    ----------
    dataset_folder : `<preprocessed>/<Dataset>`

    Raises
    ------
    DatasetError
        When it is missing, damaged, of another case or of another storage version; names the file, the key and the
        command that redoes it.
    """
    return _read(NativeRecord, dataset_folder / NATIVE, identifier)


def read_grid(dataset_folder: Path, plans_config: str, identifier: str) -> GridRecord:
    """Record of a case on the grid of one configuration; raises as `read_native`."""
    return _read(GridRecord, dataset_folder / plans_config, identifier)


def _read(kind: type[_Record], folder: Path, identifier: str) -> _Record:
    path, remedy = folder / f"{identifier}.json", advice(folder.parent)
    if not path.is_file():
        raise DatasetError(f"Case {identifier}: {path} does not exist. {remedy}")
    content = files.read_json(path)
    known = isinstance(content, dict) and (content.get("identifier"), content.get("version"))
    if known != (identifier, STORAGE_VERSION):
        raise DatasetError(
            f"Case {identifier}: {path} is not a record of this case in storage version {STORAGE_VERSION}. {remedy}"
        )
    if isinstance(motions := content.get("registration"), list):
        content["registration"] = [None if motion == _NO_MOTION else motion for motion in motions]
    try:
        record = from_plain(kind, content, str(path), DatasetError)
    except DatasetError as error:
        raise DatasetError(f"Case {identifier}: {error} {remedy}") from None
    if "image" not in record.arrays:
        raise DatasetError(f"Case {identifier}: {path}.arrays: key 'image' is missing. {remedy}")
    return record


def write_record(folder: Path, record: NativeRecord | GridRecord) -> None:
    """Write the record of one part of a case, which makes it valid."""
    content = dataclasses.asdict(record)
    if isinstance(record, NativeRecord):
        content["annotation_form"] = plain_forms(record.annotation_form)
        content["registration"] = [_NO_MOTION if motion is None else motion for motion in content["registration"]]
    files.write_json(folder / f"{record.identifier}.json", content)


def read_checked(folder: Path, record: NativeRecord | GridRecord, name: str) -> bytes:
    """Content of the file of an array, by its name in `ARRAY_ENDINGS`; a damaged one raises `DatasetError`."""
    path = folder / f"{record.identifier}{ARRAY_ENDINGS[name]}"
    expected = record.arrays[name]
    if not path.is_file():
        fault = "the file does not exist"
    else:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() == expected.sha256:
            return content
        fault = f"the file is damaged ({len(content)} bytes, written with {expected.bytes}, another checksum)"
    raise DatasetError(f"Case {record.identifier}: {path}: {fault}. {advice(folder.parent)}")


def advice(dataset_folder: Path) -> str:
    """What to do about a case that cannot be used."""
    return f"Run spinecls_preprocess -d {dataset_folder.name} again; it redoes damaged and changed cases only."
