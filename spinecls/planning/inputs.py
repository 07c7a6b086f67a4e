"""Content hashes of a raw dataset's cases, without reading unchanged files again."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from spinecls import files
from spinecls.errors import DatasetError
from spinecls.records import Case, DatasetDescription, RawDataset

INDEX_NAME = "input_hashes.json"


def case_inputs(raw: RawDataset, index_folder: Path, num_threads: int = 2) -> dict[str, str]:
    """Hash of everything that the preprocessed form of each case depends on, apart from the plan.

    A file whose size and time of change are those of the last time is not read again; a file that was only touched
    hashes to the same value.

    Parameters
    ----------
    index_folder : where `input_hashes.json` is kept

    Returns
    -------
    identifier to hash
    """
    index_path = index_folder / INDEX_NAME
    known = _read_index(index_path)
    paths = {path for case in raw.cases for path in _case_files(case)}
    with ThreadPoolExecutor(num_threads) as pool:
        entries = dict(pool.map(lambda path: (path, _entry(path, raw.folder, known)), sorted(paths)))
    index = {_key(path, raw.folder): entry for path, entry in entries.items()}
    if index != known:
        files.write_json(index_path, index)
    hashes = {path: entry[2] for path, entry in entries.items()}
    return {case.identifier: _case_hash(case, raw.description, hashes) for case in raw.cases}


def _read_index(path: Path) -> Mapping[str, list]:
    """The index of the last run; a damaged one only costs the time to hash the files again."""
    if not path.is_file():
        return {}
    try:
        index = files.read_json(path)
    except DatasetError:
        return {}
    return index if isinstance(index, dict) else {}


def _key(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


def _entry(path: Path, folder: Path, known: Mapping[str, list]) -> list:
    """Size, time of change and content hash of a file; reading a missing one is left to fail with its case's name."""
    if not path.is_file():
        return [-1, -1, "missing"]
    status = path.stat()
    before = known.get(_key(path, folder))
    if isinstance(before, list) and before[:2] == [status.st_size, status.st_mtime_ns]:
        return before
    return [status.st_size, status.st_mtime_ns, files.content_hash(path)]


def _case_files(case: Case) -> list[Path]:
    maps = [*case.vertebra_maps.values(), *([case.structure_map] if case.structure_map else [])]
    return [path for source in (*case.images, *maps) for path in _files_of(source)]


def _files_of(source: Path) -> Iterable[Path]:
    """The file itself, or the files of a DICOM folder."""
    return sorted(p for p in source.iterdir() if p.is_file()) if source.is_dir() else [source]


def _case_hash(case: Case, description: DatasetDescription, hashes: Mapping[Path, str]) -> str:
    def content(source: Path) -> list[str]:
        return [hashes[path] for path in _files_of(source)]

    return files.text_hash(
        {
            "images": [content(path) for path in case.images],
            "maps": {reader: content(path) for reader, path in case.vertebra_maps.items()},
            "structures": content(case.structure_map) if case.structure_map else None,
            "patient": case.patient,
            "site": case.site,
            "vertebrae": [dataclasses.asdict(vertebra) for vertebra in case.vertebrae],
            "annotation_form": case.annotation_form,
            "levels": description.levels,
            "ignore_label": description.ignore_label,
        }
    )
