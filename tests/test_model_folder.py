"""The names of model folders, and what of a fold is there."""

from pathlib import Path

import pytest

from spinecls import files
from spinecls.model_folder import FoldFolder, ModelFolder, is_fold, model_folder, model_folder_at, model_folders

NAME = "AuxSegTrainer__spineclsPlans__3d_fullres"


@pytest.fixture
def fold(tmp_path):
    (tmp_path / "fold_3").mkdir()
    return FoldFolder(tmp_path / "fold_3")


def test_a_name_is_made_of_what_it_is_read_as():
    path = Path("results") / "Dataset001_A" / NAME
    folder = model_folder_at(path)
    assert folder == ModelFolder(Path("results"), "Dataset001_A", "AuxSegTrainer", "spineclsPlans", "3d_fullres")
    assert folder.path == path
    assert folder.name == f"Dataset001_A/{NAME}"


@pytest.mark.parametrize("name", ["results", "A__B", "comparison__spineclsPlans__3d_fullres__fold_0"])
def test_other_folders_are_no_models(name):
    assert model_folder_at(Path(name)) is None


def test_models_of_this_computer_are_in_its_results_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("spinecls_results", str(tmp_path))
    assert model_folder("Dataset001_A", "T", "P", "C").path == tmp_path / "Dataset001_A" / "T__P__C"


def test_models_of_a_dataset_are_told_from_what_lies_beside_them(tmp_path):
    for name in ("finders", "B__P__C", "A__P__C", "comparison__P__C__fold_0"):
        (tmp_path / name).mkdir()
    assert [folder.path.name for folder in model_folders(tmp_path)] == ["A__P__C", "B__P__C"]


def test_folds_are_told_from_what_lies_beside_them(tmp_path):
    folder = ModelFolder(tmp_path, "Dataset001_A", "T", "P", "C")
    for number in ("all", "0"):
        folder.fold(number).path.mkdir(parents=True)
    folder.plan.touch()
    assert [fold.number for fold in folder.all_folds()] == ["0", "all"]
    assert is_fold(folder.fold("0").path)
    assert not is_fold(folder.path)


@pytest.mark.parametrize(
    ("file", "true"),
    [
        ("run.json", set()),
        ("plan.json", {"begun"}),
        ("checkpoint_latest.pt", {"begun"}),
        ("checkpoint_pretrained.pt", {"begun"}),
        ("replaced_checkpoint_final.pt", set()),
        ("checkpoint_final.pt", {"begun", "finished"}),
        ("validation/summary.json", {"scored"}),
        ("validation/vertebrae.csv", {"validated"}),
    ],
)
def test_what_a_file_says_of_a_fold(fold, file, true):
    fold.validation.mkdir()
    (fold.path / file).touch()
    assert {name for name in ("begun", "finished", "scored", "validated") if getattr(fold, name)} == true


def test_a_fold_of_which_nothing_is_recorded_says_nothing(fold):
    assert fold.record() == fold.scores() == {}


def test_records_are_read(fold):
    files.write_json(fold.run, {"seed": 1})
    files.write_json(fold.summary, {"cases": 2})
    assert (fold.record(), fold.scores()) == ({"seed": 1}, {"cases": 2})
