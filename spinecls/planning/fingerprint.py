"""Measure the cases of a raw dataset, in several processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from spinecls.errors import SpineclsError
from spinecls.io.file_hashes import FileHashes
from spinecls.io.images import read_image, read_label_map
from spinecls.planning.fingerprint_cache import update_fingerprint
from spinecls.planning.fingerprint_case import fingerprint_case
from spinecls.planning.fingerprint_types import CaseFingerprint, Fingerprint
from spinecls.planning.inputs import INDEX_NAME, case_inputs
from spinecls.planning.workers import KILLED, WorkerDied, run_each
from spinecls.records import Case, DatasetDescription, RawDataset


def extract_fingerprint(dataset: RawDataset, cache_path: Path | None = None, num_processes: int = 1) -> Fingerprint:
    """Fingerprint of all annotated cases of a dataset, see `fingerprint_cache.update_fingerprint`.

    Parameters
    ----------
    cache_path : JSON file with the finished cases; the hashes of their files are kept beside it
    num_processes : cases read at the same time
    """
    hashes = FileHashes(cache_path and cache_path.with_name(INDEX_NAME), dataset.folder)
    return update_fingerprint(dataset, case_inputs(dataset, hashes), num_processes, cache_path)


def measure_cases(
    cases: Sequence[Case], description: DatasetDescription, num_processes: int
) -> Iterator[tuple[Case, CaseFingerprint | str]]:
    """Cases with their fingerprints, or with what went wrong, as they finish."""
    for case, result in run_each(partial(_measure, description=description), cases, num_processes):
        yield case, KILLED if isinstance(result, WorkerDied) else result


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
    return fingerprint_case(case, description, volume.array, volume.geometry, vertebra_map, structure_map)
