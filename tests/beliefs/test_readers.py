"""Numbers are worked by hand, or those that the readings were drawn by."""

import numpy as np
import pytest

from spinecls.beliefs import belief
from spinecls.beliefs.readers import Readers, Reading, judged

NAMES = ("a", "b", "c")


def even(trust, num_classes=2):
    wrong = (1 - trust) / (num_classes - 1)
    return [[trust if said == true else wrong for true in range(num_classes)] for said in range(num_classes)]


TWO_CLASSES = Readers(2, NAMES, np.array([even(t) for t in (0.8, 0.6, 0.5, 0.99, 0.9, 0.7)]), np.array([0.5, 0.5]))
"""Of a, b, c, who puts classes right, an earlier model, and readers without a name."""


def drawn(accuracies, count=600, num_classes=3, seed=0):
    """Truth and what readers of these accuracies say, errors even over the other classes."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, num_classes, count)
    wrong = (truth[:, None] + rng.integers(1, num_classes, (count, len(accuracies)))) % num_classes
    return truth, np.where(rng.random((count, len(accuracies))) < accuracies, truth[:, None], wrong)


def readings(said):
    """Readings of each row of class indices, -1 = not read."""
    return [[Reading((int(k),), 1.0, NAMES[r]) for r, k in enumerate(row) if k >= 0] for row in said]


def quality(readers):
    return readers.matrices.diagonal(axis1=1, axis2=2).mean(axis=1)


def test_accuracies_of_three_readers_are_found_without_the_truth():
    _, said = drawn([0.9, 0.7, 0.5])
    assert quality(judged(readings(said), NAMES, 3))[:3] == pytest.approx([0.9, 0.7, 0.5], abs=0.06)


def test_the_class_that_a_reader_overlooks_is_found():
    truth, said = drawn([0.95, 0.95, 0.95])
    said[:, 2] = np.where(truth == 1, 0, said[:, 2])
    matrix = judged(readings(said), NAMES, 3).matrices[2]
    assert matrix[0, 1] > 0.9
    assert matrix[1, 1] < 0.05


def test_shares_of_the_true_classes_are_found():
    truth, said = drawn([0.9, 0.7, 0.5])
    kept = (truth != 2) | (np.arange(len(truth)) % 4 == 0)
    expected = np.bincount(truth[kept]) / kept.sum()
    assert judged(readings(said[kept]), NAMES, 3).shares == pytest.approx(expected, abs=0.05)


def test_what_is_likely_is_true_more_often_than_what_most_say():
    truth, said = drawn([0.95, 0.5, 0.5])
    readers = judged(readings(said), NAMES, 3)
    likely = np.array([readers.told(r).masses for r in readings(said)])
    most = np.array([np.bincount(row, minlength=3).argmax() for row in said])
    assert (likely.argmax(axis=1) == truth).mean() > (most == truth).mean() + 0.1


def test_masses_are_as_great_as_they_are_right():
    truth, said = drawn([0.85, 0.7, 0.6], count=3000)
    readers = judged(readings(said), NAMES, 3)
    likely = np.array([readers.told(r).masses for r in readings(said)])
    assert likely.max(axis=1).mean() == pytest.approx((likely.argmax(axis=1) == truth).mean(), abs=0.03)


def test_vertebrae_that_nobody_read_change_nothing():
    _, said = drawn([0.9, 0.7, 0.5], count=100)
    unread = np.concatenate([said, np.full((40, 3), -1)])
    found, expected = judged(readings(unread), NAMES, 3), judged(readings(said), NAMES, 3)
    assert found.matrices == pytest.approx(expected.matrices)
    assert found.shares == pytest.approx(expected.shares)


def test_a_reader_who_read_half_is_judged_by_that_half():
    _, said = drawn([0.9, 0.9, 0.6], count=1200)
    said[::2, 2] = -1
    assert quality(judged(readings(said), NAMES, 3))[2] == pytest.approx(0.6, abs=0.06)


def test_readers_without_a_name_share_a_matrix():
    _, said = drawn([0.9, 0.8, 0.6], count=1200)
    unnamed = [[r._replace(reader="" if r.reader == "c" else r.reader) for r in row] for row in readings(said)]
    assert quality(judged(unnamed, ("a", "b"), 3))[-1] == pytest.approx(0.6, abs=0.06)


def test_readings_without_a_known_reader_of_vertebrae_that_nobody_else_read_are_trusted():
    truth, said = drawn([0.9, 0.7, 0.5])
    alone = [[Reading((int(k),))] for k in truth[:200]]
    assert quality(judged(readings(said) + alone, NAMES, 3))[-1] == pytest.approx(0.9, abs=0.03)


def test_a_class_that_was_put_right_is_believed_whatever_readers_are_worth():
    _, said = drawn([0.6, 0.5, 0.5])
    readers = judged([*readings(said), [Reading((2,), 1.0, "audit")]], NAMES, 3)
    assert readers.told([Reading((2,), 1.0, "audit")]).masses[2] > 0.97


def test_a_model_that_did_not_learn_from_them_is_judged_as_one_reader_more():
    truth, said = drawn([0.9, 0.7, 0.5])
    chances = [np.eye(3)[k] if i % 10 else np.eye(3)[(k + 1) % 3] for i, k in enumerate(truth)]
    assert quality(judged(readings(said), NAMES, 3, chances))[-2] == pytest.approx(0.9, abs=0.05)


def test_a_model_alone_judges_nobody():
    with pytest.raises(ValueError, match="no reading tells anything"):
        judged([[], [Reading((0, 1, 2))]], NAMES, 3, [np.eye(3)[0], np.eye(3)[1]])


def test_two_who_differ_are_weighed_by_how_often_each_is_right():
    # 0.8 * 0.4 against 0.2 * 0.6
    masses = TWO_CLASSES.told([Reading((0,), 1.0, "a"), Reading((1,), 1.0, "b")]).masses
    assert masses == pytest.approx([0.32 / 0.44, 0.12 / 0.44])


def test_a_rare_class_is_less_likely():
    readers = Readers(2, NAMES, TWO_CLASSES.matrices, np.array([0.9, 0.1]))
    # 0.9 * 0.2 against 0.1 * 0.8
    assert readers.told([Reading((1,), 1.0, "a")]).masses == pytest.approx([0.18 / 0.26, 0.08 / 0.26])


def test_a_doubtful_reading_leaves_mass_open():
    assert TWO_CLASSES.told([Reading((0,), 0.5, "a")]).masses == pytest.approx([0.5 * 0.8, 0.5 * 0.2])


def test_doubtful_readings_leave_open_what_none_is_confident_of():
    told = TWO_CLASSES.told([Reading((0,), 0.5, "a"), Reading((1,), 0.6, "b")])
    # Each class: (0.5 said + 0.5 / 2) (0.6 said + 0.4 / 2) - 0.5 / 2 * 0.4 / 2, for unsure both classes are said alike.
    zero, one = 0.65 * 0.44 - 0.05, 0.35 * 0.56 - 0.05
    assert told.masses == pytest.approx([0.8 * zero / (zero + one), 0.8 * one / (zero + one)])


def test_a_doubtful_reading_of_a_rarely_said_class_keeps_its_weight():
    rare = [[0.90, 0.60, 0.90], [0.05, 0.35, 0.05], [0.05, 0.05, 0.05]]
    readers = Readers(3, ("a", "b"), np.array([rare, rare, *[even(0.9, 3)] * 3]), np.full(3, 1 / 3))
    said = [[Reading((1,), c, "a"), Reading((0,), 1.0, "b")] for c in (1.0, 0.8)]
    sure, doubtful = (readers.told(readings).masses for readings in said)
    assert 0.7 * sure[1] < doubtful[1] < sure[1]


@pytest.mark.parametrize("confidence", [0.9, 0.7])
def test_confidence_does_not_make_readers_better(confidence):
    _, said = drawn([0.9, 0.7, 0.5], count=1500)
    rng = np.random.default_rng(1)
    # Of an unsure reading the class is as good as drawn by chance.
    said = np.where(rng.random(said.shape) < confidence, said, rng.integers(0, 3, said.shape))
    doubtful = [[r._replace(confidence=confidence) for r in row] for row in readings(said)]
    assert quality(judged(doubtful, NAMES, 3))[:3] == pytest.approx([0.9, 0.7, 0.5], abs=0.08)


def test_an_earlier_model_weighs_in_with_its_chances():
    told = TWO_CLASSES.told([Reading((0,), 1.0, "b")], np.array([0.25, 0.75]))
    # 0.6 * (0.25 * 0.9 + 0.75 * 0.1) against 0.4 * (0.25 * 0.1 + 0.75 * 0.9)
    assert told.masses == pytest.approx([0.6 * 0.3 / (0.6 * 0.3 + 0.4 * 0.7), 0.4 * 0.7 / (0.6 * 0.3 + 0.4 * 0.7)])


@pytest.mark.parametrize("told", [[], [Reading((0, 1), 1.0, "a")], [Reading((0,), 0.0, "a")]])
def test_a_vertebra_of_which_nobody_says_anything_stays_open(told):
    assert TWO_CLASSES.told(told, np.array([0.0, 1.0])).weight == 0


def test_a_set_of_classes_is_said_as_often_as_its_classes_are():
    readers = Readers(3, ("a",), np.array([even(t, 3) for t in (0.8, 0.99, 0.5, 0.5)]), np.full(3, 1 / 3))
    # 0.1 + 0.8 for each class of the set, 0.1 + 0.1 for the third
    assert readers.told([Reading((0, 1), 1.0, "a")]).masses == pytest.approx([0.45, 0.45, 0.1])


def test_without_names_readings_are_averaged():
    told = Readers(3).told([Reading((0,)), Reading((1, 2), 0.5)])
    expected = belief([((0,), 1.0), ((1, 2), 0.5)], 3)
    assert np.array_equal(told.sets, expected.sets)
    assert np.array_equal(told.masses, expected.masses)


def test_two_who_are_not_judged_are_told_apart():
    told = Readers(3, ("a", "b")).told([Reading((1,), 1.0, "b"), Reading((0,), 1.0, "somebody")])
    assert told.readers[:2].tolist() == [1, -1]


def test_of_those_who_are_judged_matrix_and_accuracy_are_said():
    said = TWO_CLASSES.described()
    assert list(said) == list(NAMES)
    assert said["b"] == {"accuracy": 0.6, "matrix": [[0.6, 0.4], [0.4, 0.6]]}


def test_of_those_who_are_not_judged_nothing_is_said():
    assert Readers(3, ("a", "b")).described() == {}
