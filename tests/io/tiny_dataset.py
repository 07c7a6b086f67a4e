"""A faultless raw dataset of five tiny scans, three square vertebrae each, and tools to break it."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path

import numpy as np
import SimpleITK as sitk

# Columns: file axis x runs to the back, y to the feet, z to the right (LPS components down the rows).
SAGITTAL = (0, 0, -1, 1, 0, 0, 0, -1, 0)
CASES = ("a1", "a2", "a3", "a4", "a5")
SHAPE = (6, 60, 56)
LEVELS = {"L1": 20, "L2": 21, "L3": 22}
DESCRIPTION = {
    "name": "Tiny",
    "channel_names": {"0": "T2"},
    "classes": {"normal": 0, "fracture": 1},
    "vertebrae": LEVELS,
    "structures": {"disc": 1},
    "file_ending": ".nii.gz",
    "numTraining": 5,
}
FIRST_ROW = {"L1": 4, "L2": 22, "L3": 40}


def to_image(array, spacing=(1.0, 1.0, 4.0), origin=(10.0, 20.0, 30.0), direction=SAGITTAL) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(direction)
    return image


def write(path: Path, array, **grid) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(to_image(array, **grid), str(path))


def voxels(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 1000, SHAPE).astype(np.int16)


def vertebra_map() -> np.ndarray:
    array = np.zeros(SHAPE, np.uint8)
    for level, row in FIRST_ROW.items():
        array[1:5, row : row + 12, 20:32] = LEVELS[level]
    return array


def table_text() -> str:
    lines = ["case,patient,vertebra,class"]
    for number, case in enumerate(CASES):
        classes = zip(LEVELS, ("normal", "fracture", "normal"), strict=True)
        lines += [f"{case},p{number},{level},{name}" for level, name in classes]
    return "\n".join(lines) + "\n"


def write_good(folder: Path) -> None:
    for number, case in enumerate(CASES):
        write(folder / "imagesTr" / f"{case}_0000.nii.gz", voxels(number))
        write(folder / "labelsTr" / f"{case}.nii.gz", vertebra_map())
    write(folder / "structuresTr" / "a1.nii.gz", np.ones(SHAPE, np.uint8))
    (folder / "vertebraeTr.csv").write_text(table_text())
    description(folder)


def description(folder: Path, **changes) -> None:
    """Change keys of dataset.json; None removes one."""
    content = {**DESCRIPTION, **changes}
    content = {key: value for key, value in content.items() if value is not None}
    (folder / "dataset.json").write_text(json.dumps(content))


def table(folder: Path, *lines: str) -> None:
    (folder / "vertebraeTr.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def replace_in_table(folder: Path, old: str, new: str) -> None:
    path = folder / "vertebraeTr.csv"
    text = path.read_text()
    if old not in text:
        raise ValueError(f"{old!r} is not in the table")
    path.write_text(text.replace(old, new))


def header_field(path: Path, form: str, position: int, *values) -> None:
    """Overwrite a field of the header of a compressed NIfTI file."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    struct.pack_into(form, content, position, *values)
    path.write_bytes(gzip.compress(bytes(content)))
