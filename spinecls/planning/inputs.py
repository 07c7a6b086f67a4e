"""Hash of everything that the stored form of a case depends on, apart from the plan's grids."""

from __future__ import annotations

import dataclasses

from spinecls import files
from spinecls.io.annotation_forms import plain_forms
from spinecls.io.file_hashes import FileHashes
from spinecls.records import Case, DatasetDescription, RawDataset

INDEX_NAME = "input_hashes.json"
"""Index of the files' hashes, below the preprocessed folder of the dataset."""


def case_inputs(raw: RawDataset, hashes: FileHashes, register_channels: bool = False) -> dict[str, str]:
    """Identifier to hash of each case: the contents of its files, its rows, and how its channels are read."""
    hashes.read(source for case in raw.all_cases for source in _sources(case))
    return {case.identifier: _case_hash(case, raw.description, hashes, register_channels) for case in raw.all_cases}


def _sources(case: Case) -> list:
    further = (case.chance_map, case.structure_map)
    return [*case.images, *case.vertebra_maps.values(), *(path for path in further if path is not None)]


def _case_hash(case: Case, description: DatasetDescription, hashes: FileHashes, register_channels: bool) -> str:
    content = {
        "images": [hashes.of(path) for path in case.images],
        "maps": {reader: hashes.of(path) for reader, path in case.vertebra_maps.items()},
        "structures": hashes.of(case.structure_map) if case.structure_map else None,
        "patient": case.patient,
        "site": case.site,
        "vertebrae": [dataclasses.asdict(vertebra) for vertebra in case.vertebrae],
        "annotation_form": plain_forms(case.annotation_form),
        "levels": description.levels,
        "ignore_label": description.ignore_label,
    }
    if case.chance_map is not None:
        content["chances"] = hashes.of(case.chance_map)
    if register_channels and len(case.images) > 1:
        content["register_channels"] = True
    return files.text_hash(content)
