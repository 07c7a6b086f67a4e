import numpy as np
import pytest

from spinecls.beliefs import agreed_class, belief, belief_by_reader, certain, partly_visible, refined


def test_a_hard_label_is_mass_one_on_one_class():
    label = certain(2, 4)
    assert label.singletons().tolist() == [0, 0, 1, 0]
    assert label.weight == 1


def test_doubt_leaves_mass_on_nothing_known():
    label = belief([((1,), 0.7)], 3)
    assert label.weight == pytest.approx(0.7)


def test_one_of_these_is_a_set_and_no_singleton():
    label = belief([((1, 2), 1.0)], 4)
    assert label.sets[0].tolist() == [False, True, True, False]
    assert label.singletons().sum() == 0


def test_two_readers_share_the_mass():
    label = belief([((0,), 1.0), ((1,), 1.0)], 3)
    assert label.singletons() == pytest.approx([0.5, 0.5, 0])


def test_a_set_of_all_classes_says_nothing():
    assert belief([((0, 1, 2), 1.0)], 3).weight == 0


def test_not_read_says_nothing():
    assert belief([], 3).weight == 0


def test_the_order_of_readings_does_not_matter():
    one = belief([((0,), 1.0), ((1, 2), 0.5)], 4)
    two = belief([((1, 2), 0.5), ((0,), 1.0)], 4)
    assert np.array_equal(one.sets, two.sets)
    assert np.array_equal(one.masses, two.masses)


def test_a_lesion_of_a_half_seen_vertebra_may_be_out_of_view():
    label = partly_visible(certain(1, 3), 0.6)
    assert label.sets[0].tolist() == [True, True, False]
    assert label.weight == pytest.approx(0.6)


def test_nothing_found_stays_true_of_a_part():
    label = partly_visible(certain(0, 3), 0.6)
    assert label.sets[0].tolist() == [True, False, False]


def masses(label):
    """Mass by set of classes."""
    found = {}
    for row, mass in zip(label.sets, label.masses, strict=True):
        if mass > 0:
            key = tuple(np.flatnonzero(row).tolist())
            found[key] = found.get(key, 0) + float(mass)
    return found


def test_half_of_a_set_goes_to_its_classes_as_they_are_expected():
    label = refined(belief([((1, 2), 0.8)], 4), np.array([0.6, 0.3, 0.1, 0.0]))
    # Within the set the classes have 3/4 and 1/4.
    assert masses(label) == pytest.approx({(1, 2): 0.4, (1,): 0.3, (2,): 0.1})


def test_no_class_gets_more_than_nine_tenths_of_the_half():
    label = refined(belief([((0, 1), 1.0)], 3), np.array([0.0, 1.0, 0.0]))
    assert masses(label) == pytest.approx({(0, 1): 0.55, (1,): 0.45})


@pytest.mark.parametrize("p", [(0.0, 0.0, 0.0), (0.1, 0.9, 0.0)])
def test_refining_keeps_a_single_class_whatever_is_expected(p):
    assert masses(refined(certain(0, 3), np.array(p))) == {(0,): 1.0}


def test_a_set_of_which_nothing_is_expected_stays():
    assert masses(refined(belief([((0, 1), 1.0)], 3), np.array([0.0, 0.0, 1.0]))) == {(0, 1): 1.0}


def test_refining_says_no_more_than_was_said():
    label = belief([((0, 1), 0.7), ((2,), 0.4)], 4)
    assert refined(label, np.array([0.2, 0.5, 0.2, 0.1])).weight == pytest.approx(label.weight)


def test_mass_that_moved_is_no_readers():
    label = refined(belief_by_reader([((0, 1), 1.0, 1)], 3), np.array([0.5, 0.5, 0.0]))
    of_reader = {reader: float(label.masses[label.readers == reader].sum()) for reader in (1, -1)}
    assert of_reader == pytest.approx({1: 0.5, -1: 0.5})


@pytest.mark.parametrize(
    ("readings", "expected"),
    [
        ([(("a",), 1.0), (("b",), 0.4)], "a"),
        ([(("a",), 0.5), (("b",), 0.3), (("b",), 0.3)], "b"),
        ([(("a",), 1.0), (("b",), 1.0)], None),
        ([(("a", "b"), 1.0)], None),
        ([], None),
    ],
)
def test_the_agreed_class_has_most_confidence_of_the_exact_readings(readings, expected):
    assert agreed_class(readings) == expected


def test_a_reading_without_confidence_decides_nothing():
    assert agreed_class([(["oedema"], 0.0)]) is None
    assert agreed_class([(["oedema"], 0.0), (["normal"], 0.2)]) == "normal"


def test_by_reader_every_reading_keeps_its_set_and_its_reader():
    label = belief_by_reader([((1,), 1.0, 0), ((1,), 0.5, 2), ((0, 2), 1.0, -1)], 3)
    assert label.readers[:3].tolist() == [0, 2, -1]
    assert label.masses[:3] == pytest.approx([1 / 3, 1 / 6, 1 / 3])
    assert label.sets[:3].tolist() == [[False, True, False], [False, True, False], [True, False, True]]


def test_by_reader_the_mass_on_each_class_is_that_of_the_mean():
    readings = [((1,), 1.0), ((1,), 0.5), ((2,), 1.0)]
    numbered = [(*reading, number) for number, reading in enumerate(readings)]
    assert belief_by_reader(numbered, 3).singletons() == pytest.approx(belief(readings, 3).singletons())


def test_by_reader_a_reading_that_says_nothing_still_halves_the_other():
    label = belief_by_reader([((0, 1, 2), 1.0, 0), ((1,), 1.0, 1)], 3)
    assert label.weight == pytest.approx(0.5)
    assert label.readers[0] == 1
