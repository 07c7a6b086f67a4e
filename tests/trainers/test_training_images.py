"""A fold notes which images it learned from, so that a score on one of them is never taken for one on a new scan."""

import dataclasses
from types import SimpleNamespace

import pytest

from spinecls.inference.predictor import Predictor
from spinecls.io.image_digests import image_digests
from spinecls.io.images import read_image
from spinecls.model_folder import FoldFolder
from spinecls.planning.fingerprint_types import load_fingerprint
from spinecls.planning.plan import load_plan, save_plan
from spinecls.sharing.layout import shared_plan
from spinecls.trainers import validation
from spinecls.trainers.fold import Fold
from spinecls.trainers.fold_cases import fold_cases
from spinecls.trainers.fold_plan import new_plan
from spinecls.trainers.registered import find_trainer
from spinecls.trainers.request import TrainingRequest
from spinecls.trainers.training_images import learned_from, training_images


@pytest.fixture
def preprocessed(phantom):
    return phantom / "preprocessed" / "Dataset001_Phantom"


@pytest.fixture
def cases(preprocessed):
    return load_fingerprint(preprocessed / "fingerprint.json").cases


def digest(phantom, case):
    return image_digests(read_image([phantom / f"raw/Dataset001_Phantom/imagesTr/{case}_0000.nii.gz"]).array)


def plan_of_fold(preprocessed, train):
    plan = load_plan(preprocessed / "spineclsPlans.json")
    request = TrainingRequest("1", "3d_fullres", "0")
    return new_plan(request, find_trainer(request.trainer), plan, preprocessed, train)


def test_plan_of_a_fold_holds_the_digests_of_its_training_images_alone(phantom, preprocessed):
    train, held_out = fold_cases(preprocessed, "0")
    found = plan_of_fold(preprocessed, train).training_images
    assert found == tuple(sorted(value for case in train for value in digest(phantom, case)))
    assert set(found).isdisjoint(value for case in held_out for value in digest(phantom, case))


def test_plan_of_the_dataset_does_not_speak_for_a_fold(preprocessed):
    assert load_plan(preprocessed / "spineclsPlans.json").training_images is None


def test_digests_go_with_the_plan_into_a_model_file(preprocessed):
    plan = plan_of_fold(preprocessed, fold_cases(preprocessed, "0")[0])
    assert shared_plan(plan).training_images == plan.training_images


def test_where_a_case_was_measured_by_an_earlier_version_nothing_is_known(cases):
    first, *others = cases.values()
    old = dataclasses.replace(first, image_digests=())
    assert training_images(others, None) is not None
    assert training_images([old, *others], None) is None


def test_images_of_the_start_were_learned_from_too(preprocessed, tmp_path, cases):
    first, second, *_ = cases.values()
    start = tmp_path / "checkpoint_final.pt"
    plan = load_plan(preprocessed / "spineclsPlans.json")
    save_plan(tmp_path / "plan.json", dataclasses.replace(plan, training_images=first.image_digests))
    assert training_images([second], start) == tuple(sorted([*first.image_digests, *second.image_digests]))
    assert learned_from([first, second], training_images([], start)) == [first.case]


@pytest.mark.parametrize("name", ["checkpoint_final.pt", "checkpoint_final.pth"])
def test_start_of_which_nothing_is_known_is_told(cases, tmp_path, caplog, name):
    assert training_images(cases.values(), tmp_path / name) == training_images(cases.values(), None)
    assert "it is not known which images these weights learned from" in caplog.text


def test_validation_cases_that_the_start_has_learned_from_are_named(preprocessed, tmp_path, caplog):
    train, held_out = fold_cases(preprocessed, "0")
    plan = plan_of_fold(preprocessed, [*train, *held_out])
    request = TrainingRequest("1", "3d_fullres", "0")
    trainer = find_trainer(request.trainer)
    fold = Fold(request, trainer, preprocessed, FoldFolder(tmp_path), None, train, held_out, plan)
    validation.image_warnings(fold)
    assert f"have learned from the validation cases {', '.join(held_out)}; their scores are better" in caplog.text


@pytest.mark.parametrize(
    ("folds", "together"), [([("b", "a"), ("c", "b")], ["a", "b", "c"]), ([("a",), None], None), ([()], [])]
)
def test_model_has_learned_from_what_any_of_its_folds_has(folds, together):
    plans = [SimpleNamespace(training_images=images) for images in folds]
    assert Predictor.training_images.fget(SimpleNamespace(fold_plans=plans)) == together
