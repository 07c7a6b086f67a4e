"""What a fold's model is told of its images comes from the fold's training cases; validation says which are unlike."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from spinecls import files
from spinecls.errors import PlanError
from spinecls.io.predictions import read_case_json
from spinecls.model_folder import FoldFolder
from spinecls.planning.familiarity import familiar_images
from spinecls.planning.fingerprint_types import load_fingerprint
from spinecls.planning.plan import FamiliarRange, load_plan
from spinecls.trainers import validation
from spinecls.trainers.fold import Fold
from spinecls.trainers.fold_cases import fingerprints_of, fold_cases
from spinecls.trainers.fold_plan import new_plan
from spinecls.trainers.registered import find_trainer
from spinecls.trainers.request import TrainingRequest


@pytest.fixture
def preprocessed(phantom):
    return phantom / "preprocessed" / "Dataset001_Phantom"


REQUEST = TrainingRequest("1", "3d_fullres", "0")
TRAINER = find_trainer(REQUEST.trainer)


def plan_of_fold(preprocessed, train, plan=None):
    plan = plan or load_plan(preprocessed / "spineclsPlans.json")
    return new_plan(REQUEST, TRAINER, plan, preprocessed, train)


def test_a_fold_knows_the_images_of_its_training_cases_alone(preprocessed):
    train, _ = fold_cases(preprocessed, "0")
    cases = load_fingerprint(preprocessed / "fingerprint.json").cases
    found = plan_of_fold(preprocessed, train).familiar
    assert found == familiar_images([cases[name] for name in train])
    assert found.patients == len(train) < len(cases)
    assert found.channels[0].ranges["noise"].usual[0] > 0


def test_a_fold_of_a_plan_without_limits_has_none(preprocessed):
    old = dataclasses.replace(load_plan(preprocessed / "spineclsPlans.json"), familiar=None)
    train, _ = fold_cases(preprocessed, "0")
    assert plan_of_fold(preprocessed, train, old).familiar is None


def test_a_case_that_the_fingerprint_lacks_is_named(preprocessed):
    with pytest.raises(PlanError, match=r"fingerprint.json: lacks case phantom_999. Run spinecls_plan_and_preprocess"):
        fingerprints_of(preprocessed, ["phantom_000", "phantom_999"])


def test_validated_cases_are_compared_with_the_training_cases(preprocessed, tmp_path):
    train, held_out = fold_cases(preprocessed, "0")
    plan = plan_of_fold(preprocessed, train)
    # As if every training image were 9 mm high.
    low = FamiliarRange(usual=(9.0, 9.0), allowed=(8.0, 10.0))
    familiar = dataclasses.replace(plan.familiar, grid={"head_feet_mm": low}, channels=())
    plan = dataclasses.replace(plan, familiar=familiar)
    fold = Fold(REQUEST, TRAINER, preprocessed, FoldFolder(tmp_path), None, train, held_out, plan)
    said = ("field of view head-feet 192 mm; training scans 9 mm",)
    assert validation.image_warnings(fold) == dict.fromkeys(held_out, said)


def test_validation_writes_which_images_are_unlike_those_of_training(preprocessed, tmp_path, monkeypatch, caplog):
    seen = []

    def predict_volume(image, geometry, unlike):
        seen.append(unlike)
        return SimpleNamespace(vertebrae=(), level_map=np.zeros(geometry.shape, np.uint8))

    monkeypatch.setattr(validation, "build_model", lambda content, path: None)
    monkeypatch.setattr(validation, "short_hash", lambda content, path: "0")
    plan = load_plan(preprocessed / "spineclsPlans.json")
    stub = SimpleNamespace(predict_volume=predict_volume, augment=True, plan=plan)
    monkeypatch.setattr(validation, "Predictor", lambda *a, **k: stub)
    held_out = ["phantom_000", "phantom_001"]
    said = ("noise 9; training scans 1",)
    monkeypatch.setattr(validation, "image_warnings", lambda fold: {held_out[0]: said})
    train, _ = fold_cases(preprocessed, "0")
    validation.validate(Fold(REQUEST, TRAINER, preprocessed, FoldFolder(tmp_path), None, train, held_out, plan), {})
    assert seen == [True, False]
    assert read_case_json(tmp_path / "validation" / f"{held_out[0]}.json").warnings == said
    assert read_case_json(tmp_path / "validation" / f"{held_out[1]}.json").warnings == ()
    summary = files.read_json(tmp_path / "validation" / "summary.json")
    assert summary["unfamiliar_images"] == [held_out[0]]
    assert "1 of 2 validated images are unlike" in caplog.text
