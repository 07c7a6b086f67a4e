"""The trainer that is taken when none is named: suited to the annotation, the same for every fold, and told.

Guards against a default that ignores the maps that are there, and against a run that goes on with another trainer than
it was begun with.
"""

import dataclasses
import logging

import pytest
from support import run_cli

from spinecls import files
from spinecls.errors import UsageError
from spinecls.planning.fingerprint_types import load_fingerprint, save_fingerprint
from spinecls.trainers.default_trainer import WITH_MAPS, WITHOUT_MAPS, default_trainer, suited_trainer
from spinecls.trainers.trainer import TRAINERS

NAME = "Dataset001_Phantom"


@pytest.fixture
def with_forms(phantom, tmp_path):
    """Makes a folder with a fingerprint whose cases are annotated in some forms."""
    known = load_fingerprint(phantom / "preprocessed" / NAME / "fingerprint.json")
    case = next(iter(known.cases.values()))

    def make(forms):
        cases = {}
        for index, form in enumerate(forms):
            name = f"case_{index:03}"
            cases[name] = dataclasses.replace(
                case, case=name, annotation_forms={"vertebrae": form, "structures": "none"}
            )
        save_fingerprint(tmp_path / "fingerprint.json", dataclasses.replace(known, cases=cases))
        return tmp_path

    return make


@pytest.mark.parametrize(
    ("forms", "name", "reason"),
    [
        (["mask"] * 3, WITH_MAPS, "of 3 cases with places of vertebrae 3 have a map"),
        (["mask"] + ["point"] * 9, WITH_MAPS, "of 10 cases with places of vertebrae 1 has a map"),
        (
            ["mask"] + ["point"] * 10,
            WITHOUT_MAPS,
            "of 11 cases with places of vertebrae 1 has a map, too few to learn shapes from",
        ),
        (["mask"] + ["none"] * 30, WITH_MAPS, "of 1 case with places of vertebrae 1 has a map"),
        (["slices", "coarse", "scribble"], WITH_MAPS, "of 3 cases with places of vertebrae 3 have a map"),
        (["point"] * 3, WITHOUT_MAPS, "no case has a vertebra map"),
        (["box"] * 3, WITHOUT_MAPS, "no case has a vertebra map"),
        (["none"] * 3, WITHOUT_MAPS, "no case has a vertebra map"),
    ],
)
def test_the_default_follows_the_annotation(forms, name, reason, with_forms):
    assert suited_trainer(with_forms(forms)) == (name, reason)


@pytest.mark.parametrize("name", [WITH_MAPS, WITHOUT_MAPS])
def test_both_defaults_are_trainers(name):
    assert name in TRAINERS.names()


def begin(results, model, trainer, fold="0"):
    files.write_json(results / NAME / model / f"fold_{fold}" / "run.json", {"trainer": trainer})


def chosen(begun, refined=False):
    return default_trainer(NAME, "3d_fullres", "spineclsPlans", ["0", "1"], begun, refined)


def test_what_was_begun_goes_on_with_its_own_trainer(phantom_roots, tmp_path, caplog):
    begin(tmp_path / "results", "BaselineTrainer__spineclsPlans__3d_fullres", "BaselineTrainer")
    caplog.set_level(logging.INFO)
    assert chosen(begun=True) == "BaselineTrainer"
    assert "BaselineTrainer, which began this training" in caplog.text


def test_a_new_training_does_not_follow_an_earlier_one(phantom_roots, tmp_path, caplog):
    begin(tmp_path / "results", "BaselineTrainer__spineclsPlans__3d_fullres", "BaselineTrainer")
    caplog.set_level(logging.INFO)
    assert chosen(begun=False) == "AuxSegTrainer"
    assert "-tr not given: AuxSegTrainer, because of 8 cases" in caplog.text


@pytest.mark.parametrize("model", ["BaselineTrainer__other__3d_fullres", "BaselineTrainer__spineclsPlans__2d"])
def test_a_run_of_another_plan_or_configuration_is_not_meant(model, phantom_roots, tmp_path):
    begin(tmp_path / "results", model, "BaselineTrainer")
    assert chosen(begun=True) == "AuxSegTrainer"


def test_a_second_round_goes_on_apart_from_the_first(phantom_roots, tmp_path):
    for round_name in ("", "Refined"):
        model = f"UncertainLabelsAETrainer{round_name}__spineclsPlans__3d_fullres"
        begin(tmp_path / "results", model, "UncertainLabelsAETrainer")
    begin(tmp_path / "results", "BaselineTrainer__spineclsPlans__3d_fullres", "BaselineTrainer")
    assert chosen(begun=True, refined=True) == "UncertainLabelsAETrainer"


def test_which_of_two_runs_is_meant_must_be_said(phantom_roots, tmp_path):
    for name in ("BaselineTrainer", "AuxAETrainer"):
        begin(tmp_path / "results", f"{name}__spineclsPlans__3d_fullres", name, fold="1")
    with pytest.raises(UsageError, match=r"Several trainers began this: AuxAETrainer, BaselineTrainer. Say by -tr"):
        chosen(begun=True)


def test_a_trainer_of_the_users_own_must_be_given_again(phantom_roots, tmp_path):
    begin(tmp_path / "results", "Mine__spineclsPlans__3d_fullres", "Mine")
    with pytest.raises(UsageError, match=r"Give it again by -tr file.py:Mine"):
        chosen(begun=True)


def test_the_command_trains_the_default_and_says_so(phantom_roots, tmp_path, capfd):
    assert run_cli("train", "1", "3d_fullres", "all", "-device", "cpu", "--set", "steps=1") == 0
    told = capfd.readouterr()
    assert "-tr not given: AuxSegTrainer, because of 8 cases with places of vertebrae 8 have a map." in told.err
    model = tmp_path / "results" / NAME / "AuxSegTrainer__spineclsPlans__3d_fullres"
    assert (model / "fold_all" / "checkpoint_final.pt").exists()
    assert run_cli("train", "1", "3d_fullres", "all", "-device", "cpu", "--c") == 0
    assert "which began this training" in capfd.readouterr().err
