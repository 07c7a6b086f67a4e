"""The gate of a raw dataset: everything wrong with it is found before anything is done with it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from spinecls.io.dataset_assembly import require_faultless, survey
from spinecls.io.dataset_description import read_description
from spinecls.io.findings import DatasetFaults, Report
from spinecls.io.voxel_checks import inspect_cases
from spinecls.records import RawDataset

__all__ = ["DatasetFaults", "check_dataset", "load_dataset", "read_description"]


def load_dataset(
    folder: Path, verify_voxels: bool = True, split: str = "Tr", num_processes: int = 1
) -> RawDataset:
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
    """All errors and warnings of a raw dataset; never raises for a fault of the dataset."""
    inspect = partial(inspect_cases, verify_voxels=verify_voxels, num_processes=num_processes)
    dataset, findings, understood = survey(Path(folder), split, inspect)
    cases = tuple(case.identifier for case in (*dataset.cases, *dataset.unlabelled)) if dataset else ()
    return Report(folder=str(folder), findings=tuple(findings), cases=cases, inventory=understood)
