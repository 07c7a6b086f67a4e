"""Whether preprocessed cases are stored, whole, and made for this plan. No array is unpacked here."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from spinecls.errors import DatasetError
from spinecls.io.preprocessed_records import NATIVE, advice, read_checked, read_grid, read_native


def is_stored(folder: Path, identifier: str, inputs: str, settings: str) -> bool:
    """Whether a case is stored, undamaged and made from these inputs with these settings."""
    record_path = folder / f"{identifier}.json"
    if not record_path.is_file():
        return False
    try:
        native = folder.name == NATIVE
        record = read_native(folder.parent, identifier) if native else read_grid(folder.parent, folder.name, identifier)
        if (record.inputs, record.settings) != (inputs, settings):
            return False
        for name in record.arrays:
            read_checked(folder, record, name)
    except DatasetError:
        return False
    return True


def check_stored(dataset_folder: Path, plans_config: str, settings: str, identifiers: Iterable[str]) -> None:
    """Refuse cases that are missing, or were made for another plan or from other annotations than their native part.

    Raises
    ------
    DatasetError
        Naming all such cases and the command that redoes them.
    """
    with ThreadPoolExecutor(4) as pool:
        faults = list(pool.map(lambda name: _fault(dataset_folder, plans_config, settings, name), identifiers))
    lines = [fault for fault in faults if fault]
    if lines:
        shown = "\n".join(lines[:10]) + (f"\n... and {len(lines) - 10} more" if len(lines) > 10 else "")
        folder = dataset_folder / plans_config
        raise DatasetError(f"{folder}: not ready for training.\n{shown}\n{advice(dataset_folder)}")


def _fault(dataset_folder: Path, plans_config: str, settings: str, identifier: str) -> str | None:
    if not all((dataset_folder / part / f"{identifier}.json").is_file() for part in (NATIVE, plans_config)):
        return f"{identifier}: not preprocessed"
    native, grid = read_native(dataset_folder, identifier), read_grid(dataset_folder, plans_config, identifier)
    if grid.settings != settings:
        return f"{identifier}: preprocessed with another spacing or normalisation than the plan's"
    if grid.inputs != native.inputs:
        return f"{identifier}: the image or its annotation changed since"
    return None
