"""The stages before training: check, fingerprint, plan, folds, preprocessing; each leaves a file a person can read."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from spinecls import __version__, files, paths
from spinecls.errors import PlanError
from spinecls.io.dataset import load_dataset
from spinecls.planning.fingerprint import Fingerprint, extract_fingerprint, load_fingerprint, save_fingerprint
from spinecls.planning.plan import Plan, load_plan, save_plan
from spinecls.planning.planner import plan
from spinecls.planning.rules_configuration import MachineProfile
from spinecls.planning.splits import check_split, make_folds, split_cases
from spinecls.records import RawDataset

logger = logging.getLogger(__name__)

SPLITS = "splits_final.json"


@dataclass(frozen=True, kw_only=True)
class PlanRequest:
    """What the user asked of the planner."""

    plans_name: str = paths.DEFAULT_PLANS
    time_budget_minutes: float | None = None
    gpu_memory_target_gb: float | None = None
    device: str | None = None
    seed: int = 0
    overrides: Mapping[str, str] = field(default_factory=dict)


def read_raw(dataset: str, verify_voxels: bool, num_processes: int) -> RawDataset:
    """The checked raw dataset; warnings are logged, faults raised all at once."""
    raw = load_dataset(paths.raw_dataset_folder(dataset), verify_voxels=verify_voxels, num_processes=num_processes)
    for warning in raw.warnings:
        logger.warning("Warning: %s", warning)
    return raw


def fingerprint_dataset(raw: RawDataset, num_processes: int) -> Fingerprint:
    """Fingerprint of a dataset, cases that did not change taken from the last one."""
    folder = paths.preprocessed_folder(raw.folder.name)
    fingerprint = extract_fingerprint(raw, folder / "fingerprint_cases.json", num_processes)
    save_fingerprint(folder / "fingerprint.json", fingerprint)
    logger.info("Fingerprint of %d cases: %s", len(raw.cases), folder / "fingerprint.json")
    return fingerprint


def plan_dataset(raw: RawDataset, request: PlanRequest, probe: Callable[[], MachineProfile]) -> Plan:
    """Plan and folds of a dataset whose fingerprint is there.

    The machine is measured only when something that the plan depends on has changed; otherwise the plan stays as it is.
    """
    folder = paths.preprocessed_folder(raw.folder.name)
    fingerprint = load_fingerprint(folder / "fingerprint.json")
    path = folder / f"{request.plans_name}.json"
    asked = files.text_hash(
        {
            "fingerprint": files.content_hash(folder / "fingerprint.json"),
            "description": dataclasses.asdict(raw.description),
            "request": dataclasses.asdict(request),
            "version": __version__,
        }
    )
    _write_splits(raw, folder, request.seed)
    if path.exists():
        try:
            made = load_plan(path)
        except PlanError as error:
            logger.warning("%s It is planned anew.", error)
        else:
            if made.dataset_hash == asked:
                logger.info("Plan is up to date: %s", path)
                return made
    made = plan(
        fingerprint,
        raw.description,
        probe(),
        request.time_budget_minutes,
        request.gpu_memory_target_gb,
        request.overrides,
        request.plans_name,
    )
    made = dataclasses.replace(made, dataset_hash=asked)
    save_plan(path, made)
    logger.info("Plan: %s", path)
    return made


def _write_splits(raw: RawDataset, folder: Path, seed: int) -> None:
    """Check folds that are there, the user's or ours; make them when there are none or the cases changed."""
    path = folder / SPLITS
    cases = split_cases(raw.cases)
    own = raw.folder / SPLITS
    if own.exists():
        check_split(files.read_json(own), cases)
        files.write_json(path, files.read_json(own))
        return
    if path.exists():
        split = files.read_json(path)
        if _same_cases(split, [case.case for case in cases]):
            check_split(split, cases)
            return
        logger.warning("The cases changed, so the folds are made anew. Models trained before are on other folds.")
    if len({case.patient for case in cases}) < 2:
        everything = sorted(case.case for case in cases)
        logger.warning("One patient only: no fold can be validated. Train fold 'all'.")
        files.write_json(path, [{"train": everything, "val": []}])
        return
    folds = make_folds(cases, seed=seed)
    for note in folds.notes:
        logger.warning("Folds: %s", note)
    files.write_json(path, list(folds.folds))


def _same_cases(split: object, cases: Sequence[str]) -> bool:
    try:
        return {case for fold in split for case in [*fold["train"], *fold["val"]]} == set(cases)
    except (TypeError, KeyError):
        return False
