"""Where data lies: three root folders from the environment, read when used, and the names below them."""

from __future__ import annotations

import os
import re
from pathlib import Path

from spinecls.errors import DatasetError, nearest

DEFAULT_PLANS = "spineclsPlans"


def raw_root() -> Path:
    """Folder of raw datasets: `$spinecls_raw`, else ./spinecls_data/raw."""
    return _root("spinecls_raw", "raw")


def _preprocessed_root() -> Path:
    """Folder of plans and preprocessed data: `$spinecls_preprocessed`, else ./spinecls_data/preprocessed."""
    return _root("spinecls_preprocessed", "preprocessed")


def results_root() -> Path:
    """Folder of trained models: `$spinecls_results`, else ./spinecls_data/results."""
    return _root("spinecls_results", "results")


def _root(variable: str, default: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        return Path("spinecls_data") / default
    if value[:1] in "\"'" or value[-1:] in "\"'":
        raise DatasetError(f"The environment variable {variable} is {value!r}: remove the quote characters.")
    return Path(value).expanduser()


def dataset_number(text: str) -> int | None:
    """Number in `1`, `001` or `Dataset001_Name`; None for anything else."""
    match = re.fullmatch(r"(?:Dataset)?(\d+)(?:_.*)?", text)
    return int(match[1]) if match else None


def dataset_name(text: str) -> str:
    """Full folder name (`DatasetXXX_Name`) of a dataset given by number, name or path.

    The raw, preprocessed and results folders are searched, so training and prediction need no raw data.

    Raises
    ------
    DatasetError
        When nothing or more than one folder fits; the message lists where was looked and what is there.
    """
    path = Path(text)
    if len(path.parts) > 1 or text in (".", "..") or (path.is_dir() and (path / "dataset.json").exists()):
        if not path.is_dir():
            raise DatasetError(f"{text}: no such dataset folder.")
        return path.resolve().name
    roots = (raw_root(), _preprocessed_root(), results_root())
    present = sorted({entry.name for root in roots if root.is_dir() for entry in root.iterdir() if entry.is_dir()})
    datasets = [name for name in present if name.startswith("Dataset")]
    if text in present:
        return text
    # A name says more than its number: one that is not there is no other dataset of that number.
    number = dataset_number(text) if re.fullmatch(r"(Dataset)?\d+", text) else None
    matches = [name for name in datasets if number is not None and dataset_number(name) == number]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise DatasetError(
            f"Dataset {text}: several folders have this number: {', '.join(matches)}. Give the full name."
        )
    looked = ", ".join(str(root) for root in roots)
    raise DatasetError(
        f"Dataset {text}: not found. Looked in {looked}; there: {', '.join(datasets) or 'no dataset'}."
        f"{nearest(text, datasets)} "
        "Set spinecls_raw, give the folder's path, or check the number."
    )


def raw_dataset_folder(text: str) -> Path:
    """Folder of a raw dataset given by number, name or path."""
    path = Path(text)
    if path.is_dir() and (len(path.parts) > 1 or text in (".", "..") or (path / "dataset.json").exists()):
        return path.resolve()
    folder = raw_root() / dataset_name(text)
    if not folder.is_dir():
        raise DatasetError(
            f"Dataset {text}: the raw folder {folder} does not exist. Set spinecls_raw to the folder that holds "
            f"{folder.name}, or give the dataset's path."
        )
    return folder


def preprocessed_folder(name: str) -> Path:
    """Folder of the plan and the preprocessed data of a dataset's full name."""
    return _preprocessed_root() / name
