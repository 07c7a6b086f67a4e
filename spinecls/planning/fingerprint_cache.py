"""Fingerprint of a raw dataset; a case is measured again only when its files or its annotation changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from tqdm import tqdm

from spinecls import files
from spinecls.errors import DatasetError, PlanError, counted
from spinecls.plain import from_plain
from spinecls.planning.fingerprint_types import FORMAT, CaseFingerprint, Fingerprint
from spinecls.records import DatasetDescription, RawDataset


def update_fingerprint(
    dataset: RawDataset, inputs: Mapping[str, str], num_processes: int, cache_path: Path | None
) -> Fingerprint:
    """Fingerprint of all annotated cases of a dataset; measured are those that changed, if there are any.

    Parameters
    ----------
    inputs : identifier to hash of each case, see `inputs.case_inputs`
    cache_path : JSON file with the finished cases; what is done is kept there even when other cases fail

    Raises
    ------
    DatasetError
        Naming every case that could not be measured.
    """
    keys = {case.identifier: _case_key(inputs[case.identifier], dataset.description) for case in dataset.cases}
    done = {name: entry for name, entry in _cached(cache_path).items() if keys.get(name) == entry[0]}
    missing = [case for case in dataset.cases if case.identifier not in done]
    if missing:
        failed: dict[str, str] = {}
        try:
            # Brings the libraries that read images, which a run that finds everything up to date does without.
            from spinecls.planning.fingerprint import measure_cases

            measured = measure_cases(missing, dataset.description, num_processes)
            for case, result in tqdm(measured, "Fingerprint", len(missing), unit="case", disable=None):
                name = case.identifier
                if isinstance(result, CaseFingerprint):
                    done[name] = keys[name], result
                else:
                    failed[name] = result
        finally:
            if cache_path is not None:
                _save_cache(cache_path, done)
        if failed:
            listed = " ".join(f"{name}: {reason}" for name, reason in sorted(failed.items()))
            text = f"{len(failed)} of {counted(len(keys), 'case')} cannot be read. {listed}"
            raise DatasetError(f"{dataset.description.name}: {text}")
    return Fingerprint(
        dataset_name=dataset.folder.name,
        class_names=dataset.description.class_names,
        class_order=dataset.description.class_order,
        cases={name: done[name][1] for name in sorted(keys)},
    )


def outdated_fingerprints(dataset: RawDataset, inputs: Mapping[str, str], cache_path: Path) -> list[str]:
    """Cases that changed since they were measured, are gone or are new; none where it is not known what was measured.

    Parameters
    ----------
    inputs, cache_path : as for `update_fingerprint`
    """
    measured = {name: key for name, (key, _) in _cached(cache_path).items()}
    if not measured:
        return []
    wanted = {case.identifier: _case_key(inputs[case.identifier], dataset.description) for case in dataset.cases}
    return sorted(name for name in measured.keys() | wanted.keys() if measured.get(name) != wanted.get(name))


def _case_key(inputs: str, description: DatasetDescription) -> str:
    """Changes whenever the fingerprint of a case might."""
    return files.text_hash([FORMAT, inputs, description.structures, description.lesion_structures])


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
