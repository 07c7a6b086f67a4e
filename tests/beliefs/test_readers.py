import numpy as np
import pytest

from spinecls.beliefs.readers import reader_matrices


def readings(accuracies, count=600, num_classes=3, seed=0):
    """Truth and what readers of these accuracies say, errors even over the other classes."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, num_classes, count)
    wrong = (truth[:, None] + rng.integers(1, num_classes, (count, len(accuracies)))) % num_classes
    return truth, np.where(rng.random((count, len(accuracies))) < accuracies, truth[:, None], wrong)


def test_accuracies_of_three_readers_are_found_without_the_truth():
    _, said = readings([0.9, 0.7, 0.5])
    quality = reader_matrices(said, 3).diagonal(axis1=1, axis2=2).mean(axis=1)
    assert quality == pytest.approx([0.9, 0.7, 0.5], abs=0.06)


def test_the_class_that_a_reader_overlooks_is_found():
    truth, said = readings([0.95, 0.95, 0.95])
    said[:, 2] = np.where(truth == 1, 0, said[:, 2])
    matrix = reader_matrices(said, 3)[2]
    assert matrix[0, 1] > 0.9
    assert matrix[1, 1] < 0.05


def test_columns_are_probabilities():
    _, said = readings([0.9, 0.7, 0.5], count=50)
    assert reader_matrices(said, 3).sum(axis=1) == pytest.approx(np.ones((3, 3)))


def test_of_grades_a_reader_errs_by_one_at_most():
    _, said = readings([0.9, 0.7, 0.5], num_classes=4)
    matrices = reader_matrices(said, 4, ordinal=True)
    assert (matrices[:, 0, 2] == 0).all()
    assert (matrices[:, 3, 1] == 0).all()
    assert (matrices[:, 1, 0] > 0).all()


def test_vertebrae_that_nobody_read_change_nothing():
    _, said = readings([0.9, 0.7, 0.5], count=100)
    unread = np.concatenate([said, np.full((40, 3), -1)])
    assert reader_matrices(unread, 3) == pytest.approx(reader_matrices(said, 3))


def test_a_reader_who_read_half_is_judged_by_that_half():
    _, said = readings([0.9, 0.9, 0.6], count=1200)
    said[::2, 2] = -1
    assert np.diag(reader_matrices(said, 3)[2]).mean() == pytest.approx(0.6, abs=0.06)
