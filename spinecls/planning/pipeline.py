"""The stages before training with what does their work at hand; `stages` says what each does."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from spinecls import paths
from spinecls.io.voxel_checks import inspect_cases
from spinecls.planning.fingerprint import measure_cases
from spinecls.planning.fingerprint_types import Fingerprint, load_fingerprint
from spinecls.planning.plan import Plan
from spinecls.planning.rules_configuration import MachineProfile
from spinecls.planning.stages import (
    FINGERPRINT,
    PlanRequest,
    check_raw,
    file_hashes,
    folder_of,
    measure_raw,
    plan_raw,
)
from spinecls.records import RawDataset

__all__ = ["PlanRequest", "fingerprint_dataset", "plan_dataset", "read_raw"]


def read_raw(dataset: str, verify_voxels: bool, num_processes: int) -> RawDataset:
    """The checked raw dataset called `dataset` (number, name or folder)."""
    folder = paths.raw_dataset_folder(dataset)
    inspect = partial(inspect_cases, verify_voxels=verify_voxels, num_processes=num_processes)
    return check_raw(folder, file_hashes(folder), verify_voxels, inspect)


def fingerprint_dataset(raw: RawDataset, num_processes: int) -> Fingerprint:
    """Fingerprint of a dataset."""
    return measure_raw(raw, file_hashes(raw.folder), partial(measure_cases, num_processes=num_processes))


def plan_dataset(raw: RawDataset, request: PlanRequest, probe: Callable[[], MachineProfile]) -> Plan:
    """Plan and folds of a dataset whose fingerprint is there."""
    return plan_raw(raw, load_fingerprint(folder_of(raw) / FINGERPRINT), request, probe)
