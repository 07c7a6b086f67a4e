import dataclasses
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from made_up_predictions import World

from spinecls.calibration import conformal
from spinecls.calibration.conformal import CalibrationScores
from spinecls.calibration.out_of_fold import OutOfFold

THREE_ALONE = ((0,), (1,), (2,))


def looped_p_value(oof, pool, score_of_fold, left_out=None):
    """The formula as it is written, in fractions: `score_of_fold` fold -> score of the new vertebra."""
    members = [i for i in range(len(oof.truth)) if oof.truth[i] in pool and oof.patients[i] != left_out]
    patients = {oof.patients[i] for i in members}
    total = Fraction(1)
    for patient in patients:
        own = [i for i in members if oof.patients[i] == patient]
        hits = [i for i in own if 1 - oof.probabilities[i, oof.truth[i]] >= score_of_fold(oof.folds[i])]
        total += Fraction(len(hits), len(own))
    return total / (len(patients) + 1)


def coarse(probabilities):
    """The same in sixteenths, so that many scores are equal."""
    others = np.floor(probabilities[..., 1:] * 16) / 16
    return np.concatenate([1 - others.sum(axis=-1, keepdims=True), others], axis=-1)


def coarse_out_of_fold(world):
    oof = world.out_of_fold(20)
    return dataclasses.replace(oof, probabilities=coarse(oof.probabilities))


def counted(*patients_of_class):
    """Scores of 0.5 with these numbers of patients a class, one vertebra each, every patient of one class."""
    classes = np.repeat(np.arange(len(patients_of_class)), patients_of_class)
    count = len(classes)
    return CalibrationScores(np.arange(count), np.full(count, "0"), classes, np.full(count, 0.5))


@pytest.mark.parametrize("pools", [THREE_ALONE, ((0,), (1, 2), (0, 1, 2))])
def test_p_values_agree_with_the_formula(pools):
    world = World(0, num_folds=3)
    oof, new = coarse_out_of_fold(world), coarse(world.see(8)[2])
    found = conformal.class_p_values(conformal.calibration_scores(oof), pools, world.folds, new)
    for n in range(new.shape[1]):
        for k, pool in enumerate(pools):
            expected = looped_p_value(oof, pool, lambda fold, n=n, k=k: 1 - new[world.folds.index(fold), n, k])
            assert found[n, k] == pytest.approx(float(expected), abs=1e-12)


@pytest.mark.parametrize("pools", [THREE_ALONE, ((0,), (1, 2), (0, 1, 2))])
def test_out_of_fold_p_values_agree_with_the_formula_without_the_own_patient(pools):
    oof = coarse_out_of_fold(World(1, num_folds=3))
    found = conformal.out_of_fold_p_values(oof, pools)
    for n, patient in enumerate(oof.patients):
        for k, pool in enumerate(pools):
            expected = looped_p_value(oof, pool, lambda _, n=n, k=k: 1 - oof.probabilities[n, k], left_out=patient)
            assert found[n, k] == pytest.approx(float(expected), abs=1e-12)


def one_a_patient(seed, count=90):
    """One fold, one vertebra a patient: split conformal prediction with classes as Mondrian categories."""
    world = World(seed, num_folds=1)
    oof = world.out_of_fold(count, most=1)
    return oof, world.see(40)[2]


def test_one_vertebra_a_patient_and_one_fold_is_split_conformal_prediction():
    # In the set: score up to the ceil((n + 1)(1 - alpha))-th smallest score of the class.
    oof, new = one_a_patient(2)
    p_values = conformal.class_p_values(conformal.calibration_scores(oof), THREE_ALONE, ["0"], new)
    for k in range(3):
        scores = np.sort(1 - oof.probabilities[oof.truth == k, k])
        limit = scores[int(np.ceil((len(scores) + 1) * 0.9)) - 1]
        assert np.array_equal(p_values[:, k] > 0.1 + 1e-9, 1 - new[0, :, k] <= limit)


def test_one_vertebra_a_patient_and_one_fold_agrees_with_crepes():
    crepes = pytest.importorskip("crepes")
    oof, new = one_a_patient(3)
    p_values = conformal.class_p_values(conformal.calibration_scores(oof), THREE_ALONE, ["0"], new)
    oracle = crepes.ConformalClassifier()
    oracle.fit(1 - oof.probabilities[np.arange(90), oof.truth], bins=oof.truth)
    for k in range(3):
        expected = oracle.predict_p(1 - new[0][:, [k]], bins=np.full(new.shape[1], k), smoothing=False)
        assert p_values[:, k] == pytest.approx(expected[:, 0])


def test_p_value_by_hand():
    # Class 0: patient 0 in fold a has the scores 0.2 and 0.6, patient 1 in fold b has 0.25. Of patient 0 a half, and
    # patient 1, is at least as odd as a vertebra that scores 0.5 by the model of a and 0.25 by that of b.
    scores = CalibrationScores(
        np.asarray([0, 0, 1]), np.asarray(["a", "a", "b"]), np.zeros(3, int), np.asarray([0.2, 0.6, 0.25])
    )
    new = np.asarray([[[0.5, 0.5]], [[0.75, 0.25]]])
    p_values = conformal.class_p_values(scores, ((0,), (1,)), ["a", "b"], new)
    assert p_values[0, 0] == pytest.approx((1 + 0.5 + 1) / 3)


def test_class_without_patients_has_the_p_value_one():
    p_values = conformal.class_p_values(counted(12, 0), ((0,), (1,)), ["0"], np.asarray([[[1.0, 0.0]]]))
    assert p_values[0, 1] == 1.0


@pytest.mark.parametrize(("patients", "included"), [(8, True), (9, False)])
def test_nine_patients_are_the_least_that_exclude_a_class_at_one_in_ten(patients, included):
    p_values = conformal.class_p_values(counted(patients), ((0,),), ["0"], np.asarray([[[0.0]]]))
    padded = np.column_stack([p_values, np.ones(1)])
    assert conformal.sets_from_p_values(padded, np.asarray([1]), 0.1, ordered=False)[0, 0] == included


def test_fractions_that_add_up_to_alpha_exclude():
    # Of 29 patients, 5/6 of one, 1/6 of another and all of a third are as odd: (1 + 2) / 30 is exactly 0.1, not above
    # it, though as floats the fractions add up to a little more.
    patients = np.asarray([0] * 6 + [1] * 6 + [2] * 2 + list(range(3, 29)))
    odd = np.asarray([0.9] * 5 + [0.1] + [0.9] + [0.1] * 5 + [0.9] * 2 + [0.1] * 26)
    scores = CalibrationScores(patients, np.full(40, "0"), np.zeros(40, int), odd)
    p_values = conformal.class_p_values(scores, ((0,),), ["0"], np.asarray([[[0.2]]]))
    padded = np.column_stack([p_values, np.ones(1)])
    assert not conformal.sets_from_p_values(padded, np.asarray([1]), 0.1, ordered=False)[0, 0]


def test_reported_class_is_in_the_set_whatever_its_p_value():
    sets = conformal.sets_from_p_values(np.zeros((2, 3)), np.asarray([2, 0]), 0.1, ordered=False)
    assert sets.tolist() == [[False, False, True], [True, False, False]]


def test_ordered_classes_have_no_gap():
    p_values = np.asarray([[0.5, 0.0, 0.0, 0.4], [0.0, 0.5, 0.0, 0.0], [0.0, 0.3, 0.0, 0.5]])
    sets = conformal.sets_from_p_values(p_values, np.asarray([0, 1, 3]), 0.1, ordered=True)
    assert sets.tolist() == [[True] * 4, [False, True, False, False], [False, True, True, True]]


def test_unordered_classes_keep_their_gap():
    sets = conformal.sets_from_p_values(np.asarray([[0.5, 0.0, 0.5]]), np.asarray([0]), 0.1, ordered=False)
    assert sets.tolist() == [[True, False, True]]


def test_classes_with_ten_patients_stand_alone():
    assert conformal.make_pools(counted(10, 40, 12), 3, ordered=False) == THREE_ALONE


def test_rare_grade_is_pooled_with_the_rarer_neighbour():
    assert conformal.make_pools(counted(50, 4, 20, 30), 4, ordered=True) == ((0,), (1, 2), (2,), (3,))


def test_pool_of_grades_grows_until_it_has_ten_patients():
    assert conformal.make_pools(counted(50, 4, 3, 2), 4, ordered=True) == (
        (0,),
        (0, 1, 2, 3),
        (0, 1, 2, 3),
        (0, 1, 2, 3),
    )


def test_rare_class_is_pooled_with_the_other_rare_ones():
    assert conformal.make_pools(counted(90, 4, 30, 7, 0), 5, ordered=False) == ((0,), (1, 3), (2,), (1, 3), (1, 3, 4))


def test_patient_with_several_classes_of_a_pool_counts_once():
    # Five patients have both classes, so the pool of the two has five and all three are needed.
    scores = counted(20, 5, 5)
    patients = np.where(scores.classes == 2, scores.patients - 5, scores.patients)
    assert conformal.make_pools(dataclasses.replace(scores, patients=patients), 3, ordered=False)[1] == (0, 1, 2)


def test_all_classes_together_may_still_be_too_few():
    assert conformal.make_pools(counted(3, 2), 2, ordered=True) == ((0, 1), (0, 1))


@pytest.mark.parametrize("ordered", [False, True])
def test_order_of_vertebrae_does_not_matter(ordered):
    oof = World(4).out_of_fold(40)
    order = np.random.default_rng(0).permutation(len(oof.truth))
    turned = OutOfFold(oof.patients[order], oof.folds[order], oof.truth[order], oof.probabilities[order])
    assert np.array_equal(
        conformal.out_of_fold_sets(turned, 0.2, ordered), conformal.out_of_fold_sets(oof, 0.2, ordered)[order]
    )


def test_smaller_alpha_never_takes_a_class_out():
    oof = World(5).out_of_fold(60)
    wide, narrow = conformal.out_of_fold_sets(oof, 0.05), conformal.out_of_fold_sets(oof, 0.3)
    assert (wide >= narrow).all()
    assert wide.sum() > narrow.sum()


def coverage(sets, truth, patients):
    """Share of vertebrae whose set holds their class: by class, every patient that has it weighing the same."""
    shares = []
    for k in range(3):
        rows = truth == k
        shares.append(np.mean([sets[rows & (patients == p), k].mean() for p in np.unique(patients[rows])]))
    return shares


def test_every_class_of_new_patients_is_covered_as_promised():
    found, sizes = [], []
    for seed in range(25):
        world = World(seed)
        oof = world.out_of_fold(60)
        patients, truth, new = world.see(150)
        scores = conformal.calibration_scores(oof)
        p_values = conformal.class_p_values(scores, conformal.make_pools(scores, 3, False), world.folds, new)
        sets = conformal.sets_from_p_values(p_values, new.mean(axis=0).argmax(axis=1), 0.1, ordered=False)
        found.append(coverage(sets, truth, patients))
        sizes.append(sets.sum(axis=1).mean())
    assert np.min(np.mean(found, axis=0)) >= 0.9 - 0.015
    # Sets of all classes would cover too, so they must be smaller to be worth anything.
    assert np.mean(sizes) < 2.6


def test_out_of_fold_sets_tell_the_coverage_of_new_patients():
    own = []
    for seed in range(25):
        oof = World(seed).out_of_fold(60)
        own.append(coverage(conformal.out_of_fold_sets(oof, 0.1), oof.truth, oof.patients))
    assert np.mean(own, axis=0) == pytest.approx([0.91, 0.91, 0.91], abs=0.03)


def test_memory_does_not_grow_with_the_square_of_the_vertebrae():
    world = World(6)
    oof = world.out_of_fold(1000)
    tracemalloc.start()
    conformal.out_of_fold_sets(oof, 0.1)
    scores = conformal.calibration_scores(oof)
    conformal.class_p_values(scores, THREE_ALONE, world.folds, world.see(1000)[2])
    assert len(oof.truth) > 4000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Not a byte for each pair.
    assert peak < len(oof.truth) ** 2
