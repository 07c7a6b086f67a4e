"""Raw datasets of phantoms on disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from spinecls.anatomy import LEVEL_CODES
from spinecls.errors import UsageError
from spinecls.files import atomic_path, write_csv, write_json
from spinecls.geometry import Geometry
from spinecls.testing.phantom_case import PhantomCase, make_case
from spinecls.testing.phantom_images import to_image
from spinecls.testing.phantom_options import CLASS_NAMES, IGNORE_LABEL, LESION_STRUCTURES, STRUCTURES, PhantomOptions

FILE_ENDING = ".nii.gz"
_TABLE_HEADER = ["case", "patient", "vertebra", "class", "x_mm", "y_mm", "z_mm"]


def write_dataset(
    folder: Path,
    num_cases: int,
    seed: int = 0,
    options: PhantomOptions | None = None,
    patients: int | None = None,
    num_test: int = 0,
    num_unlabelled: int = 0,
) -> Path:
    """Write a raw dataset of phantoms; the same arguments give the same bytes.

    Parameters
    ----------
    folder : dataset folder, made when absent; named `DatasetXXX_Name`
    num_cases : labelled training cases `phantom_000`, ...
    patients : number of people among the training cases, each with about equally many; None = one a case
    num_test : cases in imagesTs, labelsTs and vertebraeTs.csv, of people of their own
    num_unlabelled : scans in imagesUn

    Returns
    -------
    `folder`

    Notes
    -----
    Case number k of a part depends on the seed and k alone, so a larger dataset contains a smaller one.
    """
    folder = Path(folder)
    options = options or PhantomOptions()
    if num_cases < 1 or num_test < 0 or num_unlabelled < 0 or (patients is not None and patients < 1):
        raise UsageError(
            f"write_dataset: num_cases is {num_cases}, num_test {num_test}, num_unlabelled {num_unlabelled}, patients "
            f"{patients}; expected at least one case and one patient and no negative number."
        )
    training = _write_labelled(folder, "Tr", "phantom", _cases(seed, 0, num_cases, options), options, patients)
    write_csv(folder / "vertebraeTr.csv", _TABLE_HEADER, training)
    if num_test:
        test = _write_labelled(folder, "Ts", "test", _cases(seed, 1, num_test, options), options, None)
        write_csv(folder / "vertebraeTs.csv", _TABLE_HEADER, test)
    for index, case in enumerate(_cases(seed, 2, num_unlabelled, options)):
        _write_channels(folder / "imagesUn", f"unlabelled_{index:03d}", case, options)
    write_json(folder / "dataset.json", _description(folder.name, num_cases, options))
    return folder


def _cases(seed: int, part: int, count: int, options: PhantomOptions) -> Iterator[PhantomCase]:
    for index in range(count):
        yield make_case(np.random.default_rng([seed, part, index]), options)


def _write_labelled(
    folder: Path,
    suffix: str,
    prefix: str,
    cases: Iterator[PhantomCase],
    options: PhantomOptions,
    patients: int | None,
) -> list[dict]:
    """Write images and maps of one part, and return its table's rows."""
    rows = []
    for index, case in enumerate(cases):
        identifier = f"{prefix}_{index:03d}"
        _write_channels(folder / f"images{suffix}", identifier, case, options)
        maps = {"labels": case.vertebra_map}
        if suffix == "Tr":
            maps["structures"] = case.structure_map
        for kind, array in maps.items():
            path = folder / f"{kind}{suffix}" / f"{identifier}{FILE_ENDING}"
            _write(path, array, case.geometry, options.orientation)
        patient = identifier if patients is None else f"patient_{index % patients:03d}"
        for level, centre_lps in case.centres_lps.items():
            x, y, z = (round(value, 3) for value in centre_lps)
            name = case.classes.get(level)
            cells = (identifier, patient, level, name, x, y, z)
            rows.append(dict(zip(_TABLE_HEADER, cells, strict=True)))
    return rows


def _write_channels(folder: Path, identifier: str, case: PhantomCase, options: PhantomOptions) -> None:
    for channel, array in enumerate(case.image):
        path = folder / f"{identifier}_{channel:04d}{FILE_ENDING}"
        _write(path, array, case.geometry, options.orientation)


def _write(path: Path, array: np.ndarray, geometry: Geometry, orientation: str) -> None:
    with atomic_path(path) as temporary:
        sitk.WriteImage(to_image(array, geometry, orientation), str(temporary), useCompression=True)


def _description(name: str, num_cases: int, options: PhantomOptions) -> dict:
    return {
        "name": name,
        "channel_names": {str(index): channel for index, channel in enumerate(options.channels)},
        "classes": {class_name: index for index, class_name in enumerate(CLASS_NAMES)},
        "vertebrae": LEVEL_CODES,
        "structures": STRUCTURES,
        "lesion_structures": LESION_STRUCTURES,
        "vertebrae_complete": options.complete,
        "ignore_label": IGNORE_LABEL,
        "file_ending": FILE_ENDING,
        "numTraining": num_cases,
        "reference": "Synthetic phantoms, no patient data.",
        "licence": "CC0",
    }
