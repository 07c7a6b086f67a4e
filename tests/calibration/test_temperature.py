import dataclasses

import numpy as np
import pytest
from made_up_predictions import World
from scipy.special import softmax

from spinecls.calibration.temperature import apply_temperature, cross_fitted, fit_temperature, why_not_fitted
from spinecls.evaluation.metrics import negative_log_likelihood, patient_shares


def drawn(seed, count=4000, spread=1.5):
    """Vertebrae whose classes are drawn from the probabilities that are right, one a patient."""
    generator = np.random.default_rng(seed)
    right = softmax(spread * generator.normal(size=(count, 3)), axis=1)
    truth = (generator.random((count, 1)) > right.cumsum(axis=1)).sum(axis=1)
    return truth, right, [f"p{i}" for i in range(count)]


def test_temperature_takes_the_root_of_odds():
    assert apply_temperature(np.asarray([[0.9, 0.1]]), 2.0) == pytest.approx(np.asarray([[0.75, 0.25]]))


def test_temperature_one_changes_nothing():
    probabilities = np.asarray([[[0.2, 0.5, 0.3]], [[0.1, 0.1, 0.8]]])
    assert apply_temperature(probabilities, 1.0) == pytest.approx(probabilities)


def test_impossible_class_counts_as_a_millionth_of_a_millionth():
    assert apply_temperature(np.asarray([[1.0, 0.0]]), 2.0)[0, 1] == pytest.approx(1e-6, rel=1e-4)


@pytest.mark.parametrize("true_temperature", [0.5, 1.0, 2.5])
def test_temperature_that_the_classes_were_drawn_at_is_found(true_temperature):
    truth, right, patients = drawn(0)
    # Probabilities that become right at the temperature.
    model = apply_temperature(right, 1 / true_temperature)
    assert fit_temperature(truth, model, patients) == pytest.approx(true_temperature, rel=0.06)


def test_no_temperature_near_by_is_more_likely():
    oof = World(0, sharpness=3).out_of_fold(40)
    shares = patient_shares(oof.patients)
    best = fit_temperature(oof.truth, oof.probabilities, oof.patients)

    def loss(temperature):
        return shares @ negative_log_likelihood(oof.truth, apply_temperature(oof.probabilities, temperature))

    assert 1.2 < best < 4
    assert loss(best) < min(loss(best * 1.01), loss(best / 1.01), loss(1.0))


def test_patient_with_many_vertebrae_counts_as_one():
    oof = World(1).out_of_fold(30, most=1)
    copies = np.where(np.arange(30) == 3, 50, 1)
    many = fit_temperature(*(np.repeat(a, copies, axis=0) for a in (oof.truth, oof.probabilities, oof.patients)))
    assert many == pytest.approx(fit_temperature(oof.truth, oof.probabilities, oof.patients), abs=1e-4)


def test_order_of_vertebrae_does_not_matter():
    oof = World(2).out_of_fold(30)
    turned = fit_temperature(oof.truth[::-1], oof.probabilities[::-1], oof.patients[::-1])
    assert turned == pytest.approx(fit_temperature(oof.truth, oof.probabilities, oof.patients), abs=1e-4)


@pytest.mark.parametrize(("hits", "expected"), [(1.0, 0.3), (0.0, 5.0)])
def test_temperature_stays_in_its_range(hits, expected):
    truth = np.arange(20) % 2
    right = np.eye(2)[truth] * 0.4 + 0.3
    probabilities = right if hits else 1 - right
    assert fit_temperature(truth, probabilities, list(range(20))) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("truth", "probabilities", "patients", "reason"),
    [
        ([], np.zeros((0, 2)), [], "0 patient(s), 10 are needed"),
        ([0, 1] * 9, [[0.8, 0.2]] * 18, list("aabbccddeeffgghhii"), "9 patient(s), 10 are needed"),
        ([1] * 10, [[0.8, 0.2]] * 10, list("abcdefghij"), "all vertebrae are of one class"),
        ([0, 1] * 5, [[0.5, 0.5]] * 10, list("abcdefghij"), "equally probable in every vertebra"),
    ],
)
def test_without_enough_to_learn_from_it_is_one_and_the_reason_is_said(truth, probabilities, patients, reason):
    data = np.asarray(truth, int), np.asarray(probabilities, float), patients
    assert fit_temperature(*data) == 1.0
    assert reason in why_not_fitted(*data)


def test_no_reason_where_a_temperature_is_fitted():
    oof = World(3).out_of_fold(10)
    assert why_not_fitted(oof.truth, oof.probabilities, oof.patients) == ""


def test_each_fold_has_the_temperature_of_the_others():
    oof = World(4, sharpness=3).out_of_fold(60)
    others = oof.folds != "2"
    expected = fit_temperature(oof.truth[others], oof.probabilities[others], oof.patients[others])
    crossed = cross_fitted(oof).probabilities[~others]
    assert crossed == pytest.approx(apply_temperature(oof.probabilities[~others], expected))


def test_truth_of_a_fold_does_not_touch_its_own_probabilities():
    oof = World(5).out_of_fold(60)
    own = oof.folds == "1"
    changed = dataclasses.replace(oof, truth=np.where(own, (oof.truth + 1) % 3, oof.truth))
    first, second = cross_fitted(oof).probabilities, cross_fitted(changed).probabilities
    assert np.array_equal(first[own], second[own])
    assert not np.allclose(first[~own], second[~own])


def test_one_fold_alone_keeps_its_probabilities():
    oof = World(6, num_folds=1).out_of_fold(20)
    assert cross_fitted(oof).probabilities == pytest.approx(oof.probabilities)
