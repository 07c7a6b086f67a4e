"""Preprocessing of a dataset: one case after the other, restartable, redoing only what changed."""

from __future__ import annotations

import errno
import itertools
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import filelock
import numpy as np
from tqdm import tqdm

from spinecls import files
from spinecls.errors import DatasetError, ResourceError, SpineclsError
from spinecls.io.images import read_image, read_label_map
from spinecls.io.preprocessed import (
    ARRAY_ENDINGS,
    NATIVE,
    NATIVE_SETTINGS,
    grid_folder_name,
    grid_settings,
    is_stored,
    save_grid,
    save_native,
)
from spinecls.planning.inputs import case_inputs
from spinecls.planning.plan import Configuration, Plan
from spinecls.planning.prepare import combine_readers, prepare_case
from spinecls.planning.volume import preprocess_volume
from spinecls.planning.workers import WorkerDied, run_each
from spinecls.records import Case, RawDataset

__all__ = ["PreprocessReport", "preprocess_dataset", "preprocess_volume", "settings_of"]

LOCK_NAME = ".preprocess.lock"

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_KILLED = (
    "its worker process was killed, twice; usually the system ran out of memory. Use fewer processes (-np 1), or give "
    "it more memory."
)

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PreprocessReport:
    """Identifiers of the cases that were made now, that were there already, and that failed, these with the reason."""

    done: tuple[str, ...]
    reused: tuple[str, ...]
    failed: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class _Job:
    """What is out of date of one case."""

    case: Case
    levels: Mapping[str, int]
    ignore_label: int
    plans_name: str
    configurations: tuple[Configuration, ...]
    native: bool
    inputs: str
    folder: Path


def settings_of(configuration: Configuration) -> str:
    """Hash of that part of a configuration that the stored images depend on."""
    return grid_settings(configuration.spacing_mm, configuration.normalisation)


def preprocess_dataset(
    raw: RawDataset,
    plan: Plan,
    configurations: Sequence[str],
    folder: Path,
    num_processes: int = 2,
    lock_timeout_s: float = 3600.0,
) -> PreprocessReport:
    """Bring the preprocessed cases of a dataset up to date.

    Every image is read once for all configurations. Cases that are stored undamaged, made from the same files and rows
    with the same settings, are left alone; those of cases that the dataset no longer has are deleted. Scans without
    any annotation are not preprocessed.

    Parameters
    ----------
    folder : `<preprocessed>/<Dataset>`
    num_processes : one reads and writes in this process; more start worker processes
    lock_timeout_s : how long to wait for another process that works on the same folder

    Returns
    -------
    PreprocessReport; a case that fails does not stop the others

    Raises
    ------
    ResourceError
        When the disk is full, or another process holds the folder for longer than `lock_timeout_s`.
    DatasetError, PlanError
        When nothing can be preprocessed at all.
    """
    chosen = tuple(plan.configuration(name) for name in configurations)
    _refuse_clashing_names(raw.cases)
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / LOCK_NAME)
    with _locked(lock, folder, lock_timeout_s):
        identifiers = {case.identifier for case in raw.cases}
        _clean(folder, plan, identifiers)
        inputs = case_inputs(raw, folder, num_processes)
        jobs = _outdated(raw, plan, chosen, folder, inputs, num_processes)
        failed = _run(jobs, num_processes)
        # Again: a worker of a run that was killed just before may have lived for a moment longer.
        _clean(folder, plan, identifiers)
    redone = {job.case.identifier for job in jobs}
    names = [case.identifier for case in raw.cases]
    return PreprocessReport(
        done=tuple(name for name in names if name in redone and name not in failed),
        reused=tuple(name for name in names if name not in redone),
        failed=tuple((name, failed[name]) for name in names if name in failed),
    )


def _locked(lock: filelock.FileLock, folder: Path, timeout_s: float) -> filelock.AcquireReturnProxy:
    try:
        return lock.acquire(timeout=0)
    except filelock.Timeout:
        _logger.warning("Another process preprocesses %s; waiting for it.", folder)
    try:
        return lock.acquire(timeout=timeout_s)
    except filelock.Timeout:
        raise ResourceError(
            f"{folder}: another process has been preprocessing this dataset for more than {timeout_s:g} s. "
            "Wait until it ends, or end it, and start again; what it finished is kept."
        ) from None


def _refuse_clashing_names(cases: Sequence[Case]) -> None:
    """Case `a_map` would overwrite the map of case `a`."""
    names = {case.identifier for case in cases}
    for name, ending in itertools.product(sorted(names), ("_map", "_structures")):
        if name + ending in names:
            raise DatasetError(
                f"Cases {name} and {name}{ending}: their preprocessed files would have the same names. Rename one."
            )


def _clean(folder: Path, plan: Plan, identifiers: set[str]) -> None:
    """Delete what killed processes left and the files of cases that are gone."""
    files.remove_temporaries(folder)
    endings = [*ARRAY_ENDINGS.values(), ".json"]
    expected = {name + ending for name in identifiers for ending in endings}
    for part in (NATIVE, *(grid_folder_name(plan.plans_name, name) for name in plan.configurations)):
        if not (folder / part).is_dir():
            continue
        files.remove_temporaries(folder / part)
        gone = [p for p in (folder / part).iterdir() if p.suffix in (".b2nd", ".json") and p.name not in expected]
        # Records first: an array without a record is nothing, a record without an array would be a damaged case.
        for path in sorted(gone, key=lambda p: p.suffix != ".json"):
            path.unlink()


def _outdated(
    raw: RawDataset,
    plan: Plan,
    configurations: Sequence[Configuration],
    folder: Path,
    inputs: Mapping[str, str],
    num_threads: int,
) -> list[_Job]:
    """Jobs for the parts that are missing, damaged or out of date; their records are deleted here.

    So a case that fails now cannot be taken for a good one made from its former files.
    """

    def job(case: Case) -> _Job | None:
        name, wanted = case.identifier, inputs[case.identifier]
        parts = {grid_folder_name(plan.plans_name, c.name): c for c in configurations}
        stale = {p: c for p, c in parts.items() if not is_stored(folder / p, name, wanted, settings_of(c))}
        native = not is_stored(folder / NATIVE, name, wanted, NATIVE_SETTINGS)
        for part in (*stale, *([NATIVE] if native else [])):
            (folder / part / f"{name}.json").unlink(missing_ok=True)
        if not native and not stale:
            return None
        return _Job(
            case=case,
            levels=plan.levels,
            ignore_label=plan.ignore_label,
            plans_name=plan.plans_name,
            configurations=tuple(stale.values()),
            native=native,
            inputs=wanted,
            folder=folder,
        )

    with ThreadPoolExecutor(num_threads) as pool:
        return [found for found in pool.map(job, raw.cases) if found is not None]


def _store(job: _Job) -> str | None:
    """Read, prepare and store one case; the reason when the case is at fault."""
    try:
        _store_or_raise(job)
    except OSError as error:
        if error.errno in _DISK_FULL:
            raise ResourceError(
                f"{job.folder}: no space left while writing case {job.case.identifier} ({error.strerror}). Free some "
                "and start again; the finished cases are kept."
            ) from None
        return f"{type(error).__name__}: {error}"
    except (SpineclsError, MemoryError, RuntimeError) as error:
        if isinstance(error, ResourceError):
            raise
        return str(error) or type(error).__name__
    return None


def _store_or_raise(job: _Job) -> None:
    case = job.case
    volume = read_image(case.images)
    maps = [_read_map(case, case.vertebra_maps[reader], volume) for reader in sorted(case.vertebra_maps)]
    native, grids = prepare_case(
        case,
        volume.array,
        volume.geometry,
        vertebra_map=combine_readers(maps) if maps else None,
        structures=_read_map(case, case.structure_map, volume) if case.structure_map else None,
        levels=job.levels,
        ignore_label=job.ignore_label,
        configurations=job.configurations,
    )
    if job.native:
        save_native(job.folder, native, job.inputs)
    for configuration, grid in zip(job.configurations, grids, strict=True):
        part = grid_folder_name(job.plans_name, configuration.name)
        save_grid(job.folder, part, grid, job.inputs, settings_of(configuration))


def _read_map(case: Case, path: Path, volume) -> np.ndarray:
    labels, geometry = read_label_map(path)
    if geometry.shape != volume.geometry.shape:
        raise DatasetError(
            f"Case {case.identifier}: {path} has {geometry.shape} voxels (slices, rows, columns), its image has "
            f"{volume.geometry.shape}. Draw the map on this image."
        )
    if labels.max(initial=0) > 255:
        raise DatasetError(f"Case {case.identifier}: {path} holds the code {labels.max()}; codes go up to 255.")
    return labels.astype(np.uint8)


def _run(jobs: Sequence[_Job], num_processes: int) -> dict[str, str]:
    """Do the jobs; the reason of every case that failed."""
    failed: dict[str, str] = {}
    with tqdm(total=len(jobs), desc="Preprocessing", unit="case", disable=None if jobs else True) as bar:
        for job, reason in run_each(_store, jobs, num_processes):
            if isinstance(reason, WorkerDied):
                failed[job.case.identifier] = _KILLED
            elif reason is not None:
                failed[job.case.identifier] = reason
            bar.update()
    return failed
