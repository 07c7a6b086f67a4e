"""Small raw datasets like the planner's made-up ones (planning/made_up_datasets.py), with images to train on."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import SimpleITK as sitk

from spinecls import files
from spinecls.testing.phantom import PhantomOptions, write_dataset

LUMBAR = PhantomOptions(shape=(12, 64, 48), spacing_mm=(4.0, 3.0, 3.0), fields=("lumbosacral",))
CERVICAL = PhantomOptions(shape=(10, 80, 64), spacing_mm=(3.3, 1.8, 1.8), fields=("cervical",))
WHOLE = PhantomOptions(shape=(10, 224, 64), spacing_mm=(4.0, 3.2, 3.2), fields=("whole",))
ISOTROPIC = PhantomOptions(shape=(28, 64, 48), spacing_mm=(2.5, 2.5, 2.5), fields=("lumbosacral",))
FOUR_SLICES = PhantomOptions(shape=(4, 64, 48), spacing_mm=(12.0, 3.0, 3.0), fields=("lumbosacral",))
TWO_CHANNELS = replace(LUMBAR, channels=("T1", "STIR"))
THIN_SLICES = replace(LUMBAR, shape=(40, 64, 48), spacing_mm=(1.2, 3.0, 3.0))

Edit = Callable[[Path], None]


def write_made_up(folder: Path, kind: str) -> Path:
    """Write the dataset of a kind in `KINDS` with four training cases (unless it is one of one), one test case and one
    scan without annotation."""
    options, edits = KINDS[kind]
    write_dataset(folder, 1 if kind == "one case" else 4, seed=5, options=options, num_test=1, num_unlabelled=1)
    for edit in edits:
        edit(folder)
    return folder


def table(folder: Path) -> list[dict]:
    with open(folder / "vertebraeTr.csv", newline="") as stream:
        return list(csv.DictReader(stream))


def write_table(folder: Path, rows: list[dict]) -> None:
    files.write_csv(folder / "vertebraeTr.csv", list(rows[0]), rows)


def describe(**entries) -> Edit:
    """Set entries of dataset.json, or remove those that are None."""

    def edit(folder: Path) -> None:
        content = files.read_json(folder / "dataset.json") | entries
        files.write_json(folder / "dataset.json", {k: v for k, v in content.items() if v is not None})

    return edit


def each_row(change: Callable[[int, dict], dict]) -> Edit:
    """Change every row of the table; given are the number of its case and the row."""

    def edit(folder: Path) -> None:
        rows = table(folder)
        cases = sorted({row["case"] for row in rows})
        write_table(folder, [change(cases.index(row["case"]), row) for row in rows])

    return edit


def no_structures(folder: Path) -> None:
    shutil.rmtree(folder / "structuresTr")
    describe(structures=None, lesion_structures=None)(folder)


def no_maps(folder: Path) -> None:
    no_structures(folder)
    shutil.rmtree(folder / "labelsTr")
    shutil.rmtree(folder / "labelsTs")


def no_classes(folder: Path) -> None:
    no_structures(folder)
    describe(classes={})(folder)
    write_table(folder, [{k: v for k, v in row.items() if k != "class"} for row in table(folder)])
    (folder / "vertebraeTs.csv").unlink()


def other_slice_distance(folder: Path) -> None:
    """Two of the cases from a scanner with thin slices."""
    extra = write_dataset(folder.with_name("thin"), 4, seed=5, options=THIN_SLICES)
    for part in ("imagesTr", "labelsTr", "structuresTr"):
        for name in ("phantom_002", "phantom_003"):
            for path in (extra / part).glob(f"{name}*"):
                shutil.copy(path, folder / part / path.name)
    thin = ("phantom_002", "phantom_003")
    rows = [row for row in table(folder) if row["case"] not in thin]
    write_table(folder, rows + [row for row in table(extra) if row["case"] in thin])
    shutil.rmtree(extra)


def middle_slices(folder: Path) -> None:
    """The two middle slices, the fewest of a volume, of every image and map; what they do not show leaves the table."""
    for path in folder.glob("*/*.nii.gz"):
        image = sitk.ReadImage(str(path))
        # Files run to the back, to the feet, to the right: the last axis counts slices.
        sitk.WriteImage(image[:, :, image.GetDepth() // 2 - 1 : image.GetDepth() // 2 + 1], str(path))
    write_table(folder, [{k: row[k] for k in ("case", "patient", "vertebra", "class")} for row in table(folder)])
    codes = files.read_json(folder / "dataset.json")["vertebrae"]
    shown = {
        path.name.split(".")[0]: set(sitk.GetArrayFromImage(sitk.ReadImage(str(path))).ravel().tolist())
        for path in (folder / "labelsTr").iterdir()
    }
    write_table(folder, [row for row in table(folder) if codes[row["vertebra"]] in shown[row["case"]]])


def two_readers(folder: Path) -> None:
    rows = [{**row, "reader": reader} for row in table(folder) for reader in ("a", "b")]
    for number, row in enumerate(rows):
        if row["reader"] == "b" and row["class"] and number % 5 == 0:
            row["class"] = "normal"
    write_table(folder, rows)


def places_of_two_cases(folder: Path) -> None:
    """Positions in two cases only: in the others vertebrae have a class and no position."""
    no_maps(folder)
    nowhere = {"x_mm": "", "y_mm": "", "z_mm": ""}
    each_row(lambda case, row: row if case < 2 else {**row, **nowhere})(folder)


def boxes(folder: Path) -> None:
    no_maps(folder)
    sides = (("x", 20.0), ("y", 17.0), ("z", 13.0))

    def boxed(case: int, row: dict) -> dict:
        kept = {k: row[k] for k in ("case", "patient", "vertebra", "class")}
        corners = [(f"{a}_{end}_mm", float(row[f"{a}_mm"]) + sign * half) for a, half in sides for end, sign in ENDS]
        return kept | {name: f"{value:.3f}" for name, value in corners}

    each_row(boxed)(folder)


ENDS = (("min", -1), ("max", 1))

KINDS: dict[str, tuple[PhantomOptions, tuple[Edit, ...]]] = {
    "lumbar": (LUMBAR, ()),
    "cervical": (CERVICAL, ()),
    "whole spine": (WHOLE, ()),
    "isotropic": (ISOTROPIC, ()),
    "four slices": (FOUR_SLICES, ()),
    "two slices": (FOUR_SLICES, (middle_slices,)),
    "one case": (LUMBAR, ()),
    "grades": (LUMBAR, (describe(class_order=True),)),
    "rare": (LUMBAR, (each_row(lambda case, row: row if case < 2 else {**row, "class": "normal"}),)),
    "mixed": (LUMBAR, (other_slice_distance,)),
    "no lesions": (LUMBAR, (no_structures,)),
    "points": (LUMBAR, (no_maps,)),
    "boxes": (LUMBAR, (boxes,)),
    "partly placed": (LUMBAR, (places_of_two_cases,)),
    "no classes": (LUMBAR, (no_classes,)),
    "two channels": (TWO_CHANNELS, ()),
    "two readers": (LUMBAR, (two_readers,)),
    "sets of classes": (
        LUMBAR,
        (each_row(lambda case, row: {**row, "class": "inflammatory|structural"} if case == 0 else row),),
    ),
}
