"""Findings of cases whose files did not change since they were judged."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from spinecls import __version__, files
from spinecls.errors import DatasetError
from spinecls.io.case_facts import CaseFacts, CaseFiles
from spinecls.io.file_hashes import FileHashes
from spinecls.plain import from_plain
from spinecls.records import DatasetDescription

FORMAT = 3
"""Raised when a check or the meaning of a stored value changes, so that every case is judged anew."""


def inspect_changed(
    cases: Sequence[CaseFiles],
    description: DatasetDescription,
    *,
    verify_voxels: bool,
    hashes: FileHashes,
    cache_path: Path,
    keep: bool = True,
    num_processes: int = 1,
) -> dict[str, CaseFacts]:
    """Facts of all cases; those that are not known to be faultless are judged, if there are any.

    A faulty case is judged again every time: its fault may lie in what no content shows, such as a permission.

    Parameters
    ----------
    verify_voxels : judge cases with their voxels
    cache_path : JSON file of the facts; those found with their voxels also serve a run that does not look at voxels
    keep : whether the file is written; where its folder cannot be written to it is only read
    """
    hashes.read(source for case in cases for source in case.sources)
    keys = {case.identifier: _case_key(case, description, hashes) for case in cases}
    cached = _read_cache(cache_path)
    usable = {
        name for name, (key, verified, _) in cached.items() if key == keys.get(name) and verified >= verify_voxels
    }
    facts = {name: cached[name][2] for name in usable}
    verified = {name: cached[name][1] for name in usable}
    changed = [case for case in cases if case.identifier not in facts]
    if changed:
        # Brings the libraries that read images, which a run that finds everything up to date does without.
        from spinecls.io.voxel_checks import inspect_cases

        changed_facts = inspect_cases(changed, description, verify_voxels, num_processes)
        facts |= changed_facts
        verified |= dict.fromkeys(changed_facts, verify_voxels)
    kept = {name: (keys[name], verified[name], item) for name, item in facts.items() if item.faultless}
    if keep and kept != cached:
        _write_cache(cache_path, kept)
    return facts


def _case_key(case: CaseFiles, description: DatasetDescription, hashes: FileHashes) -> str:
    """Changes whenever the facts of a case might."""

    def content(path: Path) -> list:
        # Findings name files and their folders.
        return [f"{path.parent.name}/{path.name}", hashes.of(path)]

    return files.text_hash(
        {
            "format": FORMAT,
            "version": __version__,
            "images": [content(path) for path in case.images],
            "maps": {reader: content(path) for reader, path in case.vertebra_maps.items()},
            "chance_map": content(case.chance_map) if case.chance_map else None,
            "structure_map": content(case.structure_map) if case.structure_map else None,
            "levels": description.levels,
            "structures": description.structures,
            "ignore_label": description.ignore_label,
        }
    )


def _read_cache(path: Path) -> dict[str, tuple[str, bool, CaseFacts]]:
    """Key, whether voxels were verified, and facts of each case; a damaged cache counts as empty."""
    if not path.is_file():
        return {}
    try:
        return {
            name: (
                entry["key"],
                entry["voxels_verified"],
                from_plain(CaseFacts, entry["facts"], f"{path}: {name}", DatasetError),
            )
            for name, entry in files.read_json(path).items()
        }
    except (DatasetError, AttributeError, KeyError, TypeError):
        return {}


def _write_cache(path: Path, kept: Mapping[str, tuple[str, bool, CaseFacts]]) -> None:
    content = {
        name: {"key": key, "voxels_verified": verified, "facts": dataclasses.asdict(item)}
        for name, (key, verified, item) in sorted(kept.items())
    }
    files.write_json(path, content)
