"""The gate of a raw dataset: everything wrong with it is found before anything is done with it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from spinecls.io.dataset_assembly import require_faultless, survey
from spinecls.io.dataset_description import read_description
from spinecls.io.findings import DatasetFaults, Report
from spinecls.io.held_out import TEST, SeenFacts, check_test_cases, has_test_cases
from spinecls.io.voxel_checks import inspect_cases
from spinecls.records import Case, RawDataset

__all__ = ["DatasetFaults", "check_dataset", "load_dataset", "read_description"]


def load_dataset(folder: Path, verify_voxels: bool = True, split: str = "Tr", num_processes: int = 1) -> RawDataset:
    """Raw dataset that passed its checks.

    Parameters
    ----------
    folder : the dataset's folder, which holds dataset.json
    verify_voxels : also judge the voxels of images and the shapes in maps
    split : "Tr" for imagesTr, labelsTr, structuresTr, vertebraeTr.csv; "Ts" for the same with Ts
    num_processes : cases are judged in so many processes

    Raises
    ------
    DatasetFaults
        With every error of the dataset at once.
    """
    inspect = partial(inspect_cases, verify_voxels=verify_voxels, num_processes=num_processes)
    return require_faultless(Path(folder), split, inspect)


def check_dataset(folder: Path, verify_voxels: bool = True, split: str = "Tr", num_processes: int = 1) -> Report:
    """All errors and warnings of a raw dataset; never raises for a fault of the dataset.

    Parameters
    ----------
    split : "Tr" for the training cases and, where there are any, the test cases beside them; "Ts" for these alone
    """
    folder = Path(folder)
    inspect = SeenFacts(partial(inspect_cases, verify_voxels=verify_voxels, num_processes=num_processes))
    dataset, findings, understood = survey(folder, split, inspect)
    tests: tuple[Case, ...] = ()
    if dataset is not None and split != TEST and has_test_cases(folder):
        tests, further = check_test_cases(folder, dataset, inspect.facts, findings, inspect.inspect)
        findings = [*findings, *further]
    return Report(
        folder=str(folder),
        findings=tuple(findings),
        cases=tuple(case.identifier for case in dataset.all_cases) if dataset else (),
        test_cases=tuple(case.identifier for case in tests),
        inventory=understood,
    )
