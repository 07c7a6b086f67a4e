"""Guards against going on with a run, or validating it, on other data than those it was begun with."""

import dataclasses
import shutil

import pytest
from support import run_cli, set_roots

from spinecls import files
from spinecls.errors import DatasetError
from spinecls.model_folder import FoldFolder
from spinecls.planning.current import stored_inputs
from spinecls.planning.plan import load_plan, save_plan
from spinecls.trainers.same_data import require_same_data

TRAIN, VALIDATION = ["phantom_000", "phantom_001"], ["phantom_002"]


@pytest.fixture
def begun(phantom, tmp_path):
    """Checks a run that was begun with what is given, the rest being as it is now."""
    preprocessed = phantom / "preprocessed" / "Dataset001_Phantom"
    plan = load_plan(preprocessed / "spineclsPlans.json")
    inputs = stored_inputs(preprocessed)

    def check(resume=True, plan_of_run=plan, **run):
        save_plan(tmp_path / "plan.json", plan_of_run)
        content = {"cases": TRAIN, "inputs": {case: inputs[case] for case in TRAIN}} | run
        files.write_json(tmp_path / "run.json", {key: value for key, value in content.items() if value is not None})
        require_same_data(FoldFolder(tmp_path), plan, preprocessed, TRAIN, VALIDATION, resume)

    check.plan = plan
    return check


@pytest.mark.parametrize("resume", [True, False])
def test_a_run_on_the_same_data_goes_on(resume, begun):
    begun(resume)
    # One of an earlier version noted no inputs.
    begun(resume, inputs=None)


def test_a_run_on_cases_that_changed_is_not_continued(begun):
    with pytest.raises(DatasetError, match=r"the run was begun with other data.*\n  changed: phantom_001\n"):
        begun(inputs={"phantom_001": "an older table"})


def test_a_run_that_learnt_from_cases_that_changed_is_validated_with_a_word(begun, caplog):
    begun(resume=False, inputs={"phantom_001": "an older table"})
    assert "The run learnt from cases that changed since: phantom_001." in caplog.text


def test_a_run_of_other_training_cases_is_not_continued(begun):
    with pytest.raises(DatasetError, match="other cases: phantom_001, phantom_005 came or went"):
        begun(cases=["phantom_000", "phantom_005"], inputs={})


@pytest.mark.parametrize("resume", [True, False])
def test_no_run_is_validated_on_what_it_learnt_from(resume, begun):
    with pytest.raises(DatasetError, match="learnt from cases that the fold now validates: phantom_002"):
        begun(resume, cases=[*TRAIN, "phantom_002"])


@pytest.mark.parametrize("resume", [True, False])
@pytest.mark.parametrize(
    "change",
    [{"class_names": ("structural", "normal", "inflammatory")}, {"class_order": True}, {"structures": {"disc": 2}}],
    ids=lambda change: next(iter(change)),
)
def test_a_run_of_other_meanings_is_refused(resume, change, begun):
    with pytest.raises(DatasetError, match=r"dataset.json: .* is now .*, planned was "):
        begun(resume, plan_of_run=dataclasses.replace(begun.plan, **change))


def test_folds_that_were_edited_wrongly_are_not_trained_on(phantom, tmp_path, monkeypatch, capfd):
    shutil.copytree(phantom / "preprocessed", tmp_path / "preprocessed")
    set_roots(monkeypatch, tmp_path)
    path = tmp_path / "preprocessed/Dataset001_Phantom/splits_final.json"
    folds = files.read_json(path)
    folds[1]["train"].append(folds[1]["val"][0])
    files.write_json(path, folds)
    # Fold 0 is as it was, but who edits one fold wrongly may have done so with another.
    for fold in ("0", "1", "all"):
        assert run_cli("train", "1", "3d_fullres", fold, "-device", "cpu") == 3
        assert "in both train and val" in capfd.readouterr().err


@pytest.mark.parametrize("word", ["--val", "--c"])
def test_a_run_without_its_plan_or_with_the_weights_of_another_fold_is_not_validated(
    word, phantom_roots, tmp_path, capfd
):
    words = ("train", "1", "3d_fullres", "0", "-tr", "BaselineTrainer", "-device", "cpu")
    assert run_cli(*words, "--set", "steps=1") in (0, 5)
    fold = tmp_path / "results/Dataset001_Phantom/BaselineTrainer__spineclsPlans__3d_fullres/fold_0"
    plan = load_plan(fold / "plan.json")
    save_plan(fold / "plan.json", dataclasses.replace(plan, training_images=("an image of another fold",)))
    assert run_cli(*words, word) == 3
    assert "they differ in digest of the training images" in capfd.readouterr().err
    (fold / "plan.json").unlink()
    assert run_cli(*words, word) == 3
    assert "has no plan.json" in capfd.readouterr().err
