import numpy as np
import pytest

from spinecls.calibration.fit import calibrate
from spinecls.calibration.out_of_fold import OutOfFold
from spinecls.calibration.temperature import apply_temperature
from spinecls.errors import UsageError
from spinecls.inference.reported import report_classes
from spinecls.inference.sealed_pass import SealedResult
from spinecls.planning.plan import Plan

NAMES = ("normal", "inflammatory", "structural")
PLAN = Plan(
    plans_name="p", dataset_name="d", channel_names=("T2",), class_names=NAMES, class_order=False,
    class_counts={"normal": 79, "inflammatory": 9, "structural": 9}, levels={}, structures={}, lesion_structures={},
    vertebrae_complete=True, ignore_label=255, level_statistics={}, configurations={},
)  # fmt: skip


PRIOR = np.array([0.8, 0.1, 0.1])


def softmax(logits):
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def sealed(members):
    nothing = np.zeros(0)
    return SealedResult(members.mean(axis=(0, 1)), members, nothing, nothing, nothing, nothing)


@pytest.fixture
def members():
    """Two folds, three views, five vertebrae."""
    return softmax(np.random.default_rng(0).normal(0, 2, (2, 3, 5, 3)))


@pytest.fixture
def calibration():
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 3, 200)
    p = softmax(3 * (np.eye(3)[truth] + rng.normal(size=(200, 3))))
    patients = np.array([str(i // 4) for i in range(200)])
    folds = np.array([str(i // 4 % 2) for i in range(200)])
    return calibrate(OutOfFold(patients, folds, truth, p), NAMES, False, {"0": "a", "1": "b"}, True)


def test_without_a_calibration_sets_hold_all_classes_and_nobody_is_unsure(members):
    report = report_classes(sealed(members), PLAN, ("0", "1"), None, None, PRIOR)
    assert np.array_equal(report.probabilities, members.mean(axis=(0, 1)))
    assert report.sets == [NAMES] * 5
    assert not report.unsure.any()


def test_with_one_the_mean_of_folds_and_views_is_at_its_temperature(members, calibration):
    report = report_classes(sealed(members), PLAN, ("0", "1"), calibration, None, PRIOR)
    assert calibration.temperature > 1.2
    assert report.probabilities == pytest.approx(apply_temperature(members.mean(axis=(0, 1)), calibration.temperature))


def test_sets_are_those_of_every_fold_by_itself(members, calibration):
    report = report_classes(sealed(members), PLAN, ("0", "1"), calibration, None, PRIOR)
    assert report.sets == calibration.prediction_sets(report.probabilities, members.mean(axis=1), ("0", "1"))


def test_doubt_adds_up_to_the_entropy_of_the_mean(members, calibration):
    doubt = report_classes(sealed(members), PLAN, ("0", "1"), calibration, None, PRIOR).doubt
    mean = apply_temperature(members, calibration.temperature).mean(axis=(0, 1))
    assert doubt.aleatoric + doubt.mutual_information == pytest.approx(-(mean * np.log(mean)).sum(axis=-1))


def test_the_fifth_that_validation_was_least_sure_of_is_unsure(calibration):
    sure, even = np.array([0.998, 0.001, 0.001]), np.full(3, 1 / 3)
    report = report_classes(sealed(np.stack([sure, even])[None, None]), PLAN, ("0",), calibration, None, PRIOR)
    assert report.unsure.tolist() == [False, True]


def test_another_prevalence_moves_the_probabilities_with_and_without_a_calibration(members, calibration):
    shares = {"normal": 0.2, "inflammatory": 0.4, "structural": 0.4}
    mean = members.mean(axis=(0, 1))
    plain = report_classes(sealed(members), PLAN, ("0", "1"), None, shares, PRIOR).probabilities
    moved = mean * [0.2 / 0.8, 0.4 / 0.1, 0.4 / 0.1]
    assert plain == pytest.approx(moved / moved.sum(axis=1, keepdims=True))
    both = report_classes(sealed(members), PLAN, ("0", "1"), calibration, shares, PRIOR).probabilities
    assert both == pytest.approx(calibration.calibrated(mean, shares))


def test_a_prevalence_of_unknown_classes_is_refused(members):
    with pytest.raises(UsageError, match="inflamed"):
        report_classes(sealed(members), PLAN, ("0", "1"), None, {"normal": 0.5, "inflamed": 0.5}, PRIOR)
