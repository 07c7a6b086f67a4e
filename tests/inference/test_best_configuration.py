"""The best of a dataset's models: what is written, what prediction takes, and what is refused."""

import shutil

import pytest
from inference.conftest import MODEL, write_validation
from support import run_cli

import spinecls
from spinecls import files
from spinecls.errors import ModelError
from spinecls.inference.best_configuration import INSTRUCTIONS, BestRequest, find_best
from spinecls.inference.models import BEST_CONFIGURATION, ModelChoice, choose_models
from spinecls.io.predictions import read_folder
from spinecls.planning.plan import load_plan

OTHER = MODEL.replace("AuxSeg", "Baseline")


@pytest.fixture
def several(two_folds):
    """Function: a second model whose validations know the class so well; returns the dataset's results."""

    def made(signal, seed=5, folds=("0", "1")):
        other = two_folds.parent / OTHER
        shutil.copytree(two_folds, other)
        names = load_plan(other / "plan.json").class_names
        for number, fold in enumerate(("0", "1")):
            if fold in folds:
                patients = range(24 * number, 24 * number + 24)
                write_validation(other / f"fold_{fold}", names, patients, signal, seed + number)
            else:
                (other / f"fold_{fold}/validation/vertebrae.csv").unlink()
        return two_folds.parent

    return made


def test_the_better_model_is_what_prediction_takes(several):
    results = several(signal=4.0)
    judged, folder = find_best(BestRequest(dataset="Dataset001_Phantom", ensembles=False))
    assert folder == results
    assert [(j.models, j.verdict) for j in judged] == [((OTHER,), "chosen"), ((MODEL,), "worse")]
    assert [(m.path.name, m.folds) for m in choose_models(ModelChoice())] == [(OTHER, ("0", "1"))]


def test_what_is_chosen_is_calibrated(several):
    results = several(signal=4.0)
    find_best(BestRequest(dataset="Dataset001_Phantom", ensembles=False))
    assert (results / OTHER / "calibration.json").exists()
    assert not (results / MODEL / "calibration.json").exists()


def test_the_worse_one_can_still_be_named(several):
    several(signal=4.0)
    find_best(BestRequest(dataset="Dataset001_Phantom"))
    assert [m.path.name for m in choose_models(ModelChoice(trainer="AuxSegTrainer"))] == [MODEL]


def test_a_pair_that_is_shown_to_be_better_is_taken_together(several):
    results = several(signal=2.0)
    judged, _ = find_best(BestRequest(dataset="Dataset001_Phantom"))
    assert set(judged[0].models) == {MODEL, OTHER}
    assert {m.path.name for m in choose_models(ModelChoice())} == {MODEL, OTHER}
    text = (results / INSTRUCTIONS).read_text()
    assert text.count("--save_probabilities") == 2
    assert "spinecls_ensemble -i OUTPUT_1 OUTPUT_2 -o OUTPUT" in text


def test_what_was_found_is_written_with_intervals(several):
    results = several(signal=4.0)
    find_best(BestRequest(dataset="Dataset001_Phantom"))
    content = files.read_json(results / BEST_CONFIGURATION)
    assert content["score"] == "macro AUC, end to end"
    assert len(content["candidates"]) == 3
    first, second = content["candidates"][:2]
    assert first["gain"] is None
    assert first["score"]["low"] <= first["score"]["estimate"] <= first["score"]["high"]
    assert second["gain"]["patients"] == 48


def test_a_choice_whose_model_is_gone_is_passed_over_with_a_warning(several, caplog):
    results = several(signal=4.0)
    find_best(BestRequest(dataset="Dataset001_Phantom", ensembles=False))
    shutil.rmtree(results / OTHER)
    assert [m.path.name for m in choose_models(ModelChoice())] == [MODEL]
    assert "no longer there" in caplog.text


def test_models_of_different_folds_are_not_compared(several):
    several(signal=4.0, folds=("0",))
    with pytest.raises(ModelError, match=f"{OTHER} lacks fold 1"):
        find_best(BestRequest(dataset="Dataset001_Phantom"))
    judged, _ = find_best(BestRequest(dataset="Dataset001_Phantom", folds=("0",), ensembles=False))
    assert len(judged) == 2


def test_a_dataset_without_the_models_asked_for_is_told_what_is_there(several):
    several(signal=4.0)
    with pytest.raises(ModelError, match="no sealed model with a validated fold"):
        find_best(BestRequest(dataset="Dataset001_Phantom", trainers=("NoTrainer",)))


def test_one_model_alone_cannot_be_taken_when_a_pair_was_chosen(several):
    several(signal=2.0)
    find_best(BestRequest(dataset="Dataset001_Phantom"))
    with pytest.raises(ModelError, match="here one model is needed"):
        spinecls.load_model(dataset="Dataset001_Phantom", device="cpu")
    assert spinecls.load_model(dataset="Dataset001_Phantom", trainer="AuxSegTrainer", device="cpu").models


def test_a_model_without_a_guarantee_is_compared_and_never_chosen(several):
    results = several(signal=4.0)
    for fold in ("0", "1"):
        path = results / OTHER / f"fold_{fold}/plan.json"
        path.write_text(path.read_text().replace('"seal": "S2"', '"seal": "S0"'))
    judged, _ = find_best(BestRequest(dataset="Dataset001_Phantom", unsealed=True))
    assert [(j.models, j.verdict) for j in judged] == [((MODEL,), "chosen"), ((OTHER,), "better")]
    assert len(find_best(BestRequest(dataset="Dataset001_Phantom"))[0]) == 1


def test_a_choice_without_a_guarantee_is_not_taken_unasked(several, caplog):
    results = several(signal=4.0)
    files.write_json(results / BEST_CONFIGURATION, {"models": [OTHER], "folds": ["0"]})
    path = results / OTHER / "fold_0/plan.json"
    path.write_text(path.read_text().replace('"seal": "S2"', '"seal": "S0"'))
    assert [m.path.name for m in choose_models(ModelChoice())] == [MODEL]
    assert "gives no guarantee" in caplog.text


def test_a_model_that_was_tested_on_nobody_is_left_out(several, caplog):
    several(signal=4.0, folds=())
    judged, _ = find_best(BestRequest(dataset="Dataset001_Phantom"))
    assert [j.models for j in judged] == [(MODEL,)]
    assert OTHER in caplog.text


def test_a_damaged_choice_is_refused(several):
    results = several(signal=4.0)
    (results / BEST_CONFIGURATION).write_text("{}")
    with pytest.raises(ModelError, match="Run it again"):
        choose_models(ModelChoice())


def test_the_command_tells_every_candidate_and_where_the_instructions_are(several, capsys):
    results = several(signal=4.0)
    assert run_cli("find_best_configuration", "Dataset001_Phantom", "-tr", "AuxSegTrainer", "BaselineTrainer") == 0
    told = capsys.readouterr().out
    assert f"chosen: {OTHER}" in told
    assert f"worse: {MODEL}" in told
    assert str(results / INSTRUCTIONS) in told


def test_prediction_without_a_name_averages_the_pair_that_was_chosen(several, trained_phantom, tmp_path):
    several(signal=2.0)
    find_best(BestRequest(dataset="Dataset001_Phantom"))
    scan = sorted((trained_phantom / "raw/Dataset001_Phantom/imagesTr").glob("*.nii.gz"))[0]
    assert run_cli("predict", "-i", scan, "-o", tmp_path / "out", "-device", "cpu") == 0
    found = read_folder(tmp_path / "out")[0]
    parts = [read_folder(tmp_path / "out/members" / name)[0] for name in (MODEL, OTHER)]
    assert len(found.model["ensemble"]) == 2
    for vertebra, first, second in zip(found.vertebrae, *(p.vertebrae for p in parts), strict=True):
        mean = [(a + b) / 2 for a, b in zip(first.class_probabilities, second.class_probabilities, strict=True)]
        assert vertebra.class_probabilities == pytest.approx(mean)
