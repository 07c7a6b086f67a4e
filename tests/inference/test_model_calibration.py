import dataclasses

import numpy as np
import pytest
from inference.conftest import write_validation
from support import run_cli

from spinecls import files
from spinecls.calibration.record import CALIBRATION, load_calibration, save_calibration
from spinecls.inference.model_calibration import calibrate_model, described, out_of_fold
from spinecls.inference.models import load_predictor, model_at
from spinecls.io.predictions import read_folder
from spinecls.planning.plan import load_plan
from spinecls.tasks.checkpoint import load_checkpoint, save_checkpoint


def test_out_of_fold_predictions_are_those_that_the_folds_wrote(two_folds):
    names = load_plan(two_folds / "plan.json").class_names
    _, p = write_validation(two_folds / "fold_1", names, range(24, 48), signal=2.0, seed=1)
    found = out_of_fold(model_at(two_folds), ["0", "1"])
    rows = np.flatnonzero(found.folds == "1")
    assert len(found.truth) == 2 * 24 * 4
    assert set(found.patients[rows]) == {str(n) for n in range(24, 48)}
    wanted = p.reshape(-1, len(names))
    assert np.sort(found.probabilities[rows], axis=0) == pytest.approx(np.sort(wanted, axis=0))


def test_a_vertebra_that_was_not_identified_calibrates_nothing(two_folds):
    path = two_folds / "fold_0/validation/vertebrae.csv"
    lines = path.read_text().splitlines()
    lines[1] = ",".join([*lines[1].split(",")[:4], "missed", *[""] * (len(lines[0].split(",")) - 5)])
    path.write_text("\n".join(lines) + "\n")
    assert len(out_of_fold(model_at(two_folds), ["0", "1"]).truth) == 2 * 24 * 4 - 1


def test_two_validated_folds_are_calibrated_and_the_predictor_is(two_folds):
    made = calibrate_model(model_at(two_folds))
    assert made == load_calibration(two_folds / CALIBRATION)
    assert load_predictor(model_at(two_folds), "cpu", augment=True).calibration == made
    assert described(made, ("0",))["temperature"] == made.temperature


def test_training_calibrates_when_two_folds_are_validated(two_folds, trained_phantom, monkeypatch, capsys):
    monkeypatch.setenv("spinecls_preprocessed", str(trained_phantom / "preprocessed"))
    # What the two folds said of their cases is made by hand; so short a training may identify none.
    monkeypatch.setattr("spinecls.trainers.run.validate", lambda *_: None)
    words = ("train", "Dataset001_Phantom", "3d_fullres", "0", "-tr", "AuxSegTrainer", "--val", "-device", "cpu")
    assert run_cli(*words) == 0
    assert "Calibrated on 2 folds: temperature" in capsys.readouterr().out
    assert (two_folds / CALIBRATION).exists()


def test_prediction_reports_what_the_calibration_says(two_folds, trained_phantom, tmp_path):
    made = calibrate_model(model_at(two_folds))
    scan = sorted((trained_phantom / "raw/Dataset001_Phantom/imagesTr").glob("*.nii.gz"))[0]
    even = [f"{name}={1 / 3:.6f}" for name in made.class_names]
    for target, more in (("plain", ()), ("even", ("--prevalence", *even)), ("single", ("--disable_tta",))):
        words = ("predict", "-m", two_folds, "-i", scan, "-o", tmp_path / target, "-device", "cpu", *more)
        assert run_cli(*words) == 0
    plain, even, single = (read_folder(tmp_path / name)[0] for name in ("plain", "even", "single"))
    assert plain.vertebrae
    assert plain.model["calibration"]["temperature"] == made.temperature
    old = np.array(made.prior)
    for before, after in zip(plain.vertebrae, even.vertebrae, strict=True):
        assert "uncalibrated" not in before.flags
        assert before.prediction_set
        moved = np.array(before.class_probabilities) / old
        assert after.class_probabilities == pytest.approx(moved / moved.sum(), abs=1e-5)
    assert all("uncalibrated" in v.flags and len(v.prediction_set) == 3 for v in single.vertebrae)
    referred = (tmp_path / "plain/refer.csv").read_text().splitlines()[1:]
    assert len(referred) == sum("refer" in v.flags for v in plain.vertebrae)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["normal"], "expected CLASS=SHARE"),
        (["normal=much"], "expected CLASS=SHARE"),
        (["normal=0.5", "inflamed=0.5"], "inflamed"),
        (["normal=0.5", "inflammatory=0.1", "structural=0.1"], "add up to 0.7"),
    ],
)
def test_a_faulty_prevalence_is_refused(words, message, two_folds, trained_phantom, tmp_path, capsys):
    source = trained_phantom / "raw/Dataset001_Phantom/imagesTr"
    arguments = ("-m", two_folds, "-i", source, "-o", tmp_path / "out", "-device", "cpu", "--prevalence", *words)
    assert run_cli("predict", *arguments) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out/predictions.csv").exists()


def test_one_fold_is_not_calibrated(results):
    model = model_at(results / "AuxSegTrainer__spineclsPlans__3d_fullres")
    assert calibrate_model(model) is None
    assert load_predictor(model, "cpu", augment=True).calibration is None
    assert described(None, ("0",)) == "none"


def test_other_views_than_the_calibrated_ones_are_not_calibrated(two_folds, caplog):
    calibrate_model(model_at(two_folds))
    assert load_predictor(model_at(two_folds), "cpu", augment=False).calibration is None
    assert "not calibrated" in caplog.text


def test_a_fold_that_was_trained_again_is_not_calibrated(two_folds, caplog):
    calibrate_model(model_at(two_folds))
    path = two_folds / "fold_1/checkpoint_final.pt"
    content = load_checkpoint(path)
    content["weights"]["readers.0.evidence.bias"] += 1
    save_checkpoint(path, content)
    assert load_predictor(model_at(two_folds), "cpu", augment=True).calibration is None
    assert "trained again" in caplog.text


@pytest.mark.parametrize("changed", [{"checkpoint": "0123"}, {"test_time_augmentation": False}])
def test_a_validation_by_other_weights_or_views_calibrates_nothing(changed, two_folds, caplog):
    path = two_folds / "fold_1/validation/summary.json"
    files.write_json(path, files.read_json(path) | changed)
    assert calibrate_model(model_at(two_folds)) is None
    assert "fold 1: validated by another checkpoint or in one view" in caplog.text


def test_a_calibration_of_other_classes_is_not_used(two_folds, caplog):
    made = calibrate_model(model_at(two_folds))
    save_calibration(two_folds / CALIBRATION, dataclasses.replace(made, class_order=not made.class_order))
    assert load_predictor(model_at(two_folds), "cpu", augment=True).calibration is None
    assert "class_order: True in the calibration, False in the plan" in caplog.text


def test_a_validation_without_identified_vertebrae_leaves_the_model_uncalibrated(two_folds, caplog):
    for fold in ("0", "1"):
        path = two_folds / f"fold_{fold}/validation/vertebrae.csv"
        path.write_text(path.read_text().splitlines()[0] + "\n")
    assert calibrate_model(model_at(two_folds)) is None
    assert "stays uncalibrated" in caplog.text


NAMES = ("normal", "inflammatory", "structural")


def uncalibrated(model, caplog, reason):
    """Whether a model is not calibrated, says why, and neither writes nor uses a calibration."""
    assert calibrate_model(model_at(model)) is None
    assert "stays uncalibrated" in caplog.text
    assert reason in caplog.text
    assert not (model / CALIBRATION).exists()
    return load_predictor(model_at(model), "cpu", augment=True).calibration is None


def test_folds_of_too_few_patients_leave_the_model_uncalibrated(two_folds, caplog):
    for fold, patients in (("0", range(5)), ("1", range(5, 9))):
        write_validation(two_folds / f"fold_{fold}", NAMES, patients, signal=2.0)
    assert uncalibrated(two_folds, caplog, "9 patient(s), 10 are needed")


def test_a_fold_that_identified_nothing_leaves_the_model_uncalibrated(two_folds, caplog):
    path = two_folds / "fold_1/validation/vertebrae.csv"
    path.write_text(path.read_text().splitlines()[0] + "\n")
    assert uncalibrated(two_folds, caplog, "fold 0 alone identified vertebrae with a class")


def test_a_file_of_an_earlier_version_in_which_nothing_was_fitted_is_no_calibration(two_folds, caplog):
    calibrate_model(model_at(two_folds))
    content = files.read_json(two_folds / CALIBRATION)
    note = "No temperature was fitted: 3 patient(s), 10 are needed."
    files.write_json(two_folds / CALIBRATION, content | {"temperature": 1.0, "notes": [note]})
    assert load_predictor(model_at(two_folds), "cpu", augment=True).calibration is None
    assert "nothing was learnt. No temperature was fitted: 3 patient(s)" in caplog.text
