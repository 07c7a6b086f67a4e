"""Fingerprint of a raw dataset; a case is read again only when its files or its annotation changed."""

from __future__ import annotations

import dataclasses
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from tqdm import tqdm

from spinecls import files
from spinecls.errors import DatasetError, PlanError, ResourceError, SpineclsError
from spinecls.io.images import read_image, read_label_map
from spinecls.planning.fingerprint_case import fingerprint_case
from spinecls.planning.fingerprint_types import (
    FORMAT,
    CaseFingerprint,
    Fingerprint,
    load_fingerprint,
    save_fingerprint,
)
from spinecls.planning.plan import from_plain
from spinecls.records import Case, DatasetDescription, RawDataset

__all__ = [
    "CaseFingerprint",
    "Fingerprint",
    "extract_fingerprint",
    "fingerprint_case",
    "load_fingerprint",
    "save_fingerprint",
]


def extract_fingerprint(dataset: RawDataset, cache_path: Path | None = None, num_processes: int = 1) -> Fingerprint:
    """Fingerprint of all annotated cases of a dataset.

    Parameters
    ----------
    cache_path : JSON file with the finished cases; what is done is kept there even when other cases fail
    num_processes : cases read at the same time

    Raises
    ------
    DatasetError
        Naming every case that could not be read.
    ResourceError
        When a worker process died, usually for want of memory.
    """
    keys = {case.identifier: _case_key(case, dataset.description) for case in dataset.cases}
    done = {name: entry for name, entry in _cached(cache_path).items() if keys.get(name) == entry[0]}
    missing = [case for case in dataset.cases if case.identifier not in done]
    failed: dict[str, str] = {}
    try:
        progress = tqdm(total=len(missing), desc="Fingerprint", unit="case", disable=not missing)
        with progress:
            for case, result in _measured(missing, dataset.description, num_processes):
                progress.update()
                if isinstance(result, CaseFingerprint):
                    done[case.identifier] = (keys[case.identifier], result)
                else:
                    failed[case.identifier] = result
    finally:
        if cache_path is not None and missing:
            _save_cache(cache_path, done)
    if failed:
        listed = " ".join(f"{name}: {reason}" for name, reason in sorted(failed.items()))
        raise DatasetError(f"{dataset.description.name}: {len(failed)} of {len(keys)} cases cannot be read. {listed}")
    return Fingerprint(
        dataset_name=dataset.folder.name,
        class_names=dataset.description.class_names,
        class_order=dataset.description.class_order,
        cases={name: done[name][1] for name in sorted(keys)},
    )


def _measured(
    cases: list[Case], description: DatasetDescription, num_processes: int
) -> Iterator[tuple[Case, CaseFingerprint | str]]:
    """Cases with their fingerprints, or with what went wrong, as they finish."""
    if num_processes <= 1 or len(cases) <= 1:
        for case in cases:
            yield case, _measure(case, description)
        return
    # Spawned workers inherit no locks of a threaded parent.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(num_processes, len(cases)), mp_context=context) as pool:
        waiting = {pool.submit(_measure, case, description): case for case in cases}
        for future in as_completed(waiting):
            try:
                yield waiting[future], future.result()
            except BrokenProcessPool:
                raise ResourceError(
                    f"A worker process died while {waiting[future].identifier} was read, probably for want of memory. "
                    "Run again with a smaller -np; finished cases are kept."
                ) from None


def _measure(case: Case, description: DatasetDescription) -> CaseFingerprint | str:
    try:
        volume = read_image(case.images)
        # With several readers the first in alphabetical order stands for the case; sizes differ little between readers.
        maps = [case.vertebra_maps[reader] for reader in sorted(case.vertebra_maps)]
        vertebra_map = read_label_map(maps[0])[0] if maps else None
        structure_map = None if case.structure_map is None else read_label_map(case.structure_map)[0]
    except (SpineclsError, OSError) as error:
        return str(error)
    for kind, labels in (("vertebra map", vertebra_map), ("structure map", structure_map)):
        if labels is not None and labels.shape != volume.geometry.shape:
            return f"the {kind} has {labels.shape} voxels, the image {volume.geometry.shape}; they must share one grid."
    content_hash = files.content_hash(*case_files(case))
    return fingerprint_case(case, description, volume.array, volume.geometry, vertebra_map, structure_map, content_hash)


def case_files(case: Case) -> list[Path]:
    """All files of a case; a DICOM folder stands for the files in it."""
    paths = [*case.images, *(case.vertebra_maps[reader] for reader in sorted(case.vertebra_maps))]
    if case.structure_map is not None:
        paths.append(case.structure_map)
    found: list[Path] = []
    for path in paths:
        found += sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return found


def _case_key(case: Case, description: DatasetDescription) -> str:
    """Changes whenever the fingerprint of a case might."""
    return files.text_hash(
        {
            "format": FORMAT,
            "files": files.content_hash(*case_files(case)),
            "patient": case.patient,
            "site": case.site,
            "vertebrae": [dataclasses.asdict(v) for v in case.vertebrae],
            "annotation_form": case.annotation_form,
            "levels": description.levels,
            "structures": description.structures,
            "lesion_structures": description.lesion_structures,
            "ignore_label": description.ignore_label,
        }
    )


def _cached(cache_path: Path | None) -> dict[str, tuple[str, CaseFingerprint]]:
    """Finished cases with their keys; a cache of another format or a damaged one counts as empty."""
    if cache_path is None or not cache_path.is_file():
        return {}
    try:
        content = files.read_json(cache_path)
        entries = content["cases"] if isinstance(content, dict) and content.get("format") == FORMAT else {}
        return {
            name: (entry["key"], from_plain(CaseFingerprint, entry["case"], f"{cache_path}: {name}"))
            for name, entry in entries.items()
        }
    except (DatasetError, PlanError, KeyError, TypeError, AttributeError):
        return {}


def _save_cache(cache_path: Path, done: dict[str, tuple[str, CaseFingerprint]]) -> None:
    content = {name: {"key": key, "case": dataclasses.asdict(case)} for name, (key, case) in sorted(done.items())}
    files.write_json(cache_path, {"format": FORMAT, "cases": content})
