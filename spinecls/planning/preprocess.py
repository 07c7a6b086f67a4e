"""Preprocessing of a dataset: one case after the other, restartable, redoing only what changed."""

from __future__ import annotations

import dataclasses
import errno
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from spinecls.errors import DatasetError, ResourceError
from spinecls.geometry import Geometry
from spinecls.hard_cases import HardCases
from spinecls.io.file_hashes import FileHashes
from spinecls.io.images import Volume, read_chance_map, read_image, read_label_map
from spinecls.io.preprocessed import save_grid, save_native
from spinecls.io.preprocessed_records import grid_folder_name
from spinecls.planning.inputs import INDEX_NAME
from spinecls.planning.outdated import Job, Outcome, PreprocessReport, settings_of, update_preprocessed
from spinecls.planning.plan import Plan
from spinecls.planning.preprocess_case import combine_readers, prepare_case
from spinecls.planning.workers import KILLED, WorkerDied, run_each
from spinecls.records import Case, RawDataset

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def preprocess_dataset(
    raw: RawDataset,
    plan: Plan,
    configurations: Sequence[str],
    folder: Path,
    num_processes: int = 2,
    lock_timeout_s: float = 3600.0,
) -> PreprocessReport:
    """Bring the preprocessed cases of a dataset up to date, see `outdated.update_preprocessed`.

    Parameters
    ----------
    folder : `<preprocessed>/<Dataset>`
    num_processes : one reads and writes in this process; more start worker processes
    """
    hashes = FileHashes(folder / INDEX_NAME, raw.folder)
    return update_preprocessed(
        raw, plan, configurations, folder, hashes=hashes, num_processes=num_processes, lock_timeout_s=lock_timeout_s
    )


def store_cases(jobs: Sequence[Job], num_processes: int) -> Iterator[tuple[Job, Outcome]]:
    """Read, prepare and store cases; yields each as it is done.

    Raises
    ------
    ResourceError
        When the disk is full.
    """
    for job, outcome in run_each(_store, jobs, num_processes):
        yield job, Outcome(failure=KILLED) if isinstance(outcome, WorkerDied) else outcome


def _store(job: Job) -> Outcome:
    try:
        return Outcome(warnings=_store_or_raise(job))
    except OSError as error:
        if error.errno in _DISK_FULL:
            raise ResourceError(
                f"{job.folder}: no space left while writing case {job.case.identifier} ({error.strerror}). Free some "
                "and start again; the finished cases are kept."
            ) from None
        return Outcome(failure=f"{type(error).__name__}: {error}")
    except ResourceError:
        raise
    except Exception as error:
        # Noted there with its reason; a defect with its traceback beside the preprocessed data.
        hard, name = HardCases(job.folder), job.case.identifier
        with hard.case(name):
            raise error
        return Outcome(failure=hard.failed[name])


def _store_or_raise(job: Job) -> tuple[str, ...]:
    """Store a case; returns what is worth a look and was not told by the check."""
    case = job.case
    volume = read_image(case.images, register=job.register_channels)
    maps = [_read_map(case, case.vertebra_maps[reader], volume) for reader in sorted(case.vertebra_maps)]
    native, grids = prepare_case(
        case,
        volume.array,
        volume.geometry,
        vertebra_map=combine_readers(maps) if maps else None,
        reader_maps=maps,
        chances=_read_chances(case, case.chance_map, volume) if case.chance_map else None,
        structures=_read_map(case, case.structure_map, volume) if case.structure_map else None,
        levels=job.levels,
        configurations=job.configurations,
    )
    if job.native:
        save_native(job.folder, dataclasses.replace(native, registration=volume.registration), job.inputs)
    for configuration, grid in zip(job.configurations, grids, strict=True):
        part = grid_folder_name(job.plans_name, configuration.name)
        save_grid(job.folder, part, grid, job.inputs, settings_of(configuration))
    return tuple(text for code, text in volume.notes if code == "W414") if job.register_channels else ()


def _read_map(case: Case, path: Path, volume: Volume) -> np.ndarray:
    labels, geometry = read_label_map(path)
    _check_shape(case, path, geometry, volume)
    if labels.max(initial=0) > 255:
        raise DatasetError(f"Case {case.identifier}: {path} holds the code {labels.max()}; codes go up to 255.")
    return labels.astype(np.uint8)


def _read_chances(case: Case, path: Path, volume: Volume) -> np.ndarray:
    chances, geometry = read_chance_map(path)
    _check_shape(case, path, geometry, volume)
    return chances


def _check_shape(case: Case, path: Path, geometry: Geometry, volume: Volume) -> None:
    if geometry.shape != volume.geometry.shape:
        raise DatasetError(
            f"Case {case.identifier}: {path} has {geometry.shape} voxels (slices, rows, columns), its image has "
            f"{volume.geometry.shape}. Draw the map on this image."
        )
