"""Which preprocessed cases are out of date, and one run that brings them up to date."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import filelock
from tqdm import tqdm

from spinecls import files
from spinecls.errors import DatasetError, ResourceError
from spinecls.io.file_hashes import FileHashes
from spinecls.io.preprocessed_checks import is_stored
from spinecls.io.preprocessed_records import (
    ARRAY_ENDINGS,
    NATIVE,
    NATIVE_SETTINGS,
    grid_folder_name,
    grid_settings,
)
from spinecls.planning.inputs import case_inputs
from spinecls.planning.plan import Configuration, Plan
from spinecls.records import Case, RawDataset

LOCK_NAME = ".preprocess.lock"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PreprocessReport:
    """Identifiers of the cases that were made now, that were there already, and that failed, these with the reason."""

    done: tuple[str, ...]
    reused: tuple[str, ...]
    failed: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is out of date of one case; `inputs` is the hash of what it is made from."""

    case: Case
    levels: Mapping[str, int]
    register_channels: bool
    plans_name: str
    configurations: tuple[Configuration, ...]
    native: bool
    inputs: str
    folder: Path

    @property
    def records(self) -> list[Path]:
        """Records that no longer hold."""
        parts = [grid_folder_name(self.plans_name, c.name) for c in self.configurations]
        return [self.folder / part / f"{self.case.identifier}.json" for part in (*parts, *[NATIVE] * self.native)]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a job: why it failed, "" when it did not, and what is worth a look."""

    failure: str = ""
    warnings: tuple[str, ...] = ()


def settings_of(configuration: Configuration) -> str:
    """Hash of that part of a configuration that the stored images depend on."""
    return grid_settings(configuration.spacing_mm, configuration.normalisation)


def update_preprocessed(
    raw: RawDataset,
    plan: Plan,
    configurations: Sequence[str],
    folder: Path,
    *,
    hashes: FileHashes,
    num_processes: int,
    lock_timeout_s: float = 3600.0,
) -> PreprocessReport:
    """Bring the preprocessed cases of a dataset up to date.

    Every image is read once for all configurations. Cases that are stored undamaged, made from the same files and rows
    with the same settings, are left alone; those of cases that the dataset no longer has are deleted. Scans without
    any annotation are preprocessed too: an autoencoder learns from them.

    Parameters
    ----------
    folder : `<preprocessed>/<Dataset>`
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
    _refuse_clashing_names(raw.all_cases)
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / LOCK_NAME)
    with _locked(lock, folder, lock_timeout_s):
        identifiers = {case.identifier for case in raw.all_cases}
        _clean(folder, plan, identifiers)
        jobs = outdated_jobs(raw, plan, configurations, folder, hashes)
        for job in jobs:
            # So a case that fails now cannot be taken for a good one made from its former files.
            for record in job.records:
                record.unlink(missing_ok=True)
        failed = _do(jobs, num_processes) if jobs else {}
        # Again: a worker of a run that was killed just before may have lived for a moment longer.
        _clean(folder, plan, identifiers)
    redone = {job.case.identifier for job in jobs}
    names = [case.identifier for case in raw.all_cases]
    return PreprocessReport(
        done=tuple(name for name in names if name in redone and name not in failed),
        reused=tuple(name for name in names if name not in redone),
        failed=tuple((name, failed[name]) for name in names if name in failed),
    )


def outdated_jobs(
    raw: RawDataset, plan: Plan, configurations: Sequence[str], folder: Path, hashes: FileHashes
) -> list[Job]:
    """Jobs for the cases of which any part is missing, damaged or out of date; nothing is changed."""
    chosen = tuple(plan.configuration(name) for name in configurations)
    inputs = case_inputs(raw, hashes, plan.register_channels)

    def job(case: Case) -> Job | None:
        name, wanted = case.identifier, inputs[case.identifier]
        stale = tuple(
            c
            for c in chosen
            if not is_stored(folder / grid_folder_name(plan.plans_name, c.name), name, wanted, settings_of(c))
        )
        native = not is_stored(folder / NATIVE, name, wanted, NATIVE_SETTINGS)
        if not native and not stale:
            return None
        return Job(
            case=case,
            levels=plan.levels,
            register_channels=plan.register_channels,
            plans_name=plan.plans_name,
            configurations=stale,
            native=native,
            inputs=wanted,
            folder=folder,
        )

    with ThreadPoolExecutor(2) as pool:
        return [needed for needed in pool.map(job, raw.all_cases) if needed is not None]


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


def _do(jobs: Sequence[Job], num_processes: int) -> dict[str, str]:
    """Do the jobs; the reason of every case that failed."""
    # Brings the libraries that read images, which a run that finds everything up to date does without.
    from spinecls.planning.preprocess import store_cases

    failed = {}
    done = store_cases(jobs, num_processes)
    for job, outcome in tqdm(done, "Preprocessing", len(jobs), unit="case", disable=None):
        name = job.case.identifier
        for text in outcome.warnings:
            _logger.warning("Warning: %s: %s", name, text)
        if outcome.failure:
            failed[name] = outcome.failure
    return failed
