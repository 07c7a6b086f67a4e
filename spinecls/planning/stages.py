"""The stages before training: check, fingerprint, plan and folds; each leaves a file a person can read.

A run that finds everything up to date imports none of the libraries that the work of a stage needs.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from spinecls import __version__, files, paths
from spinecls.errors import DatasetError, PlanError, counted
from spinecls.io.checked_cases import inspect_changed
from spinecls.io.dataset_assembly import require_faultless
from spinecls.io.file_hashes import FileHashes
from spinecls.plain import from_plain
from spinecls.planning.fingerprint_cache import update_fingerprint
from spinecls.planning.fingerprint_types import Fingerprint, load_fingerprint, save_fingerprint
from spinecls.planning.inputs import INDEX_NAME, case_inputs
from spinecls.planning.plan import Plan, load_plan, save_plan
from spinecls.planning.planner import plan
from spinecls.planning.rules_configuration import MachineProfile
from spinecls.planning.rules_override import parse_overrides
from spinecls.planning.splits import SPLITS, check_split, make_folds, split_cases
from spinecls.records import RawDataset

logger = logging.getLogger(__name__)

CHECKED = "checked_cases.json"
MACHINE = "machine.json"
FINGERPRINT = "fingerprint.json"
FINGERPRINT_CASES = "fingerprint_cases.json"


@dataclass(frozen=True, kw_only=True)
class PlanRequest:
    """What the user asked of the planner."""

    plans_name: str = paths.DEFAULT_PLANS
    time_budget_minutes: float | None = None
    gpu_memory_target_gb: float | None = None
    device: str | None = None
    seed: int = 0
    register_channels: bool = False
    overrides: Mapping[str, str] = field(default_factory=dict)


def folder_of(raw: RawDataset) -> Path:
    """Folder of the plan and the preprocessed data of a dataset."""
    return paths.preprocessed_folder(raw.folder.name)


def file_hashes(folder: Path) -> FileHashes:
    """Hashes of the files of the raw dataset in `folder`, with the index below the preprocessed data."""
    return FileHashes(paths.preprocessed_folder(folder.name) / INDEX_NAME, folder)


def forget_files(folder: Path) -> None:
    """Forget what is known of the files of the raw dataset in `folder`, so that all are read and judged again."""
    for name in (INDEX_NAME, CHECKED):
        (paths.preprocessed_folder(folder.name) / name).unlink(missing_ok=True)


def check_raw(folder: Path, hashes: FileHashes, verify_voxels: bool, num_processes: int) -> RawDataset:
    """The checked raw dataset, of which only what changed is read; warnings are logged, faults raised all at once."""
    inspect = partial(
        inspect_changed,
        verify_voxels=verify_voxels,
        hashes=hashes,
        cache_path=paths.preprocessed_folder(folder.name) / CHECKED,
        num_processes=num_processes,
    )
    raw = require_faultless(folder, "Tr", inspect)
    for warning in raw.warnings:
        logger.warning("Warning: %s", warning)
    return raw


def measure_raw(raw: RawDataset, hashes: FileHashes, num_processes: int) -> Fingerprint:
    """Fingerprint of a dataset, cases that did not change taken from the last one."""
    folder = folder_of(raw)
    made = update_fingerprint(raw, case_inputs(raw, hashes), num_processes, folder / FINGERPRINT_CASES)
    path = folder / FINGERPRINT
    if _stored_fingerprint(path) == made:
        logger.info("Fingerprint is up to date: %s", path)
    else:
        save_fingerprint(path, made)
        logger.info("Fingerprint of %s: %s", counted(len(raw.cases), "case"), path)
    return made


def _stored_fingerprint(path: Path) -> Fingerprint | None:
    try:
        return load_fingerprint(path)
    except (DatasetError, PlanError):
        return None


def plan_raw(
    raw: RawDataset, fingerprint: Fingerprint, request: PlanRequest, probe: Callable[[], MachineProfile]
) -> Plan:
    """Plan and folds of a dataset; a plan that was made from the same stays as it is.

    The machine is measured once and its numbers are kept, or a plan would change with what else the machine is doing,
    and every case would have to be preprocessed again.
    """
    folder = folder_of(raw)
    path = folder / f"{request.plans_name}.json"
    made_from = files.text_hash(
        {
            "fingerprint": dataclasses.asdict(fingerprint),
            "description": dataclasses.asdict(raw.description),
            "request": dataclasses.asdict(request),
            "version": __version__,
        }
    )
    _write_splits(raw, folder, request.seed)
    known = _stored_plan(path)
    # The second condition: `spinecls_preprocess --register` may have changed the plan since.
    if known and known.dataset_hash == made_from and known.register_channels == request.register_channels:
        logger.info("Plan is up to date: %s", path)
        return known
    # A misspelt setting is told before the machine is measured, which takes seconds.
    parse_overrides(request.overrides)
    machine = _machine(folder / MACHINE, request.device, probe)
    if request.gpu_memory_target_gb is not None and machine.device == "cpu":
        logger.warning("-gpu_memory_target has no effect: training is planned for the CPU.")
    made = plan(
        fingerprint,
        raw.description,
        machine,
        request.time_budget_minutes,
        request.gpu_memory_target_gb,
        request.overrides,
        request.plans_name,
        request.register_channels,
    )
    made = dataclasses.replace(made, dataset_hash=made_from)
    save_plan(path, made)
    logger.info("Plan: %s", path)
    return made


def _machine(path: Path, device: str | None, probe: Callable[[], MachineProfile]) -> MachineProfile:
    """Profile of the last measurement for this device on a machine of as many cores; else measured now."""
    asked = {"device": device, "cores": os.cpu_count()}
    try:
        known = files.read_json(path)
        if known["asked"] == asked:
            machine = from_plain(MachineProfile, known["profile"], str(path))
            logger.info("Machine as measured before: %s; delete this file to measure it again.", path)
            return machine
    except (DatasetError, PlanError, KeyError, TypeError):
        logger.debug("%s holds no measurement of this machine.", path)
    machine = probe()
    files.write_json(path, {"asked": asked, "profile": dataclasses.asdict(machine)})
    return machine


def _stored_plan(path: Path) -> Plan | None:
    if not path.exists():
        return None
    try:
        return load_plan(path)
    except (DatasetError, PlanError) as error:
        logger.warning("%s It is planned anew.", error)
        return None


def _write_splits(raw: RawDataset, folder: Path, seed: int) -> None:
    """Check folds that are there, the user's or ours; make them when there are none or the cases changed."""
    path, own = folder / SPLITS, raw.folder / SPLITS
    cases = split_cases(raw.cases)
    there = files.read_json(path) if path.exists() else None
    if own.exists():
        split = list(check_split(files.read_json(own), cases, str(own)))
    elif len({case.patient for case in cases}) < 2:
        logger.warning("One patient only: no fold can be validated. Train fold 'all'.")
        split = [{"train": sorted(case.case for case in cases), "val": []}]
    elif _same_cases(there, [case.case for case in cases]):
        split = list(check_split(there, cases, str(path)))
    else:
        if there is not None:
            logger.warning("The cases changed, so the folds are made anew. Models trained before are on other folds.")
        folds = make_folds(cases, seed=seed)
        for note in folds.notes:
            logger.warning("Folds: %s", note)
        split = list(folds.folds)
    if split != there:
        files.write_json(path, split)


def _same_cases(split: Any, cases: Sequence[str]) -> bool:
    try:
        return {case for fold in split for case in [*fold["train"], *fold["val"]]} == set(cases)
    except (TypeError, KeyError):
        return False
