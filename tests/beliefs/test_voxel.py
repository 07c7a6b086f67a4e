import numpy as np
import pytest

from spinecls.beliefs.voxel import MASS_STEPS, mean_beliefs, voxel_beliefs
from spinecls.errors import UsageError

LABELS = np.array([[[0, 1, 2], [255, 2, 1]]])


def test_a_single_reader_puts_all_mass_on_what_is_drawn():
    beliefs = mean_beliefs([LABELS], 3)
    for index in range(3):
        assert np.array_equal(beliefs.mass([index]), index == LABELS)


def test_what_is_unknown_says_nothing():
    assert np.array_equal(mean_beliefs([LABELS], 3).silent, LABELS == 255)


def test_masses_come_back_to_a_hundredth():
    mass = np.linspace(0, 1, 50).reshape(1, 5, 10)
    beliefs = voxel_beliefs({(0,): 1 - mass, (1, 2): mass}, 4)
    assert beliefs.mass([1, 2]) == pytest.approx(mass, abs=0.011)
    assert beliefs.mass([0]) == pytest.approx(1 - mass, abs=0.011)


def test_masses_never_sum_to_more_than_one():
    generator = np.random.default_rng(0)
    beliefs = voxel_beliefs({(k,): generator.random((2, 5, 5)) for k in range(3)}, 4)
    assert beliefs.masses.sum(axis=1).max() <= 1 + 1e-6


def test_mass_on_all_classes_says_nothing():
    beliefs = voxel_beliefs({(0, 1): np.ones((1, 2, 2)), (0,): np.zeros((1, 2, 2))}, 2)
    assert np.array_equal(beliefs.silent, np.ones((1, 2, 2)))


def test_code_zero_says_nothing():
    assert voxel_beliefs({(0,): np.ones((1, 2, 2))}, 2).masses[0].sum() == 0


def test_many_beliefs_are_rounded_until_their_codes_suffice():
    generator = np.random.default_rng(1)
    first = generator.random((4, 30, 30)) * 0.5
    second = generator.random((4, 30, 30)) * 0.5
    beliefs = voxel_beliefs({(0,): first, (1,): second}, 3)
    assert len(beliefs.masses) <= 256
    assert beliefs.mass([0]) == pytest.approx(first, abs=1 / MASS_STEPS[1] + 1e-6)


def test_the_mean_of_readers_is_the_share_who_drew_a_class():
    readers = [np.array([[[0, 1]]]), np.array([[[1, 1]]]), np.array([[[1, 255]]]), np.array([[[1, 0]]])]
    beliefs = mean_beliefs(readers, 2)
    assert beliefs.mass([1]).ravel() == pytest.approx([0.75, 0.5])
    assert beliefs.silent.ravel() == pytest.approx([0.0, 0.25])


@pytest.mark.parametrize("classes", [(), (3,), (-1, 0)])
def test_a_set_of_no_known_class_is_refused(classes):
    with pytest.raises(UsageError, match="expected some of 0 to 2"):
        voxel_beliefs({classes: np.ones((1, 1, 1))}, 3)


def test_masses_of_different_shapes_are_refused():
    with pytest.raises(UsageError, match="different shapes"):
        voxel_beliefs({(0,): np.ones((1, 1, 1)), (1,): np.ones((1, 1, 2))}, 3)


def test_code_zero_says_nothing_also_with_many_sets():
    masses = {(k,): np.ones((1, 1, 1)) if k == 11 else np.zeros((1, 1, 1)) for k in range(12)}
    beliefs = voxel_beliefs(masses, 12)
    assert beliefs.masses[0].sum() == 0
    assert beliefs.mass([11]).item() == 1
