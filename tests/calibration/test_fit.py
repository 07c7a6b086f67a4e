import dataclasses
import json
import re

import numpy as np
import pytest
from made_up_predictions import World

from spinecls import files
from spinecls.calibration import conformal
from spinecls.calibration.fit import calibrate
from spinecls.calibration.temperature import apply_temperature, cross_fitted, fit_temperature
from spinecls.errors import DatasetError, UsageError
from spinecls.evaluation.metrics import expected_calibration_error, negative_log_likelihood, patient_shares

NAMES = ("normal", "oedema", "fatty")
HASHES = {str(fold): f"hash{fold}" for fold in range(5)}


def calibrated(oof, **more):
    arguments = {"class_order": False, "checkpoints": HASHES, "test_time_augmentation": True} | more
    return calibrate(oof, NAMES, **arguments)


@pytest.fixture(scope="module")
def oof():
    return World(0, sharpness=3).out_of_fold(60)


def only(oof, rows):
    return dataclasses.replace(oof, **{f.name: getattr(oof, f.name)[rows] for f in dataclasses.fields(oof)})


def test_temperature_is_fitted_on_all_folds(oof):
    assert calibrated(oof).temperature == fit_temperature(oof.truth, oof.probabilities, oof.patients)


def test_prior_is_the_share_of_vertebrae(oof):
    assert calibrated(oof).prior == pytest.approx(np.bincount(oof.truth) / len(oof.truth))


def test_counts_are_those_of_vertebrae_and_patients(oof):
    counts = calibrated(oof).counts["fatty"]
    assert counts.vertebrae == (oof.truth == 2).sum()
    assert counts.patients == len(set(oof.patients[oof.truth == 2]))


def test_scores_are_taken_at_the_temperature(oof):
    calibration = calibrated(oof)
    scaled = apply_temperature(oof.probabilities, calibration.temperature)
    assert calibration.scores["oedema"].scores == pytest.approx(1 - scaled[oof.truth == 1, 1])


def test_quality_is_measured_on_folds_that_did_not_fit_the_temperature(oof):
    quality, crossed, shares = calibrated(oof).quality, cross_fitted(oof).probabilities, patient_shares(oof.patients)
    right = crossed.argmax(axis=1) == oof.truth
    likelihood = np.average(negative_log_likelihood(oof.truth, crossed), weights=shares)
    assert quality.nll_after == pytest.approx(likelihood)
    assert quality.ece_after == expected_calibration_error(crossed.max(axis=1), right, shares[None])[0]


def test_overconfident_model_gains(oof):
    quality = calibrated(oof).quality
    assert quality.nll_after < quality.nll_before - 0.1
    assert quality.ece_after < quality.ece_before - 0.05


def test_coverage_gives_every_patient_the_same_weight(oof):
    sets = conformal.out_of_fold_sets(cross_fitted(oof), 0.1)
    rows = oof.truth == 1
    expected = np.mean([sets[rows & (oof.patients == p), 1].mean() for p in np.unique(oof.patients[rows])])
    quality = calibrated(oof).quality
    assert quality.coverage["oedema"] == pytest.approx(expected)
    assert quality.mean_set_size == pytest.approx(
        np.mean([sets[oof.patients == p].sum(axis=1).mean() for p in np.unique(oof.patients)])
    )


def test_no_patient_is_named_in_the_record(oof):
    named = dataclasses.replace(oof, patients=np.char.add("Alice", oof.patients))
    text = json.dumps(dataclasses.asdict(calibrated(named)))
    assert "Alice" not in text


def test_order_of_vertebrae_changes_only_the_order_of_scores(oof):
    first, second = calibrated(oof), calibrated(only(oof, np.arange(len(oof.truth))[::-1]))
    assert second.temperature == pytest.approx(first.temperature, abs=1e-4)
    assert second.scores["normal"].scores == pytest.approx(first.scores["normal"].scores[::-1], abs=1e-4)


def test_enough_patients_need_no_notes(oof):
    assert calibrated(oof).notes == ()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (lambda oof: only(oof, np.isin(oof.patients, np.unique(oof.patients)[:9])), "9 patient(s), 10 are needed"),
        (lambda oof: only(oof, oof.truth == 0), "all vertebrae are of one class"),
        (
            lambda oof: dataclasses.replace(oof, probabilities=np.full_like(oof.probabilities, 1 / 3)),
            "all classes equally probable",
        ),
    ],
)
def test_what_no_temperature_can_be_fitted_to_is_not_calibrated(data, reason, oof):
    with pytest.raises(DatasetError, match=re.escape(reason)):
        calibrated(data(oof))


def test_pooled_classes_are_said(oof):
    with_fatty = np.unique(oof.patients[oof.truth == 2])
    fewer = only(oof, (oof.truth != 2) | np.isin(oof.patients, with_fatty[:3]))
    notes = calibrated(fewer, class_order=True).notes
    assert notes == ("'fatty' has too few patients; pooled: oedema, fatty.",)


def test_class_that_never_occurs_has_no_coverage(oof):
    calibration = calibrated(only(oof, oof.truth != 2))
    assert calibration.quality.coverage["fatty"] is None
    assert calibration.prior[2] == 0
    assert calibration.scores["fatty"].scores == ()


def test_temperature_at_the_end_of_its_range_is_said():
    sure = World(2, sharpness=40).out_of_fold(40)
    assert "The temperature 5.00 is at the end of its range" in calibrated(sure).notes[0]


def test_record_is_strict_json(oof, tmp_path):
    files.write_json(tmp_path / "c.json", dataclasses.asdict(calibrated(only(oof, oof.truth != 2))))
    assert files.read_json(tmp_path / "c.json")["quality"]["coverage"]["fatty"] is None


@pytest.mark.parametrize("alpha", [0, 0.5, 1, float("nan"), -0.1])
def test_alpha_must_be_a_small_share(oof, alpha):
    with pytest.raises(UsageError, match=r"alpha: got .*, expected between 0 and 0.5"):
        calibrated(oof, alpha=alpha)


def test_without_vertebrae_there_is_no_calibration(oof):
    with pytest.raises(DatasetError, match="no vertebra with a class was identified"):
        calibrated(only(oof, slice(0)))


def test_other_classes_are_refused(oof):
    with pytest.raises(DatasetError, match="have 3 classes, expected 2: normal, oedema"):
        calibrate(oof, NAMES[:2], False, HASHES, True)


def test_fold_without_a_checkpoint_is_refused(oof):
    with pytest.raises(DatasetError, match="fold 4 has predictions but no checkpoint"):
        calibrated(oof, checkpoints={f: h for f, h in HASHES.items() if f != "4"})
