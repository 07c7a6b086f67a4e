import dataclasses
import json

import numpy as np
import pytest
from made_up_predictions import World

from spinecls.calibration import conformal
from spinecls.calibration.fit import calibrate
from spinecls.calibration.record import load_calibration, save_calibration
from spinecls.calibration.temperature import apply_temperature
from spinecls.errors import ModelError, UsageError

NAMES = ("normal", "oedema", "fatty")
HASHES = {str(fold): f"hash{fold}" for fold in range(5)}
WORLD = World(0, sharpness=3)
OOF = WORLD.out_of_fold(60)
NEW = WORLD.see(30)[2]


@pytest.fixture(scope="module")
def calibration():
    return calibrate(OOF, NAMES, False, HASHES, True)


@pytest.fixture
def stored(calibration, tmp_path):
    path = tmp_path / "calibration.json"
    save_calibration(path, calibration)
    return path


def test_what_is_written_is_read_again(calibration, stored):
    assert load_calibration(stored) == calibration


def test_read_calibration_gives_the_same_sets(calibration, stored):
    reported = calibration.calibrated(NEW.mean(axis=0))
    again = load_calibration(stored).prediction_sets(reported, NEW, WORLD.folds)
    assert again == calibration.prediction_sets(reported, NEW, WORLD.folds)


def test_probabilities_are_scaled(calibration):
    mean = NEW.mean(axis=0)
    assert np.array_equal(calibration.calibrated(mean), apply_temperature(mean, calibration.temperature))


def test_prevalence_moves_probabilities(calibration):
    mean = NEW.mean(axis=0)
    shares = {"normal": 0.9, "oedema": 0.08, "fatty": 0.02}
    moved, plain = calibration.calibrated(mean, shares), calibration.calibrated(mean)
    ratio = np.asarray([0.9, 0.08, 0.02]) / calibration.prior
    expected = plain * ratio / (plain * ratio).sum(axis=1, keepdims=True)
    assert moved == pytest.approx(expected)


def test_faulty_prevalence_is_refused(calibration):
    with pytest.raises(UsageError, match="'fatty' is missing"):
        calibration.calibrated(NEW.mean(axis=0), {"normal": 0.9, "oedema": 0.1})


def test_sets_are_those_of_the_scaled_fold_models(calibration):
    reported = calibration.calibrated(NEW.mean(axis=0))
    scaled = dataclasses.replace(OOF, probabilities=apply_temperature(OOF.probabilities, calibration.temperature))
    p_values = conformal.class_p_values(
        conformal.calibration_scores(scaled),
        ((0,), (1,), (2,)),
        WORLD.folds,
        apply_temperature(NEW, calibration.temperature),
    )
    expected = p_values > 0.1
    expected[np.arange(len(expected)), reported.argmax(axis=1)] = True
    found = calibration.prediction_sets(reported, NEW, WORLD.folds)
    assert [[name in s for name in NAMES] for s in found] == expected.tolist()


def test_folds_may_come_in_any_order(calibration):
    reported = calibration.calibrated(NEW.mean(axis=0))
    turned = calibration.prediction_sets(reported, NEW[::-1], WORLD.folds[::-1])
    assert turned == calibration.prediction_sets(reported, NEW, WORLD.folds)


def test_some_of_the_folds_use_their_own_scores_only(calibration):
    part = np.isin(OOF.folds, ["1", "3"])
    few = dataclasses.replace(OOF, **{f.name: getattr(OOF, f.name)[part] for f in dataclasses.fields(OOF)})
    scaled = dataclasses.replace(few, probabilities=apply_temperature(few.probabilities, calibration.temperature))
    scores = conformal.calibration_scores(scaled)
    new = NEW[[1, 3]]
    reported = calibration.calibrated(new.mean(axis=0))
    p_values = conformal.class_p_values(
        scores, conformal.make_pools(scores, 3, False), ["1", "3"], apply_temperature(new, calibration.temperature)
    )
    expected = conformal.sets_from_p_values(p_values, reported.argmax(axis=1), 0.1, False)
    found = calibration.prediction_sets(reported, new, ["1", "3"])
    assert [[name in s for name in NAMES] for s in found] == expected.tolist()


def test_most_probable_class_that_is_reported_is_in_the_set(calibration):
    reported = np.roll(calibration.calibrated(NEW.mean(axis=0)), 1, axis=1)
    found = calibration.prediction_sets(reported, NEW, WORLD.folds)
    assert all(NAMES[k] in names for k, names in zip(reported.argmax(axis=1), found, strict=True))


def test_sets_of_ordered_classes_are_ranges():
    grades = calibrate(OOF, NAMES, True, HASHES, True)
    reported = grades.calibrated(NEW.mean(axis=0))
    assert ("normal", "fatty") not in grades.prediction_sets(reported, NEW, WORLD.folds)
    unordered = calibrate(OOF, NAMES, False, HASHES, True)
    assert ("normal", "fatty") in unordered.prediction_sets(reported, NEW, WORLD.folds)


def test_no_vertebra_has_no_set(calibration):
    assert calibration.prediction_sets(np.zeros((0, 3)), np.zeros((5, 0, 3)), WORLD.folds) == []


def test_fewer_folds_may_need_pools():
    forty = calibrate(World(1).out_of_fold(40), NAMES, False, HASHES, True)
    assert forty.pooled(WORLD.folds) == {}
    # Fold 0 has eight patients, too few for any pool.
    assert forty.pooled(["0"]) == dict.fromkeys(NAMES, NAMES)


def test_folds_that_were_not_calibrated_have_no_sets(calibration):
    with pytest.raises(ModelError, match="Fold all was not calibrated; folds 0, 1, 2, 3, 4 were"):
        calibration.prediction_sets(NEW[0], NEW[:1], ["all"])


def test_same_checkpoints_are_accepted(calibration):
    calibration.require_models({"0": "hash0", "3": "hash3"}, True)


@pytest.mark.parametrize(
    ("checkpoints", "augmented", "message"),
    [
        ({"0": "hash0", "5": "hash5"}, True, "Fold 5 was not calibrated"),
        (
            {"0": "other"},
            True,
            r"Fold 0 was trained again .* \(checkpoint other, calibrated was hash0",
        ),
        ({"0": "hash0"}, False, "was calibrated with test-time augmentation"),
    ],
)
def test_other_models_are_refused(calibration, checkpoints, augmented, message):
    with pytest.raises(ModelError, match=message):
        calibration.require_models(checkpoints, augmented)


def test_missing_file_says_that_nothing_was_calibrated(tmp_path):
    with pytest.raises(ModelError, match=r"calibration.json: the model was not calibrated"):
        load_calibration(tmp_path / "calibration.json")


def test_text_that_is_no_json_is_refused(tmp_path):
    path = tmp_path / "calibration.json"
    path.write_text("{")
    with pytest.raises(ModelError, match=r"calibration.json: not valid JSON"):
        load_calibration(path)


def test_file_of_absurd_size_is_not_read(tmp_path, monkeypatch):
    path = tmp_path / "calibration.json"
    path.write_text("{}")
    monkeypatch.setattr("spinecls.calibration.record.LARGEST_FILE_BYTES", 1)
    with pytest.raises(ModelError, match="2 bytes are too many"):
        load_calibration(path)


def put(content, value, *keys):
    for key in keys[:-1]:
        content = content[key]
    content[keys[-1]] = value


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("surplus",), 1, "unknown key 'surplus'"),
        (("temperature",), "hot", "temperature: expected float, got 'hot'"),
        (("temperature",), 10**400, "a number is too large"),
        (("temperature",), 7, "temperature: got 7, expected 0.3 to 5"),
        (("alpha",), 0, "alpha: got 0, expected between 0 and 0.5"),
        (("class_names",), ["a"], "class_names: got .*, expected at least two different"),
        (("class_names",), ["normal", "oedema", "oedema"], "expected at least two different"),
        (("class_names",), ["a", "b", "c"], "scores: has the classes normal, oedema, fatty, expected a, b, c"),
        (("quality", "nll_after"), -1, "quality: .* holds a number that cannot be"),
        (("quality", "ece_before"), 2, "holds a number that cannot be"),
        (("quality", "coverage", "fatty"), 1.5, "holds a number that cannot be"),
        (("counts", "oedema", "vertebrae"), 3, "scores of 'oedema': .* expected 3 of"),
        (("scores", "fatty", "scores", 0), 1.5, "scores of 'fatty': a score does not lie between 0 and 1"),
        (("scores", "fatty", "folds", 0), "9", "scores of 'fatty': fold 9 has no checkpoint"),
        (("scores", "fatty", "patients"), [], "scores of 'fatty': .* expected"),
        (("checkpoints",), {"0": "a"}, "fold 1 has no checkpoint"),
    ],
)
def test_damaged_record_is_refused_with_its_path_and_place(stored, keys, value, message):
    content = json.loads(stored.read_text())
    put(content, value, *keys)
    stored.write_text(json.dumps(content))
    with pytest.raises(ModelError, match=rf"^{stored}.*{message}"):
        load_calibration(stored)


def test_infinite_number_is_refused(calibration, stored):
    size = str(calibration.quality.mean_set_size)
    stored.write_text(stored.read_text().replace(size, "1e999"))
    with pytest.raises(ModelError, match="holds a number that cannot be"):
        load_calibration(stored)


@pytest.mark.parametrize("number", [-1, 10**12])
def test_patient_numbers_are_checked(stored, number):
    content = json.loads(stored.read_text())
    patients = content["scores"]["fatty"]["patients"]
    content["scores"]["fatty"]["patients"] = [number if p == patients[0] else p for p in patients]
    stored.write_text(json.dumps(content))
    with pytest.raises(ModelError, match="a patient has a number below 0 or too large"):
        load_calibration(stored)


def test_patient_of_two_folds_is_refused(stored):
    content = json.loads(stored.read_text())
    patient = content["scores"]["normal"]["patients"][0]
    content["scores"]["fatty"]["patients"] = [patient] * content["counts"]["fatty"]["vertebrae"]
    content["counts"]["fatty"]["patients"] = 1
    stored.write_text(json.dumps(content))
    with pytest.raises(ModelError, match="a patient has several folds"):
        load_calibration(stored)


def test_record_without_vertebrae_is_refused(stored):
    content = json.loads(stored.read_text())
    content["scores"] = {name: {"patients": [], "folds": [], "scores": []} for name in NAMES}
    content["counts"] = {name: {"vertebrae": 0, "patients": 0} for name in NAMES}
    stored.write_text(json.dumps(content))
    with pytest.raises(ModelError, match="there is no vertebra"):
        load_calibration(stored)
