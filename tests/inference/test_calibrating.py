import numpy as np
import pytest
from inference.conftest import write_validation

from spinecls.calibration.record import CALIBRATION, load_calibration
from spinecls.inference.calibrating import calibrate_model, described, out_of_fold
from spinecls.inference.models import calibration_of, load_predictor, model_at
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


def test_one_fold_is_not_calibrated(results):
    model = model_at(results / "AuxSegTrainer__spineclsPlans__3d_fullres")
    assert calibrate_model(model) is None
    assert calibration_of(model, augment=True) is None
    assert described(None, ("0",)) == "none"


def test_other_views_than_the_calibrated_ones_are_not_calibrated(two_folds, caplog):
    calibrate_model(model_at(two_folds))
    assert load_predictor(model_at(two_folds), "cpu", augment=False).calibration is None
    assert "not calibrated" in caplog.text


def test_a_fold_that_was_trained_again_is_not_calibrated(two_folds, caplog):
    calibrate_model(model_at(two_folds))
    path = two_folds / "fold_1/checkpoint_final.pt"
    content = load_checkpoint(path)
    content["weights"]["evidence.bias"] = content["weights"]["evidence.bias"] + 1
    save_checkpoint(path, content)
    assert calibration_of(model_at(two_folds), augment=True) is None
    assert "trained again" in caplog.text


def test_a_validation_without_identified_vertebrae_leaves_the_model_uncalibrated(two_folds, caplog):
    for fold in ("0", "1"):
        path = two_folds / f"fold_{fold}/validation/vertebrae.csv"
        path.write_text(path.read_text().splitlines()[0] + "\n")
    assert calibrate_model(model_at(two_folds)) is None
    assert "stays uncalibrated" in caplog.text
